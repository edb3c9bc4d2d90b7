use std::time::Duration;

use crate::{
    Outcome,
    provider::{Answer, outcome_of_status},
};

/// SNS's error codes that mean more than their HTTP status, from
/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html#API_Publish_Errors> and
/// <https://docs.aws.amazon.com/sns/latest/api/CommonErrors.html>.
///
/// What is wrong with one topic, such as its policy, is permanent: whoever sends requests names the topic, and must not
/// stop the channel by it.
const CODES: &[(&str, Outcome, &str)] = &[
    ("AccessDeniedException", Outcome::Permanent, NOT_ALLOWED),
    ("AuthorizationError", Outcome::Permanent, NOT_ALLOWED),
    ("NotAuthorized", Outcome::Permanent, NOT_ALLOWED),
    ("NotFound", Outcome::Permanent, "there is no such topic"),
    ("InvalidParameter", Outcome::Permanent, REFUSED),
    ("InvalidParameterException", Outcome::Permanent, REFUSED),
    ("InvalidParameterValue", Outcome::Permanent, REFUSED),
    ("ParameterValueInvalid", Outcome::Permanent, REFUSED),
    ("ValidationError", Outcome::Permanent, REFUSED),
    ("ValidationException", Outcome::Permanent, REFUSED),
    ("KMSAccessDenied", Outcome::Permanent, KEY),
    ("KMSDisabled", Outcome::Permanent, KEY),
    ("KMSInvalidState", Outcome::Permanent, KEY),
    ("KMSNotFound", Outcome::Permanent, KEY),
    ("KMSOptInRequired", Outcome::Permanent, KEY),
    ("KMSThrottling", Outcome::RateLimited, THROTTLED),
    ("RequestLimitExceeded", Outcome::RateLimited, THROTTLED),
    ("Throttled", Outcome::RateLimited, THROTTLED),
    ("ThrottledException", Outcome::RateLimited, THROTTLED),
    ("Throttling", Outcome::RateLimited, THROTTLED),
    ("ThrottlingException", Outcome::RateLimited, THROTTLED),
    ("TooManyRequestsException", Outcome::RateLimited, THROTTLED),
    ("ExpiredToken", Outcome::ChannelDown, "the credentials have expired"),
    ("ExpiredTokenException", Outcome::ChannelDown, "the credentials have expired"),
    ("IncompleteSignature", Outcome::ChannelDown, CREDENTIALS),
    ("InvalidClientTokenId", Outcome::ChannelDown, CREDENTIALS),
    ("InvalidSecurity", Outcome::ChannelDown, CREDENTIALS),
    ("MissingAuthenticationToken", Outcome::ChannelDown, CREDENTIALS),
    ("SignatureDoesNotMatch", Outcome::ChannelDown, CREDENTIALS),
    ("UnrecognizedClientException", Outcome::ChannelDown, CREDENTIALS),
    ("OptInRequired", Outcome::ChannelDown, "the account has no subscription for SNS"),
    ("RequestExpired", Outcome::ChannelDown, "the request is too old to it: see whether this machine's clock is right"),
    ("InvalidAction", Outcome::ChannelDown, "it knows no Publish: sns.endpoint_url is wrong"),
    ("InternalError", Outcome::Unknown, "an internal error; nobody can tell whether it was published"),
    ("InternalFailure", Outcome::Unknown, "an internal error; nobody can tell whether it was published"),
    ("ServiceUnavailable", Outcome::Temporary, "not available for now"),
];

const NOT_ALLOWED: &str = "the credentials may not publish to this topic";
const REFUSED: &str = "the topic or the message was refused; is the topic in the region of AWS_REGION?";
const KEY: &str = "the topic's KMS key can't be used";
const THROTTLED: &str = "too many requests; this one was not carried out";
const CREDENTIALS: &str = "the credentials were refused";

/// SNS took the message.
pub fn sns_accepted() -> Answer {
    Answer::new(Outcome::Delivered, "SNS accepted the message")
}

/// What SNS's answer means that does not say that the message was published. `code` is its error's, if it has said one.
/// Its words are not repeated, as they may hold the topic's ARN.
pub fn sns_answer(status: u16, code: Option<&str>, retry_after: Option<Duration>) -> Answer {
    let known = CODES.iter().find(|(known, ..)| Some(*known) == code);
    let (outcome, meaning) = known.map_or_else(|| by_status(status), |(_, outcome, meaning)| (*outcome, *meaning));
    let code = known.map(|(code, ..)| format!("{code}, ")).unwrap_or_default();
    Answer { retry_after, ..Answer::new(outcome, format!("SNS: {meaning} ({code}HTTP {status})")) }
}

fn by_status(status: u16) -> (Outcome, &'static str) {
    match status {
        200..=299 => (Outcome::Unknown, "it says neither that it was published nor why not"),
        300..=399 => (Outcome::ChannelDown, "it answers with a redirect: sns.endpoint_url is wrong"),
        _ => outcome_of_status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_before_statuses() {
        for (status, code, outcome) in [
            (403, Some("AuthorizationError"), Outcome::Permanent),
            (403, Some("InvalidClientTokenId"), Outcome::ChannelDown),
            (403, Some("SomethingNew"), Outcome::ChannelDown),
            (403, None, Outcome::ChannelDown),
            (404, Some("NotFound"), Outcome::Permanent),
            (400, Some("InvalidParameter"), Outcome::Permanent),
            (400, Some("Throttling"), Outcome::RateLimited),
            (400, Some("KMSThrottling"), Outcome::RateLimited),
            (429, None, Outcome::RateLimited),
            (400, Some("RequestExpired"), Outcome::ChannelDown),
            (500, Some("InternalError"), Outcome::Unknown),
            (502, None, Outcome::Unknown),
            (503, None, Outcome::Temporary),
            (307, None, Outcome::ChannelDown),
            (200, None, Outcome::Unknown),
        ] {
            assert_eq!(sns_answer(status, code, None).outcome, outcome, "{status} {code:?}");
        }
    }

    #[test]
    fn a_code_that_nobody_knows_is_not_repeated() {
        let answer = sns_answer(400, Some("arn:aws:sns:eu-west-1:123456789012:secret"), None);
        assert_eq!(answer.detail.as_deref(), Some("SNS: the request was refused (HTTP 400)"));
    }
}
