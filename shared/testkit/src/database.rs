use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use devservers::Postgres;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, migrate::Migrator, postgres::PgPoolOptions};

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// Tests of several processes make databases at once; the template is made by one of them.
const TEMPLATE_LOCK: i64 = 7_019;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A fresh, migrated database.
#[derive(Debug, Clone)]
pub struct Database {
    url: String,
    /// For a test's own questions, as superuser.
    pub pool: PgPool,
}

impl Database {
    /// On the server of all tests.
    pub async fn create() -> Self {
        Self::create_at(&crate::addresses().postgres_url).await
    }

    /// On a server of the test's own.
    pub async fn create_on(postgres: &Postgres) -> Self {
        Self::create_at(&postgres.url("postgres")).await
    }

    async fn create_at(admin_url: &str) -> Self {
        let mut admin = PgConnection::connect(admin_url).await.expect("the database server answers");
        let template = make_template(&mut admin, admin_url).await;
        drop_those_of_ended_tests(&mut admin).await;
        let name = format!("t_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        execute(&mut admin, format!("DROP DATABASE IF EXISTS {name}")).await;
        execute(&mut admin, format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        Self::at(sibling(admin_url, &name))
    }

    fn at(url: String) -> Self {
        let pool = PgPoolOptions::new().max_connections(4).connect_lazy(&url).expect("a good URL");
        Self { url, pool }
    }

    /// A new database beside this one, without any migration.
    pub async fn create_empty(&self) -> Self {
        let name = format!("e_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("DROP DATABASE IF EXISTS {name}")).await;
        self.execute(&format!("CREATE DATABASE {name}")).await;
        Self::at(sibling(&self.url, &name))
    }

    /// Its URL, for its owner.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its URL, for the user that a program connects as.
    pub fn url_for(&self, program: &str) -> String {
        devservers::url_for(program, &self.url)
    }

    /// The same, for questions of the user that a program connects as.
    pub fn seen_by(&self, program: &str) -> Self {
        Self::at(self.url_for(program))
    }

    /// The SQLSTATE with which a statement fails.
    pub async fn refusal(&self, sql: &str) -> Option<String> {
        let error = crate::raw(sql).execute(&self.pool).await.err()?;
        Some(error.as_database_error().and_then(|error| error.code()).map_or(error.to_string(), Into::into))
    }

    /// Executes a statement of the test's own.
    pub async fn execute(&self, sql: &str) {
        let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        statement.execute(&self.pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The one number that a query gives.
    pub async fn count(&self, sql: &str) -> i64 {
        self.try_count(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The one number that a query gives, where the database may be away.
    pub async fn try_count(&self, sql: &str) -> sqlx::Result<i64> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.pool).await
    }

    /// The rows that a query of one text column gives.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
        query.fetch_all(&self.pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Puts the database's time off by so much: everything in Tocsin believes it.
    pub async fn shift_time(&self, interval: &str) {
        let body = format!("SELECT now() + interval '{interval}'");
        self.execute(&format!(
            "CREATE OR REPLACE FUNCTION tocsin_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$ {body} $$"
        ))
        .await;
    }

    /// Sets the caller-id registry.
    pub async fn set_caller_ids(&self, registry: &serde_json::Value) {
        sqlx::query(
            "INSERT INTO property (key, value) VALUES ('caller-id-registry', $1)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(registry)
        .execute(&self.pool)
        .await
        .expect("the registry is set");
    }
}

async fn make_template(admin: &mut PgConnection, admin_url: &str) -> String {
    let mut hasher = DefaultHasher::new();
    MIGRATOR.iter().for_each(|migration| migration.checksum.hash(&mut hasher));
    let name = format!("template_{:016x}", hasher.finish());
    execute(admin, format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await;
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(&name)
        .fetch_one(&mut *admin)
        .await
        .expect("pg_database can be read");
    if !exists {
        let unfinished = format!("{name}_unfinished");
        execute(admin, format!("DROP DATABASE IF EXISTS {unfinished}")).await;
        execute(admin, format!("CREATE DATABASE {unfinished}")).await;
        let mut connection =
            PgConnection::connect(&sibling(admin_url, &unfinished)).await.expect("the new database answers");
        MIGRATOR.run(&mut connection).await.expect("the migrations run");
        connection.close().await.expect("the connection closes");
        execute(admin, format!("ALTER DATABASE {unfinished} RENAME TO {name}")).await;
    }
    execute(admin, format!("SELECT pg_advisory_unlock({TEMPLATE_LOCK})")).await;
    name
}

/// Each holds more than ten megabytes, and together they would fill a small machine's disk.
async fn drop_those_of_ended_tests(admin: &mut PgConnection) {
    let databases = sqlx::query_as(
        "SELECT datname::text, split_part(datname, '_', 2) FROM pg_database WHERE datname ~ '^[te]_[0-9]+_[0-9]+$'",
    );
    let databases: Vec<(String, String)> = databases.fetch_all(&mut *admin).await.expect("pg_database can be read");
    for (name, pid) in databases {
        if !Path::new("/proc").join(pid).exists() {
            // Another test may be dropping it at the same time.
            drop(
                sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")))
                    .execute(&mut *admin)
                    .await,
            );
        }
    }
}

async fn execute(connection: &mut PgConnection, sql: String) {
    let statement = sqlx::raw_sql(AssertSqlSafe(sql.clone()));
    statement.execute(connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn sibling(url: &str, database: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("a database URL has a path");
    format!("{server}/{database}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_databases_of_tests_that_have_ended_are_dropped_and_no_others() {
        let own = Database::create().await;
        // No process has a number as high.
        own.execute("CREATE DATABASE t_4194305_0").await;
        own.execute("CREATE DATABASE e_4194305_1").await;
        Database::create().await;
        let left = "SELECT count(*) FROM pg_database WHERE datname LIKE '%\\_4194305\\_%'";
        assert_eq!(own.count(left).await, 0);
        assert_eq!(own.count("SELECT count(*) FROM pg_database WHERE datname = current_database()").await, 1);
    }
}
