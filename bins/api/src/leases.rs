use std::sync::Arc;

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::Serialize;
use store::Store;
use utoipa::ToSchema;

use crate::{Api, auth::MayRead, problem::Problem, view::time};

/// A duty that one process at a time has.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct LeaseView {
    /// Which duty: `scheduler` starts what schedules say.
    pub(crate) lease: String,
    /// Who has it, or had it last: the program, its version and the process.
    pub(crate) holder: String,
    /// Whether it is held now.
    pub(crate) is_held: bool,
    /// Since when they have it.
    pub(crate) since: String,
    /// For how many seconds they have had it.
    pub(crate) age_seconds: i64,
    /// Until when, unless it is renewed.
    pub(crate) expires_at: String,
    /// The holder's number: who comes with a smaller one can write nothing.
    pub(crate) fence: i64,
}

/// All of them, as they are at `now`.
pub(crate) async fn look(store: &Store, now: Timestamp) -> Result<Vec<LeaseView>, Problem> {
    let view = |lease: store::LeaseRecord| LeaseView {
        age_seconds: now.duration_since(lease.since).as_secs(),
        lease: lease.name,
        holder: lease.holder,
        is_held: lease.is_held,
        since: time(lease.since),
        expires_at: time(lease.expires_at),
        fence: lease.fence,
    };
    Ok(store.leases().await?.into_iter().map(view).collect())
}

/// List leases: who has which duty, and since when
#[utoipa::path(get, path = "/v1/leases", tag = "status", responses((status = 200, body = Vec<LeaseView>)))]
pub(crate) async fn list(MayRead(_): MayRead, State(api): State<Arc<Api>>) -> Result<Json<Vec<LeaseView>>, Problem> {
    let now = api.store.now().await?;
    Ok(Json(look(&api.store, now).await?))
}
