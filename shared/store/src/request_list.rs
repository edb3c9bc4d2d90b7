use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde_json::Value;
use sqlx::{Row, postgres::PgRow};

use crate::{Page, Result, Store};

/// A request as it was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedRequest {
    /// Its number; a later one has a greater one.
    pub id: i64,
    /// Where it came from: a queue's name, or `api:` and the first part of a key.
    pub source: String,
    /// What tells it from every other of its source.
    pub message_id: String,
    /// When.
    pub received_at: Timestamp,
    /// The process that it named, if that could be read.
    pub process: Option<String>,
    /// `start` or `stop`, if that could be read.
    pub action: Option<String>,
    /// `accepted`, `ignored` or `rejected`.
    pub outcome: String,
    /// `[{"field": .., "message": ..}]`, if it was not accepted.
    pub reasons: Option<Value>,
    /// The run that a start began.
    pub run: Option<i32>,
    /// The notifications that a start made, in their order; empty in a list of requests.
    pub notifications: Vec<i64>,
    /// The bytes as they came.
    pub body: Vec<u8>,
}

/// Which requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestFilter<'a> {
    /// `accepted`, `ignored` or `rejected`.
    pub outcome: Option<&'a str>,
    /// Of one process, by its name.
    pub process: Option<&'a str>,
}

const ONE: &str = "
SELECT r.id, r.source, r.message_id, r.received_at, r.process_name, r.action, r.outcome, r.reasons, r.run, r.body,
    ARRAY(SELECT c.notification_id FROM notification_content c WHERE c.request_id = r.id ORDER BY 1) AS notifications
FROM request r WHERE r.id = $1";

const NAMED: &str = "
SELECT r.id, r.source, r.message_id, r.received_at, r.process_name, r.action, r.outcome, r.reasons, r.run, r.body,
    ARRAY(SELECT c.notification_id FROM notification_content c WHERE c.request_id = r.id ORDER BY 1) AS notifications
FROM request r WHERE r.source = $1 AND r.message_id = ANY($2)";

// The partial index serves what was not accepted; the process's own index serves a process.
const LIST: &str = "
SELECT r.id, r.source, r.message_id, r.received_at, r.process_name, r.action, r.outcome, r.reasons, r.run, r.body,
    NULL::bigint[] AS notifications
FROM request r
WHERE ($1::bigint IS NULL OR r.id < $1)
    AND ($2::text IS NULL OR r.outcome = $2)
    AND ($2::text IS NULL OR $2 = 'accepted' OR r.outcome <> 'accepted')
    AND ($3::text IS NULL OR r.process_id = (SELECT id FROM process WHERE organisation = 'main' AND name = $3))
ORDER BY r.id DESC LIMIT $4";

// A key that was used within a day leads to the same request; an older one is free again.
const IDEMPOTENCY: &str = "
WITH used AS (
    INSERT INTO idempotency_key (source, key, message_id, used_at)
    VALUES ($1, $2, $2 || ' ' || extract(epoch FROM tocsin_now()), tocsin_now())
    ON CONFLICT (source, key) DO UPDATE SET message_id = excluded.message_id, used_at = excluded.used_at
        WHERE idempotency_key.used_at < tocsin_now() - interval '24 hours'
    RETURNING message_id
)
SELECT message_id FROM used
UNION ALL
SELECT message_id FROM idempotency_key WHERE source = $1 AND key = $2 AND NOT EXISTS (SELECT FROM used)";

impl Store {
    /// Requests, the newest first.
    pub async fn request_list(&self, filter: RequestFilter<'_>, page: Page) -> Result<Vec<RecordedRequest>> {
        let list = || {
            let query = sqlx::query(LIST).bind(page.before).bind(filter.outcome).bind(filter.process);
            query.bind(page.limit)
        };
        self.fetch_all(list).await?.iter().map(recorded).collect()
    }

    /// One request, by its number.
    pub async fn request(&self, id: i64) -> Result<Option<RecordedRequest>> {
        self.fetch_all(|| sqlx::query(ONE).bind(id)).await?.first().map(recorded).transpose()
    }

    /// Requests by where they came from and their names there, in no order.
    pub async fn requests_named(&self, source: &str, message_ids: &[&str]) -> Result<Vec<RecordedRequest>> {
        let rows = self.fetch_all(|| sqlx::query(NAMED).bind(source).bind(message_ids)).await?;
        rows.iter().map(recorded).collect()
    }

    /// The message id of the request that a sender's idempotency key leads to: the same for a day.
    pub async fn idempotency_key_use(&self, source: &str, key: &str) -> Result<String> {
        // Somebody else may have been quicker, whom the first look could not see yet.
        for _ in 0..2 {
            let rows = self.fetch_all(|| sqlx::query(IDEMPOTENCY).bind(source).bind(key)).await?;
            if let Some(row) = rows.first() {
                return Ok(row.try_get("message_id")?);
            }
        }
        Err(sqlx::Error::RowNotFound.into())
    }
}

fn recorded(row: &PgRow) -> Result<RecordedRequest> {
    Ok(RecordedRequest {
        id: row.try_get("id")?,
        source: row.try_get("source")?,
        message_id: row.try_get("message_id")?,
        received_at: row.try_get::<SqlTimestamp, _>("received_at")?.to_jiff(),
        process: row.try_get("process_name")?,
        action: row.try_get("action")?,
        outcome: row.try_get("outcome")?,
        reasons: row.try_get("reasons")?,
        run: row.try_get("run")?,
        notifications: row.try_get::<Option<Vec<i64>>, _>("notifications")?.unwrap_or_default(),
        body: row.try_get("body")?,
    })
}
