use std::sync::Arc;

use askama::Template;
use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;

use super::{
    frame::{Failed, Frame, html},
    session::LoggedIn,
};
use crate::{
    Api,
    auth::{MayAdminister, MayRead},
    input::{List, Paging, Parameters},
    status::{self, AuditView, DeadLetterView, Of},
};

/// What is looked for, and from where on.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    object: String,
    before: Option<i64>,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Audit {
    frame: Frame,
    found: List<AuditView>,
    object: String,
}

pub(super) async fn list(
    session: LoggedIn,
    State(api): State<Arc<Api>>,
    Query(search): Query<Search>,
) -> Result<Response, Failed> {
    let object = search.object.trim().to_owned();
    let of = Of { object: Some(object.clone()).filter(|it| !it.is_empty()), before: search.before, limit: None };
    let Json(found) = status::audit(MayAdminister::check(&session.caller)?, State(api), Parameters(of)).await?;
    Ok(html(StatusCode::OK, &Audit { frame: session.frame("Audit", "audit"), found, object }))
}

#[derive(Template)]
#[template(path = "dead-letters.html")]
struct DeadLetters {
    frame: Frame,
    found: List<DeadLetterView>,
}

pub(super) async fn dead_letters(
    session: LoggedIn,
    State(api): State<Arc<Api>>,
    Query(paging): Query<Paging>,
) -> Result<Response, Failed> {
    let Json(found) = status::dead_letters(MayRead::check(&session.caller)?, State(api), Parameters(paging)).await?;
    Ok(html(StatusCode::OK, &DeadLetters { frame: session.frame("Dead letters", "overview"), found }))
}
