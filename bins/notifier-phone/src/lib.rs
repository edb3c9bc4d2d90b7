//! The phone channel: asks Twilio to call a number and to play what the TwiML at a URL says.

mod twilio;
mod twilio_errors;

use runtime::{
    Failure, Lifecycle, Program, Reader, Run, SecretString,
    settings::{
        BROKER_URL, NOTIFIER_CALL_TIMEOUT_SECONDS, NOTIFIER_MAX_IN_FLIGHT, TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN,
        TWILIO_BASE_URL, TWILIO_URL,
    },
};

/// The program.
pub const PROGRAM: Program<Config> = Program {
    name: "notifier-phone",
    about: "Calls phones by Twilio; any number of copies may run",
    settings: &[
        BROKER_URL,
        NOTIFIER_MAX_IN_FLIGHT,
        NOTIFIER_CALL_TIMEOUT_SECONDS,
        TWILIO_BASE_URL,
        TWILIO_ACCOUNT_SID,
        TWILIO_AUTH_TOKEN,
        TWILIO_URL,
    ],
    has_once: false,
    read: Config::read,
};

/// How the phone worker works.
pub struct Config {
    worker: notifier::Config,
    twilio: Twilio,
}

/// Whom to ask for a call, and as whom.
pub(crate) struct Twilio {
    base_url: String,
    account_sid: String,
    auth_token: SecretString,
    url: String,
}

impl Config {
    fn read(reader: &mut Reader) -> Option<Self> {
        let worker = notifier::Config::read(reader);
        let base_url = reader.url(&TWILIO_BASE_URL);
        let account_sid = reader.text(&TWILIO_ACCOUNT_SID);
        let auth_token = reader.secret(&TWILIO_AUTH_TOKEN);
        let url = reader.text(&TWILIO_URL);
        let twilio = Twilio { base_url: base_url?, account_sid: account_sid?, auth_token: auth_token?, url: url? };
        Some(Self { worker: worker?, twilio })
    }
}

/// Runs until it is told to stop.
pub async fn run(config: Config, run: Run, lifecycle: Lifecycle) -> Result<(), Failure> {
    let phone = twilio::Phone::new(config.twilio, config.worker.call_timeout())
        .map_err(|error| Failure::Bug(error.to_string()))?;
    notifier::run(phone, config.worker, run, lifecycle).await
}
