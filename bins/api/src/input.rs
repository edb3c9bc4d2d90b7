use axum::{
    RequestPartsExt,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use store::Page;
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;

/// The most rows of a page.
const MAX_LIMIT: i64 = 200;

const DEFAULT_LIMIT: i64 = 50;

/// A JSON body, read whole, or a problem that names the field.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        must_be(request.headers(), "application/json")?;
        let RawBody(bytes) = RawBody::from_request(request, state).await?;
        let mut deserializer = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { String::new() } else { path };
            Problem::unreadable(field, error.inner().to_string())
        })?;
        deserializer.end().map_err(|error| Problem::unreadable("", error.to_string()))?;
        Ok(Self(value))
    }
}

/// The bytes of a body, within the limit of its size.
pub(crate) struct RawBody(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Bytes::from_request(request, state).await.map(Self).map_err(|rejection| {
            let status = rejection.status();
            if status == StatusCode::PAYLOAD_TOO_LARGE {
                return Problem::new(status, "too-large", "the body is too large", rejection.body_text());
            }
            Problem::unreadable("", rejection.body_text())
        })
    }
}

/// A body's type is what keeps a web page elsewhere from sending one without being asked.
pub(crate) fn must_be(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let title = "the body must be of another type";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", title, format!("Content-Type must be {wanted}")))
}

/// The parameters after the question mark, or a problem that names the one that is wrong.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let read = Query::<T>::try_from_uri(&parts.uri);
        read.map(|Query(parameters)| Self(parameters)).map_err(|rejection| {
            let text = rejection.body_text();
            let text = text.trim_start_matches("Failed to deserialize query string: ");
            match text.split_once(": ") {
                Some((field, message)) => Problem::unreadable(field, message),
                None => Problem::unreadable("", text),
            }
        })
    }
}

/// A number in the path.
pub(crate) struct Number(pub(crate) i64);

impl<S: Send + Sync> FromRequestParts<S> for Number {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Word(word) = Word::from_request_parts(parts, state).await?;
        word.parse().map(Self).map_err(|_| Problem::unreadable("id", "must be a whole number"))
    }
}

/// A name in the path.
pub(crate) struct Word(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Word {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let read = parts.extract::<Path<String>>().await;
        read.map(|Path(word)| Self(word)).map_err(|rejection| Problem::unreadable("path", rejection.body_text()))
    }
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paging {
    /// Only what is older than this: `next` of the page before.
    pub(crate) before: Option<i64>,
    /// At most so many, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub(crate) limit: Option<i64>,
}

impl Paging {
    pub(crate) fn page(self) -> Result<Page, Problem> {
        page(self.before, self.limit)
    }
}

/// Checks what the parameters `before` and `limit` say.
pub(crate) fn page(before: Option<i64>, limit: Option<i64>) -> Result<Page, Problem> {
    match limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(Page { before, limit }),
        _ => Err(Problem::field("limit", format!("must be from 1 to {MAX_LIMIT}"))),
    }
}

/// A page of a list, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List<T> {
    /// What is on this page.
    pub(crate) items: Vec<T>,
    /// Give it as `before` to get the next page. Without it this is the last.
    pub(crate) next: Option<i64>,
}

impl<T> List<T> {
    /// `id` gives an item's number.
    pub(crate) fn new(items: Vec<T>, page: Page, id: impl Fn(&T) -> i64) -> Self {
        let is_full = i64::try_from(items.len()) == Ok(page.limit);
        let next = if is_full { items.last().map(id) } else { None };
        Self { items, next }
    }
}
