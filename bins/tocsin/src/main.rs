//! The command line of whoever runs Tocsin. See the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    tocsin::main()
}
