use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use sqlx::{Row, postgres::PgRow};

use crate::{Page, Result, Store};

/// So many notifications of one channel and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The channel.
    pub channel: String,
    /// The state, by name.
    pub state: String,
    /// How many.
    pub count: i64,
    /// Of what is not finished, when the first of them was or is due.
    pub first_due_at: Option<Timestamp>,
}

/// How late the first calls of one channel's notifications began, in seconds after their time.
#[derive(Debug, Clone, PartialEq)]
pub struct Lateness {
    /// The channel.
    pub channel: String,
    /// Of how many this is known here: the newest 10,000 at most.
    pub count: i64,
    /// Half of them were no later.
    pub p50: f64,
    /// 19 of 20 were no later.
    pub p95: f64,
    /// 99 of 100 were no later.
    pub p99: f64,
    /// The latest.
    pub max: f64,
}

/// A program of one version that is connected to the database, as its connections say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Its name.
    pub program: String,
    /// Its version.
    pub version: String,
    /// How many processes it is.
    pub copies: i64,
    /// How many connections they have together.
    pub connections: i64,
}

/// What went through in a period, and what waits now.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusReport {
    /// The database's time.
    pub now: Timestamp,
    /// What has not come to its end.
    pub unfinished: Vec<Work>,
    /// What came to its end within the period.
    pub finished: Vec<Work>,
    /// How late it was.
    pub lateness: Vec<Lateness>,
    /// Who is connected.
    pub connected: Vec<Connected>,
    /// Failures that wait for a person.
    pub open_failures: i64,
    /// Messages that no worker could use.
    pub dead_letters: i64,
}

/// A message that no worker could use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRecord {
    /// Its number; a later one has a greater one.
    pub id: i64,
    /// When.
    pub received_at: Timestamp,
    /// The queue that gave it up.
    pub queue: String,
    /// Why, as the broker says it.
    pub reason: String,
    /// The notifications that it names, if it could be read.
    pub notifications: Vec<i64>,
    /// Its body as it was. It holds ids and no addresses, unless a stranger wrote it.
    pub body: Vec<u8>,
}

const UNFINISHED: &str = "
SELECT n.channel, n.state::text AS state, count(*) AS count, min(n.due_at) AS first_due_at
FROM notification n WHERE n.wake_at IS NOT NULL GROUP BY n.channel, n.state ORDER BY n.channel, n.state";

const FINISHED: &str = "
SELECT n.channel, n.state::text AS state, count(*) AS count, NULL::timestamptz AS first_due_at
FROM notification n
WHERE n.finished_at IS NOT NULL AND n.finished_at > tocsin_now() - $1 * interval '1 second'
GROUP BY n.channel, n.state ORDER BY n.channel, n.state";

const LATENESS: &str = "
WITH newest AS MATERIALIZED (
    SELECT n.id, n.channel, greatest(n.scheduled_at, n.accepted_at) AS wanted_at FROM notification n
    WHERE n.finished_at IS NOT NULL AND n.finished_at > tocsin_now() - $1 * interval '1 second'
    ORDER BY n.finished_at DESC, n.id DESC LIMIT 10000
), late AS (
    SELECT n.channel, greatest(extract(epoch FROM a.started_at - n.wanted_at), 0)::float8 AS seconds
    FROM newest n CROSS JOIN LATERAL (
        SELECT started_at FROM attempt WHERE notification_id = n.id ORDER BY number LIMIT 1
    ) a
)
SELECT channel, count(*) AS count, max(seconds) AS max,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS p50,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS p95,
    percentile_cont(0.99) WITHIN GROUP (ORDER BY seconds) AS p99
FROM late GROUP BY channel ORDER BY channel";

// The name of a connection may be seen by everybody, whoever it connects as: `program/version instance`.
const CONNECTED: &str = "
SELECT program, split_part(split_part(name, ' ', 1), '/', 2) AS version, count(DISTINCT name) AS copies,
    count(*) AS connections
