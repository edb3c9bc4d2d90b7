use std::collections::BTreeMap;

use domain::{NotificationId, State};
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx};
use serde_json::Value;
use sqlx::{Connection, Row, postgres::PgRow};

use crate::{Disposition, Error, Result, ScheduleRecord, Store, pool::Statement};

/// What came of a change to one notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// It was changed.
    Done,
    /// It was not, as it stands in this state and not in `failed`, or is given up already.
    NotFailed(State),
    /// There is no such notification.
    Missing,
}

/// What to change about a notification.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    /// The channel's key for its address, and the new one.
    pub address: Option<(&'static str, String)>,
    /// Further keys and their new values.
    pub options: BTreeMap<&'static str, Value>,
    /// Further keys that it is not to have any more.
    pub removed: Vec<&'static str>,
}

/// Failures of one channel that have one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureGroup {
    /// The channel.
    pub channel: String,
    /// What the provider said last, or why Tocsin gave it up.
    pub cause: String,
    /// How many.
    pub count: i64,
    /// When the first of them failed.
    pub first_at: Timestamp,
    /// When the last of them failed.
    pub last_at: Timestamp,
    /// The newest of them, five at most.
    pub examples: Vec<i64>,
}

/// Which failures.
#[derive(Debug, Clone, Copy, Default)]
pub struct FailureFilter<'a> {
    /// Of one channel.
    pub channel: Option<&'a str>,
    /// Of one cause, as [`FailureGroup::cause`] says it.
    pub cause: Option<&'a str>,
    /// Of one process, by its name.
    pub process: Option<&'a str>,
    /// Failed at this time or later.
    pub since: Option<Timestamp>,
    /// Failed before this time.
    pub until: Option<Timestamp>,
}

/// What a retry of many did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkRetry {
    /// How many are tried again, or would be.
    pub retried: i64,
    /// How many are left alone: their process was stopped, or started again, after they were made; somebody has locked them now,
    /// or was faster.
    pub left_alone: i64,
    /// When the last of them may be called.
    pub last_due_at: Option<Timestamp>,
}

/// What went wrong with an occurrence of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleFailure {
    /// When.
    pub at: Timestamp,
    /// The request that the occurrence is.
    pub request: i64,
    /// Its process, if that could be read.
    pub process: Option<String>,
    /// The notification that failed; if the request was rejected, there is none.
    pub notification: Option<i64>,
    /// Its channel.
    pub channel: Option<String>,
    /// What the provider said last, or why Tocsin gave it up.
    pub cause: Option<String>,
    /// `[{"field": .., "message": ..}]`, if the request was rejected.
    pub reasons: Option<Value>,
}

/// The most failures that are looked at together.
pub const MAX_FAILURES: i64 = 10_000;

// What the provider said last, where the reason only counts attempts. Groups and those who choose one must agree on it.
macro_rules! cause {
    () => {
        "CROSS JOIN LATERAL (
    SELECT coalesce(
        CASE WHEN n.reason LIKE 'all % attempts failed' THEN (
            SELECT a.detail FROM attempt a WHERE a.notification_id = n.id ORDER BY a.number DESC LIMIT 1
        ) END,
        n.reason, 'no reason was recorded'
    ) AS cause
) c
"
    };
}

const GROUPS: &str = concat!(
    "
WITH open AS MATERIALIZED (
    SELECT n.id, n.channel, n.reason, n.open_failure_at FROM notification n
    WHERE n.open_failure_at IS NOT NULL AND ($1::text IS NULL OR n.channel = $1)
    ORDER BY n.open_failure_at DESC, n.id DESC LIMIT 10000
)
SELECT n.channel, c.cause, count(*) AS count, min(n.open_failure_at) AS first_at, max(n.open_failure_at) AS last_at,
    (array_agg(n.id ORDER BY n.open_failure_at DESC, n.id DESC))[1:5] AS examples
FROM open n ",
    cause!(),
    "GROUP BY n.channel, c.cause ORDER BY count DESC, n.channel, c.cause LIMIT 200"
);

