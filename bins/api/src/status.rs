use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use domain::{CHANNELS, Channel};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{AuditRecord, DeadLetterRecord, Work};
use utoipa::{IntoParams, ToSchema};

use crate::{
    Api,
    auth::{MayAdminister, MayRead},
    channels::PauseView,
    input::{List, Paging, Parameters, page},
    problem::Problem,
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
    pub(crate) channels: Vec<ChannelStatus>,
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
    /// Connections that all its copies have to the database. None means that no copy of it runs, or can reach it.
    pub(crate) connections: i64,
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
/// Which programs are connected, what waits and what was done by channel and state, how late, and what to look at.
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
    let report = api.store.status(f64::from(minutes) * 60.0, &names).await?;
    let pauses: Vec<PauseView> = api.store.channel_pauses().await?.into_iter().map(PauseView::from).collect();
    let connections =
        |program: &str| report.connected.iter().find(|one| one.program == program).map_or(0, |one| one.connections);
    let programs: Vec<_> = programs
        .iter()
        .map(|program| ProgramView { program: program.clone(), connections: connections(program) })
        .collect();
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
    let channels: Vec<_> = channels.collect();
    Ok(Json(Status {
        now: time(report.now),
        problems: problems(&programs, &pauses, &channels, report.open_failures, report.dead_letters),
        programs,
        pauses,
        channels,
        open_failures: report.open_failures,
        dead_letters: report.dead_letters,
        minutes,
    }))
}

/// What somebody should look at, the worst first.
fn problems(
    programs: &[ProgramView],
    pauses: &[PauseView],
    channels: &[ChannelStatus],
    open_failures: i64,
    dead_letters: i64,
) -> Vec<String> {
    let away = |name: &str| programs.iter().any(|one| one.program == name && one.connections == 0);
    let mut problems = Vec::new();
    for (program, harm) in
        [("activator", "nothing that becomes due is sent"), ("bridge", "no request is taken from SQS")]
    {
        if away(program) {
            problems.push(format!("{program} is not connected to the database: {harm}; start it, or read its log"));
        }
    }
    for channel in channels {
        let waiting: i64 = channel.unfinished.values().sum();
        let program = format!("notifier-{}", channel.channel);
        if waiting > 0 && away(&program) {
            problems
                .push(format!("{program} is not connected to the database, and {waiting} notifications wait for it"));
        }
    }
    problems.extend(pauses.iter().map(PauseView::sentence));
    if open_failures > 0 {
        problems.push(format!("{open_failures} failed notifications wait for a person: see /v1/failures"));
    }
    if dead_letters > 0 {
        problems.push(format!("{dead_letters} messages could be used by no worker: see /v1/dead-letters"));
    }
    problems
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
