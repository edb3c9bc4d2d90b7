use clap::ValueEnum;
use domain::Channel;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Page,
    client::{Answer, Body, Client},
    ladder,
    page::{List, next},
    screen::{Cell, Table, count, exact, lines, plain, print, state, time},
};
use crate::Problem;

#[derive(clap::Args)]
#[command(after_help = "Example: tocsin list notifications --state failed --channel phone\n\n\
    Addresses are shown to keys of role operate and admin.")]
pub(crate) struct Filter {
    /// In one state
    #[arg(long)]
    state: Option<StateName>,
    /// Of one channel
    #[arg(long)]
    channel: Option<String>,
    /// Of one process
    #[arg(long)]
    process_id: Option<String>,
    /// To one address, letter by letter; for keys that may see addresses
    #[arg(long)]
    address: Option<String>,
    #[command(flatten)]
    page: Page,
    /// Print the API's own objects, one a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StateName {
    Scheduled,
    Queued,
    Sending,
    Retrying,
    Delivered,
    Failed,
    Cancelled,
}

/// One notification.
#[derive(clap::Args)]
pub(crate) struct One {
    /// Its number
    id: i64,
    /// Print the API's answer as it is
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example: tocsin edit 17 --set phone-number=+3852222222 --unset url\n\n\
    It has no effect but on the next try, which `tocsin retry 17` begins.")]
pub(crate) struct Edit {
    /// The number of a failed notification
    id: i64,
    /// A key of its channel and its new value
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = ladder::pair, required_unless_present = "unset")]
    set: Vec<(String, String)>,
    /// An optional key to take away
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    /// Print the API's answer as it is
    #[arg(long)]
    json: bool,
}

/// A notification, as far as people need to see it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Notification {
    pub(super) id: i64,
    process_id: String,
    pub(super) run: i64,
    channel: String,
    pub(super) state: String,
    answer: String,
    sentence: String,
    scheduled_at: String,
    attempts: i64,
    max_attempts: i64,
    given_up: bool,
    calls: Vec<Call>,
    interventions: Vec<Intervention>,
    content: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Call {
    started_at: String,
    outcome: String,
    detail: Option<String>,
    provider_id: Option<String>,
    worker: Option<String>,
    late_outcome: Option<String>,
}

#[derive(Deserialize)]
struct Intervention {
    at: String,
    actor: String,
    action: String,
}

#[derive(Deserialize)]
struct Explanation {
    facts: Notification,
}

impl Notification {
    /// Whom it is for, as far as the key may see it.
    fn address(&self) -> Option<&str> {
        let field = Channel::named(&self.channel)?.address.as_ref()?;
        self.content.as_ref()?.get(field.key)?.as_str()
    }

    fn name(&self) -> String {
        let to = self.address().map_or_else(String::new, |address| format!(" to {}", plain(address)));
        format!("notification {}: {}{to}", self.id, plain(&self.channel))
    }

    /// It, its calls and why it was or was not sent.
    pub(super) fn story(&self, indent: usize, answer: &Answer) -> String {
        let space = " ".repeat(indent);
        let given_up = if self.given_up { ", given up" } else { "" };
        let mut text = format!(
            "{space}{}, asked for {}, {}{given_up}, {} of {}\n",
            self.name(),
            exact(&self.scheduled_at),
            state(&self.state),
            self.attempts,
            count(self.max_attempts, "attempt"),
        );
        text.push_str(&format!("{space}  {}\n", plain(&self.sentence)));
        let mut table = Table::new(&["CALL", "AT", "OUTCOME", "WHAT THE PROVIDER SAID", "ITS ID", "WORKER"]);
        // Counted as the sentence does: not every claim leads to a call.
        for (number, call) in (1_i64..).zip(&self.calls) {
            let late = call.late_outcome.as_ref().map(|late| format!(" (later: {late})")).unwrap_or_default();
            let optional = |text: &Option<String>| Cell::from(text.as_deref().unwrap_or_default());
            table.row([
                number.into(),
                time(&call.started_at, answer.now).into(),
                Cell::state(&format!("{}{late}", call.outcome)),
                optional(&call.detail),
                optional(&call.provider_id),
                optional(&call.worker),
            ]);
        }
        if !table.is_empty() {
            text.push_str(&table.text(indent + 2));
        }
        for one in &self.interventions {
            let (at, actor) = (time(&one.at, answer.now), plain(&one.actor));
            text.push_str(&format!("{space}  {at}  {} by {actor}\n", plain(&one.action)));
        }
        text
    }
}

