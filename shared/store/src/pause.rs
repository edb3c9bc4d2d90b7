use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use sqlx::{Row, postgres::PgRow};

use crate::{Result, Store};

/// Stands for every channel.
pub const ALL_CHANNELS: &str = "all";

/// A channel whose workers claim nothing, since somebody said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Its name, or [`ALL_CHANNELS`].
    pub channel: String,
    /// Since when.
    pub paused_at: Timestamp,
    /// Who said so, in their own words.
    pub paused_by: String,
    /// Why, in their own words.
    pub reason: Option<String>,
}

impl std::fmt::Display for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { channel, paused_at, paused_by, reason } = self;
        write!(f, "{channel} is paused by {paused_by} since {paused_at:.0}")?;
        reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

const PAUSES: &str = "SELECT channel, paused_at, paused_by, reason FROM channel_pause ORDER BY channel";

const PAUSES_OF: &str = "SELECT channel, paused_at, paused_by, reason FROM channel_pause WHERE channel IN ($1, 'all')";

const PAUSE: &str = "
WITH before AS MATERIALIZED (
    SELECT jsonb_build_object('by', paused_by, 'reason', reason) AS pause FROM channel_pause WHERE channel = $1
    FOR UPDATE
), paused AS (
    INSERT INTO channel_pause (channel, paused_at, paused_by, reason) VALUES ($1, tocsin_now(), $2, $3)
    ON CONFLICT (channel) DO UPDATE SET paused_by = excluded.paused_by, reason = excluded.reason
)
INSERT INTO audit (at, actor, action, object, before, after)
VALUES (tocsin_now(), $2, 'channel.pause', 'channel ' || $1, (SELECT pause FROM before),
    jsonb_build_object('by', $2, 'reason', $3))";

const RESUME: &str = "
WITH resumed AS (
    DELETE FROM channel_pause WHERE channel = $1 OR $1 = 'all' RETURNING channel, paused_at, paused_by, reason
), audited AS (
    INSERT INTO audit (at, actor, action, object, before)
    SELECT tocsin_now(), $2, 'channel.resume', 'channel ' || channel,
        jsonb_build_object('by', paused_by, 'reason', reason)
    FROM resumed
)
SELECT * FROM resumed ORDER BY channel";

impl Store {
    /// Pauses a channel, or all. One that is paused already is so for this reason now. After this no claim of it succeeds.
    pub async fn channel_pause(&self, channel: &str, by: &str, reason: Option<&str>) -> Result<()> {
        self.execute(|| sqlx::query(PAUSE).bind(channel).bind(by).bind(reason)).await
    }

    /// Lets a channel go on, or all; of all, the ones that were paused by name too. Answers what was lifted.
    pub async fn channel_resume(&self, channel: &str, by: &str) -> Result<Vec<Pause>> {
        let rows = self.fetch_all(|| sqlx::query(RESUME).bind(channel).bind(by)).await?;
        rows.iter().map(pause).collect()
    }

    /// Every pause there is.
    pub async fn channel_pauses(&self) -> Result<Vec<Pause>> {
        self.fetch_all(|| sqlx::query(PAUSES)).await?.iter().map(pause).collect()
    }

    /// Why this channel is paused, if it is.
    pub async fn channel_paused(&self, channel: &str) -> Result<Option<Pause>> {
        self.fetch_all(|| sqlx::query(PAUSES_OF).bind(channel)).await?.first().map(pause).transpose()
    }
}

fn pause(row: &PgRow) -> Result<Pause> {
    Ok(Pause {
        channel: row.try_get("channel")?,
        paused_at: row.try_get::<SqlTimestamp, _>("paused_at")?.to_jiff(),
        paused_by: row.try_get("paused_by")?,
        reason: row.try_get("reason")?,
    })
}
