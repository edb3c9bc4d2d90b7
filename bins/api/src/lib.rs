//! The control plane over HTTP: takes requests, tells what became of each notification and why, and lets people mend
//! what failed.
//!
//! Nothing answers without a key. What a key may do is its role's (`domain::Role`). Every change that a person makes is
//! written to table `audit` by the statement that makes it.

mod apply;
mod auth;
mod channels;
mod compat;
mod dashboard;
mod docs;
mod events;
mod failures;
mod input;
mod keys;
mod leases;
mod notifications;
mod problem;
mod processes;
mod queues;
mod requests;
mod schedule_orders;
mod schedules;
mod schemas;
mod simulate;
mod status;
mod view;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use broker::Broker;
use runtime::{
    Checks, ExposeSecret, Failure, Lifecycle, MEND_DATABASE, Program, Reader, Run, SecretString, connection_name,
    settings::{API_COMPAT, API_LISTEN, BROKER_URL_IF_ANY, DATABASE_URL, NOTIFIER_CALL_TIMEOUT_SECONDS},
};
use store::Store;
use tokio::net::TcpListener;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{auth::FailedTries, compat::Compat, docs::Documents, events::Events, problem::Problem, queues::Queues};

/// The largest body of a batch.
const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;

/// When an answer is given up, its body included as it comes. A little more than the store's own limit.
const PATIENCE: Duration = Duration::from_secs(40);

/// The program.
pub const PROGRAM: Program<Config> = Program {
    name: "api",
    about: "Serves the control plane over HTTP",
    settings: &[&[API_LISTEN, API_COMPAT, BROKER_URL_IF_ANY, NOTIFIER_CALL_TIMEOUT_SECONDS]],
    has_once: false,
    read: Config::read,
};

/// How the API is served.
pub struct Config {
    database_url: SecretString,
    broker_url: Option<SecretString>,
    listen: SocketAddr,
    compat: Compat,
    call_timeout: Duration,
}

impl Config {
    fn read(reader: &mut Reader) -> Option<Self> {
        let database_url = reader.secret(&DATABASE_URL);
        let broker_url = reader.optional_secret(&BROKER_URL_IF_ANY);
        let listen = reader.socket_address(&API_LISTEN);
        let compat = reader.one_of(&API_COMPAT, Compat::WORDS);
        let call_timeout = reader.seconds(&NOTIFIER_CALL_TIMEOUT_SECONDS, 1..=300);
        Some(Self {
            database_url: database_url?,
            broker_url,
            listen: listen?,
            compat: compat?,
            call_timeout: call_timeout?,
        })
    }
}

/// What all requests to the API share.
pub(crate) struct Api {
    store: Store,
    lifecycle: Lifecycle,
    queues: Queues,
    failed_tries: FailedTries,
    events: Events,
    documents: Documents,
    /// When the notifiers give a call up.
    call_timeout: Duration,
    compat: Compat,
}

/// Serves until it is told to stop; then ends what was begun.
pub async fn run(config: Config, run: Run, lifecycle: Lifecycle) -> Result<(), Failure> {
    let unavailable = |error: &dyn std::fmt::Display| Failure::Unavailable(error.to_string());
    let name = connection_name(PROGRAM.name);
    let store = Store::for_questions(config.database_url.expose_secret(), &name, 8).map_err(|e| unavailable(&e))?;
    let broker = config.broker_url.map(|url| Broker::new(url.expose_secret(), PROGRAM.name));
    let broker = broker.transpose().map_err(|e| unavailable(&e))?;
    if let Some(format) = run.check {
        return check(&store, broker.as_ref(), Checks::new(format)).await;
    }
    let (database, http) = (lifecycle.health.component("database"), lifecycle.health.component("http"));
    if run.migrate {
        store.migrate().await.map_err(|e| unavailable(&e))?;
    }
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        let variable = API_LISTEN.variable();
        Failure::Unavailable(format!("{variable}: can't listen on {}: {error}; choose another", config.listen))
    })?;
    let address = listener.local_addr().map_err(|e| unavailable(&e))?;
    let (router, description) = routes();
    let api = Arc::new(Api {
        store: store.clone(),
        lifecycle: lifecycle.clone(),
        queues: Queues::new(broker),
        failed_tries: FailedTries::default(),
        events: Events::default(),
        documents: Documents::new(&description),
        call_timeout: config.call_timeout,
        compat: config.compat,
    });
    let checked = store.clone();
    let check = move || {
        let store = checked.clone();
        async move { store.check().await }
    };
    lifecycle.spawn("watch", runtime::watch(database, lifecycle.clone(), check));
    lifecycle.spawn("events", events::look(Arc::clone(&api)));
    let service = guarded(router, Arc::clone(&api)).into_make_service_with_connect_info::<SocketAddr>();
    tracing::info!(event = "listening", api = %address, "the API is served");
    if config.compat == Compat::Anonymous {
        let prefix = compat::PREFIX;
        tracing::warn!(event = "open", prefix, "everybody who can reach the API may send to any topic, without a key");
    }
    http.up();
    let stop = lifecycle.stop.clone();
    let served = axum::serve(listener, service).with_graceful_shutdown(async move { stop.cancelled().await });
    served.await.map_err(|e| unavailable(&e))?;
    api.queues.close().await;
    store.close().await;
    Ok(())
}

