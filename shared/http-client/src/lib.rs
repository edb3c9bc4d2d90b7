//! What the channels share whose provider speaks HTTP: one exchange, bounded in time and size.

mod connections;

use std::{error::Error, time::Duration};

use http_body_util::BodyExt;
use hyper::body::Body;
use reqwest::{
    Client, ClientBuilder, RequestBuilder,
    header::{DATE, RETRY_AFTER},
    redirect::Policy,
};
use tokio::time::{Instant, timeout_at};

pub use bytes::Bytes;
pub use http::HeaderName;

pub use crate::connections::{Connections, Lookup, Target};

/// What every request says of its sender.
const NAME_AND_VERSION: &str = concat!("tocsin/", env!("CARGO_PKG_VERSION"));

/// Servers close theirs after five seconds at the earliest. What is sent as one is closed may have been carried out or
/// not.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// As much of an answer as is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How long the rest of an answer may take after its status.
const ANSWER_BODY_PATIENCE: Duration = Duration::from_millis(800);

/// How long before its limit a call must have its end.
const MARGIN: Duration = Duration::from_millis(100);

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// An answer.
    Answered(Answered),
    /// No connection was made, and so nothing was sent. The text says why.
    Unreachable(String),
    /// The connection broke when something may have been sent.
    Broken,
    /// The request could not even be made: its URL is of no use.
    Unusable,
}

/// A provider's answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// How long it asks us to wait.
    pub retry_after: Option<Duration>,
    /// The body, or as much of it as came in time, up to 64 KiB.
    pub body: Vec<u8>,
}

/// A client that follows no redirect and uses no proxy. `call_timeout` is when a call is given up; making a connection
/// gets half of it, as it is known that nothing was sent before.
pub fn builder(call_timeout: Duration) -> ClientBuilder {
    Client::builder()
        .user_agent(NAME_AND_VERSION)
        .connect_timeout(call_timeout / 2)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .redirect(Policy::none())
        .no_proxy()
}

/// Sends a request, once, and reads the answer, within `call_timeout`: a body that does not come in time does not make
/// an answer unknown whose status is there.
pub async fn exchange(request: RequestBuilder, call_timeout: Duration) -> Reply {
    let end = Instant::now() + call_timeout.saturating_sub(MARGIN);
    match request.send().await {
        Ok(response) => Reply::Answered(read(response.into(), end.min(Instant::now() + ANSWER_BODY_PATIENCE)).await),
        Err(error) if error.is_builder() => Reply::Unusable,
        Err(error) if error.is_connect() => Reply::Unreachable(cause(&error)),
        Err(_) => Reply::Broken,
    }
}

async fn read<B>(response: http::Response<B>, end: Instant) -> Answered
where
    B: Body<Data = Bytes> + Unpin,
{
    let (head, mut body) = response.into_parts();
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let retry_after = header(RETRY_AFTER).and_then(|value| parse_retry_after(value, header(DATE)));
    let mut kept = Vec::new();
    while kept.len() < MAX_ANSWER_BYTES && !body.is_end_stream() {
        match timeout_at(end, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                let data = frame.into_data().unwrap_or_default();
                kept.extend_from_slice(&data[..data.len().min(MAX_ANSWER_BYTES - kept.len())]);
            }
            // The status says enough where the rest is lost, or does not come.
            Ok(None | Some(Err(_))) | Err(_) => break,
        }
    }
    Answered { status: head.status.as_u16(), retry_after, body: kept }
}

/// The cause of all the others, such as "Connection refused". It holds no URL, and no name of a host, which stands in
/// quotes where TLS speaks of one.
pub fn cause(error: &reqwest::Error) -> String {
    error.source().map_or_else(|| "no connection".to_owned(), innermost)
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&cause| cause.source());
    let cause = causes.last().unwrap_or(error).to_string();
    let outside_quotes = cause.split('"').enumerate().map(|(n, part)| if n % 2 == 0 { part } else { "(name)" });
    outside_quotes.collect()
}

/// Reads a Retry-After header (RFC 9110, section 10.2.3): whole seconds, or a date. What the date means is told by the
/// answer's own Date header, so that no clock of this machine decides anything.
pub fn parse_retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(date?).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn retry_after() {
        let (sent, later) = ("Fri, 31 Dec 1999 23:59:00 GMT", "Fri, 31 Dec 1999 23:59:59 GMT");
        assert_eq!(parse_retry_after(" 120 ", None), Some(Duration::from_secs(120)));
        assert_eq!(parse_retry_after("99999999999999999999999", None), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(parse_retry_after(later, Some(sent)), Some(Duration::from_secs(59)));
        assert_eq!(parse_retry_after(sent, Some(later)), Some(Duration::ZERO));
        assert_eq!(parse_retry_after(later, None), None, "no clock to compare with");
        for bad in ["", "-1", "1.5", "soon", "+3"] {
            assert_eq!(parse_retry_after(bad, Some(sent)), None, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn of_a_long_answer_no_more_is_kept_than_is_promised() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", server.local_addr().unwrap());
        let client = builder(Duration::from_secs(5)).build().unwrap();
        let answer = async {
            let (mut stream, _) = server.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            // The client hangs up when it has enough.
            while stream.write_all(&[b'x'; 100_001]).await.is_ok() {}
        };
        let (reply, ()) = tokio::join!(exchange(client.get(&url), Duration::from_secs(5)), answer);
        let Reply::Answered(answered) = reply else { panic!("{reply:?}") };
        assert_eq!((answered.status, answered.body.len()), (400, MAX_ANSWER_BYTES));
    }

    #[tokio::test]
    async fn what_is_not_there_is_unreachable_and_why_is_said_without_its_address() {
        const TIME: Duration = Duration::from_secs(5);
        let client = builder(TIME).build().unwrap();
        let Reply::Unreachable(why) = exchange(client.get("http://127.0.0.1:1/secret"), TIME).await else { panic!() };
        assert!(why.contains("refused") && !why.contains("secret"), "{why}");
        let Reply::Unreachable(why) = exchange(client.get("http://nowhere.invalid/secret"), TIME).await else {
            panic!()
        };
        assert!(!why.contains("secret"), "{why}");
        assert_eq!(exchange(client.get("http:///"), TIME).await, Reply::Unusable);
    }
}
