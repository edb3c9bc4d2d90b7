//! The store on a real Postgres: each test has a fresh database.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod claims;
mod connections;
mod pauses;
mod repairs;
mod requests;
mod retention;
mod rights;
mod schedules;
mod statistics;
mod transitions;

use std::{collections::BTreeMap, time::Duration};

use domain::{NotificationId, Outcome, State};
use store::{AttemptResult, Claim, ClaimRequest, DueBatch, Store};
use testkit::Database;

async fn fresh() -> (Database, Store) {
    let database = Database::create().await;
    let store = Store::new(database.url(), "test", 8).unwrap();
    (database, store)
}

/// Puts a notification of channel phone and of a process of its own straight into the table.
async fn insert(database: &Database, process: &str, columns: &str, values: &str) -> NotificationId {
    let sql = format!(
        "WITH p AS (INSERT INTO process (name, run) VALUES ('{process}', 1)
                    ON CONFLICT (organisation, name) DO UPDATE SET run = 1 RETURNING id),
              r AS (INSERT INTO request (source, message_id, received_at, outcome, body)
                    VALUES ('test', gen_random_uuid()::text, now(), 'accepted', '') RETURNING id),
         n AS (
             INSERT INTO notification (process_id, organisation, channel, scheduled_at, due_at, accepted_at, max_attempts,
                 {columns})
             SELECT p.id, 'main', 'phone', now() - interval '1 min', now() - interval '1 min', now(), 10, {values}
             FROM p RETURNING id
         )
         INSERT INTO notification_content (notification_id, request_id, run, process_name, address, options)
         SELECT n.id, r.id, 1, '{process}', '+3851111111', '{{}}' FROM n, r RETURNING notification_id"
    );
    NotificationId(database.count(&sql).await)
}

async fn insert_queued(database: &Database, process: &str) -> NotificationId {
    let columns = "expires_at, state, wake_at";
    insert(database, process, columns, "now() + interval '1 day', 'queued', now() + interval '1 min'").await
}

/// What is due, from the beginning.
async fn due_claim(
    store: &Store,
    channels: &[&str],
    limit: i64,
    ahead: Duration,
    backlogged: &[&str],
) -> store::Result<DueBatch> {
    store.due_claim(channels, limit, ahead, backlogged, &BTreeMap::new()).await
}

fn claim_request<'a>(ids: &'a [NotificationId], worker: &'a str) -> ClaimRequest<'a> {
    let lease = Duration::from_secs(40);
    ClaimRequest { channel: "phone", worker, ids, lease, property: None }
}

async fn claim(store: &Store, id: NotificationId) -> Option<Claim> {
    store.notifications_claim(claim_request(&[id], "worker")).await.unwrap().claims.pop()
}

fn result(id: NotificationId, fence: i32, outcome: Outcome, state: State) -> AttemptResult {
    let retry = (state == State::Retrying).then_some(domain::RetryWay::Tier(domain::RetryTier::Seconds5));
    let now = "2026-11-21T18:00:00Z".parse().unwrap();
    AttemptResult {
        id,
        fence,
        outcome,
        state,
        retry,
        started_at: now,
        finished_at: now,
        provider_id: None,
        detail: None,
    }
}

async fn state(database: &Database, id: NotificationId) -> String {
    database.texts(&format!("SELECT state::text FROM notification WHERE id = {id}")).await.remove(0)
}
