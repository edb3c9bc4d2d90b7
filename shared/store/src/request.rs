use domain::{Action, OnUnknown, Organisation, ProcessName, Request};
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx};
use serde_json::json;
use sqlx::{Connection, PgConnection, Row, postgres::PgRow};

use crate::{Error, Result, Store, pool::Statement};

/// A request as it was received, read or not.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    /// What tells it from every other of its source, such as the SQS MessageId.
    pub message_id: String,
    /// The bytes as they came.
    pub body: Vec<u8>,
    /// What it asks, or why it was refused.
    pub parsed: std::result::Result<Request, RejectedRequest>,
}

/// A request that can't be carried out.
#[derive(Debug, Clone)]
pub struct RejectedRequest {
    /// The process that it named, if that could be read.
    pub process: Option<ProcessName>,
    /// `[{"field": .., "message": ..}]`, every reason.
    pub reasons: serde_json::Value,
}

impl ReceivedRequest {
    /// The same, rejected because the database can't hold it.
    pub fn rejected_by(self, error: &Error) -> Self {
        let process = match self.parsed {
            Ok(request) => Some(request.process),
            Err(rejected) => rejected.process,
        };
        let reasons = json!([{"field": "", "message": format!("the database can't hold it: {error}")}]);
        Self { parsed: Err(RejectedRequest { process, reasons }), ..self }
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestOutcome {
    /// It took effect.
    Accepted,
    /// There was nothing to do: a start while active, or a stop of nothing.
    Ignored,
    /// It was refused.
    Rejected,
    /// It had been applied before, and changed nothing now.
    Duplicate,
}

impl RequestOutcome {
    /// The name in the database, in logs and in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
            Self::Duplicate => "duplicate",
        }
    }
}

/// What came of a request, with what the log wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestResult {
    /// What came of it.
    pub outcome: RequestOutcome,
    /// The run that a start began.
    pub run: Option<i32>,
    /// The notifications that a start made or a stop cancelled.
    pub notifications: i64,
    /// When the first of its notifications is due, if that is within two seconds and the activators must be told.
    pub due_soon_at: Option<Timestamp>,
}

