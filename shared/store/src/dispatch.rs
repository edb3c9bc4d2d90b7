use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use domain::{NotificationId, Organisation, State};
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx};
use sqlx::{Row, postgres::PgRow};

use crate::{Error, Result, Store, claim::sorted, pool::array, record::state};

/// A notification that an activator has taken to publish it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Which, and under which claim it was seen.
    pub publication: Publication,
    /// Where it goes.
    pub channel: String,
    /// Whose it is.
    pub organisation: Organisation,
    /// When the worker may claim it.
    pub due_at: Timestamp,
}

/// A publication, as the activator refers to it afterwards. If a worker has claimed the notification meanwhile, its
/// fence is another; if it was published once more, or its message died, `busy_until` is. Then nothing is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Publication {
    /// Which notification.
    pub id: NotificationId,
    /// Its fence at the time.
    pub fence: i32,
    /// When it is looked at again if nothing comes of this publication.
    pub busy_until: Timestamp,
}

/// A place in the order in which the notifications of a channel wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakePosition {
    /// The wake-up.
    pub wake_at: Timestamp,
    /// Whose.
    pub id: NotificationId,
}

/// What an activator got.
#[derive(Debug)]
pub struct DueBatch {
    /// The database's time.
    pub now: Timestamp,
    /// To be published.
    pub due: Vec<Due>,
    /// How many more were looked at, and left in the backlog where their messages are.
    pub left_in_backlog: usize,
    /// Claims of workers that have run out; nothing was changed yet.
    pub claims_run_out: Vec<NotificationId>,
    /// When the first of those wakes that this batch did not look at.
    pub next_wake: Option<Timestamp>,
    /// By channel the last that this batch looked at, where it had as much as it may take.
    pub reached: BTreeMap<String, WakePosition>,
}

/// A notification whose worker never said what came of its call.
#[derive(Debug)]
pub struct ExpiredClaim {
    /// Which.
    pub id: NotificationId,
    /// Who had it.
    pub worker: Option<String>,
    /// Where it stands now.
    pub state: State,
}

/// A message that nobody could take.
#[derive(Debug)]
pub struct DeadLetter {
    /// The queue that gave it up.
    pub queue: String,
    /// Why, as the broker says it: `rejected`, `delivery_limit`, `expired`, `maxlen`.
    pub reason: String,
    /// The notifications that it names, if it can be read.
    pub ids: Vec<NotificationId>,
    /// Its body as it was.
    pub body: Vec<u8>,
}

// Where rows are found by their ids, `wake_at` is compared in a way that no index serves: statistics that were taken
// while nothing was due make the planner believe that index to be empty, and it would go through all of it for each id.

