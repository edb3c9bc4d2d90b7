use std::collections::BTreeMap;

use serde::Serialize;

/// Something that arrived at a simulated provider.
#[derive(Debug, Clone, Serialize)]
pub struct Arrival {
    /// Its number, from 1.
    pub number: usize,
    /// When, in microseconds since 1970 by this machine's clock.
    pub at: i64,
    /// `twilio-call`, `twilio-message`, `pubnub`, `webhook`, `sns` or `mail`.
    pub kind: &'static str,
    /// Its path and query; empty for a mail.
    pub path: String,
    /// The Authorization header, or the user who logged in at the mail server.
    pub authorization: Option<String>,
    /// Whom it was for: a number, a PubNub channel, a webhook's path, an SNS topic, a mail's first
    /// recipient.
    pub address: String,
    /// The body as it came, or the mail with its headers.
    pub body: String,
    /// The fields of a form, the headers of a webhook, the envelope of a mail.
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
    /// This HTTP status or SMTP code was answered.
    Status(u16),
    /// It was accepted, and the connection broken without an answer.
    Dropped,
    /// It is never answered.
    Hung,
}

impl Arrival {
    /// One that has just come, of which nothing more is known.
    pub(crate) fn new(kind: &'static str, address: String, body: String) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "when something arrived here is for people to read, and decides nothing"
        )]
        let at = jiff::Timestamp::now().as_microsecond();
        Self {
            number: 0,
            at,
            kind,
            path: String::new(),
            authorization: None,
            address,
            body,
            form: BTreeMap::new(),
            answered: Answered::Hung,
            id: None,
        }
    }
}
