use std::{sync::Arc, time::Duration};

use store::{DROPPED_AT_ONCE, Store};

use crate::Activator;

/// How long to leave the database alone after all that is old was dropped, or when it was away.
const INTERVAL: Duration = Duration::from_secs(60);

/// How long to leave it alone between two batches, so that they never make up most of its work.
const BREATH: Duration = Duration::from_millis(100);

/// What is over, and old.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Notifications,
    Requests,
    DeadLetters,
    IdempotencyKeys,
    Sessions,
}

impl Kind {
    /// Notifications before their requests.
    const ALL: [Self; 5] =
        [Self::Notifications, Self::Requests, Self::DeadLetters, Self::IdempotencyKeys, Self::Sessions];

    fn name(self) -> &'static str {
        match self {
            Self::Notifications => "notifications",
            Self::Requests => "requests",
            Self::DeadLetters => "dead_letters",
            Self::IdempotencyKeys => "idempotency_keys",
            Self::Sessions => "sessions",
        }
    }
}

/// Drops what is over and old, again and again, until the program stops. Several activators do no harm to each other.
pub(crate) async fn keep_dropping(activator: Arc<Activator>) {
    loop {
        drop_old(&activator).await;
        if !activator.lifecycle.pause(INTERVAL).await {
            return;
        }
    }
}

/// Drops what is over and old now, unless the program is told to stop before its end.
pub(crate) async fn drop_old(activator: &Activator) {
    for kind in Kind::ALL {
        match drop_kind(activator, kind).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(event = "dropped", what = kind.name(), count, "was over, and old"),
            Err(error) => {
                tracing::warn!(event = "drop_failed", what = kind.name(), %error, "it is tried again");
                return;
            }
        }
    }
}

async fn drop_kind(activator: &Activator, kind: Kind) -> store::Result<i64> {
    let (mut total, mut after) = (0, Some(0));
    while let Some(begin) = after {
        let (dropped, next) = batch(&activator.store, kind, activator.retention_days, begin).await?;
        metrics::counter!("tocsin_dropped_total", "what" => kind.name()).increment(dropped.unsigned_abs());
        total += dropped;
        after = next;
        if after.is_some() && !activator.lifecycle.pause(BREATH).await {
            break;
        }
    }
    Ok(total)
}

/// How many were dropped, and where to go on, if there may be more.
async fn batch(store: &Store, kind: Kind, days: u16, after: i64) -> store::Result<(i64, Option<i64>)> {
    let dropped = match kind {
        Kind::Notifications => store.notifications_drop(days).await?,
        Kind::Requests => return store.requests_drop(after, days).await,
        Kind::DeadLetters => store.dead_letters_drop(days).await?,
        Kind::IdempotencyKeys => store.idempotency_keys_drop().await?,
        Kind::Sessions => return Ok((store.sessions_drop().await?, None)),
    };
    Ok((dropped, (dropped == DROPPED_AT_ONCE).then_some(0)))
}
