use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use sqlx::Row;

use crate::{Result, Store};

/// A notification that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcoming {
    /// Its number.
    pub id: i64,
    /// Its process, by name.
    pub process: String,
    /// Its channel.
    pub channel: String,
    /// When its next call may begin.
    pub due_at: Timestamp,
}

/// How late the first calls were of what came to its end within one minute.
#[derive(Debug, Clone, PartialEq)]
pub struct MinuteLateness {
    /// The beginning of the minute.
    pub minute: Timestamp,
    /// Of how many.
    pub count: i64,
    /// Half of them were no later, in seconds.
    pub p50: f64,
    /// 99 of 100 were no later.
    pub p99: f64,
}

// Channel by channel, as the index has them.
const UPCOMING: &str = "
SELECT d.* FROM unnest($1::text[]) c (channel) CROSS JOIN LATERAL (
    SELECT n.id, p.name AS process, n.channel, n.due_at FROM notification n JOIN process p ON p.id = n.process_id
    WHERE n.channel = c.channel AND n.wake_at IS NOT NULL AND n.state IN ('scheduled', 'retrying')
    ORDER BY n.wake_at, n.id LIMIT $2
) d ORDER BY d.due_at, d.id LIMIT $2";

const BY_MINUTE: &str = "
WITH newest AS MATERIALIZED (
    SELECT n.id, n.finished_at, greatest(n.scheduled_at, n.accepted_at) AS wanted_at FROM notification n
    WHERE n.finished_at IS NOT NULL AND n.finished_at > tocsin_now() - interval '1 hour'
    ORDER BY n.finished_at DESC, n.id DESC LIMIT 20000
), late AS (
    SELECT date_trunc('minute', n.finished_at) AS minute,
        greatest(extract(epoch FROM a.started_at - n.wanted_at), 0)::float8 AS seconds
    FROM newest n CROSS JOIN LATERAL (
        SELECT started_at FROM attempt WHERE notification_id = n.id ORDER BY number LIMIT 1
    ) a
)
SELECT minute, count(*) AS count, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS p50,
    percentile_cont(0.99) WITHIN GROUP (ORDER BY seconds) AS p99
FROM late GROUP BY minute ORDER BY minute";

impl Store {
    /// What is to be sent next, of these channels.
    pub async fn upcoming(&self, channels: &[&str], limit: i64) -> Result<Vec<Upcoming>> {
        let rows = self.fetch_all(|| sqlx::query(UPCOMING).bind(channels).bind(limit)).await?;
        let upcoming = rows.iter().map(|row| {
            Ok(Upcoming {
                id: row.try_get("id")?,
                process: row.try_get("process")?,
                channel: row.try_get("channel")?,
                due_at: row.try_get::<SqlTimestamp, _>("due_at")?.to_jiff(),
            })
        });
        upcoming.collect()
    }

    /// How late first calls were in the last hour, of the newest 20,000; minutes without any are left out.
    pub async fn lateness_by_minute(&self) -> Result<Vec<MinuteLateness>> {
        let rows = self.fetch_all(|| sqlx::query(BY_MINUTE)).await?;
        let minutes = rows.iter().map(|row| {
            Ok(MinuteLateness {
                minute: row.try_get::<SqlTimestamp, _>("minute")?.to_jiff(),
                count: row.try_get("count")?,
                p50: row.try_get("p50")?,
                p99: row.try_get("p99")?,
            })
        });
        minutes.collect()
    }
}
