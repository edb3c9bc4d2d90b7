use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, Response, StatusCode, Uri, header},
    response::IntoResponse,
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{Answered, Arrival, Rule, Simulator, rules::rule_for, sns, twilio};

/// Marks a response in whose stead the connection is broken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BreakConnection;

type Shared = State<Arc<Simulator>>;

pub(crate) fn router() -> Router<Arc<Simulator>> {
    Router::new()
        .route("/", post(sns))
        .route("/2010-04-01/Accounts/{sid}", get(twilio_account))
        .route("/2010-04-01/Accounts/{sid}/Calls.json", post(twilio_call))
        .route("/2010-04-01/Accounts/{sid}/Messages.json", post(twilio_message))
        .route("/time/0", get(|| async { Json(json!([17_000_000_000_000_000_i64])) }))
        .route("/publish/{publish}/{subscribe}/0/{channel}/0", post(pubnub))
        .route("/webhook/{*path}", post(webhook))
}

async fn twilio_account(Path(sid): Path<String>, headers: HeaderMap) -> Response<Body> {
    let sid = sid.trim_end_matches(".json");
    if twilio::authorized(sid, authorization(&headers).as_deref()) {
        Json(json!({"sid": sid, "status": "active", "friendly_name": "simulated"})).into_response()
    } else {
        (StatusCode::UNAUTHORIZED, Json(twilio::error(401, 20003, "Authenticate"))).into_response()
    }
}

async fn twilio_call(state: Shared, sid: Path<String>, uri: Uri, headers: HeaderMap, body: String) -> Response<Body> {
    twilio_create("twilio-call", twilio::call_problem, twilio::call, (state, sid, uri, headers, body)).await
}

async fn twilio_message(
    state: Shared,
    sid: Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    twilio_create("twilio-message", twilio::message_problem, twilio::message, (state, sid, uri, headers, body)).await
}

type Form = BTreeMap<String, String>;