// The condition on what a source looks like is that of the index. Of processes that many occurrences share only what has failed
// is looked at.
const OF_SCHEDULE: &str = concat!(
    "
WITH newest AS MATERIALIZED (
    SELECT id, received_at, process_id, process_name, outcome, reasons FROM request
    WHERE source = $1 AND source LIKE 'schedule:%' ORDER BY id DESC LIMIT 1000
), last AS MATERIALIZED (
    SELECT * FROM (
        SELECT received_at AS at, id AS request, NULL::bigint AS notification FROM newest WHERE outcome = 'rejected'
        UNION ALL
        SELECT n.open_failure_at, c.request_id, n.id
        FROM (SELECT DISTINCT process_id FROM newest) p
        JOIN notification n ON n.process_id = p.process_id AND n.open_failure_at IS NOT NULL
        JOIN notification_content c ON c.notification_id = n.id
        WHERE c.request_id IN (SELECT id FROM newest)
    ) f ORDER BY at DESC, request DESC, notification DESC LIMIT $2
)
SELECT l.at, l.request, l.notification, r.process_name, r.reasons, n.channel, CASE WHEN n.id IS NOT NULL THEN c.cause END AS cause
FROM last l JOIN newest r ON r.id = l.request LEFT JOIN notification n ON n.id = l.notification
",
    cause!(),
    "ORDER BY l.at DESC, l.request DESC, l.notification DESC"
);

/// Whether a failure concerns nobody any more: a stop that came later says that nobody needs to be called, and a newer run has
/// calls of its own.
macro_rules! over {
    () => {
        "(p.run > made.run OR n.stop_requested OR EXISTS (
    SELECT FROM request r WHERE r.process_id = n.process_id AND r.action = 'stop' AND r.id > made.request_id
))"
    };
}

const CHOOSE: &str = concat!(
    "
SELECT n.id, ",
    over!(),
    " AS over
FROM notification n
JOIN process p ON p.id = n.process_id
JOIN notification_content made ON made.notification_id = n.id
",
    cause!(),
    "WHERE n.open_failure_at IS NOT NULL
    AND ($1::text IS NULL OR n.channel = $1)
    AND ($2::text IS NULL OR c.cause = $2)
    AND ($3::text IS NULL OR p.organisation = 'main' AND p.name = $3)
    AND ($4::timestamptz IS NULL OR n.open_failure_at >= $4)
    AND ($5::timestamptz IS NULL OR n.open_failure_at < $5)
ORDER BY n.open_failure_at, n.id LIMIT $6"
);

// As starts and stops do, before they look: what they find unfinished they stop.
macro_rules! lock_processes {
    ($lock:literal) => {
        concat!(
            "
SELECT id FROM process WHERE id = ANY(ARRAY(SELECT process_id FROM notification WHERE id = ANY($1)))
ORDER BY name ",
            $lock
        )
    };
}

