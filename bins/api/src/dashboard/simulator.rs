use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    frame::{Failed, Frame, html},
    session::{LoggedIn, Posted},
};
use crate::{
    Api,
    auth::MayRead,
    input::RawBody,
    problem::{FieldError, Problem},
    simulate::{self, SimulationView},
    view::time,
};

#[derive(Template)]
#[template(path = "simulator.html")]
struct Simulator {
    frame: Frame,
    typed: Ladder,
    played: Option<SimulationView>,
    problem: Option<Problem>,
}

/// What is to be played.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Ladder {
    request: String,
    /// A line for each channel, such as `phone: 503 twice, timeout`.
    providers: String,
    /// RFC 3339, or minutes after the beginning.
    stop_at: String,
}

/// The page with a ladder to begin with: call the phone in two minutes, mail the manager in five.
pub(super) async fn show(session: LoggedIn, State(api): State<Arc<Api>>) -> Result<Response, Failed> {
    let now = api.store.now().await?.as_second();
    let request = json!({"process-id": "restaurantname", "action": "start", "notifications": [
        {"channel": "phone", "at": now + 120, "phone-number": "+3851111111"},
        {"channel": "email", "at": now + 300, "email": "me@example.org"},
    ]});
    let request = serde_json::to_string_pretty(&request).unwrap_or_default();
    let typed = Ladder { request, providers: "phone: 503 twice".to_owned(), stop_at: String::new() };
    let frame = session.frame("Simulator", "simulator");
    Ok(html(StatusCode::OK, &Simulator { frame, typed, played: None, problem: None }))
}

pub(super) async fn play(
    State(api): State<Arc<Api>>,
    Posted { session, form }: Posted<Ladder>,
) -> Result<Response, Failed> {
    let may = MayRead::check(&session.caller)?;
    let result = match body(&api, &form).await {
        Ok(body) => {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            simulate::simulate(may, State(api), headers, RawBody(Bytes::from(body))).await
        }
        Err(problem) => Err(problem),
    };
    let (status, played, problem) = match result {
        Ok(Json(played)) => (StatusCode::OK, Some(played), None),
        Err(problem) if [400, 422].contains(&problem.status()) => {
            (StatusCode::UNPROCESSABLE_ENTITY, None, Some(problem))
        }
        Err(problem) => return Err(problem.into()),
    };
    let frame = Extension(session).frame("Simulator", "simulator");
    Ok(html(status, &Simulator { frame, typed: form, played, problem }))
}

/// What the form says, as `POST /v1/simulate` takes it. The request stands in it as it was typed: what JSON is good enough
/// is for those to say who read real requests.
async fn body(api: &Api, form: &Ladder) -> Result<String, Problem> {
    let now = api.store.now().await?;
    let mut rest = json!({"now": time(now), "providers": providers(&form.providers)?});
    let stop_at = form.stop_at.trim();
    if !stop_at.is_empty() {
        let stop_at = match stop_at.parse::<f64>() {
            Ok(minutes) if (0.0..=1_000_000.0).contains(&minutes) => {
                // Whole milliseconds, as times stand in answers.
                #[expect(clippy::cast_possible_truncation, reason = "it is bounded")]
                let after = jiff::SignedDuration::from_millis((minutes * 60_000.0) as i64);
                time(now.checked_add(after).map_err(|_| Problem::field("stop-at", "is too late"))?)
            }
            _ => stop_at.to_owned(),
        };
        rest["stop-at"] = stop_at.into();
    }
    let rest = rest.to_string();
    Ok(format!("{{\"request\": {},\n{}", form.request, rest.trim_start_matches('{')))
}

/// Reads lines such as `phone: 503 twice, timeout, 429 3 times`.
fn providers(text: &str) -> Result<Value, Problem> {
    let (mut providers, mut errors) = (Map::new(), Vec::new());
    for (n, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        match line.split_once(':').map(|(channel, answers)| (channel.trim(), answers.split(',').map(answer).collect()))
        {
            Some((channel, Ok::<Vec<Value>, String>(answers))) => {
                providers.insert(channel.to_owned(), answers.into());
            }
            Some((_, Err(message))) => errors.push(FieldError { field: format!("providers, line {n}"), message }),
            None => errors.push(FieldError {
                field: format!("providers, line {n}"),
                message: "must be a channel, a colon and answers, such as phone: 503 twice, timeout".to_owned(),
            }),
        }
    }
    if errors.is_empty() { Ok(providers.into()) } else { Err(Problem::invalid(errors)) }
}

fn answer(words: &str) -> Result<Value, String> {
    let words: Vec<&str> = words.split_whitespace().collect();
    let times = match words[..] {
        [_] | [_, "once"] => Some(1),
        [_, "twice"] => Some(2),
        [_, times, "times"] => times.parse::<u32>().ok(),
        _ => None,
    };
    let wrong =
        || format!("{:?} must be an answer and how often, such as 503, timeout twice or 429 3 times", words.join(" "));
    Ok(json!({"answer": words.first().ok_or_else(wrong)?, "times": times.ok_or_else(wrong)?}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_read_line_by_line() {
        let read = providers("phone: 503 twice, timeout\n\nemail : refused 3 times\n").unwrap();
        let phone = json!([{"answer": "503", "times": 2}, {"answer": "timeout", "times": 1}]);
        assert_eq!(read, json!({"phone": phone, "email": [{"answer": "refused", "times": 3}]}));
        let problem = providers("phone 503\nsms: 503 often, \n").unwrap_err();
        let fields: Vec<_> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["providers, line 1", "providers, line 2"]);
    }
}
