use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap};
use domain::{Channel, NotificationId};
use runtime::failpoint;
use serde::Deserialize;
use store::{Edit, NotificationFilter, NotificationReport, Page, Repair};
use utoipa::{IntoParams, ToSchema};

use crate::{
    Api,
    auth::{MayOperate, MayRead},
    input::{List, Number, Parameters, RawBody, must_be, page},
    problem::{FieldError, Problem},
    view::{Explanation, NotificationView},
};

/// Which notifications.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Filter {
    /// In one state.
    #[param(inline)]
    pub(crate) state: Option<StateName>,
    /// Of one channel.
    pub(crate) channel: Option<String>,
    /// Of one process.
    pub(crate) process_id: Option<String>,
    /// To one address, letter by letter; for keys that may see addresses.
    pub(crate) address: Option<String>,
    /// Only what is older than this: `next` of the page before.
    pub(crate) before: Option<i64>,
    /// At most so many, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub(crate) limit: Option<i64>,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StateName {
    Scheduled,
    Queued,
    Sending,
    Retrying,
    Delivered,
    Failed,
    Cancelled,
}

impl From<StateName> for domain::State {
    fn from(state: StateName) -> Self {
        match state {
            StateName::Scheduled => Self::Scheduled,
            StateName::Queued => Self::Queued,
            StateName::Sending => Self::Sending,
            StateName::Retrying => Self::Retrying,
            StateName::Delivered => Self::Delivered,
            StateName::Failed => Self::Failed,
            StateName::Cancelled => Self::Cancelled,
        }
    }
}

/// List notifications
#[utoipa::path(
    get, path = "/v1/notifications", tag = "notifications", params(Filter),
    responses((status = 200, body = List<NotificationView>))
)]
pub(crate) async fn list(
    MayRead(caller): MayRead,
    State(api): State<Arc<Api>>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<List<NotificationView>>, Problem> {
    let page = page(filter.before, filter.limit)?;
    if filter.address.is_some() && !caller.sees_addresses() {
        return Err(Problem::field("address", "takes a key of role operate"));
    }
    let wanted = NotificationFilter {
        state: filter.state.map(domain::State::from),
        channel: known_channel(filter.channel.as_deref())?,
        process: filter.process_id.as_deref(),
        address: filter.address.as_deref(),
        id: None,
    };
    let found = api.store.notification_reports(wanted, page).await?;
    let views = found.into_iter().map(|one| NotificationView::new(one, caller.sees_addresses())).collect();
    Ok(Json(List::new(views, page, |view: &NotificationView| view.id)))
}

/// A channel that somebody names, checked.
pub(crate) fn known_channel(name: Option<&str>) -> Result<Option<&'static str>, Problem> {
    let Some(name) = name else { return Ok(None) };
    match Channel::named(name) {
        Some(channel) => Ok(Some(channel.name)),
        None => {
            let known: Vec<_> = domain::CHANNELS.iter().map(|channel| channel.name).collect();
            Err(Problem::field("channel", format!("must be one of {}", known.join(", "))))
        }
    }
}

