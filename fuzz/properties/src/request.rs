use std::{collections::BTreeMap, time::Duration};

use domain::{Action, FieldKind, NewNotification, OnUnknown, Outcome, PhoneNumber, Request};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use url::Url;
use wire::{MAX_BODY_BYTES, MAX_NOTIFICATIONS, Rejection, parse_request};

use crate::smtp_session::{claim, session};

const MAX_REASONS: usize = 101;
const MAX_FIELD: usize = 201;
const MAX_MESSAGE: usize = 300;
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A server that takes every mail.
const FRIENDLY: &[u8] = b"220 x\r\n250-x\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n250 a\r\n250 b\r\n354 c\r\n250 d\r\n";

/// A request: what is accepted is within all bounds, can be written and read again, and can be sent; what is rejected has
/// reasons that name where, and that can be kept and printed.
pub fn request(body: &[u8]) {
    match parse_request(body) {
        Ok(request) => {
            assert!(body.len() <= MAX_BODY_BYTES && str::from_utf8(body).is_ok());
            check_accepted(&request);
            let written = written(&request);
            match parse_request(written.to_string().as_bytes()) {
                Ok(again) => assert_eq!(again, request, "{written}"),
                Err(rejection) => panic!("{:?}: {written}", rejection.reasons),
            }
        }
        Err(rejection) => check_rejected(&rejection),
    }
}

fn check_rejected(rejection: &Rejection) {
    let reasons = &rejection.reasons;
    assert!((1..=MAX_REASONS).contains(&reasons.len()), "{} reasons", reasons.len());
    for reason in reasons {
        assert!(reason.field.chars().count() <= MAX_FIELD, "{} bytes of a field", reason.field.len());
        assert!((1..=MAX_MESSAGE).contains(&reason.message.chars().count()), "{}", reason.message);
        assert!(!reason.to_string().contains(char::is_control), "{reason:?}");
        let whole = ["must ", "and "].iter().any(|begin| reason.message.starts_with(begin));
        assert!(!reason.field.is_empty() || whole, "{reason:?} names no field");
    }
    if let Some(process) = &rejection.process {
        check_name(process.as_str());
    }
}

fn check_name(name: &str) {
    assert!((1..=255).contains(&name.chars().count()) && !name.contains('\0'), "{name:?}");
}

fn check_accepted(request: &Request) {
    check_name(request.process.as_str());
    let Action::Start(notifications) = &request.action else { return };
    assert!((1..=MAX_NOTIFICATIONS).contains(&notifications.len()));
    for notification in notifications {
        assert!((Timestamp::UNIX_EPOCH..=Timestamp::MAX).contains(&notification.at));
        assert!((1..=100).contains(&notification.max_attempts));
        assert!((Duration::from_secs(1)..=MAX_AGE).contains(&notification.max_age));
        assert_eq!(notification.address.is_some(), notification.channel.address.is_some());
        for field in notification.channel.options {
            assert!(!field.required || notification.options.contains_key(field.key), "{} is missing", field.key);
        }
        notification.options.values().for_each(check_storable);
        check_address(notification);
    }
}

/// Postgres can keep it.
fn check_storable(value: &Value) {
    match value {
        Value::String(text) => assert!(!text.contains('\0')),
        Value::Array(items) => items.iter().for_each(check_storable),
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            assert!(!key.contains('\0'));
            check_storable(value);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whoever is to send it can make something of the address, or it should have been rejected.
fn check_address(notification: &NewNotification) {
    let (Some(address), Some(field)) = (&notification.address, &notification.channel.address) else { return };
    assert!(!address.contains(char::is_control), "{address:?}");
    match field.kind {
        FieldKind::PhoneNumber => assert!(PhoneNumber::parse(address).is_ok(), "{address:?}"),
        FieldKind::Url => assert!(address.parse::<Url>().is_ok_and(|url| url.has_host()), "{address:?}"),
        FieldKind::EmailAddress => check_mail(address, notification),
        FieldKind::TopicArn => assert!(address.split(':').count() == 6, "{address:?}"),
        FieldKind::PubnubChannel
        | FieldKind::EmailAddresses
        | FieldKind::Text(_)
        | FieldKind::Line(_)
        | FieldKind::Json
        | FieldKind::Payload
        | FieldKind::Attributes => {}
    }
}

/// The mail can be made, has no lines that end oddly, and no headers but its own.
fn check_mail(address: &str, notification: &NewNotification) {
    let mut options: BTreeMap<_, _> =
        notification.options.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    // The friendly server takes one recipient; copies are tried one by one.
    let copies: Vec<_> = ["cc", "bcc"].into_iter().filter_map(|key| options.remove(key)).collect();
    for copy in copies.iter().flat_map(|copy| copy.as_array().map_or(std::slice::from_ref(copy), Vec::as_slice)) {
        send(copy.as_str().expect("a text"), BTreeMap::new());
    }
    let content = send(address, options);
    assert_eq!(content.matches("\r\n.\r\n").count(), 1, "one end of the message: {content:?}");
    let without_ends = content.replace("\r\n", "");
    assert!(!without_ends.contains(['\r', '\n']), "a bare line end: {content:?}");
    let (_, message) = content.split_once("DATA\r\n").expect("a message");
    // An empty body takes the empty line before it along.
    let message = message.strip_suffix("\r\n.\r\n").expect("its end");
    let head = message.split("\r\n\r\n").next().unwrap_or_default();
    for line in head.split("\r\n").filter(|line| !line.starts_with([' ', '\t'])) {
        let name = line.split(':').next().unwrap_or_default();
        let known = [
            "Message-ID",
            "Date",
            "From",
            "To",
            "Subject",
            "Auto-Submitted",
            "MIME-Version",
            "Content-Type",
            "Content-Transfer-Encoding",
        ];
        assert!(known.contains(&name), "a header of somebody's own: {line:?}");
    }
}

fn send(address: &str, options: BTreeMap<String, Value>) -> String {
    let (answer, log) = session(FRIENDLY, &claim(address, options), None);
    assert_eq!(answer.outcome, Outcome::Delivered, "accepted, and can't be sent: {:?} {address:?}", answer.detail);
    String::from_utf8(log.sent).expect("what is sent is a text")
}

/// The request as JSON, with everything said that may be left out.
fn written(request: &Request) -> Value {
    let mut written = json!({"process-id": request.process.as_str(), "action": request.action.as_str()});
    if let Action::Start(notifications) = &request.action {
        written["notifications"] = notifications.iter().map(written_notification).collect();
    }
    written
}

fn written_notification(notification: &NewNotification) -> Value {
    let on_unknown = if notification.on_unknown == OnUnknown::Fail { "fail" } else { "retry" };
    let mut members = Map::from_iter([
        ("channel".to_owned(), notification.channel.name.into()),
        ("at".to_owned(), notification.at.to_string().into()),
        ("on-unknown".to_owned(), on_unknown.into()),
        ("max-attempts".to_owned(), notification.max_attempts.into()),
        ("max-age".to_owned(), notification.max_age.as_secs().into()),
    ]);
    if let (Some(field), Some(address)) = (&notification.channel.address, &notification.address) {
        members.insert(field.key.to_owned(), address.clone().into());
    }
    members.extend(notification.options.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    members.into()
}
