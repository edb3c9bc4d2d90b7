//! Sends text messages by Twilio. See the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::start(&notifier_sms::PROGRAM, notifier_sms::run)
}
