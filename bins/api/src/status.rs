use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use domain::{CHANNELS, Channel};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{AuditRecord, Connected, DeadLetterRecord, SCHEDULER, Work};
use utoipa::{IntoParams, ToSchema};

use crate::{
    Api,
    auth::{MayAdminister, MayRead},
    channels::PauseView,
    input::{List, Paging, Parameters, page},
    leases::{self, LeaseView},
    problem::Problem,
    queues::{DEAD, QueueView, Unknown},
    view::time,
};

const MAX_MINUTES: u32 = 7 * 24 * 60;

/// Over what time.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Period {
    /// The last so many minutes, 1 to 10,080; 60 unless given.
    #[param(minimum = 1, maximum = 10080)]
    minutes: Option<u32>,
}

/// How things are.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Status {
    /// The database's time.
    pub(crate) now: String,
    /// What somebody should look at; empty if all is well.
    pub(crate) problems: Vec<String>,
    pub(crate) programs: Vec<ProgramView>,
    pub(crate) pauses: Vec<PauseView>,
    /// Duties that one process at a time has.
    pub(crate) leases: Vec<LeaseView>,
    /// Schedules that will start something.
    pub(crate) schedules: i64,
    /// Schedules that should have started something more than 10 s ago.
    pub(crate) schedules_overdue: i64,
    pub(crate) channels: Vec<ChannelStatus>,
    /// The broker's queues; empty if nothing is known of them.
    pub(crate) queues: Vec<QueueView>,
    /// Why nothing is known of the queues, if it is so.
    pub(crate) queues_unknown: Option<String>,
    /// Failures that wait for a person.
    pub(crate) open_failures: i64,
    /// Messages that no worker could use.
    pub(crate) dead_letters: i64,
    /// The period in minutes that `finished` and `lateness-seconds` are of.
    pub(crate) minutes: u32,
}

/// A program, as the database sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProgramView {
    pub(crate) program: String,
    /// How many copies of it run and reach the database.
    pub(crate) copies: i64,
    /// How many copies of each version.
    pub(crate) versions: BTreeMap<String, i64>,
    /// Connections that all its copies have to the database.
    pub(crate) connections: i64,
}

impl ProgramView {
    fn new(program: &str, connected: &[Connected]) -> Self {
        let mine = || connected.iter().filter(|one| one.program == program);
        Self {
            program: program.to_owned(),
            copies: mine().map(|one| one.copies).sum(),
            versions: mine().map(|one| (one.version.clone(), one.copies)).collect(),
            connections: mine().map(|one| one.connections).sum(),
        }
    }
}

/// Work of one channel.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ChannelStatus {
    pub(crate) channel: &'static str,
    /// What has not come to its end, by state.
    pub(crate) unfinished: BTreeMap<String, i64>,
    /// The time of what is due first, or was.
    pub(crate) first_due_at: Option<String>,
    /// What came to its end within the period, by state. `delivered` means that the provider accepted it.
    pub(crate) finished: BTreeMap<String, i64>,
    /// How late the first calls began, of the newest 10,000 that came to their end within the period.
    pub(crate) lateness_seconds: Option<LatenessView>,
}

/// In seconds after the time that was asked for, or after the request was accepted, if that was later.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LatenessView {
    pub(crate) count: i64,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// How things are
