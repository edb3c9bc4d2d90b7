use std::time::Duration;

use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{Result, Store};

/// The lease of who starts what schedules say.
pub const SCHEDULER: &str = "scheduler";

/// A duty that one process at a time has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Which duty.
    pub name: String,
    /// Who has it, or had it last: `program/version instance`.
    pub holder: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when, unless it is renewed.
    pub expires_at: Timestamp,
    /// The holder's number; the next one gets a greater one.
    pub fence: i64,
    /// Whether it is held now.
    pub is_held: bool,
}

/// A lease that the caller holds, or held: what it writes is refused once somebody else has taken it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLease {
    /// Which.
    pub name: &'static str,
    /// The number that goes with it.
    pub fence: i64,
}

// A row that is there is only updated, as an insert would wait for whoever has locked it.
const TAKE: &str = "
WITH taken AS (
    UPDATE lease SET holder = $2, since = tocsin_now(), fence = fence + 1,
        expires_at = tocsin_now() + $3 * interval '1 second'
    WHERE name = $1 AND expires_at <= tocsin_now()
    RETURNING fence
), made AS (
    INSERT INTO lease (name, holder, since, expires_at, fence)
    SELECT $1, $2, tocsin_now(), tocsin_now() + $3 * interval '1 second', 1
    WHERE NOT EXISTS (SELECT FROM lease WHERE name = $1)
    ON CONFLICT (name) DO NOTHING
    RETURNING fence
)
SELECT fence FROM taken UNION ALL SELECT fence FROM made";

// Nobody else has it as long as the number is the same, even if it has run out meanwhile.
const RENEW: &str = "
UPDATE lease SET expires_at = tocsin_now() + $3 * interval '1 second' WHERE name = $1 AND fence = $2 RETURNING fence";

const GIVE_UP: &str = "
UPDATE lease SET expires_at = tocsin_now() WHERE name = $1 AND fence = $2 AND expires_at > tocsin_now()";

const LEASES: &str = "
SELECT name, holder, since, expires_at, fence, expires_at > tocsin_now() AS is_held FROM lease ORDER BY name";

/// Stands first in a transaction whose writes are the holder's alone. The lock on the row lasts to its end, and who wants to
/// take the lease must wait for it: between this look and the commit nobody can have become the holder. Without a row,
/// somebody else is.
const HOLD: &str = "SELECT FROM lease WHERE name = $1 AND fence = $2 FOR SHARE";

impl Store {
    /// Takes a lease for so long, if nobody holds it.
    pub async fn lease_take(&self, name: &'static str, holder: &str, life: Duration) -> Result<Option<HeldLease>> {
        let take = || sqlx::query(TAKE).bind(name).bind(holder).bind(life.as_secs_f64());
        let rows = self.fetch_all(take).await?;
        let held = |row: &PgRow| Ok(HeldLease { name, fence: row.try_get("fence")? });
        rows.first().map(held).transpose()
    }

    /// Holds it for so long from now. False if somebody else has taken it.
    pub async fn lease_renew(&self, lease: &HeldLease, life: Duration) -> Result<bool> {
        let renew = || sqlx::query(RENEW).bind(lease.name).bind(lease.fence).bind(life.as_secs_f64());
        Ok(!self.fetch_all(renew).await?.is_empty())
    }

    /// Lets somebody else take it at once.
    pub async fn lease_give_up(&self, lease: &HeldLease) -> Result<()> {
        self.execute(|| sqlx::query(GIVE_UP).bind(lease.name).bind(lease.fence)).await
    }

    /// Every lease that was ever taken.
    pub async fn leases(&self) -> Result<Vec<LeaseRecord>> {
        let record = |row: &PgRow| {
            Ok(LeaseRecord {
                name: row.try_get("name")?,
                holder: row.try_get("holder")?,
                since: row.try_get::<SqlTimestamp, _>("since")?.to_jiff(),
                expires_at: row.try_get::<SqlTimestamp, _>("expires_at")?.to_jiff(),
                fence: row.try_get("fence")?,
                is_held: row.try_get("is_held")?,
            })
        };
        self.fetch_all(|| sqlx::query(LEASES)).await?.iter().map(record).collect()
    }
}

/// Whether the lease is still the caller's, until the transaction ends.
pub(crate) async fn hold(transaction: &mut PgConnection, lease: &HeldLease) -> Result<bool> {
    let rows = sqlx::query(HOLD).bind(lease.name).bind(lease.fence).fetch_all(transaction).await?;
    Ok(!rows.is_empty())
}
