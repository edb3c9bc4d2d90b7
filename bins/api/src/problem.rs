use std::fmt::{self, Display};

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, Serializer};
use store::{Disposition, Error};
use utoipa::ToSchema;

/// Why a request to the API did not do what it was to do: a problem document as RFC 9457 has it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(title = "Problem")]
pub(crate) struct Problem {
    /// What kind of problem, as a URI that stays the same.
    #[serde(rename = "type", serialize_with = "urn")]
    #[schema(value_type = String)]
    kind: &'static str,
    /// What kind of problem, in words.
    pub(crate) title: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What happened this time, and what to do about it.
    pub(crate) detail: String,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<FieldError>,
    /// The recorded request, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<i64>,
    #[serde(skip)]
    advice: Option<Advice>,
}

/// What a header of the answer advises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// To show a key as a bearer token.
    BearerKey,
    /// To ask the person at the browser for the key.
    KeyAsPassword,
    /// To try again after so many seconds.
    RetryAfter(u8),
}

impl Advice {
    fn header(self) -> (HeaderName, HeaderValue) {
        match self {
            Self::BearerKey => (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            Self::KeyAsPassword => {
                let challenge = "Basic realm=\"Tocsin: the key as password\"";
                (header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
            }
            Self::RetryAfter(seconds) => (header::RETRY_AFTER, HeaderValue::from(u16::from(seconds))),
        }
    }
}

fn urn<S: Serializer>(kind: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("urn:tocsin:problem:{kind}"))
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// Where: a key such as `notifications[2].at`, a parameter or a header; empty for the whole.
    pub(crate) field: String,
    /// What.
    pub(crate) message: String,
}

impl Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.field, self.message) }
    }
}

impl From<wire::Reason> for FieldError {
    fn from(wire::Reason { field, message }: wire::Reason) -> Self {
        Self { field, message }
    }
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            request: None,
            advice: None,
        }
    }

    /// Values that can't be used.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let mut detail: Vec<_> = errors.iter().take(3).map(|e| format!("{} {}", e.field, e.message)).collect();
        if errors.len() > detail.len() {
            detail.push(format!("and {} more", errors.len() - detail.len()));
        }
        let detail = detail.join("; ").trim().to_owned();
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self { errors, ..Self::new(status, "invalid", "something in the request can't be used", detail) }
    }

    /// One value that can't be used.
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// A parameter, a header or a body that can't even be read.
    pub(crate) fn unreadable(field: impl Into<String>, message: impl Into<String>) -> Self {
        let error = FieldError { field: field.into(), message: message.into() };
        let detail = format!("{} {}", error.field, error.message).trim().to_owned();
        let problem = Self::new(StatusCode::BAD_REQUEST, "unreadable", "the request can't be read", detail);
        Self { errors: vec![error], ..problem }
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "there is no such thing", what)
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "it is not in a state for that", detail)
    }

    /// Something that must not happen.
    pub(crate) fn bug(error: &dyn Display) -> Self {
        tracing::error!(event = "bug", %error, "a request was not answered");
        let title = "Tocsin has made a mistake";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", title, "the program's log says more")
    }

    pub(crate) fn of_request(self, request: i64) -> Self {
        Self { request: Some(request), ..self }
    }

    pub(crate) fn advising(self, advice: Advice) -> Self {
        Self { advice: Some(advice), ..self }
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match (&error, error.disposition()) {
            (Error::Row { .. }, _) => Self::bug(&error),
            (_, Disposition::BadData) => Self::field("", "holds something that the database can't hold"),
            (_, Disposition::TooMuch | Disposition::Conflict | Disposition::Wait) => {
                tracing::warn!(event = "database_away", %error, "a request was not answered");
                let title = "the database is away, or busy with that";
                let detail = match &error {
                    Error::Interrupted { retried, .. } => {
                        format!("{retried} are tried again, perhaps some more; try again soon, for the rest")
                    }
                    _ => "nothing was changed that was not confirmed; try again soon".to_owned(),
                };
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", title, detail).advising(Advice::RetryAfter(2))
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let advice = self.advice;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = advice.map(Advice::header) {
            headers.insert(name, value);
        }
        response
    }
}
