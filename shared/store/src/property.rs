use crate::{Result, Store};

impl Store {
    /// Sets a property, such as `caller-id-registry`, to a JSON value.
    pub async fn property_set(&self, key: &str, value: &serde_json::Value) -> Result<()> {
        let set = "INSERT INTO property (key, value, updated_at) VALUES ($1, $2, tocsin_now())
                   ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at";
        self.execute(|| sqlx::query(set).bind(key).bind(value)).await
    }
}
