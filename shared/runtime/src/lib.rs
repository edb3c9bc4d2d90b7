//! What every program needs and none is about: settings, logs, metrics, health, signals, exit codes.
//!
//! The only place that reads the environment. It knows nothing of notifications.

mod health;
mod lifecycle;
mod program;
mod reader;
pub mod settings;
mod telemetry;

pub use health::{Component, Health, watch};
pub use lifecycle::Lifecycle;
pub use program::{Failure, Program, Run, start};
pub use reader::Reader;
pub use secrecy::{ExposeSecret, SecretString};
pub use settings::Setting;

/// A number from 0 to 1, for spreading waits.
pub fn chance() -> f64 {
    rand::random()
}

/// A name for this process that no other has, for logs and histories: `notifier-phone@host:4711-5f3a`.
pub fn instance_name(program: &str) -> String {
    let host = gethostname::gethostname();
    format!("{program}@{}:{}-{:04x}", host.to_string_lossy(), std::process::id(), rand::random::<u16>())
}
