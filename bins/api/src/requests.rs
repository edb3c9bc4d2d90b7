use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use runtime::{failpoint, random_bytes};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::{ReceivedRequest, RecordedRequest, RequestFilter, RequestOutcome, RequestResult};
use utoipa::{IntoParams, ToSchema};

use crate::{
    Api, apply,
    auth::{Caller, MayOperate, MayRead, MaySend},
    input::{List, Number, Parameters, RawBody, must_be, page},
    problem::{FieldError, Problem},
    view::{RequestView, reasons},
};

/// The most lines of a batch.
pub(crate) const MAX_LINES: usize = 1_000;

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Start or stop a process
///
/// The body is the same as through SQS. An answer means that the request is recorded, and carried out if it was accepted.
/// With an Idempotency-Key, a request that is sent again within 24 hours has no second effect, and gets the same answer.
#[utoipa::path(
    post, path = "/v1/requests", tag = "requests",
    params((
        "Idempotency-Key" = Option<String>, Header,
        description = "1 to 200 visible ASCII characters; the same for each try of one request, and for no other"
    )),
    request_body(content = ref("#/components/schemas/Request"), content_type = "application/json",
        description = "As README.md says"),
    responses(
        (status = 200, description = "It was ignored, or it had been sent before", body = RequestView),
        (status = 201, description = "It was accepted", body = RequestView),
        (status = 422, description = "It was rejected, for every reason in `errors`; or the key was used with another body",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn send(
    MaySend(caller): MaySend,
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Response, Problem> {
    must_be(&headers, "application/json")?;
    let source = caller.source();
    let message_id = match idempotency_key(&headers)? {
        Some(key) => api.store.idempotency_key_use(&source, &key).await?,
        None => unique(),
    };
    let sent = take(&api, &caller, vec![apply::read(message_id, body.to_vec())]).await?;
    let one = sent.into_iter().next().ok_or_else(|| Problem::not_found("the request is gone"))?;
    Ok(answer(one?))
}

/// Start or stop many processes
///
/// One request a line (NDJSON), at most 1,000 lines of 16 MiB together. The answer has a line for each, in their order:
/// `{"line": 1, "status": 201, "request": {…}}`, or `{"line": 2, "status": 422, "problem": {…}}`. Requests of one process
/// are carried out in their order. After a line with status 503 no later one of its process was carried out: send
/// all of them again, with the same Idempotency-Key.
#[utoipa::path(
    post, path = "/v1/requests/batch", tag = "requests",
    params((
        "Idempotency-Key" = Option<String>, Header,
        description = "1 to 200 visible ASCII characters; the same for each try of one batch, and for no other"
    )),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses(
        (status = 200, description = "A line for each", body = String, content_type = "application/x-ndjson"),
        (status = 422, description = "Too many lines, or none", body = Problem,
            content_type = "application/problem+json"),
    )
)]
pub(crate) async fn send_batch(
    MaySend(caller): MaySend,
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Response, Problem> {
    must_be(&headers, "application/x-ndjson")?;
    let key = idempotency_key(&headers)?;
    let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
    if !(1..=MAX_LINES).contains(&lines.len()) {
        return Err(Problem::field("", format!("must have 1 to {MAX_LINES} lines, has {}", lines.len())));
    }
    let mut requests = Vec::new();
    for (n, line) in (1..).zip(&lines) {
        let message_id = match &key {
            Some(key) => api.store.idempotency_key_use(&caller.source(), &format!("{key} line {n}")).await?,
            None => unique(),
        };
        requests.push(apply::read(message_id, line.to_vec()));
    }
    let mut answers = String::new();
    for (line, sent) in (1..).zip(take(&api, &caller, requests).await?) {
        let answer = match sent.and_then(accepted_or_ignored) {
            Ok((status, view)) => Line { line, status: status.as_u16(), request: Some(view), problem: None },
            Err(problem) => Line { line, status: problem.status(), request: None, problem: Some(problem) },
        };
        answers.push_str(&serde_json::to_string(&answer).unwrap_or_default());
        answers.push('\n');
    }
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], answers).into_response())
}

/// The answer to one line.
#[derive(Serialize)]
struct Line {
    line: usize,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// Which requests.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Filter {
    /// `accepted`, `ignored` or `rejected`.
    #[param(inline)]
    pub(crate) outcome: Option<Outcome>,
    /// Of one process.
    pub(crate) process_id: Option<String>,
    /// Only what is older than this: `next` of the page before.
    pub(crate) before: Option<i64>,
    /// At most so many, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub(crate) limit: Option<i64>,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Accepted,
    Ignored,
    Rejected,
}

