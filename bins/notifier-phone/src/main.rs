//! Calls phones by Twilio. See the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::start(&notifier_phone::PROGRAM, notifier_phone::run)
}
