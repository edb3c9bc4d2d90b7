use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{NewSchedule, ScheduleChange, ScheduleFailure, ScheduleFilter, ScheduleRecord};
use utoipa::{IntoParams, ToSchema};
use wire::{Occasion, ScheduleDefinition, check_template, parse_schedule};

use crate::{
    Api,
    auth::{Caller, MayOperate, MayRead},
    input::{List, Number, Parameters, RawBody, must_be, page},
    problem::{FieldError, Problem},
    view::{reasons, time},
};

/// So many occurrences to come are shown.
const SHOWN: usize = 10;

/// So many failures are shown.
const SHOWN_FAILURES: i64 = 5;

/// What went wrong with an occurrence, and waits for a person.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct OccurrenceFailure {
    /// When the notification failed, or the request was rejected.
    pub(crate) at: String,
    /// The request that the occurrence is.
    pub(crate) request: i64,
    /// Its process, if that could be read.
    pub(crate) process_id: Option<String>,
    /// The notification that failed; nothing if the request was rejected.
    pub(crate) notification: Option<i64>,
    pub(crate) channel: Option<String>,
    /// What the provider said last, why Tocsin gave it up, or why the request was rejected.
    pub(crate) reason: String,
}

impl From<ScheduleFailure> for OccurrenceFailure {
    fn from(failure: ScheduleFailure) -> Self {
        let rejected =
            || reasons(failure.reasons.as_ref()).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Self {
            at: time(failure.at),
            request: failure.request,
            notification: failure.notification,
            reason: failure.cause.clone().unwrap_or_else(rejected),
            process_id: failure.process,
            channel: failure.channel,
        }
    }
}

/// A schedule.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ScheduleView {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) owner: Option<String>,
    pub(crate) external_id: Option<String>,
    /// Each with its `cron` and its `time-zone`.
    pub(crate) lines: Value,
    pub(crate) from: String,
    pub(crate) until: Option<String>,
    /// `all`, `last` or `none`.
    pub(crate) missed: &'static str,
    pub(crate) missed_window: u64,
    /// `allow`, `skip` or `stop`.
    pub(crate) overlap: &'static str,
    /// The request with its templates. It holds addresses: nothing for a key of role `read`.
    pub(crate) request: Option<Value>,
    /// Since when nothing starts, as somebody said so.
    pub(crate) paused_at: Option<String>,
    /// The next occurrences, at most ten; while it is paused, those that there would be. None in a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) occurrences: Vec<String>,
    /// What went wrong last with what it has started in its newest 1,000 occurrences, and waits for a person: at most five, the
    /// newest first. None in a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) failures: Vec<OccurrenceFailure>,
    /// The next occurrence; nothing if it is paused or over.
    pub(crate) next_at: Option<String>,
    /// The last occurrence that was looked at.
    pub(crate) last_at: Option<String>,
    /// The process that it started last.
    pub(crate) last_process: Option<String>,
    /// The source of its requests in `/v1/requests`.
    pub(crate) source: String,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
}

impl ScheduleView {
    fn new(record: ScheduleRecord, with_addresses: bool) -> Self {
        let source = record.source();
        let said = record.said;
        Self {
            id: record.id,
            name: said.name,
            owner: said.owner,
            external_id: said.external_id,
            lines: said.lines,
            from: time(record.starts_at),
            until: said.ends_at.map(time),
            missed: said.on_missed.as_str(),
            missed_window: said.missed_window.as_secs(),
            overlap: said.overlap.as_str(),
            request: with_addresses.then_some(said.request),
            paused_at: record.paused_at.map(time),
            occurrences: Vec::new(),
            failures: Vec::new(),
            next_at: record.next_at.map(time),
            last_at: record.last_at.map(time),
            last_process: record.last_process,
            source,
            created_at: time(record.created_at),
            updated_at: time(record.updated_at),
        }
    }
}

/// Which schedules.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Filter {
    /// The one of this name.
    pub(crate) name: Option<String>,
    /// Somebody's.
    pub(crate) owner: Option<String>,
    /// What is called so elsewhere.
    pub(crate) external_id: Option<String>,
    /// Only what is older than this: `next` of the page before.
    pub(crate) before: Option<i64>,
    /// At most so many, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub(crate) limit: Option<i64>,
}

