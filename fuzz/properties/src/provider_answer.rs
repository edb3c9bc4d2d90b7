use std::time::Duration;

use domain::Outcome;
use http_client::Answered;
use notifier::Answer;

use crate::check_answer;

/// What a provider answers: its status in the first line, then the body. Twilio's, PubNub's and a webhook receiver's
/// classification each make an outcome of it, and repeat nothing of the body but an id and Twilio's error code.
pub fn provider_answer(bytes: &[u8]) {
    let split = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (status, body) = bytes.split_at(split);
    // A status has three digits, or hyper takes the answer for none.
    let status = str::from_utf8(status).ok().and_then(|text| text.parse().ok());
    let Some(status) = status.filter(|status| (100..=999).contains(status)) else { return };
    let body = body.strip_prefix(b"\n").unwrap_or_default().to_vec();
    let retry_after = (status % 2 == 1).then_some(Duration::from_secs(u64::from(status)));
    let answered = Answered { status, retry_after, body };
    check_twilio(&answered);
    check_pubnub(&answered);
    check_webhook(&answered);
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

fn check_common(answered: &Answered, answer: &Answer) {
    check_answer(answer);
    if answer.outcome == Outcome::Delivered {
        assert!(is_success(answered.status), "HTTP {} is taken for accepted", answered.status);
    } else {
        assert_eq!(answer.retry_after, answered.retry_after, "how long it asks us to wait is passed on");
    }
    let detail = answer.detail.as_deref().unwrap_or_default();
    assert!(detail.is_ascii() && detail.len() <= 160, "{detail:?}");
}

fn check_twilio(answered: &Answered) {
    let answer = twilio::classify("the call", answered);
    check_common(answered, &answer);
    assert_eq!(answer.outcome == Outcome::Delivered, is_success(answered.status), "a status is Twilio's last word");
    let detail = answer.detail.unwrap_or_default();
    // The one thing that it repeats.
    let (before, rest) = detail.split_once("(error ").unwrap_or((&detail, ", "));
    let (code, after) = rest.split_once(", ").unwrap_or((rest, ""));
    assert!(code.is_empty() || code.parse::<u32>().is_ok(), "{detail:?}");
    check_no_number(before);
    check_no_number(after);
}

fn check_pubnub(answered: &Answered) {
    let answer = notifier_pubnub::classify(answered);
    check_common(answered, &answer);
    check_no_number(answer.detail.as_deref().unwrap_or_default());
    assert!(answer.provider_id.is_none_or(|token| token.bytes().all(|byte| byte.is_ascii_digit())));
}

fn check_webhook(answered: &Answered) {
    let answer = notifier_webhook::classify(answered);
    check_common(answered, &answer);
    let silent = Answered { status: answered.status, retry_after: answered.retry_after, body: Vec::new() };
    assert_eq!(answer, notifier_webhook::classify(&silent), "a receiver's body says nothing");
}

/// No digits beyond those of a status: they could be a phone number.
fn check_no_number(detail: &str) {
    let longest = detail.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
    assert!(longest.is_none_or(|length| length <= 5), "{detail:?}");
}
