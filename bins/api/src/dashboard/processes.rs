use std::sync::Arc;

use askama::Template;
use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use store::Page;

use super::{
    frame::{Done, Failed, Frame, html},
    session::{LoggedIn, Nothing, Posted},
};
use crate::{
    Api,
    auth::{MayOperate, MayRead},
    input::{List, Parameters, Word},
    notifications,
    processes::{self, Filter, ProcessHistory},
    view::{NotificationView, ProcessView},
};

/// What is looked for, and from where on.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    q: String,
    before: Option<i64>,
}

#[derive(Template)]
#[template(path = "processes.html")]
struct Processes {
    frame: Frame,
    q: String,
    processes: List<ProcessView>,
    /// What was sent to the address that is looked for.
    to_address: List<NotificationView>,
}

/// By name, or else by address.
pub(super) async fn list(
    session: LoggedIn,
    State(api): State<Arc<Api>>,
    Query(search): Query<Search>,
) -> Result<Response, Failed> {
    let q = search.q.trim().to_owned();
    if !q.is_empty() && !api.store.processes(Some(&q), Page { before: None, limit: 1 }).await?.is_empty() {
        return Ok(Redirect::to(&process_path(&q)).into_response());
    }
    let read = || MayRead::check(&session.caller);
    let (mut found, mut to_address) = (List { items: Vec::new(), next: None }, List { items: Vec::new(), next: None });
    if q.is_empty() {
        let filter = Filter { before: search.before, ..Default::default() };
        Json(found) = processes::list(read()?, State(api), Parameters(filter)).await?;
    } else if session.caller.sees_addresses() {
        let filter = notifications::Filter { address: Some(q.clone()), before: search.before, ..Default::default() };
        Json(to_address) = notifications::list(read()?, State(api), Parameters(filter)).await?;
    }
    let frame = session.frame("Processes", "processes");
    Ok(html(StatusCode::OK, &Processes { frame, q, processes: found, to_address }))
}

/// The page of a process.
pub(super) fn process_path(name: &str) -> String {
    let mut url = url::Url::parse("http://here/processes").expect("it is a URL");
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.push(name);
    }
    url.path().to_owned()
}

/// A step of a process's history.
struct Step {
    at: String,
    /// Its mark: `request`, `call`, `end`, `person`.
    kind: &'static str,
    /// How it went, as a colour: `good`, `bad`, `wait` or nothing.
    tone: &'static str,
    notification: Option<i64>,
    words: String,
}

#[derive(Template)]
#[template(path = "process.html")]
struct Process {
    frame: Frame,
    history: ProcessHistory,
    /// Its notifications, the newest run first and in a run in the order of their times.
    notifications: Vec<NotificationView>,
    steps: Vec<Step>,
    path: String,
}

pub(super) async fn show(
    session: LoggedIn,
    State(api): State<Arc<Api>>,
    name: Word,
    Query(Done { done }): Query<Done>,
) -> Result<Response, Failed> {
    let path = process_path(&name.0);
    let Json(mut history) = processes::show(MayRead::check(&session.caller)?, State(api), name).await?;
    let steps = steps(&history);
    let mut notifications = std::mem::take(&mut history.notifications);
    notifications.sort_by(|a, b| (b.run, &a.scheduled_at, a.id).cmp(&(a.run, &b.scheduled_at, b.id)));
    let said = match done.as_str() {
        "stopped" => Some("The process is stopped: what was not sent yet is cancelled."),
        "nothing" => Some("There was nothing to stop."),
        _ => None,
    };
    let frame = session.frame(history.process.process_id.clone(), "processes").saying(said);
    Ok(html(StatusCode::OK, &Process { frame, history, notifications, steps, path }))
}

/// All that happened, the newest first.
fn steps(history: &ProcessHistory) -> Vec<Step> {
    let mut steps = Vec::new();
    for request in &history.requests {
        let action = request.action.as_deref().unwrap_or("request");
        let run = request.run.map(|run| format!(", as run {run}")).unwrap_or_default();
        let words = format!("request {}: {action} {}{run}, from {}", request.id, request.outcome, request.source);
        let tone = if request.outcome == "rejected" { "bad" } else { "" };
        steps.push(Step { at: request.received_at.clone(), kind: "request", tone, notification: None, words });
    }
    for one in &history.notifications {
        steps.extend(notification_steps(one));
    }
    steps.sort_by(|a, b| b.at.cmp(&a.at));
    steps
}

/// What happened to one notification, in no order.
fn notification_steps(one: &NotificationView) -> Vec<Step> {
    let step = |at: &str, kind, tone, words| Step { at: at.to_owned(), kind, tone, notification: Some(one.id), words };
    // Counted as the explanation does: not every claim leads to a call.
    let calls = (1..).zip(&one.calls).map(|(number, call): (usize, _)| {
        let words = [Some(call.outcome), call.detail.as_deref(), call.provider_id.as_deref(), call.worker.as_deref()];
        let words: Vec<_> = words.into_iter().flatten().collect();
        let tone = match call.outcome {
            "delivered" => "good",
            "permanent" => "bad",
            _ => "wait",
        };
        step(&call.started_at, "call", tone, format!("{}: call {}: {}", one.channel, number, words.join(" · ")))
    });
    let people = one
        .interventions
        .iter()
        .map(|it| step(&it.at, "person", "", format!("{}: {} by {}", one.channel, it.action, it.actor)));
    let end = one.finished_at.iter().map(|at| {
        let why = one.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        step(at, "end", tone(one.state), format!("{}: {}{why}", one.channel, one.state))
    });
    calls.chain(people).chain(end).collect()
}

/// How a state looks.
fn tone(state: &str) -> &'static str {
    match state {
        "delivered" => "good",
        "failed" => "bad",
        "cancelled" => "",
        _ => "wait",
    }
}

pub(super) async fn stop(
    State(api): State<Arc<Api>>,
    name: Word,
    Posted { session, .. }: Posted<Nothing>,
) -> Result<Redirect, Failed> {
    let path = process_path(&name.0);
    let answer = processes::stop(MayOperate::check(&session.caller)?, State(api), name).await?;
    let done = if answer.status() == StatusCode::CREATED { "stopped" } else { "nothing" };
    Ok(Redirect::to(&format!("{path}?done={done}")))
}
