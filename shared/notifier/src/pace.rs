use std::time::{Duration, Instant};

/// The most that are few.
pub(crate) const FEW: usize = 32;

/// Statements that may follow each other at once after a quiet time.
const BURST: u32 = 5;

/// How soon one claim may follow another, or one record another, where each is of few: a statement costs the database as much as
/// fifty of its rows do. By the generic cell rate algorithm (ITU-T I.371, <https://www.itu.int/rec/T-REC-I.371/en>).
#[derive(Debug)]
pub(crate) struct Pace {
    /// From one to the next, in the long run.
    interval: Duration,
    /// When all that was sent so far would have been, had it come evenly.
    even: Option<Instant>,
}

impl Pace {
    pub(crate) fn of(interval: Duration) -> Self {
        Self { interval, even: None }
    }

    /// How long the next statement has to wait.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.even.map_or(Duration::ZERO, |even| even.saturating_duration_since(now + (BURST - 1) * self.interval))
    }

    /// Counts a statement.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.even = Some(self.even.map_or(now, |even| even.max(now)) + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(10);

    #[test]
    fn a_burst_goes_at_once_and_what_follows_at_the_pace() {
        let (mut pace, mut now) = (Pace::of(INTERVAL), Instant::now());
        for _ in 0..BURST {
            assert_eq!(pace.wait(now), Duration::ZERO);
            pace.sent(now);
        }
        for _ in 0..BURST {
            assert_eq!(pace.wait(now), INTERVAL);
            now += INTERVAL;
            assert_eq!(pace.wait(now), Duration::ZERO);
            pace.sent(now);
        }
        now += BURST * INTERVAL;
        pace.sent(now);
        assert_eq!(pace.wait(now), Duration::ZERO, "all of the burst is there again");
    }

    #[test]
    fn who_comes_at_the_pace_never_waits() {
        let (mut pace, began) = (Pace::of(INTERVAL), Instant::now());
        for n in 0..1_000 {
            let now = began + n * INTERVAL;
            assert_eq!(pace.wait(now), Duration::ZERO);
            pace.sent(now);
        }
    }
}