// No time is later than those that programs can read, and requests can give. Rows of tables are found by arrays of ids or names, never by a join, so that whatever was in the tables when the plan was
// made, it goes straight to them. Where they are found by ids, nothing is said that is the condition of another index.
const APPLY: &str = "
WITH input AS MATERIALIZED (
    SELECT * FROM unnest($3::int[], $1::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::bytea[])
        AS x(n, source, message_id, process_name, action, reasons, body)
), named AS MATERIALIZED (
    SELECT p.id, p.name, p.run FROM process p WHERE p.organisation = $2 AND p.name = ANY($5)
), unfinished AS MATERIALIZED (
    SELECT n.id, n.process_id, n.state
    FROM notification n WHERE n.process_id = ANY(ARRAY(SELECT id FROM named)) AND n.finished_at IS NULL
), judged AS MATERIALIZED (
    SELECT i.*, p.id AS process_id, p.run,
        CASE
            WHEN i.reasons IS NOT NULL AND i.action IS NULL THEN 'rejected'
            WHEN i.reasons IS NOT NULL THEN 'ignored'
            WHEN i.action = 'start' AND u.is_scheduled THEN 'ignored'
            WHEN i.action = 'stop' AND u.process_id IS NULL THEN 'ignored'
            ELSE 'accepted'
        END AS outcome
    FROM input i
    LEFT JOIN named p ON p.name = i.process_name
    LEFT JOIN (
        SELECT process_id, bool_or(state = 'scheduled') AS is_scheduled FROM unfinished GROUP BY process_id
    ) u ON u.process_id = p.id
), recorded AS (
    INSERT INTO request (source, message_id, received_at, process_id, process_name, action, outcome, reasons, run, body)
    SELECT j.source, j.message_id, tocsin_now(), j.process_id, j.process_name, j.action, j.outcome,
        CASE
            WHEN j.reasons IS NOT NULL THEN j.reasons
            WHEN j.outcome = 'ignored' AND j.action = 'start' THEN
                '[{\"field\": \"process-id\", \"message\": \"is active already\"}]'::jsonb
            WHEN j.outcome = 'ignored' THEN
                '[{\"field\": \"process-id\", \"message\": \"has nothing to stop\"}]'::jsonb
        END,
        CASE WHEN j.outcome = 'accepted' AND j.action = 'start' THEN j.run + 1 END,
        j.body
    FROM judged j
    ORDER BY j.n
    ON CONFLICT (source, message_id) DO NOTHING
    RETURNING id, source, message_id
), fresh AS MATERIALIZED (
    SELECT DISTINCT ON (j.source, j.message_id) j.n, j.process_id, j.process_name, j.action, j.outcome, r.id AS request_id
    FROM recorded r JOIN judged j USING (source, message_id)
    ORDER BY j.source, j.message_id, j.n
), started AS (
    UPDATE process p SET run = p.run + 1
    WHERE p.id = ANY(ARRAY(SELECT process_id FROM fresh WHERE outcome = 'accepted' AND action = 'start'))
    RETURNING p.id, p.run
), stopping AS MATERIALIZED (
    SELECT n.id FROM notification n
    WHERE n.id = ANY(ARRAY(
            SELECT u.id FROM unfinished u JOIN fresh f USING (process_id) WHERE f.outcome = 'accepted' AND f.action = 'stop'
        )) AND n.state NOT IN ('delivered', 'failed', 'cancelled')
    ORDER BY n.id FOR UPDATE
), stopped AS (
    UPDATE notification n SET
        state = CASE WHEN n.state = 'sending' THEN n.state ELSE 'cancelled' END,
        stop_requested = n.stop_requested OR n.state = 'sending',
        wake_at = CASE WHEN n.state = 'sending' THEN n.wake_at END,
        finished_at = CASE WHEN n.state = 'sending' THEN NULL ELSE tocsin_now() END,
        reason = CASE WHEN n.state = 'sending' THEN n.reason ELSE 'stopped by request ' || f.request_id END
    FROM fresh f
    WHERE n.id = ANY(ARRAY(SELECT id FROM stopping)) AND f.process_id = n.process_id
        AND f.action = 'stop' AND f.outcome = 'accepted'
        AND n.state NOT IN ('delivered', 'failed', 'cancelled')
    RETURNING n.process_id
), made AS MATERIALIZED (
    SELECT nextval('notification_id_seq') AS id, f.n, f.process_id, f.process_name, f.request_id, s.run,
        x.channel, x.at, x.max_attempts, x.max_age, x.on_unknown_fail, x.address, x.options
    FROM unnest($9::int[], $10::text[], $11::timestamptz[], $12::smallint[], $13::float8[], $14::bool[],
            $15::text[], $16::text[]) WITH ORDINALITY
        AS x(n, channel, at, max_attempts, max_age, on_unknown_fail, address, options, position)
    JOIN fresh f ON f.n = x.n
    JOIN started s ON s.id = f.process_id
    ORDER BY x.position
), inserted AS (
    INSERT INTO notification (id, process_id, organisation, channel, scheduled_at, due_at, wake_at, accepted_at,
        expires_at, max_attempts, on_unknown_fail)
    SELECT id, process_id, $2, channel, at, at, at, tocsin_now(),
        least(greatest(at, tocsin_now()) + make_interval(secs => max_age), '9999-12-30 22:00:00+00'), max_attempts,
        on_unknown_fail
    FROM made
), contents AS (
    INSERT INTO notification_content (notification_id, request_id, run, process_name, address, options)
    SELECT id, request_id, run, process_name, address, options::json FROM made
)
SELECT f.n, f.outcome, s.run, coalesce(m.made, t.stopped, 0) AS notifications, m.due_soon_at
FROM fresh f
LEFT JOIN started s ON s.id = f.process_id AND f.action = 'start' AND f.outcome = 'accepted'
LEFT JOIN (
    SELECT n, count(*) AS made, min(at) FILTER (WHERE at <= tocsin_now() + interval '2 seconds') AS due_soon_at
    FROM made GROUP BY n
) m ON m.n = f.n
LEFT JOIN (SELECT process_id, count(*) AS stopped FROM stopped GROUP BY process_id) t
    ON t.process_id = f.process_id AND f.action = 'stop'";

