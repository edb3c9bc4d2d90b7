//! Publishes to SNS topics. See the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::start(&notifier_sns::PROGRAM, notifier_sns::run)
}
