use std::{collections::BTreeMap, fmt, time::Duration};

use domain::{
    Action, CHANNELS, Channel, DEFAULT_MAX_AGE, DEFAULT_MAX_ATTEMPTS, Field, FieldKind, NewNotification, OnUnknown,
    ProcessName, Request,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{field, json::Json};

/// The largest body that is read, which is the largest that SQS carries.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// The most notifications in a start.
pub const MAX_NOTIFICATIONS: usize = 1_000;

const MAX_REASONS: usize = 100;

/// The way to a value, down a stranger's keys, can have thousands.
const MAX_FIELD_CHARACTERS: usize = 200;

const MAX_EMAILS: usize = 50;

/// The first second of the year 10000.
const YEAR_10000: i64 = 253_402_300_800;

/// The greatest max-attempts.
pub const MAX_MAX_ATTEMPTS: u64 = 100;

/// The longest max-age.
pub const MAX_MAX_AGE_SECONDS: u64 = 30 * 24 * 60 * 60;

/// Why a request was rejected: every reason, and what could be read of it all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The process-id, if there was a good one.
    pub process: Option<ProcessName>,
    /// At least one, and not more than 101: what goes beyond is counted in the last.
    pub reasons: Vec<Reason>,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Where: `notifications[2].at`, or empty for the request as a whole. Cut off after 200 characters.
    pub field: String,
    /// What, in words for the sender. Never the value itself, which may be an address.
    pub message: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.field, self.message) }
    }
}

/// Reads a request as a sender wrote it, from SQS or HTTP.
///
/// Keys that the engine doesn't know are passed over; a known key that stands twice is an error, and so is U+0000
/// anywhere, as no database text can hold it.
pub fn parse_request(body: &[u8]) -> Result<Request, Rejection> {
    let mut reader = Reader::default();
    let mut process = None;
    let request = reader.body(body).and_then(|members| reader.request("", members, &mut process));
    match request {
        Some(request) if reader.reasons.is_empty() => Ok(request),
        _ => Err(Rejection { process, reasons: reader.finish() }),
    }
}

pub(crate) type Members = Vec<(String, Json)>;

#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) reasons: Vec<Reason>,
    more: usize,
}

impl Reader {
    pub(crate) fn wrong(&mut self, field: impl Into<String>, message: impl Into<String>) {
        if self.reasons.len() == MAX_REASONS {
            self.more += 1;
            return;
        }
        let reason = Reason { field: bounded(field.into()), message: message.into() };
        // Both the look for U+0000 and the type of a value may find the same.
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Reason> {
        if self.more > 0 {
            let message = format!("and {} more", self.more);
            self.reasons.push(Reason { field: String::new(), message });
        }
        self.reasons
    }

    pub(crate) fn body(&mut self, body: &[u8]) -> Option<Members> {
        if body.len() > MAX_BODY_BYTES {
            self.wrong("", format!("must be at most {MAX_BODY_BYTES} bytes, is {}", body.len()));
            return None;
        }
        if body.starts_with(b"\xEF\xBB\xBF") {
            self.wrong("", "must not begin with a byte order mark");
            return None;
        }
        let Ok(text) = std::str::from_utf8(body) else {
            self.wrong("", "must be UTF-8");
            return None;
        };
        match Json::parse(text) {
            Ok(Json::Object(members)) => {
                self.refuse_nul("", &members);
                Some(members)
            }
            Ok(other) => {
                self.wrong("", format!("must be a JSON object, is {}", other.kind()));
                None
            }
            Err(error) => {
                self.wrong("", format!("must be JSON: {error}"));
                None
            }
        }
    }

    fn refuse_nul(&mut self, path: &str, members: &Members) {
        for (key, value) in members {
            let path = join(path, &printable(key));
            if key.contains('\0') {
                self.wrong(path.clone(), "the key must not contain U+0000");
            }
            self.refuse_nul_in(&path, value);
        }
    }

    fn refuse_nul_in(&mut self, path: &str, value: &Json) {
        match value {
            Json::String(text) if text.contains('\0') => self.wrong(path, "must not contain U+0000"),
            Json::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.refuse_nul_in(&format!("{path}[{i}]"), item);
                }
            }
            Json::Object(members) => self.refuse_nul(path, members),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
    }

