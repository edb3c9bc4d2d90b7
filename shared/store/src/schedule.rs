use std::time::Duration;

use domain::schedule::{InvalidLine, Line, OnMissed, Overlap, Timetable};
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx};
use serde_json::Value;
use sqlx::{Row, postgres::PgRow};

use crate::{Error, Page, Result, Store, pool::Statement};

/// What a person says of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSchedule {
    /// Its name, which no other has.
    pub name: String,
    /// Whose it is.
    pub owner: Option<String>,
    /// What it is called elsewhere.
    pub external_id: Option<String>,
    /// `[{"cron": .., "time-zone": ..}]`, each of which `domain::schedule` can read.
    pub lines: Value,
    /// From when on; `None` for what it was, or for now.
    pub starts_at: Option<Timestamp>,
    /// Until when.
    pub ends_at: Option<Timestamp>,
    /// What becomes of occurrences that were missed.
    pub on_missed: OnMissed,
    /// For how long they are made up for.
    pub missed_window: Duration,
    /// What becomes of an occurrence while the process of the one before is not finished.
    pub overlap: Overlap,
    /// The request to start, with templates in its texts.
    pub request: Value,
}

/// A schedule, as it stands in the database.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRecord {
    /// Its number; a later one has a greater one.
    pub id: i64,
    /// What a person says of it.
    pub said: NewSchedule,
    /// From when on.
    pub starts_at: Timestamp,
    /// Since when nothing starts, as somebody said so.
    pub paused_at: Option<Timestamp>,
    /// The next occurrence, if there is one.
    pub next_at: Option<Timestamp>,
    /// The last occurrence that was looked at.
    pub last_at: Option<Timestamp>,
    /// The process that the last one started.
    pub last_process: Option<String>,
    /// Changes with each change by a person.
    pub version: i32,
    /// Since when there is it.
    pub created_at: Timestamp,
    /// When a person last changed it.
    pub updated_at: Timestamp,
    /// When somebody ended it for good.
    pub deleted_at: Option<Timestamp>,
}

impl ScheduleRecord {
    /// When it starts processes.
    pub fn timetable(&self) -> std::result::Result<Timetable, InvalidLine> {
        let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let lines = self.said.lines.as_array().into_iter().flatten();
        let lines = lines.map(|line| Line::parse(&text(line, "cron"), &text(line, "time-zone")));
        Ok(Timetable {
            lines: lines.collect::<std::result::Result<_, _>>()?,
            start: self.starts_at,
            end: self.said.ends_at,
        })
    }

    /// The source of the requests that it makes.
    pub fn source(&self) -> String {
        format!("schedule:{}", self.id)
    }
}

/// What is due of schedules.
#[derive(Debug)]
pub struct DueSchedules {
    /// The database's time.
    pub now: Timestamp,
    /// Those whose time has come, the earliest first.
    pub due: Vec<ScheduleRecord>,
    /// When the next one comes that is not due yet.
    pub next_at: Option<Timestamp>,
}

/// How it is with schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleCounts {
    /// Those that will start something.
    pub active: i64,
    /// Those that should have done so for longer than a few seconds.
    pub overdue: i64,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum ScheduleChange {
    /// It was made.
    Done(Box<ScheduleRecord>),
    /// There is no such schedule.
    Missing,
    /// Another has this name.
    NameTaken,
}

macro_rules! columns {
    () => {
        "id, name, owner, external_id, lines, starts_at, ends_at, on_missed, missed_window_seconds, overlap, request, \
         paused_at, next_at, last_at, last_process, version, created_at, updated_at, deleted_at"
    };
}

// Addresses live in one table and in templates; the audit has none.
macro_rules! audited {
    () => {
        "jsonb_strip_nulls(jsonb_build_object('name', name, 'owner', owner, 'external-id', external_id, 'lines', lines,
            'from', starts_at, 'until', ends_at, 'missed', on_missed, 'missed-window', missed_window_seconds,
            'overlap', overlap, 'paused', paused_at IS NOT NULL, 'request', md5(request::text)))"
    };
}

