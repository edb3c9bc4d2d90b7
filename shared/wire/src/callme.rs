use serde_json::{Map, Value, json};

use crate::{
    json::Json,
    request::{Members, Reader, Reason, printable},
};

/// What a member is that nobody has set, as Call Me's own clients send it.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// The `process-id` of what a schedule of Call Me's starts. By it such a schedule is known, whatever it is called later.
const PROCESS_OF_SCHEDULE: &str = "callme-schedule-{{ schedule.id }}-{{ occurrence }}";

/// What an opening brace of somebody's own becomes where a template would begin.
const BRACE: &str = "{{ '{' }}";

const JOB_KEYS: [&str; 5] = ["jobId", "scheduleId", "when", "arn", "payload"];

const SCHEDULE_KEYS: [&str; 7] = ["scheduleId", "from", "arn", "payload", "crontabs", "externalId", "by"];

/// Why a body of Call Me's was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallmeError {
    /// It is no JSON object.
    Malformed(Vec<Reason>),
    /// A member of it can't be used.
    Invalid(Vec<Reason>),
}

/// What a schedule of Call Me's publishes.
#[derive(Debug, Clone, PartialEq)]
pub struct CallmeMessage {
    /// The topic.
    pub arn: Value,
    /// What is published to it.
    pub payload: Value,
}

/// Makes of a job, `{when, arn, payload}`, the request that starts a process of this name. What the members hold is for
/// [`crate::parse_request`] to judge.
pub fn callme_job(body: &[u8], process: &str) -> Result<Value, CallmeError> {
    let mut reader = Reader::default();
    let mut members = reader.callme_members(body, &JOB_KEYS)?;
    reader.refuse_id(&mut members, "jobId", "a job");
    reader.refuse_id(&mut members, "scheduleId", "a schedule");
    let mut notification = reader.message(&mut members);
    if let Some(when) = reader.take(&mut members, "", "when") {
        notification.insert("at".to_owned(), when.into());
    }
    let request = json!({"process-id": process, "action": "start", "notifications": [notification]});
    reader.callme_end(request)
}

/// Makes of `{from, arn, payload, crontabs, externalId, by}` a schedule of this name. What the members hold is for
/// [`crate::parse_schedule`] and [`crate::check_template`] to judge.
pub fn callme_schedule(body: &[u8], name: &str) -> Result<Value, CallmeError> {
    let mut reader = Reader::default();
    let mut members = reader.callme_members(body, &SCHEDULE_KEYS)?;
    reader.refuse_id(&mut members, "scheduleId", "a schedule");
    let mut notification = reader.message(&mut members);
    notification.values_mut().for_each(|value| *value = literal(value));
    notification.insert("in".to_owned(), 0.into());
    let request = json!({"process-id": PROCESS_OF_SCHEDULE, "notifications": [notification]});
    let mut schedule = Map::from_iter([("name".to_owned(), name.into()), ("request".to_owned(), request)]);
    for (theirs, ours) in [("from", "from"), ("externalId", "external-id"), ("by", "owner")] {
        match reader.take(&mut members, "", theirs) {
            None | Some(Json::Null) => {}
            Some(Json::String(text)) if text.is_empty() || text == NO_TIME => {}
            Some(value) => {
                schedule.insert(ours.to_owned(), value.into());
            }
        }
    }
    if let Some(lines) = reader.crontabs(&mut members) {
        schedule.insert("lines".to_owned(), lines);
    }
    reader.callme_end(schedule.into())
}

/// What Call Me called the field that a request or a schedule made by it has here.
pub fn callme_field(field: &str) -> String {
    let field = field.strip_prefix("request.").unwrap_or(field);
    if let Some(of_line) = field.strip_prefix("lines") {
        let place = of_line.split_once('.').map_or(of_line, |(place, _)| place);
        return format!("crontabs{place}");
    }
    match field.strip_prefix("notifications[0].").unwrap_or(field) {
        "at" => "when".to_owned(),
        "topic-arn" => "arn".to_owned(),
        "owner" => "by".to_owned(),
        "external-id" => "externalId".to_owned(),
        same => same.to_owned(),
    }
}

/// What a schedule publishes, if it was made by [`callme_schedule`].
pub fn callme_message(request: &Value) -> Option<CallmeMessage> {
    if request["process-id"] != PROCESS_OF_SCHEDULE {
        return None;
    }
    let notification = &request["notifications"][0];
    Some(CallmeMessage { arn: said(&notification["topic-arn"]), payload: said(&notification["payload"]) })
}

