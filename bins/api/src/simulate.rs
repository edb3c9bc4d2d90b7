use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap};
use domain::{
    explain::{Story, explain},
    simulate::{Happening, Simulation, Timeline, simulate as play},
};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    Api,
    auth::MayRead,
    input::{RawBody, must_be},
    problem::{FieldError, Problem},
    view::{CallView, time},
};

/// The most that is told: 1,000 notifications that are each called in vain ten times.
const MAX_EVENTS: usize = 25_000;

/// What would come of a request.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct SimulationView {
    /// When the request is accepted.
    pub(crate) begins_at: String,
    /// When the last of it happens.
    pub(crate) ends_at: String,
    /// What happens, in its order.
    pub(crate) timeline: Vec<EventView>,
    /// What comes of each notification, in the order of the request.
    pub(crate) notifications: Vec<SimulatedView>,
}

/// Something that would happen.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct EventView {
    pub(crate) at: String,
    /// The same, in seconds after the beginning.
    pub(crate) after_seconds: f64,
    /// To which notification, by its place in the request, from 0; null if not to a single one.
    pub(crate) notification: Option<usize>,
    /// To which channel, or one of which.
    pub(crate) channel: Option<&'static str>,
    /// `accepted` (the request), `queued`, `call`, `retrying`, `delivered`, `failed`, `cancelled`, `stop`, `paused` (the
    /// provider refuses the whole channel, or is away) or `resumed`.
    pub(crate) event: &'static str,
    /// The same in a sentence, as it would be told at that moment.
    pub(crate) sentence: String,
}

/// What would come of a notification.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct SimulatedView {
    /// Its place in the request, from 0.
    pub(crate) index: usize,
    pub(crate) channel: String,
    /// `delivered` (accepted by the provider), `failed` or `cancelled`.
    pub(crate) state: &'static str,
    /// Whether it would be sent: `accepted`, `not-sent` or `unknown`.
    pub(crate) answer: &'static str,
    /// Why, in one sentence.
    pub(crate) sentence: String,
    /// Calls that cost an attempt.
    pub(crate) attempts: usize,
    pub(crate) max_attempts: u16,
    pub(crate) finished_at: Option<String>,
    pub(crate) calls: Vec<CallView>,
}

impl SimulationView {
    fn new(begins_at: Timestamp, timeline: Timeline) -> Self {
        let event = |event: Happening| EventView {
            at: time(event.at),
            after_seconds: event.at.duration_since(begins_at).as_secs_f64(),
            notification: event.notification,
            channel: event.channel,
            event: event.kind.as_str(),
            sentence: event.sentence,
        };
        Self {
            begins_at: time(begins_at),
            ends_at: time(timeline.ends_at),
            timeline: timeline.events.into_iter().map(event).collect(),
            notifications: timeline.ends.into_iter().enumerate().map(SimulatedView::from).collect(),
        }
    }
}

impl From<(usize, Story)> for SimulatedView {
    fn from((index, end): (usize, Story)) -> Self {
        let (answer, sentence) = explain(&end);
        Self {
            index,
            state: end.state.as_str(),
            answer: answer.as_str(),
            sentence,
            attempts: end.calls.iter().filter(|call| call.outcome.costs_an_attempt()).count(),
            max_attempts: end.max_attempts,
            finished_at: end.finished_at.map(time),
            calls: end.calls.iter().map(CallView::from).collect(),
            channel: end.channel,
        }
    }
}

/// What would come of a request
///
/// Plays a start on a virtual clock, by the rules that the programs follow, and changes nothing. `providers` says for each
/// channel what its provider does with its calls, in the order in which they happen; after that it accepts.
///
/// Of what only an installation has, nothing is known here: pauses, a backlog, caller ids, other processes. Programs,
/// database and broker take no time, and one worker serves each channel: calls really begin a little later, a retry up
/// to half a minute if the broker has lost it.
#[utoipa::path(
    post, path = "/v1/simulate", tag = "requests",
    request_body(content = ref("#/components/schemas/Simulation"), content_type = "application/json"),
    responses(
        (status = 200, body = SimulationView),
        (status = 422, description = "Something in it can't be used, or too much would happen", body = Problem,
            content_type = "application/problem+json"),
    )
)]
pub(crate) async fn simulate(
    MayRead(_): MayRead,
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Json<SimulationView>, Problem> {
    must_be(&headers, "application/json")?;
    let wanted = wire::parse_simulation(&body)
        .map_err(|reasons| Problem::invalid(reasons.into_iter().map(FieldError::from).collect()))?;
    let begins_at = match wanted.now {
        Some(now) => now,
        None => api.store.now().await?,
    };
    if wanted.stop_at.is_some_and(|stop_at| stop_at < begins_at) {
        return Err(Problem::field("stop-at", format!("must not be before now, which is {}", time(begins_at))));
    }
    let simulation = Simulation {
        begins_at,
        process: wanted.process,
        notifications: wanted.notifications,
        reactions: wanted.reactions,
        stop_at: wanted.stop_at,
        call_timeout: api.call_timeout,
        max_events: MAX_EVENTS,
    };
    // A long one takes a while, in which others want answers.
    match tokio::task::spawn_blocking(move || play(simulation)).await {
        Ok(Ok(timeline)) => Ok(Json(SimulationView::new(begins_at, timeline))),
        Ok(Err(error)) => Err(Problem::field("", format!("asks for too much: {error}"))),
        Err(error) => Err(Problem::bug(&error)),
    }
}
