//! The variables of roesc, from which Tocsin takes over: they mean what they meant there. Names and defaults are those
//! of its src/roesc/config.clj.

use std::collections::BTreeMap;

use url::Url;

use crate::settings::{self, Setting};

/// What was understood of roesc's variables.
#[derive(Debug, Default)]
pub(crate) struct Translation {
    pub(crate) settings: Vec<Translated>,
    pub(crate) warnings: Vec<String>,
}

/// A setting that one of roesc's variables gives, or its default.
#[derive(Debug)]
pub(crate) struct Translated {
    pub(crate) setting: &'static Setting,
    pub(crate) variable: &'static str,
    pub(crate) value: String,
}

/// Variables that stand for one setting each. Where one variable of a group is set, the others have roesc's defaults;
/// where none is, Tocsin's hold.
const GROUPS: &[&[(&str, &Setting, Option<&str>)]] = &[
    &[("REQUEST_QUEUE", &settings::SQS_QUEUE_URL, None), (SQS_WAIT, &settings::SQS_WAIT_TIME_SECONDS, Some("3"))],
    &[
        ("TWILIO_ACCOUNT_SID", &settings::TWILIO_ACCOUNT_SID, None),
        ("TWILIO_AUTH_TOKEN", &settings::TWILIO_AUTH_TOKEN, None),
        (TWILIO_HOST, &settings::TWILIO_BASE_URL, Some("api.twilio.com")),
        ("TWILIO_URL", &settings::TWILIO_URL, None),
        ("MAX_CALLING_THREADS", &settings::NOTIFIER_MAX_IN_FLIGHT, Some("3")),
    ],
    &[
        ("SMTP_HOST", &settings::SMTP_HOST, Some("localhost")),
        ("SMTP_PORT", &settings::SMTP_PORT, Some("587")),
        ("SMTP_USERNAME", &settings::SMTP_USERNAME, None),
        ("SMTP_PASSWORD", &settings::SMTP_PASSWORD, None),
        ("MAIL_FROM", &settings::MAIL_FROM, None),
        ("MAIL_SUBJECT", &settings::MAIL_SUBJECT, Some("There are new orders in the RoomOrders service")),
        ("MAIL_BODY", &settings::MAIL_BODY, Some("")),
        ("MAX_SMTP_THREADS", &settings::NOTIFIER_MAX_IN_FLIGHT, Some("3")),
    ],
    &[
        ("PUBNUB_SERVICE_URL", &settings::PUBNUB_SERVICE_URL, Some("https://ps.pndsn.com")),
        ("PUBNUB_UUID", &settings::PUBNUB_UUID, None),
        ("PUBNUB_PUB_KEY", &settings::PUBNUB_PUB_KEY, None),
        ("PUBNUB_SUB_KEY", &settings::PUBNUB_SUB_KEY, None),
        ("MAX_PUBNUB_THREADS", &settings::NOTIFIER_MAX_IN_FLIGHT, Some("3")),
    ],
];

const SQS_WAIT: &str = "SQS_READ_WAIT_TIME_SECONDS";

/// A host without a scheme.
const TWILIO_HOST: &str = "TWILIO_HOST";

/// Whose calls a number of threads bounded.
const THREADS: &[(&str, &[&str])] = &[
    ("MAX_CALLING_THREADS", &["notifier-phone", "notifier-sms"]),
    ("MAX_SMTP_THREADS", &["notifier-email"]),
    ("MAX_PUBNUB_THREADS", &["notifier-pubnub"]),
];

const DATABASE: [(&str, &str); 5] = [
    ("DB_HOST", "localhost"),
    ("DB_PORT", "5432"),
    ("DB_NAME", "roesc"),
    ("DB_USER", "roesc"),
    ("DB_PASSWORD", "roesc"),
];

const MEANINGLESS: [&str; 2] = ["INITIATOR_MAX_RUN_TIME_MILLIS", "MAX_NOTIFIER_THREADS"];

/// The variables of roesc's that stand for a setting, for people to read.
pub fn names_of(setting: &Setting) -> Vec<&'static str> {
    if setting.key == settings::DATABASE_URL.key {
        return DATABASE.iter().map(|(name, _)| *name).collect();
    }
    GROUPS.iter().copied().flatten().filter(|(_, s, _)| s.key == setting.key).map(|(name, ..)| *name).collect()
}