/// A batch as Postgres takes it, column by column.
pub(crate) struct Batch<'a> {
    organisation: &'a Organisation,
    sources: Vec<&'a str>,
    requests: Vec<&'a ReceivedRequest>,
    processes: Vec<Option<&'a str>>,
    actions: Vec<Option<&'a str>>,
    /// Why a request is rejected, if it has no action; why it is ignored, if it has one.
    reasons: Vec<Option<serde_json::Value>>,
    /// The processes that a valid request names, in the order in which everybody locks them.
    named: Vec<&'a str>,
    starting: Vec<&'a str>,
    notifications: NotificationColumns,
}

#[derive(Default)]
struct NotificationColumns {
    request: Vec<i32>,
    channel: Vec<&'static str>,
    at: Vec<SqlTimestamp>,
    max_attempts: Vec<i16>,
    max_age: Vec<f64>,
    on_unknown_fail: Vec<bool>,
    address: Vec<Option<String>>,
    /// Each a JSON object.
    options: Vec<String>,
}

impl NotificationColumns {
    fn push(&mut self, request: i32, notification: &domain::NewNotification) {
        self.request.push(request);
        self.channel.push(notification.channel.name);
        self.at.push(notification.at.to_sqlx());
        self.max_attempts.push(i16::try_from(notification.max_attempts).unwrap_or(i16::MAX));
        self.max_age.push(notification.max_age.as_secs_f64());
        self.on_unknown_fail.push(notification.on_unknown == OnUnknown::Fail);
        self.address.push(notification.address.clone());
        self.options.push(serde_json::to_string(&notification.options).expect("its keys are text"));
    }
}

impl<'a> Batch<'a> {
    /// Of requests, each with its source.
    pub(crate) fn new(
        organisation: &'a Organisation,
        requests: impl Iterator<Item = (&'a str, &'a ReceivedRequest)>,
    ) -> Self {
        let (sources, requests) = requests.unzip();
        let mut batch = Self {
            organisation,
            sources,
            requests,
            processes: Vec::new(),
            actions: Vec::new(),
            reasons: Vec::new(),
            named: Vec::new(),
            starting: Vec::new(),
            notifications: NotificationColumns::default(),
        };
        for (n, request) in (0i32..).zip(batch.requests.clone()) {
            let (process, action, reasons) = match &request.parsed {
                Ok(Request { process, action }) => {
                    batch.named.push(process.as_str());
                    if let Action::Start(notifications) = action {
                        batch.starting.push(process.as_str());
                        notifications.iter().for_each(|notification| batch.notifications.push(n, notification));
                    }
                    (Some(process.as_str()), Some(action.as_str()), None)
                }
                Err(rejected) => {
                    (rejected.process.as_ref().map(ProcessName::as_str), None, Some(rejected.reasons.clone()))
                }
            };
            batch.processes.push(process);
            batch.actions.push(action);
            batch.reasons.push(reasons);
        }
        batch.named.sort_unstable();
        batch.starting.sort_unstable();
        batch
    }

    /// Has the request at a place ignored, whatever it asks.
    pub(crate) fn ignore(&mut self, n: usize, field: &str, message: &str) {
        if let (Some(process), Some(_)) = (self.processes[n], self.actions[n]) {
            self.reasons[n] = Some(json!([{"field": field, "message": message}]));
            self.starting.retain(|starting| *starting != process);
        }
    }