pub(crate) async fn list(filter: &Filter, client: &Client) -> Result<(), Problem> {
    let state = filter.state.and_then(|state| Some(state.to_possible_value()?.get_name().to_owned()));
    let parameters = [
        ("state", state),
        ("channel", filter.channel.clone()),
        ("process-id", filter.process_id.clone()),
        ("address", filter.address.clone()),
        filter.page.before(),
        filter.page.limit(),
    ];
    let answer = client.get(&["notifications"], &parameters).await?;
    if filter.json {
        print(&lines(&answer.read::<List<Value>>()?.items));
        return Ok(());
    }
    let list: List<Notification> = answer.read()?;
    let mut table = Table::new(&["ID", "PROCESS", "RUN", "CHANNEL", "ASKED FOR", "STATE", "SENT", "CALLS", "ADDRESS"]);
    for one in &list.items {
        table.row([
            one.id.into(),
            one.process_id.as_str().into(),
            one.run.into(),
            one.channel.as_str().into(),
            time(&one.scheduled_at, answer.now).into(),
            Cell::state(&one.state),
            one.answer.as_str().into(),
            i64::try_from(one.calls.len()).unwrap_or(i64::MAX).into(),
            one.address().unwrap_or_default().into(),
        ]);
    }
    print(&next(&table, list.next, "no notification is like that"));
    Ok(())
}

pub(crate) async fn explain(one: &One, client: &Client) -> Result<(), Problem> {
    let answer = client.get(&["notifications", &one.id.to_string(), "explain"], &[]).await?;
    if one.json {
        print(&format!("{}\n", answer.text));
        return Ok(());
    }
    let facts = answer.read::<Explanation>()?.facts;
    let process = plain(&facts.process_id);
    print(&format!("process {process}, run {}\n{}", facts.run, facts.story(0, &answer)));
    Ok(())
}

/// Tries one again, or gives it up.
pub(crate) async fn repair(id: i64, json: bool, action: &str, client: &Client) -> Result<(), Problem> {
    let answer = client.send(Method::POST, &["notifications", &id.to_string(), action], Body::Nothing).await?;
    let done = if action == "retry" {
        format!("is tried again now: `tocsin explain {id}`")
    } else {
        "stays failed, and waits for nobody any more".to_owned()
    };
    repaired(&answer, json, &done)
}

pub(crate) async fn give_up(one: &One, client: &Client) -> Result<(), Problem> {
    repair(one.id, one.json, "give-up", client).await
}

pub(crate) async fn edit(edit: &Edit, client: &Client) -> Result<(), Problem> {
    let id = edit.id.to_string();
    let shown = client.get(&["notifications", &id], &[]).await?;
    let of = Channel::named(&shown.read::<Notification>()?.channel);
    let set = edit.set.iter().map(|(key, text)| (key.clone(), ladder::value(of, key, text)));
    let unset = edit.unset.iter().map(|key| (key.clone(), Value::Null));
    let changes = Value::Object(set.chain(unset).collect::<Map<_, _>>());
    let answer = client.send(Method::PATCH, &["notifications", &id], changes.into()).await?;
    repaired(&answer, edit.json, &format!("is changed; `tocsin retry {id}` tries it again"))
}

fn repaired(answer: &Answer, json: bool, done: &str) -> Result<(), Problem> {
    if json {
        print(&format!("{}\n", answer.text));
        return Ok(());
    }
    let notification: Notification = answer.read()?;
    print(&format!("{} {done}\n", notification.name()));
    Ok(())
}
