use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use domain::{NotificationId, OnUnknown};
use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use sqlx::{Row, postgres::PgRow, types::Json};

use crate::{Error, Result, Store};

/// What a worker asks for.
#[derive(Debug)]
pub struct ClaimRequest<'a> {
    /// The worker's channel: an id of another one is not claimed.
    pub channel: &'a str,
    /// The worker's name and the claim's number, for the history: no other claim has both.
    pub worker: &'a str,
    /// Whom it would call.
    pub ids: &'a [NotificationId],
    /// How long the claim lasts: the call's time limit and then some.
    pub lease: Duration,
    /// A property to read along, so that a change of it is seen at the very next claim.
    pub property: Option<&'a str>,
}

/// A notification that this worker, and no other, may call now.
#[derive(Debug)]
pub struct Claim {
    /// Which.
    pub id: NotificationId,
    /// The claim's number: the record must show it.
    pub fence: i32,
    /// Its process's name.
    pub process: String,
    /// The process's run.
    pub run: i32,
    /// Calls that cost an attempt, so far.
    pub attempts: u16,
    /// How many of those there may be.
    pub max_attempts: u16,
    /// Calls that cost none, so far: so often it was refused for now.
    pub refusals: u16,
    /// What to do when nobody can tell.
    pub on_unknown: OnUnknown,
    /// When the request wanted it.
    pub scheduled_at: Timestamp,
    /// Whom, where the channel has addresses.
    pub address: Option<String>,
    /// The channel's further keys.
    pub options: Options,
    /// When it was claimed, by the database's clock.
    pub claimed_at: Timestamp,
}

/// A channel's further keys, each value as it was written. Who wants one reads it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Options(BTreeMap<String, Box<RawValue>>);

impl Options {
    /// The value of a key, if it was given.
    pub fn get(&self, key: &str) -> Option<Value> {
        serde_json::from_str(self.raw(key)?.get()).ok()
    }

    /// The same as it was written.
    pub fn raw(&self, key: &str) -> Option<&RawValue> {
        self.0.get(key).map(Box::as_ref)
    }
}

impl Claim {
    /// The text of one of the channel's further keys, if it was given.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.options.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The same for every try of this notification and for no other's: what a receiver can tell repetitions by. It
    /// holds the time too, since ids begin anew with a new database.
    pub fn idempotency_key(&self) -> String {
        format!("{}-{}", self.id, self.scheduled_at.as_microsecond())
    }
}

/// A notification whose max-age was over when it was to be claimed. It has failed.
#[derive(Debug)]
pub struct Expired {
    /// Which.
    pub id: NotificationId,
}

/// What a worker got.
#[derive(Debug)]
pub struct ClaimBatch {
    /// The database's time of the claim.
    pub now: Timestamp,
    /// The property that was asked for, if it exists.
    pub property: Option<Value>,
    /// Somebody has paused the channel: nothing of it can be claimed.
    pub paused: bool,
    /// May be called now.
    pub claims: Vec<Claim>,
    /// Too old.
    pub expired: Vec<Expired>,
}

// The guard stands in the update itself: a state that was read before the lock was had lets a claim pass after a stop. From the
// other table nothing is decided. `wake_at` is hardly ever later than the end of the claim, and so stays as it is: an update
// that touches no index is cheap.
const CLAIM: &str = "
UPDATE notification n SET
    state = CASE
        WHEN n.expires_at <= tocsin_now() THEN 'failed'::notification_state ELSE 'sending'::notification_state
    END,
    fence = n.fence + CASE WHEN n.expires_at <= tocsin_now() THEN 0 ELSE 1 END,
    wake_at = CASE
        WHEN n.expires_at > tocsin_now() THEN least(n.wake_at, tocsin_now() + $4 * interval '1 second')
    END,
    busy_until = CASE WHEN n.expires_at > tocsin_now() THEN tocsin_now() + $4 * interval '1 second' END,
    claimed_at = CASE WHEN n.expires_at <= tocsin_now() THEN n.claimed_at ELSE tocsin_now() END,
    claimed_by = CASE WHEN n.expires_at <= tocsin_now() THEN n.claimed_by ELSE $3 END,
    confirmed_at = NULL,
    finished_at = CASE WHEN n.expires_at <= tocsin_now() THEN tocsin_now() END,
    open_failure_at = CASE WHEN n.expires_at <= tocsin_now() THEN tocsin_now() END,
    reason = CASE WHEN n.expires_at <= tocsin_now() THEN 'max-age was over before it could be sent' END
