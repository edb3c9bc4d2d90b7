use std::time::{Duration, Instant};

/// From one claim of few notifications to the next, in the long run.
const INTERVAL: Duration = Duration::from_millis(10);

/// Claims that may follow each other at once after a quiet time.
const BURST: u32 = 5;

/// How soon one claim may follow another where each is of few: a claim costs the database as much as fifty of its rows do. By
/// the generic cell rate algorithm (ITU-T I.371, <https://www.itu.int/rec/T-REC-I.371/en>).
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When all that was claimed so far would have been, had it come evenly.
    even: Option<Instant>,
}

impl Pace {
    /// How long the next claim has to wait.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.even.map_or(Duration::ZERO, |even| even.saturating_duration_since(now + (BURST - 1) * INTERVAL))
    }

    /// Counts a claim.
    pub(crate) fn claimed(&mut self, now: Instant) {
        self.even = Some(self.even.map_or(now, |even| even.max(now)) + INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_what_follows_at_the_pace() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(pace.wait(now), Duration::ZERO);
            pace.claimed(now);
        }
        for _ in 0..BURST {
            assert_eq!(pace.wait(now), INTERVAL);
            now += INTERVAL;
            assert_eq!(pace.wait(now), Duration::ZERO);
            pace.claimed(now);
        }
        now += BURST * INTERVAL;
        pace.claimed(now);
        assert_eq!(pace.wait(now), Duration::ZERO, "all of the burst is there again");
    }

    #[test]
    fn who_comes_at_the_pace_never_waits() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        for n in 0..1_000 {
            let now = began + n * INTERVAL;
            assert_eq!(pace.wait(now), Duration::ZERO);
            pace.claimed(now);
        }
    }
}
