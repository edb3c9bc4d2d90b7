use clap::ArgGroup;
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    client::{Body, Client},
    notifications,
    screen::{Table, count, exact, lines, plain, print, time},
};
use crate::Problem;

#[derive(clap::Args)]
#[command(after_help = "Example: tocsin failures --channel phone\n\n\
    Then: tocsin explain ID; tocsin edit ID --set phone-number=…; tocsin retry ID; tocsin give-up ID; or many at once,\n\
    `tocsin retry --help`.")]
pub(crate) struct Failures {
    /// Of one channel
    #[arg(long)]
    channel: Option<String>,
    /// Print the API's own groups, one a line
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true)
    .args(["id", "channel", "cause", "process_id", "since", "until"]))]
#[command(after_help = "Examples:\n  \
    tocsin retry 17\n  \
    tocsin retry --channel phone --cause 'Twilio: not available for now (error 20503, HTTP 503)' --dry-run\n  \
    tocsin retry --since 2026-11-21T18:00:00+01:00 --rate 5\n\n\
    Many are tried again the oldest first, spread over time. Those are left alone whose process was stopped, or started\n\
    again, since. Trying again twice sends once. Exit code 1: it has not failed, or was tried again already.")]
pub(crate) struct Retry {
    /// The number of one notification
    #[arg(conflicts_with_all = ["channel", "cause", "process_id", "since", "until", "limit", "rate", "dry_run"])]
    id: Option<i64>,
    /// Many: of one channel
    #[arg(long)]
    channel: Option<String>,
    /// Many: of one cause, as `tocsin failures` says it
    #[arg(long)]
    cause: Option<String>,
    /// Many: of one process
    #[arg(long)]
    process_id: Option<String>,
    /// Many: failed at this time or later, RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Many: failed before this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// At most so many, 1 to 10,000; 1,000 unless given
    #[arg(long)]
    limit: Option<i64>,
    /// So many calls a second: more than 0, up to 1,000; 10 unless given
    #[arg(long)]
    rate: Option<f64>,
    /// Only say how many it would be
    #[arg(long)]
    dry_run: bool,
    /// Print the API's answer as it is
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Group {
    channel: String,
    cause: String,
    count: i64,
    first_at: String,
    last_at: String,
    examples: Vec<i64>,
}

#[derive(Deserialize)]
struct Groups<T> {
    groups: Vec<T>,
    complete: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Retried {
    retried: i64,
    left_alone: i64,
    last_due_at: Option<String>,
}

pub(crate) async fn list(failures: &Failures, client: &Client) -> Result<(), Problem> {
    let answer = client.get(&["failures"], &[("channel", failures.channel.clone())]).await?;
    if failures.json {
        print(&lines(&answer.read::<Groups<Value>>()?.groups));
        return Ok(());
    }
    let Groups { groups, complete } = answer.read::<Groups<Group>>()?;
    let mut table = Table::new(&["COUNT", "CHANNEL", "FIRST", "LAST", "NEWEST", "CAUSE"]);
    for group in &groups {
        let examples: Vec<_> = group.examples.iter().map(ToString::to_string).collect();
        table.row([
            group.count.into(),
            group.channel.as_str().into(),
            exact(&group.first_at).into(),
            time(&group.last_at, answer.now).into(),
            examples.join(" ").into(),
            group.cause.as_str().into(),
        ]);
    }
    if table.is_empty() {
        print("no failure waits for a person\n");
        return Ok(());
    }
    let mut text = table.text(0);
    if !complete {
        text.push_str("there are more; these are the newest 10,000, or the 200 most frequent causes\n");
    }
    if let Some(Group { channel, cause, .. }) = groups.first() {
        let cause = plain(cause).replace('\'', r"'\''");
        text.push_str(&format!(
            "\ntry many again: tocsin retry --channel {} --cause '{cause}' --dry-run\n",
            plain(channel)
        ));
    }
    print(&text);
    Ok(())
}

pub(crate) async fn retry(retry: &Retry, client: &Client) -> Result<(), Problem> {
    if let Some(id) = retry.id {
        return notifications::repair(id, retry.json, "retry", client).await;
    }
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    let body = json!({
        "channel": retry.channel, "cause": retry.cause, "process-id": retry.process_id, "since": time(retry.since),
        "until": time(retry.until), "limit": retry.limit, "per-second": retry.rate, "dry-run": retry.dry_run,
    });
    let answer = client.send(Method::POST, &["failures", "retry"], Body::from(body)).await?;
    if retry.json {
        print(&format!("{}\n", answer.text));
        return Ok(());
    }
    let Retried { retried, left_alone, last_due_at } = answer.read()?;
    let would = match (retry.dry_run, retried) {
        (true, _) => "would be tried again",
        (false, 1) => "is tried again",
        (false, _) => "are tried again",
    };
    let until = last_due_at.map_or_else(String::new, |at| format!(", the last at {} or later", exact(&at)));
    let mut text = format!("{} {would}{until}\n", count(retried, "notification"));
    if left_alone > 0 {
        text.push_str(&format!(
            "{left_alone} left alone: the process was stopped, or started again, since, or is locked now; `tocsin retry ID` \
             tries one anyway\n"
        ));
    }
    print(&text);
    Ok(())
}
