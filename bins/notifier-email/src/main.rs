//! Sends e-mail by SMTP. See the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::start(&notifier_email::PROGRAM, notifier_email::run)
}
