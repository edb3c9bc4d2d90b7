use std::{
    collections::HashMap,
    error::Error,
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT},
};
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::Name},
    rt::TokioIo,
};
use percent_encoding::percent_decode_str;
use rustls::{ClientConfig, crypto::aws_lc_rs};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};
use url::{Position, Url};

use crate::{ANSWER_BODY_PATIENCE, IDLE_TIMEOUT, MARGIN, NAME_AND_VERSION, Reply, innermost, read};

type BoxError = Box<dyn Error + Send + Sync>;

/// The addresses of a name, or why it is not connected to.
pub type Lookup = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, BoxError>> + Send>>;

type Connection = SendRequest<Full<Bytes>>;

/// Where to post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    server: String,
    /// `None` if the URL is none of HTTP, or can't be written in a request.
    head: Option<Head>,
}

/// What a request says of where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    path: Uri,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
}

impl Target {
    /// `None` if it is no URL.
    pub fn parse(url: &str) -> Option<Self> {
        let url: Url = url.parse().ok()?;
        // It has its one form already; only who is asked for a password is not a part of the server.
        let server = match url.has_authority() && url.username().is_empty() && url.password().is_none() {
            true => url[..Position::BeforePath].to_owned(),
            false => url.origin().ascii_serialization(),
        };
        Some(Self { head: Head::of(&url, &server), server, url })
    }

    /// The whole of it.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Scheme, host and port in their one form, such as `https://example.org`.
    pub fn server(&self) -> &str {
        &self.server
    }
}

impl Head {
    fn of(url: &Url, server: &str) -> Option<Self> {
        let host = server.strip_prefix("http://").or_else(|| server.strip_prefix("https://"))?;
        Some(Self {
            path: url[Position::BeforePath..Position::AfterQuery].parse().ok()?,
            host: host.parse().ok()?,
            authorization: basic(url),
        })
    }
}

/// Connections to many servers, each kept for a while for the next request to the same server.
///
/// They are hyper's, driven directly: at ten thousand requests a second a client of layers costs as much again as sending
/// does (bench/README.md). HTTP/1.1, with TLS or without; no redirect is followed and no proxy is used.
pub struct Connections {
    connect: BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>,
    idle: Arc<IdleConnections>,
    call_timeout: Duration,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("call_timeout", &self.call_timeout).finish_non_exhaustive()
    }
}

impl Connections {
    /// `look_up` resolves names; an address in a URL is connected to without asking. `call_timeout` is when a call is given
    /// up; making a connection gets half of it, as it is known that nothing was sent before.
    ///
    /// An error if the system's certificates can't be used.
    pub fn new<F>(look_up: F, call_timeout: Duration) -> io::Result<Self>
    where
        F: Fn(String) -> Lookup + Clone + Send + Sync + 'static,
    {
        let tls = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .and_then(ConfigBuilderExt::try_with_platform_verifier)
            .map_err(|error| io::Error::other(format!("the system's certificates can't be used: {error}")))?;
        Ok(Self::with_tls(tls.with_no_client_auth(), look_up, call_timeout))
    }

    fn with_tls<F>(tls: ClientConfig, look_up: F, call_timeout: Duration) -> Self
    where
        F: Fn(String) -> Lookup + Clone + Send + Sync + 'static,
    {
        let resolve = move |name: Name| {
            let found = look_up(name.as_str().to_owned());
            async move { Ok::<_, BoxError>(found.await?.into_iter()) }
        };
        let mut tcp = HttpConnector::new_with_resolver(service_fn(resolve));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        Self { connect: BoxCloneSyncService::new(connector), idle: Arc::default(), call_timeout }
    }

