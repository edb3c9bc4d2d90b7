use std::{fmt, str::FromStr, time::Duration};

use crate::{OnUnknown, Outcome, after_attempt};

/// What is due within this time is published ahead, and held by its worker until then.
pub const PUBLISHED_AHEAD: Duration = Duration::from_secs(1);

/// Where a notification stands. `Delivered`, `Failed` and `Cancelled` are final; only an operator can have a failed one
/// tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waits for its time; was never handed over to the broker.
    Scheduled,
    /// Handed over to the broker, or about to be; no worker has it.
    Queued,
    /// A worker has claimed it and calls the provider.
    Sending,
    /// A call failed in a way that is worth another try, which is waited for.
    Retrying,
    /// The provider accepted it.
    Delivered,
    /// Given up.
    Failed,
    /// Stopped before a provider accepted it.
    Cancelled,
}

/// The text names no state.
#[derive(Debug, thiserror::Error)]
#[error("no such notification state: {0:?}")]
pub struct UnknownState(String);

impl State {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Scheduled, Self::Queued, Self::Sending, Self::Retrying, Self::Delivered, Self::Failed, Self::Cancelled];

    /// The name in the database, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Retrying => "retrying",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more happens to it by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(name: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|s| s.as_str() == name).ok_or_else(|| UnknownState(name.to_owned()))
    }
}

/// What the life cycle turns on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Notification {
    /// Where it stands.
    pub state: State,
    /// How often it was claimed. Each claim has the number that it made; only the newest may record.
    pub fence: i64,
    /// A stop came while it was being sent.
    pub stop_requested: bool,
    /// Calls that cost an attempt.
    pub attempts: u16,
    /// How many of those there may be.
    pub max_attempts: u16,
    /// Whether `on-unknown` is `fail`.
    pub on_unknown: OnUnknown,
}

/// What can happen to a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The activator takes it to publish it, for the first time or once more.
    Publish,
    /// The broker could not route the message, or refused it.
    PublishReturned,
    /// A worker wants to call. `due`: its time has come. `expired`: its `max-age` is over.
    Claim {
        /// Its time has come by the database's clock.
        due: bool,
        /// Its `max-age` is over by the database's clock.
        expired: bool,
    },
    /// The worker of claim `fence` says what came of its call.
    Record {
        /// The claim's number.
        fence: i64,
        /// What came of it.
        outcome: Outcome,
    },
    /// The worker of claim `fence` gives it back without having called.
    Release {
        /// The claim's number.
        fence: i64,
    },
    /// The claim ran out and nothing was recorded: the worker died.
    ClaimExpired,
    /// Somebody stopped the process.
    Stop,
    /// An operator wants a failed one tried again, with all its attempts and all its time anew.
    Retry,
}

/// The transition table: what becomes of a notification, or `None` where the event changes nothing.
///
/// The SQL in the store follows it; a test there drives every state and event through both.
pub fn transition(before: &Notification, event: &Event) -> Option<Notification> {
    use State::{Cancelled, Failed, Queued, Retrying, Scheduled, Sending};
    let n = *before;
    let to = |state| Some(Notification { state, ..n });
    match (*event, n.state) {
        (Event::Publish, Scheduled | Queued) => to(Queued),
        (Event::Publish, Retrying) => to(Retrying),
        (Event::PublishReturned, Queued) => to(Scheduled),
        (Event::PublishReturned, Retrying) => to(Retrying),
        (Event::Claim { expired: true, .. }, Queued | Retrying) => to(Failed),
        (Event::Claim { due: true, .. }, Queued | Retrying) => {
            Some(Notification { state: Sending, fence: n.fence + 1, ..n })
        }
        (Event::Record { fence, outcome }, Sending) if fence == n.fence => Some(recorded(n, outcome)),
        (Event::ClaimExpired, Sending) => Some(recorded(n, Outcome::Unknown)),
        (Event::Release { fence }, Sending) if fence == n.fence => {
            to(if n.stop_requested { Cancelled } else { Retrying })
        }
        (Event::Stop, Scheduled | Queued | Retrying) => to(Cancelled),
        (Event::Stop, Sending) if !n.stop_requested => Some(Notification { stop_requested: true, ..n }),
        (Event::Retry, Failed) => Some(Notification { state: Retrying, stop_requested: false, attempts: 0, ..n }),
        _ => None,
    }
}

