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
/// fence is another; if it was published once more, or its message died, its wake-up is. Then nothing is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Publication {
    /// Which notification.
    pub id: NotificationId,
    /// Its fence at the time.
    pub fence: i32,
    /// When it wakes if nothing comes of this publication.
    pub wake_at: Timestamp,
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
// state, and the update asks again. A wake-up counts from now and not from the due time, so that no two publications
// have the same.
const CLAIM_DUE: &str = "
WITH due AS MATERIALIZED (
    SELECT d.* FROM (
        SELECT channel, coalesce(wake_at, '-infinity') AS wake_at, coalesce(id, 0) AS id
        FROM unnest($1::text[], $5::timestamptz[], $6::bigint[]) AS given(channel, wake_at, id)
    ) c CROSS JOIN LATERAL (
        SELECT n.channel, n.id, n.state, n.wake_at, n.confirmed_at FROM notification n
        WHERE n.channel = c.channel AND n.wake_at IS NOT NULL AND (n.wake_at, n.id) > (c.wake_at, c.id)
            AND n.wake_at <= tocsin_now() + $3 * interval '1 microsecond'
        ORDER BY n.wake_at, n.id LIMIT $2
        FOR UPDATE SKIP LOCKED
    ) d
), published AS (
    UPDATE notification n SET
        state = CASE WHEN n.state = 'scheduled' THEN 'queued' ELSE n.state END,
        wake_at = tocsin_now() + $3 * interval '1 microsecond' + interval '60 seconds',
        confirmed_at = NULL,
        reason = NULL
    WHERE n.id = ANY (ARRAY(SELECT id FROM due)) AND n.state IN ('scheduled', 'queued', 'retrying')
        AND coalesce(n.wake_at <= tocsin_now() + $3 * interval '1 microsecond', false)
        AND NOT (n.confirmed_at IS NOT NULL AND n.channel = ANY($4))
    RETURNING n.id, n.fence, n.channel, n.organisation, n.due_at, n.wake_at
), left_in_backlog AS (
    UPDATE notification n SET wake_at = greatest(n.due_at, tocsin_now()) + interval '1 hour'
    WHERE n.id = ANY (ARRAY(SELECT id FROM due WHERE confirmed_at IS NOT NULL AND channel = ANY($4)))
        AND n.state IN ('queued', 'retrying')
        AND coalesce(n.wake_at <= tocsin_now() + $3 * interval '1 microsecond', false)
        AND n.confirmed_at IS NOT NULL AND n.channel = ANY($4)
    RETURNING n.id
), reached AS (
    SELECT DISTINCT ON (channel) channel, wake_at, id, count(*) OVER (PARTITION BY channel) AS taken
    FROM due ORDER BY channel, wake_at DESC, id DESC
), reached_arrays AS (
    SELECT array_agg(channel ORDER BY channel) AS channels, array_agg(wake_at ORDER BY channel) AS wakes,
        array_agg(id ORDER BY channel) AS ids
    FROM reached WHERE taken = $2
), next AS (
    SELECT min(w.wake_at) AS wake_at FROM unnest($1::text[]) AS c(channel) CROSS JOIN LATERAL (
        SELECT n.wake_at FROM notification n
        WHERE n.channel = c.channel AND n.wake_at IS NOT NULL AND n.wake_at > tocsin_now() + $3 * interval '1 microsecond'
        ORDER BY n.wake_at LIMIT 1
    ) w
)
SELECT tocsin_now() AS now, next.wake_at AS next_wake, (SELECT count(*) FROM left_in_backlog) AS left_in_backlog,
    reached_arrays.channels AS reached_channels, reached_arrays.wakes AS reached_wakes, reached_arrays.ids AS reached_ids,
    (SELECT array_agg(id) FROM due WHERE state = 'sending' AND wake_at <= tocsin_now()) AS claims_run_out,
    found.*
FROM next CROSS JOIN reached_arrays CROSS JOIN (
    SELECT array_agg(id) AS ids, array_agg(fence) AS fences, array_agg(channel) AS channels,
        array_agg(organisation) AS organisations, array_agg(due_at) AS due_ats, array_agg(wake_at) AS wake_ats
    FROM published
) found";

// A notification is not published again within the hour after the broker has confirmed it, and not as long as its
// channel has a backlog: a backlog must not be fed to itself.
const MARK_CONFIRMED: &str = "
UPDATE notification n SET
    wake_at = greatest(n.due_at, tocsin_now()) + interval '1 hour',
    confirmed_at = tocsin_now()
FROM unnest($1::bigint[], $2::int[], $3::timestamptz[]) AS x(id, fence, wake_at)
WHERE n.id = x.id AND n.fence = x.fence AND n.wake_at IS NOT DISTINCT FROM x.wake_at AND n.state IN ('queued', 'retrying')";

const MARK_RETURNED: &str = "
UPDATE notification n SET
    state = CASE WHEN n.state = 'queued' THEN 'scheduled' ELSE n.state END,
    wake_at = tocsin_now() + least(60, 2 ^ n.returns) * interval '1 second',
    returns = least(n.returns + 1, 100),
    reason = $4
FROM unnest($1::bigint[], $2::int[], $3::timestamptz[]) AS x(id, fence, wake_at)
WHERE n.id = x.id AND n.fence = x.fence AND n.wake_at IS NOT DISTINCT FROM x.wake_at AND n.state IN ('queued', 'retrying')";

const MARK_UNCONFIRMED: &str = "
UPDATE notification n SET wake_at = tocsin_now()
FROM unnest($1::bigint[], $2::int[], $3::timestamptz[]) AS x(id, fence, wake_at)
WHERE n.id = x.id AND n.fence = x.fence AND n.wake_at IS NOT DISTINCT FROM x.wake_at AND n.state IN ('queued', 'retrying')";

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
    WHERE n.id = x.id AND n.state = 'sending' AND coalesce(n.wake_at <= tocsin_now(), false)
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
UPDATE notification n SET wake_at = greatest(n.due_at, tocsin_now()), confirmed_at = NULL
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
        Ok(DueBatch {
            now,
            due: due(row)?,
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
                .bind(publications.iter().map(|p| p.wake_at.to_sqlx()).collect::<Vec<_>>());
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

fn due(row: &PgRow) -> Result<Vec<Due>> {
    let ids: Vec<i64> = array(row, "ids")?;
    let fences: Vec<i32> = array(row, "fences")?;
    let wake_ats: Vec<SqlTimestamp> = array(row, "wake_ats")?;
    let channels: Vec<String> = array(row, "channels")?;
    let organisations: Vec<String> = array(row, "organisations")?;
    let due_ats: Vec<SqlTimestamp> = array(row, "due_ats")?;
    let publications = ids.into_iter().zip(fences).zip(wake_ats).map(|((id, fence), wake_at)| Publication {
        id: NotificationId(id),
        fence,
        wake_at: wake_at.to_jiff(),
    });
    let routes = channels.into_iter().zip(organisations).zip(due_ats);
    publications
        .zip(routes)
        .map(|(publication, ((channel, organisation), due_at))| {
            let organisation = Organisation::parse(&organisation).map_err(|error| Error::Row {
                table: "notification",
                column: "organisation",
                id: publication.id.0,
                problem: error.to_string(),
            })?;
            Ok(Due { publication, channel, organisation, due_at: due_at.to_jiff() })
        })
        .collect()
}
