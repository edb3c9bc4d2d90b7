use std::time::Duration;

use domain::Outcome;
use serde_json::Value;
use store::Claim;

/// One way to reach people: what a notifier program brings.
pub trait Channel: Send + Sync + 'static {
    /// Its name in `domain::CHANNELS`.
    const NAME: &'static str;

    /// A property of the database that a call needs; it is read anew with each claim.
    const PROPERTY: Option<&'static str> = None;

    /// Calls the provider once and says what came of it. `property` is the value of [`Self::PROPERTY`], if there is
    /// one. Given up, as unknown, when `notifier.call_timeout_seconds` is over.
    fn call(&self, claim: &Claim, property: Option<&Value>) -> impl Future<Output = Answer> + Send;
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it means for the notification.
    pub outcome: Outcome,
    /// The provider's id of what it accepted.
    pub provider_id: Option<String>,
    /// What it said, in words for a person, without addresses.
    pub detail: Option<String>,
    /// How long it asks us to wait.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// An answer with words for a person, which must not hold addresses.
    pub fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, provider_id: None, detail: Some(detail.into()), retry_after: None }
    }
}

/// Reads a Retry-After header (RFC 9110, section 10.2.3): whole seconds. A date is not understood, as it would need
/// this machine's clock; nor is anything else.
pub fn parse_retry_after(value: &str) -> Option<Duration> {
    let digits = value.trim();
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then(|| Duration::from_secs(digits.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after() {
        assert_eq!(parse_retry_after(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(parse_retry_after("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for bad in ["", "-1", "1.5", "soon", "Fri, 31 Dec 1999 23:59:59 GMT", "+3"] {
            assert_eq!(parse_retry_after(bad), None, "{bad:?}");
        }
    }
}