const CREATE: &str = concat!(
    "
WITH changed AS (
    INSERT INTO schedule (name, owner, external_id, lines, starts_at, ends_at, on_missed, missed_window_seconds, overlap,
        request, next_at, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, tocsin_now(), tocsin_now())
    ON CONFLICT (organisation, name) WHERE deleted_at IS NULL DO NOTHING
    RETURNING *
), audited AS (
    INSERT INTO audit (at, actor, action, object, after)
    SELECT tocsin_now(), $12, 'schedule.create', 'schedule ' || id, ",
    audited!(),
    " FROM changed
)
SELECT ",
    columns!(),
    " FROM changed"
);

const EDIT: &str = concat!(
    "
WITH old AS MATERIALIZED (
    SELECT id, ",
    audited!(),
    " AS said FROM schedule WHERE id = $13 AND version = $14 AND deleted_at IS NULL FOR UPDATE
), changed AS (
    UPDATE schedule s SET name = $1, owner = $2, external_id = $3, lines = $4, starts_at = $5, ends_at = $6,
        on_missed = $7, missed_window_seconds = $8, overlap = $9, request = $10,
        next_at = CASE WHEN paused_at IS NULL THEN $11::timestamptz END, version = version + 1, updated_at = tocsin_now()
    FROM old WHERE s.id = old.id
    RETURNING s.*
), audited AS (
    INSERT INTO audit (at, actor, action, object, before, after)
    SELECT tocsin_now(), $12, 'schedule.edit', 'schedule ' || id, (SELECT said FROM old), ",
    audited!(),
    " FROM changed
)
SELECT ",
    columns!(),
    " FROM changed"
);

const PAUSE: &str = concat!(
    "
WITH changed AS (
    UPDATE schedule SET paused_at = tocsin_now(), next_at = NULL, version = version + 1, updated_at = tocsin_now()
    WHERE id = $1 AND version = $2 AND deleted_at IS NULL
    RETURNING *
), audited AS (
    INSERT INTO audit (at, actor, action, object)
    SELECT tocsin_now(), $3, 'schedule.pause', 'schedule ' || id FROM changed
)
SELECT ",
    columns!(),
    " FROM changed"
);

const RESUME: &str = concat!(
    "
WITH changed AS (
    UPDATE schedule SET paused_at = NULL, next_at = $4, version = version + 1, updated_at = tocsin_now()
    WHERE id = $1 AND version = $2 AND deleted_at IS NULL
    RETURNING *
), audited AS (
    INSERT INTO audit (at, actor, action, object)
    SELECT tocsin_now(), $3, 'schedule.resume', 'schedule ' || id FROM changed
)
SELECT ",
    columns!(),
    " FROM changed"
);

const DELETE: &str = concat!(
    "
WITH changed AS (
    UPDATE schedule SET deleted_at = tocsin_now(), next_at = NULL, version = version + 1, updated_at = tocsin_now()
    WHERE id = $1 AND deleted_at IS NULL
    RETURNING *
), audited AS (
    INSERT INTO audit (at, actor, action, object, before)
    SELECT tocsin_now(), $2, 'schedule.delete', 'schedule ' || id, ",
    audited!(),
    " FROM changed
)
SELECT ",
    columns!(),
    " FROM changed"
);

// What it starts is in table `request`, under the schedule's name; here stands who wanted it.
const ORDERED: &str = "
INSERT INTO audit (at, actor, action, object, after)
SELECT tocsin_now(), $2, $3, 'schedule ' || id, $4 FROM schedule WHERE id = $1 AND deleted_at IS NULL
RETURNING id";

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM schedule
WHERE deleted_at IS NULL AND ($1::bigint IS NULL OR id < $1) AND ($2::text IS NULL OR name = $2)
    AND ($3::text IS NULL OR owner = $3) AND ($4::text IS NULL OR external_id = $4)
ORDER BY id DESC LIMIT $5"
);

const ONE: &str = concat!("SELECT ", columns!(), " FROM schedule WHERE id = $1 AND deleted_at IS NULL");

const ONE_OF_ALL: &str = concat!("SELECT ", columns!(), " FROM schedule WHERE id = $1");

const DUE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM schedule WHERE next_at IS NOT NULL AND next_at <= tocsin_now() AND id <> ALL($1) ORDER BY next_at, id LIMIT $2"
);