// The guard stands in the update itself, so that who retries twice sends once. `retried_at` is where max-age counts from.
macro_rules! retry {
    ($lock:literal) => {
        concat!(
            "
WITH locked AS MATERIALIZED (
    SELECT n.id FROM notification n
    WHERE n.id = ANY($1) AND n.process_id = ANY($6) AND n.state = 'failed' AND NOT ($4 AND EXISTS (
        SELECT FROM process p JOIN notification_content made ON made.notification_id = n.id
        WHERE p.id = n.process_id AND ",
            over!(),
            "
    ))
    ORDER BY n.id ",
            $lock,
            "
), numbered AS (
    SELECT id, tocsin_now() + (row_number() OVER (ORDER BY id) - 1 + $5) * $2 * interval '1 second' AS at FROM locked
), retried AS (
    UPDATE notification n SET state = 'retrying', stop_requested = false, attempts = 0, refusals = 0, returns = 0,
        given_up = false, confirmed_at = NULL, due_at = x.at, wake_at = x.at, busy_until = NULL, retried_at = x.at,
        finished_at = NULL, open_failure_at = NULL, reason = NULL,
        expires_at = x.at + (n.expires_at - greatest(n.scheduled_at, n.accepted_at, n.retried_at))
    FROM numbered x WHERE n.id = x.id AND n.state = 'failed'
    RETURNING n.id, n.due_at
), audited AS (
    INSERT INTO audit (at, actor, action, object, before, after)
    SELECT tocsin_now(), $3, 'notification.retry', 'notification ' || id, '\"failed\"', '\"retrying\"'
    FROM retried ORDER BY id
)
SELECT count(*) AS retried, max(due_at) AS last_due_at FROM retried"
        )
    };
}

const RETRY: RetryStatements =
    RetryStatements { lock_processes: lock_processes!("FOR UPDATE"), retry: retry!("FOR UPDATE") };

/// The same, but that what somebody has locked is left alone.
const RETRY_UNLOCKED: RetryStatements = RetryStatements {
    lock_processes: lock_processes!("FOR UPDATE SKIP LOCKED"),
    retry: retry!("FOR UPDATE SKIP LOCKED"),
};

/// Two statements of one transaction.
#[derive(Clone, Copy)]
struct RetryStatements {
    lock_processes: &'static str,
    retry: &'static str,
}

/// As many failures as are retried in one transaction, which holds up starts and stops of their processes.
const RETRY_BATCH: usize = 200;

const GIVE_UP: &str = "
WITH given_up AS (
    UPDATE notification n SET given_up = true, open_failure_at = NULL
    WHERE n.id = $1 AND n.state = 'failed' AND NOT n.given_up
    RETURNING n.id
)
INSERT INTO audit (at, actor, action, object, before, after)
SELECT tocsin_now(), $2, 'notification.give-up', 'notification ' || id, '\"open\"', '\"given up\"' FROM given_up
RETURNING id";

// Addresses and texts live in one table, so the audit has only the ends of an address, and the names of the other keys.
const EDIT: &str = "
WITH locked AS MATERIALIZED (
    SELECT n.id FROM notification n WHERE n.id = $1 AND n.state = 'failed' FOR UPDATE
), old AS MATERIALIZED (
    SELECT c.notification_id, c.address FROM notification_content c JOIN locked l ON l.id = c.notification_id
    FOR UPDATE OF c
), edited AS (
    UPDATE notification_content c SET
        address = coalesce($3, c.address),
        options = ((c.options::jsonb || $4::jsonb) - $5::text[])::json
    FROM old WHERE c.notification_id = old.notification_id
    RETURNING c.notification_id, old.address AS old_address, c.address AS new_address
)
INSERT INTO audit (at, actor, action, object, before, after)
SELECT tocsin_now(), $6, 'notification.edit', 'notification ' || notification_id,
    CASE WHEN $2::text IS NOT NULL THEN
        jsonb_build_object($2, left(old_address, 3) || '…' || right(old_address, 2))
    END,
    jsonb_build_object('changed', $7::text[]) || CASE WHEN $2::text IS NOT NULL THEN
        jsonb_build_object($2, left(new_address, 3) || '…' || right(new_address, 2))
    ELSE '{}' END
FROM edited
RETURNING id";

/// What is to be retried in one transaction.
struct Retry<'a> {
    ids: &'a [i64],
    /// Seconds from one to the next.
    step: f64,
    /// Leave alone what concerns nobody any more.
    unless_over: bool,
    /// As many come before these.
    before: i64,
    by: &'a str,
}