    /// Posts once, and reads the answer, within the call's time limit less a margin for the body: see [`Reply`].
    pub async fn post<const N: usize>(&self, target: &Target, headers: [(HeaderName, &str); N], body: Bytes) -> Reply {
        let end = Instant::now() + self.call_timeout.saturating_sub(MARGIN);
        let Some(mut request) = request(target, headers, body) else { return Reply::Unusable };
        loop {
            let idle = self.idle.take(&target.server);
            let was_idle = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                // Boxed, as it is large and rarely needed: it would be part of every call.
                None => match Box::pin(self.connect(&target.server)).await {
                    Ok(connection) => connection,
                    Err(why) => return Reply::Unreachable(why),
                },
            };
            match connection.try_send_request(request).await {
                Ok(response) => {
                    let answered = read(response, end.min(Instant::now() + ANSWER_BODY_PATIENCE)).await;
                    // Where the answer has not come to its end, hyper closes it.
                    self.idle.keep(&target.server, connection);
                    return Reply::Answered(answered);
                }
                // Only what was never written comes back.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if was_idle => request = unsent,
                    Some(_) => return Reply::Unreachable("the connection was closed at once".to_owned()),
                    None => return Reply::Broken,
                },
            }
        }
    }

    async fn connect(&self, server: &str) -> Result<Connection, String> {
        let connecting = async {
            let stream = self.connect.clone().oneshot(server.parse()?).await?;
            let (connection, driver) = handshake(stream).await?;
            Ok::<_, BoxError>((connection, driver))
        };
        match timeout(self.call_timeout / 2, connecting).await {
            Ok(Ok((connection, driver))) => {
                // What it fails with is told to whoever has sent a request on it.
                tokio::spawn(async move { driver.await.unwrap_or_default() });
                Ok(connection)
            }
            Ok(Err(error)) => Err(innermost(error.as_ref())),
            Err(_) => Err("it took too long".to_owned()),
        }
    }
}

/// `None` if it can't be written.
fn request<const N: usize>(
    target: &Target,
    headers: [(HeaderName, &str); N],
    body: Bytes,
) -> Option<Request<Full<Bytes>>> {
    let head = target.head.as_ref()?;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = head.path.clone();
    let all = request.headers_mut();
    all.reserve(N + 4);
    all.insert(HOST, head.host.clone());
    all.insert(USER_AGENT, HeaderValue::from_static(NAME_AND_VERSION));
    all.insert(ACCEPT, HeaderValue::from_static("*/*"));
    for (name, value) in headers {
        all.insert(name, value.parse().ok()?);
    }
    if let Some(password) = &head.authorization {
        all.insert(AUTHORIZATION, password.clone());
    }
    Some(request)
}