    /// A request at `path`, which is empty if it is all of the body.
    pub(crate) fn request(
        &mut self,
        path: &str,
        mut members: Members,
        process: &mut Option<ProcessName>,
    ) -> Option<Request> {
        let name = self.required_string(&mut members, path, "process-id");
        *process = name.and_then(|name| {
            ProcessName::parse(&name).map_err(|error| self.wrong(join(path, "process-id"), error.to_string())).ok()
        });
        let action = self.required_string(&mut members, path, "action");
        let notifications = self.take(&mut members, path, "notifications");
        let list = join(path, "notifications");
        let action = match action.as_deref() {
            Some("stop") => Action::Stop,
            Some("start") => Action::Start(self.notifications(&list, notifications)?),
            other => {
                if other.is_some() {
                    self.wrong(join(path, "action"), "must be \"start\" or \"stop\"");
                }
                // Most likely a start was meant, and its sender wants to know all that is wrong with it.
                if notifications.is_some() {
                    self.notifications(&list, notifications);
                }
                return None;
            }
        };
        Some(Request { process: process.clone()?, action })
    }

    fn notifications(&mut self, path: &str, value: Option<Json>) -> Option<Vec<NewNotification>> {
        let items = match value {
            Some(Json::Array(items)) => items,
            Some(other) => {
                self.wrong(path, format!("must be an array, is {}", other.kind()));
                return None;
            }
            None => {
                self.wrong(path, "is required to start");
                return None;
            }
        };
        if !(1..=MAX_NOTIFICATIONS).contains(&items.len()) {
            let message = format!("must have 1 to {MAX_NOTIFICATIONS} notifications, has {}", items.len());
            self.wrong(path, message);
            return None;
        }
        let read: Vec<_> =
            items.into_iter().enumerate().map(|(i, item)| self.notification(format!("{path}[{i}]"), item)).collect();
        read.into_iter().collect()
    }

    fn notification(&mut self, path: String, item: Json) -> Option<NewNotification> {
        let Json::Object(mut members) = item else {
            self.wrong(path, format!("must be an object, is {}", item.kind()));
            return None;
        };
        let channel = self.channel(&mut members, &path);
        let at = self.time(&mut members, &path, "at");
        let on_unknown = self.on_unknown(&mut members, &path);
        let max_attempts = self.whole_number(&mut members, &path, "max-attempts", MAX_MAX_ATTEMPTS);
        let max_age = self.whole_number(&mut members, &path, "max-age", MAX_MAX_AGE_SECONDS);
        let channel = channel?;
        let address = match &channel.address {
            None => Some(None),
            Some(field) => self.field(&mut members, &path, channel, field),
        };
        let options: Vec<_> =
            channel.options.iter().map(|f| Some((f.key, self.field(&mut members, &path, channel, f)?))).collect();
        let options: BTreeMap<_, _> = options
            .into_iter()
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        Some(NewNotification {
            channel,
            at: at?,
            address: address?.and_then(|value| value.as_str().map(str::to_owned)),
            options,
            on_unknown: on_unknown?,
            max_attempts: max_attempts?.map_or(DEFAULT_MAX_ATTEMPTS, |n| u16::try_from(n).unwrap_or(u16::MAX)),
            max_age: max_age?.map_or(DEFAULT_MAX_AGE, Duration::from_secs),
        })
    }

