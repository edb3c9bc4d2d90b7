use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::{Page, ScheduleFilter};

use super::{
    frame::{Done, Failed, Frame, html},
    processes::process_path,
    session::{LoggedIn, Nothing, Posted},
};
use crate::{
    Api,
    auth::{MayOperate, MayRead},
    input::{Body, List, Number, Parameters, RawBody},
    problem::Problem,
    schedule_orders::{self, Range},
    schedules::{self, Filter, ScheduleView},
    view::time,
};

/// Of how many schedules the next day is shown, and how much of each.
const CALENDAR_SCHEDULES: i64 = 200;
const CALENDAR_EACH: usize = 24;

#[derive(Template)]
#[template(path = "schedules.html")]
struct Schedules {
    frame: Frame,
    found: List<ScheduleView>,
    /// What starts within a day, hour by hour.
    day: Vec<Start>,
    /// A schedule that is to be made, as it was typed, and what is wrong with it.
    draft: String,
    problem: Option<Problem>,
}

/// An occurrence to come.
struct Start {
    at: Timestamp,
    shown_at: String,
    id: i64,
    name: String,
}

/// From where on, and what was done before.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Search {
    before: Option<i64>,
    #[serde(default)]
    done: String,
}

async fn page(
    session: LoggedIn,
    api: Arc<Api>,
    search: Search,
    refused: Option<(String, Problem)>,
) -> Result<Response, Failed> {
    let filter = Filter { before: search.before, ..Default::default() };
    let caller = MayRead::check(&session.caller)?;
    let Json(found) = schedules::list(caller, State(Arc::clone(&api)), Parameters(filter)).await?;
    let status = if refused.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let (draft, problem) = match refused {
        Some((draft, problem)) => (draft, Some(problem)),
        None => (example(), None),
    };
    let said = (search.done == "deleted").then_some("The schedule is gone. What it has started goes on.");
    let frame = session.frame("Schedules", "schedules").saying(said);
    let day = next_day(&api).await?;
    Ok(html(status, &Schedules { frame, found, day, draft, problem }))
}

/// What one schedule may look like, to be changed.
fn example() -> String {
    let call = json!({"channel": "phone", "in": 0, "phone-number": "+3851111111"});
    let request = json!({"process-id": "{{ schedule.name }}-{{ scheduled_at }}", "notifications": [call]});
    let lines = json!([{"cron": "0 9 * * MON-FRI", "time-zone": "Europe/Zagreb"}]);
    let schedule = json!({"name": "morning-call", "lines": lines, "request": request});
    serde_json::to_string_pretty(&schedule).unwrap_or_default()
}

async fn next_day(api: &Api) -> Result<Vec<Start>, Failed> {
    let now = api.store.now().await?;
    let end = now.checked_add(SignedDuration::from_hours(24)).unwrap_or(now);
    let newest = Page { before: None, limit: CALENDAR_SCHEDULES };
    let mut day = Vec::new();
    for schedule in api.store.schedules(ScheduleFilter::default(), newest).await? {
        let timetable = schedule.timetable().map_err(|error| Problem::bug(&error))?;
        let to_come = std::iter::successors(schedule.next_at, |last| timetable.next_after(*last));
        let within = to_come.take_while(|at| *at < end).take(CALENDAR_EACH);
        day.extend(within.map(|at| Start {
            at,
            shown_at: time(at),
            id: schedule.id,
            name: schedule.said.name.clone(),
        }));
    }
    day.sort_by_key(|start: &Start| (start.at, start.id));
    Ok(day)
}

pub(super) async fn list(
    session: LoggedIn,
    State(api): State<Arc<Api>>,
    Query(search): Query<Search>,
) -> Result<Response, Failed> {
    page(session, api, search, None).await
}

/// A schedule as somebody has typed it.
#[derive(Deserialize)]
pub(super) struct Definition {
    definition: String,
}

impl Definition {
    /// As the API takes it.
    fn request(&self) -> (HeaderMap, RawBody) {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        (headers, RawBody(Bytes::from(self.definition.clone())))
    }
}

fn is_to_be_mended(problem: &Problem) -> bool {
    [400, 422].contains(&problem.status())
}

pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Posted { session, form }: Posted<Definition>,
) -> Result<Response, Failed> {
    let (headers, body) = form.request();
    let may = MayOperate::check(&session.caller)?;
    match schedules::create(may, State(Arc::clone(&api)), headers, body).await {
        Ok((_, Json(made))) => Ok(Redirect::to(&format!("/schedules/{}?done=made", made.id)).into_response()),
        Err(problem) if is_to_be_mended(&problem) => {
            page(Extension(session), api, Search::default(), Some((form.definition, problem))).await
        }
        Err(problem) => Err(problem.into()),
    }
}

