use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde_json::Value;
use sqlx::{Row, postgres::PgRow};

use crate::{Page, Result, Store};

/// What somebody changed.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    /// Its number; a later one has a greater one.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who: `key 1a2b3c4d (name)`, or `maria@host`.
    pub actor: String,
    /// What was done, such as `notification.retry`.
    pub action: String,
    /// To what, such as `notification 17`.
    pub object: String,
    /// What it was before. Of addresses and texts only a part is kept.
    pub before: Option<Value>,
    /// What it is since.
    pub after: Option<Value>,
}

const LIST: &str = "
SELECT id, at, actor, action, object, before, after FROM audit
WHERE ($1::bigint IS NULL OR id < $1) AND ($2::text IS NULL OR object = $2)
ORDER BY id DESC LIMIT $3";

impl Store {
    /// What was changed, the newest first; only of one object, such as `channel phone`, if it is named.
    pub async fn audit_list(&self, object: Option<&str>, page: Page) -> Result<Vec<AuditRecord>> {
        let list = || sqlx::query(LIST).bind(page.before).bind(object).bind(page.limit);
        self.fetch_all(list).await?.iter().map(record).collect()
    }
}

pub(crate) fn record(row: &PgRow) -> Result<AuditRecord> {
    Ok(AuditRecord {
        id: row.try_get("id")?,
        at: row.try_get::<SqlTimestamp, _>("at")?.to_jiff(),
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        object: row.try_get("object")?,
        before: row.try_get("before")?,
        after: row.try_get("after")?,
    })
}
