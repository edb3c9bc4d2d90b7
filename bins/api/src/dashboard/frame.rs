use askama::Template;
use axum::{
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use domain::Role;
use serde::Deserialize;

use crate::{auth::Caller, problem::Problem};

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) caller: Caller,
    /// What each form must carry.
    pub(super) csrf: String,
}

impl Session {
    /// What stands around a page. `section` is the part of the navigation that it belongs to.
    pub(super) fn frame(&self, title: impl Into<String>, section: &'static str) -> Frame {
        Frame {
            title: title.into(),
            section,
            user: self.caller.name.clone(),
            role: self.caller.role.as_str(),
            csrf: self.csrf.clone(),
            may_operate: self.caller.role.includes(Role::Operate),
            may_administer: self.caller.role.includes(Role::Admin),
            said: None,
        }
    }
}

/// What stands around each page.
pub(super) struct Frame {
    pub(super) title: String,
    pub(super) section: &'static str,
    pub(super) user: String,
    pub(super) role: &'static str,
    pub(super) csrf: String,
    pub(super) may_operate: bool,
    pub(super) may_administer: bool,
    /// What came of what was done last.
    pub(super) said: Option<String>,
}

impl Frame {
    pub(super) fn saying(self, said: Option<impl Into<String>>) -> Self {
        Self { said: said.map(Into::into), ..self }
    }
}

/// What was done before a page is shown again, as a word that only the page puts into a sentence.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Done {
    #[serde(default)]
    pub(super) done: String,
}

/// A page.
pub(super) fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(event = "bug", %error, "a page can't be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A page that could not be shown, or a form that could not be carried out.
#[derive(Debug)]
pub(super) struct Failed(pub(super) Problem);

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Self {
        Self(error.into())
    }
}

#[derive(Template)]
#[template(path = "failed.html")]
struct FailedPage<'a> {
    problem: &'a Problem,
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        html(status, &FailedPage { problem: &self.0 })
    }
}
