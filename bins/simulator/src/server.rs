use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderMap, Request, Response, StatusCode, Uri, header},
    response::IntoResponse,
    routing::{get, post},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tower::ServiceExt;

use crate::{Answered, Arrival, Rule, Simulator, rules::rule_for, twilio};

/// Marks a response in whose stead the connection is broken.
#[derive(Debug, Clone, Copy)]
struct BreakConnection;

pub(crate) async fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("can't listen on {listen}"))?;
    println!("simulator: http://{}/simulator/arrivals shows what arrived", listener.local_addr()?);
    let router = router(Arc::new(Simulator::default()));
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = terminate.recv() => return Ok(()),
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        stream.set_nodelay(true)?;
        let router = router.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let router = router.clone();
            async move {
                let Ok::<_, Infallible>(response) = router.oneshot(request.map(Body::new)).await;
                match response.extensions().get::<BreakConnection>() {
                    Some(BreakConnection) => Err("the connection is to be broken"),
                    None => Ok(response),
                }
            }
        });
        tokio::spawn(async move {
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            // Clients that hang up, and connections that are to be broken, end here.
            connection.await.unwrap_or_default();
        });
    }
}

fn router(simulator: Arc<Simulator>) -> Router {
    Router::new()
        .route("/2010-04-01/Accounts/{sid}/Calls.json", post(twilio_call))
        .route("/webhook/{*path}", post(webhook))
        .route("/simulator/arrivals", get(arrivals_list).delete(arrivals_forget))
        .route("/simulator/rules", get(rules_list).put(rules_replace))
        .layer(DefaultBodyLimit::max(1024 * 1024))
        .with_state(simulator)
}

async fn twilio_call(
    State(simulator): State<Arc<Simulator>>,
    Path(sid): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let address = form.get("To").cloned().unwrap_or_default();
    let arrival = arrival("twilio-call", &uri, &headers, address, body);
    let arrival = Arrival { form: form.clone(), ..arrival };
    let refusal = twilio::problem(&sid, arrival.authorization.as_deref(), &form);
    let refusal = refusal.map(|(status, code, message)| (status, twilio::error(status, code, message)));
    let by_rule = |rule: &Rule| {
        let status = rule.status?;
        Some((status, twilio::error(status, rule.code.unwrap_or(20000 + u32::from(status)), "as the rule says")))
    };
    simulator.answer(arrival, refusal, by_rule, |id| twilio::call(&sid, id, &form)).await
}

async fn webhook(State(simulator): State<Arc<Simulator>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let address = uri.path().to_owned();
    let arrival = arrival("webhook", &uri, &headers, address, String::from_utf8_lossy(&body).into_owned());
    let by_rule = |rule: &Rule| Some((rule.status?, json!({"error": "as the rule says"})));
    simulator.answer(arrival, None, by_rule, |id| json!({"id": id})).await
}

fn arrival(kind: &'static str, uri: &Uri, headers: &HeaderMap, address: String, body: String) -> Arrival {
    #[expect(
        clippy::disallowed_methods,
        reason = "when something arrived here is for people to read, and decides nothing"
    )]
    let at = jiff::Timestamp::now().as_microsecond();
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Arrival {
        number: 0,
        at,
        kind,
        path: uri.path().to_owned(),
        authorization,
        address,
        body,
        form: BTreeMap::new(),
        answered: Answered::Hung,
        id: None,
    }
}

impl Simulator {
    /// Notes the arrival with what will be done about it, and then does it.
    async fn answer(
        &self,
        arrival: Arrival,
        refusal: Option<(u16, Value)>,
        by_rule: impl Fn(&Rule) -> Option<(u16, Value)>,
        accept: impl FnOnce(&str) -> Value,
    ) -> Response<Body> {
        let unpoisoned = "nobody panics while holding this lock";
        let rule = match &refusal {
            Some(_) => Rule::default(),
            None => rule_for(&mut self.rules.lock().expect(unpoisoned), &arrival.address),
        };
        let refusal = refusal.or_else(|| by_rule(&rule));
        let answered = match &refusal {
            _ if rule.hang => Answered::Hung,
            _ if rule.drop => Answered::Dropped,
            Some((status, _)) => Answered::Status(*status),
            None => Answered::Status(201),
        };
        let id = {
            let mut arrivals = self.arrivals.lock().expect(unpoisoned);
            let number = arrivals.len() + 1;
            let id = format!("CA{number:032x}");
            let accepted = refusal.is_none() && answered != Answered::Hung;
            arrivals.push(Arrival { number, answered, id: accepted.then(|| id.clone()), ..arrival });
            id
        };
        tokio::time::sleep(Duration::from_millis(rule.delay_ms)).await;
        let (status, body) = match (answered, refusal) {
            (Answered::Hung, _) => std::future::pending().await,
            (Answered::Dropped, _) => {
                let mut response = StatusCode::OK.into_response();
                response.extensions_mut().insert(BreakConnection);
                return response;
            }
            (Answered::Status(_), Some(refusal)) => refusal,
            (Answered::Status(status), None) => (status, accept(&id)),
        };
        let mut response =
            (StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), Json(body)).into_response();
        if let Some(seconds) = rule.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: usize,
}

async fn arrivals_list(State(simulator): State<Arc<Simulator>>, Query(query): Query<After>) -> Json<Vec<Arrival>> {
    let arrivals = simulator.arrivals.lock().expect("nobody panics while holding this lock");
    Json(arrivals.iter().skip(query.after).cloned().collect())
}

async fn arrivals_forget(State(simulator): State<Arc<Simulator>>) -> StatusCode {
    simulator.arrivals.lock().expect("nobody panics while holding this lock").clear();
    StatusCode::NO_CONTENT
}

async fn rules_list(State(simulator): State<Arc<Simulator>>) -> Json<Vec<Rule>> {
    Json(simulator.rules.lock().expect("nobody panics while holding this lock").clone())
}

async fn rules_replace(State(simulator): State<Arc<Simulator>>, Json(rules): Json<Vec<Rule>>) -> StatusCode {
    *simulator.rules.lock().expect("nobody panics while holding this lock") = rules;
    StatusCode::NO_CONTENT
}
