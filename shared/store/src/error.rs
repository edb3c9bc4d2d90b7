use std::result;

/// What every method of the store returns.
pub type Result<T> = result::Result<T, Error>;

/// Something went wrong between here and Postgres.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres, or the way to it.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("database migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// Who asked for it may not change the schema.
    #[error("only the database's owner can bring its schema up to date: name that user in TOCSIN_DATABASE__URL ({0})")]
    NotOwner(#[source] sqlx::migrate::MigrateError),
    /// No answer in time; whether the statement was carried out is not known.
    #[error("database: no answer in time")]
    Silence,
    /// The database URL can't be used. It is not shown, as it holds a password.
    #[error("the database URL can't be read; it looks like postgres://user:password@host:5432/tocsin")]
    Url,
    /// The schema is older than this program.
    #[error("the database lacks migration {0}: run `tocsin migrate` as its owner")]
    SchemaOutdated(i64),
    /// Of many only the first were retried.
    #[error("{retried} were retried, and then: {cause}")]
    Interrupted {
        /// How many.
        retried: i64,
        /// What the others met.
        cause: Box<Error>,
    },
    /// A row that no program of this version can have written.
    #[error("table {table}, {column} of row {id}: {problem}")]
    Row {
        /// Where.
        table: &'static str,
        /// Where.
        column: &'static str,
        /// Which row.
        id: i64,
        /// What.
        problem: String,
    },
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The data itself is refused (SQLSTATE class 22 or 23): leave it out and go on with the rest.
    BadData,
    /// Somebody was in the way (class 40): the same statement again, at once.
    Conflict,
    /// A row was locked for too long, or the statement took too long (55P03, 57014): the same in smaller parts.
    TooMuch,
    /// Postgres is away, overloaded or not set up yet: the same again, after a while.
    Wait,
}

impl Error {
    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                match code.get(..2) {
                    Some("22" | "23") => Disposition::BadData,
                    Some("40") => Disposition::Conflict,
                    _ if matches!(&*code, "55P03" | "57014") => Disposition::TooMuch,
                    _ => Disposition::Wait,
                }
            }
            Self::Interrupted { cause, .. } => cause.disposition(),
            Self::Database(_)
            | Self::Migration(_)
            | Self::NotOwner(_)
            | Self::Silence
            | Self::Url
            | Self::SchemaOutdated(_)
            | Self::Row { .. } => Disposition::Wait,
        }
    }
}
