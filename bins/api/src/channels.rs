use std::sync::Arc;

use axum::{Json, extract::State};
use domain::{CHANNELS, CallerIdRegistry};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{ALL_CHANNELS, Pause};
use utoipa::ToSchema;

use crate::{
    Api,
    auth::{MayAdminister, MayOperate, MayRead},
    input::{Body, Word},
    notifications::known_channel,
    problem::Problem,
    view::time,
};

const CALLER_IDS: &str = "caller-id-registry";

const MAX_REASON_CHARACTERS: usize = 500;

/// A channel whose workers claim nothing, since somebody said so.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PauseView {
    /// Its name, or `all`.
    pub(crate) channel: String,
    pub(crate) paused_at: String,
    pub(crate) paused_by: String,
    pub(crate) reason: Option<String>,
}

impl PauseView {
    /// What it means, for somebody who looks for what is wrong.
    pub(crate) fn sentence(&self) -> String {
        let why = self.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
        format!("{} is paused by {} since {}{why}", self.channel, self.paused_by, self.paused_at)
    }
}

impl From<Pause> for PauseView {
    fn from(pause: Pause) -> Self {
        let Pause { channel, paused_at, paused_by, reason } = pause;
        Self { channel, paused_at: time(paused_at), paused_by, reason }
    }
}

/// A channel and what holds it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ChannelView {
    pub(crate) channel: &'static str,
    /// What of it, or of all channels, is paused.
    pub(crate) pauses: Vec<PauseView>,
}

/// List channels, and what is paused
#[utoipa::path(get, path = "/v1/channels", tag = "channels", responses((status = 200, body = Vec<ChannelView>)))]
pub(crate) async fn list(MayRead(_): MayRead, State(api): State<Arc<Api>>) -> Result<Json<Vec<ChannelView>>, Problem> {
    let pauses = api.store.channel_pauses().await?;
    let of = |name: &str| {
        let mine = pauses.iter().filter(|pause| pause.channel == name || pause.channel == ALL_CHANNELS);
        mine.cloned().map(PauseView::from).collect()
    };
    Ok(Json(CHANNELS.iter().map(|channel| ChannelView { channel: channel.name, pauses: of(channel.name) }).collect()))
}

/// Why to pause.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reason {
    /// For others to read; at most 500 characters.
    #[schema(max_length = 500)]
    pub(crate) reason: Option<String>,
}

fn checked(channel: &str) -> Result<&'static str, Problem> {
    if channel == ALL_CHANNELS {
        return Ok(ALL_CHANNELS);
    }
    known_channel(Some(channel))?.ok_or_else(|| Problem::not_found("no channel"))
}

/// Pause a channel, or `all`
///
/// Once this has answered no call of it begins; what is being sent ends.
#[utoipa::path(
    put, path = "/v1/channels/{channel}/pause", tag = "channels", params(("channel" = String, Path)),
    request_body = Reason,
    responses(
        (status = 200, description = "All that is paused now", body = Vec<PauseView>),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn pause(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    Word(channel): Word,
    Body(Reason { reason }): Body<Reason>,
) -> Result<Json<Vec<PauseView>>, Problem> {
    let channel = checked(&channel)?;
    if reason.as_ref().is_some_and(|reason| reason.chars().count() > MAX_REASON_CHARACTERS) {
        return Err(Problem::field("reason", format!("must be at most {MAX_REASON_CHARACTERS} characters")));
    }
    api.store.channel_pause(channel, &caller.actor(), reason.as_deref()).await?;
    paused(&api).await
}

/// Let a channel go on, or `all` of them
#[utoipa::path(
    delete, path = "/v1/channels/{channel}/pause", tag = "channels", params(("channel" = String, Path)),
    responses(
        (status = 200, description = "All that is still paused", body = Vec<PauseView>),
        (status = 409, description = "It was not paused", body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn resume(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    Word(channel): Word,
) -> Result<Json<Vec<PauseView>>, Problem> {
    let channel = checked(&channel)?;
    if api.store.channel_resume(channel, &caller.actor()).await?.is_empty() {
        return Err(Problem::conflict(format!("{channel} was not paused")));
    }
    paused(&api).await
}

async fn paused(api: &Api) -> Result<Json<Vec<PauseView>>, Problem> {
    Ok(Json(api.store.channel_pauses().await?.into_iter().map(PauseView::from).collect()))
}

/// The numbers that calls and texts come from, by the longest prefix of the number that they go to
#[utoipa::path(
    get, path = "/v1/properties/caller-id-registry", tag = "properties",
    responses((status = 200, body = HashMap<String, String>))
)]
pub(crate) async fn caller_ids(MayRead(_): MayRead, State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    let stored = api.store.property(CALLER_IDS).await?;
    Ok(Json(stored.unwrap_or_else(|| Value::Object(Default::default()))))
}

/// Replace the numbers that calls and texts come from
///
/// The keys are prefixes such as `+385`, and `default`; the values are numbers in E.164. The workers use it from their next
/// call on.
#[utoipa::path(
    put, path = "/v1/properties/caller-id-registry", tag = "properties", request_body(content = ref("#/components/schemas/CallerIds"), content_type = "application/json"),
    responses(
        (status = 200, body = HashMap<String, String>),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn set_caller_ids(
    MayAdminister(caller): MayAdminister,
    State(api): State<Arc<Api>>,
    Body(registry): Body<Value>,
) -> Result<Json<Value>, Problem> {
    CallerIdRegistry::from_new_json(&registry).map_err(|error| Problem::field("", error.to_string()))?;
    api.store.property_set(CALLER_IDS, &registry, &caller.actor()).await?;
    Ok(Json(registry))
}
