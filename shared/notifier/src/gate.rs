use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use domain::Outcome;
use runtime::Component;

/// How often a provider that refuses the whole channel is asked whether it still does.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);

/// Lets calls through, unless the provider refuses the whole channel: then only one every 30 seconds.
#[derive(Debug)]
pub(crate) struct Gate {
    next_probe: Mutex<Option<Instant>>,
    provider: Component,
}

/// How many calls may begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Allowance {
    All,
    One,
    NoneFor(Duration),
}

impl Gate {
    pub(crate) fn new(provider: Component) -> Self {
        provider.up();
        Self { next_probe: Mutex::new(None), provider }
    }

    /// Learns from the outcome of a call.
    pub(crate) fn saw(&self, outcome: Outcome, detail: Option<&str>) {
        let mut next_probe = self.next_probe.lock().expect("nobody panics while holding this lock");
        if outcome == Outcome::ChannelDown {
            *next_probe = Some(Instant::now() + PROBE_INTERVAL);
            self.provider.down(detail.unwrap_or("the provider refuses this channel"));
        } else if outcome != Outcome::Unknown && next_probe.take().is_some() {
            self.provider.up();
        }
    }

    /// A call that was allowed did not come about: if it was the probe, another may take its place.
    pub(crate) fn not_called(&self) {
        let mut next_probe = self.next_probe.lock().expect("nobody panics while holding this lock");
        if let Some(at) = next_probe.as_mut() {
            *at = Instant::now();
        }
    }

    /// What may be claimed now. A probe that is granted is counted, so that there is no second one beside it.
    pub(crate) fn allowance(&self) -> Allowance {
        let mut next_probe = self.next_probe.lock().expect("nobody panics while holding this lock");
        let Some(at) = *next_probe else { return Allowance::All };
        let wait = at.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            *next_probe = Some(Instant::now() + PROBE_INTERVAL);
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
    fn a_refused_channel_pauses_until_a_call_goes_through() {
        let health = runtime::Health::default();
        let gate = Gate::new(health.component("provider"));
        assert_eq!(gate.allowance(), Allowance::All);
        gate.saw(Outcome::ChannelDown, Some("Twilio 20003"));
        assert_eq!(health.problems()["provider"], "Twilio 20003");
        assert!(matches!(gate.allowance(), Allowance::NoneFor(wait) if wait > Duration::from_secs(29)));
        gate.saw(Outcome::Unknown, None);
        assert!(matches!(gate.allowance(), Allowance::NoneFor(_)));
        gate.not_called();
        assert_eq!(gate.allowance(), Allowance::One);
        assert!(matches!(gate.allowance(), Allowance::NoneFor(_)));
        gate.saw(Outcome::Permanent, None);
        assert_eq!(gate.allowance(), Allowance::All);
        assert!(health.problems().is_empty());
    }
}
