use std::time::Duration;

use domain::{MAX_RETRY_AFTER, OnUnknown, Outcome, State, after_attempt};
use http_client::parse_retry_after;

/// A Retry-After header, and in the second line a Date header: whatever they say, a notification waits between a second
/// and a day, and digits mean what they say.
pub fn retry_after(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (value, date) = text.split_once('\n').map_or((text, None), |(value, date)| (value, Some(date)));
    let wait = parse_retry_after(value, date);
    let digits = value.trim();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds =
            digits.bytes().fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add((digit - b'0').into()));
        assert_eq!(wait, Some(Duration::from_secs(seconds)), "{value:?}");
    } else if wait.is_some() {
        assert!(date.is_some(), "a date says nothing without another: {value:?}");
    }
    for outcome in Outcome::ALL {
        for (attempts, refusals) in [(0, 1), (1, 0), (1, 3), (9, 11), (99, u16::MAX)] {
            let (state, way) = after_attempt(outcome, attempts, refusals, 100, OnUnknown::Retry, wait);
            assert_eq!(state == State::Retrying, way.is_some());
            let Some(way) = way else { continue };
            let bounds = Duration::from_secs(1)..=MAX_RETRY_AFTER;
            assert!(bounds.contains(&way.delay()), "{outcome} waits {:?} for {value:?}", way.delay());
        }
    }
}