impl Store {
    /// What waits for a person, by channel and cause, the most frequent first; the newest [`MAX_FAILURES`] are looked at.
    pub async fn failure_groups(&self, channel: Option<&str>) -> Result<Vec<FailureGroup>> {
        let group = |row: &PgRow| {
            Ok(FailureGroup {
                channel: row.try_get("channel")?,
                cause: row.try_get("cause")?,
                count: row.try_get("count")?,
                first_at: row.try_get::<SqlTimestamp, _>("first_at")?.to_jiff(),
                last_at: row.try_get::<SqlTimestamp, _>("last_at")?.to_jiff(),
                examples: row.try_get("examples")?,
            })
        };
        self.fetch_all(|| sqlx::query(GROUPS).bind(channel)).await?.iter().map(group).collect()
    }

    /// What went wrong last with what a schedule has started in its newest 1,000 occurrences, and waits for a person; the
    /// newest first.
    pub async fn failures_of_schedule(&self, schedule: &ScheduleRecord, limit: i64) -> Result<Vec<ScheduleFailure>> {
        let source = schedule.source();
        let failure = |row: &PgRow| {
            Ok(ScheduleFailure {
                at: row.try_get::<SqlTimestamp, _>("at")?.to_jiff(),
                request: row.try_get("request")?,
                process: row.try_get("process_name")?,
                notification: row.try_get("notification")?,
                channel: row.try_get("channel")?,
                cause: row.try_get("cause")?,
                reasons: row.try_get("reasons")?,
            })
        };
        self.fetch_all(|| sqlx::query(OF_SCHEDULE).bind(&source).bind(limit)).await?.iter().map(failure).collect()
    }

    /// Has a failed notification tried again, at once, with all its attempts and its whole max-age. It may have been
    /// given up. Who asks twice gets [`Repair::NotFailed`] the second time.
    pub async fn failure_retry(&self, id: NotificationId, by: &str) -> Result<Repair> {
        let retry = Retry { ids: &[id.0], step: 0.0, unless_over: false, before: 0, by };
        let (retried, _) = self.retry(&retry, RETRY).await?;
        self.repaired(id, retried == 1).await
    }

    /// Has failures tried again, the oldest first, at most `limit` of them and `per_second` a second. Left alone is
    /// what concerns nobody any more, as its process was stopped since, or started again; and what somebody has locked.
    /// [`Error::Interrupted`] if only the first of them are tried again.
    pub async fn failures_retry(
        &self,
        filter: FailureFilter<'_>,
        limit: i64,
        per_second: f64,
        by: &str,
    ) -> Result<BulkRetry> {
        let (ids, left_alone) = self.failures_choose(filter, limit).await?;
        let mut done = BulkRetry { retried: 0, left_alone, last_due_at: None };
        let mut statements = RETRY;
        for ids in ids.chunks(RETRY_BATCH) {
            let retry = Retry { ids, step: 1.0 / per_second, unless_over: true, before: done.retried, by };
            let mut result = self.retry(&retry, statements).await;
            if matches!(&result, Err(error) if error.disposition() == Disposition::TooMuch) {
                // From here on, as each lock that is waited for takes a second.
                statements = RETRY_UNLOCKED;
                result = self.retry(&retry, statements).await;
            }
            let (retried, last_due_at) = result.map_err(|cause| match done.retried {
                0 => cause,
                retried => Error::Interrupted { retried, cause: Box::new(cause) },
            })?;
            done.retried += retried;
            done.left_alone += i64::try_from(ids.len()).unwrap_or(i64::MAX) - retried;
            done.last_due_at = done.last_due_at.max(last_due_at);
        }
        Ok(done)
    }