FROM (
    SELECT application_name AS name, split_part(application_name, '/', 1) AS program FROM pg_stat_activity
    WHERE datname = current_database()
) AS connection
WHERE program = ANY($1) GROUP BY 1, 2 ORDER BY 1, 2";

const REST: &str = "
SELECT tocsin_now() AS now, (SELECT count(*) FROM dead_letter) AS dead_letters,
    (SELECT count(*) FROM notification WHERE open_failure_at IS NOT NULL) AS open_failures";

const DEAD_LETTERS: &str = "
SELECT id, received_at, queue, reason, notification_ids, body FROM dead_letter
WHERE ($1::bigint IS NULL OR id < $1) ORDER BY id DESC LIMIT $2";

impl Store {
    /// How things are, and how they were for so many seconds. `programs` names those whose connections are counted.
    pub async fn status(&self, period_seconds: f64, programs: &[&str]) -> Result<StatusReport> {
        let rest = self.fetch_all(|| sqlx::query(REST)).await?;
        let rest = rest.first().ok_or(sqlx::Error::RowNotFound)?;
        let unfinished = self.fetch_all(|| sqlx::query(UNFINISHED)).await?;
        let finished = self.fetch_all(|| sqlx::query(FINISHED).bind(period_seconds)).await?;
        let late = self.fetch_all(|| sqlx::query(LATENESS).bind(period_seconds)).await?;
        let connected = self.fetch_all(|| sqlx::query(CONNECTED).bind(programs)).await?;
        let connection = |row: &PgRow| {
            Ok(Connected {
                program: row.try_get("program")?,
                version: row.try_get("version")?,
                copies: row.try_get("copies")?,
                connections: row.try_get("connections")?,
            })
        };
        Ok(StatusReport {
            now: rest.try_get::<SqlTimestamp, _>("now")?.to_jiff(),
            unfinished: unfinished.iter().map(work).collect::<Result<_>>()?,
            finished: finished.iter().map(work).collect::<Result<_>>()?,
            lateness: late.iter().map(lateness).collect::<Result<_>>()?,
            connected: connected.iter().map(connection).collect::<Result<_>>()?,
            open_failures: rest.try_get("open_failures")?,
            dead_letters: rest.try_get("dead_letters")?,
        })
    }

    /// The database's time.
    pub async fn now(&self) -> Result<Timestamp> {
        let rows = self.fetch_all(|| sqlx::query("SELECT tocsin_now() AS now")).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(row.try_get::<SqlTimestamp, _>("now")?.to_jiff())
    }

    /// What no worker could use, the newest first.
    pub async fn dead_letters(&self, page: Page) -> Result<Vec<DeadLetterRecord>> {
        let letter = |row: &PgRow| {
            Ok(DeadLetterRecord {
                id: row.try_get("id")?,
                received_at: row.try_get::<SqlTimestamp, _>("received_at")?.to_jiff(),
                queue: row.try_get("queue")?,
                reason: row.try_get("reason")?,
                notifications: row.try_get("notification_ids")?,
                body: row.try_get("body")?,
            })
        };
        let list = || sqlx::query(DEAD_LETTERS).bind(page.before).bind(page.limit);
        self.fetch_all(list).await?.iter().map(letter).collect()
    }
}

fn work(row: &PgRow) -> Result<Work> {
    Ok(Work {
        channel: row.try_get("channel")?,
        state: row.try_get("state")?,
        count: row.try_get("count")?,
        first_due_at: row.try_get::<Option<SqlTimestamp>, _>("first_due_at")?.map(|at| at.to_jiff()),
    })
}

fn lateness(row: &PgRow) -> Result<Lateness> {
    Ok(Lateness {
        channel: row.try_get("channel")?,
        count: row.try_get("count")?,
        p50: row.try_get("p50")?,
        p95: row.try_get("p95")?,
        p99: row.try_get("p99")?,
        max: row.try_get("max")?,
    })
}
