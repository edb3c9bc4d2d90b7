use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use serde_json::json;

use crate::Failure;

/// What has not answered by then does not work.
const PATIENCE: Duration = Duration::from_secs(15);

/// What to do where Postgres does not answer as it should.
pub const MEND_DATABASE: &str = "see that Postgres runs where TOCSIN_DATABASE__URL says and has its user (postgres/roles.sql), and run `tocsin migrate` \
     as the database's owner";

/// How checks are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckFormat {
    /// Lines for a person.
    Human,
    /// `{"check": "database", "ok": false, "detail": "…", "mend": "…"}`, one a line.
    Json,
}

/// Contacts what a program needs, one thing after the other, and shows what came of it.
#[derive(Debug)]
pub struct Checks {
    format: CheckFormat,
    done: usize,
    failed: usize,
}

impl Checks {
    /// None so far.
    pub fn new(format: CheckFormat) -> Self {
        Self { format, done: 0, failed: 0 }
    }

    /// Checks one thing: a text says how well it is, an error what is wrong. `mend` says what to do then.
    pub async fn check<E: Display>(&mut self, name: &str, mend: &str, work: impl Future<Output = Result<String, E>>) {
        let result = match tokio::time::timeout(PATIENCE, work).await {
            Ok(Ok(detail)) => Ok(detail),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        self.done += 1;
        self.failed += usize::from(result.is_err());
        show(self.format, name, result.as_deref().map_err(String::as_str), mend);
    }

    /// An error if one of them failed.
    pub fn finish(self) -> Result<(), Failure> {
        if self.failed == 0 {
            return Ok(());
        }
        Err(Failure::Unavailable(format!("{} of {} checks failed", self.failed, self.done)))
    }
}

/// Shows one result on standard output.
pub(crate) fn show(format: CheckFormat, name: &str, result: Result<&str, &str>, mend: &str) {
    let line = match (format, result) {
        (CheckFormat::Json, Ok(detail)) => json!({"check": name, "ok": true, "detail": detail}).to_string(),
        (CheckFormat::Json, Err(problem)) => {
            json!({"check": name, "ok": false, "detail": problem, "mend": mend}).to_string()
        }
        (CheckFormat::Human, Ok(detail)) => format!("{}  {name:<14} {detail}", coloured("32", "ok   ")),
        (CheckFormat::Human, Err(problem)) => {
            format!("{}  {name:<14} {problem}\n       {:<14} {mend}", coloured("31", "WRONG"), "")
        }
    };
    // Whoever closed standard output does not want to know.
    writeln!(io::stdout(), "{line}").unwrap_or_default();
}

/// A text in a colour, by its ANSI number, where standard output is a terminal and nobody has set NO_COLOR.
pub fn coloured(colour: &str, text: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "this crate is the one place that reads the environment")]
    let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stdout().is_terminal() && !is_unwanted { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}
