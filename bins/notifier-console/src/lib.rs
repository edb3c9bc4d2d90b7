//! The console channel: writes a line to standard output. For trying things out, and the smallest example of a
//! channel.

use std::{
    fmt,
    io::{self, Write},
};

use domain::Outcome;
use notifier::{Answer, Channel, Claim};
use runtime::{Failure, Lifecycle, Program, Run};
use serde_json::Value;

/// The program.
pub const PROGRAM: Program<notifier::Config> = Program {
    name: "notifier-console",
    about: "Writes notifications to standard output, a line each; for trying things out",
    settings: &[notifier::SETTINGS],
    has_once: false,
    read: notifier::Config::read,
};

/// Runs until it is told to stop.
pub async fn run(config: notifier::Config, run: Run, lifecycle: Lifecycle) -> Result<(), Failure> {
    notifier::run(Console, config, run, lifecycle).await
}

struct Console;

struct Line(String);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a line of {} characters", self.0.chars().count())
    }
}

impl Channel for Console {
    const NAME: &'static str = "console";

    type Message = Line;

    fn prepare(&self, claim: &Claim, _property: Option<&Value>) -> Result<Line, Answer> {
        let message = claim.text("message").unwrap_or_default();
        // A text from a stranger must not move the cursor or pretend to be a second line.
        let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let process = claim.process.escape_debug();
        Ok(Line(format!("notification {} of {process}, run {}: {message}", claim.id, claim.run)))
    }

    async fn send(&self, Line(line): Line) -> Answer {
        match writeln!(io::stdout(), "{line}") {
            Ok(()) => Answer::new(Outcome::Delivered, "written to standard output"),
            Err(error) => Answer::new(Outcome::Temporary, format!("standard output: {error}")),
        }
    }

    async fn check(&self) -> Result<String, String> {
        Ok("standard output is there".to_owned())
    }
}
