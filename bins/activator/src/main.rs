//! Publishes what is due to RabbitMQ. See the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::start(&activator::PROGRAM, activator::run)
}
