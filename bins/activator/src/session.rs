use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use broker::{Backoff, Publisher};
use domain::PUBLISHED_AHEAD;
use runtime::chance;

use crate::{
    Activator,
    confirmed::Confirmed,
    dispatcher::{Dispatcher, Round},
};

/// The longest sleep, in case no hint came of something new.
const POLL: Duration = Duration::from_secs(1);

/// How long a session lasts at least in which a message was refused.
const RENEW_AFTER: Duration = Duration::from_secs(10);

/// What went wrong with one of the two sides.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Broker(#[from] broker::Error),
}

/// Publishes what becomes due, session after session, until the program stops.
pub(crate) async fn run_until_stopped(activator: Arc<Activator>) {
    let stop = &activator.lifecycle.stop;
    let confirmed = Confirmed::start(Arc::clone(&activator));
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        let began = Instant::now();
        // Nothing is claimed while nobody could take it.
        match Publisher::open(&activator.broker, &[crate::dispatcher::EXCHANGE]).await {
            Ok(publisher) => {
                activator.broker_health.up();
                let mut dispatcher = Dispatcher::new(Arc::clone(&activator), publisher, confirmed.clone());
                if let Err(error) = dispatch(&activator, &mut dispatcher).await {
                    activator.broker_health.down(&error);
                }
                dispatcher.end().await;
            }
            Err(error) => activator.broker_health.down(error),
        }
        activator.lifecycle.pause(backoff.next_after(began.elapsed(), chance())).await;
    }
    confirmed.end().await;
}

/// One session: ends well when the program stops or a new one is to be tried, and badly when the broker fails.
async fn dispatch(activator: &Arc<Activator>, dispatcher: &mut Dispatcher) -> Result<(), broker::Error> {
    let mut backoff = Backoff::default();
    let stop = &activator.lifecycle.stop;
    let began = Instant::now();
    let is_old = || began.elapsed() > RENEW_AFTER;
    let until_round = |due_at| until_round(activator.store.clock().until(due_at));
    while !(stop.is_cancelled() || dispatcher.was_refused() && is_old()) {
        dispatcher.check_session()?;
        let sleep = match dispatcher.round(PUBLISHED_AHEAD).await {
            Ok(Round { more: true, .. }) => Duration::ZERO,
            Ok(Round { next_wake, .. }) => {
                activator.database.up();
                backoff.reset();
                next_wake.map_or(POLL, until_round).clamp(Duration::from_millis(1), POLL)
            }
            Err(Error::Broker(error)) => return Err(error),
            Err(Error::Store(error)) => {
                activator.database.down(error);
                backoff.next(chance())
            }
        };
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            _ = activator.due.gather(until_round), if !sleep.is_zero() => {}
            error = dispatcher.failed() => return Err(error),
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// How long to wait, for more to come, before the round that publishes what is due after so long. Half of the look-ahead is left
/// for being late, or half of the time if that is less.
fn until_round(until_due: Duration) -> Duration {
    until_due.saturating_sub(PUBLISHED_AHEAD / 2).max(until_due / 2)
}

/// Publishes what is due now, and returns when the broker has confirmed all of it.
pub(crate) async fn run_once(activator: &Arc<Activator>) -> Result<(), Error> {
    let confirmed = Confirmed::start(Arc::clone(activator));
    let publisher = Publisher::open(&activator.broker, &[crate::dispatcher::EXCHANGE]).await?;
    let mut dispatcher = Dispatcher::new(Arc::clone(activator), publisher, confirmed.clone());
    loop {
        if !dispatcher.round(Duration::ZERO).await?.more {
            break;
        }
    }
    let failed = dispatcher.end().await;
    confirmed.end().await;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_look_ahead_or_of_the_time_is_left_for_being_late() {
        for (until_due, expected) in [(0, 0), (1, 0), (200, 100), (1_000, 500), (1_600, 1_100), (60_000, 59_500)] {
            assert_eq!(until_round(Duration::from_millis(until_due)).as_millis(), expected, "{until_due}");
        }
    }
}
