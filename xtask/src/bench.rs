use std::process::Command;

use anyhow::{Result, bail};
use devservers::{Purpose, install_missing, workspace};

/// The programs that are measured, as they ship, and what measures them.
const PROGRAMS: [&str; 5] = ["bench", "bridge", "activator", "notifier-webhook", "tocsin"];

/// Builds in release, and measures.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    install_missing(Purpose::Run, |what| println!("{what}"))?;
    println!("building in release");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--release", "--quiet"]).current_dir(workspace());
    build.args(PROGRAMS.iter().flat_map(|program| ["--package", program]));
    if !build.status()?.success() {
        bail!("the build failed");
    }
    let bench = workspace().join("target/release/bench");
    let status = Command::new(bench).args(arguments).current_dir(workspace()).status()?;
    if status.success() { Ok(()) } else { bail!("bench: {status}") }
}
