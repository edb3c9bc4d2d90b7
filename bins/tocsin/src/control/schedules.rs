//! Schedules: how they are typed, and which request of the API each command is. How they look: `schedule_screens.rs`.

use clap::Subcommand;
use domain::schedule::{OnMissed, Overlap};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    Page,
    client::{Answer, Body, Client},
    ladder::Ladder,
    orders,
    page::{List, next},
    schedule_screens::{Occurrence, Schedule},
    screen::{lines, print},
};
use crate::{BAD_USAGE, NOT_DONE, Problem};

const PROCESS: &str = "{{ schedule.name }}-{{ scheduled_at }}";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List schedules, the newest first
    List(Filter),
    /// Show a schedule with its next ten occurrences and its last failures
    #[command(after_help = "Example: tocsin schedule show daily")]
    Show(One),
    /// Make a schedule: a process is started at each of its occurrences
    Create(Create),
    /// Change all of a schedule
    Edit(Edit),
    /// Let nothing of a schedule start until it is resumed
    #[command(after_help = "Example: tocsin schedule pause daily")]
    Pause(One),
    /// Let a schedule go on; what came while it was paused was not missed
    #[command(after_help = "Example: tocsin schedule resume daily")]
    Resume(One),
    /// Start what a schedule says, now, paused or not
    Trigger(Trigger),
    /// Start the occurrences of a time that is over, each that has not started yet
    Backfill(Backfill),
    /// Delete a schedule; what it has started goes on
    #[command(after_help = "Example: tocsin schedule delete daily")]
    Delete(Named),
}

#[derive(clap::Args)]
pub(crate) struct Filter {
    /// Somebody's
    #[arg(long)]
    owner: Option<String>,
    /// What is called so elsewhere
    #[arg(long)]
    external_id: Option<String>,
    #[command(flatten)]
    page: Page,
    /// Print the API's own objects, one a line
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct Named {
    /// Its number or its name; what has digits only is a number
    #[arg(value_name = "SCHEDULE")]
    schedule: String,
}

#[derive(clap::Args)]
pub(crate) struct One {
    #[command(flatten)]
    named: Named,
    /// Print the API's answer as it is
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    tocsin schedule create daily --cron '0 9 * * MON-FRI' --time-zone Europe/Zagreb --notify phone:+3851111111@+2m\n  \
    tocsin schedule create --file daily.json\n\n\
    WHEN of --notify is counted from the occurrence: now, +2m. Texts are templates, as README.md says.")]
pub(crate) struct Create {
    /// What it is called; no other has the name
    #[arg(required_unless_present = "file", requires_all = ["cron", "notify"])]
    name: Option<String>,
    /// When: 5 fields, or 6 of which the first is seconds, @daily or @every 90s; as often as needed
    #[arg(long, value_name = "LINE")]
    cron: Vec<String>,
    /// Where the lines' clock stands, such as Europe/Zagreb; UTC unless given
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    #[command(flatten)]
    ladder: Ladder,
    /// What the processes are called; '{{ schedule.name }}-{{ scheduled_at }}' unless given
    #[arg(long, value_name = "TEMPLATE")]
    process_id: Option<String>,
    /// What becomes of occurrences that were missed: all, last or none; last unless given
    #[arg(long, value_name = "POLICY")]
    missed: Option<OnMissed>,
    /// What becomes of an occurrence while the process before is not finished: allow, skip or stop; allow unless given
    #[arg(long, value_name = "POLICY")]
    overlap: Option<Overlap>,
    /// A whole schedule as JSON, as README.md says, instead; - is standard input
    #[arg(long, conflicts_with_all = [
        "name", "cron", "time_zone", "notify", "set", "process_id", "missed", "overlap"
    ])]
    file: Option<String>,
    /// Print the API's answer as it is
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example: tocsin schedule edit daily --file daily.json\n\n\
    What the file does not give is as in a new one, but for `from`, which stays.")]
pub(crate) struct Edit {
    #[command(flatten)]
    named: Named,
    /// The whole schedule as JSON, as README.md says; - is standard input
    #[arg(long)]
    file: String,
    /// Print the API's answer as it is
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example: tocsin schedule trigger daily\n\n\
    Exit code 1: it was refused, or ignored since the process still has something scheduled.")]
pub(crate) struct Trigger {
    #[command(flatten)]
    named: Named,
    /// The same for each try of one order, and for no other: 1 to 200 visible ASCII characters
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print the API's answer as it is
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example: tocsin schedule backfill daily --from 2026-11-20T00:00:00+01:00 --until 2026-11-22T00:00:00+01:00\n\n\
    Who asks twice starts each once. Exit code 1: one of them was refused or ignored."
)]
pub(crate) struct Backfill {
    #[command(flatten)]
    named: Named,
    /// From here on, RFC 3339
    #[arg(long, value_name = "TIME")]
    from: Timestamp,
    /// Before that, RFC 3339; not after now
    #[arg(long, value_name = "TIME")]
    until: Timestamp,
    /// Print the API's own objects, one a line
    #[arg(long)]
    json: bool,
}