const NEXT: &str = "
SELECT tocsin_now() AS now,
    (SELECT min(next_at) FROM schedule WHERE next_at IS NOT NULL AND next_at > tocsin_now()) AS next_at";

const COUNTS: &str = "
SELECT count(*) AS active, count(*) FILTER (WHERE next_at <= tocsin_now() - interval '10 seconds') AS overdue
FROM schedule WHERE next_at IS NOT NULL";

/// Which schedules.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScheduleFilter<'a> {
    /// The one of this name.
    pub name: Option<&'a str>,
    /// Somebody's.
    pub owner: Option<&'a str>,
    /// What is called so elsewhere.
    pub external_id: Option<&'a str>,
}

impl Store {
    /// Makes a schedule whose first occurrence is at `next_at`.
    pub async fn schedule_create(
        &self,
        new: &NewSchedule,
        starts_at: Timestamp,
        next_at: Option<Timestamp>,
        by: &str,
    ) -> Result<ScheduleChange> {
        let rows = self.fetch_all(|| said(CREATE, new, starts_at, next_at, by)).await?;
        Ok(rows.first().map(changed).transpose()?.unwrap_or(ScheduleChange::NameTaken))
    }

    /// Changes all that a person says of a schedule. What was missed before is not made up for. `Missing` if it is not as it
    /// was read.
    pub async fn schedule_edit(
        &self,
        old: &ScheduleRecord,
        new: &NewSchedule,
        starts_at: Timestamp,
        next_at: Option<Timestamp>,
        by: &str,
    ) -> Result<ScheduleChange> {
        let edit = || said(EDIT, new, starts_at, next_at, by).bind(old.id).bind(old.version);
        match self.fetch_all(edit).await {
            Ok(rows) => Ok(rows.first().map(changed).transpose()?.unwrap_or(ScheduleChange::Missing)),
            Err(Error::Database(sqlx::Error::Database(error))) if error.code().as_deref() == Some("23505") => {
                Ok(ScheduleChange::NameTaken)
            }
            Err(error) => Err(error),
        }
    }

    /// Lets nothing of it start until it is resumed. `Missing` if it is not as it was read.
    pub async fn schedule_pause(&self, old: &ScheduleRecord, by: &str) -> Result<ScheduleChange> {
        let rows = self.fetch_all(|| sqlx::query(PAUSE).bind(old.id).bind(old.version).bind(by)).await?;
        Ok(rows.first().map(changed).transpose()?.unwrap_or(ScheduleChange::Missing))
    }

    /// Lets it go on from `next_at`. `Missing` if it is not as it was read.
    pub async fn schedule_resume(
        &self,
        old: &ScheduleRecord,
        next_at: Option<Timestamp>,
        by: &str,
    ) -> Result<ScheduleChange> {
        let next_at = next_at.map(|at| at.to_sqlx());
        let resume = || sqlx::query(RESUME).bind(old.id).bind(old.version).bind(by).bind(next_at);
        Ok(self.fetch_all(resume).await?.first().map(changed).transpose()?.unwrap_or(ScheduleChange::Missing))
    }

    /// Ends it for good. What it has started goes on.
    pub async fn schedule_delete(&self, id: i64, by: &str) -> Result<ScheduleChange> {
        let rows = self.fetch_all(|| sqlx::query(DELETE).bind(id).bind(by)).await?;
        Ok(rows.first().map(changed).transpose()?.unwrap_or(ScheduleChange::Missing))
    }

    /// Writes down that somebody wants occurrences of a schedule, before they start. False if there is no such schedule.
    pub async fn schedule_ordered(&self, id: i64, by: &str, action: &str, what: &Value) -> Result<bool> {
        let ordered = || sqlx::query(ORDERED).bind(id).bind(by).bind(action).bind(what);
        Ok(!self.fetch_all(ordered).await?.is_empty())
    }

    /// Schedules, the newest first.
    pub async fn schedules(&self, filter: ScheduleFilter<'_>, page: Page) -> Result<Vec<ScheduleRecord>> {
        let list = || {
            let query = sqlx::query(LIST).bind(page.before).bind(filter.name).bind(filter.owner);
            query.bind(filter.external_id).bind(page.limit)
        };
        self.fetch_all(list).await?.iter().map(record).collect()
    }

