use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use domain::{
    Outcome,
    provider::{self, Allowance, Answer},
};
use runtime::Component;
use tokio::sync::watch;

/// How often to see whether a channel that somebody has paused may go on.
const PAUSED_INTERVAL: Duration = Duration::from_secs(1);

/// Lets calls through, unless somebody has paused the channel, or the provider refuses the whole of it.
#[derive(Debug)]
pub(crate) struct Gate {
    closed: Mutex<Closed>,
    begin: Instant,
    provider: Component,
    channel: Component,
    open: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Closed {
    by_provider: provider::Gate,
    paused: bool,
}

impl Gate {
    /// `provider` says whether the provider serves the channel, `channel` whether anybody has paused it.
    pub(crate) fn new(provider: Component, channel: Component) -> Self {
        provider.up();
        channel.up();
        Self { closed: Mutex::default(), begin: Instant::now(), provider, channel, open: watch::Sender::new(true) }
    }

    /// Whether all calls are let through, as long as that is so or is not so.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }

    fn tell(&self, closed: &Closed) {
        let open = !closed.paused && closed.by_provider.is_open();
        self.open.send_if_modified(|was| std::mem::replace(was, open) != open);
    }

    /// Learns from what came of a call.
    pub(crate) fn saw(&self, answer: &Answer) {
        let mut closed = self.lock();
        let was_open = closed.by_provider.is_open();
        closed.by_provider.saw(self.begin.elapsed(), answer);
        if answer.outcome == Outcome::ChannelDown {
            self.provider.down(answer.detail.as_deref().unwrap_or("the provider refuses this channel"));
        } else if !was_open && closed.by_provider.is_open() {
            self.provider.up();
        }
        self.tell(&closed);
    }

    /// A call that was allowed did not come about: if it was the probe, another may take its place.
    pub(crate) fn not_called(&self) {
        self.lock().by_provider.not_called(self.begin.elapsed());
    }

    /// Somebody has paused the channel, as the text says, or has not.
    pub(crate) fn set_paused(&self, pause: Option<String>) {
        let mut closed = self.lock();
        closed.paused = pause.is_some();
        pause.map_or_else(|| self.channel.up(), |pause| self.channel.down(pause));
        self.tell(&closed);
    }

    /// What may be claimed now. A probe that is granted is counted, so that there is no second one beside it.
    pub(crate) fn allowance(&self) -> Allowance {
        let mut closed = self.lock();
        if closed.paused {
            return Allowance::NoneFor(PAUSED_INTERVAL);
        }
        closed.by_provider.allowance(self.begin.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Closed> {
        self.closed.lock().expect("nobody panics while holding this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(health: &runtime::Health) -> Gate {
        Gate::new(health.component("provider"), health.component("channel"))
    }

    #[test]
    fn a_refused_channel_pauses_until_a_call_goes_through() {
        let health = runtime::Health::default();
        let gate = gate(&health);
        assert_eq!(gate.allowance(), Allowance::All);
        gate.saw(&Answer::new(Outcome::ChannelDown, "Twilio 20003"));
        assert_eq!(health.problems()["provider"], "Twilio 20003");
        assert!(matches!(gate.allowance(), Allowance::NoneFor(wait) if wait > Duration::from_secs(29)));
        gate.saw(&Answer::new(Outcome::Unknown, ""));
        assert!(matches!(gate.allowance(), Allowance::NoneFor(_)));
        gate.not_called();
        assert_eq!(gate.allowance(), Allowance::One);
        assert!(matches!(gate.allowance(), Allowance::NoneFor(_)));
        gate.saw(&Answer::new(Outcome::Permanent, ""));
        assert_eq!(gate.allowance(), Allowance::All);
        assert!(health.problems().is_empty());
    }

    #[test]
    fn one_that_can_not_be_reached_is_tried_sooner() {
        let health = runtime::Health::default();
        let gate = gate(&health);
        gate.saw(&Answer::unreachable("no route"));
        assert!(matches!(gate.allowance(), Allowance::NoneFor(wait) if wait <= Duration::from_secs(5)));
    }

    #[test]
    fn whoever_watches_learns_when_it_closes_and_opens() {
        let health = runtime::Health::default();
        let gate = gate(&health);
        let watch = gate.watch();
        for (closed, open) in [(true, false), (false, true)] {
            gate.set_paused(closed.then(String::new));
            assert_eq!(*watch.borrow(), open);
        }
        gate.saw(&Answer::new(Outcome::ChannelDown, ""));
        assert!(!*watch.borrow());
        gate.set_paused(None);
        assert!(!*watch.borrow(), "the provider still refuses");
        gate.saw(&Answer::new(Outcome::Delivered, ""));
        assert!(*watch.borrow());
    }

    #[test]
    fn a_pause_lets_no_probe_through() {
        let health = runtime::Health::default();
        let gate = gate(&health);
        gate.saw(&Answer::new(Outcome::ChannelDown, ""));
        gate.not_called();
        gate.set_paused(Some("by me".to_owned()));
        assert!(matches!(gate.allowance(), Allowance::NoneFor(_)));
        assert_eq!(health.problems()["channel"], "by me");
        gate.set_paused(None);
        assert_eq!(gate.allowance(), Allowance::One);
    }
}
