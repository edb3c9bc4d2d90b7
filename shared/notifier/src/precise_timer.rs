use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::sleep};

/// As much as tokio's sleep may be late: it rounds up to whole milliseconds, and so does the system call beneath it.
const ROUNDING: Duration = Duration::from_millis(3);

/// Times this near are one: the thread is not bothered again.
const SAME: Duration = Duration::from_micros(50);

/// Wakes its owner within a tenth of a millisecond of a time.
#[derive(Debug)]
pub(crate) struct PreciseTimer {
    times: Sender<Instant>,
    rings: Arc<Notify>,
    /// Has not rung yet, as far as its owner knows.
    set: Option<Instant>,
}

impl PreciseTimer {
    /// With a thread of its own, which ends with it.
    pub(crate) fn new() -> Self {
        let (times, set) = channel();
        let rings = Arc::new(Notify::new());
        let ring = Arc::clone(&rings);
        thread::spawn(move || ring_in_time(&set, &ring));
        Self { times, rings, set: None }
    }

    /// Ends after `time` or, if that is long, shortly before. It may end at once, where one before it was dropped: who sleeps
    /// looks at the clock and sleeps again.
    pub(crate) async fn sleep(&mut self, time: Duration) {
        if time > ROUNDING {
            return sleep(time - ROUNDING).await;
        }
        let end = Instant::now() + time;
        let is_set = |set: Instant| set.max(end).duration_since(set.min(end)) < SAME;
        if !self.set.is_some_and(is_set) {
            if self.times.send(end).is_err() {
                return sleep(time).await;
            }
            self.set = Some(end);
        }
        self.rings.notified().await;
        self.set = None;
    }
}

/// Rings at the time that was set last.
fn ring_in_time(set: &Receiver<Instant>, ring: &Notify) {
    let mut next: Option<Instant> = None;
    loop {
        let changed = match next {
            Some(time) => set.recv_timeout(time.saturating_duration_since(Instant::now())),
            None => set.recv().map_err(RecvTimeoutError::from),
        };
        next = match changed {
            Ok(time) => Some(time),
            Err(RecvTimeoutError::Timeout) => {
                ring.notify_one();
                None
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn wait_until(timer: &mut PreciseTimer, time: Instant) {
        while Instant::now() < time {
            timer.sleep(time.saturating_duration_since(Instant::now())).await;
        }
    }

    #[tokio::test]
    async fn it_never_leaves_its_owner_waiting() {
        let mut timer = PreciseTimer::new();
        for micros in [0, 1, 100, 2_900, 3_100, 7_000, 50] {
            wait_until(&mut timer, Instant::now() + Duration::from_micros(micros)).await;
        }
    }

    #[tokio::test]
    async fn whoever_waits_no_longer_takes_nothing_from_who_waits_next() {
        let mut timer = PreciseTimer::new();
        for _ in 0..100 {
            tokio::select! {
                biased;
                () = timer.sleep(Duration::from_micros(200)) => {}
                () = tokio::task::yield_now() => {}
            }
            wait_until(&mut timer, Instant::now() + Duration::from_micros(300)).await;
        }
    }

    #[test]
    fn its_thread_ends_with_it() {
        let (times, set) = channel();
        let thread = thread::spawn(move || ring_in_time(&set, &Notify::new()));
        times.send(Instant::now() + Duration::from_secs(3_600)).unwrap();
        drop(times);
        thread.join().unwrap();
    }
}
