use std::time::Duration;

use crate::{
    Outcome,
    provider::{Answer, outcome_of_status},
};

/// Twilio's error codes that mean more than their HTTP status, from <https://www.twilio.com/docs/api/errors>.
const CODES: &[(u32, Outcome, &str)] = &[
    (20003, Outcome::ChannelDown, "the account's credentials were refused"),
    (20005, Outcome::ChannelDown, "the account is not active"),
    (20429, Outcome::RateLimited, "too many requests; this one was not carried out"),
    (20500, Outcome::Unknown, "an internal error; nobody can tell whether there was a call"),
    (21210, Outcome::Permanent, "the caller's number is not verified"),
    (21211, Outcome::Permanent, "the number called is not valid"),
    (21212, Outcome::Permanent, "the caller's number is not valid"),
    (21214, Outcome::Permanent, "the number called can't be reached"),
    (21215, Outcome::Permanent, "the account may not call this country or number"),
    (21217, Outcome::Permanent, "the number called does not look like a phone number"),
    (21401, Outcome::Permanent, "the number is not valid"),
    (21408, Outcome::Permanent, "the account may not reach this region"),
    (21606, Outcome::Permanent, "the sender's number can't send messages, or not to this number"),
    (21608, Outcome::Permanent, "a trial account may only reach verified numbers"),
    (21610, Outcome::Permanent, "the recipient has unsubscribed"),
    (21611, Outcome::RateLimited, "the sender's queue is full; this one was not carried out"),
    (21612, Outcome::Permanent, "the number called can't be reached from the caller's number"),
    (21614, Outcome::Permanent, "the number is not a mobile number"),
    (21617, Outcome::Permanent, "the text is longer than 1600 characters"),
    (63038, Outcome::RateLimited, "the account's limit of messages a day is reached; this one was not carried out"),
];

/// What Twilio's answer means. `what` was asked for, in words: `the call`. Twilio's own words are not repeated, as they may
/// hold the number.
pub fn twilio_answer(what: &str, status: u16, code: Option<u32>, retry_after: Option<Duration>) -> Answer {
    if (200..300).contains(&status) {
        return Answer::new(Outcome::Delivered, format!("Twilio accepted {what}"));
    }
    let (outcome, meaning) = classify(status, code);
    let code = code.map(|code| format!("error {code}, ")).unwrap_or_default();
    Answer { retry_after, ..Answer::new(outcome, format!("Twilio: {meaning} ({code}HTTP {status})")) }
}

/// What an error means, by its code where that says more, else by its HTTP status.
fn classify(status: u16, code: Option<u32>) -> (Outcome, &'static str) {
    let by_code = CODES.iter().find(|(known, ..)| Some(*known) == code);
    by_code.map_or_else(|| by_status(status), |(_, outcome, meaning)| (*outcome, *meaning))
}

fn by_status(status: u16) -> (Outcome, &'static str) {
    match status {
        300..=399 => (Outcome::ChannelDown, "it answers with a redirect: twilio.base_url is wrong"),
        404 => (Outcome::ChannelDown, "it knows no such account: twilio.base_url or twilio.account_sid is wrong"),
        _ => outcome_of_status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_before_statuses() {
        for (status, code, outcome) in [
            (400, Some(21211), Outcome::Permanent),
            (403, Some(21408), Outcome::Permanent),
            (401, Some(20003), Outcome::ChannelDown),
            (500, Some(20429), Outcome::RateLimited),
            (400, Some(99999), Outcome::Permanent),
            (404, Some(20404), Outcome::ChannelDown),
            (401, None, Outcome::ChannelDown),
            (429, Some(63038), Outcome::RateLimited),
            (503, None, Outcome::Temporary),
            (302, None, Outcome::ChannelDown),
        ] {
            assert_eq!(classify(status, code).0, outcome, "{status} {code:?}");
        }
    }
}