/// What roesc's variables say to this program. An empty one counts as not set.
pub(crate) fn translate(program: &str, environment: &BTreeMap<String, String>) -> Translation {
    let value = |name: &str| environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let mut translation = Translation::default();
    for group in GROUPS.iter().filter(|group| group.iter().any(|(name, ..)| value(name).is_some())) {
        for (variable, setting, default) in *group {
            let threads = THREADS.iter().find(|(name, _)| name == variable);
            if threads.is_some_and(|(_, programs)| !programs.contains(&program)) {
                continue;
            }
            let Some(value) = value(variable).or(*default) else { continue };
            let value = match *variable {
                TWILIO_HOST => format!("https://{value}"),
                // Not to wait at all would be to ask without a pause.
                SQS_WAIT if value == "0" => "1".to_owned(),
                _ => value.to_owned(),
            };
            translation.settings.push(Translated { setting, variable, value });
        }
        if group.iter().any(|(name, ..)| *name == "SMTP_HOST") {
            // It knew of no TLS.
            let value = "none".to_owned();
            translation.settings.push(Translated { setting: &settings::SMTP_TLS, variable: "SMTP_HOST", value });
        }
    }
    let any = !translation.settings.is_empty() || DATABASE.iter().any(|(name, _)| value(name).is_some());
    if any {
        let [host, port, name, user, password] = DATABASE.map(|(name, default)| value(name).unwrap_or(default));
        let value = database_url(host, port, name, user, password);
        translation.settings.push(Translated { setting: &settings::DATABASE_URL, variable: "DB_HOST", value });
    }
    for name in MEANINGLESS.iter().filter(|name| environment.contains_key(**name)) {
        translation.warnings.push(format!("{name} has no meaning here and can be removed"));
    }
    translation
}

