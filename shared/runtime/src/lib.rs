//! What every program needs and none is about: settings, logs, metrics, health, signals, exit codes.
//!
//! The only place that reads the environment. It knows nothing of notifications.

use rand::Rng;

mod checks;
#[cfg(debug_assertions)]
mod failpoint;
mod health;
mod lifecycle;
mod program;
mod reader;
mod roesc;
pub mod settings;
mod telemetry;

pub use checks::{CheckFormat, Checks, MEND_DATABASE, coloured};
pub use health::{Component, Health, watch};
pub use lifecycle::Lifecycle;
pub use program::{Failure, NOT_CONFIGURED, Program, Run, WrongSettings, read_settings, start};
pub use reader::Reader;
pub use roesc::names_of as roesc_names_of;
pub use secrecy::{ExposeSecret, SecretString};
pub use settings::Setting;
pub use telemetry::log_together;

/// A point at which a test may want this process to be killed or frozen, as no test could time it from outside. `key`
/// tells occasions apart. Release builds have no failpoints.
pub fn failpoint(point: &'static str, key: impl std::fmt::Display) {
    #[cfg(debug_assertions)]
    failpoint::reached(point, key);
    #[cfg(not(debug_assertions))]
    let _ = (point, key);
}

/// A number from 0 to 1, for spreading waits.
pub fn chance() -> f64 {
    rand::random()
}

/// Bytes that nobody can guess.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// What this machine calls itself: letters, digits, dots and hyphens.
pub fn host_name() -> String {
    let name = gethostname::gethostname();
    name.to_string_lossy().chars().filter(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).collect()
}

/// A name for this process that no other has, for logs and histories: `notifier-phone@host:4711-5f3a`.
pub fn instance_name(program: &str) -> String {
    format!("{program}@{}:{}-{:04x}", host_name(), std::process::id(), rand::random::<u16>())
}

/// The name of this process's connections: `notifier-phone/0.1.0 5f3a9c1e@host`. All of them have the same, and no other
/// process has it.
pub fn connection_name(program: &str) -> String {
    format!("{program}/{} {:08x}@{}", env!("CARGO_PKG_VERSION"), rand::random::<u32>(), host_name())
}

/// Who is at the keyboard, as the system says: `maria@host`.
pub fn operator() -> String {
    #[expect(clippy::disallowed_methods, reason = "this crate is the one place that reads the environment")]
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    format!("{}@{}", user.unwrap_or_else(|| "somebody".to_owned()), host_name())
}
