//! Posts webhooks. See the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::start(&notifier_webhook::PROGRAM, notifier_webhook::run)
}