// Locked rows are passed over, so that activators share the work. Each channel has its own limit, so that a backlog
// of one starves no other. What was found is looked up as an array: the planner takes a limit that it does not know for
// a tenth of the table, and would rather go through all of it once than look up so many. `FOR UPDATE` sees the newest
// state, and the update asks again. It leaves `wake_at` where it is, so that it changes no index; `busy_until` counts from now
// and not from the due time, so that no two publications have the same.
const CLAIM_DUE: &str = "
WITH due AS MATERIALIZED (
    SELECT d.* FROM (
        SELECT channel, coalesce(wake_at, '-infinity') AS wake_at, coalesce(id, 0) AS id
        FROM unnest($1::text[], $5::timestamptz[], $6::bigint[]) AS given(channel, wake_at, id)
    ) c CROSS JOIN LATERAL (
        SELECT n.channel, n.id, n.state, n.wake_at, n.confirmed_at IS NOT NULL AND n.channel = ANY($4) AS is_left
        FROM notification n
        WHERE n.channel = c.channel AND n.wake_at IS NOT NULL AND (n.wake_at, n.id) > (c.wake_at, c.id)
            AND n.wake_at <= tocsin_now() + $3 * interval '1 microsecond'
            AND (n.busy_until IS NULL OR n.busy_until <= tocsin_now())
        ORDER BY n.wake_at, n.id LIMIT $2
        FOR UPDATE SKIP LOCKED
    ) d
), published AS (
    UPDATE notification n SET
        state = CASE WHEN n.state = 'scheduled' THEN 'queued' ELSE n.state END,
        busy_until = tocsin_now() + $3 * interval '1 microsecond' + interval '60 seconds',
        confirmed_at = NULL,
        reason = NULL
    WHERE n.id = ANY (ARRAY(SELECT id FROM due WHERE NOT is_left)) AND n.state IN ('scheduled', 'queued', 'retrying')
        AND coalesce(n.wake_at <= tocsin_now() + $3 * interval '1 microsecond', false)
        AND coalesce(n.busy_until <= tocsin_now(), true)
        AND NOT (n.confirmed_at IS NOT NULL AND n.channel = ANY($4))
    RETURNING n.id, n.fence, n.channel, n.organisation, n.due_at, n.busy_until
), left_in_backlog AS (
    UPDATE notification n SET wake_at = greatest(n.due_at, tocsin_now()) + interval '1 hour'
    WHERE n.id = ANY (ARRAY(SELECT id FROM due WHERE is_left)) AND n.state IN ('queued', 'retrying')
        AND coalesce(n.wake_at <= tocsin_now() + $3 * interval '1 microsecond', false)
        AND coalesce(n.busy_until <= tocsin_now(), true)
        AND n.confirmed_at IS NOT NULL AND n.channel = ANY($4)
    RETURNING n.id
), full_batches AS (
    SELECT channel, max(wake_at) AS wake_at FROM due GROUP BY channel HAVING count(*) = $2
), reached AS (
    SELECT array_agg(f.channel) AS channels, array_agg(f.wake_at) AS wakes,
        array_agg((SELECT max(d.id) FROM due d WHERE d.channel = f.channel AND d.wake_at = f.wake_at)) AS ids
    FROM full_batches f
), next AS (
    SELECT min(w.wake_at) AS wake_at FROM unnest($1::text[]) AS c(channel) CROSS JOIN LATERAL (
        SELECT n.wake_at FROM notification n
        WHERE n.channel = c.channel AND n.wake_at IS NOT NULL AND n.wake_at > tocsin_now() + $3 * interval '1 microsecond'
        ORDER BY n.wake_at LIMIT 1
    ) w
)
SELECT tocsin_now() AS now, next.wake_at AS next_wake, (SELECT count(*) FROM left_in_backlog) AS left_in_backlog,
    reached.channels AS reached_channels, reached.wakes AS reached_wakes, reached.ids AS reached_ids,
    (SELECT array_agg(id) FROM due WHERE state = 'sending') AS claims_run_out,
    route.*
FROM next CROSS JOIN reached LEFT JOIN (
    SELECT channel, organisation, min(busy_until) AS busy_until,
        array_agg(id) AS ids, array_agg(fence) AS fences, array_agg(due_at) AS due_ats
    FROM published GROUP BY channel, organisation
) route ON true";

// A notification is not published again within the hour after the broker has confirmed it, and not as long as its
// channel has a backlog: a backlog must not be fed to itself.
const MARK_CONFIRMED: &str = "
UPDATE notification n SET
    wake_at = greatest(n.due_at, tocsin_now()) + interval '1 hour',
    busy_until = NULL,
    confirmed_at = tocsin_now()
FROM unnest($1::bigint[], $2::int[], $3::timestamptz[]) AS x(id, fence, busy_until)
WHERE n.id = x.id AND n.fence = x.fence AND n.busy_until = x.busy_until AND n.state IN ('queued', 'retrying')";

const MARK_RETURNED: &str = "
UPDATE notification n SET
    state = CASE WHEN n.state = 'queued' THEN 'scheduled' ELSE n.state END,
    wake_at = tocsin_now() + least(60, 2 ^ n.returns) * interval '1 second',
    busy_until = NULL,
    returns = least(n.returns + 1, 100),
    reason = $4
FROM unnest($1::bigint[], $2::int[], $3::timestamptz[]) AS x(id, fence, busy_until)
WHERE n.id = x.id AND n.fence = x.fence AND n.busy_until = x.busy_until AND n.state IN ('queued', 'retrying')";

const MARK_UNCONFIRMED: &str = "
UPDATE notification n SET busy_until = NULL
FROM unnest($1::bigint[], $2::int[], $3::timestamptz[]) AS x(id, fence, busy_until)
WHERE n.id = x.id AND n.fence = x.fence AND n.busy_until = x.busy_until AND n.state IN ('queued', 'retrying')";

