use std::sync::Arc;

use axum::{Json, extract::State, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{NotificationFilter, Page, ProcessRecord, RequestFilter};
use utoipa::{IntoParams, ToSchema};

use crate::{
    Api, apply,
    auth::{MayOperate, MayRead},
    input::{List, Parameters, Word, page},
    problem::Problem,
    requests,
    view::{NotificationView, ProcessView, RequestView},
};

/// So many requests, and so many notifications, stand with their process.
const SHOWN: i64 = 200;

/// Which processes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Filter {
    /// The one of this name.
    pub(crate) process_id: Option<String>,
    /// Only what is older than this: `next` of the page before.
    pub(crate) before: Option<i64>,
    /// At most so many, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub(crate) limit: Option<i64>,
}

/// List processes, those first that were first started last
#[utoipa::path(
    get, path = "/v1/processes", tag = "processes", params(Filter),
    responses((status = 200, body = List<ProcessView>))
)]
pub(crate) async fn list(
    MayRead(_): MayRead,
    State(api): State<Arc<Api>>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<List<ProcessView>>, Problem> {
    let page = page(filter.before, filter.limit)?;
    let found = api.store.processes(filter.process_id.as_deref(), page).await?;
    let views = found.into_iter().map(ProcessView::from).collect();
    Ok(Json(List::new(views, page, |view: &ProcessView| view.id)))
}

/// A process with its requests and notifications, the newest 200 of each.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProcessHistory {
    #[serde(flatten)]
    pub(crate) process: ProcessView,
    /// Its requests, the newest first.
    pub(crate) requests: Vec<RequestView>,
    /// Its notifications, the newest first, each with its calls.
    pub(crate) notifications: Vec<NotificationView>,
}

/// One process with its runs, notifications and calls
///
/// What is older than the newest 200 is in `/v1/requests` and `/v1/notifications`, with `process-id`.
#[utoipa::path(
    get, path = "/v1/processes/{process-id}", tag = "processes", params(("process-id" = String, Path)),
    responses(
        (status = 200, body = ProcessHistory),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    MayRead(caller): MayRead,
    State(api): State<Arc<Api>>,
    Word(name): Word,
) -> Result<Json<ProcessHistory>, Problem> {
    let process = find(&api, &name).await?;
    let newest = Page { before: None, limit: SHOWN };
    let with_addresses = caller.sees_addresses();
    let filter = RequestFilter { process: Some(&name), ..Default::default() };
    let requests = api.store.request_list(filter, newest).await?;
    let filter = NotificationFilter { process: Some(&name), ..Default::default() };
    let notifications = api.store.notification_reports(filter, newest).await?;
    Ok(Json(ProcessHistory {
        process: process.into(),
        requests: requests.into_iter().map(|one| RequestView::new(one, with_addresses)).collect(),
        notifications: notifications.into_iter().map(|one| NotificationView::new(one, with_addresses)).collect(),
    }))
}

async fn find(api: &Api, name: &str) -> Result<ProcessRecord, Problem> {
    let found = api.store.processes(Some(name), Page { before: None, limit: 1 }).await?;
    found.into_iter().next().ok_or_else(|| Problem::not_found("no process of that name was ever started"))
}

/// Stop a process
///
/// The same as a stop request: what is not sent yet is cancelled, in every run; what is being sent is not tried again.
#[utoipa::path(
    post, path = "/v1/processes/{process-id}/stop", tag = "processes", params(("process-id" = String, Path)),
    responses(
        (status = 200, description = "There was nothing to stop", body = RequestView),
        (status = 201, description = "It was stopped", body = RequestView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn stop(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    Word(name): Word,
) -> Result<Response, Problem> {
    find(&api, &name).await?;
    let body = json!({"process-id": name, "action": "stop"}).to_string();
    let sent = requests::take(&api, &caller, vec![apply::read(requests::unique(), body.into())]).await?;
    let one = sent.into_iter().next().ok_or_else(|| Problem::not_found("the request is gone"))?;
    Ok(requests::answer(one?))
}
