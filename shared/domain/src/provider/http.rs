use std::time::Duration;

use crate::{Outcome, provider::Answer};

/// What an HTTP status means that says nothing more special.
pub fn outcome_of_status(status: u16) -> (Outcome, &'static str) {
    match status {
        200..=299 => (Outcome::Delivered, "accepted"),
        300..=399 => (Outcome::Permanent, "it answers with a redirect, which is not followed"),
        401 | 403 => (Outcome::ChannelDown, "the credentials were refused"),
        429 => (Outcome::RateLimited, "too many requests"),
        408 | 425 | 503 => (Outcome::Temporary, "not available for now"),
        400..=499 => (Outcome::Permanent, "the request was refused"),
        _ => (Outcome::Unknown, "a server error; nobody can tell whether it was carried out"),
    }
}

/// What the answer of a webhook's receiver means. It says it with the status alone.
pub fn receiver_answer(status: u16, retry_after: Option<Duration>) -> Answer {
    let (outcome, meaning) = outcome_of_status(status);
    Answer { retry_after, ..Answer::new(outcome, format!("the receiver: {meaning} (HTTP {status})")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        for (status, outcome) in [
            (200, Outcome::Delivered),
            (204, Outcome::Delivered),
            (302, Outcome::Permanent),
            (400, Outcome::Permanent),
            (401, Outcome::ChannelDown),
            (403, Outcome::ChannelDown),
            (404, Outcome::Permanent),
            (408, Outcome::Temporary),
            (410, Outcome::Permanent),
            (425, Outcome::Temporary),
            (429, Outcome::RateLimited),
            (500, Outcome::Unknown),
            (502, Outcome::Unknown),
            (503, Outcome::Temporary),
            (504, Outcome::Unknown),
        ] {
            assert_eq!(outcome_of_status(status).0, outcome, "{status}");
        }
    }
}
