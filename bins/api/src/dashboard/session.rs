use std::{net::SocketAddr, sync::Arc};

use askama::Template;
use axum::{
    Extension, Form,
    extract::{ConnectInfo, FromRequest, Query, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use cookie::{Cookie, SameSite, time::Duration};
use domain::Role;
use runtime::random_bytes;
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::frame::{Failed, Session, html};
use crate::{Api, auth, problem::Problem};

const COOKIE: &str = "tocsin_session";

/// Longer than a session, whose end the database decides.
const COOKIE_HOURS: i64 = 13;

/// The session that a browser's cookie names, if there is one.
pub(crate) async fn find(api: &Api, headers: &HeaderMap) -> Result<Option<Session>, Problem> {
    let Some(token) = token(headers) else { return Ok(None) };
    let found = api.store.session_find(&Sha256::digest(&token)).await?;
    Ok(found.map(|key| Session { caller: key.into(), csrf: csrf(&token) }))
}

fn token(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = all.flat_map(Cookie::split_parse).filter_map(Result::ok);
    cookies.find(|cookie| cookie.name() == COOKIE).map(|cookie| cookie.value().to_owned())
}

/// What each form of a session carries. No page elsewhere can know it, as it follows from the token.
fn csrf(token: &str) -> String {
    hex(&Sha256::digest(format!("csrf {token}")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lets nobody see a page who is not logged in.
pub(super) async fn logged_in(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    match find(&api, request.headers()).await {
        Ok(Some(session)) => {
            request.extensions_mut().insert(session);
            next.run(request).await
        }
        Ok(None) if request.method() == Method::GET => to_login(request.uri()),
        Ok(None) => {
            let detail = "log in again, and then do that once more";
            let problem =
                Problem::new(StatusCode::UNAUTHORIZED, "no-session", "you are not logged in any more", detail);
            Failed(problem).into_response()
        }
        Err(problem) => Failed(problem).into_response(),
    }
}

fn to_login(uri: &Uri) -> Response {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("to", path).finish();
    Redirect::to(&format!("/login?{query}")).into_response()
}

/// Tells somebody who has asked for a page that is not there. Only who is logged in learns that.
pub(crate) async fn nothing_there(api: &Api, headers: &HeaderMap, uri: &Uri) -> Response {
    match find(api, headers).await {
        Ok(Some(_)) => Failed(Problem::not_found("no page has this address")).into_response(),
        Ok(None) => to_login(uri),
        Err(problem) => Failed(problem).into_response(),
    }
}

/// Where to go after the login: a page of this dashboard, and none elsewhere.
#[derive(Debug, Default, Deserialize)]
pub(super) struct To {
    #[serde(default)]
    to: String,
}

impl To {
    fn path(&self) -> &str {
        let is_here = self.to.starts_with('/') && !self.to.starts_with("//") && !self.to.contains(['\\', '\r', '\n']);
        if is_here { &self.to } else { "/" }
    }
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    to: &'a str,
    problem: Option<String>,
}

pub(super) async fn show(Query(to): Query<To>) -> Response {
    html(StatusCode::OK, &LoginPage { to: to.path(), problem: None })
}

/// What the login form sends.
#[derive(Deserialize)]
pub(super) struct Login {
    key: String,
    #[serde(flatten)]
    to: To,
}

pub(super) async fn login(
    State(api): State<Arc<Api>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(form): Form<Login>,
) -> Response {
    match open(&api, from, &headers, form.key.trim()).await {
        Ok(cookie) => {
            let mut response = Redirect::to(form.to.path()).into_response();
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::UNAUTHORIZED);
            html(status, &LoginPage { to: form.to.path(), problem: Some(problem.detail) })
        }
    }
}

async fn open(api: &Api, from: SocketAddr, headers: &HeaderMap, key: &str) -> Result<HeaderValue, Problem> {
    is_from_here(headers)?;
    let caller = auth::caller(api, Some(key.to_owned()), Some(from.ip()), false).await?;
    if !caller.role.includes(Role::Read) {
        let detail = "a key of role send opens no page; that takes role read, operate or admin";
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "the key does not open this", detail));
    }
    let token = hex(&random_bytes::<32>());
    api.store.session_open(&Sha256::digest(&token), &caller.prefix).await?;
    tracing::info!(event = "login", key = caller.prefix, "somebody has logged in");
    Ok(set_cookie(headers, token, Duration::hours(COOKIE_HOURS)))
}

pub(super) async fn logout(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    _: Posted<Nothing>,
) -> Result<Response, Failed> {
    if let Some(token) = token(&headers) {
        api.store.session_close(&Sha256::digest(&token)).await?;
    }
    let mut response = Redirect::to("/login").into_response();
    response.headers_mut().insert(header::SET_COOKIE, set_cookie(&headers, String::new(), Duration::ZERO));
    Ok(response)
}

/// Behind a proxy that speaks TLS the cookie is for TLS alone.
fn set_cookie(headers: &HeaderMap, token: String, age: Duration) -> HeaderValue {
    let is_tls = headers.get("x-forwarded-proto").is_some_and(|protocol| protocol == "https");
    let cookie = Cookie::build((COOKIE, token)).path("/").http_only(true).same_site(SameSite::Lax);
    let cookie = cookie.secure(is_tls).max_age(age).build().to_string();
    HeaderValue::from_str(&cookie).unwrap_or(HeaderValue::from_static(""))
}

/// Refuses what a page elsewhere has sent. Browsers say so; what is no browser has no session to be misused.
fn is_from_here(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => {
            let detail = "a page of another site has sent this; do it here instead";
            Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "that did not come from here", detail))
        }
    }
}

/// A form without fields of its own.
#[derive(Deserialize)]
pub(super) struct Nothing {}

/// A form that a page of this session has sent.
pub(super) struct Posted<T> {
    pub(super) session: Session,
    pub(super) form: T,
}

#[derive(Deserialize)]
struct WithCsrf<T> {
    #[serde(default)]
    csrf: String,
    #[serde(flatten)]
    form: T,
}

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Posted<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Failed> {
        is_from_here(request.headers())?;
        let session = request.extensions().get::<Session>().cloned();
        let read = Form::<WithCsrf<T>>::from_request(request, api).await;
        let Form(WithCsrf { csrf, form }) = read.map_err(|e| Problem::unreadable("", e.body_text()))?;
        match session {
            Some(session) if session.csrf == csrf => Ok(Self { session, form }),
            _ => {
                let detail = "the form belongs to an older login; reload the page, and do it once more";
                Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "that form is out of date", detail).into())
            }
        }
    }
}

/// The session of a page that is asked for.
pub(super) type LoggedIn = Extension<Session>;