/// One notification with its calls
#[utoipa::path(
    get, path = "/v1/notifications/{id}", tag = "notifications", params(("id" = i64, Path)),
    responses(
        (status = 200, body = NotificationView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    MayRead(caller): MayRead,
    State(api): State<Arc<Api>>,
    Number(id): Number,
) -> Result<Json<NotificationView>, Problem> {
    Ok(Json(NotificationView::new(find(&api, id).await?, caller.sees_addresses())))
}

/// Why it was or was not sent
///
/// One plain sentence, and the facts behind it. `accepted` means that the provider took it; what became of it at the other
/// end nobody here can know.
#[utoipa::path(
    get, path = "/v1/notifications/{id}/explain", tag = "notifications", params(("id" = i64, Path)),
    responses(
        (status = 200, body = Explanation),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn explain(
    MayRead(caller): MayRead,
    State(api): State<Arc<Api>>,
    Number(id): Number,
) -> Result<Json<Explanation>, Problem> {
    Ok(Json(NotificationView::new(find(&api, id).await?, caller.sees_addresses()).into()))
}

pub(crate) async fn find(api: &Api, id: i64) -> Result<NotificationReport, Problem> {
    let filter = NotificationFilter { id: Some(id), ..Default::default() };
    let found = api.store.notification_reports(filter, Page { before: None, limit: 1 }).await?;
    found.into_iter().next().ok_or_else(|| missing(id))
}

fn missing(id: i64) -> Problem {
    Problem::not_found(format!("there is no notification {id}"))
}

/// Change the address or the text of a failed notification
///
/// The body has the channel's own keys and their new values, as in a request; `null` takes an optional key away. It has no
/// effect but on the next try, which `retry` begins.
#[utoipa::path(
    patch, path = "/v1/notifications/{id}", tag = "failures", params(("id" = i64, Path)),
    request_body(content = Value, content_type = "application/json", example = json!({"phone-number": "+3851111111"})),
    responses(
        (status = 200, body = NotificationView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not failed", body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn edit(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    Number(id): Number,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Json<NotificationView>, Problem> {
    must_be(&headers, "application/json")?;
    let report = find(&api, id).await?;
    let channel = Channel::named(&report.story.channel)
        .ok_or_else(|| Problem::conflict(format!("this version knows no channel {}", report.story.channel)))?;
    let changes = wire::parse_changes(channel, &body)
        .map_err(|reasons| Problem::invalid(reasons.into_iter().map(FieldError::from).collect()))?;
    let edit = Edit { address: changes.address, options: changes.options, removed: changes.removed };
    let done = api.store.failure_edit(NotificationId(id), &edit, &caller.actor()).await?;
    repaired(&api, id, done, "edited").await
}

/// Try a failed notification again
///
/// At once, with all its attempts and its whole max-age. Whoever asks twice gets 409 the second time: it is sent once.
#[utoipa::path(
    post, path = "/v1/notifications/{id}/retry", tag = "failures", params(("id" = i64, Path)),
    responses(
        (status = 200, body = NotificationView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not failed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn retry(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    Number(id): Number,
) -> Result<Json<NotificationView>, Problem> {
    let done = api.store.failure_retry(NotificationId(id), &caller.actor()).await?;
    failpoint("api.retried", "");
    if done == Repair::Done {
        hint(&api).await;
    }
    repaired(&api, id, done, "tried again").await
}

/// Give a failed notification up
///
/// It stays failed, and is no longer among the failures that wait for a person.
#[utoipa::path(
    post, path = "/v1/notifications/{id}/give-up", tag = "failures", params(("id" = i64, Path)),
    responses(
        (status = 200, body = NotificationView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not failed, or was given up before", body = Problem,
            content_type = "application/problem+json"),
    )
)]
pub(crate) async fn give_up(
    MayOperate(caller): MayOperate,
    State(api): State<Arc<Api>>,
    Number(id): Number,
) -> Result<Json<NotificationView>, Problem> {
    let done = api.store.failure_give_up(NotificationId(id), &caller.actor()).await?;
    repaired(&api, id, done, "given up").await
}

/// Tells the activators that something is due now. Their poll makes up for what is lost.
pub(crate) async fn hint(api: &Api) {
    if let Err(error) = api.store.hint_due(api.store.clock().now()).await {
        tracing::debug!(%error, "no hint");
    }
}

async fn repaired(api: &Api, id: i64, done: Repair, what: &str) -> Result<Json<NotificationView>, Problem> {
    match done {
        Repair::Done => Ok(Json(NotificationView::new(find(api, id).await?, true))),
        Repair::NotFailed(domain::State::Failed) => {
            Err(Problem::conflict(format!("notification {id} was {what} before")))
        }
        Repair::NotFailed(state) => {
            Err(Problem::conflict(format!("notification {id} is {state}, and only a failed one can be {what}")))
        }
        Repair::Missing => Err(missing(id)),
    }
}