fn recorded(n: Notification, outcome: Outcome) -> Notification {
    let attempts = n.attempts + u16::from(outcome.costs_an_attempt());
    // How often it was refused decides only how long it waits.
    let (state, _) = after_attempt(outcome, attempts, 1, n.max_attempts, n.on_unknown, None);
    let answered = matches!(outcome, Outcome::Delivered | Outcome::Permanent);
    let state = if n.stop_requested && !answered { State::Cancelled } else { state };
    Notification { state, attempts, ..n }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_event() -> impl Strategy<Value = Event> {
        let fence = 0i64..6;
        prop_oneof![
            Just(Event::Publish),
            Just(Event::PublishReturned),
            (any::<bool>(), any::<bool>()).prop_map(|(due, expired)| Event::Claim { due, expired }),
            (fence.clone(), proptest::sample::select(Outcome::ALL.to_vec()))
                .prop_map(|(fence, outcome)| Event::Record { fence, outcome }),
            fence.prop_map(|fence| Event::Release { fence }),
            Just(Event::ClaimExpired),
            Just(Event::Stop),
            Just(Event::Retry),
        ]
    }

    fn fresh(max_attempts: u16, on_unknown: OnUnknown) -> Notification {
        Notification { state: State::Scheduled, fence: 0, stop_requested: false, attempts: 0, max_attempts, on_unknown }
    }

    #[test]
    fn the_straight_way() {
        let mut n = fresh(10, OnUnknown::Retry);
        for (event, state) in [
            (Event::Publish, State::Queued),
            (Event::Claim { due: true, expired: false }, State::Sending),
            (Event::Record { fence: 1, outcome: Outcome::Temporary }, State::Retrying),
            (Event::Claim { due: true, expired: false }, State::Sending),
            (Event::Record { fence: 2, outcome: Outcome::Delivered }, State::Delivered),
        ] {
            n = transition(&n, &event).unwrap();
            assert_eq!(n.state, state);
        }
        assert_eq!(n.attempts, 2);
    }

    #[test]
    fn what_the_provider_accepted_stays_delivered_after_a_stop_and_a_failed_call_is_not_tried_again() {
        let sending = Notification { state: State::Sending, fence: 1, ..fresh(10, OnUnknown::Retry) };
        let stopped = transition(&sending, &Event::Stop).unwrap();
        assert_eq!(stopped.state, State::Sending);
        let after = |outcome| transition(&stopped, &Event::Record { fence: 1, outcome }).unwrap().state;
        assert_eq!(after(Outcome::Delivered), State::Delivered);
        assert_eq!(after(Outcome::Permanent), State::Failed);
        for outcome in
            [Outcome::Temporary, Outcome::Unknown, Outcome::RateLimited, Outcome::ChannelDown, Outcome::DryRun]
        {
            assert_eq!(after(outcome), State::Cancelled, "{outcome}");
        }
    }

    proptest! {
        #[test]
        fn any_order_of_events_keeps_a_notification_legal(
            max_attempts in 1u16..5,
            fail in any::<bool>(),
            events in proptest::collection::vec(any_event(), 0..60),
        ) {
            let mut n = fresh(max_attempts, if fail { OnUnknown::Fail } else { OnUnknown::Retry });
            let mut stopped = false;
            for event in events {
                let Some(next) = transition(&n, &event) else { continue };
                let is_retry = event == Event::Retry;
                prop_assert!(!n.state.is_final() || is_retry, "a final state is left by {:?}", event);
                prop_assert!(!is_retry || n.state == State::Failed);
                // Who wants it after a stop has said so after it.
                stopped &= !is_retry;
                prop_assert!(next.fence >= n.fence);
                prop_assert!(next.attempts <= max_attempts);
                if next.state == State::Sending && n.state != State::Sending {
                    prop_assert!(!stopped, "claimed after a stop");
                    prop_assert_eq!(next.fence, n.fence + 1);
                }
                if let Event::Record { fence, .. } = event {
                    prop_assert_eq!(fence, n.fence);
                }
                stopped |= event == Event::Stop;
                n = next;
            }
        }
    }
}
