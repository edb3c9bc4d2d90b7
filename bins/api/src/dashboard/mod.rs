//! The dashboard: pages over the functions that answer `/v1`, so that who may do what, what is checked and what is
//! written to the audit is the same in both.
//!
//! Pages work without scripts. With them they stay up to date: `assets/dashboard.js` fetches the page that is shown again
//! when something has happened, and puts what changed in place.

mod audit;
mod failures;
mod frame;
mod keys;
mod notifications;
mod overview;
mod plot;
mod processes;
mod requests;
mod schedules;
pub(crate) mod session;
mod settings;
mod simulator;

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use crate::{Api, auth::MayRead, events, problem::Problem};
use frame::Session;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// All pages, and what they load.
pub(crate) fn router(api: &Arc<Api>) -> Router<Arc<Api>> {
    let pages = Router::new()
        .route("/", get(overview::show))
        .route("/channels/{channel}/pause", post(overview::pause))
        .route("/channels/{channel}/resume", post(overview::resume))
        .route("/processes", get(processes::list))
        .route("/processes/{process-id}", get(processes::show))
        .route("/processes/{process-id}/stop", post(processes::stop))
        .route("/notifications/{id}", get(notifications::show))
        .route("/notifications/{id}/edit", post(notifications::edit))
        .route("/notifications/{id}/retry", post(notifications::retry))
        .route("/notifications/{id}/give-up", post(notifications::give_up))
        .route("/failures", get(failures::show))
        .route("/failures/retry", post(failures::retry))
        .route("/requests", get(requests::list).post(requests::send))
        .route("/requests/{id}", get(requests::show))
        .route("/requests/{id}/replay", post(requests::replay))
        .route("/schedules", get(schedules::list).post(schedules::create))
        .route("/schedules/{id}", get(schedules::show))
        .route("/schedules/{id}/edit", post(schedules::edit))
        .route("/schedules/{id}/pause", post(schedules::pause))
        .route("/schedules/{id}/resume", post(schedules::resume))
        .route("/schedules/{id}/trigger", post(schedules::trigger))
        .route("/schedules/{id}/backfill", post(schedules::backfill))
        .route("/schedules/{id}/delete", post(schedules::delete))
        .route("/simulator", get(simulator::show).post(simulator::play))
        .route("/settings", get(settings::show).post(settings::set_caller_ids))
        .route("/audit", get(audit::list))
        .route("/dead-letters", get(audit::dead_letters))
        .route("/keys", get(keys::list).post(keys::create))
        .route("/keys/{prefix}/revoke", post(keys::revoke))
        .route("/events", get(watch))
        .route("/logout", post(session::logout))
        .layer(middleware::from_fn_with_state(Arc::clone(api), session::logged_in));
    let open = Router::new()
        .route("/login", get(session::show).post(session::login))
        .route("/assets/dashboard.css", get(async || asset("text/css", include_str!("../../assets/dashboard.css"))))
        .route(
            "/assets/dashboard.js",
            get(async || asset("text/javascript", include_str!("../../assets/dashboard.js"))),
        )
        .route("/assets/icon.svg", get(async || asset("image/svg+xml", include_str!("../../assets/icon.svg"))));
    pages.merge(open).layer(middleware::from_fn(guarded))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// What happens, for pages that stay up to date.
async fn watch(session: Extension<Session>, api: State<Arc<Api>>) -> Result<Response, Problem> {
    Ok(events::events(MayRead(session.caller.clone()), api).await?.into_response())
}

async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}
