use std::{
    borrow::Cow,
    str::FromStr,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use sqlx::{
    Connection, Decode, PgConnection, Postgres, Row, Type,
    migrate::{MigrateError, Migrator},
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    query::Query,
};
use tokio::time::timeout;

use crate::{
    DatabaseClock, Disposition, Error, Result,
    connections::{ACQUIRE_TIMEOUT, Connections, Lent},
};

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("../../migrations");
    // What is not known here was made by a newer version, beside which this one goes on.
    migrator.set_ignore_missing(true);
    migrator
});

/// A little more than Postgres's own limit on a statement.
const PATIENCE: Duration = Duration::from_secs(35);

const CONFLICT_TRIES: u32 = 5;

/// Postgres, as Tocsin uses it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) connections: Arc<Connections>,
    pub(crate) clock: Arc<DatabaseClock>,
}

impl Store {
    /// Prepares connections, but makes none yet: a database that is away shows when it is needed.
    ///
    /// `name` is what `pg_stat_activity` calls these connections: `program/version instance`, of which 63 bytes are kept. Each statement is planned once: all of the pipeline's
    /// find their rows by ids, and with the settings below there is one good plan for each, whatever the statistics say.
    /// To make it anew each time costs more than to carry it out for twenty rows.
    pub fn new(url: &str, name: &str, max_connections: u32) -> Result<Self> {
        Self::with_plans("force_generic_plan", url, name, max_connections)
    }

    /// The same for people's questions, whose filters may be given or not: those are planned each time.
    pub fn for_questions(url: &str, name: &str, max_connections: u32) -> Result<Self> {
        Self::with_plans("force_custom_plan", url, name, max_connections)
    }

    fn with_plans(plan_cache_mode: &str, url: &str, name: &str, max_connections: u32) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| Error::Url)?
            .application_name(name)
            .statement_cache_capacity(64)
            .options([
                ("statement_timeout", "30s"),
                ("lock_timeout", "1s"),
                ("idle_in_transaction_session_timeout", "15s"),
                // Every statement here finds its rows by an index, in id order. On tables without statistics the
                // planner would rather hash or sort, which is slow and locks rows in no order.
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                ("enable_bitmapscan", "off"),
                ("jit", "off"),
                ("plan_cache_mode", plan_cache_mode),
            ]);
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            // Connecting takes too long for a claim whose call must begin within 100 ms.
            .min_connections(max_connections.min(2))
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(Duration::from_secs(600))
            .test_before_acquire(false)
            .connect_lazy_with(options);
        Ok(Self { connections: Arc::new(Connections::of(pool)), clock: Arc::default() })
    }

    /// Runs statements on a connection, within a time limit, and once more if they were in somebody's way (SQLSTATE
    /// 40). The connection comes back with the result, or not at all.
    pub(crate) async fn run<T, W>(&self, statements: impl Fn(Lent) -> W) -> Result<T>
    where
        W: Future<Output = Result<(Lent, T)>>,
    {
        let mut tries = 1;
        loop {
            let lent = self.connections.lend().await?;
            match timeout(PATIENCE, statements(lent)).await {
                Err(_) => return Err(Error::Silence),
                Ok(Err(error)) if error.disposition() == Disposition::Conflict && tries < CONFLICT_TRIES => tries += 1,
                Ok(Err(error)) => return Err(error),
                Ok(Ok((lent, done))) => {
                    lent.give_back();
                    return Ok(done);
                }
            }
        }
    }

    /// Runs one statement and answers its rows.
    pub(crate) async fn fetch_all<'q>(&self, statement: impl Fn() -> Statement<'q>) -> Result<Vec<PgRow>> {
        self.run(|mut lent| {
            let statement = statement();
            async move {
                let rows = statement.fetch_all(&mut *lent).await?;
                Ok((lent, rows))
            }
        })
        .await
    }

    /// Runs one statement.
    pub(crate) async fn execute<'q>(&self, statement: impl Fn() -> Statement<'q>) -> Result<()> {
        self.fetch_all(statement).await.map(drop)
    }

    /// The database's time, as last seen.
    pub fn clock(&self) -> &DatabaseClock {
        &self.clock
    }

    /// Brings the schema up to date, and answers the migrations that were missing. Safe to run by several programs at
    /// once, older ones among them.
    pub async fn migrate(&self) -> Result<Vec<String>> {
        let applied = "SELECT version FROM _sqlx_migrations WHERE success";
        let (pool, _permit) = self.connections.pool().await?;
        let applied: Vec<i64> = match sqlx::query_scalar(applied).fetch_all(pool).await {
            Ok(applied) => applied,
            // The table is not there before the first migration.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        // A migration may take its time, and wait for one that another program has begun.
        let patient = PgConnectOptions::clone(&self.connections.options())
            .options([("statement_timeout", "0"), ("lock_timeout", "0")]);
        let mut connection = PgConnection::connect_with(&patient).await?;
        let mut tries = 1;
        loop {
            match MIGRATOR.run(&mut connection).await {
                // Roles belong to all databases of a server. Another one has made this role in the same moment, and this
                // connection has been told that it is there, but not yet which it is.
                Err(error) if code(&error).as_deref() == Some("42704") && tries < CONFLICT_TRIES => tries += 1,
                done => break done.map_err(refused)?,
            }
        }
        connection.close().await?;
        let missing = MIGRATOR.iter().filter(|migration| !applied.contains(&migration.version));
        Ok(missing.map(|migration| format!("{} {}", migration.version, migration.description)).collect())
    }

    /// Asks whether Postgres answers and has every migration that this program knows, and learns its time.
    pub async fn check(&self) -> Result<()> {
        let newest = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
        let sent = Instant::now();
        let asked = self.fetch_all(|| {
            let query = sqlx::query(
                "SELECT tocsin_now() AS now,
                     EXISTS (SELECT FROM _sqlx_migrations WHERE version = $1 AND success) AS applied",
            );
            query.bind(newest)
        });
        let rows = match asked.await {
            // Neither the function nor the table is there before the first migration.
            Err(Error::Database(sqlx::Error::Database(error)))
                if matches!(error.code().as_deref(), Some("42P01" | "42883")) =>
            {
                return Err(Error::SchemaOutdated(newest));
            }
            other => other?,
        };
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        self.clock.learn(sent, row.try_get::<jiff_sqlx::Timestamp, _>("now")?.to_jiff());
        if row.try_get("applied")? { Ok(()) } else { Err(Error::SchemaOutdated(newest)) }
    }

    /// Closes the connections in good order.
    pub async fn close(&self) {
        self.connections.close().await;
    }
}

/// The SQLSTATE.
fn code(error: &MigrateError) -> Option<Cow<'_, str>> {
    match error {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => cause.as_database_error()?.code(),
        _ => None,
    }
}

fn refused(error: MigrateError) -> Error {
    match code(&error).as_deref() {
        Some("42501") => Error::NotOwner(error),
        _ => Error::Migration(error),
    }
}

/// One of several arrays in which a statement answers, column by column: a row for each of hundreds takes longer to be sent
/// and read. No array is an empty one.
pub(crate) fn array<T>(row: &PgRow, column: &str) -> Result<Vec<T>>
where
    Vec<T>: for<'r> Decode<'r, Postgres> + Type<Postgres>,
{
    Ok(row.try_get::<Option<_>, _>(column)?.unwrap_or_default())
}

/// A statement and its arguments.
pub(crate) type Statement<'q> = Query<'q, Postgres, PgArguments>;
