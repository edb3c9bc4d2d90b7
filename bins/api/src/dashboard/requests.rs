use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    frame::{Failed, Frame, html},
    processes::process_path,
    session::{LoggedIn, Posted},
};
use crate::{
    Api, apply,
    auth::{MayOperate, MayRead, MaySend},
    input::{List, Number, Parameters},
    problem::Problem,
    requests::{self, Filter, Outcome},
    view::RequestView,
};

/// What is looked for, and from where on.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    outcome: String,
    #[serde(default)]
    process: String,
    before: Option<i64>,
}

#[derive(Template)]
#[template(path = "requests.html")]
struct Requests {
    frame: Frame,
    found: List<RequestView>,
    outcome: &'static str,
    process: String,
    /// A request that was sent here and not accepted, and why.
    draft: Draft,
}

/// What somebody has typed.
#[derive(Default)]
struct Draft {
    body: String,
    problem: Option<Problem>,
}

async fn page(session: LoggedIn, api: Arc<Api>, search: Search, draft: Draft) -> Result<Response, Failed> {
    let (outcome, name) = match search.outcome.as_str() {
        "accepted" => (Some(Outcome::Accepted), "accepted"),
        "ignored" => (Some(Outcome::Ignored), "ignored"),
        "rejected" => (Some(Outcome::Rejected), "rejected"),
        _ => (None, ""),
    };
    let process = search.process.trim().to_owned();
    let process_id = Some(process.clone()).filter(|name| !name.is_empty());
    let filter = Filter { outcome, process_id, before: search.before, limit: None };
    let Json(found) = requests::list(MayRead::check(&session.caller)?, State(api), Parameters(filter)).await?;
    let status = if draft.problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let frame = session.frame("Requests", "requests");
    Ok(html(status, &Requests { frame, found, outcome: name, process, draft }))
}

pub(super) async fn list(
    session: LoggedIn,
    State(api): State<Arc<Api>>,
    Query(search): Query<Search>,
) -> Result<Response, Failed> {
    page(session, api, search, Draft::default()).await
}

/// A request as somebody has typed it.
#[derive(Deserialize)]
pub(super) struct BodyForm {
    body: String,
}

pub(super) async fn send(
    State(api): State<Arc<Api>>,
    Posted { session, form }: Posted<BodyForm>,
) -> Result<Response, Failed> {
    let MaySend(caller) = MaySend::check(&session.caller)?;
    let request = apply::read(requests::unique(), form.body.clone().into_bytes());
    let sent = requests::take(&api, &caller, vec![request]).await?;
    let one = sent.into_iter().next().ok_or_else(|| Problem::not_found("the request is gone"))?;
    match one.and_then(requests::accepted_or_ignored) {
        Ok((_, request)) => Ok(Redirect::to(&format!("/requests/{}", request.id)).into_response()),
        Err(problem) => {
            let draft = Draft { body: form.body, problem: Some(problem) };
            page(Extension(session), api, Search::default(), draft).await
        }
    }
}

#[derive(Template)]
#[template(path = "request.html")]
struct Request {
    frame: Frame,
    one: RequestView,
    process_path: Option<String>,
    /// The words to be sent instead of the rejected ones.
    edited: String,
    problem: Option<Problem>,
}

async fn request_page(
    session: LoggedIn,
    api: Arc<Api>,
    id: i64,
    refused: Option<(String, Problem)>,
) -> Result<Response, Failed> {
    let Json(one) = requests::show(MayRead::check(&session.caller)?, State(api), Number(id)).await?;
    let status = if refused.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let (edited, problem) = match refused {
        Some((edited, problem)) => (edited, Some(problem)),
        None => (one.body.clone().unwrap_or_default(), None),
    };
    let process_path = one.process_id.as_deref().filter(|_| one.outcome != "rejected").map(process_path);
    let frame = session.frame(format!("Request {id}"), "requests");
    Ok(html(status, &Request { frame, one, process_path, edited, problem }))
}

pub(super) async fn show(
    session: LoggedIn,
    State(api): State<Arc<Api>>,
    Number(id): Number,
) -> Result<Response, Failed> {
    request_page(session, api, id, None).await
}

pub(super) async fn replay(
    State(api): State<Arc<Api>>,
    Number(id): Number,
    Posted { session, form }: Posted<BodyForm>,
) -> Result<Response, Failed> {
    let caller = MayOperate::check(&session.caller)?;
    match requests::send_again(&api, &caller.0, id, Some(form.body.clone().into_bytes())).await {
        Ok((_, request)) => Ok(Redirect::to(&format!("/requests/{}", request.id)).into_response()),
        Err(problem) if problem.status() == 422 => {
            request_page(Extension(session), api, id, Some((form.body, problem))).await
        }
        Err(problem) => Err(problem.into()),
    }
}
