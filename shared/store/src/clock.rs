use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

/// How long a sample is believed before a worse one may replace it.
const SAMPLE_LIFE: Duration = Duration::from_secs(20);

/// The database's time, known here between two statements by the monotonic clock.
///
/// It only says when to ask: whether something is due is decided by the database. The machine's own wall clock takes
/// no part, and may be wrong.
#[derive(Debug, Default)]
pub struct DatabaseClock {
    best: Mutex<Option<Sample>>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    taken: Instant,
    database_time: Timestamp,
    round_trip: Duration,
}

impl Sample {
    fn at(&self, instant: Instant) -> Timestamp {
        let since = match instant.checked_duration_since(self.taken) {
            Some(later) => SignedDuration::try_from(later),
            None => SignedDuration::try_from(self.taken - instant).map(|earlier| -earlier),
        };
        self.database_time.saturating_add(since.unwrap_or_default()).unwrap_or(self.database_time)
    }
}

impl DatabaseClock {
    /// Learns from an answer: the database said `database_time` between `sent` and now.
    ///
    /// It is taken as said when the question was sent, so that this clock is never behind, but ahead by less than a
    /// round trip: who asks a little too early asks again, and a statement may have waited long for a lock after its
    /// time was taken.
    pub fn learn(&self, sent: Instant, database_time: Timestamp) {
        let sample = Sample { taken: sent, database_time, round_trip: sent.elapsed() };
        let round_trip = sample.round_trip;
        let mut best = self.best.lock().expect("nobody panics while holding this lock");
        let keep = best.is_some_and(|best| {
            let difference = best.at(sample.taken).duration_since(database_time).unsigned_abs();
            let plausible = difference <= round_trip + best.round_trip + Duration::from_millis(20);
            plausible && best.round_trip < round_trip && best.taken.elapsed() < SAMPLE_LIFE
        });
        if !keep {
            *best = Some(sample);
        }
    }

    /// The database's time now; the epoch if no answer was seen yet.
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The database's time at an instant of the monotonic clock.
    pub fn at(&self, instant: Instant) -> Timestamp {
        let best = *self.best.lock().expect("nobody panics while holding this lock");
        best.map_or(Timestamp::UNIX_EPOCH, |best| best.at(instant))
    }

    /// How long from now until the database's clock shows `time`; zero if it has, or if nothing is known of it yet:
    /// then asking is the way to know.
    pub fn until(&self, time: Timestamp) -> Duration {
        let best = *self.best.lock().expect("nobody panics while holding this lock");
        let wait = best.map(|best| time.duration_since(best.at(Instant::now())));
        wait.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_database_and_not_this_machine() {
        let clock = DatabaseClock::default();
        let start = Instant::now();
        let database = Timestamp::from_second(1_000).unwrap();
        clock.learn(start, database);
        assert_eq!(clock.at(start + Duration::from_secs(60)), Timestamp::from_second(1_060).unwrap());
        assert_eq!(clock.until(database), Duration::ZERO);
    }

    #[test]
    fn before_the_first_answer_nothing_is_waited_for() {
        assert_eq!(DatabaseClock::default().until(Timestamp::MAX), Duration::ZERO);
    }

    #[test]
    fn a_jump_of_the_database_is_believed_at_once() {
        let clock = DatabaseClock::default();
        clock.learn(Instant::now(), Timestamp::from_second(1_000).unwrap());
        clock.learn(Instant::now(), Timestamp::from_second(5_000).unwrap());
        assert!(clock.now() >= Timestamp::from_second(5_000).unwrap());
    }

    #[test]
    fn a_slow_answer_does_not_replace_a_quick_one() {
        let clock = DatabaseClock::default();
        let now = Instant::now();
        clock.learn(now, Timestamp::from_second(1_000).unwrap());
        let before = clock.at(now);
        clock.learn(now - Duration::from_secs(2), Timestamp::from_second(1_000).unwrap());
        assert_eq!(clock.at(now), before);
    }
}
