use std::time::Duration;

/// What has worked for so long works.
const STEADY: Duration = Duration::from_secs(5);

/// Growing waits between tries, from 100 ms to 5 s, with a spread so that many programs do not come back as one.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait. `chance` from 0 to 1 spreads it over its upper half.
    pub fn next(&mut self, chance: f64) -> Duration {
        let full = Duration::from_millis(100).saturating_mul(1 << self.failures.min(6)).min(Duration::from_secs(5));
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }

    /// The next wait after a session that lasted so long. One that breaks whenever it is used is not taken for one that works.
    pub fn next_after(&mut self, lasted: Duration, chance: f64) -> Duration {
        if lasted >= STEADY {
            self.reset();
        }
        self.next(chance)
    }

    /// It works again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_five_seconds_and_start_over() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next(0.0).as_millis(), 50);
    }

    #[test]
    fn only_a_session_that_lasted_lets_waits_start_over() {
        let mut backoff = Backoff::default();
        let mut waits = |lasted| (0..3).map(|_| backoff.next_after(lasted, 1.0).as_millis()).collect::<Vec<_>>();
        assert_eq!(waits(Duration::from_secs(4)), [100, 200, 400]);
        assert_eq!(waits(STEADY), [100, 100, 100]);
    }
}