    fn channel(&mut self, members: &mut Members, path: &str) -> Option<&'static Channel> {
        let name = self.required_string(members, path, "channel")?;
        let channel = Channel::named(&name);
        if channel.is_none() {
            let known: Vec<_> = CHANNELS.iter().map(|channel| channel.name).collect();
            self.wrong(join(path, "channel"), format!("must be one of {}", known.join(", ")));
        }
        channel
    }

    pub(crate) fn time(&mut self, members: &mut Members, path: &str, key: &str) -> Option<Timestamp> {
        let field = join(path, key);
        let latest = Timestamp::MAX.as_second();
        let problem = match self.take(members, path, key) {
            None => "is required".to_owned(),
            Some(Json::Number(number)) => match number.as_i64() {
                Some(seconds) if (0..=latest).contains(&seconds) => {
                    return Timestamp::from_second(seconds).ok();
                }
                Some(seconds) if (YEAR_10000..=latest.saturating_mul(1_000)).contains(&seconds) => {
                    "must be in seconds since 1970; this looks like milliseconds".to_owned()
                }
                None if number.as_f64().is_some_and(|n| (0.0..=latest as f64).contains(&n)) => {
                    "must be whole seconds since 1970, without a point or an exponent".to_owned()
                }
                Some(_) | None => format!("must be from 0 to {latest}, in the year 9999"),
            },
            Some(Json::String(text)) => match text.parse::<Timestamp>() {
                Ok(at) if at >= Timestamp::UNIX_EPOCH && !text.contains('[') => return Some(at),
                Ok(at) if at < Timestamp::UNIX_EPOCH => "must not be before 1970".to_owned(),
                _ => "must be whole seconds since 1970, or RFC 3339 with an offset such as 2026-11-21T18:00:00+01:00, \
                      until 9999-12-30T22:00:00Z"
                    .to_owned(),
            },
            Some(other) => format!("must be whole seconds since 1970, is {}", other.kind()),
        };
        self.wrong(field, problem);
        None
    }

    fn on_unknown(&mut self, members: &mut Members, path: &str) -> Option<OnUnknown> {
        match self.string(members, path, "on-unknown")?.as_deref() {
            None | Some("retry") => Some(OnUnknown::Retry),
            Some("fail") => Some(OnUnknown::Fail),
            Some(_) => {
                self.wrong(join(path, "on-unknown"), "must be \"retry\" or \"fail\"");
                None
            }
        }
    }

    /// A whole number from 1 to `max`: `None` if it is wrong, `Some(None)` if it is not there.
    pub(crate) fn whole_number(
        &mut self,
        members: &mut Members,
        path: &str,
        key: &str,
        max: u64,
    ) -> Option<Option<u64>> {
        match self.take(members, path, key) {
            None => Some(None),
            Some(Json::Number(number)) if number.as_u64().is_some_and(|n| (1..=max).contains(&n)) => {
                Some(number.as_u64())
            }
            Some(_) => {
                self.wrong(join(path, key), format!("must be a whole number from 1 to {max}"));
                None
            }
        }
    }

    /// A channel's own key: `None` if it is wrong, `Some(None)` if it is not there and need not be.
    pub(crate) fn field(
        &mut self,
        members: &mut Members,
        path: &str,
        channel: &Channel,
        field: &Field,
    ) -> Option<Option<Value>> {
        let problem = match self.take(members, path, field.key) {
            None if field.required => format!("is required for channel {}", channel.name),
            None => return Some(None),
            Some(Json::Array(items)) if field.kind == FieldKind::EmailAddresses => {
                return self.emails(&join(path, field.key), items).map(Some);
            }
            Some(json) => match field::read(field.kind, json) {
                Ok(value) if field.required && value == "" => "must not be empty".to_owned(),
                Ok(value) => return Some(Some(value)),
                Err(problem) => problem,
            },
        };
        self.wrong(join(path, field.key), problem);
        None
    }

    fn emails(&mut self, path: &str, items: Vec<Json>) -> Option<Value> {
        if !(1..=MAX_EMAILS).contains(&items.len()) {
            self.wrong(path, format!("must have 1 to {MAX_EMAILS} addresses, has {}", items.len()));
            return None;
        }
        let read: Vec<_> = items.into_iter().map(|item| field::read(FieldKind::EmailAddress, item)).collect();
        for (n, problem) in read.iter().enumerate().filter_map(|(n, read)| Some((n, read.as_ref().err()?))) {
            self.wrong(format!("{path}[{n}]"), problem);
        }
        read.into_iter().collect::<Result<_, _>>().ok()
    }

    pub(crate) fn required_string(&mut self, members: &mut Members, path: &str, key: &str) -> Option<String> {
        let value = self.string(members, path, key)?;
        if value.is_none() {
            self.wrong(join(path, key), "is required");
        }
        value
    }

    /// A string: `None` if it is something else, `Some(None)` if it is not there.
    pub(crate) fn string(&mut self, members: &mut Members, path: &str, key: &str) -> Option<Option<String>> {
        match self.take(members, path, key) {
            None => Some(None),
            Some(Json::String(text)) => Some(Some(text)),
            Some(other) => {
                self.wrong(join(path, key), format!("must be a string, is {}", other.kind()));
                None
            }
        }
    }

    pub(crate) fn take(&mut self, members: &mut Members, path: &str, key: &str) -> Option<Json> {
        let first = members.iter().position(|(name, _)| name == key)?;
        let (_, value) = members.remove(first);
        if members.iter().any(|(name, _)| name == key) {
            self.wrong(join(path, key), "stands more than once");
        }
        Some(value)
    }
}

