use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::StatusCode, response::Response};
use domain::schedule::{Line, Timetable};
use serde::Serialize;
use serde_json::Value;
use store::ScheduleRecord;
use wire::{CallmeMessage, callme_crontab, callme_message, callme_schedule};

use super::{NO_TIME, Refused, ended, json_headers};
use crate::{
    Api,
    auth::{Caller, MayOperate, MayRead},
    input::{Number, RawBody},
    problem::Problem,
    requests,
    schedules::{self, ScheduleView},
    view::time,
};

/// A schedule as its sender gets it back.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Made {
    schedule_id: i64,
    from: String,
    arn: Value,
    payload: Value,
    crontabs: Vec<String>,
    external_id: String,
    by: String,
}

/// A schedule. Who may see no addresses sees no topic and no payload.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Schedule {
    schedule_id: i64,
    external_id: String,
    by: String,
    arn: Value,
    payload: Value,
    created: String,
    /// Whether it starts jobs: it is neither deactivated nor paused.
    active: bool,
    deactivated_date: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Crontab {
    /// Its place, from 1 on.
    crontab_id: usize,
    schedule_id: i64,
    crontab: String,
    /// The schedule's last occurrence, whichever line has named it.
    previous: String,
    next: String,
    last_updated: String,
}

#[derive(Debug, Serialize)]
pub(super) struct ScheduleAndCrontabs {
    schedule: Schedule,
    crontabs: Vec<Crontab>,
}

fn crontabs(lines: &Value) -> Vec<String> {
    lines.as_array().into_iter().flatten().map(callme_crontab).collect()
}

/// As `POST /v1/schedules` makes a schedule.
pub(super) async fn create(
    Extension(caller): Extension<Caller>,
    State(api): State<Arc<Api>>,
    body: Result<RawBody, Problem>,
) -> Result<(StatusCode, Json<Made>), Refused> {
    let may = MayOperate::check(&caller)?;
    let RawBody(body) = body?;
    let definition = callme_schedule(&body, &format!("callme-{}", requests::unique()))?.to_string();
    let made = schedules::create(may, State(api), json_headers(), RawBody(definition.into())).await?;
    let (status, Json(ScheduleView { id, from, lines, request, external_id, owner, .. })) = made;
    let message = request.as_ref().and_then(callme_message);
    let CallmeMessage { arn, payload } = message.ok_or_else(|| Problem::not_found("the schedule is gone"))?;
    let made = Made {
        schedule_id: id,
        from,
        arn,
        payload,
        crontabs: crontabs(&lines),
        external_id: external_id.unwrap_or_default(),
        by: owner.unwrap_or_default(),
    };
    Ok((status, Json(made)))
}

async fn find(api: &Api, id: i64) -> Result<Option<(ScheduleRecord, CallmeMessage)>, Problem> {
    let Some(record) = api.store.schedule_of_all(id).await? else { return Ok(None) };
    Ok(callme_message(&record.said.request).map(|message| (record, message)))
}

pub(super) async fn show(
    Extension(caller): Extension<Caller>,
    State(api): State<Arc<Api>>,
    id: Result<Number, Problem>,
) -> Result<Json<ScheduleAndCrontabs>, Refused> {
    let MayRead(caller) = MayRead::check(&caller)?;
    let Number(id) = id?;
    let unknown = || Problem::not_found(format!("there is no schedule {id}"));
    let (record, CallmeMessage { arn, payload }) = find(&api, id).await?.ok_or_else(unknown)?;
    let timetable = record.timetable().map_err(|error| Problem::bug(&error))?;
    let now = api.store.now().await?;
    let deactivated_at = record.deleted_at.or(record.paused_at);
    let next = |line: &Line| {
        let Timetable { start, end, .. } = timetable;
        let alone = Timetable { lines: vec![line.clone()], start, end };
        if deactivated_at.is_some() { None } else { alone.next_after(now) }
    };
    let some_time = |at: Option<jiff::Timestamp>| at.map_or_else(|| NO_TIME.to_owned(), time);
    let said = &record.said;
    let lines = crontabs(&said.lines).into_iter().zip(&timetable.lines).enumerate();
    let crontabs = lines.map(|(n, (crontab, line))| Crontab {
        crontab_id: n + 1,
        schedule_id: id,
        crontab,
        previous: some_time(record.last_at),
        next: some_time(next(line)),
        last_updated: time(record.updated_at),
    });
    let crontabs = crontabs.collect();
    let with_content = |value: Value| if caller.sees_addresses() { value } else { Value::Null };
    let schedule = Schedule {
        schedule_id: id,
        external_id: said.external_id.clone().unwrap_or_default(),
        by: said.owner.clone().unwrap_or_default(),
        arn: with_content(arn),
        payload: with_content(payload),
        created: time(record.created_at),
        active: deactivated_at.is_none(),
        deactivated_date: some_time(deactivated_at),
    };
    Ok(Json(ScheduleAndCrontabs { schedule, crontabs }))
}

/// As `DELETE /v1/schedules/{id}` ends a schedule.
pub(super) async fn deactivate(
    Extension(caller): Extension<Caller>,
    State(api): State<Arc<Api>>,
    id: Result<Number, Problem>,
) -> Result<Response, Refused> {
    let may = MayOperate::check(&caller)?;
    let Number(id) = id?;
    if find(&api, id).await?.is_none() {
        return Ok(ended(false));
    }
    match schedules::delete(may, State(api), Number(id)).await {
        Ok(_) => Ok(ended(true)),
        Err(problem) if problem.status() == 404 => Ok(ended(false)),
        Err(problem) => Err(problem.into()),
    }
}
