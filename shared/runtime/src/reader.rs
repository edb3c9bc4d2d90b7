use std::{
    collections::BTreeMap, fmt::Display, net::SocketAddr, ops::RangeInclusive, path::Path, str::FromStr, time::Duration,
};

use config::{Config, Environment, File};
use secrecy::SecretString;

use crate::{
    roesc,
    settings::{self, Setting},
};

/// Reads settings and collects everything that is wrong with them, so that it can be said all at once.
pub struct Reader {
    values: Config,
    /// Settings that only a variable of roesc's gives, and which.
    roesc: BTreeMap<&'static str, &'static str>,
    errors: Vec<String>,
    missing: usize,
    /// How many settings of its own, without a default, the program was given.
    found: usize,
    warnings: Vec<String>,
}

/// What came up while settings were read.
pub(crate) struct Problems {
    pub(crate) errors: Vec<String>,
    /// How many of the errors only say that something required is not there.
    pub(crate) missing: usize,
    /// How many settings of its own, without a default, the program was given.
    pub(crate) found: usize,
    pub(crate) warnings: Vec<String>,
}

impl Reader {
    /// Takes a TOML file, if one is given, and then the environment. What neither of them sets, roesc's variables may.
    pub(crate) fn new(program: &str, file: Option<&Path>, environment: BTreeMap<String, String>) -> Self {
        let mut errors = Vec::new();
        let roesc = roesc::translate(program, &environment);
        // An empty variable counts as one that is not set, as container tools can't leave one out.
        let is_ours = |(name, value): &(String, String)| name.starts_with("TOCSIN_") && !value.trim().is_empty();
        let ours: BTreeMap<_, _> = environment.into_iter().filter(is_ours).collect();
        for name in ours.keys() {
            // What looks like none of ours is somebody else's, such as the links that Kubernetes makes for services.
            let same = |setting: &Setting| setting.variable().replace("__", "_") == *name;
            let looks_like_ours = name.contains("__") || settings::ALL.iter().any(same);
            if looks_like_ours && !settings::ALL.iter().any(|setting| setting.variable() == *name) {
                errors.push(format!("{name}: no such setting{}", meant(name)));
            }
        }
        let environment = Environment::with_prefix("TOCSIN")
            .prefix_separator("_")
            .separator("__")
            .source(Some(ours.into_iter().collect()));
        let mut from_file = Config::default();
        if let Some(path) = file {
            match Config::builder().add_source(File::from(path).required(true)).build() {
                Ok(read) => from_file = read,
                Err(error) => errors.push(format!("{}: {}", path.display(), without_excerpt(&error.to_string()))),
            }
        }
        errors.extend(unknown_keys(&from_file));
        let values = Config::builder().add_source(from_file).add_source(environment).build().unwrap_or_else(|error| {
            errors.push(error.to_string());
            Config::default()
        });
        let mut reader =
            Self { values, roesc: BTreeMap::new(), errors, missing: 0, found: 0, warnings: roesc.warnings };
        reader.fill_in(roesc.settings);
        reader
    }

    fn fill_in(&mut self, settings: Vec<roesc::Translated>) {
        let mut builder = Config::builder();
        let own_mail_server = self.values.get_string(settings::SMTP_HOST.key).is_ok();
        for roesc::Translated { setting, variable, value } in settings {
            // That roesc knew no TLS says nothing of a server that is named here.
            if setting.key == settings::SMTP_TLS.key && own_mail_server {
                continue;
            }
            if self.values.get_string(setting.key).is_err() {
                self.roesc.insert(setting.key, variable);
                builder = match builder.set_default(setting.key, value) {
                    Ok(builder) => builder,
                    Err(error) => return self.errors.push(error.to_string()),
                };
            }
        }
        match builder.add_source(self.values.clone()).build() {
            Ok(values) => self.values = values,
            Err(error) => self.errors.push(error.to_string()),
        }
    }

    /// Everything that was wrong, and what was odd.
    pub(crate) fn into_problems(self) -> Problems {
        Problems { errors: self.errors, missing: self.missing, found: self.found, warnings: self.warnings }
    }

