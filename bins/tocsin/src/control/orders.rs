use std::{io::Read, path::Path};

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::{
    client::{Answer, Body, Client, FieldError},
    ladder::Ladder,
    screen::{count, plain, print},
};
use crate::{BAD_USAGE, NOT_DONE, Problem};

/// The API reads no larger request.
const MAX_FILE_BYTES: u64 = 2 * 1024 * 1024;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    tocsin start pizzeria --notify phone:+3851111111@+2m --notify email:boss@example.org@+5m --set subject='A new order'\n  \
    tocsin start --file order.json --idempotency-key order-4711\n\n\
    What is sent again within 24 hours with the same idempotency key has no second effect. Relative times are counted from\n\
    now by the API's clock. Exit code 1: it was refused, or ignored since the process still has something scheduled.")]
pub(crate) struct Start {
    /// What starts and stops
    #[arg(required_unless_present = "file", requires = "notify")]
    process_id: Option<String>,
    #[command(flatten)]
    ladder: Ladder,
    /// A whole request as JSON, as README.md says, instead; - is standard input
    #[arg(long, conflicts_with_all = ["process_id", "notify", "set"])]
    file: Option<String>,
    /// The same for each try of one request, and for no other: 1 to 200 visible ASCII characters
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print the API's answer as it is
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example: tocsin stop pizzeria\n\n\
    Exit code 1: there was nothing to stop.")]
pub(crate) struct Stop {
    /// Which process
    process_id: String,
    /// Print the API's answer as it is
    #[arg(long)]
    json: bool,
}

/// A request as it was recorded.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Sent {
    pub(super) id: i64,
    pub(super) process_id: Option<String>,
    action: Option<String>,
    pub(super) outcome: String,
    #[serde(default)]
    reasons: Vec<FieldError>,
    run: Option<i64>,
    #[serde(default)]
    notifications: Vec<i64>,
}

impl Sent {
    pub(super) fn is_accepted(&self) -> bool {
        self.outcome == "accepted"
    }

    /// Why it had no effect.
    pub(super) fn reasons(&self) -> String {
        self.reasons.iter().map(FieldError::line).collect::<Vec<_>>().join("; ")
    }

    /// A line about what came of it. One that had no effect is not done.
    fn line(&self) -> Result<String, Problem> {
        let process = plain(self.process_id.as_deref().unwrap_or("a process"));
        if !self.is_accepted() {
            let text = format!("request {} of {process} was {}: {}", self.id, self.outcome, self.reasons());
            return Err(Problem::new(NOT_DONE, text));
        }
        let line = match (self.action.as_deref(), self.run) {
            (Some("start"), Some(run)) => {
                let number = i64::try_from(self.notifications.len()).unwrap_or(i64::MAX);
                let numbers = match (self.notifications.first(), self.notifications.last()) {
                    (Some(first), Some(last)) if first != last => format!(" ({first} to {last})"),
                    (Some(only), _) => format!(" ({only})"),
                    _ => String::new(),
                };
                format!("started {process}, run {run}, with {}{numbers}", count(number, "notification"))
            }
            _ => format!("stopped {process}"),
        };
        Ok(format!("{line}, as request {}\n", self.id))
    }
}

pub(crate) async fn start(arguments: &Start, client: &Client) -> Result<(), Problem> {
    let body = match (&arguments.file, &arguments.process_id) {
        (Some(file), _) => Body::Text(text(file)?),
        (None, Some(process)) => arguments.ladder.request(process, client.time().await?).into(),
        (None, None) => return Err(Problem::new(BAD_USAGE, "name a process, or a file")),
    };
    let key = arguments.idempotency_key.as_deref();
    let answer = client.send_with(Method::POST, &["requests"], body, key).await?;
    show_sent(&answer, arguments.json)
}

pub(crate) async fn stop(arguments: &Stop, client: &Client) -> Result<(), Problem> {
    let body = json!({"process-id": arguments.process_id, "action": "stop"});
    let answer = client.send(Method::POST, &["requests"], body.into()).await?;
    show_sent(&answer, arguments.json)
}

/// Says what came of a request.
pub(crate) fn show_sent(answer: &Answer, json: bool) -> Result<(), Problem> {
    show_result(answer, json, &answer.read()?)
}

/// The same where the request is only a part of the answer.
pub(super) fn show_result(answer: &Answer, json: bool, sent: &Sent) -> Result<(), Problem> {
    if json {
        print(&format!("{}\n", answer.text));
    }
    let line = sent.line()?;
    if !json {
        print(&line);
    }
    Ok(())
}

/// A file, or standard input.
pub(crate) fn text(file: &str) -> Result<String, Problem> {
    let mut text = String::new();
    let read = if file == "-" {
        std::io::stdin().take(MAX_FILE_BYTES).read_to_string(&mut text)
    } else {
        let opened = std::fs::File::open(Path::new(file));
        opened.and_then(|opened| opened.take(MAX_FILE_BYTES).read_to_string(&mut text))
    };
    let name = if file == "-" { "standard input" } else { file };
    read.map_err(|error| Problem::new(BAD_USAGE, format!("{name}: {error}")))?;
    if text.trim().is_empty() {
        return Err(Problem::new(BAD_USAGE, format!("{name}: is empty")));
    }
    Ok(text)
}