fn bounded(mut field: String) -> String {
    if let Some((end, _)) = field.char_indices().nth(MAX_FIELD_CHARACTERS) {
        field.truncate(end);
        field.push('…');
    }
    field
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A stranger's key, fit to stand in a message: short, and without control characters.
pub(crate) fn printable(key: &str) -> String {
    key.chars().take(40).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(body: &str) -> Vec<String> {
        parse_request(body.as_bytes()).unwrap_err().reasons.iter().map(ToString::to_string).collect()
    }

    fn with_notification(notification: &str) -> String {
        format!(r#"{{"process-id":"r","action":"start","notifications":[{notification}]}}"#)
    }

    #[test]
    fn a_start_and_a_stop_with_a_trailing_comma() {
        let start = with_notification(r#"{"channel":"phone","at":1555057084,"phone-number":"+3851111111","x":1,},"#);
        let request = parse_request(start.as_bytes()).unwrap();
        let Action::Start(notifications) = request.action else { panic!("no start") };
        assert_eq!(notifications[0].channel.name, "phone");
        assert_eq!(notifications[0].at, Timestamp::from_second(1_555_057_084).unwrap());
        assert_eq!(notifications[0].address.as_deref(), Some("+3851111111"));
        assert_eq!(notifications[0].max_attempts, DEFAULT_MAX_ATTEMPTS);

        let stop = parse_request(br#"{"process-id": "restaurantname", "action": "stop",}"#).unwrap();
        assert_eq!((stop.process.as_str(), stop.action), ("restaurantname", Action::Stop));
    }

    #[test]
    fn notifications_of_a_stop_are_ignored() {
        assert!(parse_request(br#"{"process-id":"r","action":"stop","notifications":[{"channel":1}]}"#).is_ok());
    }

    #[test]
    fn every_reason_is_given() {
        let body = r#"{"process-id":"","action":"start","notifications":[
            {"channel":"phone","at":-1},
            {"channel":"pigeon","at":1.5,"on-unknown":"perhaps"},
            7,
            {"channel":"phone","at":1555057084000,"phone-number":385,"max-attempts":0,"max-age":"1h","url":"ftp://x"}]}"#;
        let reasons = reasons(body);
        for (field, words) in [
            ("process-id", "must not be empty"),
            ("notifications[0].at", "from 0"),
            ("notifications[0].phone-number", "is required for channel phone"),
            ("notifications[1].channel", "must be one of phone, sms"),
            ("notifications[1].at", "whole seconds"),
            ("notifications[1].on-unknown", "\"fail\""),
            ("notifications[2]", "must be an object, is a number"),
            ("notifications[3].at", "looks like milliseconds"),
            ("notifications[3].phone-number", "must be a string, is a number"),
            ("notifications[3].max-attempts", "from 1 to 100"),
            ("notifications[3].max-age", "whole number"),
            ("notifications[3].url", "absolute http"),
        ] {
            let found = reasons.iter().any(|r| r.starts_with(&format!("{field}: ")) && r.contains(words));
            assert!(found, "{field} {words}: {reasons:#?}");
        }
        assert_eq!(reasons.len(), 12, "{reasons:#?}");
    }

    #[test]
    fn the_good_part_of_a_rejected_request_is_kept() {
        let rejection = parse_request(br#"{"process-id":"r","action":"dance"}"#).unwrap_err();
        assert_eq!(rejection.process.unwrap().as_str(), "r");
        assert_eq!(rejection.reasons[0].to_string(), "action: must be \"start\" or \"stop\"");
        let both = reasons(r#"{"process-id":"r","action":"strt","notifications":[{"channel":"console"}]}"#);
        assert_eq!(both, ["action: must be \"start\" or \"stop\"", "notifications[0].at: is required"]);
    }
}
