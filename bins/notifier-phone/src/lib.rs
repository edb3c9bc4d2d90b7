//! The phone channel: asks Twilio to call a number and to play what the TwiML at a URL says.

use std::fmt;

use domain::PhoneNumber;
use notifier::{Answer, Channel, Claim};
use runtime::{Failure, Lifecycle, Program, Reader, Run, settings::TWILIO_URL};
use serde_json::Value;
use twilio::Twilio;

/// The program.
pub const PROGRAM: Program<Config> = Program {
    name: "notifier-phone",
    about: "Calls phones by Twilio; any number of copies may run",
    settings: &[notifier::SETTINGS, &twilio::SETTINGS, &[TWILIO_URL]],
    has_once: false,
    read: Config::read,
};

/// How the phone worker works.
pub struct Config {
    worker: notifier::Config,
    twilio: twilio::Config,
    url: String,
}

impl Config {
    fn read(reader: &mut Reader) -> Option<Self> {
        let worker = notifier::Config::read(reader);
        let twilio = twilio::Config::read(reader);
        let url = reader.text(&TWILIO_URL);
        Some(Self { worker: worker?, twilio: twilio?, url: url? })
    }
}

/// Runs until it is told to stop.
pub async fn run(config: Config, run: Run, lifecycle: Lifecycle) -> Result<(), Failure> {
    let twilio =
        Twilio::new(config.twilio, config.worker.call_timeout()).map_err(|error| Failure::Bug(error.to_string()))?;
    notifier::run(Phone { twilio, url: config.url }, config.worker, run, lifecycle).await
}

struct Phone {
    twilio: Twilio,
    /// The TwiML to play, unless the notification has one of its own.
    url: String,
}

struct Call {
    to: PhoneNumber,
    from: String,
    url: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a call from {} that plays {}", self.from, self.url)
    }
}

impl Channel for Phone {
    const NAME: &'static str = "phone";
    const PROPERTY: Option<&'static str> = Some(twilio::CALLER_ID_REGISTRY);

    type Message = Call;

    fn prepare(&self, claim: &Claim, property: Option<&Value>) -> Result<Call, Answer> {
        let (to, from) = twilio::numbers(claim, property)?;
        Ok(Call { to, from, url: claim.text("url").unwrap_or_else(|| self.url.clone()) })
    }

    async fn send(&self, call: Call) -> Answer {
        let form = [("Method", "GET"), ("To", call.to.as_str()), ("From", &call.from), ("Url", &call.url)];
        self.twilio.create("Calls", "the call", &form).await
    }

    async fn check(&self) -> Result<String, String> {
        self.twilio.check().await
    }
}