const EXPIRE_CLAIMS: &str = "
WITH lost AS (
    UPDATE notification n SET
        state = (CASE
            WHEN n.stop_requested THEN 'cancelled'
            WHEN n.on_unknown_fail OR n.attempts + 1 >= n.max_attempts THEN 'failed'
            ELSE 'retrying'
        END)::notification_state,
        attempts = n.attempts + 1,
        due_at = tocsin_now(),
        wake_at = CASE
            WHEN NOT (n.stop_requested OR n.on_unknown_fail OR n.attempts + 1 >= n.max_attempts) THEN tocsin_now()
        END,
        busy_until = NULL,
        finished_at = CASE
            WHEN n.stop_requested OR n.on_unknown_fail OR n.attempts + 1 >= n.max_attempts THEN tocsin_now()
        END,
        open_failure_at = CASE
            WHEN NOT n.stop_requested AND (n.on_unknown_fail OR n.attempts + 1 >= n.max_attempts) THEN tocsin_now()
        END,
        reason = CASE
            WHEN n.stop_requested THEN 'stopped while it was being sent'
            WHEN n.on_unknown_fail THEN 'nobody can tell whether it was sent, and on-unknown is fail'
            WHEN n.attempts + 1 >= n.max_attempts THEN 'all ' || n.max_attempts || ' attempts failed'
        END
    FROM unnest($1::bigint[]) AS x(id)
    WHERE n.id = x.id AND n.state = 'sending' AND n.busy_until <= tocsin_now()
    RETURNING n.id, n.fence, n.claimed_at, n.claimed_by, n.state
), history AS (
    INSERT INTO attempt (notification_id, number, started_at, finished_at, outcome, detail, worker)
    SELECT id, fence, claimed_at, tocsin_now(), 'unknown',
        'the worker did not say in time what came of the call: it died, hung or was cut off', claimed_by
    FROM lost
)
SELECT id, state::text, claimed_by FROM lost";

const DEAD_LETTERS_ADD: &str = "
WITH stored AS (
    INSERT INTO dead_letter (received_at, queue, reason, notification_ids, body)
    VALUES (tocsin_now(), $1, $2, $3, $4)
)
UPDATE notification n SET wake_at = greatest(n.due_at, tocsin_now()), busy_until = NULL, confirmed_at = NULL
FROM unnest($3::bigint[]) AS x(id) WHERE n.id = x.id AND n.state IN ('queued', 'retrying')";

impl Store {
    /// Takes what wakes within `ahead` from now, at most `limit` of each channel, to publish it. What the broker has
    /// confirmed it leaves alone for an hour more where it is of a channel that is `backlogged`: there its message waits.
    ///
    /// `after` says where to go on in a channel, as the batch before answered it: what that one took has left dead entries
    /// at the front of the index, and to pass over them again and again makes a large backlog slow. Who goes on must begin
    /// at the beginning now and then: what was locked by others, or has come to wake sooner, lies before it.
    pub async fn due_claim(
        &self,
        channels: &[&str],
        limit: i64,
        ahead: Duration,
        backlogged: &[&str],
        after: &BTreeMap<String, WakePosition>,
    ) -> Result<DueBatch> {
        let sent = Instant::now();
        let after: Vec<_> = channels.iter().map(|channel| after.get(*channel)).collect();
        let wakes: Vec<_> = after.iter().map(|position| position.map(|position| position.wake_at.to_sqlx())).collect();
        let ids: Vec<_> = after.iter().map(|position| position.map(|position| position.id.0)).collect();
        let rows = self
            .fetch_all(|| {
                let query = sqlx::query(CLAIM_DUE).bind(channels).bind(limit);
                query.bind(ahead.as_micros() as f64).bind(backlogged).bind(&wakes).bind(&ids)
            })
            .await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let now = row.try_get::<SqlTimestamp, _>("now")?.to_jiff();
        self.clock.learn(sent, now);
        let claims_run_out: Vec<i64> = array(row, "claims_run_out")?;
        let mut due = Vec::new();
        for route in &rows {
            due_of_route(route, &mut due)?;
        }
        Ok(DueBatch {
            now,
            due,
            left_in_backlog: usize::try_from(row.try_get::<i64, _>("left_in_backlog")?).unwrap_or_default(),
            claims_run_out: claims_run_out.into_iter().map(NotificationId).collect(),
            next_wake: row.try_get::<Option<SqlTimestamp>, _>("next_wake")?.map(|time| time.to_jiff()),
            reached: reached(row)?,
        })
    }

