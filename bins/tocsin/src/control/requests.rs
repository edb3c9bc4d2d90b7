use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Page,
    client::{Body, Client, FieldError},
    orders,
    page::{List, next},
    screen::{Cell, Table, lines, plain, print, state, time, time_in_words},
};
use crate::Problem;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  \
    tocsin requests --outcome rejected\n  \
    tocsin requests show 17\n  \
    tocsin requests replay 17 --file edited.json")]
pub(crate) struct Requests {
    #[command(subcommand)]
    command: Option<One>,
    /// Only those
    #[arg(long)]
    outcome: Option<Outcome>,
    /// Of one process
    #[arg(long)]
    process_id: Option<String>,
    #[command(flatten)]
    page: Page,
    /// Print the API's own objects, one a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Outcome {
    Accepted,
    Ignored,
    Rejected,
}

#[derive(Subcommand)]
enum One {
    /// Show a request with every reason and, to keys that may see addresses, its words
    Show {
        /// Its number
        id: i64,
        /// Print the API's answer as it is
        #[arg(long)]
        json: bool,
    },
    /// Send a rejected request again, as it was or edited; the same words are sent once
    Replay {
        /// Its number
        id: i64,
        /// The request after editing; - is standard input
        #[arg(long)]
        file: Option<String>,
        /// Print the API's answer as it is
        #[arg(long)]
        json: bool,
    },
}

/// A request as it was recorded.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Request {
    id: i64,
    source: String,
    received_at: String,
    process_id: Option<String>,
    action: Option<String>,
    outcome: String,
    #[serde(default)]
    reasons: Vec<FieldError>,
    run: Option<i64>,
    #[serde(default)]
    notifications: Vec<i64>,
    body: Option<String>,
}

impl Request {
    /// One a row.
    pub(super) fn table(requests: &[Self], now: Option<Timestamp>) -> Table {
        let mut table = Table::new(&["ID", "RECEIVED", "PROCESS", "ACTION", "OUTCOME", "RUN", "FROM", "WHY"]);
        for one in requests {
            let reasons: Vec<_> = one.reasons.iter().map(FieldError::line).collect();
            table.row([
                one.id.into(),
                time(&one.received_at, now).into(),
                one.process_id.as_deref().unwrap_or("?").into(),
                one.action.as_deref().unwrap_or("?").into(),
                Cell::state(&one.outcome),
                one.run.map_or_else(|| "".into(), Cell::from),
                one.source.as_str().into(),
                reasons.join("; ").into(),
            ]);
        }
        table
    }

    fn story(&self, now: Option<Timestamp>) -> String {
        let process = self.process_id.as_ref().map(|name| format!(" of {}", plain(name))).unwrap_or_default();
        let action = self.action.as_ref().map(|action| format!("{}, ", plain(action))).unwrap_or_default();
        let (outcome, received) = (state(&self.outcome), time_in_words(&self.received_at, now));
        let (id, source) = (self.id, plain(&self.source));
        let mut text = format!("request {id}{process}: {action}{outcome}\nreceived {received} from {source}\n");
        self.reasons.iter().for_each(|reason| text.push_str(&format!("  {}\n", reason.line())));
        if let (Some(first), Some(last)) = (self.notifications.first(), self.notifications.last()) {
            text.push_str(&format!("notifications {first} to {last}\n"));
        }
        if let Some(body) = &self.body {
            text.push_str("its words:\n");
            body.lines().for_each(|line| text.push_str(&format!("  {}\n", plain(line))));
        }
        if self.outcome == "rejected" {
            let id = self.id;
            text.push_str(&format!(
                "`tocsin requests replay {id} --file edited.json` sends it again, as you mend it\n"
            ));
        }
        text
    }
}

pub(crate) async fn run(requests: &Requests, client: &Client) -> Result<(), Problem> {
    match &requests.command {
        None => list(requests, client).await,
        Some(One::Show { id, json }) => {
            let answer = client.get(&["requests", &id.to_string()], &[]).await?;
            let text = if *json { format!("{}\n", answer.text) } else { answer.read::<Request>()?.story(answer.now) };
            print(&text);
            Ok(())
        }
        Some(One::Replay { id, file, json }) => {
            let body = match file {
                Some(file) => Body::Text(orders::text(file)?),
                None => Body::Nothing,
            };
            let answer = client.send(Method::POST, &["requests", &id.to_string(), "replay"], body).await?;
            orders::show_sent(&answer, *json)
        }
    }
}

async fn list(requests: &Requests, client: &Client) -> Result<(), Problem> {
    let outcome = requests.outcome.and_then(|outcome| Some(outcome.to_possible_value()?.get_name().to_owned()));
    let parameters = [
        ("outcome", outcome),
        ("process-id", requests.process_id.clone()),
        requests.page.before(),
        requests.page.limit(),
    ];
    let answer = client.get(&["requests"], &parameters).await?;
    if requests.json {
        print(&lines(&answer.read::<List<Value>>()?.items));
        return Ok(());
    }
    let list: List<Request> = answer.read()?;
    print(&next(&Request::table(&list.items, answer.now), list.next, "no request is like that"));
    Ok(())
}
