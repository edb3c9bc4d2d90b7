//! The sms channel: asks Twilio to send a text message.

use std::fmt;

use domain::{Outcome, PhoneNumber};
use notifier::{Answer, Channel, Claim};
use runtime::{Failure, Lifecycle, Program, Reader, Run};
use serde_json::Value;
use twilio::Twilio;

/// The program.
pub const PROGRAM: Program<Config> = Program {
    name: "notifier-sms",
    about: "Sends text messages by Twilio; any number of copies may run",
    settings: &[notifier::SETTINGS, &twilio::SETTINGS],
    has_once: false,
    read: Config::read,
};

/// How the sms worker works.
pub struct Config {
    worker: notifier::Config,
    twilio: twilio::Config,
}

impl Config {
    fn read(reader: &mut Reader) -> Option<Self> {
        let worker = notifier::Config::read(reader);
        let twilio = twilio::Config::read(reader);
        Some(Self { worker: worker?, twilio: twilio? })
    }
}

/// Runs until it is told to stop.
pub async fn run(config: Config, run: Run, lifecycle: Lifecycle) -> Result<(), Failure> {
    let twilio =
        Twilio::new(config.twilio, config.worker.call_timeout()).map_err(|error| Failure::Bug(error.to_string()))?;
    notifier::run(Sms { twilio }, config.worker, run, lifecycle).await
}

struct Sms {
    twilio: Twilio,
}

struct TextMessage {
    to: PhoneNumber,
    from: String,
    body: String,
}

impl fmt::Display for TextMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text message from {} of {} characters", self.from, self.body.chars().count())
    }
}

impl Channel for Sms {
    const NAME: &'static str = "sms";
    const PROPERTY: Option<&'static str> = Some(twilio::CALLER_ID_REGISTRY);

    type Message = TextMessage;

    fn prepare(&self, claim: &Claim, property: Option<&Value>) -> Result<TextMessage, Answer> {
        let (to, from) = twilio::numbers(claim, property)?;
        let body = claim.text("message");
        let body = body.ok_or_else(|| Answer::new(Outcome::Permanent, "the notification has no message"))?;
        Ok(TextMessage { to, from, body })
    }

    async fn send(&self, message: TextMessage) -> Answer {
        let form = [("To", message.to.as_str()), ("From", &message.from), ("Body", &message.body)];
        self.twilio.create("Messages", "the message", &form).await
    }

    async fn check(&self) -> Result<String, String> {
        self.twilio.check().await
    }
}
