use domain::{
    OnUnknown, Outcome, State,
    explain::{Call, Held, Intervention, InterventionKind, StopRequest, Story},
};
use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde_json::Value;
use sqlx::{Row, postgres::PgRow};

use crate::{Error, Page, Result, Store};

/// All that is known of a notification, as it stood at one moment.
#[derive(Debug, Clone)]
pub struct NotificationReport {
    /// Its number; a later one has a greater one.
    pub id: i64,
    /// The request that made it.
    pub request: i64,
    /// When that was accepted.
    pub accepted_at: Timestamp,
    /// Calls that cost an attempt, since it was last tried again by hand.
    pub attempts: u16,
    /// Whom, where the channel has addresses.
    pub address: Option<String>,
    /// The channel's further keys that were given.
    pub options: Value,
    /// Somebody has decided that it is not to be tried again.
    pub given_up: bool,
    /// What decides why it was or was not sent.
    pub story: Story,
}

/// Which notifications.
#[derive(Debug, Clone, Copy, Default)]
pub struct NotificationFilter<'a> {
    /// In one state.
    pub state: Option<State>,
    /// Of one channel.
    pub channel: Option<&'a str>,
    /// Of one process, by its name.
    pub process: Option<&'a str>,
    /// To one address, letter by letter.
    pub address: Option<&'a str>,
    /// One alone.
    pub id: Option<i64>,
}

// One statement, so that all of it is of one moment.
const REPORTS: &str = "
WITH chosen AS MATERIALIZED (
    SELECT n.id FROM notification n
    WHERE ($1::bigint IS NULL OR n.id < $1)
        AND ($2::text IS NULL OR n.state = $2::notification_state)
        AND ($2::text IS NULL OR $2 IN ('delivered', 'failed', 'cancelled') OR n.wake_at IS NOT NULL)
        AND ($3::text IS NULL OR n.channel = $3)
        AND ($4::text IS NULL OR n.id IN (
            SELECT c.notification_id FROM process p JOIN request r ON r.process_id = p.id
            JOIN notification_content c ON c.request_id = r.id
            WHERE p.organisation = 'main' AND p.name = $4
        ))
        AND ($5::text IS NULL OR n.id IN (SELECT notification_id FROM notification_content WHERE address = $5))
        AND ($6::bigint IS NULL OR n.id = $6)
    ORDER BY n.id DESC LIMIT $7
)
SELECT n.*, n.state::text AS state_name, greatest(n.wake_at, n.busy_until) AS looked_at, p.name AS process,
    p.run AS newest_run, c.request_id, c.run, c.address, c.options,
    tocsin_now() AS now,
    (SELECT jsonb_agg(to_jsonb(a) ORDER BY a.number) FROM attempt a WHERE a.notification_id = n.id) AS calls,
    (SELECT to_jsonb(b) FROM channel_pause b WHERE b.channel IN (n.channel, 'all') ORDER BY b.channel = 'all' LIMIT 1)
        AS pause,
    (SELECT to_jsonb(s) FROM (
        SELECT r.id, r.received_at FROM request r
        WHERE r.process_id = n.process_id AND r.action = 'stop' AND r.outcome = 'accepted'
            AND r.id > c.request_id AND r.received_at <= coalesce(n.finished_at, tocsin_now())
        ORDER BY r.id DESC LIMIT 1
    ) s) AS stop,
    (SELECT jsonb_agg(to_jsonb(u) ORDER BY u.id) FROM audit u WHERE u.object = 'notification ' || n.id) AS audited
FROM chosen
JOIN notification n USING (id)
JOIN process p ON p.id = n.process_id
JOIN notification_content c ON c.notification_id = n.id
ORDER BY n.id DESC";

const PROCESSES: &str = "
SELECT p.id, p.name, p.run,
    (SELECT count(*) FROM notification n WHERE n.process_id = p.id AND n.finished_at IS NULL) AS unfinished,
    EXISTS (
        SELECT FROM notification n WHERE n.process_id = p.id AND n.finished_at IS NULL AND n.state = 'scheduled'
    ) AS active
FROM process p
WHERE p.organisation = 'main' AND ($1::bigint IS NULL OR p.id < $1) AND ($2::text IS NULL OR p.name = $2)
ORDER BY p.id DESC LIMIT $3";

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessRecord {
    /// Its number; a later one has a greater one.
    pub id: i64,
    /// Its name: the request's `process-id`.
    pub name: String,
    /// How often it was started.
    pub run: i32,
    /// How many of its notifications have not come to their end.
    pub unfinished: i64,
    /// One of its notifications was not handed over yet, so that a start would be ignored.
    pub active: bool,
}

impl Store {
    /// Notifications, the newest first, with all that is known of each.
    pub async fn notification_reports(
        &self,
        filter: NotificationFilter<'_>,
        page: Page,
    ) -> Result<Vec<NotificationReport>> {
        let list = || {
            sqlx::query(REPORTS)
                .bind(page.before)
                .bind(filter.state.map(State::as_str))
                .bind(filter.channel)
                .bind(filter.process)
                .bind(filter.address)
                .bind(filter.id)
                .bind(page.limit)
        };
        self.fetch_all(list).await?.iter().map(report).collect()
    }

    /// Processes, those first that were first started last; one alone, if it is named.
    pub async fn processes(&self, name: Option<&str>, page: Page) -> Result<Vec<ProcessRecord>> {
        let list = || sqlx::query(PROCESSES).bind(page.before).bind(name).bind(page.limit);
        let process = |row: &PgRow| {
            Ok(ProcessRecord {
                id: row.try_get("id")?,
                name: row.try_get("name")?,
                run: row.try_get("run")?,
                unfinished: row.try_get("unfinished")?,
                active: row.try_get("active")?,
            })
        };
        self.fetch_all(list).await?.iter().map(process).collect()
    }
}

