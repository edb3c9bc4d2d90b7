//! Stands in for the providers. See the library of this crate.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match simulator::run(simulator::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulator: {error:#}");
            ExitCode::from(69)
        }
    }
}