    /// How many were, and when the last of them is due.
    async fn retry(&self, retry: &Retry<'_>, statements: RetryStatements) -> Result<(i64, Option<Timestamp>)> {
        let row = self
            .run(|mut lent| async move {
                let mut transaction = lent.begin().await?;
                let locked =
                    sqlx::query(statements.lock_processes).bind(retry.ids).fetch_all(&mut *transaction).await?;
                let locked = locked.iter().map(|row| row.try_get("id")).collect::<sqlx::Result<Vec<i64>>>()?;
                let query = sqlx::query(statements.retry).bind(retry.ids).bind(retry.step).bind(retry.by);
                let query = query.bind(retry.unless_over).bind(retry.before).bind(locked);
                let row = query.fetch_one(&mut *transaction).await?;
                transaction.commit().await?;
                Ok((lent, row))
            })
            .await?;
        let last_due_at = row.try_get::<Option<SqlTimestamp>, _>("last_due_at")?.map(|at| at.to_jiff());
        Ok((row.try_get("retried")?, last_due_at))
    }

    /// What [`Self::failures_retry`] would do.
    pub async fn failures_retry_dry(&self, filter: FailureFilter<'_>, limit: i64) -> Result<BulkRetry> {
        let (ids, left_alone) = self.failures_choose(filter, limit).await?;
        Ok(BulkRetry { retried: i64::try_from(ids.len()).unwrap_or(i64::MAX), left_alone, last_due_at: None })
    }

    async fn failures_choose(&self, filter: FailureFilter<'_>, limit: i64) -> Result<(Vec<i64>, i64)> {
        let rows = self
            .fetch_all(|| {
                let query = sqlx::query(CHOOSE).bind(filter.channel).bind(filter.cause).bind(filter.process);
                query.bind(filter.since.map(|at| at.to_sqlx())).bind(filter.until.map(|at| at.to_sqlx())).bind(limit)
            })
            .await?;
        let (mut ids, mut over) = (Vec::new(), 0);
        for row in &rows {
            if row.try_get("over")? {
                over += 1;
            } else {
                ids.push(row.try_get("id")?);
            }
        }
        Ok((ids, over))
    }

    /// Takes a failed notification off the list of what waits for a person.
    pub async fn failure_give_up(&self, id: NotificationId, by: &str) -> Result<Repair> {
        let rows = self.fetch_all(|| sqlx::query(GIVE_UP).bind(id.0).bind(by)).await?;
        self.repaired(id, !rows.is_empty()).await
    }

    /// Changes the address or the text of a failed notification, for its next try.
    pub async fn failure_edit(&self, id: NotificationId, edit: &Edit, by: &str) -> Result<Repair> {
        let key = edit.address.as_ref().map(|(key, _)| *key);
        let keys = key.into_iter().chain(edit.options.keys().copied()).chain(edit.removed.iter().copied());
        let changed: Vec<&str> = keys.collect();
        let rows = self.fetch_all(|| self.edit_statement(id, edit, key, &changed, by)).await?;
        self.repaired(id, !rows.is_empty()).await
    }

    fn edit_statement<'q>(
        &self,
        id: NotificationId,
        edit: &'q Edit,
        key: Option<&'static str>,
        changed: &'q [&'q str],
        by: &'q str,
    ) -> Statement<'q> {
        sqlx::query(EDIT)
            .bind(id.0)
            .bind(key)
            .bind(edit.address.as_ref().map(|(_, address)| address.as_str()))
            .bind(sqlx::types::Json(&edit.options))
            .bind(&edit.removed)
            .bind(by)
            .bind(changed)
    }

    async fn repaired(&self, id: NotificationId, done: bool) -> Result<Repair> {
        if done {
            return Ok(Repair::Done);
        }
        let rows =
            self.fetch_all(|| sqlx::query("SELECT state::text FROM notification WHERE id = $1").bind(id.0)).await?;
        let Some(row) = rows.first() else { return Ok(Repair::Missing) };
        let state: &str = row.try_get("state")?;
        let state = state.parse().map_err(|error: domain::UnknownState| Error::Row {
            table: "notification",
            column: "state",
            id: id.0,
            problem: error.to_string(),
        })?;
        Ok(Repair::NotFailed(state))
    }
}
