use std::sync::Arc;

use askama::Template;
use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{Redirect, Response},
};
use serde::Deserialize;

use super::{
    frame::{Failed, Frame, html},
    session::{LoggedIn, Posted},
};
use crate::{
    Api,
    auth::{MayOperate, MayRead},
    failures::{self, Groups, Of, Retry},
    input::{Body, Parameters},
    problem::Problem,
};

#[derive(Template)]
#[template(path = "failures.html")]
struct Failures {
    frame: Frame,
    found: Groups,
}

/// What a retry of many did, or would do.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Done {
    retried: Option<i64>,
    would: Option<i64>,
    #[serde(default)]
    left: i64,
}

impl Done {
    fn said(&self) -> Option<String> {
        let did = match (self.retried, self.would) {
            (Some(count), _) => format!("{count} are tried again."),
            (_, Some(count)) => format!("{count} would be tried again. Nothing was done yet."),
            _ => return None,
        };
        let left =
            "left alone, since their process was stopped or started again after they were made, or is locked now";
        Some(if self.left > 0 { format!("{did} {} are {left}.", self.left) } else { did })
    }
}

pub(super) async fn show(
    session: LoggedIn,
    State(api): State<Arc<Api>>,
    Query(done): Query<Done>,
) -> Result<Response, Failed> {
    let all = Parameters(Of { channel: None });
    let Json(found) = failures::groups(MayRead::check(&session.caller)?, State(api), all).await?;
    let frame = session.frame("Failures", "failures").saying(done.said());
    Ok(html(StatusCode::OK, &Failures { frame, found }))
}

/// Which failures to try again, how fast, and whether only to count them.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RetryForm {
    channel: String,
    cause: String,
    per_second: String,
    limit: String,
    dry_run: Option<String>,
}

pub(super) async fn retry(
    State(api): State<Arc<Api>>,
    Posted { session, form }: Posted<RetryForm>,
) -> Result<Redirect, Failed> {
    let number = |field: &'static str, text: &str| {
        text.trim().parse::<f64>().map_err(|_| Problem::field(field, "must be a number"))
    };
    let limit = form.limit.trim().parse().map_err(|_| Problem::field("limit", "must be a whole number"))?;
    let wanted = Retry {
        channel: Some(form.channel),
        cause: Some(form.cause),
        limit: Some(limit),
        per_second: Some(number("per-second", &form.per_second)?),
        dry_run: form.dry_run.is_some(),
        ..Default::default()
    };
    let Json(done) = failures::retry(MayOperate::check(&session.caller)?, State(api), Body(wanted)).await?;
    let what = if done.dry_run { "would" } else { "retried" };
    Ok(Redirect::to(&format!("/failures?{what}={}&left={}", done.retried, done.left_alone)))
}
