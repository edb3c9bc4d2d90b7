//! Bodies that strangers send, and what must come of each. The unit test of this crate reads all of them; the test of
//! the whole in /tests sends them through SQS.

mod addresses;
mod envelope;
mod numbers;
mod options;
mod syntax;
mod times;
mod types;

use serde_json::Value;

/// A body, and what must come of it.
pub(crate) struct Case {
    /// Of no two cases the same.
    pub(crate) name: String,
    pub(crate) body: Vec<u8>,
    pub(crate) expected: Expected,
    /// Why no queue carries it, where that is so.
    pub(crate) never_in_sqs: Option<&'static str>,
}

pub(crate) enum Expected {
    /// For exactly these reasons: the field, and words of the message.
    Rejected(Vec<(String, &'static str)>),
    /// With so many notifications, the first of which holds at least these values.
    Start(usize, Value),
    /// Of the process of this name.
    Stop(String),
}

/// What SQS does not carry: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>
const REFUSED_CHARACTER: &str = "SQS refuses bodies with this character";
const NO_TEXT: &str = "an SQS body is a text of Unicode characters";

pub(crate) fn all() -> Vec<Case> {
    let themes = [
        syntax::cases(),
        envelope::cases(),
        types::cases(),
        times::cases(),
        numbers::cases(),
        addresses::cases(),
        options::cases(),
    ];
    themes.into_iter().flatten().collect()
}

/// A notification as tests look at it, both as it was read and as it stands in the database.
pub(crate) fn holds(notification: &Value, expected: &Value) -> bool {
    expected.as_object().is_some_and(|members| members.iter().all(|(key, value)| &notification[key] == value))
}

impl Case {
    fn new(name: &str, body: impl Into<Vec<u8>>, expected: Expected) -> Self {
        Self { name: name.to_owned(), body: body.into(), expected, never_in_sqs: None }
    }

    fn never_in_sqs(self, why: &'static str) -> Self {
        Self { never_in_sqs: Some(why), ..self }
    }
}

/// A body that is rejected.
fn rejected(name: &str, body: impl Into<Vec<u8>>, reasons: &[(&str, &'static str)]) -> Case {
    let reasons = reasons.iter().map(|(field, words)| ((*field).to_owned(), *words)).collect();
    Case::new(name, body, Expected::Rejected(reasons))
}

/// A body that is no JSON.
fn no_json(name: &str, body: impl Into<Vec<u8>>, words: &'static str) -> Case {
    rejected(name, body, &[("", words)])
}

fn starts(name: &str, body: impl Into<Vec<u8>>, notifications: usize, first: Value) -> Case {
    Case::new(name, body, Expected::Start(notifications, first))
}

fn stops(name: &str, body: impl Into<Vec<u8>>, process: &str) -> Case {
    Case::new(name, body, Expected::Stop(process.to_owned()))
}

/// A start of one notification with these members, rejected; the fields are the notification's.
fn bad(name: &str, members: &str, reasons: &[(&str, &'static str)]) -> Case {
    let path = |field: &str| format!("notifications[0]{}{field}", if field.is_empty() { "" } else { "." });
    let reasons = reasons.iter().map(|(field, words)| (path(field), *words)).collect();
    Case::new(name, start_of_one(name, members), Expected::Rejected(reasons))
}

/// A start of one notification with these members, accepted.
fn good(name: &str, members: &str, holding: Value) -> Case {
    starts(name, start_of_one(name, members), 1, holding)
}

/// The process has the case's name, so that no start meets an active process.
fn start_of_one(name: &str, members: &str) -> String {
    format!(r#"{{"process-id":"{name}","action":"start","notifications":[{{{members}}}]}}"#)
}

/// A start of one notification that is due, with more members at the top.
fn start_with(name: &str, more: &str) -> String {
    format!(
        r#"{{"process-id":"{name}","action":"start","notifications":[{{"channel":"console","at":0}}]{comma}{more}}}"#,
        comma = if more.is_empty() { "" } else { "," }
    )
}
