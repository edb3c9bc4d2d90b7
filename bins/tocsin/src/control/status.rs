use std::collections::BTreeMap;

use runtime::coloured;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Page,
    client::{Answer, Client},
    leases::Lease,
    page::{List, next},
    screen::{Cell, Table, count, exact, lines, plain, print, time},
};
use crate::{NOT_DONE, Problem};

#[derive(clap::Args)]
#[command(after_help = "Example: tocsin status --minutes 5\n\n\
    Exit code 0: all is well; 1: there is something to look at, which is said first.")]
pub(crate) struct Asked {
    /// Over the last so many minutes, 1 to 10,080; 60 unless given
    #[arg(long)]
    minutes: Option<u32>,
    /// Print the API's answer as it is
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example: tocsin audit --object 'notification 17'\n\n\
    Requests are not here: `tocsin requests` has them all, each with the key that sent it.")]
pub(crate) struct Audit {
    /// Of one object, such as 'notification 17' or 'channel phone'
    #[arg(long)]
    object: Option<String>,
    #[command(flatten)]
    page: Page,
    /// Print the API's own objects, one a line
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    problems: Vec<String>,
    programs: Vec<Program>,
    pauses: Vec<Pause>,
    // An API of before there were schedules has none of the three.
    #[serde(default)]
    leases: Vec<Lease>,
    #[serde(default)]
    schedules: i64,
    #[serde(default)]
    schedules_overdue: i64,
    channels: Vec<Channel>,
    queues: Vec<Queue>,
    queues_unknown: Option<String>,
    open_failures: i64,
    dead_letters: i64,
    minutes: u32,
}

#[derive(Deserialize)]
struct Program {
    program: String,
    copies: i64,
    versions: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
struct Queue {
    queue: String,
    messages: Option<i64>,
    consumers: Option<i64>,
}

#[derive(Deserialize)]
struct Pause {
    channel: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Channel {
    channel: String,
    unfinished: BTreeMap<String, i64>,
    first_due_at: Option<String>,
    finished: BTreeMap<String, i64>,
    lateness_seconds: Option<Lateness>,
}

#[derive(Deserialize)]
struct Lateness {
    p50: f64,
    p99: f64,
    max: f64,
}

#[derive(Deserialize)]
struct Entry {
    id: i64,
    at: String,
    actor: String,
    action: String,
    object: String,
    before: Option<Value>,
    after: Option<Value>,
}

/// Shows how things are, and answers whether they are well.
pub(crate) async fn show(asked: &Asked, client: &Client) -> Result<(), Problem> {
    let answer = client.get(&["status"], &[("minutes", asked.minutes.map(|minutes| minutes.to_string()))]).await?;
    let status: Status = answer.read()?;
    print(&if asked.json { format!("{}\n", answer.text) } else { status.screen(&answer) });
    if status.problems.is_empty() { Ok(()) } else { Err(Problem::said(NOT_DONE)) }
}

impl Status {
    fn screen(&self, answer: &Answer) -> String {
        let mut text = if self.problems.is_empty() {
            format!("{}\n", coloured("32", "all is well"))
        } else {
            let number = i64::try_from(self.problems.len()).unwrap_or(i64::MAX);
            format!("{}\n", coloured("31", &count(number, "problem")))
        };
        self.problems.iter().for_each(|problem| text.push_str(&format!("  {}\n", plain(problem))));
        self.what_to_do().iter().for_each(|(command, what)| text.push_str(&format!("    {command:<24} {what}\n")));
        let mut programs = Table::new(&["PROGRAM", "COPIES", "VERSIONS"]);
        for Program { program, copies, versions } in &self.programs {
            let versions: Vec<_> = versions.keys().map(String::as_str).collect();
            programs.row([program.as_str().into(), (*copies).into(), versions.join(", ").into()]);
        }
        let period = format!(
            "\nwhat waits, and what came to its end in the last {} min, how late it was called\n",
            self.minutes
        );
        let unknown = self.queues_unknown.as_ref();
        let unknown = unknown.map_or_else(String::new, |why| format!("the broker's queues: {}\n", plain(why)));
        text + "\n" + &programs.text(0) + &self.duties(answer) + &period + &self.channels(answer).text(0) + &unknown
    }

    /// Who has which duty, and how much the scheduler has to do.
    fn duties(&self, answer: &Answer) -> String {
        if self.leases.is_empty() {
            return String::new();
        }
        let (active, overdue) = (count(self.schedules, "schedule"), self.schedules_overdue);
        let leases = Lease::table(&self.leases, answer.now).text(0);
        format!("\n{active} to come, {overdue} overdue\n{leases}")
    }