    /// Three statements in the caller's transaction, since each sees only what had been committed when it began: the lock
    /// comes first, then a look at what the last holder of the lock left behind.
    pub(crate) async fn apply(&self, transaction: &mut PgConnection) -> Result<Vec<PgRow>> {
        if !self.starting.is_empty() {
            sqlx::query(
                "INSERT INTO process (organisation, name) SELECT $1, name FROM unnest($2::text[]) AS x(name)
                 ON CONFLICT (organisation, name) DO NOTHING",
            )
            .bind(self.organisation.as_str())
            .bind(&self.starting)
            .execute(&mut *transaction)
            .await?;
        }
        if !self.named.is_empty() {
            sqlx::query("SELECT FROM process WHERE organisation = $1 AND name = ANY($2) ORDER BY name FOR UPDATE")
                .bind(self.organisation.as_str())
                .bind(&self.named)
                .execute(&mut *transaction)
                .await?;
        }
        // To join the parts of the statement with each other without hashing takes the square of the batch. Made anew each
        // time its plan takes longer than twenty requests, and so do those of a foreign key's checks, one for each row.
        sqlx::query(
            "SELECT set_config('enable_hashjoin', 'on', true), set_config('enable_nestloop', 'off', true),
                 set_config('plan_cache_mode', 'force_generic_plan', true)",
        )
        .execute(&mut *transaction)
        .await?;
        Ok(self.statement().fetch_all(&mut *transaction).await?)
    }

    fn statement(&self) -> Statement<'_> {
        let notifications = &self.notifications;
        sqlx::query(APPLY)
            .bind(&self.sources)
            .bind(self.organisation.as_str())
            .bind((0i32..).zip(&self.requests).map(|(n, _)| n).collect::<Vec<_>>())
            .bind(self.requests.iter().map(|r| r.message_id.as_str()).collect::<Vec<_>>())
            .bind(&self.processes)
            .bind(&self.actions)
            .bind(&self.reasons)
            .bind(self.requests.iter().map(|r| r.body.as_slice()).collect::<Vec<_>>())
            .bind(&notifications.request)
            .bind(&notifications.channel)
            .bind(&notifications.at)
            .bind(&notifications.max_attempts)
            .bind(&notifications.max_age)
            .bind(&notifications.on_unknown_fail)
            .bind(&notifications.address)
            .bind(&notifications.options)
    }
}

impl Store {
    /// Records requests and carries them out, all or none, and answers what came of each, in their order.
    ///
    /// `source` names the queue. No process may stand twice among the requests: a stop would not see the start that
    /// stands beside it.
    pub async fn requests_apply(
        &self,
        source: &str,
        organisation: &Organisation,
        requests: &[ReceivedRequest],
    ) -> Result<Vec<RequestResult>> {
        let batch = Batch::new(organisation, requests.iter().map(|request| (source, request)));
        let batch = &batch;
        let rows = self
            .run(|mut lent| async move {
                let mut transaction = lent.begin().await?;
                let rows = batch.apply(&mut transaction).await?;
                transaction.commit().await?;
                Ok((lent, rows))
            })
            .await?;
        results(&rows, requests.len())
    }
}

/// What came of each of so many requests of a batch.
pub(crate) fn results(rows: &[PgRow], count: usize) -> Result<Vec<RequestResult>> {
    let duplicate =
        RequestResult { outcome: RequestOutcome::Duplicate, run: None, notifications: 0, due_soon_at: None };
    let mut results = vec![duplicate; count];
    for row in rows {
        let outcome = match row.try_get("outcome")? {
            "accepted" => RequestOutcome::Accepted,
            "ignored" => RequestOutcome::Ignored,
            _ => RequestOutcome::Rejected,
        };
        let n = usize::try_from(row.try_get::<i32, _>("n")?).unwrap_or_default();
        results[n] = RequestResult {
            outcome,
            run: row.try_get("run")?,
            notifications: row.try_get("notifications")?,
            due_soon_at: row.try_get::<Option<SqlTimestamp>, _>("due_soon_at")?.map(|time| time.to_jiff()),
        };
    }
    Ok(results)
}
