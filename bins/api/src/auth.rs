use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use domain::{ApiKey, Role};
use store::ApiKeyRecord;

use crate::{
    Api,
    dashboard::session,
    problem::{Advice, Problem},
};

/// So many tries with a wrong key are answered to one address within a minute.
const MAX_FAILED_TRIES: u32 = 10;

const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// More addresses than this are not told apart.
const MAX_ADDRESSES: usize = 10_000;

const MAX_KNOWN_KEYS: usize = 1_000;

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The first part of their key.
    pub(crate) prefix: String,
    /// What the key is called.
    pub(crate) name: String,
    pub(crate) role: Role,
}

impl From<ApiKeyRecord> for Caller {
    fn from(key: ApiKeyRecord) -> Self {
        Self { prefix: key.prefix, name: key.name, role: key.role }
    }
}

/// Stands in the place of a key's first part, which is of hex digits.
const ANONYMOUS: &str = "anonymous";

impl Caller {
    /// Somebody who needs no key for what `name` says, and may do what role `operate` may.
    pub(crate) fn anonymous(name: &str) -> Self {
        Self { prefix: ANONYMOUS.to_owned(), name: name.to_owned(), role: Role::Operate }
    }

    /// As the audit names them.
    pub(crate) fn actor(&self) -> String {
        if self.prefix == ANONYMOUS {
            return format!("{ANONYMOUS} ({})", self.name);
        }
        format!("key {} ({})", self.prefix, self.name)
    }

    /// The source of the requests that they send.
    pub(crate) fn source(&self) -> String {
        format!("api:{}", self.prefix)
    }

    /// Whether they may see addresses, texts and bodies.
    pub(crate) fn sees_addresses(&self) -> bool {
        self.role.includes(Role::Operate)
    }
}

/// Wrong keys, by the address that showed them.
#[derive(Debug, Default)]
pub(crate) struct FailedTries {
    by_address: Mutex<HashMap<IpAddr, (u32, Instant)>>,
    /// Hashes of keys that were good: whoever has one is not kept out by others at the same address.
    known: Mutex<HashSet<Vec<u8>>>,
}

impl FailedTries {
    fn are_too_many(&self, address: IpAddr, key: &ApiKey) -> bool {
        let mut tries = self.by_address.lock().expect("nobody panics while holding this lock");
        if tries.get(&address).is_some_and(|(_, since)| since.elapsed() > FORGIVEN_AFTER) {
            tries.remove(&address);
        }
        tries.get(&address).is_some_and(|(count, _)| *count >= MAX_FAILED_TRIES)
            && !self.known.lock().expect("nobody panics while holding this lock").contains(&key.hash())
    }

    fn add(&self, address: IpAddr) {
        let mut tries = self.by_address.lock().expect("nobody panics while holding this lock");
        if tries.len() >= MAX_ADDRESSES {
            tries.clear();
        }
        tries.entry(address).or_insert((0, Instant::now())).0 += 1;
    }

    fn was_good(&self, key: &ApiKey) {
        let mut known = self.known.lock().expect("nobody panics while holding this lock");
        if known.len() >= MAX_KNOWN_KEYS {
            known.clear();
        }
        known.insert(key.hash());
    }
}

/// Lets nobody in without a key.
pub(crate) async fn authenticate(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let address = address(&request);
    let is_for_browsers = request.method() == Method::GET && crate::docs::is_for_browsers(request.uri().path());
    let header = request.headers().get(header::AUTHORIZATION);
    let key = header.and_then(|value| shown(value, is_for_browsers));
    if header.is_none() && !is_for_browsers && is_by_a_person(&request) {
        return session::nothing_there(&api, request.headers(), request.uri()).await;
    }
    let known = match key {
        None if is_for_browsers => session::find(&api, request.headers()).await.map(|found| found.map(|it| it.caller)),
        _ => Ok(None),
    };
    let caller = match known {
        Ok(Some(caller)) => Ok(caller),
        Ok(None) => caller(&api, key, address, is_for_browsers).await,
        Err(problem) => Err(problem),
    };
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

fn address(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(from)| from.ip())
}

/// Whose key it is that a program shows as a bearer token.
pub(crate) fn by_bearer(api: &Api, request: &Request) -> impl Future<Output = Result<Caller, Problem>> {
    let header = request.headers().get(header::AUTHORIZATION);
    caller(api, header.and_then(|value| shown(value, false)), address(request), false)
}

/// Whether a browser asks for a page, and not a program for data.
fn is_by_a_person(request: &Request) -> bool {
    let accepted = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    request.method() == Method::GET && accepted.contains("text/html") && !request.uri().path().starts_with("/v1/")
}

/// Whose key it is that somebody at this address shows.
pub(crate) async fn caller(
    api: &Api,
    shown: Option<String>,
    address: Option<IpAddr>,
    is_for_browsers: bool,
) -> Result<Caller, Problem> {
    let refused = |detail: &str| {
        let advice = if is_for_browsers { Advice::KeyAsPassword } else { Advice::BearerKey };
        Problem::new(StatusCode::UNAUTHORIZED, "no-key", "a key is needed", detail).advising(advice)
    };
    let shown = shown.ok_or_else(|| refused("send your key in a header: Authorization: Bearer tocsin_…"))?;
    let address = address.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let failed = || {
        api.failed_tries.add(address);
        metrics::counter!("tocsin_api_wrong_keys_total").increment(1);
        tracing::warn!(event = "wrong_key", %address, "somebody has shown a wrong key");
        refused("the key is wrong, or it was revoked")
    };
    let Ok(key) = ApiKey::parse(&shown) else { return Err(failed()) };
    if api.failed_tries.are_too_many(address, &key) {
        let title = "too many tries with a wrong key";
        let detail = "wait a minute, and see that the key is right";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-tries", title, detail)
            .advising(Advice::RetryAfter(60)));
    }
    let Some(record) = api.store.api_key_find(&key).await? else { return Err(failed()) };
    api.failed_tries.was_good(&key);
    Ok(record.into())
}

/// The key in a header. A browser can show one only as a password, and would do so unasked for any page elsewhere: that is
/// good for reading the documentation, and for nothing else.
fn shown(value: &HeaderValue, is_for_browsers: bool) -> Option<String> {
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !is_for_browsers || !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(rest.trim()).ok()?;
    let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some(password.to_owned())
}

macro_rules! may {
    ($($name:ident: $role:ident, $what:literal;)*) => {$(
        #[doc = concat!("Somebody who may ", $what, ".")]
        pub(crate) struct $name(pub(crate) Caller);

        impl $name {
            /// Checks that this one may.
            pub(crate) fn check(caller: &Caller) -> Result<Self, Problem> {
                permitted(caller, Role::$role, $what).map(Self)
            }
        }

        impl<S: Send + Sync> FromRequestParts<S> for $name {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
                let nobody =
                    || Problem::new(StatusCode::UNAUTHORIZED, "no-key", "a key is needed", "no key was checked");
                Self::check(parts.extensions.get::<Caller>().ok_or_else(nobody)?)
            }
        }
    )*};
}

may! {
    MaySend: Send, "send requests";
    MayRead: Read, "see how things are";
    MayOperate: Operate, "stop, retry, edit and pause";
    MayAdminister: Admin, "manage keys and properties, and see the audit";
}

fn permitted(caller: &Caller, role: Role, what: &str) -> Result<Caller, Problem> {
    if caller.role.includes(role) {
        return Ok(caller.clone());
    }
    let detail = format!("a key of role {} may not {what}; that takes role {}", caller.role.as_str(), role.as_str());
    Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "the key does not open this", detail))
}