    fn channels(&self, answer: &Answer) -> Table {
        let titles = &[
            "CHANNEL",
            "IN ITS QUEUE",
            "WORKERS",
            "WAITS",
            "FIRST DUE",
            "ENDED",
            "HALF WITHIN",
            "99 % WITHIN",
            "ALL WITHIN",
        ];
        let mut table = Table::new(titles);
        for channel in &self.channels {
            let due = channel.first_due_at.as_deref().map_or_else(String::new, |at| time(at, answer.now));
            let late = channel.lateness_seconds.as_ref();
            let name = format!("notify.{}", channel.channel);
            let queue = self.queues.iter().find(|queue| queue.queue == name);
            let within = |value: fn(&Lateness) -> f64| -> Cell {
                late.map_or_else(|| "".into(), |late| seconds(value(late)).into())
            };
            table.row([
                channel.channel.as_str().into(),
                queue.and_then(|queue| queue.messages).map_or_else(|| "?".into(), Cell::from),
                queue.and_then(|queue| queue.consumers).map_or_else(|| "?".into(), Cell::from),
                counts(&channel.unfinished).into(),
                due.into(),
                counts(&channel.finished).into(),
                within(|late| late.p50),
                within(|late| late.p99),
                within(|late| late.max),
            ]);
        }
        table
    }

    /// Commands that help, and what with.
    fn what_to_do(&self) -> Vec<(String, &'static str)> {
        let resume = |pause: &Pause| (format!("tocsin resume {}", plain(&pause.channel)), "lets it go on");
        let mut help: Vec<_> = self.pauses.iter().map(resume).collect();
        if self.open_failures > 0 {
            help.push(("tocsin failures".to_owned(), "shows why they failed, and how to try them again"));
        }
        if self.dead_letters > 0 {
            help.push(("tocsin list dead-letters".to_owned(), "shows what no worker could use"));
        }
        if self.schedules_overdue > 0 {
            help.push(("tocsin leases".to_owned(), "shows who is to start what schedules say"));
        }
        // A channel for which there is nothing to send may have no workers.
        let is_needed = |program: &str| match program.strip_prefix("notifier-") {
            Some(name) => self.channels.iter().any(|channel| channel.channel == name && !channel.unfinished.is_empty()),
            None => true,
        };
        if self.programs.iter().any(|one| one.copies == 0 && is_needed(&one.program)) {
            help.push(("tocsin check".to_owned(), "says of each program what it lacks, where they run"));
        }
        help
    }
}

fn counts(by_state: &BTreeMap<String, i64>) -> String {
    let counts: Vec<_> = by_state.iter().map(|(state, number)| format!("{number} {state}")).collect();
    if counts.is_empty() { "-".to_owned() } else { counts.join(", ") }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 600.0 => format!("{s:.0} s"),
        s => format!("{:.0} min", s / 60.0),
    }
}

pub(crate) async fn audit(audit: &Audit, client: &Client) -> Result<(), Problem> {
    let parameters = [("object", audit.object.clone()), audit.page.before(), audit.page.limit()];
    let answer = client.get(&["audit"], &parameters).await?;
    if audit.json {
        print(&lines(&answer.read::<List<Value>>()?.items));
        return Ok(());
    }
    let list: List<Entry> = answer.read()?;
    let mut table = Table::new(&["ID", "AT", "WHO", "DID", "TO", "FROM", "TO"]);
    for one in &list.items {
        let value = |value: &Option<Value>| -> Cell {
            value.as_ref().filter(|value| !value.is_null()).map(ToString::to_string).unwrap_or_default().into()
        };
        table.row([
            one.id.into(),
            exact(&one.at).into(),
            one.actor.as_str().into(),
            one.action.as_str().into(),
            one.object.as_str().into(),
            value(&one.before),
            value(&one.after),
        ]);
    }
    print(&next(&table, list.next, "nobody has changed such a thing"));
    Ok(())
}

#[derive(clap::Args)]
pub(crate) struct Letters {
    #[command(flatten)]
    page: Page,
    /// Print the API's own objects, one a line
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Letter {
    id: i64,
    received_at: String,
    queue: String,
    reason: String,
    notifications: Vec<i64>,
    body: String,
}

pub(crate) async fn dead_letters(letters: &Letters, client: &Client) -> Result<(), Problem> {
    let answer = client.get(&["dead-letters"], &[letters.page.before(), letters.page.limit()]).await?;
    if letters.json {
        print(&lines(&answer.read::<List<Value>>()?.items));
        return Ok(());
    }
    let list: List<Letter> = answer.read()?;
    let mut table = Table::new(&["ID", "AT", "QUEUE", "WHY", "NOTIFICATIONS", "BODY"]);
    for one in &list.items {
        let ids: Vec<_> = one.notifications.iter().map(ToString::to_string).collect();
        table.row([
            one.id.into(),
            exact(&one.received_at).into(),
            one.queue.as_str().into(),
            one.reason.as_str().into(),
            ids.join(" ").into(),
            one.body.as_str().into(),
        ]);
    }
    print(&next(&table, list.next, "there are none"));
    Ok(())
}