fn report(row: &PgRow) -> Result<NotificationReport> {
    let id: i64 = row.try_get("id")?;
    let number =
        |column: &'static str| -> Result<u16> { Ok(u16::try_from(row.try_get::<i16, _>(column)?).unwrap_or_default()) };
    Ok(NotificationReport {
        id,
        request: row.try_get("request_id")?,
        accepted_at: row.try_get::<SqlTimestamp, _>("accepted_at")?.to_jiff(),
        attempts: number("attempts")?,
        address: row.try_get("address")?,
        options: row.try_get::<Option<Value>, _>("options")?.unwrap_or_default(),
        given_up: row.try_get("given_up")?,
        story: story(row, id)?,
    })
}

fn story(row: &PgRow, id: i64) -> Result<Story> {
    let time = |column: &str| -> Result<Timestamp> { Ok(row.try_get::<SqlTimestamp, _>(column)?.to_jiff()) };
    let maybe = |column: &str| -> Result<Option<Timestamp>> {
        Ok(row.try_get::<Option<SqlTimestamp>, _>(column)?.map(|at| at.to_jiff()))
    };
    let number =
        |column: &'static str| -> Result<u16> { Ok(u16::try_from(row.try_get::<i16, _>(column)?).unwrap_or_default()) };
    let json = |column: &'static str| -> Result<Json> {
        Ok(Json { column, id, value: row.try_get::<Option<Value>, _>(column)?.unwrap_or_default() })
    };
    Ok(Story {
        now: time("now")?,
        process: row.try_get("process")?,
        run: row.try_get("run")?,
        newest_run: row.try_get("newest_run")?,
        channel: row.try_get("channel")?,
        state: state_named(row)?,
        reason: row.try_get("reason")?,
        scheduled_at: time("scheduled_at")?,
        due_at: time("due_at")?,
        wake_at: maybe("looked_at")?,
        expires_at: time("expires_at")?,
        claimed_at: maybe("claimed_at")?,
        claimed_by: row.try_get("claimed_by")?,
        finished_at: maybe("finished_at")?,
        max_attempts: number("max_attempts")?,
        on_unknown: if row.try_get("on_unknown_fail")? { OnUnknown::Fail } else { OnUnknown::Retry },
        returns: number("returns")?,
        stop_requested: row.try_get("stop_requested")?,
        calls: json("calls")?.items().iter().map(call).collect::<Result<_>>()?,
        pause: json("pause")?.present().map(|pause| held(&pause)).transpose()?,
        stop: json("stop")?.present().map(|stop| stop_request(&stop)).transpose()?,
        interventions: json("audited")?
            .items()
            .iter()
            .filter_map(|entry| intervention(entry).transpose())
            .collect::<Result<_>>()?,
    })
}

fn state_named(row: &PgRow) -> Result<State> {
    let name: &str = row.try_get("state_name")?;
    name.parse().map_err(|error: domain::UnknownState| Error::Row {
        table: "notification",
        column: "state",
        id: row.try_get("id").unwrap_or_default(),
        problem: error.to_string(),
    })
}

/// What Postgres has put together of other tables' rows.
struct Json {
    column: &'static str,
    id: i64,
    value: Value,
}

impl Json {
    fn items(&self) -> Vec<Self> {
        let items = self.value.as_array().into_iter().flatten();
        items.map(|value| Self { value: value.clone(), ..*self }).collect()
    }

    fn present(self) -> Option<Self> {
        (!self.value.is_null()).then_some(self)
    }

    fn text(&self, key: &str) -> Option<String> {
        self.value[key].as_str().map(str::to_owned)
    }

    fn number(&self, key: &str) -> i64 {
        self.value[key].as_i64().unwrap_or_default()
    }

    fn required<T: std::str::FromStr>(&self, key: &str) -> Result<T> {
        self.text(key).and_then(|text| text.parse().ok()).ok_or_else(|| Error::Row {
            table: "notification",
            column: self.column,
            id: self.id,
            problem: format!("{key} of its history can't be read"),
        })
    }
}

fn call(call: &Json) -> Result<Call> {
    Ok(Call {
        number: i32::try_from(call.number("number")).unwrap_or_default(),
        worker: call.text("worker"),
        started_at: call.required("started_at")?,
        finished_at: call.required("finished_at")?,
        outcome: call.required("outcome")?,
        detail: call.text("detail"),
        provider_id: call.text("provider_id").or_else(|| call.text("late_provider_id")),
        late_outcome: call.text("late_outcome").and_then(|name| name.parse::<Outcome>().ok()),
    })
}

fn held(pause: &Json) -> Result<Held> {
    Ok(Held {
        channel: pause.required("channel")?,
        by: pause.required("paused_by")?,
        since: pause.required("paused_at")?,
        reason: pause.text("reason"),
    })
}

fn stop_request(stop: &Json) -> Result<StopRequest> {
    Ok(StopRequest { request: stop.number("id"), at: stop.required("received_at")? })
}

/// `None` for what does not concern the question whether it was sent.
fn intervention(entry: &Json) -> Result<Option<Intervention>> {
    let kind = match entry.text("action").as_deref() {
        Some("notification.retry") => InterventionKind::Retry,
        Some("notification.edit") => InterventionKind::Edit,
        Some("notification.give-up") => InterventionKind::GiveUp,
        _ => return Ok(None),
    };
    Ok(Some(Intervention { at: entry.required("at")?, actor: entry.required("actor")?, kind }))
}
