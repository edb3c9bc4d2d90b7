use std::collections::BTreeMap;

use serde::Serialize;

/// A request that arrived at a simulated provider.
#[derive(Debug, Clone, Serialize)]
pub struct Arrival {
    /// Its number, from 1.
    pub number: usize,
    /// When, in microseconds since 1970 by this machine's clock.
    pub at: i64,
    /// `twilio-call` or `webhook`.
    pub kind: &'static str,
    /// Its path.
    pub path: String,
    /// The Authorization header.
    pub authorization: Option<String>,
    /// Whom it was for: the number called, or the webhook's path.
    pub address: String,
    /// The body as it came.
    pub body: String,
    /// The fields of a form.
    pub form: BTreeMap<String, String>,
    /// What was done about it.
    pub answered: Answered,
    /// The id that was given to it, if it was accepted.
    pub id: Option<String>,
}

/// What was done about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// This HTTP status was answered.
    Status(u16),
    /// It was accepted, and the connection broken without an answer.
    Dropped,
    /// It is never answered.
    Hung,
}
