use std::time::Duration;

use crate::{Outcome, provider::Answer};

/// How often a provider that refuses the whole channel is asked whether it still does.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);

/// Nobody is asked more often than this, whatever they say.
const SHORTEST_PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Lets calls through, unless the provider refuses the whole channel: then only one every 30 seconds, or every 5 where
/// it can't be reached.
///
/// Times are counted from any moment, which must stay the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gate {
    next_probe: Option<Duration>,
    interval: Duration,
}

/// How many calls may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// As many as there are.
    All,
    /// One, to ask the provider whether it serves the channel again.
    One,
    /// None for so long.
    NoneFor(Duration),
}

impl Gate {
    /// Whether all calls are let through.
    pub fn is_open(&self) -> bool {
        self.next_probe.is_none()
    }

    /// How long the provider is left alone between two calls, while the gate is closed.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Learns from what came of a call.
    pub fn saw(&mut self, now: Duration, answer: &Answer) {
        match answer.outcome {
            Outcome::ChannelDown => {
                let interval = answer.retry_after.unwrap_or(PROBE_INTERVAL);
                self.interval = interval.clamp(SHORTEST_PROBE_INTERVAL, PROBE_INTERVAL);
                self.next_probe = Some(now.saturating_add(self.interval));
            }
            Outcome::Unknown | Outcome::DryRun => {}
            Outcome::Delivered | Outcome::Temporary | Outcome::RateLimited | Outcome::Permanent => {
                self.next_probe = None;
            }
        }
    }

    /// A call that was allowed did not come about: if it was the probe, another may take its place.
    pub fn not_called(&mut self, now: Duration) {
        if let Some(at) = self.next_probe.as_mut() {
            *at = now;
        }
    }

    /// What may be called now. A probe that is granted is counted, so that there is no second one beside it.
    pub fn allowance(&mut self, now: Duration) -> Allowance {
        let Some(at) = self.next_probe else { return Allowance::All };
        let wait = at.saturating_sub(now);
        if wait.is_zero() {
            self.next_probe = Some(now.saturating_add(self.interval));
            Allowance::One
        } else {
            Allowance::NoneFor(wait)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_every_30_seconds_or_every_5_until_a_call_goes_through() {
        let mut gate = Gate::default();
        let at = Duration::from_secs;
        assert_eq!(gate.allowance(at(0)), Allowance::All);
        gate.saw(at(0), &Answer::new(Outcome::ChannelDown, ""));
        assert_eq!(gate.allowance(at(1)), Allowance::NoneFor(at(29)));
        assert_eq!(gate.allowance(at(30)), Allowance::One);
        assert_eq!(gate.allowance(at(30)), Allowance::NoneFor(at(30)));
        gate.saw(at(31), &Answer::new(Outcome::Unknown, ""));
        assert!(!gate.is_open());
        gate.saw(at(31), &Answer::unreachable(""));
        assert_eq!(gate.allowance(at(32)), Allowance::NoneFor(at(4)));
        gate.not_called(at(32));
        assert_eq!(gate.allowance(at(32)), Allowance::One);
        gate.saw(at(33), &Answer::new(Outcome::Temporary, ""));
        assert!(gate.is_open());
    }
}