/// What a URL says of user and password (RFC 7617).
fn basic(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Connections that are in no use, by server; the newest of a server is last.
#[derive(Default)]
struct IdleConnections {
    by_server: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    connections: HashMap<String, Vec<(Instant, Connection)>>,
    is_swept: bool,
}

impl IdleConnections {
    /// One on which a request can be sent at once.
    fn take(&self, server: &str) -> Option<Connection> {
        let mut idle = self.lock();
        let connections = idle.connections.get_mut(server)?;
        let mut not_ready_yet = Vec::new();
        let newest = loop {
            match connections.pop() {
                None => break None,
                Some((since, connection)) if connection.is_closed() || since.elapsed() >= IDLE_TIMEOUT => {}
                Some((_, connection)) if connection.is_ready() => break Some(connection),
                Some(other) => not_ready_yet.push(other),
            }
        };
        connections.extend(not_ready_yet.into_iter().rev());
        newest
    }

    fn keep(self: &Arc<Self>, server: &str, connection: Connection) {
        let mut idle = self.lock();
        if let Some(connections) = idle.connections.get_mut(server) {
            connections.push((Instant::now(), connection));
        } else {
            idle.connections.insert(server.to_owned(), vec![(Instant::now(), connection)]);
        }
        if !std::mem::replace(&mut idle.is_swept, true) {
            tokio::spawn(Self::sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what nobody has used for long, until nothing is left.
    async fn sweep(of: Weak<Self>) {
        loop {
            sleep(IDLE_TIMEOUT).await;
            let Some(connections) = of.upgrade() else { return };
            let mut idle = connections.lock();
            idle.connections.retain(|_, connections| {
                connections.retain(|(since, connection)| since.elapsed() < IDLE_TIMEOUT && !connection.is_closed());
                !connections.is_empty()
            });
            if idle.connections.is_empty() {
                idle.is_swept = false;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.by_server.lock().expect("nobody panics while holding this lock")
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::{
        RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::Answered;

    const CALL_TIMEOUT: Duration = Duration::from_secs(5);
    const NO_CONTENT: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

    fn connections() -> Connections {
        let nobody = |name: String| -> Lookup { Box::pin(async move { Err(format!("who is {name}?").into()) }) };
        Connections::new(nobody, CALL_TIMEOUT).unwrap()
    }

    async fn server() -> (TcpListener, Target) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::parse(&format!("http://{}/a?b=c#d", server.local_addr().unwrap())).unwrap();
        (server, target)
    }

    /// One request, head and body, of which the body is `{}`.
    async fn receive(stream: &mut TcpStream) -> String {
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n{}") {
            assert!(stream.read_buf(&mut received).await.unwrap() > 0, "{received:?}");
        }
        String::from_utf8(received).unwrap()
    }

    /// Takes a connection and a request on it.
    async fn answer(server: &TcpListener, with: &[u8]) -> TcpStream {
        let (mut stream, _) = server.accept().await.unwrap();
        receive(&mut stream).await;
        stream.write_all(with).await.unwrap();
        stream
    }

    async fn post(connections: &Connections, target: &Target) -> Reply {
        connections.post(target, [(HeaderName::from_static("x-number"), "1")], Bytes::from_static(b"{}")).await
    }

    fn answered(status: u16, body: &str) -> Reply {
        Reply::Answered(Answered { status, retry_after: None, body: body.into() })
    }

    #[tokio::test]
    async fn a_request_says_what_it_should() {
        let (server, target) = server().await;
        let with_password = format!("http://me:%C3%A9:@{}/", server.local_addr().unwrap());
        let connections = connections();
        let answer = async {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut requests = Vec::new();
            for _ in 0..2 {
                requests.push(receive(&mut stream).await.to_ascii_lowercase());
                stream.write_all(NO_CONTENT).await.unwrap();
            }
            requests
        };
        let ask = async {
            assert_eq!(post(&connections, &target).await, answered(204, ""));
            assert_eq!(post(&connections, &Target::parse(&with_password).unwrap()).await, answered(204, ""));
        };
        let (requests, ()) = tokio::join!(answer, ask);
        let host = format!("host: {}\r\n", server.local_addr().unwrap());
        assert!(requests[0].starts_with("post /a?b=c http/1.1\r\n"), "{}", requests[0]);
        for line in [host.as_str(), "x-number: 1\r\n", "content-length: 2\r\n", "user-agent: tocsin/"] {
            assert!(requests[0].contains(line), "{line} in {}", requests[0]);
        }
        assert!(!requests[0].contains("authorization"), "{}", requests[0]);
        // printf 'me:é:' | base64
        assert!(requests[1].contains("authorization: basic bwu6w6k6\r\n"), "{}", requests[1]);
    }

    #[tokio::test]
    async fn what_follows_on_a_connection_that_the_server_has_closed_goes_out_on_a_new_one() {
        let (server, target) = server().await;
        let connections = connections();
        let (reply, stream) = tokio::join!(post(&connections, &target), answer(&server, NO_CONTENT));
        assert_eq!(reply, answered(204, ""));
        drop(stream);
        while connections.idle.lock().connections[target.server()][0].1.is_ready() {
            tokio::task::yield_now().await;
        }
        let (reply, _) = tokio::join!(post(&connections, &target), answer(&server, NO_CONTENT));
        assert_eq!(reply, answered(204, ""));
    }

    #[tokio::test]
    async fn a_server_that_closes_each_time_leaves_nothing_to_be_searched() {
        let (server, target) = server().await;
        let connections = connections();
        for _ in 0..5 {
            let closing = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
            let (reply, _) = tokio::join!(post(&connections, &target), answer(&server, closing));
            assert_eq!(reply, answered(204, ""));
        }
        assert!(connections.idle.lock().connections[target.server()].len() <= 1);
    }

    /// It may have been carried out: once more could be once too often.
    #[tokio::test]
    async fn what_was_sent_is_never_sent_again() {
        let (server, target) = server().await;
        let connections = connections();
        let answer = async { receive(&mut answer(&server, NO_CONTENT).await).await };
        let ask = async {
            assert_eq!(post(&connections, &target).await, answered(204, ""));
            assert_eq!(post(&connections, &target).await, Reply::Broken);
        };
        tokio::join!(answer, ask);
        let again = timeout(Duration::from_millis(50), server.accept()).await;
        assert!(again.is_err(), "nobody connected again");
    }

    #[tokio::test]
    async fn a_connection_whose_answer_never_ends_is_not_used_again() {
        let (server, target) = server().await;
        let connections = connections();
        let answer = async {
            let mut first = answer(&server, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
            answer(&server, NO_CONTENT).await;
            assert_eq!(first.read(&mut [0; 1]).await.unwrap(), 0, "it is closed");
        };
        let ask = async {
            assert_eq!(post(&connections, &target).await, answered(200, "half"));
            assert_eq!(post(&connections, &target).await, answered(204, ""));
        };
        tokio::join!(answer, ask);
    }

    #[tokio::test]
    async fn what_nobody_uses_is_closed() {
        let (server, target) = server().await;
        let connections = connections();
        let (reply, mut stream) = tokio::join!(post(&connections, &target), answer(&server, NO_CONTENT));
        assert_eq!(reply, answered(204, ""));
        assert_eq!(connections.idle.lock().connections.len(), 1);
        let closed = timeout(3 * IDLE_TIMEOUT, stream.read(&mut [0; 1])).await;
        assert_eq!(closed.expect("within some seconds").unwrap(), 0);
        assert!(connections.idle.lock().connections.is_empty());
    }

    /// A server for `example.org`, and the certificate of its authority.
    fn authority() -> (TlsAcceptor, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["example.org".to_owned()]).unwrap().self_signed(&key).unwrap();
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        (TlsAcceptor::from(Arc::new(config)), certificate.der().clone())
    }

    #[tokio::test]
    async fn https_reaches_who_can_prove_to_be_meant_and_tells_nobody_else_anything() {
        fn here(_: String) -> Lookup {
            Box::pin(async { Ok(vec![([127, 0, 0, 1], 0).into()]) })
        }
        let (acceptor, certificate) = authority();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let trusting = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let trusting = Connections::with_tls(trusting, here, CALL_TIMEOUT);
        let doubting = Connections::new(here, CALL_TIMEOUT).unwrap();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let target = |host: &str| Target::parse(&format!("https://{host}:{port}/")).unwrap();

        let answer = async {
            let mut stream = acceptor.accept(server.accept().await.unwrap().0).await.unwrap();
            let mut received = Vec::new();
            while !received.ends_with(b"{}") {
                assert!(stream.read_buf(&mut received).await.unwrap() > 0);
            }
            stream.write_all(NO_CONTENT).await.unwrap();
            for _ in 0..2 {
                assert!(acceptor.accept(server.accept().await.unwrap().0).await.is_err());
            }
        };
        let ask = async {
            assert_eq!(post(&trusting, &target("example.org")).await, answered(204, ""));
            for (connections, host) in [(&trusting, "example.com"), (&doubting, "example.org")] {
                let reply = post(connections, &target(host)).await;
                assert!(matches!(&reply, Reply::Unreachable(why) if why.contains("certificate")), "{reply:?}");
            }
        };
        tokio::join!(answer, ask);
    }

    #[tokio::test]
    async fn what_can_not_be_posted_to() {
        let connections = connections();
        for url in ["ftp://example.org/", "mailto:a@example.org", "data:,x"] {
            assert_eq!(post(&connections, &Target::parse(url).unwrap()).await, Reply::Unusable, "{url}");
        }
        let reply = post(&connections, &Target::parse("https://nowhere.invalid/").unwrap()).await;
        assert_eq!(reply, Reply::Unreachable("who is nowhere.invalid?".to_owned()));
        let reply = post(&connections, &Target::parse("http://127.0.0.1:1/").unwrap()).await;
        assert!(matches!(&reply, Reply::Unreachable(why) if why.contains("refused")), "{reply:?}");
        assert_eq!(Target::parse("no url"), None);
    }
}
