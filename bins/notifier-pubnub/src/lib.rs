//! The pubnub channel: publishes a small JSON message to a PubNub channel.

mod pubnub;

use runtime::{
    Failure, Lifecycle, Program, Reader, Run,
    settings::{PUBNUB_PUB_KEY, PUBNUB_SERVICE_URL, PUBNUB_SUB_KEY, PUBNUB_UUID},
};

pub use crate::pubnub::classify;
use crate::pubnub::{Keys, Pubnub};

/// The program.
pub const PROGRAM: Program<Config> = Program {
    name: "notifier-pubnub",
    about: "Publishes to PubNub channels; any number of copies may run",
    settings: &[notifier::SETTINGS, &[PUBNUB_SERVICE_URL, PUBNUB_PUB_KEY, PUBNUB_SUB_KEY, PUBNUB_UUID]],
    has_once: false,
    read: Config::read,
};

/// How the pubnub worker works.
pub struct Config {
    worker: notifier::Config,
    service_url: String,
    keys: Keys,
}

impl Config {
    fn read(reader: &mut Reader) -> Option<Self> {
        let worker = notifier::Config::read(reader);
        let service_url = reader.url(&PUBNUB_SERVICE_URL);
        let publish = reader.secret(&PUBNUB_PUB_KEY);
        let subscribe = reader.secret(&PUBNUB_SUB_KEY);
        let uuid = reader.text(&PUBNUB_UUID);
        let keys = Keys { publish: publish?, subscribe: subscribe?, uuid: uuid? };
        Some(Self { worker: worker?, service_url: service_url?, keys })
    }
}

/// Runs until it is told to stop.
pub async fn run(config: Config, run: Run, lifecycle: Lifecycle) -> Result<(), Failure> {
    let pubnub = Pubnub::new(&config.service_url, config.keys, config.worker.call_timeout())
        .map_err(|error| Failure::Bug(error.to_string()))?;
    notifier::run(pubnub, config.worker, run, lifecycle).await
}
