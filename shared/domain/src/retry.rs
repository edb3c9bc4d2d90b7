use std::time::Duration;

use crate::{Outcome, State};

/// How many calls a notification may cost unless its request says otherwise.
pub const DEFAULT_MAX_ATTEMPTS: u16 = 10;

/// How long a notification may be tried unless its request says otherwise.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest wait that a provider can ask for; a longer one is shortened to this.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// So many times a provider that says "too much" is asked again as soon as it says; after that, not so soon.
const TAKEN_AT_THEIR_WORD: u16 = 3;

/// What a notification wants when nobody can tell whether a call was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnUnknown {
    /// Call again: an alarm that rings twice beats one that never rings.
    #[default]
    Retry,
    /// Give up: once too often is worse than not at all.
    Fail,
}

/// A retry queue of the broker. Each has one fixed wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RetryTier {
    /// 5 seconds.
    Seconds5,
    /// 30 seconds.
    Seconds30,
    /// 2 minutes.
    Minutes2,
    /// 10 minutes.
    Minutes10,
}

impl RetryTier {
    /// All of them, the shortest first.
    pub const ALL: [Self; 4] = [Self::Seconds5, Self::Seconds30, Self::Minutes2, Self::Minutes10];

    /// The wait.
    pub fn delay(self) -> Duration {
        Duration::from_secs(match self {
            Self::Seconds5 => 5,
            Self::Seconds30 => 30,
            Self::Minutes2 => 120,
            Self::Minutes10 => 600,
        })
    }

    /// The name of the tier's exchange and of its queue, as in rabbitmq/definitions.json.
    pub fn exchange(self) -> &'static str {
        match self {
            Self::Seconds5 => "tocsin.retry.5s",
            Self::Seconds30 => "tocsin.retry.30s",
            Self::Minutes2 => "tocsin.retry.2m",
            Self::Minutes10 => "tocsin.retry.10m",
        }
    }

    /// The tier to wait in after so many calls that cost an attempt; none yet counts as one.
    pub fn after_attempts(attempts: u16) -> Self {
        Self::ALL[usize::from(attempts.clamp(1, 4)) - 1]
    }
}

/// Who brings a notification back for its next try, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryWay {
    /// The broker, after the tier's wait.
    Tier(RetryTier),
    /// The database's clock, after this wait.
    Clock(Duration),
}

impl RetryWay {
    /// The wait, counted from the record of the failed call.
    pub fn delay(self) -> Duration {
        match self {
            Self::Tier(tier) => tier.delay(),
            Self::Clock(delay) => delay,
        }
    }
}

/// What becomes of a notification after a call, unless it was stopped meanwhile.
///
/// `attempts` counts the calls that cost an attempt, `refusals` those that did not, this one included: so often it was
/// refused for now. `retry_after` is what the provider asked for.
pub fn after_attempt(
    outcome: Outcome,
    attempts: u16,
    refusals: u16,
    max_attempts: u16,
    on_unknown: OnUnknown,
    retry_after: Option<Duration>,
) -> (State, Option<RetryWay>) {
    let exhausted = outcome.costs_an_attempt() && attempts >= max_attempts;
    match outcome {
        Outcome::Delivered => (State::Delivered, None),
        Outcome::Permanent => (State::Failed, None),
        Outcome::Unknown if on_unknown == OnUnknown::Fail => (State::Failed, None),
        Outcome::Temporary | Outcome::Unknown if exhausted => (State::Failed, None),
        // Who can't tell what it has done can't tell when to ask again either.
        Outcome::Unknown => (State::Retrying, Some(RetryWay::Tier(RetryTier::after_attempts(attempts)))),
        // A short wait would use up all attempts in no time.
        Outcome::Temporary => (State::Retrying, Some(longer(RetryTier::after_attempts(attempts), retry_after))),
        Outcome::RateLimited if retry_after.is_some() && refusals <= TAKEN_AT_THEIR_WORD => {
            (State::Retrying, retry_after.map(by_the_clock))
        }
        Outcome::RateLimited => (State::Retrying, Some(longer(RetryTier::after_attempts(refusals), retry_after))),
        Outcome::ChannelDown => {
            (State::Retrying, Some(retry_after.map_or(RetryWay::Tier(RetryTier::Seconds30), by_the_clock)))
        }
        // It never was sent, and must not look as if.
        Outcome::DryRun => (State::Cancelled, None),
    }
}

/// The longer of the two.
fn longer(tier: RetryTier, retry_after: Option<Duration>) -> RetryWay {
    match retry_after {
        Some(wait) if wait > tier.delay() => by_the_clock(wait),
        Some(_) | None => RetryWay::Tier(tier),
    }
}

