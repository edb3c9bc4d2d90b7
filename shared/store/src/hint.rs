use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use sqlx::{
    Executor,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use crate::{Error, Result, Store};

/// The channel of all hints.
const DUE_HINT: &str = "tocsin_due";

/// What a hint says that is of a schedule. Any other holds the microseconds of the due time.
const SCHEDULE_HINT: &str = "schedule";

/// After so long without a hint the server is asked whether it is still there.
const QUIET: Duration = Duration::from_secs(10);

/// How long its answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Hints that something is due soon.
pub struct DueHints {
    listener: PgListener,
}

/// What may be due sooner than was thought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueHint {
    /// A notification, at this time.
    Notification(Timestamp),
    /// A schedule's next occurrence.
    Schedule,
}

impl DueHint {
    /// What can't be read is taken to be due at once.
    fn read(payload: &str) -> Self {
        if payload == SCHEDULE_HINT {
            return Self::Schedule;
        }
        let due_at = payload.parse().ok().and_then(|microsecond| Timestamp::from_microsecond(microsecond).ok());
        Self::Notification(due_at.unwrap_or(Timestamp::MIN))
    }
}

impl DueHints {
    /// Waits for the next one. An error as well where the server has fallen silent: on this connection nothing is ever sent, so
    /// nobody would notice.
    pub async fn next(&mut self) -> Result<DueHint> {
        loop {
            if let Ok(hint) = timeout(QUIET, self.listener.recv()).await {
                return Ok(DueHint::read(hint?.payload()));
            }
            timeout(PATIENCE, self.listener.execute("SELECT")).await.map_err(|_| Error::Silence)??;
        }
    }
}

impl Store {
    /// Listens for hints that something is due soon. The listener connects again by itself; a hint may be lost, and
    /// must not be relied on.
    pub async fn listen_for_due_hints(&self) -> Result<DueHints> {
        let options = PgConnectOptions::clone(&self.connections.options());
        // Of its own: a listener leaves a connection that has fallen silent to its pool.
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
        let listening = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(DUE_HINT).await?;
            Ok(DueHints { listener })
        };
        timeout(PATIENCE, listening).await.map_err(|_| Error::Silence)?
    }

    /// Tells every activator that a notification is due soon, and when.
    pub async fn hint_due(&self, due_at: Timestamp) -> Result<()> {
        self.hint(&due_at.as_microsecond().to_string()).await
    }

    /// Tells every activator that a schedule has changed.
    pub async fn hint_schedule(&self) -> Result<()> {
        self.hint(SCHEDULE_HINT).await
    }

    async fn hint(&self, payload: &str) -> Result<()> {
        self.execute(|| sqlx::query("SELECT pg_notify($1, $2)").bind(DUE_HINT).bind(payload)).await
    }
}

/// The earliest of the due times of which nobody was told yet.
#[derive(Debug, Default)]
pub struct EarliestDue {
    earliest: Mutex<Option<Timestamp>>,
    added: Notify,
}

impl EarliestDue {
    /// One more.
    pub fn add(&self, due_at: Timestamp) {
        let mut earliest = self.earliest.lock().unwrap_or_else(PoisonError::into_inner);
        *earliest = Some(earliest.map_or(due_at, |earliest| earliest.min(due_at)));
        self.added.notify_one();
    }

    /// Waits for one, and then for more, no longer than `patience` says of any of them; takes them all, and answers the
    /// earliest. Dropped half way, it forgets them.
    pub async fn gather(&self, patience: impl Fn(Timestamp) -> Duration) -> Timestamp {
        let mut earliest = self.take().await;
        let mut until = Instant::now() + patience(earliest);
        // A timer would take a millisecond even for a time that is over.
        while until > Instant::now() {
            tokio::select! {
                () = sleep_until(until) => {}
                due_at = self.take() => {
                    earliest = earliest.min(due_at);
                    until = until.min(Instant::now() + patience(due_at));
                }
            }
        }
        earliest
    }

    async fn take(&self) -> Timestamp {
        loop {
            if let Some(earliest) = self.earliest.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return earliest;
            }
            self.added.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, pin::pin};

    use futures_util::FutureExt;

    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_hint_says_when_and_what_cannot_be_read_is_due_at_once() {
        assert_eq!(DueHint::read("1500000"), DueHint::Notification(Timestamp::from_millisecond(1_500).unwrap()));
        assert_eq!(DueHint::read(SCHEDULE_HINT), DueHint::Schedule);
        for unreadable in ["", "soon", "9223372036854775807"] {
            assert_eq!(DueHint::read(unreadable), DueHint::Notification(Timestamp::MIN));
        }
    }

    #[tokio::test]
    async fn what_is_due_later_waits_for_more_and_what_is_due_at_once_does_not() {
        let due = EarliestDue::default();
        let (tomorrow, later) = (second(86_400), second(90_000));
        let patiences = HashMap::from([(Timestamp::MIN, Duration::ZERO), (tomorrow, Duration::from_millis(20))]);
        let patience = |due_at| patiences.get(&due_at).copied().unwrap_or(Duration::from_hours(1));
        let mut gathering = pin!(due.gather(patience));
        due.add(later);
        assert_eq!(gathering.as_mut().now_or_never(), None);
        due.add(Timestamp::MIN);
        assert_eq!(gathering.as_mut().now_or_never(), Some(Timestamp::MIN));

        let mut gathering = pin!(due.gather(patience));
        due.add(tomorrow);
        let begin = Instant::now();
        assert_eq!(gathering.as_mut().now_or_never(), None);
        due.add(later);
        assert_eq!(gathering.await, tomorrow);
        assert!(begin.elapsed() >= Duration::from_millis(20));
        assert_eq!(due.gather(patience).now_or_never(), None, "all were taken");
    }
}