///
/// Which programs run, what waits and what was done by channel and state, how late, what the broker's queues have, and
/// what to look at.
#[utoipa::path(
    get, path = "/v1/status", tag = "status", params(Period),
    responses((status = 200, body = Status), (status = 422, body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn status(
    MayRead(_): MayRead,
    State(api): State<Arc<Api>>,
    Parameters(period): Parameters<Period>,
) -> Result<Json<Status>, Problem> {
    let minutes = period.minutes.unwrap_or(60);
    if !(1..=MAX_MINUTES).contains(&minutes) {
        return Err(Problem::field("minutes", format!("must be from 1 to {MAX_MINUTES}")));
    }
    let programs: Vec<_> = ["bridge".to_owned(), "activator".to_owned(), "api".to_owned()]
        .into_iter()
        .chain(CHANNELS.iter().map(Channel::program))
        .collect();
    let names: Vec<&str> = programs.iter().map(String::as_str).collect();
    let (report, queues) = tokio::join!(api.store.status(f64::from(minutes) * 60.0, &names), api.queues.look());
    let report = report?;
    let pauses: Vec<PauseView> = api.store.channel_pauses().await?.into_iter().map(PauseView::from).collect();
    let leases = leases::look(&api.store, report.now).await?;
    let schedules = api.store.schedule_counts().await?;
    let programs: Vec<_> = programs.iter().map(|program| ProgramView::new(program, &report.connected)).collect();
    let channels = CHANNELS.iter().map(|channel| {
        let unfinished: Vec<&Work> = report.unfinished.iter().filter(|work| work.channel == channel.name).collect();
        let finished = report.finished.iter().filter(|work| work.channel == channel.name);
        let late = report.lateness.iter().find(|late| late.channel == channel.name);
        ChannelStatus {
            channel: channel.name,
            first_due_at: unfinished.iter().filter_map(|work| work.first_due_at).min().map(time),
            unfinished: unfinished.iter().map(|work| (work.state.clone(), work.count)).collect(),
            finished: finished.map(|work| (work.state.clone(), work.count)).collect(),
            lateness_seconds: late.map(|late| LatenessView {
                count: late.count,
                p50: late.p50,
                p95: late.p95,
                p99: late.p99,
                max: late.max,
            }),
        }
    });
    let mut status = Status {
        now: time(report.now),
        problems: Vec::new(),
        programs,
        pauses,
        leases,
        schedules: schedules.active,
        schedules_overdue: schedules.overdue,
        channels: channels.collect(),
        queues: Vec::new(),
        queues_unknown: None,
        open_failures: report.open_failures,
        dead_letters: report.dead_letters,
        minutes,
    };
    let away = match queues {
        Ok(queues) => {
            status.queues = queues;
            None
        }
        Err(Unknown::NotConfigured) => {
            status.queues_unknown = Some("the api was not told where the broker is: set TOCSIN_BROKER__URL".to_owned());
            None
        }
        Err(Unknown::Away(why)) => {
            status.queues_unknown = Some(why.clone());
            Some(why)
        }
    };
    status.problems = problems(&status, away.as_deref());
    Ok(Json(status))
}

/// What somebody should look at, the worst first. `broker_away`: what the broker said, if that was no answer.
fn problems(status: &Status, broker_away: Option<&str>) -> Vec<String> {
    let away = |name: &str| status.programs.iter().any(|one| one.program == name && one.copies == 0);
    let mut problems = Vec::new();
    for (program, harm) in
        [("activator", "nothing that becomes due is sent"), ("bridge", "no request is taken from SQS")]
    {
        if away(program) {
            problems.push(format!("{program} is not connected to the database: {harm}; start it, or read its log"));
        }
    }
    if let Some(why) = broker_away {
        problems.push(format!("the queues can't be seen ({why}): see that RabbitMQ runs, and knows the user api"));
    }
    problems.extend(unheld(status));
    for channel in &status.channels {
        let program = format!("notifier-{}", channel.channel);
        problems.extend(unserved(channel, away(&program), status.queue(&wire::queue_name(channel.channel))));
    }
    for queue in status.queues.iter().filter(|queue| queue.messages.is_none()) {
        problems.push(format!("queue {} is missing: import rabbitmq/definitions.json", queue.queue));
    }
    if let Some(QueueView { messages: Some(messages @ 1..), consumers: Some(0), .. }) = status.queue(DEAD) {
        problems.push(format!(
            "{messages} messages lie in queue {DEAD}, and no activator keeps them: start it, or read its log"
        ));
    }
    problems.extend(status.pauses.iter().map(PauseView::sentence));
    match status.open_failures {
        0 => {}
        1 => problems.push("1 failed notification waits for a person: retry it, or give it up".to_owned()),
        n => problems.push(format!("{n} failed notifications wait for a person: retry them, or give them up")),
    }
    match status.dead_letters {
        0 => {}
        1 => problems.push("1 message could be used by no worker: see the dead letters".to_owned()),
        n => problems.push(format!("{n} messages could be used by no worker: see the dead letters")),
    }
    problems
}

/// That schedules start nothing, or too late, if it is so.
fn unheld(status: &Status) -> Option<String> {
    let is_held = status.leases.iter().any(|lease| lease.lease == SCHEDULER && lease.is_held);
    match (status.schedules, status.schedules_overdue) {
        (0, _) => None,
        (n, _) if !is_held => Some(format!(
            "nobody holds the lease {SCHEDULER}, so {n} schedules start nothing: start an activator, or read its log"
        )),
        (_, 0) => None,
        (_, n) => {
            Some(format!("{n} schedules are overdue: read the log of the activator that holds the lease {SCHEDULER}"))
        }
    }
}

/// That nobody takes what a channel has to send, if it is so. A channel of which nothing waits and nothing was sent lately
/// is not in use, and need not be served.
fn unserved(channel: &ChannelStatus, is_away: bool, queue: Option<&QueueView>) -> Option<String> {
    let waiting: i64 = channel.unfinished.values().sum();
    let wait = if waiting == 1 { "1 notification waits".to_owned() } else { format!("{waiting} notifications wait") };
    let is_used = waiting > 0 || !channel.finished.is_empty() || queue.is_some_and(|queue| queue.messages > Some(0));
    let program = format!("notifier-{}", channel.channel);
    let has_no_consumer = queue.is_some_and(|queue| queue.consumers == Some(0));
    match (is_away, has_no_consumer) {
        _ if !is_used => None,
        (true, _) => {
            Some(format!("{program} is not connected to the database, and {wait} for it; start it, or read its log"))
        }
        (false, true) => Some(format!(
            "nobody takes from queue notify.{}, and {wait} for that: {program} reaches the database, \
             but not the broker; read its log",
            channel.channel
        )),
        (false, false) => None,
    }
}

impl Status {
    fn queue(&self, name: &str) -> Option<&QueueView> {
        self.queues.iter().find(|queue| queue.queue == name)
    }
}

/// A message that no worker could use.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DeadLetterView {
    pub(crate) id: i64,
    pub(crate) received_at: String,
    /// The queue that gave it up.
    pub(crate) queue: String,
    /// Why, as the broker says it.
    pub(crate) reason: String,
    /// The notifications that it names, if it could be read. They were woken, and are published again.
    pub(crate) notifications: Vec<i64>,
    pub(crate) body: String,
}

impl From<DeadLetterRecord> for DeadLetterView {
    fn from(letter: DeadLetterRecord) -> Self {
        Self {
            id: letter.id,
            received_at: time(letter.received_at),
            queue: letter.queue,
            reason: letter.reason,
            notifications: letter.notifications,
            body: String::from_utf8_lossy(&letter.body).into_owned(),
        }
    }
}

/// List messages that no worker could use
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = "status", params(Paging),
    responses((status = 200, body = List<DeadLetterView>))
)]
pub(crate) async fn dead_letters(
    MayRead(_): MayRead,
    State(api): State<Arc<Api>>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<List<DeadLetterView>>, Problem> {
    let page = paging.page()?;
    let found = api.store.dead_letters(page).await?.into_iter().map(DeadLetterView::from).collect();
    Ok(Json(List::new(found, page, |letter: &DeadLetterView| letter.id)))
}

/// What somebody changed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AuditView {
    pub(crate) id: i64,
    pub(crate) at: String,
    /// Who: `key 1a2b3c4d (name)`, or `maria@host` at a terminal.
    pub(crate) actor: String,
    /// What was done, such as `notification.retry`.
    pub(crate) action: String,
    /// To what, such as `notification 17`.
    pub(crate) object: String,
    /// What it was before. Of addresses only the ends are kept.
    pub(crate) before: Option<Value>,
    /// What it is since.
    pub(crate) after: Option<Value>,
}

impl From<AuditRecord> for AuditView {
    fn from(record: AuditRecord) -> Self {
        let AuditRecord { id, at, actor, action, object, before, after } = record;
        Self { id, at: time(at), actor, action, object, before, after }
    }
}

/// Which changes.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Of {
    /// Of one object, such as `notification 17` or `channel phone`.
    pub(crate) object: Option<String>,
    /// Only what is older than this: `next` of the page before.
    pub(crate) before: Option<i64>,
    /// At most so many, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub(crate) limit: Option<i64>,
}

/// What people changed, the newest first
///
/// Requests are not here: `/v1/requests` has them all, each with the key that sent it.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(Of), responses((status = 200, body = List<AuditView>)))]
pub(crate) async fn audit(
    MayAdminister(_): MayAdminister,
    State(api): State<Arc<Api>>,
    Parameters(of): Parameters<Of>,
) -> Result<Json<List<AuditView>>, Problem> {
    let page = page(of.before, of.limit)?;
    let found = api.store.audit_list(of.object.as_deref(), page).await?.into_iter().map(AuditView::from).collect();
    Ok(Json(List::new(found, page, |entry: &AuditView| entry.id)))
}