async fn twilio_create(
    kind: &'static str,
    problem: fn(&Form) -> Option<(u16, u32, &'static str)>,
    accept: fn(&str, usize, &Form) -> Value,
    (State(simulator), Path(sid), uri, headers, body): (Shared, Path<String>, Uri, HeaderMap, String),
) -> Response<Body> {
    let form: Form = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let arrival = arrival(kind, &uri, &headers, form.get("To").cloned().unwrap_or_default(), body);
    let arrival = Arrival { form: form.clone(), ..arrival };
    let refusal = if twilio::authorized(&sid, arrival.authorization.as_deref()) {
        problem(&form)
    } else {
        Some((401, 20003, "Authenticate"))
    };
    let refusal = refusal.map(|(status, code, message)| (status, Json(twilio::error(status, code, message))));
    let by_rule = |rule: &Rule| {
        let status = rule.status?;
        let code = rule.code.unwrap_or(20000 + u32::from(status));
        Some((status, Json(twilio::error(status, code, "as the rule says"))))
    };
    let accept = |number: usize| {
        let accepted = accept(&sid, number, &form);
        (accepted["sid"].as_str().unwrap_or_default().to_owned(), Json(accepted))
    };
    simulator.answer(arrival, refusal, by_rule, accept, 201).await
}

async fn pubnub(
    State(simulator): Shared,
    Path((_publish, _subscribe, channel)): Path<(String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    let is_json = serde_json::from_str::<Value>(&body).is_ok();
    let refusal = (!is_json).then(|| (400, Json(json!([0, "Invalid JSON", "17000000000000000"]))));
    let by_rule = |rule: &Rule| {
        let words = rule.words.as_deref().unwrap_or("as the rule says");
        Some((rule.status?, Json(json!([0, words, "0"]))))
    };
    let accept = |number: usize| {
        let timetoken = (17_000_000_000_000_000 + number).to_string();
        (timetoken.clone(), Json(json!([1, "Sent", timetoken])))
    };
    simulator.answer(arrival("pubnub", &uri, &headers, channel, body), refusal, by_rule, accept, 200).await
}

async fn webhook(State(simulator): Shared, uri: Uri, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let verified = simulator.webhook.as_ref().is_none_or(|webhook| webhook.verify(&body, &headers).is_ok());
    let refusal = (!verified).then(|| (401, Json(json!({"error": "the signature is wrong"}))));
    let body = String::from_utf8_lossy(&body).into_owned();
    let mut arrival = arrival("webhook", &uri, &headers, uri.path().to_owned(), body);
    let text = |value: &header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let webhook_headers = headers.iter().filter(|(name, _)| name.as_str().starts_with("webhook-"));
    arrival.form = webhook_headers.map(|(name, value)| (name.to_string(), text(value))).collect();
    let by_rule = |rule: &Rule| Some((rule.status?, Json(json!({"error": "as the rule says"}))));
    let accept = |number: usize| (number.to_string(), Json(json!({"id": number.to_string()})));
    simulator.answer(arrival, refusal, by_rule, accept, 201).await
}

/// SNS, as its clients ask by the query protocol. A rule's words are the error's code.
async fn sns(State(simulator): Shared, uri: Uri, headers: HeaderMap, body: String) -> Response<Body> {
    let form: Form = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    match form.get("Action").map(String::as_str) {
        Some("ListTopics") => return sns::topics().into_response(),
        Some("Publish") => {}
        _ => return (StatusCode::BAD_REQUEST, sns::error(400, Some("InvalidAction"))).into_response(),
    }
    let topic = form.get("TopicArn").cloned().unwrap_or_default();
    let arrival = Arrival { form, ..arrival("sns", &uri, &headers, topic, body) };
    let problem = sns::problem(&arrival.form, arrival.authorization.as_deref());
    let refusal = problem.map(|(status, code)| (status, sns::error(status, Some(code))));
    let by_rule = |rule: &Rule| {
        let status = rule.status?;
        Some((status, sns::error(status, rule.words.as_deref().or(sns::code(status)))))
    };
    let accept = |number: usize| {
        let id = sns::message_id(number);
        (id.clone(), sns::published(&id))
    };
    simulator.answer(arrival, refusal, by_rule, accept, 200).await
}

fn authorization(headers: &HeaderMap) -> Option<String> {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn arrival(kind: &'static str, uri: &Uri, headers: &HeaderMap, address: String, body: String) -> Arrival {
    let path = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    Arrival { path, authorization: authorization(headers), ..Arrival::new(kind, address, body) }
}

impl Simulator {
    /// Notes the arrival with what will be done about it, and then does it. `success` is the status of what is
    /// accepted, and `accept` makes its id and the answer.
    async fn answer<T: IntoResponse>(
        &self,
        arrival: Arrival,
        refusal: Option<(u16, T)>,
        by_rule: impl Fn(&Rule) -> Option<(u16, T)>,
        accept: impl Fn(usize) -> (String, T),
        success: u16,
    ) -> Response<Body> {
        let rule = match &refusal {
            Some(_) => Rule::default(),
            None => rule_for(&mut self.rules(), &arrival.address),
        };
        let refusal = refusal.or_else(|| by_rule(&rule));
        let answered = match &refusal {
            _ if rule.hang => Answered::Hung,
            _ if rule.drop => Answered::Dropped,
            Some((status, _)) => Answered::Status(*status),
            None => Answered::Status(success),
        };
        let accepted = refusal.is_none() && answered != Answered::Hung;
        let id = |number| accepted.then(|| accept(number).0);
        let number = self.note(Arrival { answered, ..arrival }, id);
        tokio::time::sleep(Duration::from_millis(rule.delay_ms)).await;
        let (status, body) = match (answered, refusal) {
            (Answered::Hung, _) => std::future::pending().await,
            (Answered::Dropped, _) => {
                let mut response = StatusCode::OK.into_response();
                response.extensions_mut().insert(BreakConnection);
                return response;
            }
            (Answered::Status(_), Some(refusal)) => refusal,
            (Answered::Status(status), None) => (status, accept(number).1),
        };
        let mut response = (StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), body).into_response();
        if let Some(location) = rule.location.and_then(|location| location.parse().ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        if let Some(seconds) = rule.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
