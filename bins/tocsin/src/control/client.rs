use std::{fmt::Write, time::Duration};

use domain::ApiKey;
use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue},
};
use runtime::{
    ExposeSecret, Reader, SecretString,
    settings::{API_KEY, API_URL},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::screen::plain;
use crate::{BAD_USAGE, NOT_DONE, Problem, UNAVAILABLE};

/// The API itself gives an answer up after 40 seconds.
const PATIENCE: Duration = Duration::from_secs(45);

/// More of an answer is not read.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A connection on which nothing is said for so long is dead: the API says something every 15 seconds.
const MAX_SILENCE: Duration = Duration::from_secs(45);

/// Where the API is, and the key to it.
pub(crate) struct Access {
    url: Url,
    key: SecretString,
}

impl Access {
    pub(crate) fn read(reader: &mut Reader) -> Option<Self> {
        let url = reader.url(&API_URL);
        let url = url.and_then(|url| match checked(&url) {
            Ok(url) => Some(url),
            Err(problem) => {
                reader.wrong(&API_URL, problem);
                None
            }
        });
        let key = reader.secret(&API_KEY);
        let key = key.and_then(|key| match ApiKey::parse(key.expose_secret()) {
            Ok(_) => Some(key),
            Err(problem) => {
                reader.wrong(&API_KEY, problem);
                None
            }
        });
        Some(Self { url: url?, key: key? })
    }
}

fn checked(url: &str) -> Result<Url, &'static str> {
    let wrong = "must be an absolute http or https URL, without user, password, ? and #";
    let url: Url = url.parse().map_err(|_| wrong)?;
    let is_good = ["http", "https"].contains(&url.scheme())
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if is_good { Ok(url) } else { Err(wrong) }
}

/// Asks the API.
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
}

/// A good answer.
pub(crate) struct Answer {
    /// The body as it came.
    pub(crate) text: String,
    /// The time, as the API's machine has it. This machine's clock decides nothing.
    pub(crate) now: Option<Timestamp>,
    url: Url,
}

impl Answer {
    /// The body as what it must be.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_str(&self.text).map_err(|error| {
            let text = format!(
                "{} answers something else than Tocsin's API: {error}; see that TOCSIN_URL is right, and that both are of \
                 one version",
                self.url
            );
            Problem::new(UNAVAILABLE, text)
        })
    }
}

/// Whether what is sent changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Question,
    Change,
}

/// What is sent.
pub(crate) enum Body {
    Nothing,
    /// JSON, as somebody wrote it.
    Text(String),
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        Self::Text(value.to_string())
    }
}

