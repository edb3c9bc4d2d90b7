use crate::{ApiKeyRecord, Result, Store, api_key};

const OPEN: &str = "
WITH expired AS (DELETE FROM session WHERE expires_at <= tocsin_now())
INSERT INTO session (hash, key_id, expires_at)
SELECT $1, id, tocsin_now() + interval '12 hours' FROM api_key WHERE prefix = $2";

const FIND: &str = "
SELECT k.prefix, k.name, k.role, k.created_at, k.created_by, k.revoked_at FROM session s JOIN api_key k ON k.id = s.key_id
WHERE s.hash = $1 AND s.expires_at > tocsin_now() AND k.revoked_at IS NULL";

impl Store {
    /// Keeps that somebody has logged in with a key, for twelve hours. Of their token only this hash is kept.
    pub async fn session_open(&self, token_hash: &[u8], key_prefix: &str) -> Result<()> {
        self.execute(|| sqlx::query(OPEN).bind(token_hash).bind(key_prefix)).await
    }

    /// The key with which somebody has logged in, if they still are.
    pub async fn session_find(&self, token_hash: &[u8]) -> Result<Option<ApiKeyRecord>> {
        self.fetch_all(|| sqlx::query(FIND).bind(token_hash)).await?.first().map(api_key::record).transpose()
    }

    /// Ends a session.
    pub async fn session_close(&self, token_hash: &[u8]) -> Result<()> {
        self.execute(|| sqlx::query("DELETE FROM session WHERE hash = $1").bind(token_hash)).await
    }
}