    /// One schedule, by its number.
    pub async fn schedule(&self, id: i64) -> Result<Option<ScheduleRecord>> {
        self.fetch_all(|| sqlx::query(ONE).bind(id)).await?.first().map(record).transpose()
    }

    /// The same, deleted or not.
    pub async fn schedule_of_all(&self, id: i64) -> Result<Option<ScheduleRecord>> {
        self.fetch_all(|| sqlx::query(ONE_OF_ALL).bind(id)).await?.first().map(record).transpose()
    }

    /// Those whose time has come, at most so many, without those that are to be `left` for now.
    pub async fn schedules_due(&self, left: &[i64], limit: i64) -> Result<DueSchedules> {
        let due = self.fetch_all(|| sqlx::query(DUE).bind(left).bind(limit)).await?;
        let next = self.fetch_all(|| sqlx::query(NEXT)).await?;
        let next = next.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(DueSchedules {
            now: next.try_get::<SqlTimestamp, _>("now")?.to_jiff(),
            due: due.iter().map(record).collect::<Result<_>>()?,
            next_at: time(next, "next_at")?,
        })
    }

    /// How many there are, and how many are late.
    pub async fn schedule_counts(&self) -> Result<ScheduleCounts> {
        let rows = self.fetch_all(|| sqlx::query(COUNTS)).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(ScheduleCounts { active: row.try_get("active")?, overdue: row.try_get("overdue")? })
    }
}

fn said<'q>(
    statement: &'static str,
    new: &'q NewSchedule,
    starts_at: Timestamp,
    next_at: Option<Timestamp>,
    by: &'q str,
) -> Statement<'q> {
    sqlx::query(statement)
        .bind(&new.name)
        .bind(&new.owner)
        .bind(&new.external_id)
        .bind(&new.lines)
        .bind(starts_at.to_sqlx())
        .bind(new.ends_at.map(|at| at.to_sqlx()))
        .bind(new.on_missed.as_str())
        .bind(i64::try_from(new.missed_window.as_secs()).unwrap_or(i64::MAX))
        .bind(new.overlap.as_str())
        .bind(&new.request)
        .bind(next_at.map(|at| at.to_sqlx()))
        .bind(by)
}

fn changed(row: &PgRow) -> Result<ScheduleChange> {
    Ok(ScheduleChange::Done(Box::new(record(row)?)))
}

fn record(row: &PgRow) -> Result<ScheduleRecord> {
    let id = row.try_get("id")?;
    let wrong = |column| {
        move |error: domain::schedule::UnknownPolicy| Error::Row {
            table: "schedule",
            column,
            id,
            problem: error.to_string(),
        }
    };
    let (on_missed, overlap): (&str, &str) = (row.try_get("on_missed")?, row.try_get("overlap")?);
    let starts_at = row.try_get::<SqlTimestamp, _>("starts_at")?.to_jiff();
    let window: i64 = row.try_get("missed_window_seconds")?;
    Ok(ScheduleRecord {
        id,
        said: NewSchedule {
            name: row.try_get("name")?,
            owner: row.try_get("owner")?,
            external_id: row.try_get("external_id")?,
            lines: row.try_get("lines")?,
            starts_at: Some(starts_at),
            ends_at: time(row, "ends_at")?,
            on_missed: on_missed.parse().map_err(wrong("on_missed"))?,
            missed_window: Duration::from_secs(u64::try_from(window).unwrap_or_default()),
            overlap: overlap.parse().map_err(wrong("overlap"))?,
            request: row.try_get("request")?,
        },
        starts_at,
        paused_at: time(row, "paused_at")?,
        next_at: time(row, "next_at")?,
        last_at: time(row, "last_at")?,
        last_process: row.try_get("last_process")?,
        version: row.try_get("version")?,
        created_at: row.try_get::<SqlTimestamp, _>("created_at")?.to_jiff(),
        updated_at: row.try_get::<SqlTimestamp, _>("updated_at")?.to_jiff(),
        deleted_at: time(row, "deleted_at")?,
    })
}

fn time(row: &PgRow, column: &str) -> Result<Option<Timestamp>> {
    Ok(row.try_get::<Option<SqlTimestamp>, _>(column)?.map(|at| at.to_jiff()))
}
