//! Every setting of every program. `database.url` stands in a file as `url` in `[database]`, and in the environment as
//! `TOCSIN_DATABASE__URL`, which wins. `url` and `key`, which people set by hand, stand in no section.

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// `section.name`, or a name alone.
    pub key: &'static str,
    /// Used where nobody sets it. Without one it is required.
    pub default: Option<&'static str>,
    /// What it is, in a line.
    pub help: &'static str,
}

impl Setting {
    /// Its name in the environment.
    pub fn variable(&self) -> String {
        format!("TOCSIN_{}", self.key.replace('.', "__").to_uppercase())
    }
}

macro_rules! settings {
    ($($name:ident = $key:literal, $default:expr, $help:literal;)*) => {
        $(#[doc = $help] pub const $name: Setting = Setting { key: $key, default: $default, help: $help };)*

        /// All of them.
        pub const ALL: &[Setting] = &[$($name),*];
    };
}

settings! {
    DATABASE_URL = "database.url", None, "Postgres: postgres://user:password@host:5432/tocsin";
    BROKER_URL = "broker.url", None, "RabbitMQ: amqp://user:password@host:5672/vhost (the vhost / is written %2f); the api can do without";
    SQS_QUEUE_URL = "sqs.queue_url", None, "URL of the SQS FIFO queue of requests";
    SQS_ENDPOINT_URL = "sqs.endpoint_url", Some(""), "SQS endpoint other than AWS's own, such as an emulator's";
    SQS_WAIT_TIME_SECONDS = "sqs.wait_time_seconds", Some("5"), "How long a receive waits for a message, 1 to 20 s";
    SQS_RECEIVERS = "sqs.receivers", Some("8"), "How many receives are in flight at once, 1 to 100";
    TWILIO_BASE_URL = "twilio.base_url", Some("https://api.twilio.com"), "Twilio's API, or another region's";
    TWILIO_ACCOUNT_SID = "twilio.account_sid", None, "Twilio account: AC and 32 hex digits";
    TWILIO_AUTH_TOKEN = "twilio.auth_token", None, "Twilio auth token";
    TWILIO_URL = "twilio.url", None, "TwiML that Twilio plays in a call, unless the notification has a url of its own";
    SMTP_HOST = "smtp.host", None, "Mail server";
    SMTP_PORT = "smtp.port", Some("587"), "Its port";
    SMTP_TLS = "smtp.tls", Some("starttls"), "starttls, implicit (TLS from the first byte, usually on port 465) or none";
    SMTP_CA_FILE = "smtp.ca_file", Some(""), "PEM file with certificate authorities to trust beside the system's";
    SMTP_USERNAME = "smtp.username", Some(""), "User at the mail server; without it there is no login";
    SMTP_PASSWORD = "smtp.password", Some(""), "Password at the mail server";
    MAIL_FROM = "mail.from", None, "Sender: me@example.org or Name <me@example.org>";
    MAIL_SUBJECT = "mail.subject", Some("Notification"), "Subject, unless the notification has one of its own";
    MAIL_BODY = "mail.body", Some(""), "Plain text, unless the notification has one of its own";
    PUBNUB_SERVICE_URL = "pubnub.service_url", Some("https://ps.pndsn.com"), "PubNub's API";
    PUBNUB_PUB_KEY = "pubnub.pub_key", None, "PubNub publish key";
    PUBNUB_SUB_KEY = "pubnub.sub_key", None, "PubNub subscribe key";
    PUBNUB_UUID = "pubnub.uuid", Some("tocsin"), "Who publishes, as PubNub's subscribers see it";
    SNS_ENDPOINT_URL = "sns.endpoint_url", Some(""), "SNS endpoint other than AWS's own, such as an emulator's";
    WEBHOOK_SECRET = "webhook.secret", None, "Key that signs webhooks: whsec_ and base64 of 24 to 64 bytes (Standard Webhooks)";
    WEBHOOK_ALLOW_PRIVATE = "webhook.allow_private", Some("false"), "true lets webhooks go to private and link-local addresses";
    NOTIFIER_MAX_IN_FLIGHT = "notifier.max_in_flight", Some("64"), "Calls to the provider at once, 1 to 10000";
    NOTIFIER_CALL_TIMEOUT_SECONDS = "notifier.call_timeout_seconds", Some("10"), "When a call is given up, 1 to 300 s";
    NOTIFIER_DRY_RUN = "notifier.dry_run", Some("false"), "true: record what would have been sent, and call nobody";
    ACTIVATOR_BUNDLE = "activator.bundle", Some("16"), "Notifications in one message under load, 1 to 1000; not more than a worker's notifier.max_in_flight";
    RETENTION_DAYS = "retention.days", Some("90"), "For how long what is over is kept, with its addresses, texts and attempts, 1 to 36500 days; requests for 15 at least";
    API_URL = "url", Some("http://127.0.0.1:9470"), "Where the HTTP API is, for the command line";
    API_KEY = "key", None, "A key of the HTTP API, for the command line; `tocsin key create` makes one";
    API_LISTEN = "api.listen", Some("127.0.0.1:9470"), "Where the HTTP API is served; behind a proxy that speaks TLS, where others can reach it";
    API_COMPAT = "api.compat", Some("off"), "The API of Call Me under /compat/callme: off, key (for who has a key of the API) or anonymous (for everybody who can reach it)";
    HEALTH_LISTEN = "health.listen", Some("127.0.0.1:9464"), "Where /health/live, /health/ready and /metrics are served; by default any free port where 9464 is taken";
    LOG_FORMAT = "log.format", Some("json"), "json or human";
    LOG_LEVEL = "log.level", Some("info"), "error, warn, info, debug, trace, or a filter such as info,lapin=debug";
    SHUTDOWN_TIMEOUT_SECONDS = "shutdown.timeout_seconds", Some("30"), "How long work in flight may take to end after SIGTERM, 1 to 600 s; calls that take longer are made again";
}

/// The broker for a program that can do without it.
pub const BROKER_URL_IF_ANY: Setting = Setting { default: Some(""), ..BROKER_URL };

/// The settings that every program has.
pub const COMMON: &[Setting] = &[DATABASE_URL, HEALTH_LISTEN, LOG_FORMAT, LOG_LEVEL, SHUTDOWN_TIMEOUT_SECONDS];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_variable() {
        assert_eq!(SQS_QUEUE_URL.variable(), "TOCSIN_SQS__QUEUE_URL");
        assert_eq!(TWILIO_AUTH_TOKEN.variable(), "TOCSIN_TWILIO__AUTH_TOKEN");
        assert_eq!((API_URL.variable().as_str(), API_KEY.variable().as_str()), ("TOCSIN_URL", "TOCSIN_KEY"));
    }

    #[test]
    fn no_key_stands_twice() {
        let mut keys: Vec<_> = ALL.iter().map(|setting| setting.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), ALL.len());
    }
}
