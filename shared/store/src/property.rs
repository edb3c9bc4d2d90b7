use serde_json::Value;
use sqlx::Row;

use crate::{Result, Store};

const SET: &str = "
WITH before AS MATERIALIZED (
    SELECT value FROM property WHERE key = $1 FOR UPDATE
), changed AS (
    INSERT INTO property (key, value, updated_at) VALUES ($1, $2, tocsin_now())
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at
)
INSERT INTO audit (at, actor, action, object, before, after)
VALUES (tocsin_now(), $3, 'property.set', 'property ' || $1, (SELECT value FROM before), $2)";

impl Store {
    /// A property, such as `caller-id-registry`, if it is set.
    pub async fn property(&self, key: &str) -> Result<Option<Value>> {
        let rows = self.fetch_all(|| sqlx::query("SELECT value FROM property WHERE key = $1").bind(key)).await?;
        Ok(rows.first().map(|row| row.try_get("value")).transpose()?)
    }

    /// Sets a property to a JSON value. Every claim from then on is made with it.
    pub async fn property_set(&self, key: &str, value: &Value, by: &str) -> Result<()> {
        self.execute(|| sqlx::query(SET).bind(key).bind(value).bind(by)).await
    }
}