/// Each part escaped as it must be. What can make no URL is left for the reader of the setting to refuse.
fn database_url(host: &str, port: &str, name: &str, user: &str, password: &str) -> String {
    let plain = format!("postgres://{host}:{port}");
    let Ok(mut url) = Url::parse(&plain) else { return plain };
    let complete = url.set_username(user).is_ok() && url.set_password(Some(password)).is_ok();
    if let Ok(mut path) = url.path_segments_mut() {
        path.push(name);
    }
    if complete { url.into() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program gets of these variables: `key=value (variable)`.
    fn translated(program: &str, environment: &[(&str, &str)]) -> Vec<String> {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut settings: Vec<_> = translate(program, &environment)
            .settings
            .iter()
            .map(|t| format!("{}={}", t.setting.key, t.value))
            .filter(|text| !text.starts_with("database."))
            .collect();
        settings.sort_unstable();
        settings
    }

    #[test]
    fn each_variable_means_what_it_meant() {
        for (program, variable, value, setting) in [
            ("bridge", "REQUEST_QUEUE", "https://q/1/a.fifo", "sqs.queue_url=https://q/1/a.fifo"),
            ("bridge", "SQS_READ_WAIT_TIME_SECONDS", "7", "sqs.wait_time_seconds=7"),
            ("notifier-phone", "MAX_CALLING_THREADS", "7", "notifier.max_in_flight=7"),
            ("notifier-sms", "MAX_CALLING_THREADS", "7", "notifier.max_in_flight=7"),
            ("notifier-email", "MAX_SMTP_THREADS", "7", "notifier.max_in_flight=7"),
            ("notifier-pubnub", "MAX_PUBNUB_THREADS", "7", "notifier.max_in_flight=7"),
            ("notifier-phone", "TWILIO_ACCOUNT_SID", "AC1", "twilio.account_sid=AC1"),
            ("notifier-phone", "TWILIO_AUTH_TOKEN", "t", "twilio.auth_token=t"),
            (
                "notifier-phone",
                "TWILIO_HOST",
                "api.dublin.ie1.twilio.com",
                "twilio.base_url=https://api.dublin.ie1.twilio.com",
            ),
            ("notifier-phone", "TWILIO_URL", "https://a/b.xml", "twilio.url=https://a/b.xml"),
            ("notifier-email", "SMTP_HOST", "mx", "smtp.host=mx"),
            ("notifier-email", "SMTP_PORT", "25", "smtp.port=25"),
            ("notifier-email", "SMTP_USERNAME", "u", "smtp.username=u"),
            ("notifier-email", "SMTP_PASSWORD", "p", "smtp.password=p"),
            ("notifier-email", "MAIL_FROM", "a@b", "mail.from=a@b"),
            ("notifier-email", "MAIL_SUBJECT", "s", "mail.subject=s"),
            ("notifier-email", "MAIL_BODY", "b", "mail.body=b"),
            ("notifier-pubnub", "PUBNUB_SERVICE_URL", "http://p", "pubnub.service_url=http://p"),
            ("notifier-pubnub", "PUBNUB_UUID", "u", "pubnub.uuid=u"),
            ("notifier-pubnub", "PUBNUB_PUB_KEY", "k", "pubnub.pub_key=k"),
            ("notifier-pubnub", "PUBNUB_SUB_KEY", "k", "pubnub.sub_key=k"),
        ] {
            let translated = translated(program, &[(variable, value)]);
            assert!(translated.iter().any(|t| t == setting), "{variable}: {translated:?}");
        }
    }

    #[test]
    fn a_group_that_is_in_use_has_roescs_defaults_and_the_others_have_tocsins() {
        assert!(translated("notifier-phone", &[("PATH", "/bin"), ("SMTP_HOST", "")]).is_empty());
        assert_eq!(
            translated("notifier-phone", &[("TWILIO_URL", "u")]),
            ["notifier.max_in_flight=3", "twilio.base_url=https://api.twilio.com", "twilio.url=u"]
        );
        assert_eq!(
            translated("notifier-email", &[("MAIL_FROM", "a@b")]),
            [
                "mail.body=",
                "mail.from=a@b",
                "mail.subject=There are new orders in the RoomOrders service",
                "notifier.max_in_flight=3",
                "smtp.host=localhost",
                "smtp.port=587",
                "smtp.tls=none",
            ]
        );
        assert_eq!(
            translated("notifier-pubnub", &[("PUBNUB_SUB_KEY", "k")]),
            ["notifier.max_in_flight=3", "pubnub.service_url=https://ps.pndsn.com", "pubnub.sub_key=k"]
        );
        assert_eq!(translated("bridge", &[("REQUEST_QUEUE", "q")]), ["sqs.queue_url=q", "sqs.wait_time_seconds=3"]);
        // Another program's threads are not this one's.
        assert!(translated("activator", &[("MAX_SMTP_THREADS", "9")]).iter().all(|t| !t.contains("in_flight")));
    }

    #[test]
    fn the_database_url_is_made_of_its_parts() {
        let url = |environment: &[(&str, &str)]| {
            let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let translation = translate("bridge", &environment);
            translation.settings.iter().find(|t| t.setting.key == "database.url").map(|t| t.value.clone())
        };
        assert_eq!(url(&[]), None);
        assert_eq!(url(&[("REQUEST_QUEUE", "q")]).unwrap(), "postgres://roesc:roesc@localhost:5432/roesc");
        let parts =
            [("DB_HOST", "db"), ("DB_PORT", "6432"), ("DB_NAME", "n/m"), ("DB_USER", "u@v"), ("DB_PASSWORD", "p:/w")];
        assert_eq!(url(&parts).unwrap(), "postgres://u%40v:p%3A%2Fw@db:6432/n%2Fm");
        for (name, url_then) in [
            ("DB_HOST", "postgres://roesc:roesc@7:5432/roesc"),
            ("DB_PORT", "postgres://roesc:roesc@localhost:7/roesc"),
            ("DB_NAME", "postgres://roesc:roesc@localhost:5432/7"),
            ("DB_USER", "postgres://7:roesc@localhost:5432/roesc"),
            ("DB_PASSWORD", "postgres://roesc:7@localhost:5432/roesc"),
        ] {
            assert_eq!(url(&[(name, "7")]).unwrap(), url_then);
        }
    }

    #[test]
    fn what_has_no_meaning_is_warned_of() {
        let environment = MEANINGLESS.map(|name| (name.to_owned(), "3".to_owned())).into();
        let translation = translate("bridge", &environment);
        assert_eq!(translation.warnings.len(), 2);
        assert!(translation.settings.is_empty());
    }
}