/// The schedule whose occurrence started a process of this name, if that was made by [`callme_schedule`].
pub fn callme_schedule_of(process: &str) -> Option<i64> {
    process.strip_prefix("callme-schedule-")?.split_once('-')?.0.parse().ok()
}

/// A crontab as Call Me wrote it: with the time zone before it, if it is not UTC.
pub fn callme_crontab(line: &Value) -> String {
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    match (text("time-zone"), text("cron")) {
        (zone, cron) if zone == "UTC" => cron,
        (zone, cron) => format!("TZ={zone} {cron}"),
    }
}

/// Texts that no template changes: what is not meant as one must arrive as it is.
fn literal(value: &Value) -> Value {
    in_each_text(value, &|text| {
        let mut literal = String::with_capacity(text.len());
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match (c, rest.peek()) {
                ('{', Some('{' | '%' | '#')) => literal.push_str(BRACE),
                _ => literal.push(c),
            }
        }
        literal
    })
}

/// What [`literal`] was made of.
fn said(value: &Value) -> Value {
    in_each_text(value, &|text| text.replace(BRACE, "{"))
}

fn in_each_text(value: &Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => change(text).into(),
        Value::Array(items) => items.iter().map(|item| in_each_text(item, change)).collect(),
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| (key.clone(), in_each_text(value, change));
            Value::Object(members.iter().map(member).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

impl Reader {
    /// The members, under the names that are known, as Call Me took them in letters of any case.
    fn callme_members(&mut self, body: &[u8], known: &[&str]) -> Result<Members, CallmeError> {
        let Some(members) = self.body(body) else {
            return Err(CallmeError::Malformed(std::mem::take(self).finish()));
        };
        let mut named = Vec::new();
        for (key, value) in members {
            match known.iter().find(|name| name.eq_ignore_ascii_case(&key)) {
                Some(name) => named.push(((*name).to_owned(), value)),
                None => self.wrong(printable(&key), format!("is not known here; known are {}", known.join(", "))),
            }
        }
        Ok(named)
    }

    fn callme_end(self, value: Value) -> Result<Value, CallmeError> {
        if self.reasons.is_empty() { Ok(value) } else { Err(CallmeError::Invalid(self.finish())) }
    }

    /// What its own clients send with a new one is null or 0.
    fn refuse_id(&mut self, members: &mut Members, key: &str, what: &str) {
        match self.take(members, "", key) {
            None | Some(Json::Null) => {}
            Some(Json::Number(number)) if number.as_i64() == Some(0) => {}
            Some(_) => self.wrong(key, format!("must not be given: {what} can't be changed")),
        }
    }

    fn message(&mut self, members: &mut Members) -> Map<String, Value> {
        let mut notification = Map::from_iter([("channel".to_owned(), "sns".into())]);
        for (theirs, ours) in [("arn", "topic-arn"), ("payload", "payload")] {
            if let Some(value) = self.take(members, "", theirs) {
                notification.insert(ours.to_owned(), value.into());
            }
        }
        notification
    }

    fn crontabs(&mut self, members: &mut Members) -> Option<Value> {
        let items = match self.take(members, "", "crontabs")? {
            Json::Array(items) => items,
            other => {
                self.wrong("crontabs", format!("must be an array, is {}", other.kind()));
                return None;
            }
        };
        let mut lines = Vec::new();
        for (n, item) in items.into_iter().enumerate() {
            let Json::String(text) = item else {
                self.wrong(format!("crontabs[{n}]"), format!("must be a string, is {}", item.kind()));
                continue;
            };
            let in_zone = text.strip_prefix("TZ=").and_then(|rest| rest.split_once(' '));
            lines.push(match in_zone {
                Some((zone, cron)) => json!({"cron": cron.trim(), "time-zone": zone}),
                None => json!({"cron": text}),
            });
        }
        Some(lines.into())
    }
}

#[cfg(test)]
mod tests {
    use domain::Action;
    use proptest::prelude::*;

    use super::*;
    use crate::{Occasion, parse_request, parse_schedule, render_request};

    const ARN: &str = "arn:aws:sns:eu-west-1:123456789012:orders";

    fn occasion() -> Occasion<'static> {
        let at = "2026-11-24T09:00:00Z".parse().unwrap();
        Occasion { at, id: 7, name: "callme-1", owner: None, external_id: None }
    }

    fn job(body: &Value) -> Result<Value, CallmeError> {
        callme_job(body.to_string().as_bytes(), "callme-job-1")
    }

    fn schedule(body: &Value) -> Result<Value, CallmeError> {
        callme_schedule(body.to_string().as_bytes(), "callme-1")
    }

    #[test]
    fn a_job_is_a_start_with_one_message() {
        let body =
            json!({"jobID": 0, "scheduleId": null, "When": "2026-11-24T09:00:00Z", "ARN": ARN, "payload": {"a": 1}});
        let request = parse_request(job(&body).unwrap().to_string().as_bytes()).unwrap();
        let Action::Start(notifications) = request.action else { panic!("no start") };
        assert_eq!((request.process.as_str(), notifications.len()), ("callme-job-1", 1));
        assert_eq!((notifications[0].channel.name, notifications[0].address.as_deref()), ("sns", Some(ARN)));
        assert_eq!(notifications[0].options["payload"], json!({"a": 1}));
    }

    #[test]
    fn what_can_not_be_read_is_malformed_and_what_is_wrong_is_invalid() {
        for body in ["", "when", "[1]", "\"x\"", "{\"when\": }"] {
            assert!(matches!(callme_job(body.as_bytes(), "p"), Err(CallmeError::Malformed(_))), "{body}");
        }
        for (body, problem) in [
            (json!({"jobId": 5}), "jobId: must not be given: a job can't be changed"),
            (json!({"scheduleId": "5"}), "scheduleId: must not be given: a schedule"),
            (json!({"whn": 5}), "whn: is not known here; known are jobId, scheduleId, when"),
            (json!({"when": 5, "WHEN": 6}), "when: stands more than once"),
            (json!({"payload": "\0"}), "payload: must not contain U+0000"),
        ] {
            let Err(CallmeError::Invalid(reasons)) = job(&body) else { panic!("{body}") };
            assert!(reasons.len() == 1 && reasons[0].to_string().starts_with(problem), "{body}: {reasons:?}");
        }
        for (crontabs, problem) in [
            (json!("* * * * *"), "crontabs: must be an array"),
            (json!(["@daily", 5]), "crontabs[1]: must be a string"),
        ] {
            let Err(CallmeError::Invalid(reasons)) = schedule(&json!({"crontabs": crontabs})) else { panic!() };
            assert!(reasons[0].to_string().starts_with(problem), "{reasons:?}");
        }
    }

    #[test]
    fn a_schedule_and_what_its_clients_leave_unset() {
        let crontabs = json!(["0 9 * * MON-FRI", "TZ=Europe/Zagreb 0 12 * * *"]);
        let body =
            json!({"from": NO_TIME, "arn": ARN, "payload": "x", "crontabs": crontabs, "externalID": "", "by": "shop"});
        let made = schedule(&body).unwrap();
        let read = parse_schedule(made.to_string().as_bytes()).unwrap();
        assert_eq!((read.from, read.external_id, read.owner.as_deref()), (None, None, Some("shop")));
        let shown: Vec<_> = read.lines_as_given.as_array().unwrap().iter().map(callme_crontab).collect();
        assert_eq!(json!(shown), crontabs);
        let rendered = render_request(&made["request"], occasion());
        let process = rendered.parsed.unwrap().process;
        assert_eq!(process.as_str(), "callme-schedule-7-1795510800");
        assert_eq!(callme_schedule_of(process.as_str()), Some(7));
        assert_eq!(callme_schedule_of("callme-job-7-1"), None);
        assert_eq!(callme_message(&json!({"process-id": "p"})), None);
    }

    #[test]
    fn fields_have_the_names_that_their_senders_know() {
        for (ours, theirs) in [
            ("notifications[0].at", "when"),
            ("notifications[0].topic-arn", "arn"),
            ("request.notifications[0].payload.a[1]", "payload.a[1]"),
            ("lines", "crontabs"),
            ("lines[2].cron", "crontabs[2]"),
            ("lines[2].time-zone", "crontabs[2]"),
            ("owner", "by"),
            ("external-id", "externalId"),
            ("from", "from"),
            ("", ""),
        ] {
            assert_eq!(callme_field(ours), theirs);
        }
    }

    proptest! {
        #[test]
        fn a_payload_is_no_template(text in "([{}%#' a-c-]|\\{\\{|\\{%|%\\}|\n){1,20}") {
            let payload = json!({"a": [text, 1], "{{ key }}": null});
            let made = schedule(&json!({"arn": ARN, "payload": payload, "crontabs": ["@daily"]})).unwrap();
            let Action::Start(notifications) = render_request(&made["request"], occasion()).parsed.unwrap().action else {
                panic!("no start")
            };
            prop_assert_eq!(&notifications[0].options["payload"], &payload);
            prop_assert_eq!(callme_message(&made["request"]).unwrap().payload, payload);
        }
    }
}
