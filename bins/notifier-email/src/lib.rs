//! The email channel: sends mail by SMTP.

mod email;
mod message;
mod smtp;
mod stream;

use std::sync::Arc;

use lettre::message::Mailbox;
use runtime::{
    Failure, Lifecycle, Program, Reader, Run, host_name,
    settings::{
        MAIL_BODY, MAIL_FROM, MAIL_SUBJECT, SMTP_CA_FILE, SMTP_HOST, SMTP_PASSWORD, SMTP_PORT, SMTP_TLS, SMTP_USERNAME,
    },
};

use crate::{
    email::Email,
    message::Defaults,
    smtp::Server,
    stream::{Tls, trust},
};
pub use crate::{email::send_over, smtp::Login};

/// The program.
pub const PROGRAM: Program<Config> = Program {
    name: "notifier-email",
    about: "Sends e-mail by SMTP; any number of copies may run",
    settings: &[
        notifier::SETTINGS,
        &[SMTP_HOST, SMTP_PORT, SMTP_TLS, SMTP_CA_FILE, SMTP_USERNAME, SMTP_PASSWORD],
        &[MAIL_FROM, MAIL_SUBJECT, MAIL_BODY],
    ],
    has_once: false,
    read: Config::read,
};

/// How the email worker works.
pub struct Config {
    worker: notifier::Config,
    server: Server,
    defaults: Defaults,
}

impl Config {
    fn read(reader: &mut Reader) -> Option<Self> {
        let worker = notifier::Config::read(reader);
        let server = server(reader);
        let from = reader.text(&MAIL_FROM).and_then(|text| {
            let from = text.parse::<Mailbox>().ok().filter(|_| !text.chars().any(char::is_control));
            if from.is_none() {
                reader.wrong(&MAIL_FROM, "must be an address such as me@example.org or Name <me@example.org>");
            }
            from
        });
        let subject = reader.optional_text(&MAIL_SUBJECT).unwrap_or_default();
        let body = reader.optional_text(&MAIL_BODY).unwrap_or_default();
        Some(Self { worker: worker?, server: server?, defaults: Defaults { from: from?, subject, body } })
    }
}

fn server(reader: &mut Reader) -> Option<Server> {
    let host = reader.text(&SMTP_HOST);
    let port = reader.number(&SMTP_PORT, 1..=u16::MAX);
    let tls = reader.one_of(&SMTP_TLS, &[("starttls", Tls::Start), ("implicit", Tls::Implicit), ("none", Tls::None)]);
    let ca_file = reader.optional_text(&SMTP_CA_FILE);
    let trust = match trust(ca_file.as_deref()) {
        Ok(trust) => Some(trust),
        Err(problem) => {
            reader.wrong(&SMTP_CA_FILE, problem);
            None
        }
    };
    let login = match (reader.optional_text(&SMTP_USERNAME), reader.optional_secret(&SMTP_PASSWORD)) {
        (Some(username), Some(password)) => Some(Login { username, password }),
        (None, None) => None,
        (username, _) => {
            let missing = if username.is_some() { &SMTP_PASSWORD } else { &SMTP_USERNAME };
            reader.wrong(missing, "is required, as smtp.username and smtp.password go together");
            None
        }
    };
    let (host, tls) = (host?, tls?);
    let is_here = ["localhost", "127.0.0.1", "::1"].contains(&host.as_str());
    if tls == Tls::None && login.is_some() && !is_here {
        reader.odd("smtp.tls is none: the password for the mail server crosses the network for all to read");
    }
    Some(Server { host, port: port?, tls, trust: Arc::new(trust?), login, hello: host_name() })
}

/// Runs until it is told to stop.
pub async fn run(config: Config, run: Run, lifecycle: Lifecycle) -> Result<(), Failure> {
    let email = Email::new(config.server, config.defaults, config.worker.call_timeout());
    notifier::run(email, config.worker, run, lifecycle).await
}
