use domain::{ApiKey, Role};
use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use sqlx::{Row, postgres::PgRow};

use crate::{Error, Result, Store};

/// A key of the HTTP API, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRecord {
    /// The part of it by which it is named.
    pub prefix: String,
    /// Whose it is, or what it is for.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// Since when there is it.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Since when it opens nothing any more.
    pub revoked_at: Option<Timestamp>,
}

const CREATE: &str = "
WITH created AS (
    INSERT INTO api_key (prefix, name, role, hash, created_at, created_by)
    VALUES ($1, $2, $3, $4, tocsin_now(), $5)
)
INSERT INTO audit (at, actor, action, object, after)
VALUES (tocsin_now(), $5, 'key.create', 'key ' || $1, jsonb_build_object('name', $2, 'role', $3))";

const REVOKE: &str = "
WITH revoked AS (
    UPDATE api_key SET revoked_at = tocsin_now() WHERE prefix = $1 AND revoked_at IS NULL
    RETURNING prefix, name, role, created_at, created_by, revoked_at
), audited AS (
    INSERT INTO audit (at, actor, action, object, before)
    SELECT tocsin_now(), $2, 'key.revoke', 'key ' || prefix, jsonb_build_object('name', name, 'role', role) FROM revoked
)
SELECT * FROM revoked";

impl Store {
    /// Keeps a new key's hash. `name` has 1 to 100 characters.
    pub async fn api_key_create(&self, key: &ApiKey, name: &str, role: Role, by: &str) -> Result<()> {
        let hash = key.hash();
        self.execute(|| {
            let query = sqlx::query(CREATE).bind(key.prefix()).bind(name).bind(role.as_str());
            query.bind(&hash).bind(by)
        })
        .await
    }

    /// The key that somebody shows, if it is known and not revoked.
    pub async fn api_key_find(&self, key: &ApiKey) -> Result<Option<ApiKeyRecord>> {
        let hash = key.hash();
        let find = "SELECT prefix, name, role, created_at, created_by, revoked_at FROM api_key
                    WHERE prefix = $1 AND hash = $2 AND revoked_at IS NULL";
        let rows = self.fetch_all(|| sqlx::query(find).bind(key.prefix()).bind(&hash)).await?;
        rows.first().map(record).transpose()
    }

    /// All keys, the newest first, revoked ones among them.
    pub async fn api_keys(&self) -> Result<Vec<ApiKeyRecord>> {
        let list = "SELECT prefix, name, role, created_at, created_by, revoked_at FROM api_key ORDER BY id DESC";
        self.fetch_all(|| sqlx::query(list)).await?.iter().map(record).collect()
    }

    /// Makes a key open nothing any more, and answers what it was; `None` if there is no such key, or it is revoked.
    pub async fn api_key_revoke(&self, prefix: &str, by: &str) -> Result<Option<ApiKeyRecord>> {
        self.fetch_all(|| sqlx::query(REVOKE).bind(prefix).bind(by)).await?.first().map(record).transpose()
    }
}

pub(crate) fn record(row: &PgRow) -> Result<ApiKeyRecord> {
    let role: &str = row.try_get("role")?;
    Ok(ApiKeyRecord {
        prefix: row.try_get("prefix")?,
        name: row.try_get("name")?,
        role: role.parse().map_err(|error: domain::UnknownRole| Error::Row {
            table: "api_key",
            column: "role",
            id: 0,
            problem: error.to_string(),
        })?,
        created_at: row.try_get::<SqlTimestamp, _>("created_at")?.to_jiff(),
        created_by: row.try_get("created_by")?,
        revoked_at: row.try_get::<Option<SqlTimestamp>, _>("revoked_at")?.map(|at| at.to_jiff()),
    })
}
