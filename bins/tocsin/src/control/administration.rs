//! Pauses, caller ids and keys, as the database has them, but through the API: the audit then names the key.

use domain::Role;
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{ApiKeyRecord, Pause};

use super::client::{Answer, Body, Client};
use crate::{Problem, UNAVAILABLE};

const REGISTRY: &[&str] = &["properties", "caller-id-registry"];

#[derive(Deserialize)]
struct Channel {
    pauses: Vec<PauseView>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PauseView {
    channel: String,
    paused_at: String,
    paused_by: String,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct KeyView {
    prefix: String,
    name: String,
    role: String,
    created_at: String,
    created_by: String,
    revoked_at: Option<String>,
}

/// A new key.
#[derive(Deserialize)]
pub(crate) struct Created {
    pub(crate) prefix: String,
    /// The whole key.
    pub(crate) key: String,
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|_| Problem::new(UNAVAILABLE, format!("the API answers {text:?}, which this version does not know")))
}

fn pauses_of(views: Vec<PauseView>) -> Result<Vec<Pause>, Problem> {
    let mut pauses = Vec::new();
    for PauseView { channel, paused_at, paused_by, reason } in views {
        pauses.push(Pause { channel, paused_at: parse::<Timestamp>(&paused_at)?, paused_by, reason });
    }
    pauses.sort_by(|a, b| a.channel.cmp(&b.channel));
    // What holds all channels stands with each.
    pauses.dedup();
    Ok(pauses)
}

/// All that is paused.
pub(crate) async fn pauses(client: &Client) -> Result<Vec<Pause>, Problem> {
    let channels: Vec<Channel> = client.get(&["channels"], &[]).await?.read()?;
    pauses_of(channels.into_iter().flat_map(|channel| channel.pauses).collect())
}

pub(crate) async fn pause(client: &Client, channel: &str, reason: Option<&str>) -> Result<(), Problem> {
    let body = json!({"reason": reason}).into();
    client.send(Method::PUT, &["channels", channel, "pause"], body).await.map(drop)
}

/// Answers what is still paused.
pub(crate) async fn resume(client: &Client, channel: &str) -> Result<Vec<Pause>, Problem> {
    let answer = client.send(Method::DELETE, &["channels", channel, "pause"], Body::Nothing).await?;
    pauses_of(answer.read()?)
}

/// The caller ids, if there are any.
pub(crate) async fn registry(client: &Client) -> Result<Option<Value>, Problem> {
    let registry: Value = client.get(REGISTRY, &[]).await?.read()?;
    Ok(Some(registry).filter(|registry| registry.as_object().is_none_or(|members| !members.is_empty())))
}

pub(crate) async fn set_registry(client: &Client, registry: &Value) -> Result<(), Problem> {
    client.send(Method::PUT, REGISTRY, registry.clone().into()).await.map(drop)
}

fn key(view: KeyView) -> Result<ApiKeyRecord, Problem> {
    let KeyView { prefix, name, role, created_at, created_by, revoked_at } = view;
    Ok(ApiKeyRecord {
        prefix,
        name,
        role: parse::<Role>(&role)?,
        created_at: parse(&created_at)?,
        created_by,
        revoked_at: revoked_at.as_deref().map(parse).transpose()?,
    })
}

pub(crate) async fn keys(client: &Client) -> Result<Vec<ApiKeyRecord>, Problem> {
    let views: Vec<KeyView> = client.get(&["keys"], &[]).await?.read()?;
    views.into_iter().map(key).collect()
}

pub(crate) async fn create_key(client: &Client, name: &str, role: Role) -> Result<Created, Problem> {
    let body = json!({"name": name, "role": role.as_str()}).into();
    client.send(Method::POST, &["keys"], body).await?.read()
}

pub(crate) async fn revoke_key(client: &Client, prefix: &str) -> Result<ApiKeyRecord, Problem> {
    let answer: Answer = client.send(Method::DELETE, &["keys", prefix], Body::Nothing).await?;
    key(answer.read()?)
}
