use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use sqlx::{Row, postgres::PgRow};

use crate::{Result, Store};

/// What became of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// `accepted`, `ignored` or `rejected`.
    pub outcome: String,
    /// Why, if it was not accepted: `[{"field": .., "message": ..}]`.
    pub reasons: Option<serde_json::Value>,
}

/// Where a notification stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationRecord {
    /// Which.
    pub id: i64,
    /// Its channel.
    pub channel: String,
    /// Its state, by name.
    pub state: String,
    /// Why it failed, was cancelled, or came back from the broker.
    pub reason: Option<String>,
    /// When the next call may begin.
    pub due_at: Timestamp,
    /// Who has claimed it last.
    pub claimed_by: Option<String>,
}

/// One call, or a claim of which nobody can tell whether a call was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Of which notification.
    pub notification: i64,
    /// The claim's number.
    pub number: i32,
    /// What came of it, by name.
    pub outcome: String,
    /// The provider's id of what it accepted.
    pub provider_id: Option<String>,
    /// What the provider said.
    pub detail: Option<String>,
    /// Who made it.
    pub worker: Option<String>,
}

/// All that is known of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessHistory {
    /// Its requests, in their order.
    pub requests: Vec<RequestRecord>,
    /// Its notifications, in their order.
    pub notifications: Vec<NotificationRecord>,
    /// Their attempts, in their order.
    pub attempts: Vec<AttemptRecord>,
}

const REQUESTS: &str = "
SELECT r.outcome, r.reasons FROM process p JOIN request r ON r.process_id = p.id
WHERE p.organisation = 'main' AND p.name = $1 ORDER BY r.id";

const NOTIFICATIONS: &str = "
SELECT n.id, n.channel, n.state::text, n.reason, n.due_at, n.claimed_by
FROM process p
JOIN request r ON r.process_id = p.id
JOIN notification_content c ON c.request_id = r.id
JOIN notification n ON n.id = c.notification_id
WHERE p.organisation = 'main' AND p.name = $1 ORDER BY n.id";

const ATTEMPTS: &str = "
SELECT a.notification_id, a.number, a.outcome, a.provider_id, a.detail, a.worker
FROM attempt a WHERE a.notification_id = ANY($1) ORDER BY a.notification_id, a.number";

impl Store {
    /// All that is known of a process by its name.
    pub async fn process_history(&self, process: &str) -> Result<ProcessHistory> {
        let requests = self.fetch_all(|| sqlx::query(REQUESTS).bind(process)).await?;
        let requests: Result<Vec<_>> = requests
            .iter()
            .map(|row| Ok(RequestRecord { outcome: row.try_get("outcome")?, reasons: row.try_get("reasons")? }))
            .collect();
        let notifications = self.fetch_all(|| sqlx::query(NOTIFICATIONS).bind(process)).await?;
        let notifications: Vec<_> = notifications.iter().map(notification).collect::<Result<_>>()?;
        let ids: Vec<i64> = notifications.iter().map(|notification| notification.id).collect();
        let attempts = self.fetch_all(|| sqlx::query(ATTEMPTS).bind(&ids)).await?;
        let attempts = attempts.iter().map(attempt).collect::<Result<_>>()?;
        Ok(ProcessHistory { requests: requests?, notifications, attempts })
    }
}

fn notification(row: &PgRow) -> Result<NotificationRecord> {
    Ok(NotificationRecord {
        id: row.try_get("id")?,
        channel: row.try_get("channel")?,
        state: row.try_get("state")?,
        reason: row.try_get("reason")?,
        due_at: row.try_get::<SqlTimestamp, _>("due_at")?.to_jiff(),
        claimed_by: row.try_get("claimed_by")?,
    })
}

fn attempt(row: &PgRow) -> Result<AttemptRecord> {
    Ok(AttemptRecord {
        notification: row.try_get("notification_id")?,
        number: row.try_get("number")?,
        outcome: row.try_get("outcome")?,
        provider_id: row.try_get("provider_id")?,
        detail: row.try_get("detail")?,
        worker: row.try_get("worker")?,
    })
}
