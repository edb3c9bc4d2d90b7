use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Json,
    extract::{Query, State},
    http::StatusCode,
    response::{Redirect, Response},
};
use domain::Role;

use super::{
    frame::{Done, Failed, Frame, html},
    session::{LoggedIn, Nothing, Posted},
};
use crate::{
    Api,
    auth::MayAdminister,
    input::{Body, Word},
    keys::{self, CreatedKey, KeyView, NewKey},
};

#[derive(Template)]
#[template(path = "keys.html")]
struct Keys {
    frame: Frame,
    keys: Vec<KeyView>,
    roles: [&'static str; 4],
    created: Option<CreatedKey>,
}

async fn page(
    session: LoggedIn,
    api: Arc<Api>,
    said: Option<&str>,
    created: Option<CreatedKey>,
) -> Result<Response, Failed> {
    let Json(keys) = keys::list(MayAdminister::check(&session.caller)?, State(api)).await?;
    let frame = session.frame("Keys", "keys").saying(said);
    Ok(html(StatusCode::OK, &Keys { frame, keys, roles: Role::ALL.map(Role::as_str), created }))
}

pub(super) async fn list(
    session: LoggedIn,
    State(api): State<Arc<Api>>,
    Query(Done { done }): Query<Done>,
) -> Result<Response, Failed> {
    let said = (done == "revoked").then_some("The key opens nothing any more.");
    page(session, api, said, None).await
}

/// The page shows the new key, this once.
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Posted { session, form }: Posted<NewKey>,
) -> Result<Response, Failed> {
    let may = MayAdminister::check(&session.caller)?;
    let (_, Json(created)) = keys::create(may, State(Arc::clone(&api)), Body(form)).await?;
    page(Extension(session), api, None, Some(created)).await
}

pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    prefix: Word,
    Posted { session, .. }: Posted<Nothing>,
) -> Result<Redirect, Failed> {
    let Json(_) = keys::revoke(MayAdminister::check(&session.caller)?, State(api), prefix).await?;
    Ok(Redirect::to("/keys?done=revoked"))
}