#[derive(Template)]
#[template(path = "schedule.html")]
struct Schedule {
    frame: Frame,
    one: ScheduleView,
    last_path: Option<String>,
    /// The schedule as it is edited; nothing for who may not.
    definition: String,
    problem: Option<Problem>,
}

async fn one_page(
    session: LoggedIn,
    api: Arc<Api>,
    id: i64,
    done: &str,
    refused: Option<(String, Problem)>,
) -> Result<Response, Failed> {
    let Json(one) = schedules::show(MayRead::check(&session.caller)?, State(api), Number(id)).await?;
    let status = if refused.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let (definition, problem) = match refused {
        Some((definition, problem)) => (definition, Some(problem)),
        None => (definition(&one), None),
    };
    let said = match done {
        "made" => Some("The schedule is made."),
        "edited" => Some("It is changed."),
        "paused" => Some("It is paused: nothing starts until it is resumed."),
        "resumed" => Some("It goes on, with its next occurrence from now."),
        "triggered" => Some("It was started now."),
        "backfilled" => Some("What had not started of that time was started."),
        _ => None,
    };
    let frame = session.frame(one.name.clone(), "schedules").saying(said);
    let last_path = one.last_process.as_deref().map(process_path);
    Ok(html(status, &Schedule { frame, one, last_path, definition, problem }))
}

/// The schedule as the API takes it.
fn definition(one: &ScheduleView) -> String {
    let Some(request) = &one.request else { return String::new() };
    let mut said = Map::new();
    let mut put = |key: &str, value: Value| said.insert(key.to_owned(), value);
    put("name", one.name.as_str().into());
    for (key, word) in [("owner", &one.owner), ("external-id", &one.external_id), ("until", &one.until)] {
        if let Some(word) = word {
            put(key, word.as_str().into());
        }
    }
    put("lines", one.lines.clone());
    put("missed", one.missed.into());
    put("missed-window", one.missed_window.into());
    put("overlap", one.overlap.into());
    put("request", request.clone());
    serde_json::to_string_pretty(&said).unwrap_or_default()
}

pub(super) async fn show(
    session: LoggedIn,
    State(api): State<Arc<Api>>,
    Number(id): Number,
    Query(Done { done }): Query<Done>,
) -> Result<Response, Failed> {
    one_page(session, api, id, &done, None).await
}

fn done(id: i64, what: &str) -> Redirect {
    Redirect::to(&format!("/schedules/{id}?done={what}"))
}

pub(super) async fn edit(
    State(api): State<Arc<Api>>,
    Number(id): Number,
    Posted { session, form }: Posted<Definition>,
) -> Result<Response, Failed> {
    let (headers, body) = form.request();
    let may = MayOperate::check(&session.caller)?;
    match schedules::edit(may, State(Arc::clone(&api)), Number(id), headers, body).await {
        Ok(Json(_)) => Ok(done(id, "edited").into_response()),
        Err(problem) if is_to_be_mended(&problem) => {
            one_page(Extension(session), api, id, "", Some((form.definition, problem))).await
        }
        Err(problem) => Err(problem.into()),
    }
}

pub(super) async fn pause(
    State(api): State<Arc<Api>>,
    id: Number,
    Posted { session, .. }: Posted<Nothing>,
) -> Result<Redirect, Failed> {
    let Json(one) = schedules::pause(MayOperate::check(&session.caller)?, State(api), id).await?;
    Ok(done(one.id, "paused"))
}

pub(super) async fn resume(
    State(api): State<Arc<Api>>,
    id: Number,
    Posted { session, .. }: Posted<Nothing>,
) -> Result<Redirect, Failed> {
    let Json(one) = schedules::resume(MayOperate::check(&session.caller)?, State(api), id).await?;
    Ok(done(one.id, "resumed"))
}

pub(super) async fn trigger(
    State(api): State<Arc<Api>>,
    Number(id): Number,
    Posted { session, .. }: Posted<Nothing>,
) -> Result<Redirect, Failed> {
    let may = MayOperate::check(&session.caller)?;
    let Json(_) = schedule_orders::trigger(may, State(api), Number(id), HeaderMap::new()).await?;
    Ok(done(id, "triggered"))
}

pub(super) async fn backfill(
    State(api): State<Arc<Api>>,
    Number(id): Number,
    Posted { session, form }: Posted<Range>,
) -> Result<Redirect, Failed> {
    let may = MayOperate::check(&session.caller)?;
    let Json(_) = schedule_orders::backfill(may, State(api), Number(id), Body(form)).await?;
    Ok(done(id, "backfilled"))
}

pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    id: Number,
    Posted { session, .. }: Posted<Nothing>,
) -> Result<Redirect, Failed> {
    schedules::delete(MayOperate::check(&session.caller)?, State(api), id).await?;
    Ok(Redirect::to("/schedules?done=deleted"))
}
