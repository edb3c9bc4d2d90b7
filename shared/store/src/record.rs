use std::{borrow::Borrow, time::Duration};

use domain::{NotificationId, Outcome, RetryWay, State};
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx};
use sqlx::{Row, postgres::PgRow};

use crate::{Result, Store, pool::array};

/// How long after its time a retry that the broker was to bring back is published again.
const RETRY_GRACE: Duration = Duration::from_secs(30);

/// What came of a call, and what is to become of the notification by `domain::after_attempt`.
#[derive(Debug, Clone)]
pub struct AttemptResult {
    /// Which notification.
    pub id: NotificationId,
    /// The number of the claim under which it was called.
    pub fence: i32,
    /// What came of it.
    pub outcome: Outcome,
    /// What is to become of it, unless it was stopped.
    pub state: State,
    /// Who brings it back, if it is to be tried again.
    pub retry: Option<RetryWay>,
    /// When the call began, by the database's clock.
    pub started_at: Timestamp,
    /// When the answer was there, by the database's clock.
    pub finished_at: Timestamp,
    /// The provider's id of what it accepted.
    pub provider_id: Option<String>,
    /// What the provider said, without addresses.
    pub detail: Option<String>,
}

/// What was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Which notification.
    pub id: NotificationId,
    /// The claim's number.
    pub fence: i32,
    /// Where it stands now.
    pub state: State,
    /// When the next call may begin, if there is to be one.
    pub due_at: Option<Timestamp>,
}

/// Only whose claim still holds may record.
macro_rules! claim_holds {
    () => {
        "WHERE n.id = x.id AND n.fence = x.fence AND n.state = 'sending'"
    };
}

const RECORD: &str = concat!(
    "
WITH recorded AS (
    UPDATE notification n SET
        state = CASE
            WHEN n.stop_requested AND x.outcome NOT IN ('delivered', 'permanent') THEN 'cancelled'::notification_state
            WHEN x.state = 'delivered' THEN 'delivered'::notification_state
            WHEN x.state = 'retrying' THEN 'retrying'::notification_state
            WHEN x.state = 'failed' THEN 'failed'::notification_state
            WHEN x.state = 'cancelled' THEN 'cancelled'::notification_state
        END,
        attempts = n.attempts + x.cost,
        refusals = least(n.refusals + 1 - x.cost, 100),
        returns = 0,
        due_at = CASE
            WHEN x.state = 'retrying' AND NOT n.stop_requested THEN tocsin_now() + x.delay * interval '1 second'
            ELSE n.due_at
        END,
        wake_at = CASE
            WHEN x.state = 'retrying' AND NOT n.stop_requested
            THEN tocsin_now() + (x.delay + x.grace) * interval '1 second'
        END,
        busy_until = NULL,
        finished_at = CASE WHEN x.state <> 'retrying' OR n.stop_requested THEN tocsin_now() END,
        open_failure_at = CASE
            WHEN x.state = 'failed' AND (x.outcome = 'permanent' OR NOT n.stop_requested) THEN tocsin_now()
        END,
        reason = CASE
            WHEN n.stop_requested AND x.outcome NOT IN ('delivered', 'permanent')
            THEN 'stopped while it was being sent'
            WHEN x.outcome = 'dry_run' THEN 'dry run: nobody was called'
            WHEN x.outcome = 'permanent' THEN coalesce(x.detail, 'the provider refused it for good')
            WHEN x.state = 'failed' AND x.outcome = 'unknown' AND n.on_unknown_fail
            THEN 'nobody can tell whether it was sent, and on-unknown is fail'
            WHEN x.state = 'failed' THEN 'all ' || n.max_attempts || ' attempts failed'
        END
    FROM unnest($1::bigint[], $2::int[], $3::text[], $4::smallint[], $5::text[], $6::float8[], $7::float8[],
            $8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[])
        AS x(id, fence, outcome, cost, state, delay, grace, started_at, finished_at, provider_id, detail)
    ",
    claim_holds!(),
    "
    RETURNING n.id, n.fence, n.state, n.due_at, x.started_at, x.finished_at, x.outcome, x.provider_id, x.detail,
        n.claimed_by
), history AS (
    INSERT INTO attempt (notification_id, number, started_at, finished_at, outcome, provider_id, detail, worker)
    SELECT id, fence, started_at, finished_at, outcome, provider_id, detail, claimed_by FROM recorded
)
SELECT array_agg(id) AS ids, array_agg(fence) AS fences, array_agg(state::text) AS states, array_agg(due_at) AS due_ats
FROM recorded"
);

/// The same where everything was delivered, which takes Postgres a sixth less.
const RECORD_DELIVERED: &str = concat!(
    "
WITH recorded AS (
    UPDATE notification n SET
        state = 'delivered',
        attempts = n.attempts + 1,
        returns = 0,
        wake_at = NULL,
        busy_until = NULL,
        finished_at = tocsin_now(),
        open_failure_at = NULL,
        reason = NULL
    FROM unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[])
        AS x(id, fence, started_at, finished_at, provider_id, detail)
    ",
    claim_holds!(),
    "
    RETURNING n.id, n.fence, x.started_at, x.finished_at, x.provider_id, x.detail, n.claimed_by
), history AS (
    INSERT INTO attempt (notification_id, number, started_at, finished_at, outcome, provider_id, detail, worker)
    SELECT id, fence, started_at, finished_at, 'delivered', provider_id, detail, claimed_by FROM recorded
)
SELECT array_agg(id) AS ids, array_agg(fence) AS fences FROM recorded"
);

