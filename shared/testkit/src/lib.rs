//! What tests need: a fresh database and a fresh vhost for each, queues, the provider simulator, and Tocsin's programs
//! as processes. The servers are those that `cargo xtask test` has started.
//!
//! Everything here panics where it can't go on, as tests do.

mod api;
mod arena;
mod browser;
mod database;
mod program;
mod simulator;
mod sqs;
mod vhost;

use std::{
    future::Future,
    time::{Duration, Instant},
};

pub use api::{Answer, Api};
pub use arena::Arena;
pub use browser::{Browser, Rules, Theme};
pub use database::Database;
pub use devservers::{Relay, Signal};
pub use program::{Program, binary};
pub use simulator::{Simulator, WEBHOOK_SECRET};
pub use sqs::Queue;
pub use vhost::Vhost;

/// A machine that has many tests at once may take so many times as long as one that has nothing else to do.
const BUSY: u32 = 3;

/// Waits until `fact` gives something; panics, naming `what`, after `BUSY` times the limit of a machine that is not busy.
pub async fn wait_for<T, W>(what: &str, limit: Duration, mut fact: impl FnMut() -> W) -> T
where
    W: Future<Output = Option<T>>,
{
    let limit = limit * BUSY;
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = fact().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {} s: {what}", limit.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A statement of the test's own.
pub fn raw(sql: &str) -> sqlx::RawSql {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
}

pub(crate) fn addresses() -> devservers::Addresses {
    devservers::Addresses::of_test_servers().unwrap_or_else(|error| panic!("{error:#}"))
}
