use clap::Subcommand;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Page,
    client::Client,
    notifications::{self, Notification},
    page::{List, next},
    requests::Request,
    screen::{Table, count, lines, plain, print},
    status,
};
use crate::Problem;

#[derive(Subcommand)]
pub(crate) enum Lists {
    /// Processes, those first that were first started last
    Processes(Filter),
    /// Notifications, the newest first
    Notifications(notifications::Filter),
    /// Messages that no worker could use, the newest first
    DeadLetters(status::Letters),
}

#[derive(clap::Args)]
pub(crate) struct Filter {
    /// The one of this name
    #[arg(long)]
    process_id: Option<String>,
    #[command(flatten)]
    page: Page,
    /// Print the API's own objects, one a line
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example: tocsin show pizzeria\n\n\
    The newest 200 requests and notifications of it; `tocsin list notifications --process-id` has the others.")]
pub(crate) struct Show {
    /// Which process
    process_id: String,
    /// Print the API's answer as it is
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Process {
    process_id: String,
    run: i64,
    unfinished: i64,
    active: bool,
}

#[derive(Deserialize)]
struct History {
    #[serde(flatten)]
    process: Process,
    requests: Vec<Request>,
    notifications: Vec<Notification>,
}

pub(crate) async fn list(filter: &Filter, client: &Client) -> Result<(), Problem> {
    let parameters = [("process-id", filter.process_id.clone()), filter.page.before(), filter.page.limit()];
    let answer = client.get(&["processes"], &parameters).await?;
    if filter.json {
        print(&lines(&answer.read::<List<Value>>()?.items));
        return Ok(());
    }
    let list: List<Process> = answer.read()?;
    let mut table = Table::new(&["PROCESS", "RUNS", "UNFINISHED", "A START NOW"]);
    for one in &list.items {
        table.row([one.process_id.as_str().into(), one.run.into(), one.unfinished.into(), a_start(one.active).into()]);
    }
    print(&next(&table, list.next, "no process was ever started"));
    Ok(())
}

/// What would become of a start.
fn a_start(active: bool) -> &'static str {
    if active { "is ignored" } else { "begins a run" }
}

pub(crate) async fn show(show: &Show, client: &Client) -> Result<(), Problem> {
    let answer = client.get(&["processes", &show.process_id], &[]).await?;
    if show.json {
        print(&format!("{}\n", answer.text));
        return Ok(());
    }
    let History { process, requests, notifications } = answer.read()?;
    let mut text = format!(
        "process {}: {}, {} unfinished; a start now {}\n\nrequests, the newest first\n",
        plain(&process.process_id),
        count(process.run, "run"),
        process.unfinished,
        a_start(process.active),
    );
    text.push_str(&Request::table(&requests, answer.now).text(2));
    let mut run = None;
    for notification in &notifications {
        if run.replace(notification.run) != Some(notification.run) {
            text.push_str(&format!("\nrun {}, its last notification first\n", notification.run));
        }
        text.push_str(&notification.story(2, &answer));
    }
    print(&text);
    Ok(())
}
