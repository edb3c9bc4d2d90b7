//! Writes notifications to standard output. See the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::start(&notifier_console::PROGRAM, notifier_console::run)
}
