use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// An address that ended a call this recently is worth waiting for.
const LIVELY: Duration = Duration::from_secs(1);

/// How long to stay away at least from an address that holds its whole share. One where calls end will have caught up soon.
const STAY_AWAY: Duration = Duration::from_secs(2);
const STAY_AWAY_FROM_LIVELY: Duration = Duration::from_secs(1);
const STAY_AWAY_AT_MOST: Duration = Duration::from_secs(60);

/// Bounds how many of the worker's slots one address may hold, so that an address that hangs does not hold them all.
#[derive(Debug)]
pub(crate) struct AddressShares {
    share: usize,
    by_address: Mutex<HashMap<String, Arc<Address>>>,
}

#[derive(Debug)]
struct Address {
    share: u32,
    places: Arc<Semaphore>,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    last_end: Instant,
    /// How long calls take, as a moving average.
    call_time: Duration,
    /// When the last of those that were sent away comes back.
    queue_end: Instant,
}

/// Leave to call an address, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    address: Arc<Address>,
    began: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut progress = self.address.progress();
        progress.last_end = Instant::now();
        progress.call_time = (progress.call_time * 7 + self.began.elapsed()) / 8;
    }
}

impl AddressShares {
    /// Each address gets a quarter of the slots, and at least one.
    pub(crate) fn new(slots: usize) -> Self {
        Self { share: (slots / 4).max(1), by_address: Mutex::default() }
    }

    /// A place for a call to this address. If all of its places are held, and none becomes free within `patience`,
    /// how long to stay away from it: each that is sent away a little longer, so that they come back as fast as places
    /// become free. An address where nothing moves is not waited for.
    pub(crate) async fn place(&self, name: &str, patience: Duration) -> Result<Place, Duration> {
        let address = self.address(name);
        let permit = match Arc::clone(&address.places).try_acquire_owned() {
            Ok(permit) => {
                address.nobody_queues();
                Some(permit)
            }
            Err(_) if address.is_lively() => {
                timeout(patience, Arc::clone(&address.places).acquire_owned()).await.ok().and_then(Result::ok)
            }
            Err(_) => None,
        };
        match permit {
            Some(permit) => Ok(Place { address, began: Instant::now(), _permit: permit }),
            None => Err(address.stay_away()),
        }
    }

    fn address(&self, name: &str) -> Arc<Address> {
        let mut by_address = self.by_address.lock().expect("nobody panics while holding this lock");
        if by_address.len() > 4 * self.share.max(256) {
            by_address.retain(|_, address| Arc::strong_count(address) > 1);
        }
        if let Some(address) = by_address.get(name) {
            return Arc::clone(address);
        }
        Arc::clone(by_address.entry(name.to_owned()).or_insert(Arc::new(Address::new(self.share))))
    }
}

impl Address {
    fn new(share: usize) -> Self {
        let now = Instant::now();
        Self {
            share: u32::try_from(share).unwrap_or(u32::MAX),
            places: Arc::new(Semaphore::new(share)),
            progress: Mutex::new(Progress { last_end: now, call_time: Duration::ZERO, queue_end: now }),
        }
    }

    fn is_lively(&self) -> bool {
        self.progress().last_end.elapsed() < LIVELY
    }

    fn nobody_queues(&self) {
        self.progress().queue_end = Instant::now();
    }

    fn stay_away(&self) -> Duration {
        let mut progress = self.progress();
        let (now, since_last_end) = (Instant::now(), progress.last_end.elapsed());
        let at_least = if since_last_end < LIVELY { STAY_AWAY_FROM_LIVELY } else { STAY_AWAY };
        let pace = progress.call_time.max(since_last_end) / self.share;
        let queue_end = progress.queue_end.max(now + at_least) + pace;
        progress.queue_end = queue_end.min(now + STAY_AWAY_AT_MOST);
        progress.queue_end - now
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("nobody panics while holding this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_holds_no_more_than_its_share_and_is_left_alone_for_longer_and_longer() {
        let shares = AddressShares::new(8);
        let first = shares.place("a", Duration::ZERO).await.unwrap();
        let second = shares.place("a", Duration::ZERO).await.unwrap();
        let wait = shares.place("a", Duration::from_millis(1)).await.unwrap_err();
        assert!(shares.place("a", Duration::from_millis(1)).await.unwrap_err() > wait);
        assert!(shares.place("b", Duration::ZERO).await.is_ok());
        drop(first);
        assert!(shares.place("a", Duration::ZERO).await.is_ok());
        drop(second);
    }

    fn address(last_end: Duration, call_time: Duration) -> Address {
        let address = Address::new(64);
        let last_end = Instant::now().checked_sub(last_end).unwrap();
        *address.progress() = Progress { last_end, call_time, queue_end: Instant::now() };
        address
    }

    /// However many find its places taken at once: what is quick has caught up within seconds.
    #[test]
    fn a_quick_address_is_not_left_alone_for_long() {
        let address = address(Duration::ZERO, Duration::from_millis(30));
        let longest = (0..5_000).map(|_| address.stay_away()).max().unwrap();
        assert!(longest < Duration::from_secs(4), "{longest:?}");
    }

    #[test]
    fn who_finds_a_slow_address_busy_comes_back_when_a_place_may_be_free_and_within_a_minute() {
        let address = address(Duration::from_secs(8), Duration::from_secs(1));
        let seconds = |_| address.stay_away().as_secs_f64().round();
        let waits: Vec<_> = (0..640).map(seconds).collect();
        assert_eq!([waits[0], waits[63], waits[127], waits[639]], [2.0, 10.0, 18.0, 60.0]);
        address.nobody_queues();
        assert_eq!(seconds(0), 2.0);
    }

    #[tokio::test]
    async fn a_place_that_becomes_free_in_time_is_waited_for() {
        let shares = AddressShares::new(1);
        let place = shares.place("a", Duration::ZERO).await.unwrap();
        let (next, ()) = tokio::join!(shares.place("a", Duration::from_secs(5)), async { drop(place) });
        assert!(next.is_ok());
    }

    #[tokio::test]
    async fn addresses_without_calls_are_forgotten() {
        let shares = AddressShares::new(1);
        for n in 0..3_000 {
            assert!(shares.place(&n.to_string(), Duration::ZERO).await.is_ok());
        }
        assert!(shares.by_address.lock().unwrap().len() <= 1_025);
    }
}
