use sqlx::Row;

use crate::{Result, Store};

/// The most that one statement drops, so that it ends soon.
pub const DROPPED_AT_ONCE: i64 = 500;

/// SQS keeps a message for 14 days, and may hand it out again as long: until then its request must be known.
const REQUEST_DAYS: u16 = 15;

// Whoever tries one again at this moment is not waited for: it is not over any more.
const NOTIFICATIONS: &str = "
WITH old AS MATERIALIZED (
    SELECT id FROM notification WHERE finished_at < tocsin_now() - make_interval(days => $1)
    ORDER BY finished_at, id LIMIT $2 FOR UPDATE SKIP LOCKED
), attempts AS (
    DELETE FROM attempt a USING old WHERE a.notification_id = old.id
), contents AS (
    DELETE FROM notification_content c USING old WHERE c.notification_id = old.id
), dropped AS (
    DELETE FROM notification n USING old WHERE n.id = old.id RETURNING n.id
)
SELECT count(*) FROM dropped";

// Requests came in the order of their ids, so the walk ends at the first that is too young.
const REQUESTS: &str = "
WITH walked AS MATERIALIZED (
    SELECT id, received_at FROM request WHERE id > $1 ORDER BY id LIMIT $2
), old AS MATERIALIZED (
    SELECT id FROM walked WHERE received_at < tocsin_now() - make_interval(days => $3)
), dropped AS (
    DELETE FROM request r USING old
    WHERE r.id = old.id AND NOT EXISTS (SELECT FROM notification_content c WHERE c.request_id = old.id)
    RETURNING r.id
)
SELECT (SELECT count(*) FROM dropped) AS dropped,
    CASE WHEN (SELECT count(*) FROM old) = $2 THEN (SELECT max(id) FROM old) END AS last";

const DEAD_LETTERS: &str = "
WITH old AS MATERIALIZED (SELECT id, received_at FROM dead_letter ORDER BY id LIMIT $2), dropped AS (
    DELETE FROM dead_letter d USING old
    WHERE d.id = old.id AND old.received_at < tocsin_now() - make_interval(days => $1) RETURNING d.id
)
SELECT count(*) FROM dropped";

// After a day a key is free again, so nobody misses it.
const IDEMPOTENCY_KEYS: &str = "
WITH old AS MATERIALIZED (
    SELECT source, key FROM idempotency_key WHERE used_at < tocsin_now() - interval '1 day' ORDER BY used_at LIMIT $1
), dropped AS (
    DELETE FROM idempotency_key k USING old
    WHERE k.source = old.source AND k.key = old.key AND k.used_at < tocsin_now() - interval '1 day'
    RETURNING k.used_at
)
SELECT count(*) FROM dropped";

const SESSIONS: &str = "
WITH dropped AS (DELETE FROM session WHERE expires_at <= tocsin_now() RETURNING expires_at)
SELECT count(*) FROM dropped";

impl Store {
    /// Drops notifications that were finished more than so many days ago, with their contents and attempts: the oldest
    /// first, up to [`DROPPED_AT_ONCE`]. Answers how many.
    pub async fn notifications_drop(&self, days: u16) -> Result<i64> {
        self.dropped(|| sqlx::query(NOTIFICATIONS).bind(i32::from(days)).bind(DROPPED_AT_ONCE)).await
    }

    /// Drops requests, each of them looked at, that were received more than so many days ago, and more than 15, and have
    /// no notification any more. Looks at up to [`DROPPED_AT_ONCE`] after the one with this id. Answers how many were
    /// dropped, and the last that was looked at, if more that are as old may follow.
    pub async fn requests_drop(&self, after: i64, days: u16) -> Result<(i64, Option<i64>)> {
        let days = i32::from(days.max(REQUEST_DAYS));
        let rows = self.fetch_all(|| sqlx::query(REQUESTS).bind(after).bind(DROPPED_AT_ONCE).bind(days)).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok((row.try_get("dropped")?, row.try_get("last")?))
    }

    /// Drops dead letters that were received more than so many days ago, up to [`DROPPED_AT_ONCE`]. Answers how many.
    pub async fn dead_letters_drop(&self, days: u16) -> Result<i64> {
        self.dropped(|| sqlx::query(DEAD_LETTERS).bind(i32::from(days)).bind(DROPPED_AT_ONCE)).await
    }

    /// Drops idempotency keys that are free again, up to [`DROPPED_AT_ONCE`]. Answers how many.
    pub async fn idempotency_keys_drop(&self) -> Result<i64> {
        self.dropped(|| sqlx::query(IDEMPOTENCY_KEYS).bind(DROPPED_AT_ONCE)).await
    }

    /// Drops sessions that have expired. Answers how many.
    pub async fn sessions_drop(&self) -> Result<i64> {
        self.dropped(|| sqlx::query(SESSIONS)).await
    }

    async fn dropped<'q>(&self, statement: impl Fn() -> crate::pool::Statement<'q>) -> Result<i64> {
        let rows = self.fetch_all(statement).await?;
        Ok(rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?)
    }
}
