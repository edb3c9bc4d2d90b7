use std::sync::Arc;

use askama::Template;
use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{Redirect, Response},
};
use domain::{CHANNELS, Channel};
use serde::Deserialize;
use store::Upcoming;

use super::{
    frame::{Failed, Frame, html},
    plot::Plot,
    session::{LoggedIn, Nothing, Posted},
};
use crate::{
    Api,
    auth::{MayOperate, MayRead},
    channels::{self, PauseView, Reason},
    input::{Body, Parameters, Word},
    status::{self, ChannelStatus, Period, Status},
    view::time,
};

/// How much of what comes next is shown.
const UPCOMING: i64 = 8;

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    status: Status,
    cards: Vec<Card>,
    upcoming: Vec<Next>,
    plot: Plot,
    /// All channels together are paused.
    all_paused: bool,
}

/// A notification that is to be sent.
struct Next {
    id: i64,
    process: String,
    channel: String,
    due_at: String,
}

impl From<Upcoming> for Next {
    fn from(Upcoming { id, process, channel, due_at }: Upcoming) -> Self {
        Self { id, process, channel, due_at: time(due_at) }
    }
}

/// A channel.
struct Card {
    name: &'static str,
    /// `running`, `paused` or `no worker`.
    health: &'static str,
    workers: i64,
    waiting: i64,
    sending: i64,
    retrying: i64,
    delivered: i64,
    failed: i64,
    cancelled: i64,
    p99: Option<String>,
    pause: Option<PauseView>,
}

/// What of a channel is in one of these states.
fn unfinished(channel: &ChannelStatus, states: &[&str]) -> i64 {
    states.iter().filter_map(|state| channel.unfinished.get(*state)).sum()
}

impl Card {
    fn new(channel: &ChannelStatus, status: &Status) -> Self {
        let program = format!("notifier-{}", channel.channel);
        let workers = status.programs.iter().find(|one| one.program == program).map_or(0, |one| one.copies);
        let pause = status.pauses.iter().find(|pause| pause.channel == channel.channel);
        let finished = |state: &str| channel.finished.get(state).copied().unwrap_or_default();
        Self {
            name: channel.channel,
            health: match (pause.is_some(), workers) {
                (true, _) => "paused",
                (false, 0) => "no worker",
                (false, _) => "running",
            },
            workers,
            waiting: unfinished(channel, &["scheduled", "queued"]),
            sending: unfinished(channel, &["sending"]),
            retrying: unfinished(channel, &["retrying"]),
            delivered: finished("delivered"),
            failed: finished("failed"),
            cancelled: finished("cancelled"),
            p99: channel.lateness_seconds.as_ref().map(|late| seconds(late.p99)),
            pause: pause.cloned(),
        }
    }
}

/// So that both 4 ms and 3 minutes can be read.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1_000.0),
        s if s < 120.0 => format!("{s:.1} s"),
        s => format!("{:.0} min", s / 60.0),
    }
}

impl Overview {
    fn total(&self, state: &str) -> i64 {
        self.status.channels.iter().map(|channel| unfinished(channel, &[state])).sum()
    }
}

/// What was done before this page was shown again.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Done {
    paused: Option<String>,
    resumed: Option<String>,
}

impl Done {
    fn said(self) -> Option<String> {
        let known = |name: &str| Channel::named(name).is_some() || name == store::ALL_CHANNELS;
        let paused = self.paused.filter(|name| known(name)).map(|name| format!("{name} is paused"));
        paused.or(self.resumed.filter(|name| known(name)).map(|name| format!("{name} goes on")))
    }
}

pub(super) async fn show(
    session: LoggedIn,
    State(api): State<Arc<Api>>,
    Query(done): Query<Done>,
) -> Result<Response, Failed> {
    let caller = MayRead::check(&session.caller)?;
    let Json(status) = status::status(caller, State(Arc::clone(&api)), Parameters(Period::default())).await?;
    let names: Vec<&str> = CHANNELS.iter().map(|channel| channel.name).collect();
    let page = Overview {
        frame: session.frame("Overview", "overview").saying(done.said()),
        cards: status.channels.iter().map(|channel| Card::new(channel, &status)).collect(),
        upcoming: api.store.upcoming(&names, UPCOMING).await?.into_iter().map(Next::from).collect(),
        plot: Plot::new(&api.store.lateness_by_minute().await?, &status.now),
        all_paused: status.pauses.iter().any(|pause| pause.channel == store::ALL_CHANNELS),
        status,
    };
    Ok(html(StatusCode::OK, &page))
}

/// Why somebody pauses.
#[derive(Deserialize)]
pub(super) struct PauseForm {
    reason: String,
}

pub(super) async fn pause(
    State(api): State<Arc<Api>>,
    channel: Word,
    Posted { session, form }: Posted<PauseForm>,
) -> Result<Redirect, Failed> {
    let name = channel.0.clone();
    let reason = Some(form.reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    let Json(_) =
        channels::pause(MayOperate::check(&session.caller)?, State(api), channel, Body(Reason { reason })).await?;
    Ok(Redirect::to(&format!("/?paused={name}")))
}

pub(super) async fn resume(
    State(api): State<Arc<Api>>,
    channel: Word,
    Posted { session, .. }: Posted<Nothing>,
) -> Result<Redirect, Failed> {
    let name = channel.0.clone();
    let Json(_) = channels::resume(MayOperate::check(&session.caller)?, State(api), channel).await?;
    Ok(Redirect::to(&format!("/?resumed={name}")))
}
