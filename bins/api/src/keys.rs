use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use domain::{ApiKey, Role};
use runtime::random_bytes;
use serde::{Deserialize, Serialize};
use store::ApiKeyRecord;
use utoipa::ToSchema;

use crate::{
    Api,
    auth::MayAdminister,
    input::{Body, Word},
    problem::Problem,
    view::time,
};

/// A key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct KeyView {
    /// The part of it by which it is named.
    pub(crate) prefix: String,
    pub(crate) name: String,
    /// `send`, `read`, `operate` or `admin`.
    pub(crate) role: &'static str,
    pub(crate) created_at: String,
    pub(crate) created_by: String,
    /// Since when it opens nothing any more.
    pub(crate) revoked_at: Option<String>,
}

impl From<ApiKeyRecord> for KeyView {
    fn from(key: ApiKeyRecord) -> Self {
        Self {
            prefix: key.prefix,
            name: key.name,
            role: key.role.as_str(),
            created_at: time(key.created_at),
            created_by: key.created_by,
            revoked_at: key.revoked_at.map(time),
        }
    }
}

/// List keys
#[utoipa::path(get, path = "/v1/keys", tag = "keys", responses((status = 200, body = Vec<KeyView>)))]
pub(crate) async fn list(
    MayAdminister(_): MayAdminister,
    State(api): State<Arc<Api>>,
) -> Result<Json<Vec<KeyView>>, Problem> {
    Ok(Json(api.store.api_keys().await?.into_iter().map(KeyView::from).collect()))
}

/// Whose key it is to be, and what it is to open.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    /// Whose it is, or what it is for: 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub(crate) name: String,
    /// `send`, `read`, `operate` or `admin`.
    #[schema(pattern = "^(send|read|operate|admin)$")]
    pub(crate) role: String,
}

/// A new key.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedKey {
    /// The part of it by which it is named.
    pub(crate) prefix: String,
    /// The whole key. It is shown this once, and is not kept.
    pub(crate) key: String,
}

/// Make a key
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", request_body = NewKey,
    responses(
        (status = 201, body = CreatedKey),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    MayAdminister(caller): MayAdminister,
    State(api): State<Arc<Api>>,
    Body(new): Body<NewKey>,
) -> Result<(StatusCode, Json<CreatedKey>), Problem> {
    if !(1..=100).contains(&new.name.chars().count()) || new.name.chars().any(char::is_control) {
        return Err(Problem::field("name", "must be 1 to 100 characters, without control characters"));
    }
    let role: Role = new.role.parse().map_err(|error| Problem::field("role", format!("{error}")))?;
    let key = ApiKey::of_random(random_bytes());
    api.store.api_key_create(&key, &new.name, role, &caller.actor()).await?;
    let created = CreatedKey { prefix: key.prefix().to_owned(), key: key.expose().to_owned() };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Revoke a key
///
/// From then on it opens nothing.
#[utoipa::path(
    delete, path = "/v1/keys/{prefix}", tag = "keys", params(("prefix" = String, Path)),
    responses(
        (status = 200, body = KeyView),
        (status = 404, description = "There is none, or it was revoked before", body = Problem,
            content_type = "application/problem+json"),
    )
)]
pub(crate) async fn revoke(
    MayAdminister(caller): MayAdminister,
    State(api): State<Arc<Api>>,
    Word(prefix): Word,
) -> Result<Json<KeyView>, Problem> {
    let revoked = api.store.api_key_revoke(&prefix, &caller.actor()).await?;
    revoked.map(|key| Json(key.into())).ok_or_else(|| Problem::not_found("no such key opens anything"))
}