/// List schedules, the newest first
#[utoipa::path(
    get, path = "/v1/schedules", tag = "schedules", params(Filter),
    responses((status = 200, body = List<ScheduleView>))
)]
pub(crate) async fn list(
    MayRead(caller): MayRead,
    State(api): State<Arc<Api>>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<List<ScheduleView>>, Problem> {
    let page = page(filter.before, filter.limit)?;
    let which = ScheduleFilter {
        name: filter.name.as_deref(),
        owner: filter.owner.as_deref(),
        external_id: filter.external_id.as_deref(),
    };
    let with_addresses = caller.sees_addresses();
    let found = api.store.schedules(which, page).await?;
    let views = found.into_iter().map(|one| ScheduleView::new(one, with_addresses)).collect();
    Ok(Json(List::new(views, page, |view: &ScheduleView| view.id)))
}

/// One schedule, with its next ten occurrences and its last failures
#[utoipa::path(
    get, path = "/v1/schedules/{id}", tag = "schedules", params(("id" = i64, Path)),
    responses(
        (status = 200, body = ScheduleView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    MayRead(caller): MayRead,
    State(api): State<Arc<Api>>,
    Number(id): Number,
) -> Result<Json<ScheduleView>, Problem> {
    shown(&api, &caller, find(&api, id).await?).await.map(Json)
}

pub(crate) async fn find(api: &Api, id: i64) -> Result<ScheduleRecord, Problem> {
    api.store.schedule(id).await?.ok_or_else(|| Problem::not_found(format!("there is no schedule {id}")))
}

async fn shown(api: &Api, caller: &Caller, record: ScheduleRecord) -> Result<ScheduleView, Problem> {
    let timetable = record.timetable().map_err(|error| Problem::bug(&error))?;
    let now = api.store.now().await?;
    let first = record.next_at.or_else(|| timetable.next_after(now));
    let to_come = std::iter::successors(first, |last| timetable.next_after(*last));
    let occurrences = to_come.take(SHOWN).map(time).collect();
    let failures = api.store.failures_of_schedule(&record, SHOWN_FAILURES).await?;
    let failures = failures.into_iter().map(OccurrenceFailure::from).collect();
    Ok(ScheduleView { occurrences, failures, ..ScheduleView::new(record, caller.sees_addresses()) })
}

/// What was said, checked, with its first occurrence after now.
struct Said {
    new: NewSchedule,
    starts_at: Timestamp,
    next_at: Option<Timestamp>,
}

impl Said {
    /// `old` is what is to be changed.
    async fn read(api: &Api, headers: &HeaderMap, body: &[u8], old: Option<&ScheduleRecord>) -> Result<Self, Problem> {
        must_be(headers, "application/json")?;
        let invalid =
            |reasons: Vec<wire::Reason>| Problem::invalid(reasons.into_iter().map(FieldError::from).collect());
        let said: ScheduleDefinition = parse_schedule(body).map_err(invalid)?;
        let now = api.store.now().await?;
        // Whole seconds, as `at` of a notification is.
        let whole = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap_or(at);
        let starts_at = said.from.map_or_else(|| old.map_or(whole(now), |old| old.starts_at), whole);
        let new = NewSchedule {
            name: said.name,
            owner: said.owner,
            external_id: said.external_id,
            lines: said.lines_as_given,
            starts_at: said.from,
            ends_at: said.until,
            on_missed: said.on_missed,
            missed_window: said.missed_window,
            overlap: said.overlap,
            request: said.request,
        };
        let timetable = domain::schedule::Timetable { lines: said.lines, start: starts_at, end: said.until };
        let next_at = timetable.next_after(now);
        let Some(first) = next_at else {
            return Err(Problem::field("until", "leaves nothing that is still to come"));
        };
        let occasion = Occasion {
            at: first,
            id: old.map_or(1, |old| old.id),
            name: &new.name,
            owner: new.owner.as_deref(),
            external_id: new.external_id.as_deref(),
        };
        let reasons = check_template(&new.request, occasion);
        if !reasons.is_empty() {
            return Err(invalid(reasons));
        }
        Ok(Self { new, starts_at, next_at })
    }
}

/// What became of a change, as an answer; the activators are told.
async fn changed(api: &Api, caller: &Caller, change: ScheduleChange) -> Result<ScheduleView, Problem> {
    match change {
        ScheduleChange::Done(record) => {
            // The scheduler's poll makes up for a hint that is lost.
            if let Err(error) = api.store.hint_schedule().await {
                tracing::debug!(%error, "no hint");
            }
            shown(api, caller, *record).await
        }
        ScheduleChange::Missing => Err(Problem::conflict("somebody else has changed it just now: look at it again")),
        ScheduleChange::NameTaken => Err(Problem::field("name", "is the name of another schedule")),
    }
}

/// Make a schedule
///
/// Its template is tried with its first occurrence.
#[utoipa::path(
    post, path = "/v1/schedules", tag = "schedules",
    request_body(content = ref("#/components/schemas/Schedule"), content_type = "application/json"),
    responses(
        (status = 201, body = ScheduleView),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<(StatusCode, Json<ScheduleView>), Problem> {
    let Said { new, starts_at, next_at } = Said::read(&api, &headers, &body, None).await?;
    let change = api.store.schedule_create(&new, starts_at, next_at, &caller.actor()).await?;
    Ok((StatusCode::CREATED, Json(changed(&api, &caller, change).await?)))
}

/// Change all of a schedule
///
/// What is not given is as in a new one, but for `from`, which stays. What was missed before is not made up for.
#[utoipa::path(
    put, path = "/v1/schedules/{id}", tag = "schedules", params(("id" = i64, Path)),
    request_body(content = ref("#/components/schemas/Schedule"), content_type = "application/json"),
    responses(
        (status = 200, body = ScheduleView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn edit(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    Number(id): Number,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Json<ScheduleView>, Problem> {
    let old = find(&api, id).await?;
    let Said { new, starts_at, next_at } = Said::read(&api, &headers, &body, Some(&old)).await?;
    let change = api.store.schedule_edit(&old, &new, starts_at, next_at, &caller.actor()).await?;
    changed(&api, &caller, change).await.map(Json)
}

/// Delete a schedule
///
/// What it has started goes on.
#[utoipa::path(
    delete, path = "/v1/schedules/{id}", tag = "schedules", params(("id" = i64, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn delete(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    Number(id): Number,
) -> Result<StatusCode, Problem> {
    match api.store.schedule_delete(id, &caller.actor()).await? {
        ScheduleChange::Done(_) => Ok(StatusCode::NO_CONTENT),
        ScheduleChange::Missing | ScheduleChange::NameTaken => {
            Err(Problem::not_found(format!("there is no schedule {id}")))
        }
    }
}

/// Let nothing of a schedule start until it is resumed
#[utoipa::path(
    post, path = "/v1/schedules/{id}/pause", tag = "schedules", params(("id" = i64, Path)),
    responses(
        (status = 200, body = ScheduleView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn pause(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    Number(id): Number,
) -> Result<Json<ScheduleView>, Problem> {
    let old = find(&api, id).await?;
    if old.paused_at.is_some() {
        return shown(&api, &caller, old).await.map(Json);
    }
    let change = api.store.schedule_pause(&old, &caller.actor()).await?;
    changed(&api, &caller, change).await.map(Json)
}

/// Let a schedule go on
///
/// With its first occurrence from now on: what came while it was paused was not missed.
#[utoipa::path(
    post, path = "/v1/schedules/{id}/resume", tag = "schedules", params(("id" = i64, Path)),
    responses(
        (status = 200, body = ScheduleView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn resume(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    Number(id): Number,
) -> Result<Json<ScheduleView>, Problem> {
    let old = find(&api, id).await?;
    if old.paused_at.is_none() {
        return shown(&api, &caller, old).await.map(Json);
    }
    let timetable = old.timetable().map_err(|error| Problem::bug(&error))?;
    let next_at = timetable.next_after(api.store.now().await?);
    let change = api.store.schedule_resume(&old, next_at, &caller.actor()).await?;
    changed(&api, &caller, change).await.map(Json)
}