impl Client {
    pub(crate) fn new(access: &Access) -> Result<Self, Problem> {
        let mut key = HeaderValue::from_str(&format!("Bearer {}", access.key.expose_secret()))
            .map_err(|_| Problem::new(BAD_USAGE, "TOCSIN_KEY is no key of Tocsin"))?;
        key.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, key)]);
        let built = http_client::builder(PATIENCE).default_headers(headers).read_timeout(MAX_SILENCE).build();
        let http = built.map_err(|error| Problem::new(UNAVAILABLE, format!("no HTTP client: {error}")))?;
        Ok(Self { http, url: access.url.clone() })
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// Asks for something. The path is given in parts; parameters without a value are left out.
    pub(crate) async fn get(&self, path: &[&str], parameters: &[(&str, Option<String>)]) -> Result<Answer, Problem> {
        let mut url = self.at(path)?;
        for (name, value) in parameters {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        self.exchange(self.http.get(url.clone()), url, Sent::Question).await
    }

    /// Changes something.
    pub(crate) async fn send(&self, method: Method, path: &[&str], body: Body) -> Result<Answer, Problem> {
        self.send_with(method, path, body, None).await
    }

    /// The same, with the key that makes a second try harmless.
    pub(crate) async fn send_with(
        &self,
        method: Method,
        path: &[&str],
        body: Body,
        idempotency_key: Option<&str>,
    ) -> Result<Answer, Problem> {
        let url = self.at(path)?;
        let mut request = self.http.request(method, url.clone());
        if let Body::Text(text) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(text);
        }
        if let Some(key) = idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        self.exchange(request, url, Sent::Change).await
    }

    /// The time by the API's clock. Every answer has it, a refusal for want of rights too.
    pub(crate) async fn time(&self) -> Result<Timestamp, Problem> {
        let url = self.at(&["channels"])?;
        let response = self
            .http
            .get(url.clone())
            .timeout(PATIENCE)
            .send()
            .await
            .map_err(|error| self.away(&error, Sent::Question))?;
        if !response.status().is_success() && response.status() != StatusCode::FORBIDDEN {
            return Err(self.refused(response, url).await);
        }
        let missing = || Problem::new(UNAVAILABLE, format!("{} does not tell the time (header Date)", self.place()));
        date(&response).ok_or_else(missing)
    }

    /// What is told as it happens, without an end.
    pub(crate) async fn listen(&self, path: &[&str]) -> Result<Response, Problem> {
        let url = self.at(path)?;
        let response = self.http.get(url.clone()).send().await.map_err(|error| self.away(&error, Sent::Question))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response, url).await) }
    }

    async fn exchange(&self, request: RequestBuilder, url: Url, sent: Sent) -> Result<Answer, Problem> {
        let response = request.timeout(PATIENCE).send().await.map_err(|error| self.away(&error, sent))?;
        if !response.status().is_success() {
            return Err(self.refused(response, url).await);
        }
        let now = date(&response);
        Ok(Answer { text: self.text(response, sent).await?, now, url })
    }

    /// The names `.` and `..` mean something else in a path, however they are written.
    fn at(&self, path: &[&str]) -> Result<Url, Problem> {
        if let Some(name) = path.iter().find(|part| [".", ".."].contains(part)) {
            return Err(Problem::new(
                NOT_DONE,
                format!("{name} can't stand in a URL: `tocsin list notifications --process-id {name}`"),
            ));
        }
        let mut url = self.url.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().push("v1").extend(path);
        }
        Ok(url)
    }

    async fn text(&self, mut response: Response, sent: Sent) -> Result<String, Problem> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.away(&error, sent))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(Problem::new(UNAVAILABLE, format!("{} answers without an end", self.place())));
            }
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    fn away(&self, error: &reqwest::Error, sent: Sent) -> Problem {
        let (place, cause) = (self.place(), http_client::cause(error));
        let text = match sent {
            _ if error.is_connect() => {
                format!("no API at {place}: {cause}\n  does `api` run there? TOCSIN_URL says where it is")
            }
            Sent::Question => format!("no answer from {place}: {cause}"),
            Sent::Change => format!(
                "no answer from {place}: {cause}\n  \
                 nobody can tell whether it was done: see how things are before you do it again"
            ),
        };
        Problem::new(UNAVAILABLE, text)
    }

    async fn refused(&self, response: Response, url: Url) -> Problem {
        let status = response.status().as_u16();
        let text = match self.text(response, Sent::Question).await {
            Ok(text) => text,
            Err(problem) => return problem,
        };
        match serde_json::from_str::<Document>(&text) {
            Ok(document) => Problem::new(code(status), document.words(status)),
            Err(_) => {
                let text = format!(
                    "{url} answers with status {status}, and not as Tocsin's API does\n  \
                     TOCSIN_URL must say where that is, without /v1"
                );
                Problem::new(UNAVAILABLE, text)
            }
        }
    }
}

/// The exit code that a refusal means.
fn code(status: u16) -> u8 {
    match status {
        404 | 409 | 422 => NOT_DONE,
        429 | 500.. => UNAVAILABLE,
        _ => BAD_USAGE,
    }
}

fn date(response: &Response) -> Option<Timestamp> {
    let date = response.headers().get(DATE)?.to_str().ok()?;
    rfc2822::DateTimeParser::new().parse_timestamp(date).ok()
}

/// A problem document, as RFC 9457 has it.
#[derive(Deserialize)]
struct Document {
    title: String,
    detail: String,
    #[serde(default)]
    errors: Vec<FieldError>,
    request: Option<i64>,
}

/// What is wrong with one field.
#[derive(Deserialize)]
pub(super) struct FieldError {
    field: String,
    message: String,
}

impl FieldError {
    /// A line about it.
    pub(super) fn line(&self) -> String {
        let Self { field, message } = self;
        plain(&if field.is_empty() { message.clone() } else { format!("{field} {message}") })
    }
}

impl Document {
    fn words(&self, status: u16) -> String {
        let mut words = plain(&self.title);
        if self.errors.is_empty() {
            write!(words, ": {}", plain(&self.detail)).unwrap_or_default();
        }
        for error in &self.errors {
            write!(words, "\n  {}", error.line()).unwrap_or_default();
        }
        if let Some(request) = self.request {
            write!(words, "\n  it is kept as request {request}: see `tocsin requests show {request}`")
                .unwrap_or_default();
        }
        words.push_str(match status {
            401 => {
                "\n  set TOCSIN_KEY to a key of this API; `tocsin key create NAME --role operate` makes one where \
                 TOCSIN_DATABASE__URL is set"
            }
            403 => "\n  set TOCSIN_KEY to a key of that role, or of role admin",
            _ => "",
        });
        words
    }
}
