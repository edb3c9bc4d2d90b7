//! The console channel: writes a line to standard output. For trying things out, and the smallest example of a
//! channel.

use std::io::Write;

use domain::Outcome;
use notifier::{Answer, Channel, Claim};
use runtime::{
    Failure, Lifecycle, Program, Run,
    settings::{BROKER_URL, NOTIFIER_CALL_TIMEOUT_SECONDS, NOTIFIER_MAX_IN_FLIGHT},
};
use serde_json::Value;

/// The program.
pub const PROGRAM: Program<notifier::Config> = Program {
    name: "notifier-console",
    about: "Writes notifications to standard output, a line each; for trying things out",
    settings: &[BROKER_URL, NOTIFIER_MAX_IN_FLIGHT, NOTIFIER_CALL_TIMEOUT_SECONDS],
    has_once: false,
    read: notifier::Config::read,
};

/// Runs until it is told to stop.
pub async fn run(config: notifier::Config, run: Run, lifecycle: Lifecycle) -> Result<(), Failure> {
    notifier::run(Console, config, run, lifecycle).await
}

struct Console;

impl Channel for Console {
    const NAME: &'static str = "console";

    async fn call(&self, claim: &Claim, _property: Option<&Value>) -> Answer {
        match writeln!(std::io::stdout(), "{}", line(claim)) {
            Ok(()) => Answer::new(Outcome::Delivered, "written to standard output"),
            Err(error) => Answer::new(Outcome::Temporary, format!("standard output: {error}")),
        }
    }
}

fn line(claim: &Claim) -> String {
    let message = claim.options.get("message").map_or("", String::as_str);
    // A text from a stranger must not move the cursor or pretend to be a second line.
    let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let process = claim.process.escape_debug();
    format!("notification {} of {process}, run {}: {message}", claim.id, claim.run)
}