const RECORD_LATE: &str = "
UPDATE attempt a SET late_outcome = x.outcome, late_provider_id = x.provider_id
FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[]) AS x(id, fence, outcome, provider_id)
WHERE a.notification_id = x.id AND a.number = x.fence AND a.outcome = 'unknown' AND x.outcome <> 'unknown'";

impl Store {
    /// Records what came of calls, with their history. A result whose claim was lost meanwhile is not in the answer:
    /// it changes no state, and is for [`Self::attempts_record_late`].
    pub async fn attempts_record(&self, results: &[impl Borrow<AttemptResult>]) -> Result<Vec<Recorded>> {
        let mut results: Vec<&AttemptResult> = results.iter().map(Borrow::borrow).collect();
        results.sort_unstable_by_key(|result| result.id);
        if results.iter().all(|r| r.outcome == Outcome::Delivered && r.state == State::Delivered) {
            return self.deliveries_record(&results).await;
        }
        let delays = results.iter().map(|r| r.retry.map_or(0.0, |way| way.delay().as_secs_f64()));
        let graces = results.iter().map(|r| match r.retry {
            Some(RetryWay::Tier(_)) => RETRY_GRACE.as_secs_f64(),
            Some(RetryWay::Clock(_)) | None => 0.0,
        });
        let (delays, graces): (Vec<f64>, Vec<f64>) = (delays.collect(), graces.collect());
        let rows = self
            .fetch_all(|| {
                sqlx::query(RECORD)
                    .bind(results.iter().map(|r| r.id.0).collect::<Vec<_>>())
                    .bind(results.iter().map(|r| r.fence).collect::<Vec<_>>())
                    .bind(results.iter().map(|r| r.outcome.as_str()).collect::<Vec<_>>())
                    .bind(results.iter().map(|r| i16::from(r.outcome.costs_an_attempt())).collect::<Vec<_>>())
                    .bind(results.iter().map(|r| r.state.as_str()).collect::<Vec<_>>())
                    .bind(&delays)
                    .bind(&graces)
                    .bind(results.iter().map(|r| r.started_at.to_sqlx()).collect::<Vec<_>>())
                    .bind(results.iter().map(|r| r.finished_at.to_sqlx()).collect::<Vec<_>>())
                    .bind(results.iter().map(|r| r.provider_id.as_deref()).collect::<Vec<_>>())
                    .bind(results.iter().map(|r| r.detail.as_deref()).collect::<Vec<_>>())
            })
            .await?;
        rows.first().map_or_else(|| Ok(Vec::new()), recorded)
    }

    async fn deliveries_record(&self, results: &[&AttemptResult]) -> Result<Vec<Recorded>> {
        let rows = self
            .fetch_all(|| {
                sqlx::query(RECORD_DELIVERED)
                    .bind(results.iter().map(|r| r.id.0).collect::<Vec<_>>())
                    .bind(results.iter().map(|r| r.fence).collect::<Vec<_>>())
                    .bind(results.iter().map(|r| r.started_at.to_sqlx()).collect::<Vec<_>>())
                    .bind(results.iter().map(|r| r.finished_at.to_sqlx()).collect::<Vec<_>>())
                    .bind(results.iter().map(|r| r.provider_id.as_deref()).collect::<Vec<_>>())
                    .bind(results.iter().map(|r| r.detail.as_deref()).collect::<Vec<_>>())
            })
            .await?;
        let Some(row) = rows.first() else { return Ok(Vec::new()) };
        let (ids, fences): (Vec<i64>, Vec<i32>) = (array(row, "ids")?, array(row, "fences")?);
        let delivered = |(id, fence)| Recorded { id: NotificationId(id), fence, state: State::Delivered, due_at: None };
        Ok(ids.into_iter().zip(fences).map(delivered).collect())
    }

    /// Adds answers that came after their claim had run out to the history.
    pub async fn attempts_record_late(&self, late: &[impl Borrow<AttemptResult>]) -> Result<()> {
        let late: Vec<&AttemptResult> = late.iter().map(Borrow::borrow).collect();
        self.execute(|| {
            sqlx::query(RECORD_LATE)
                .bind(late.iter().map(|r| r.id.0).collect::<Vec<_>>())
                .bind(late.iter().map(|r| r.fence).collect::<Vec<_>>())
                .bind(late.iter().map(|r| r.outcome.as_str()).collect::<Vec<_>>())
                .bind(late.iter().map(|r| r.provider_id.as_deref()).collect::<Vec<_>>())
        })
        .await
    }
}

fn recorded(row: &PgRow) -> Result<Vec<Recorded>> {
    let ids: Vec<i64> = array(row, "ids")?;
    let fences: Vec<i32> = array(row, "fences")?;
    let states: Vec<String> = array(row, "states")?;
    let due_ats: Vec<SqlTimestamp> = array(row, "due_ats")?;
    let columns = ids.into_iter().zip(fences).zip(states).zip(due_ats);
    columns
        .map(|(((id, fence), state), due_at)| {
            let state = parsed(&state, id)?;
            let due_at = (state == State::Retrying).then(|| due_at.to_jiff());
            Ok(Recorded { id: NotificationId(id), fence, state, due_at })
        })
        .collect()
}

pub(crate) fn state(row: &PgRow) -> Result<State> {
    parsed(row.try_get("state")?, row.try_get("id").unwrap_or_default())
}

fn parsed(state: &str, id: i64) -> Result<State> {
    state.parse().map_err(|error: domain::UnknownState| crate::Error::Row {
        table: "notification",
        column: "state",
        id,
        problem: error.to_string(),
    })
}
