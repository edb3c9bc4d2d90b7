use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{ReceivedRequest, RecordedRequest, RejectedRequest, RequestOutcome, ScheduleRecord};
use utoipa::ToSchema;
use wire::{Occasion, RenderedRequest, render_request};

use crate::{
    Api, apply,
    auth::{Caller, MayOperate},
    input::{Body, Number},
    problem::Problem,
    requests::{idempotency_key, unique},
    schedules::find,
    view::{RequestView, time},
};

/// The most occurrences of one backfill.
const MAX_OCCURRENCES: usize = 1_000;

/// What came of an occurrence that somebody wanted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct OccurrenceView {
    /// The occurrence.
    at: String,
    /// Whether this order made it; else it had started before, and nothing was done.
    is_new: bool,
    /// The request that it is.
    request: RequestView,
}

/// Start what a schedule says, now
///
/// Paused or not, and whatever its policies say. With an Idempotency-Key, an order that is sent again within 24 hours has no
/// second effect.
#[utoipa::path(
    post, path = "/v1/schedules/{id}/trigger", tag = "schedules",
    params(
        ("id" = i64, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "The same for each try of one order, and for no other"),
    ),
    responses(
        (status = 200, body = OccurrenceView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn trigger(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    Number(id): Number,
    headers: HeaderMap,
) -> Result<Json<OccurrenceView>, Problem> {
    let schedule = find(&api, id).await?;
    let name = match idempotency_key(&headers)? {
        Some(key) => api.store.idempotency_key_use(&schedule.source(), &key).await?,
        None => unique(),
    };
    let now = api.store.now().await?;
    let message_id = format!("trigger {name}");
    ordered(&api, &caller, id, "schedule.trigger", json!({"request": message_id})).await?;
    let views = start(&api, &caller, &schedule, vec![(now, message_id)]).await?;
    let view = views.into_iter().next().ok_or_else(|| Problem::not_found("the request is gone"))?;
    Ok(Json(view))
}

/// Which occurrences.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    /// From here on, in RFC 3339.
    #[schema(format = "date-time")]
    from: String,
    /// Before that; not after now.
    #[schema(format = "date-time")]
    until: String,
}

impl Range {
    fn read(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), Problem> {
        let read = |field: &str, text: &str| {
            let wrong = |_| Problem::field(field, "must be RFC 3339 with an offset, such as 2026-11-21T18:00:00+01:00");
            text.parse::<Timestamp>().map_err(wrong)
        };
        let (from, until) = (read("from", &self.from)?, read("until", &self.until)?);
        if until <= from {
            return Err(Problem::field("until", "must be after from"));
        }
        if until > now {
            return Err(Problem::field("until", "must not be after now: what is to come starts by itself"));
        }
        Ok((from, until))
    }
}

/// Start the occurrences of a time that is over
///
/// Each that has not started yet, whatever the schedule's policies say, from its own `from` on. Who asks twice starts each
/// once.
#[utoipa::path(
    post, path = "/v1/schedules/{id}/backfill", tag = "schedules", params(("id" = i64, Path)), request_body = Range,
    responses(
        (status = 200, body = Vec<OccurrenceView>),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn backfill(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    Number(id): Number,
    Body(range): Body<Range>,
) -> Result<Json<Vec<OccurrenceView>>, Problem> {
    let schedule = find(&api, id).await?;
    let (from, until) = range.read(api.store.now().await?)?;
    let timetable = schedule.timetable().map_err(|error| Problem::bug(&error))?;
    let all = std::iter::successors(timetable.next_from(from), |last| timetable.next_after(*last));
    let wanted: Vec<_> =
        all.take_while(|at| *at < until).take(MAX_OCCURRENCES + 1).map(|at| (at, at.to_string())).collect();
    if wanted.len() > MAX_OCCURRENCES {
        let message = format!("leaves more than {MAX_OCCURRENCES} occurrences: give a shorter range");
        return Err(Problem::field("until", message));
    }
    let what = json!({"from": time(from), "until": time(until), "occurrences": wanted.len()});
    ordered(&api, &caller, id, "schedule.backfill", what).await?;
    Ok(Json(start(&api, &caller, &schedule, wanted).await?))
}

async fn ordered(api: &Api, caller: &Caller, id: i64, action: &str, what: serde_json::Value) -> Result<(), Problem> {
    if api.store.schedule_ordered(id, &caller.actor(), action, &what).await? {
        return Ok(());
    }
    Err(Problem::not_found(format!("there is no schedule {id}")))
}

/// Starts occurrences under the same names under which the activator does, so that none starts twice.
async fn start(
    api: &Api,
    caller: &Caller,
    schedule: &ScheduleRecord,
    wanted: Vec<(Timestamp, String)>,
) -> Result<Vec<OccurrenceView>, Problem> {
    let source = schedule.source();
    let requests: Vec<_> = wanted.iter().map(|(at, message_id)| request(schedule, *at, message_id)).collect();
    let applied = apply::apply(&api.store, &source, requests).await;
    if let Some(error) = applied.error {
        return Err(error.into());
    }
    let names: Vec<_> = wanted.iter().map(|(_, name)| name.as_str()).collect();
    let mut records: Vec<RecordedRequest> = api.store.requests_named(&source, &names).await?;
    let mut views = Vec::new();
    for ((at, name), result) in wanted.iter().zip(applied.results) {
        let Some(place) = records.iter().position(|record| record.message_id == *name) else { continue };
        let request = RequestView::new(records.swap_remove(place), caller.sees_addresses());
        let is_new = result.is_some_and(|result| result.outcome != RequestOutcome::Duplicate);
        views.push(OccurrenceView { at: time(*at), is_new, request });
    }
    Ok(views)
}

fn request(schedule: &ScheduleRecord, at: Timestamp, message_id: &str) -> ReceivedRequest {
    let said = &schedule.said;
    let (owner, external_id) = (said.owner.as_deref(), said.external_id.as_deref());
    let occasion = Occasion { at, id: schedule.id, name: &said.name, owner, external_id };
    let RenderedRequest { body, parsed } = render_request(&said.request, occasion);
    let rejected =
        |rejection: wire::Rejection| RejectedRequest { process: rejection.process, reasons: json!(rejection.reasons) };
    ReceivedRequest { message_id: message_id.to_owned(), body, parsed: parsed.map_err(rejected) }
}
