use std::{
    io::{self, Write},
    time::Duration,
};

use reqwest::Response;
use serde_json::{Value, json};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use super::{
    client::Client,
    screen::{exact, plain, state},
};
use crate::{Problem, UNAVAILABLE};

/// How long to wait before the connection is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// No event is as long.
const MAX_LINE_BYTES: usize = 1024 * 1024;

#[derive(clap::Args)]
#[command(
    after_help = "Example: tocsin watch --json | jq 'select(.event == \"notification\" and .data.state == \"failed\")'\n\n\
    Ctrl-C ends it. A lost connection is made again; it is no record: what happened meanwhile is in `tocsin list` and\n\
    `tocsin requests`."
)]
pub(crate) struct Watch {
    /// Print {"event": …, "data": …} a line, with the API's own data
    #[arg(long)]
    json: bool,
}

/// Tells what happens until somebody ends it.
pub(crate) async fn run(watch: &Watch, client: &Client) -> Result<(), Problem> {
    let no_signals = |error: io::Error| Problem::new(UNAVAILABLE, format!("signals: {error}"));
    let mut interrupted = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(no_signals)?;
    tokio::select! {
        end = follow(watch.json, client) => end,
        _ = interrupted.recv() => Ok(()),
        _ = terminated.recv() => Ok(()),
    }
}

async fn follow(json: bool, client: &Client) -> Result<(), Problem> {
    let path = &["events"];
    let mut connection = client.listen(path).await?;
    eprintln!("tocsin: watching {}; Ctrl-C ends it", client.place());
    loop {
        if tell(connection, json).await.is_err() {
            // Whoever closed standard output does not want to know.
            return Ok(());
        }
        eprintln!("tocsin: the connection is lost; it is tried again");
        connection = loop {
            sleep(PAUSE).await;
            match client.listen(path).await {
                Ok(connection) => break connection,
                Err(problem) if problem.code == UNAVAILABLE => {}
                Err(problem) => return Err(problem),
            }
        };
        eprintln!("tocsin: connected again; what happened meanwhile is in `tocsin list` and `tocsin requests`");
    }
}

/// Tells all that comes over a connection, to its end. An error means that nobody listens.
async fn tell(mut connection: Response, json: bool) -> io::Result<()> {
    let (mut waiting, mut event) = (Vec::new(), Event::default());
    while let Ok(Some(chunk)) = connection.chunk().await {
        waiting.extend_from_slice(&chunk);
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            if let Some((kind, data)) = event.take(String::from_utf8_lossy(&line).trim_end()) {
                let line = if json { json!({"event": kind, "data": data}).to_string() } else { sentence(&kind, &data) };
                writeln!(io::stdout(), "{line}")?;
            }
        }
        if waiting.len() > MAX_LINE_BYTES {
            break;
        }
    }
    Ok(())
}

/// A server-sent event as it comes, line by line.
#[derive(Default)]
struct Event {
    kind: String,
    data: String,
}

impl Event {
    /// Answers the event that an empty line ends.
    fn take(&mut self, line: &str) -> Option<(String, Value)> {
        if line.is_empty() {
            let Self { kind, data } = std::mem::take(self);
            return serde_json::from_str(&data).ok().map(|data| (kind, data));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => self.data.push_str(value),
            _ => {}
        }
        None
    }
}

fn sentence(kind: &str, data: &Value) -> String {
    let text = |key: &str| plain(data[key].as_str().unwrap_or("?"));
    let at = exact(data["at"].as_str().unwrap_or_default());
    let id = &data["id"];
    match kind {
        "request" => {
            format!("{at}  request {id}: {} of {} {}", text("action"), text("process-id"), state(&text("outcome")))
        }
        "notification" => {
            let reason = data["reason"].as_str().map(|reason| format!(": {}", plain(reason))).unwrap_or_default();
            let (process, channel, state) = (text("process-id"), text("channel"), state(&text("state")));
            format!("{at}  notification {id} of {process}: {channel} {state}{reason}")
        }
        "change" => format!("{at}  {}: {} {}", text("actor"), text("action"), text("object")),
        "missed" => format!("{} events were missed: too much happened at once", data["count"]),
        _ => format!("{} {}", plain(kind), plain(&data.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_told() {
        let mut event = Event::default();
        let lines = [
            ":",
            "event: notification",
            "id: 3",
            "data: {\"id\": 7, \"at\": \"2026-11-22T12:00:00.123Z\",",
            "data: \"process-id\": \"p\\u001b\", \"channel\": \"sms\", \"state\": \"queued\", \"reason\": \"why\"}",
            "",
        ];
        let (kind, data) = lines.iter().find_map(|line| event.take(line)).unwrap();
        let told = "2026-11-22T12:00:00Z  notification 7 of p\u{fffd}: sms queued: why";
        assert_eq!(sentence(&kind, &data), told);
        assert!(event.take("").is_none(), "a comment is no event");
        assert_eq!(sentence("missed", &json!({"count": 3})), "3 events were missed: too much happened at once");
    }
}
