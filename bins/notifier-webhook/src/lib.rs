//! The webhook channel: posts JSON, signed as the Standard Webhooks specification says.

mod addresses;
mod signature;
mod webhook;

use runtime::{
    Failure, Lifecycle, Program, Reader, Run,
    settings::{WEBHOOK_ALLOW_PRIVATE, WEBHOOK_SECRET},
};

pub use crate::webhook::classify;
use crate::{signature::Secret, webhook::Webhook};

/// The program.
pub const PROGRAM: Program<Config> = Program {
    name: "notifier-webhook",
    about: "Posts signed webhooks; any number of copies may run",
    settings: &[notifier::SETTINGS, &[WEBHOOK_SECRET, WEBHOOK_ALLOW_PRIVATE]],
    has_once: false,
    read: Config::read,
};

/// How the webhook worker works.
pub struct Config {
    worker: notifier::Config,
    secret: Secret,
    allow_private: bool,
}

impl Config {
    fn read(reader: &mut Reader) -> Option<Self> {
        let worker = notifier::Config::read(reader);
        let secret = reader.secret(&WEBHOOK_SECRET).and_then(|text| {
            let secret = Secret::parse(&text);
            if secret.is_none() {
                reader.wrong(
                    &WEBHOOK_SECRET,
                    "must be whsec_ and base64 of 24 to 64 bytes; make one with: echo whsec_$(openssl rand -base64 32)",
                );
            }
            secret
        });
        let allow_private = reader.flag(&WEBHOOK_ALLOW_PRIVATE);
        Some(Self { worker: worker?, secret: secret?, allow_private: allow_private? })
    }
}

/// Runs until it is told to stop.
pub async fn run(config: Config, run: Run, lifecycle: Lifecycle) -> Result<(), Failure> {
    let webhook = Webhook::new(config.secret, config.allow_private, config.worker.call_timeout())
        .map_err(|error| Failure::Bug(error.to_string()))?;
    notifier::run(webhook, config.worker, run, lifecycle).await
}
