use domain::Outcome;

/// What PubNub says that means more than its HTTP status, from
/// <https://www.pubnub.com/docs/sdks/rest-api/publish-message-to-channel>.
const WORDS: &[(&str, Outcome, &str)] = &[
    ("Invalid Key", Outcome::ChannelDown, "the keys were refused"),
    ("Invalid Subscribe Key", Outcome::ChannelDown, "the subscribe key was refused"),
    ("Account quota exceeded", Outcome::ChannelDown, "the account's quota is used up"),
    ("Invalid JSON", Outcome::Permanent, "the message is no JSON to it"),
    ("Message Too Large", Outcome::Permanent, "the message is longer than 32 KiB"),
];

/// What an error means, by its words where they say more, else by its HTTP status.
pub(crate) fn classify(status: u16, said: &str) -> (Outcome, &'static str) {
    if let Some((_, outcome, meaning)) = WORDS.iter().find(|(words, ..)| said.starts_with(words)) {
        return (*outcome, meaning);
    }
    match status {
        200..=299 => (Outcome::Unknown, "it says neither that it was sent nor why not"),
        300..=399 => (Outcome::ChannelDown, "it answers with a redirect: pubnub.service_url is wrong"),
        _ => http_client::outcome_of_status(status),
    }
}
