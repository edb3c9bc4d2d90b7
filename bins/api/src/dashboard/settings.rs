use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use domain::{CallerIdRegistry, PhoneNumber};
use serde::Deserialize;
use serde_json::Value;

use super::{
    frame::{Failed, Frame, html},
    session::{LoggedIn, Posted},
};
use crate::{
    Api,
    auth::{MayAdminister, MayRead},
    channels,
    input::Body,
    problem::Problem,
};

/// A number that is asked about, and what was done before.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    number: String,
    #[serde(default)]
    done: String,
}

#[derive(Template)]
#[template(path = "settings.html")]
struct Settings {
    frame: Frame,
    /// Prefix and number.
    rows: Vec<(String, String)>,
    number: String,
    answer: Option<String>,
    /// The registry as it is edited.
    text: String,
    problem: Option<Problem>,
}

async fn page(
    session: LoggedIn,
    api: Arc<Api>,
    asked: Asked,
    refused: Option<(String, Problem)>,
) -> Result<Response, Failed> {
    let Json(registry) = channels::caller_ids(MayRead::check(&session.caller)?, State(api)).await?;
    let number = asked.number.trim().to_owned();
    let answer = (!number.is_empty()).then(|| who_would_call(&registry, &number));
    let rows = registry.as_object().into_iter().flatten();
    let rows = rows.map(|(prefix, number)| (prefix.clone(), number.as_str().unwrap_or_default().to_owned())).collect();
    let status = if refused.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let (text, problem) = match refused {
        Some((text, problem)) => (text, Some(problem)),
        None => (serde_json::to_string_pretty(&registry).unwrap_or_default(), None),
    };
    let said = (asked.done == "saved").then_some("The caller ids are saved. Workers use them from their next call on.");
    let frame = session.frame("Settings", "settings").saying(said);
    Ok(html(status, &Settings { frame, rows, number, answer, text, problem }))
}

fn who_would_call(registry: &Value, number: &str) -> String {
    let to = match PhoneNumber::parse(number) {
        Ok(to) => to,
        Err(error) => return format!("{number}: {error}"),
    };
    match CallerIdRegistry::from_json(registry) {
        Ok(registry) => match registry.caller_for(&to) {
            Some(from) => format!("{number} would be called from {from}."),
            None => format!("Nobody: no prefix fits {number}, and there is no default. A call to it fails for good."),
        },
        Err(error) => format!("Nobody: {error}"),
    }
}

pub(super) async fn show(
    session: LoggedIn,
    State(api): State<Arc<Api>>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    page(session, api, asked, None).await
}

/// The registry as it is to be.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RegistryForm {
    caller_ids: String,
}

pub(super) async fn set_caller_ids(
    State(api): State<Arc<Api>>,
    Posted { session, form }: Posted<RegistryForm>,
) -> Result<Response, Failed> {
    let may = MayAdminister::check(&session.caller)?;
    let read = serde_json::from_str::<Value>(&form.caller_ids);
    let set = match read {
        Ok(registry) => channels::set_caller_ids(may, State(Arc::clone(&api)), Body(registry)).await,
        Err(error) => Err(Problem::field("caller-ids", format!("is not JSON: {error}"))),
    };
    match set {
        Ok(_) => Ok(Redirect::to("/settings?done=saved").into_response()),
        Err(problem) if problem.status() == 422 => {
            page(Extension(session), api, Asked::default(), Some((form.caller_ids, problem))).await
        }
        Err(problem) => Err(problem.into()),
    }
}
