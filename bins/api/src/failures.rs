use std::sync::Arc;

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{FailureFilter, FailureGroup, MAX_FAILURES};
use utoipa::{IntoParams, ToSchema};

use crate::{
    Api,
    auth::{MayOperate, MayRead},
    input::{Body, Parameters},
    notifications::{hint, known_channel},
    problem::Problem,
    view::time,
};

const DEFAULT_LIMIT: i64 = 1_000;

const DEFAULT_PER_SECOND: f64 = 10.0;

/// Which failures.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Of {
    /// Of one channel.
    pub(crate) channel: Option<String>,
}

/// Failures of one channel that have one cause.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Group {
    pub(crate) channel: String,
    /// What the provider said last, or why Tocsin gave it up.
    pub(crate) cause: String,
    pub(crate) count: i64,
    /// When the first of them failed.
    pub(crate) first_at: String,
    /// When the last of them failed.
    pub(crate) last_at: String,
    /// The newest of them, five at most.
    pub(crate) examples: Vec<i64>,
}

impl From<FailureGroup> for Group {
    fn from(group: FailureGroup) -> Self {
        let FailureGroup { channel, cause, count, first_at, last_at, examples } = group;
        Self { channel, cause, count, first_at: time(first_at), last_at: time(last_at), examples }
    }
}

/// What waits for a person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Groups {
    /// The most frequent cause first.
    pub(crate) groups: Vec<Group>,
    /// False if there are more than the newest 10,000 failures, which are counted here, or more than 200 causes.
    pub(crate) complete: bool,
}

/// Failures that wait for a person, by channel and cause
#[utoipa::path(get, path = "/v1/failures", tag = "failures", params(Of), responses((status = 200, body = Groups)))]
pub(crate) async fn groups(
    MayRead(_): MayRead,
    State(api): State<Arc<Api>>,
    Parameters(of): Parameters<Of>,
) -> Result<Json<Groups>, Problem> {
    let found = api.store.failure_groups(known_channel(of.channel.as_deref())?).await?;
    let counted: i64 = found.iter().map(|group| group.count).sum();
    let complete = counted < MAX_FAILURES && found.len() < 200;
    Ok(Json(Groups { groups: found.into_iter().map(Group::from).collect(), complete }))
}

/// Which failures to try again, and how fast.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Retry {
    /// Of one channel.
    pub(crate) channel: Option<String>,
    /// Of one cause, as `/v1/failures` says it.
    pub(crate) cause: Option<String>,
    /// Of one process.
    pub(crate) process_id: Option<String>,
    /// Failed at this time or later: RFC 3339.
    pub(crate) since: Option<String>,
    /// Failed before this time: RFC 3339.
    pub(crate) until: Option<String>,
    /// At most so many, the oldest first: 1 to 10,000; 1,000 unless given.
    pub(crate) limit: Option<i64>,
    /// So many calls a second: 0.01 to 1,000; 10 unless given.
    pub(crate) per_second: Option<f64>,
    /// Only say how many it would be.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// What a retry of many did, or would do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Retried {
    /// Nothing was done.
    pub(crate) dry_run: bool,
    /// How many are tried again, or would be.
    pub(crate) retried: i64,
    /// How many are left alone: their process was stopped, or started again, after they were made; somebody has locked them
    /// at this moment, or has tried them again. Each that has still failed can be tried again by its number.
    pub(crate) left_alone: i64,
    /// When the last of them is called at the earliest.
    pub(crate) last_due_at: Option<String>,
}

/// Try many failed notifications again
///
/// The oldest first, spread over time. What was tried again by somebody else meanwhile is not sent twice.
#[utoipa::path(
    post, path = "/v1/failures/retry", tag = "failures",
    request_body(content = ref("#/components/schemas/Retry"), content_type = "application/json"),
    responses(
        (status = 200, body = Retried),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn retry(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    Body(retry): Body<Retry>,
) -> Result<Json<Retried>, Problem> {
    let filter = FailureFilter {
        channel: known_channel(retry.channel.as_deref())?,
        cause: retry.cause.as_deref(),
        process: retry.process_id.as_deref(),
        since: parse_time("since", retry.since.as_deref())?,
        until: parse_time("until", retry.until.as_deref())?,
    };
    let limit = retry.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_FAILURES).contains(&limit) {
        return Err(Problem::field("limit", format!("must be from 1 to {MAX_FAILURES}")));
    }
    let per_second = retry.per_second.unwrap_or(DEFAULT_PER_SECOND);
    if !(0.01..=1_000.0).contains(&per_second) {
        return Err(Problem::field("per-second", "must be from 0.01 to 1000"));
    }
    let done = if retry.dry_run {
        api.store.failures_retry_dry(filter, limit).await?
    } else {
        let done = api.store.failures_retry(filter, limit, per_second, &caller.actor()).await;
        hint(&api).await;
        done?
    };
    Ok(Json(Retried {
        dry_run: retry.dry_run,
        retried: done.retried,
        left_alone: done.left_alone,
        last_due_at: done.last_due_at.map(time),
    }))
}

fn parse_time(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let wrong = |_| Problem::field(field, "must be RFC 3339 with an offset, such as 2026-11-21T18:00:00+01:00");
    text.map(str::parse::<Timestamp>).transpose().map_err(wrong)
}