FROM notification_content c
WHERE n.id = ANY($1) AND n.channel = $2 AND n.state IN ('queued', 'retrying')
    AND (n.due_at <= tocsin_now() OR n.expires_at <= tocsin_now())
    AND NOT EXISTS (SELECT FROM channel_pause WHERE channel IN ($2, 'all'))
    AND c.notification_id = n.id
RETURNING tocsin_now() AS now, n.id, n.state = 'failed' AS is_expired, n.fence, n.attempts, n.max_attempts,
    n.refusals, n.on_unknown_fail, n.scheduled_at, c.run, c.process_name, c.address, c.options";

const NOTHING_CLAIMED: &str = "
SELECT tocsin_now() AS now, EXISTS (SELECT FROM channel_pause WHERE channel IN ($1, 'all')) AS paused";

const RELEASE: &str = "
UPDATE notification n SET
    state = (CASE WHEN n.stop_requested THEN 'cancelled' ELSE 'retrying' END)::notification_state,
    due_at = tocsin_now() + $3 * interval '1 microsecond',
    wake_at = CASE WHEN NOT n.stop_requested THEN tocsin_now() + $4 * interval '1 microsecond' END,
    busy_until = NULL,
    finished_at = CASE WHEN n.stop_requested THEN tocsin_now() END,
    reason = CASE WHEN n.stop_requested THEN 'stopped before it was sent' END
FROM unnest($1::bigint[], $2::int[]) AS x(id, fence)
WHERE n.id = x.id AND n.fence = x.fence AND n.state = 'sending'";

const ABANDON: &str = "
UPDATE notification n SET
    state = (CASE WHEN n.stop_requested THEN 'cancelled' ELSE 'retrying' END)::notification_state,
    wake_at = CASE WHEN NOT n.stop_requested THEN tocsin_now() + $3 * interval '1 microsecond' END,
    busy_until = NULL,
    finished_at = CASE WHEN n.stop_requested THEN tocsin_now() END,
    reason = CASE WHEN n.stop_requested THEN 'stopped before it was sent' END
FROM unnest($1::bigint[]) AS x(id)
WHERE n.id = x.id AND n.claimed_by = $2 AND n.state = 'sending'";

const WAITING: &str = "
SELECT n.id, n.due_at FROM unnest($1::bigint[]) AS x(id) JOIN notification n ON n.id = x.id
WHERE n.channel = $2 AND n.state IN ('queued', 'retrying')
    AND EXISTS (SELECT FROM notification_content c WHERE c.notification_id = n.id)";

const UNLOCKED: &str = "
WITH unlocked AS MATERIALIZED (
    SELECT id FROM notification WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
)
SELECT id FROM unlocked
UNION ALL
SELECT x.id FROM unnest($1) AS x(id) WHERE NOT EXISTS (SELECT FROM notification n WHERE n.id = x.id)";

/// How long a worker that released may take to claim again, before the activator publishes once more.
const RELEASED_GRACE: Duration = Duration::from_secs(60);

impl Store {
    /// Claims what may be called now, and fails what is too old. What is not due, not queued, or held by another
    /// worker is left alone, and is not in the answer. An error of [`Disposition::TooMuch`](crate::Disposition::TooMuch) has
    /// claimed nothing: somebody has locked one of them.
    pub async fn notifications_claim(&self, request: ClaimRequest<'_>) -> Result<ClaimBatch> {
        let ids = sorted(request.ids);
        let property = match request.property {
            Some(key) => self.property(key).await?,
            None => None,
        };
        let mut sent = Instant::now();
        let rows = self
            .fetch_all(|| {
                let query = sqlx::query(CLAIM).bind(&ids).bind(request.channel).bind(request.worker);
                query.bind(request.lease.as_secs_f64())
            })
            .await?;
        let (now, paused) = match rows.first() {
            Some(row) => (row.try_get::<SqlTimestamp, _>("now")?, false),
            None => {
                sent = Instant::now();
                let rows = self.fetch_all(|| sqlx::query(NOTHING_CLAIMED).bind(request.channel)).await?;
                let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
                (row.try_get("now")?, row.try_get("paused")?)
            }
        };
        let now = now.to_jiff();
        self.clock.learn(sent, now);
        let mut batch = ClaimBatch { now, property, paused, claims: Vec::new(), expired: Vec::new() };
        for row in &rows {
            if row.try_get("is_expired")? {
                batch.expired.push(Expired { id: NotificationId(row.try_get("id")?) });
            } else {
                batch.claims.push(claim(row, now)?);
            }
        }
        Ok(batch)
    }

