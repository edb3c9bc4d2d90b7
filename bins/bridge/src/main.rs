//! Takes requests from SQS into Postgres. See the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::start(&bridge::PROGRAM, bridge::run)
}
