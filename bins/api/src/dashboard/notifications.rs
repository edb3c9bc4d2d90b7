use std::{collections::HashMap, sync::Arc};

use askama::Template;
use axum::{
    Json,
    body::Bytes,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Redirect, Response},
};
use domain::{Channel, FieldKind};
use serde_json::{Map, Value};

use super::{
    frame::{Done, Failed, Frame, html},
    processes::process_path,
    session::{LoggedIn, Nothing, Posted},
};
use crate::{
    Api,
    auth::{MayOperate, MayRead},
    input::{Number, RawBody},
    notifications,
    problem::Problem,
    view::NotificationView,
};

#[derive(Template)]
#[template(path = "notification.html")]
struct Notification {
    frame: Frame,
    one: NotificationView,
    fields: Vec<EditField>,
    process_path: String,
}

/// A key of a notification that can be changed before it is tried again.
struct EditField {
    key: &'static str,
    help: &'static str,
    value: String,
    is_long: bool,
}

fn fields(one: &NotificationView) -> Vec<EditField> {
    let (Some(channel), Some(content)) = (Channel::named(&one.channel), &one.content) else { return Vec::new() };
    let all = channel.address.iter().chain(channel.options);
    let field = all.map(|field| EditField {
        key: field.key,
        help: field.help,
        value: match &content[field.key] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            json => json.to_string(),
        },
        is_long: matches!(
            field.kind,
            FieldKind::Json | FieldKind::Payload | FieldKind::Attributes | FieldKind::Text(500..)
        ),
    });
    field.collect()
}

pub(super) async fn show(
    session: LoggedIn,
    State(api): State<Arc<Api>>,
    id: Number,
    Query(Done { done }): Query<Done>,
) -> Result<Response, Failed> {
    let Json(one) = notifications::show(MayRead::check(&session.caller)?, State(api), id).await?;
    let said = match done.as_str() {
        "edit" => Some("It is changed. Retry it to have it sent."),
        "retry" => Some("It is tried again."),
        "give-up" => Some("It is given up, and waits for nobody any more."),
        _ => None,
    };
    let frame = session.frame(format!("Notification {}", one.id), "processes").saying(said);
    let (fields, process_path) = (fields(&one), process_path(&one.process_id));
    Ok(html(StatusCode::OK, &Notification { frame, one, fields, process_path }))
}

fn done(id: i64, what: &str) -> Redirect {
    Redirect::to(&format!("/notifications/{id}?done={what}"))
}

/// Sends on what differs from how it is.
pub(super) async fn edit(
    State(api): State<Arc<Api>>,
    Number(id): Number,
    Posted { session, form }: Posted<HashMap<String, String>>,
) -> Result<Redirect, Failed> {
    let may = || MayOperate::check(&session.caller);
    let Json(one) = notifications::show(MayRead(may()?.0), State(Arc::clone(&api)), Number(id)).await?;
    let mut changes = Map::new();
    for field in fields(&one) {
        let Some(new) = form.get(field.key).map(|text| text.replace("\r\n", "\n")) else { continue };
        if new != field.value {
            changes.insert(field.key.to_owned(), changed(&one, field.key, new)?);
        }
    }
    if changes.is_empty() {
        return Err(Problem::field("", "nothing was changed: go back, and change the address or the text").into());
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = RawBody(Bytes::from(Value::Object(changes).to_string()));
    let Json(_) = notifications::edit(may()?, State(api), Number(id), headers, body).await?;
    Ok(done(id, "edit"))
}

fn changed(one: &NotificationView, key: &str, text: String) -> Result<Value, Problem> {
    let options = Channel::named(&one.channel).map_or(&[][..], |channel| channel.options);
    let is_json = options.iter().filter(|field| field.key == key).any(|field| match field.kind {
        FieldKind::Json | FieldKind::Attributes => true,
        FieldKind::Payload => text.starts_with(['{', '[']),
        FieldKind::EmailAddresses => text.starts_with('['),
        _ => false,
    });
    match text {
        text if text.is_empty() => Ok(Value::Null),
        text if is_json => serde_json::from_str(&text).map_err(|error| Problem::field(key, error.to_string())),
        text => Ok(Value::String(text)),
    }
}

pub(super) async fn retry(
    State(api): State<Arc<Api>>,
    Number(id): Number,
    Posted { session, .. }: Posted<Nothing>,
) -> Result<Redirect, Failed> {
    let Json(_) = notifications::retry(MayOperate::check(&session.caller)?, State(api), Number(id)).await?;
    Ok(done(id, "retry"))
}

pub(super) async fn give_up(
    State(api): State<Arc<Api>>,
    Number(id): Number,
    Posted { session, .. }: Posted<Nothing>,
) -> Result<Redirect, Failed> {
    let Json(_) = notifications::give_up(MayOperate::check(&session.caller)?, State(api), Number(id)).await?;
    Ok(done(id, "give-up"))
}
