use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use sqlx::{Row, postgres::PgRow};

use crate::{AuditRecord, Result, Store, audit};

/// Something that happened, for those who watch.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// A request was recorded.
    Request {
        /// Its number.
        id: i64,
        /// When.
        at: Timestamp,
        /// The process that it names, if that could be read.
        process: Option<String>,
        /// `start` or `stop`, if that could be read.
        action: Option<String>,
        /// `accepted`, `ignored` or `rejected`.
        outcome: String,
    },
    /// A notification came to its end.
    Notification {
        /// Its number.
        id: i64,
        /// When.
        at: Timestamp,
        /// Its process's name.
        process: String,
        /// Its channel.
        channel: String,
        /// Its state, by name.
        state: String,
        /// Why it failed or was cancelled.
        reason: Option<String>,
    },
    /// Somebody changed something.
    Audit(AuditRecord),
}

// Numbers are given out before a transaction commits, and times too, so the last of each are looked at once more.
const REQUESTS: &str = "
SELECT id, received_at, process_name, action, outcome FROM request
WHERE id > (SELECT coalesce(max(id), 0) FROM request) - 200 AND received_at > tocsin_now() - interval '10 seconds'
ORDER BY id";

const FINISHED: &str = "
SELECT n.id, n.finished_at AS at, p.name AS process, n.channel, n.state::text AS state, n.reason
FROM notification n JOIN process p ON p.id = n.process_id
WHERE n.finished_at IS NOT NULL AND n.finished_at > tocsin_now() - interval '10 seconds'
ORDER BY n.finished_at DESC, n.id DESC LIMIT 500";

const AUDIT: &str = "
SELECT id, at, actor, action, object, before, after FROM audit
WHERE id > (SELECT coalesce(max(id), 0) FROM audit) - 200 AND at > tocsin_now() - interval '10 seconds' ORDER BY id";

impl Store {
    /// What happened in the last ten seconds, without order; at most 200 requests, 500 ends of notifications and 200
    /// changes. Who asks every second sees each several times.
    pub async fn happenings(&self) -> Result<Vec<Happening>> {
        let mut all = Vec::new();
        for row in &self.fetch_all(|| sqlx::query(REQUESTS)).await? {
            all.push(request(row)?);
        }
        for row in self.fetch_all(|| sqlx::query(FINISHED)).await?.iter().rev() {
            all.push(notification(row)?);
        }
        for row in &self.fetch_all(|| sqlx::query(AUDIT)).await? {
            all.push(Happening::Audit(audit::record(row)?));
        }
        Ok(all)
    }
}

fn request(row: &PgRow) -> Result<Happening> {
    Ok(Happening::Request {
        id: row.try_get("id")?,
        at: row.try_get::<SqlTimestamp, _>("received_at")?.to_jiff(),
        process: row.try_get("process_name")?,
        action: row.try_get("action")?,
        outcome: row.try_get("outcome")?,
    })
}

fn notification(row: &PgRow) -> Result<Happening> {
    Ok(Happening::Notification {
        id: row.try_get("id")?,
        at: row.try_get::<SqlTimestamp, _>("at")?.to_jiff(),
        process: row.try_get("process")?,
        channel: row.try_get("channel")?,
        state: row.try_get("state")?,
        reason: row.try_get("reason")?,
    })
}