impl Named {
    /// Its number.
    async fn id(&self, client: &Client) -> Result<String, Problem> {
        let name = &self.schedule;
        if !name.is_empty() && name.chars().all(|c| c.is_ascii_digit()) {
            return Ok(name.clone());
        }
        let found: List<Schedule> = client.get(&["schedules"], &[("name", Some(name.clone()))]).await?.read()?;
        let missing = || Problem::new(NOT_DONE, format!("there is no schedule {name:?}"));
        found.items.first().map(|schedule| schedule.id.to_string()).ok_or_else(missing)
    }

    async fn order(&self, what: &str, client: &Client) -> Result<Answer, Problem> {
        client.send(Method::POST, &["schedules", &self.id(client).await?, what], Body::Nothing).await
    }
}

impl Create {
    fn body(&self) -> Result<Body, Problem> {
        if let Some(file) = &self.file {
            return orders::text(file).map(Body::Text);
        }
        let bad = |error: String| Problem::new(BAD_USAGE, error);
        let name = self.name.as_deref().ok_or_else(|| bad("name a schedule, or a file".to_owned()))?;
        let line = |cron: &String| match &self.time_zone {
            Some(zone) => json!({"cron": cron, "time-zone": zone}),
            None => json!({"cron": cron}),
        };
        let process = self.process_id.as_deref().unwrap_or(PROCESS);
        let mut members = Map::new();
        members.insert("name".to_owned(), name.into());
        members.insert("lines".to_owned(), self.cron.iter().map(line).collect());
        members.insert("request".to_owned(), self.ladder.template(process).map_err(bad)?);
        for (key, policy) in
            [("missed", self.missed.map(OnMissed::as_str)), ("overlap", self.overlap.map(Overlap::as_str))]
        {
            if let Some(policy) = policy {
                members.insert(key.to_owned(), policy.into());
            }
        }
        Ok(Value::Object(members).into())
    }
}

pub(crate) async fn run(command: &Command, client: &Client) -> Result<(), Problem> {
    match command {
        Command::List(filter) => list(filter, client).await,
        Command::Show(One { named, json }) => {
            let answer = client.get(&["schedules", &named.id(client).await?], &[]).await?;
            tell(&answer, *json, Schedule::story)
        }
        Command::Create(create) => {
            let answer = client.send(Method::POST, &["schedules"], create.body()?).await?;
            tell(&answer, create.json, |schedule, answer| schedule.done("is made", answer.now))
        }
        Command::Edit(Edit { named, file, json }) => {
            let body = Body::Text(orders::text(file)?);
            let answer = client.send(Method::PUT, &["schedules", &named.id(client).await?], body).await?;
            tell(&answer, *json, |schedule, answer| schedule.done("is changed", answer.now))
        }
        Command::Pause(One { named, json }) => tell(&named.order("pause", client).await?, *json, |schedule, answer| {
            schedule.done("starts nothing", answer.now)
        }),
        Command::Resume(One { named, json }) => {
            tell(&named.order("resume", client).await?, *json, |schedule, answer| schedule.done("goes on", answer.now))
        }
        Command::Trigger(trigger) => self::trigger(trigger, client).await,
        Command::Backfill(backfill) => self::backfill(backfill, client).await,
        Command::Delete(named) => {
            let id = named.id(client).await?;
            client.send(Method::DELETE, &["schedules", &id], Body::Nothing).await?;
            print(&format!("schedule {id} is deleted; what it has started goes on\n"));
            Ok(())
        }
    }
}

/// Shows a schedule that the API answers, in these words.
fn tell(answer: &Answer, json: bool, words: impl Fn(&Schedule, &Answer) -> String) -> Result<(), Problem> {
    let text = if json { format!("{}\n", answer.text) } else { words(&answer.read()?, answer) };
    print(&text);
    Ok(())
}

async fn list(filter: &Filter, client: &Client) -> Result<(), Problem> {
    let parameters = [
        ("owner", filter.owner.clone()),
        ("external-id", filter.external_id.clone()),
        filter.page.before(),
        filter.page.limit(),
    ];
    let answer = client.get(&["schedules"], &parameters).await?;
    if filter.json {
        print(&lines(&answer.read::<List<Value>>()?.items));
        return Ok(());
    }
    let list: List<Schedule> = answer.read()?;
    print(&next(&Schedule::table(&list.items, answer.now), list.next, "no schedule is like that"));
    Ok(())
}

async fn trigger(trigger: &Trigger, client: &Client) -> Result<(), Problem> {
    let path = ["schedules", &trigger.named.id(client).await?, "trigger"];
    let key = trigger.idempotency_key.as_deref();
    let answer = client.send_with(Method::POST, &path, Body::Nothing, key).await?;
    orders::show_result(&answer, trigger.json, &answer.read::<Occurrence>()?.request)
}

async fn backfill(backfill: &Backfill, client: &Client) -> Result<(), Problem> {
    let path = ["schedules", &backfill.named.id(client).await?, "backfill"];
    let body = json!({"from": backfill.from.to_string(), "until": backfill.until.to_string()});
    let answer = client.send(Method::POST, &path, body.into()).await?;
    let occurrences: Vec<Occurrence> = answer.read()?;
    if backfill.json {
        print(&lines(&answer.read::<Vec<Value>>()?));
    } else {
        print(&Occurrence::screen(&occurrences));
    }
    if occurrences.iter().all(Occurrence::has_started) { Ok(()) } else { Err(Problem::said(NOT_DONE)) }
}