/// List recorded requests
#[utoipa::path(
    get, path = "/v1/requests", tag = "requests", params(Filter),
    responses((status = 200, body = List<RequestView>))
)]
pub(crate) async fn list(
    MayRead(caller): MayRead,
    State(api): State<Arc<Api>>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<List<RequestView>>, Problem> {
    let page = page(filter.before, filter.limit)?;
    let outcome = filter.outcome.map(|outcome| match outcome {
        Outcome::Accepted => "accepted",
        Outcome::Ignored => "ignored",
        Outcome::Rejected => "rejected",
    });
    let found = api.store.request_list(RequestFilter { outcome, process: filter.process_id.as_deref() }, page).await?;
    let views = found.into_iter().map(|one| RequestView::new(one, caller.sees_addresses())).collect();
    Ok(Json(List::new(views, page, |view: &RequestView| view.id)))
}

/// One recorded request
#[utoipa::path(
    get, path = "/v1/requests/{id}", tag = "requests", params(("id" = i64, Path)),
    responses(
        (status = 200, body = RequestView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    MayRead(caller): MayRead,
    State(api): State<Arc<Api>>,
    Number(id): Number,
) -> Result<Json<RequestView>, Problem> {
    let found = api.store.request(id).await?.ok_or_else(|| Problem::not_found(format!("there is no request {id}")))?;
    Ok(Json(RequestView::new(found, caller.sees_addresses())))
}

/// Send a rejected request again
///
/// With a body, that is sent instead of the rejected one. The same words are replayed once, however often this is asked for.
#[utoipa::path(
    post, path = "/v1/requests/{id}/replay", tag = "requests", params(("id" = i64, Path)),
    request_body(content = Option<Value>, content_type = "application/json",
        description = "The request after editing; nothing sends it as it was"),
    responses(
        (status = 200, description = "It was ignored, or it was replayed before", body = RequestView),
        (status = 201, description = "It was accepted", body = RequestView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It was not rejected", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "It was rejected again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn replay(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    Number(id): Number,
    headers: HeaderMap,
    RawBody(edited): RawBody,
) -> Result<Response, Problem> {
    let edited = if edited.is_empty() {
        None
    } else {
        must_be(&headers, "application/json")?;
        Some(edited.to_vec())
    };
    let (status, view) = send_again(&api, &caller, id, edited).await?;
    Ok((status, Json(view)).into_response())
}

/// Sends a rejected request again, or other words instead of it.
pub(crate) async fn send_again(
    api: &Api,
    caller: &Caller,
    id: i64,
    edited: Option<Vec<u8>>,
) -> Result<(StatusCode, RequestView), Problem> {
    let old = api.store.request(id).await?.ok_or_else(|| Problem::not_found(format!("there is no request {id}")))?;
    if old.outcome != "rejected" {
        return Err(Problem::conflict(format!(
            "request {id} was {}, and only a rejected one can be replayed",
            old.outcome
        )));
    }
    let body = edited.unwrap_or(old.body);
    let digest: String = Sha256::digest(&body).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let request = apply::read(format!("replay of {id} {digest}"), body);
    let sent = take(api, caller, vec![request]).await?;
    let one = sent.into_iter().next().ok_or_else(|| Problem::not_found("the request is gone"))?;
    accepted_or_ignored(one?)
}

/// A request with what was recorded of it.
pub(crate) struct Sent {
    record: RecordedRequest,
    is_new: bool,
    with_body: bool,
}

/// Carries requests out and reads what was recorded. An error for a single one stands in its place.
pub(crate) async fn take(
    api: &Api,
    caller: &Caller,
    requests: Vec<ReceivedRequest>,
) -> Result<Vec<Result<Sent, Problem>>, Problem> {
    let source = caller.source();
    let applied = apply::apply(&api.store, &source, requests.clone()).await;
    failpoint("api.committed", "");
    if let (Some(error), true) = (&applied.error, applied.results.iter().all(Option::is_none)) {
        tracing::warn!(event = "request_not_taken", %error, "nothing of it is recorded");
    }
    let away = applied.error.map(Problem::from);
    let ids: Vec<_> = requests.iter().map(|request| request.message_id.as_str()).collect();
    let records = api.store.requests_named(&source, &ids).await?;
    let mut by_name: HashMap<String, RecordedRequest> =
        records.into_iter().map(|record| (record.message_id.clone(), record)).collect();
    let with_body = caller.sees_addresses();
    let sent = requests.into_iter().zip(applied.results).map(|(request, result)| {
        let not_done = || away.clone().unwrap_or_else(|| Problem::not_found("the request is gone"));
        let result = result.ok_or_else(not_done)?;
        let record = by_name.remove(&request.message_id).ok_or_else(not_done)?;
        log(caller, &record, &result);
        if record.body != request.body {
            let message = "was used within the last 24 hours with another body";
            return Err(Problem::field(IDEMPOTENCY_KEY, message).of_request(record.id));
        }
        Ok(Sent { record, is_new: result.outcome != RequestOutcome::Duplicate, with_body })
    });
    Ok(sent.collect())
}

fn log(caller: &Caller, record: &RecordedRequest, result: &RequestResult) {
    let outcome = result.outcome.as_str();
    metrics::counter!("tocsin_requests_total", "outcome" => outcome).increment(1);
    let (process, action, run) = (record.process.as_deref(), record.action.as_deref(), result.run);
    let (request, key) = (record.id, caller.prefix.as_str());
    tracing::info!(event = "request", outcome, process, action, run, request, key, "request");
}

/// The answer to one request.
pub(crate) fn answer(sent: Sent) -> Response {
    match accepted_or_ignored(sent) {
        Ok((status, view)) => (status, Json(view)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

pub(crate) fn accepted_or_ignored(sent: Sent) -> Result<(StatusCode, RequestView), Problem> {
    let Sent { record, is_new, with_body } = sent;
    if record.outcome == "rejected" {
        let errors: Vec<FieldError> = reasons(record.reasons.as_ref());
        return Err(Problem::invalid(errors).of_request(record.id));
    }
    let is_created = is_new && record.outcome == "accepted";
    let status = if is_created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, RequestView::new(record, with_body)))
}

pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key =
        value.to_str().ok().filter(|key| (1..=200).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()));
    let wrong = || Problem::unreadable(IDEMPOTENCY_KEY, "must be 1 to 200 visible ASCII characters");
    key.map(|key| Some(key.to_owned())).ok_or_else(wrong)
}

pub(crate) fn unique() -> String {
    random_bytes::<16>().iter().map(|byte| format!("{byte:02x}")).collect()
}