    /// The broker has them for sure: do not publish them again for an hour.
    pub async fn publications_confirmed(&self, publications: &[Publication]) -> Result<()> {
        self.mark(MARK_CONFIRMED, publications, None).await
    }

    /// The broker would not take them, for this reason: back to scheduled, each time for longer.
    pub async fn publications_returned(&self, publications: &[Publication], reason: &str) -> Result<()> {
        self.mark(MARK_RETURNED, publications, Some(reason)).await
    }

    /// Nobody knows whether the broker has them: publish them again as soon as possible.
    pub async fn publications_unconfirmed(&self, publications: &[Publication]) -> Result<()> {
        self.mark(MARK_UNCONFIRMED, publications, None).await
    }

    async fn mark(&self, statement: &'static str, publications: &[Publication], reason: Option<&str>) -> Result<()> {
        let mut publications = publications.to_vec();
        publications.sort_unstable();
        self.execute(|| {
            let query = sqlx::query(statement)
                .bind(publications.iter().map(|p| p.id.0).collect::<Vec<_>>())
                .bind(publications.iter().map(|p| p.fence).collect::<Vec<_>>())
                .bind(publications.iter().map(|p| p.busy_until.to_sqlx()).collect::<Vec<_>>());
            if reason.is_some() { query.bind(reason) } else { query }
        })
        .await
    }

    /// Marks the calls of claims that have run out as unknown, and decides by that what becomes of them.
    pub async fn claims_expire(&self, ids: &[NotificationId]) -> Result<Vec<ExpiredClaim>> {
        let ids = sorted(ids);
        let rows = self.fetch_all(|| sqlx::query(EXPIRE_CLAIMS).bind(&ids)).await?;
        let expired = |row: &PgRow| {
            Ok(ExpiredClaim {
                id: NotificationId(row.try_get("id")?),
                worker: row.try_get("claimed_by")?,
                state: state(row)?,
            })
        };
        rows.iter().map(expired).collect()
    }

    /// Keeps a message that nobody could take, and wakes the unfinished notifications that it names.
    pub async fn dead_letter_add(&self, letter: &DeadLetter) -> Result<()> {
        let ids = sorted(&letter.ids);
        self.execute(|| {
            let query = sqlx::query(DEAD_LETTERS_ADD).bind(&letter.queue).bind(&letter.reason).bind(&ids);
            query.bind(&letter.body)
        })
        .await
    }
}

fn reached(row: &PgRow) -> Result<BTreeMap<String, WakePosition>> {
    let channels: Vec<String> = array(row, "reached_channels")?;
    let wakes: Vec<SqlTimestamp> = array(row, "reached_wakes")?;
    let ids: Vec<i64> = array(row, "reached_ids")?;
    let positions = wakes.into_iter().zip(ids);
    let positions = positions.map(|(wake_at, id)| WakePosition { wake_at: wake_at.to_jiff(), id: NotificationId(id) });
    Ok(channels.into_iter().zip(positions).collect())
}

/// What is due of one channel and organisation: a row of the answer, in which there may be none.
fn due_of_route(row: &PgRow, due: &mut Vec<Due>) -> Result<()> {
    let Some(channel) = row.try_get::<Option<String>, _>("channel")? else { return Ok(()) };
    let ids: Vec<i64> = array(row, "ids")?;
    let fences: Vec<i32> = array(row, "fences")?;
    let due_ats: Vec<SqlTimestamp> = array(row, "due_ats")?;
    let busy_until = row.try_get::<SqlTimestamp, _>("busy_until")?.to_jiff();
    let organisation = Organisation::parse(row.try_get("organisation")?).map_err(|error| Error::Row {
        table: "notification",
        column: "organisation",
        id: ids.first().copied().unwrap_or_default(),
        problem: error.to_string(),
    })?;
    due.extend(ids.into_iter().zip(fences).zip(due_ats).map(|((id, fence), due_at)| Due {
        publication: Publication { id: NotificationId(id), fence, busy_until },
        channel: channel.clone(),
        organisation: organisation.clone(),
        due_at: due_at.to_jiff(),
    }));
    Ok(())
}