    /// Gives claims back without a call; they may be claimed again after `delay`. With no delay the caller is
    /// expected to do that itself; otherwise the activator publishes them again.
    pub async fn notifications_release(&self, claims: &[(NotificationId, i32)], delay: Duration) -> Result<()> {
        let mut claims = claims.to_vec();
        claims.sort_unstable();
        let wake = if delay.is_zero() { RELEASED_GRACE } else { delay };
        let ids: Vec<_> = claims.iter().map(|(id, _)| id.0).collect();
        let fences: Vec<_> = claims.iter().map(|(_, fence)| *fence).collect();
        self.execute(|| {
            let query = sqlx::query(RELEASE).bind(&ids).bind(&fences);
            query.bind(delay.as_micros() as f64).bind(wake.as_micros() as f64)
        })
        .await
    }

    /// Gives back what a claim may have got whose answer was lost. `worker` is the name that the claim was made with,
    /// which no other claim has.
    pub async fn claim_abandon(&self, worker: &str, ids: &[NotificationId]) -> Result<()> {
        let ids = sorted(ids);
        let grace = RELEASED_GRACE.as_micros() as f64;
        self.execute(|| sqlx::query(ABANDON).bind(&ids).bind(worker).bind(grace)).await
    }

    /// Of these the ones of a channel that are waiting to be claimed, and when they may be.
    pub async fn notifications_waiting(
        &self,
        channel: &str,
        ids: &[NotificationId],
    ) -> Result<Vec<(NotificationId, Timestamp)>> {
        let ids = sorted(ids);
        let rows = self.fetch_all(|| sqlx::query(WAITING).bind(&ids).bind(channel)).await?;
        let waiting =
            |row: &PgRow| Ok((NotificationId(row.try_get("id")?), row.try_get::<SqlTimestamp, _>("due_at")?.to_jiff()));
        rows.iter().map(waiting).collect()
    }

    /// Of these the ones whose rows nobody has locked at this moment, or that have none: a statement of those alone waits for
    /// nobody.
    pub async fn notifications_unlocked(&self, ids: &[NotificationId]) -> Result<HashSet<NotificationId>> {
        let ids = sorted(ids);
        let rows = self.fetch_all(|| sqlx::query(UNLOCKED).bind(&ids)).await?;
        rows.iter().map(|row| Ok(NotificationId(row.try_get("id")?))).collect()
    }
}

/// In the order in which every statement locks rows, each once.
pub(crate) fn sorted(ids: &[NotificationId]) -> Vec<i64> {
    let mut ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn claim(row: &PgRow, claimed_at: Timestamp) -> Result<Claim> {
    let id: i64 = row.try_get("id")?;
    let count = |column: &'static str| -> Result<u16> {
        let count: i16 = row.try_get(column)?;
        u16::try_from(count).map_err(|error| Error::Row {
            table: "notification",
            column,
            id,
            problem: error.to_string(),
        })
    };
    let options: Json<Options> = row.try_get("options").map_err(|error| Error::Row {
        table: "notification_content",
        column: "options",
        id,
        problem: error.to_string(),
    })?;
    Ok(Claim {
        id: NotificationId(id),
        fence: row.try_get("fence")?,
        process: row.try_get("process_name")?,
        run: row.try_get("run")?,
        attempts: count("attempts")?,
        max_attempts: count("max_attempts")?,
        refusals: count("refusals")?,
        on_unknown: if row.try_get("on_unknown_fail")? { OnUnknown::Fail } else { OnUnknown::Retry },
        scheduled_at: row.try_get::<SqlTimestamp, _>("scheduled_at")?.to_jiff(),
        address: row.try_get("address")?,
        options: options.0,
        claimed_at,
    })
}