fn by_the_clock(wait: Duration) -> RetryWay {
    RetryWay::Clock(wait.clamp(Duration::from_secs(1), MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_grow_from_5_seconds_to_10_minutes() {
        let waits: Vec<u64> = (0..7).map(|n| RetryTier::after_attempts(n).delay().as_secs()).collect();
        assert_eq!(waits, [5, 5, 30, 120, 600, 600, 600]);
    }

    #[test]
    fn a_provider_that_asks_for_time_gets_it_by_the_database_clock() {
        let wait =
            |after| after_attempt(Outcome::RateLimited, 0, 1, 1, OnUnknown::Retry, Some(Duration::from_secs(after)));
        assert_eq!(wait(77), (State::Retrying, Some(RetryWay::Clock(Duration::from_secs(77)))));
        assert_eq!(wait(0), (State::Retrying, Some(RetryWay::Clock(Duration::from_secs(1)))));
        assert_eq!(wait(u64::MAX), (State::Retrying, Some(RetryWay::Clock(MAX_RETRY_AFTER))));
    }

    #[test]
    fn a_short_retry_after_uses_up_no_attempts_and_is_not_believed_for_ever() {
        let second = Some(Duration::from_secs(1));
        let wait = |outcome, attempts, refusals| {
            after_attempt(outcome, attempts, refusals, 100, OnUnknown::Retry, second).1.unwrap().delay().as_secs()
        };
        assert_eq!([1, 2, 3].map(|n| wait(Outcome::Temporary, n, 0)), [5, 30, 120]);
        assert_eq!([1, 2, 3].map(|n| wait(Outcome::Unknown, n, 0)), [5, 30, 120]);
        assert_eq!([1, 2, 3, 4, 5].map(|n| wait(Outcome::RateLimited, 0, n)), [1, 1, 1, 600, 600]);
        let long = after_attempt(Outcome::Temporary, 1, 0, 10, OnUnknown::Retry, Some(Duration::from_secs(77))).1;
        assert_eq!(long, Some(RetryWay::Clock(Duration::from_secs(77))));
    }

    #[test]
    fn who_was_tried_in_vain_before_waits_no_longer_for_its_first_refusal() {
        let after =
            |retry_after| after_attempt(Outcome::RateLimited, 3, 1, 5, OnUnknown::Retry, retry_after).1.unwrap();
        assert_eq!(after(Some(Duration::from_secs(2))), RetryWay::Clock(Duration::from_secs(2)));
        assert_eq!(after(None), RetryWay::Tier(RetryTier::Seconds5));
    }

    #[test]
    fn a_provider_that_only_says_too_much_is_asked_less_and_less_often() {
        let wait =
            |refusals| after_attempt(Outcome::RateLimited, 0, refusals, 1, OnUnknown::Retry, None).1.unwrap().delay();
        assert_eq!([1, 2, 3, 4, 9].map(|refusals| wait(refusals).as_secs()), [5, 30, 120, 600, 600]);
    }

    #[test]
    fn unknown_is_tried_again_unless_the_request_says_fail() {
        let after = |on_unknown| after_attempt(Outcome::Unknown, 1, 0, 10, on_unknown, None).0;
        assert_eq!(after(OnUnknown::Retry), State::Retrying);
        assert_eq!(after(OnUnknown::Fail), State::Failed);
    }

    proptest! {
        #[test]
        fn no_call_beyond_the_maximum_and_every_retry_within_bounds(
            outcome in proptest::sample::select(Outcome::ALL.to_vec()),
            attempts in 0u16..200,
            refusals in prop_oneof![0u16..20, Just(u16::MAX)],
            max_attempts in 1u16..=100,
            fail in any::<bool>(),
            retry_after in proptest::option::of(0u64..10_000_000),
        ) {
            let on_unknown = if fail { OnUnknown::Fail } else { OnUnknown::Retry };
            let (state, way) =
                after_attempt(outcome, attempts, refusals, max_attempts, on_unknown, retry_after.map(Duration::from_secs));
            prop_assert_eq!(state == State::Retrying, way.is_some());
            if outcome.costs_an_attempt() && attempts >= max_attempts {
                prop_assert_ne!(state, State::Retrying);
            }
            if let Some(way) = way {
                prop_assert!(way.delay() >= Duration::from_secs(1));
                prop_assert!(way.delay() <= MAX_RETRY_AFTER);
            }
        }

        #[test]
        fn a_later_retry_waits_no_shorter(
            outcome in proptest::sample::select(vec![Outcome::Temporary, Outcome::Unknown, Outcome::RateLimited]),
            attempts in 1u16..100,
            retry_after in proptest::option::of(0u64..2_000),
        ) {
            // What a provider says of the time is not taken at its word any more.
            let wait = |n: u16| {
                let (attempts, refusals) = (attempts + n, TAKEN_AT_THEIR_WORD + attempts + n);
                let retry_after = retry_after.map(Duration::from_secs);
                after_attempt(outcome, attempts, refusals, 200, OnUnknown::Retry, retry_after).1.unwrap().delay()
            };
            prop_assert!(wait(1) >= wait(0));
            prop_assert!(wait(0) >= RetryTier::ALL[0].delay());
        }
    }
}
