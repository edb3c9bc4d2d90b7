//! Serves the control plane over HTTP. See the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::start(&api::PROGRAM, api::run)
}