async fn check(store: &Store, broker: Option<&Broker>, mut checks: Checks) -> Result<(), Failure> {
    let schema = async { store.check().await.map(|()| "answers, and its schema is up to date".to_owned()) };
    checks.check("database", MEND_DATABASE, schema).await;
    let keys = async {
        let count = store.api_keys().await?.iter().filter(|key| key.revoked_at.is_none()).count();
        Ok::<_, store::Error>(match count {
            0 => "there is none yet: make one with `tocsin key create`".to_owned(),
            1 => "there is one".to_owned(),
            n => format!("there are {n}"),
        })
    };
    checks.check("keys", MEND_DATABASE, keys).await;
    if let Some(broker) = broker {
        let (names, mend) =
            (queues::names(), "see that RabbitMQ runs, has imported rabbitmq/definitions.json, and knows the user api");
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        checks.check("broker", mend, broker.check(&[], &names)).await;
    }
    checks.finish()
}

/// Everything that is served, and its description.
pub(crate) fn routes() -> (Router<Arc<Api>>, utoipa::openapi::OpenApi) {
    let large =
        OpenApiRouter::new().routes(routes!(requests::send_batch)).layer(DefaultBodyLimit::max(MAX_BATCH_BYTES));
    OpenApiRouter::with_openapi(docs::Description::openapi())
        .routes(routes!(requests::send, requests::list))
        .routes(routes!(requests::show))
        .routes(routes!(requests::replay))
        .routes(routes!(simulate::simulate))
        .routes(routes!(processes::list))
        .routes(routes!(processes::show))
        .routes(routes!(processes::stop))
        .routes(routes!(notifications::list))
        .routes(routes!(notifications::show, notifications::edit))
        .routes(routes!(notifications::explain))
        .routes(routes!(notifications::retry))
        .routes(routes!(notifications::give_up))
        .routes(routes!(failures::groups))
        .routes(routes!(failures::retry))
        .routes(routes!(channels::list))
        .routes(routes!(channels::pause, channels::resume))
        .routes(routes!(channels::caller_ids, channels::set_caller_ids))
        .routes(routes!(schedules::list, schedules::create))
        .routes(routes!(schedules::show, schedules::edit, schedules::delete))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedule_orders::trigger))
        .routes(routes!(schedule_orders::backfill))
        .routes(routes!(leases::list))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(status::status))
        .routes(routes!(status::dead_letters))
        .routes(routes!(status::audit))
        .routes(routes!(events::events))
        .layer(DefaultBodyLimit::max(wire::MAX_BODY_BYTES))
        .merge(large)
        .split_for_parts()
}

fn guarded(router: Router<Arc<Api>>, api: Arc<Api>) -> Router {
    router
        .route("/openapi.json", get(docs::openapi))
        .route("/docs", get(docs::show))
        .route("/docs/style.css", get(docs::style))
        .fallback(async || Problem::not_found("nothing is served there; /docs lists what is"))
        .method_not_allowed_fallback(async || {
            let title = "that can't be done there";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", title, "/docs lists what can")
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&api), auth::authenticate))
        .merge(dashboard::router(&api))
        .merge(compat::router(&api))
        .layer(middleware::from_fn(bounded))
        .with_state(api)
}

/// Bounds the time of an answer, and says what holds for all of them.
async fn bounded(request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let title = "it took too long";
            let detail = format!("there was no answer within {} s", PATIENCE.as_secs());
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", title, detail).into_response()
        }
    };
    let status = response.status().as_u16().to_string();
    metrics::counter!("tocsin_api_responses_total", "status" => status).increment(1);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