    /// Says that something is odd, but can be lived with.
    pub fn odd(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Says that a setting is wrong.
    pub fn wrong(&mut self, setting: &Setting, problem: impl Display) {
        let instead = self.roesc.get(setting.key).map(|name| format!("{name}, read as ")).unwrap_or_default();
        self.errors.push(format!("{instead}{} ({}): {problem}", setting.variable(), setting.key));
    }

    /// Whether somebody has set it.
    pub fn is_set(&self, setting: &Setting) -> bool {
        self.values.get_string(setting.key).is_ok_and(|text| !text.trim().is_empty())
    }

    /// A text that must not be empty.
    pub fn text(&mut self, setting: &Setting) -> Option<String> {
        match self.optional_text(setting) {
            Some(text) => {
                let everybodys = [settings::DATABASE_URL.key, settings::BROKER_URL.key];
                self.found += usize::from(setting.default.is_none() && !everybodys.contains(&setting.key));
                Some(text)
            }
            None => {
                self.missing += 1;
                self.wrong(setting, format!("is required: {}", setting.help));
                None
            }
        }
    }

    /// A text, or none where it is empty.
    pub fn optional_text(&mut self, setting: &Setting) -> Option<String> {
        let text = match self.values.get_string(setting.key) {
            Ok(text) => text,
            Err(config::ConfigError::NotFound(_)) => setting.default.unwrap_or_default().to_owned(),
            Err(error) => {
                self.wrong(setting, error);
                return None;
            }
        };
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// A text that is never shown.
    pub fn secret(&mut self, setting: &Setting) -> Option<SecretString> {
        self.text(setting).map(SecretString::from)
    }

    /// A whole number within bounds.
    pub fn number<T>(&mut self, setting: &Setting, bounds: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let text = self.text(setting)?;
        match text.parse() {
            Ok(number) if bounds.contains(&number) => Some(number),
            _ => {
                let problem = format!("must be a whole number from {} to {}", bounds.start(), bounds.end());
                self.wrong(setting, problem);
                None
            }
        }
    }

    /// A text that is never shown, or none where it is empty.
    pub fn optional_secret(&mut self, setting: &Setting) -> Option<SecretString> {
        self.optional_text(setting).map(SecretString::from)
    }

    /// A time in whole seconds, within bounds.
    pub fn seconds(&mut self, setting: &Setting, bounds: RangeInclusive<u64>) -> Option<Duration> {
        self.number(setting, bounds).map(Duration::from_secs)
    }

    /// An absolute http or https URL.
    pub fn url(&mut self, setting: &Setting) -> Option<String> {
        let text = self.text(setting)?;
        self.checked_url(setting, text)
    }

    /// An absolute http or https URL, or none where it is empty.
    pub fn optional_url(&mut self, setting: &Setting) -> Option<Option<String>> {
        match self.optional_text(setting) {
            None => Some(None),
            Some(text) => self.checked_url(setting, text).map(Some),
        }
    }

    fn checked_url(&mut self, setting: &Setting, text: String) -> Option<String> {
        match url::Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(text),
            _ => {
                self.wrong(setting, "must be an absolute http or https URL");
                None
            }
        }
    }

    /// An address and a port to listen on.
    pub fn socket_address(&mut self, setting: &Setting) -> Option<SocketAddr> {
        let address = self.text(setting)?.parse();
        if address.is_err() {
            let example = setting.default.unwrap_or("127.0.0.1:80");
            self.wrong(setting, format!("must be an address and a port such as {example} or [::]:9464"));
        }
        address.ok()
    }

    /// `true` or `false`.
    pub fn flag(&mut self, setting: &Setting) -> Option<bool> {
        self.one_of(setting, &[("true", true), ("false", false)])
    }

    /// One of a few words.
    pub fn one_of<T: Copy>(&mut self, setting: &Setting, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(setting)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(setting, format!("must be {}", words.join(" or ")));
        }
        found
    }
}

/// Where the file is wrong, without the line itself, which may hold a password.
fn without_excerpt(error: &str) -> String {
    let lines: Vec<_> = error.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains('|')).collect();
    lines.join("; ")
}

fn meant(name: &str) -> String {
    nearest(name)
        .map_or_else(|| "; --help lists them".to_owned(), |setting| format!("; is {} meant?", setting.variable()))
}

/// The setting whose variable is almost the same.
fn nearest(name: &str) -> Option<&'static Setting> {
    let distance = |setting: &Setting| strsim::damerau_levenshtein(name, &setting.variable());
    settings::ALL.iter().min_by_key(|setting| distance(setting)).filter(|setting| distance(setting) <= 4)
}

