use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::StatusCode, response::Response};
use domain::{Outcome, explain::Call};
use serde::Serialize;
use serde_json::Value;
use store::NotificationReport;
use wire::{callme_job, callme_schedule_of};

use super::{NO_TIME, Refused, ended};
use crate::{
    Api, apply,
    auth::{Caller, MayOperate, MayRead, MaySend},
    input::{Number, RawBody, Word},
    notifications,
    problem::Problem,
    processes, requests,
    view::time,
};

const CHANNEL: &str = "sns";

/// The names of processes that were made here begin so.
const OURS: &str = "callme-";

/// A job: a notification. Who may see no addresses sees no topic and no payload.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Job {
    job_id: i64,
    /// The schedule that has started it.
    schedule_id: Option<i64>,
    when: String,
    arn: Option<String>,
    payload: Option<Value>,
}

impl Job {
    fn new(report: &NotificationReport, with_content: bool) -> Self {
        let content = with_content.then_some(report);
        Self {
            job_id: report.id,
            schedule_id: callme_schedule_of(&report.story.process),
            when: time(report.story.scheduled_at),
            arn: content.and_then(|report| report.address.clone()),
            payload: content.map(|report| report.options["payload"].clone()),
        }
    }
}

/// What SNS answered last.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobResponse {
    job_response_id: i32,
    job_id: i64,
    time: String,
    /// SNS's id of the message.
    response: String,
    is_error: bool,
    error: String,
}

impl JobResponse {
    fn new(job_id: i64, call: &Call) -> Self {
        let is_error = call.outcome != Outcome::Delivered;
        let detail = call.detail.clone().unwrap_or_else(|| call.outcome.as_str().to_owned());
        Self {
            job_response_id: call.number,
            job_id,
            time: time(call.finished_at),
            response: call.provider_id.clone().unwrap_or_default(),
            is_error,
            error: if is_error { detail } else { String::new() },
        }
    }

    /// What stood in its place before there was one: clients read its members without asking.
    fn none() -> Self {
        Self {
            job_response_id: 0,
            job_id: 0,
            time: NO_TIME.to_owned(),
            response: String::new(),
            is_error: false,
            error: String::new(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobAndResponse {
    job: Job,
    response: JobResponse,
    has_job_response: bool,
}

/// As `POST /v1/requests` starts a process.
pub(super) async fn create(
    Extension(caller): Extension<Caller>,
    State(api): State<Arc<Api>>,
    body: Result<RawBody, Problem>,
) -> Result<(StatusCode, Json<Job>), Refused> {
    let MaySend(caller) = MaySend::check(&caller)?;
    let RawBody(body) = body?;
    let request = callme_job(&body, &format!("{OURS}job-{}", requests::unique()))?.to_string();
    let sent = requests::take(&api, &caller, vec![apply::read(requests::unique(), request.into())]).await?;
    let gone = || Problem::not_found("the request is gone");
    let (status, request) = requests::accepted_or_ignored(sent.into_iter().next().ok_or_else(gone)??)?;
    let id = *request.notifications.first().ok_or_else(gone)?;
    // Who has sent it knows what stands in it.
    Ok((status, Json(Job::new(&notifications::find(&api, id).await?, true))))
}

async fn find(api: &Api, id: i64) -> Result<NotificationReport, Problem> {
    let unknown = || Problem::not_found(format!("there is no job {id}"));
    let report = match notifications::find(api, id).await {
        Ok(report) => report,
        Err(problem) if problem.status() == 404 => return Err(unknown()),
        Err(problem) => return Err(problem),
    };
    let is_ours = report.story.channel == CHANNEL && report.story.process.starts_with(OURS);
    if is_ours { Ok(report) } else { Err(unknown()) }
}

pub(super) async fn show(
    Extension(caller): Extension<Caller>,
    State(api): State<Arc<Api>>,
    id: Result<Number, Problem>,
) -> Result<Json<JobAndResponse>, Refused> {
    let MayRead(caller) = MayRead::check(&caller)?;
    let Number(id) = id?;
    let report = find(&api, id).await?;
    let last = report.story.calls.last();
    Ok(Json(JobAndResponse {
        job: Job::new(&report, caller.sees_addresses()),
        response: last.map_or_else(JobResponse::none, |call| JobResponse::new(id, call)),
        has_job_response: last.is_some(),
    }))
}

/// As `POST /v1/processes/{process-id}/stop` stops a process.
pub(super) async fn delete(
    Extension(caller): Extension<Caller>,
    State(api): State<Arc<Api>>,
    id: Result<Number, Problem>,
) -> Result<Response, Refused> {
    let may = MayOperate::check(&caller)?;
    let Number(id) = id?;
    let report = match find(&api, id).await {
        Ok(report) => report,
        Err(problem) if problem.status() == 404 => return Ok(ended(false)),
        Err(problem) => return Err(problem.into()),
    };
    if report.story.finished_at.is_some() {
        return Ok(ended(false));
    }
    let stopped = processes::stop(may, State(api), Word(report.story.process)).await?;
    Ok(ended(stopped.status() == StatusCode::CREATED))
}
