use std::time::Duration;

use crate::{
    Outcome,
    provider::{Answer, outcome_of_status},
};

/// What PubNub says that means more than its HTTP status, from
/// <https://www.pubnub.com/docs/sdks/rest-api/publish-message-to-channel>.
const WORDS: &[(&str, Outcome, &str)] = &[
    ("Invalid Key", Outcome::ChannelDown, "the keys were refused"),
    ("Invalid Subscribe Key", Outcome::ChannelDown, "the subscribe key was refused"),
    ("Account quota exceeded", Outcome::ChannelDown, "the account's quota is used up"),
    ("Invalid JSON", Outcome::Permanent, "the message is no JSON to it"),
    ("Message Too Large", Outcome::Permanent, "the message is longer than 32 KiB"),
];

/// PubNub took the message.
pub fn pubnub_accepted() -> Answer {
    Answer::new(Outcome::Delivered, "PubNub accepted the message")
}

/// What PubNub's answer means that does not say that the message was sent. `said` are its words, if it has said any.
pub fn pubnub_answer(status: u16, said: &str, retry_after: Option<Duration>) -> Answer {
    let (outcome, meaning) = classify(status, said);
    Answer { retry_after, ..Answer::new(outcome, format!("PubNub: {meaning} (HTTP {status})")) }
}

/// What an error means, by its words where they say more, else by its HTTP status.
fn classify(status: u16, said: &str) -> (Outcome, &'static str) {
    if let Some((_, outcome, meaning)) = WORDS.iter().find(|(words, ..)| said.starts_with(words)) {
        return (*outcome, meaning);
    }
    match status {
        200..=299 => (Outcome::Unknown, "it says neither that it was sent nor why not"),
        300..=399 => (Outcome::ChannelDown, "it answers with a redirect: pubnub.service_url is wrong"),
        _ => outcome_of_status(status),
    }
}