fn unknown_keys(file: &Config) -> Vec<String> {
    let sections: BTreeMap<String, config::Value> = file.clone().try_deserialize().unwrap_or_default();
    let mut errors = Vec::new();
    for (section, value) in sections {
        match value.into_table() {
            Ok(table) => errors.extend(
                table
                    .keys()
                    .map(|key| format!("{section}.{key}"))
                    .filter(|key| !settings::ALL.iter().any(|setting| setting.key == *key))
                    .map(|key| format!("{key}: no such setting; --help lists them")),
            ),
            Err(_) if settings::ALL.iter().any(|setting| setting.key == section) => {}
            Err(_) => errors.push(format!("{section}: no such setting; settings stand in sections such as [database]")),
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{
        API_KEY, API_URL, DATABASE_URL, HEALTH_LISTEN, LOG_FORMAT, SQS_QUEUE_URL, SQS_RECEIVERS, TWILIO_BASE_URL,
    };

    fn reader(pairs: &[(&str, &str)]) -> Reader {
        Reader::new("bridge", None, pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn all_errors_are_collected() {
        let mut reader = reader(&[
            ("TOCSIN_DATABSE__URL", "x"),
            ("TOCSIN_SQS__RECEIVERS", "many"),
            ("TOCSIN_TWILIO__BASE_URL", "api.twilio.com"),
            ("TOCSIN_LOG__FORMAT", "xml"),
        ]);
        assert!(reader.text(&DATABASE_URL).is_none());
        assert!(reader.number(&SQS_RECEIVERS, 1..=100).is_none());
        assert!(reader.url(&TWILIO_BASE_URL).is_none());
        assert!(reader.one_of(&LOG_FORMAT, &[("json", 1), ("human", 2)]).is_none());
        let errors = reader.into_problems().errors;
        for words in [
            "TOCSIN_DATABSE__URL: no such setting; is TOCSIN_DATABASE__URL meant?",
            "TOCSIN_DATABASE__URL (database.url): is required",
            "TOCSIN_SQS__RECEIVERS (sqs.receivers): must be a whole number from 1 to 100",
            "TOCSIN_TWILIO__BASE_URL (twilio.base_url): must be an absolute http",
            "TOCSIN_LOG__FORMAT (log.format): must be json or human",
        ] {
            assert!(errors.iter().any(|error| error.starts_with(words)), "{words}: {errors:#?}");
        }
        assert_eq!(errors.len(), 5, "{errors:#?}");
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
        let file = std::env::temp_dir().join(format!("tocsin-reader-{}.toml", std::process::id()));
        std::fs::write(&file, "[sqs]\nqueue_url = \"http://file/\"\nreceivers = 3\n[helth]\nlisten = 1\n").unwrap();
        let environment = [("TOCSIN_SQS__QUEUE_URL".to_owned(), "http://environment/".to_owned())];
        let mut reader = Reader::new("bridge", Some(&file), environment.into());
        std::fs::remove_file(&file).unwrap();
        assert_eq!(reader.url(&SQS_QUEUE_URL).as_deref(), Some("http://environment/"));
        assert_eq!(reader.number(&SQS_RECEIVERS, 1..=100), Some(3));
        assert_eq!(reader.text(&HEALTH_LISTEN).as_deref(), Some("127.0.0.1:9464"));
        assert_eq!(reader.into_problems().errors, ["helth.listen: no such setting; --help lists them"]);
    }

    #[test]
    fn a_file_that_is_no_toml_is_told_without_the_line_that_may_hold_a_password() {
        let file = std::env::temp_dir().join(format!("tocsin-reader-bad-{}.toml", std::process::id()));
        std::fs::write(&file, "[twilio]\nauth_token = s3cr3t-token-value'\n").unwrap();
        let errors = Reader::new("bridge", Some(&file), BTreeMap::new()).into_problems().errors;
        std::fs::remove_file(&file).unwrap();
        assert!(errors[0].contains("line 2"), "{errors:?}");
        assert!(!errors[0].contains("s3cr3t"), "{errors:?}");
    }

    #[test]
    fn what_others_put_into_the_environment_is_left_alone() {
        let names = [("TOCSIN_API_PORT", "tcp://10.0.0.1:80"), ("TOCSIN_SERVICE_HOST", "10.0.0.1")];
        assert!(reader(&names).into_problems().errors.is_empty());
        assert_eq!(reader(&[("TOCSIN_DATABASE_URL", "x")]).into_problems().errors.len(), 1, "almost ours");
    }

    #[test]
    fn url_and_key_stand_in_no_section() {
        let file = std::env::temp_dir().join(format!("tocsin-reader-flat-{}.toml", std::process::id()));
        std::fs::write(&file, "url = \"http://file/\"\nkey = \"from the file\"\nkeys = 1\n").unwrap();
        let environment = [("TOCSIN_KEY".to_owned(), "from the environment".to_owned())];
        let mut reader = Reader::new("tocsin", Some(&file), environment.into());
        std::fs::remove_file(&file).unwrap();
        assert!(reader.is_set(&API_URL) && reader.is_set(&API_KEY) && !reader.is_set(&LOG_FORMAT));
        assert_eq!(reader.url(&API_URL).as_deref(), Some("http://file/"));
        assert_eq!(reader.text(&API_KEY).as_deref(), Some("from the environment"));
        assert_eq!(
            reader.into_problems().errors,
            ["keys: no such setting; settings stand in sections such as [database]"]
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error() {
        let errors =
            Reader::new("bridge", Some(Path::new("/nonexistent.toml")), BTreeMap::new()).into_problems().errors;
        assert!(errors[0].contains("/nonexistent.toml"), "{errors:?}");
    }
}
