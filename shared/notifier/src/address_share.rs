use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// An address that ended a call this recently is worth waiting for.
const LIVELY: Duration = Duration::from_secs(1);

/// How long to stay away from an address that holds its whole share, and how much longer with each that is sent away.
const STAY_AWAY: Duration = Duration::from_secs(2);
const STAY_AWAY_LONGER: Duration = Duration::from_millis(50);
const STAY_AWAY_AT_MOST: Duration = Duration::from_secs(60);

/// Bounds how many of the worker's slots one address may hold, so that an address that hangs does not hold them all.
#[derive(Debug)]
pub(crate) struct AddressShares {
    share: usize,
    by_address: Mutex<HashMap<String, Arc<Address>>>,
}

#[derive(Debug)]
struct Address {
    places: Arc<Semaphore>,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    last_end: Instant,
    sent_away: u32,
}

/// Leave to call an address, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    address: Arc<Address>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut progress = self.address.progress.lock().expect("nobody panics while holding this lock");
        *progress = Progress { last_end: Instant::now(), sent_away: 0 };
    }
}

impl AddressShares {
    /// Each address gets a quarter of the slots, and at least one.
    pub(crate) fn new(slots: usize) -> Self {
        Self { share: (slots / 4).max(1), by_address: Mutex::default() }
    }

    /// A place for a call to this address. If all of its places are held, and none becomes free within `patience`,
    /// how long to stay away from it. An address where nothing moves is not waited for.
    pub(crate) async fn place(&self, name: &str, patience: Duration) -> Result<Place, Duration> {
        let address = self.address(name);
        let permit = match Arc::clone(&address.places).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) if address.is_lively() => {
                timeout(patience, Arc::clone(&address.places).acquire_owned()).await.ok().and_then(Result::ok)
            }
            Err(_) => None,
        };
        match permit {
            Some(permit) => Ok(Place { address, _permit: permit }),
            None => Err(address.stay_away()),
        }
    }

    fn address(&self, name: &str) -> Arc<Address> {
        let mut by_address = self.by_address.lock().expect("nobody panics while holding this lock");
        if by_address.len() > 4 * self.share.max(256) {
            by_address.retain(|_, address| Arc::strong_count(address) > 1);
        }
        let new = || Address {
            places: Arc::new(Semaphore::new(self.share)),
            progress: Mutex::new(Progress { last_end: Instant::now(), sent_away: 0 }),
        };
        Arc::clone(by_address.entry(name.to_owned()).or_insert_with(|| Arc::new(new())))
    }
}

impl Address {
    fn is_lively(&self) -> bool {
        self.progress.lock().expect("nobody panics while holding this lock").last_end.elapsed() < LIVELY
    }

    fn stay_away(&self) -> Duration {
        let mut progress = self.progress.lock().expect("nobody panics while holding this lock");
        progress.sent_away = progress.sent_away.saturating_add(1);
        STAY_AWAY.saturating_add(STAY_AWAY_LONGER.saturating_mul(progress.sent_away)).min(STAY_AWAY_AT_MOST)
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
