//! The API of Call Me, for programs that were written for it. Off unless a setting says otherwise.
//!
//! It stands over the functions that answer `/v1`: a job is a process with one message to an SNS topic, a schedule is a
//! schedule of such processes. It shows and stops nothing but what was made by it, as it may be open to whoever can reach it.

mod jobs;
mod schedules;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use wire::{CallmeError, callme_field};

use crate::{
    Api,
    auth::{self, Caller},
    problem::{FieldError, Problem},
};

pub(crate) const PREFIX: &str = "/compat/callme";

/// What Call Me has in the place of a time that there is not.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// For whom the API of Call Me is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compat {
    Off,
    /// For who has a key, as `/v1` is.
    Key,
    /// For everybody, as Call Me was.
    Anonymous,
}

impl Compat {
    pub(crate) const WORDS: &[(&str, Self)] = &[("off", Self::Off), ("key", Self::Key), ("anonymous", Self::Anonymous)];
}

pub(crate) fn router(api: &Arc<Api>) -> Router<Arc<Api>> {
    if api.compat == Compat::Off {
        return Router::new();
    }
    // Call Me took a slash at the end where something is made.
    let routes = Router::new()
        .route("/job", post(jobs::create))
        .route("/job/", post(jobs::create))
        .route("/job/{id}", get(jobs::show))
        .route("/job/{id}/delete", post(jobs::delete))
        .route("/schedule", post(schedules::create))
        .route("/schedule/", post(schedules::create))
        .route("/schedule/{id}", get(schedules::show))
        .route("/schedule/{id}/deactivate", post(schedules::deactivate))
        .fallback(async || Refused(Problem::not_found("nothing is served there; docs/CALLME.md says what is")))
        .method_not_allowed_fallback(async || {
            let title = "that can't be done there";
            Refused(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", title, "docs/CALLME.md says what can"))
        })
        .layer(DefaultBodyLimit::max(wire::MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(api), let_in));
    Router::new().nest(PREFIX, routes)
}

async fn let_in(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    // No page was a client of Call Me. Where no key is asked for, one could send a job unasked from behind a firewall.
    if request.headers().contains_key(header::ORIGIN) {
        let detail = "a page in a browser has sent this; only programs may";
        let title = "that did not come from a program";
        return Refused(Problem::new(StatusCode::FORBIDDEN, "forbidden", title, detail)).into_response();
    }
    let caller = match api.compat {
        Compat::Anonymous => Ok(Caller::anonymous(PREFIX)),
        Compat::Off | Compat::Key => auth::by_bearer(&api, &request).await,
    };
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => Refused(problem).into_response(),
    }
}

/// A problem in the words of Call Me: `{"err": "when: is required"}`.
#[derive(Debug)]
struct Refused(Problem);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<store::Error> for Refused {
    fn from(error: store::Error) -> Self {
        Self(error.into())
    }
}

impl From<CallmeError> for Refused {
    fn from(error: CallmeError) -> Self {
        let errors = |reasons: Vec<wire::Reason>| reasons.into_iter().map(FieldError::from).collect();
        match error {
            CallmeError::Malformed(reasons) => {
                let words: Vec<_> = reasons.iter().map(ToString::to_string).collect();
                Self(Problem::unreadable("", format!("the body {}", words.join("; "))))
            }
            CallmeError::Invalid(reasons) => Self(Problem::invalid(errors(reasons))),
        }
    }
}

impl Refused {
    fn words(&self) -> String {
        let Problem { title, detail, errors, .. } = &self.0;
        if self.0.status() >= 500 {
            return format!("{title}: {detail}");
        }
        if errors.is_empty() {
            return detail.clone();
        }
        let words = |FieldError { field, message }: &FieldError| {
            FieldError { field: callme_field(field), message: message.clone() }.to_string()
        };
        errors.iter().map(words).collect::<Vec<_>>().join("; ")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let words = json!({"err": self.words()}).to_string();
        let mut response = self.0.into_response();
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            // That it could not do something Call Me said so.
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.body_mut() = Body::from(words);
        response
    }
}

/// What came of an end that somebody wanted: `false` if there was nothing to end.
fn ended(is_done: bool) -> Response {
    // An answer that nothing was changed has no body.
    if is_done { Json(json!({"ok": true})).into_response() } else { StatusCode::NOT_MODIFIED.into_response() }
}

/// What the functions behind `/v1` want to see before they read a body.
fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}
