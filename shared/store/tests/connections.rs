use std::time::{Duration, Instant};

use store::{DueHint, Store};
use testkit::{Database, Relay, wait_for};
use tokio::task::JoinSet;

const OURS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'connections' AND datname = current_database()";

/// Longer than a connection is kept from the pool.
const A_WHILE: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn two_connections_serve_eight_at_once_and_end_with_the_store() {
    let database = Database::create().await;
    let store = Store::new(database.url(), "connections", 2).unwrap();
    let began = Instant::now();
    while began.elapsed() < A_WHILE {
        let mut checks = JoinSet::new();
        for _ in 0..8 {
            let store = store.clone();
            checks.spawn(async move { store.check().await.unwrap() });
        }
        checks.join_all().await;
        assert!(database.count(OURS).await <= 2);
    }
    store.close().await;
    assert!(matches!(store.check().await, Err(store::Error::Database(_))), "nobody gets a connection any more");
}

#[tokio::test]
async fn whoever_is_cancelled_in_the_middle_leaves_no_connection_half_used() {
    let database = Database::create().await;
    let store = Store::new(database.url(), "connections", 1).unwrap();
    for _ in 0..20 {
        let cancelled = tokio::time::timeout(Duration::from_micros(300), store.check());
        drop(cancelled.await);
        store.check().await.unwrap();
    }
}

/// A store of one connection, through a relay.
fn relayed(database: &Database) -> (Store, Relay) {
    let (_, server) = database.url().split_once('@').unwrap();
    let (server, _) = server.split_once('/').unwrap();
    let relay = Relay::to(server);
    let store = Store::new(&database.url().replace(server, &relay.address()), "connections", 1).unwrap();
    (store, relay)
}

#[tokio::test]
async fn a_connection_on_which_the_server_is_silent_keeps_no_place() {
    let database = Database::create().await;
    let (store, relay) = relayed(&database);
    store.check().await.unwrap();
    tokio::time::sleep(A_WHILE).await;
    relay.swallow_answers(true);
    let error = store.check().await.unwrap_err();
    assert!(matches!(error, store::Error::Database(sqlx::Error::PoolTimedOut)), "{error}");
    relay.swallow_answers(false);
    wait_for("a place", Duration::from_secs(30), || async { store.check().await.ok() }).await;
}

#[tokio::test]
async fn a_listener_notices_that_the_server_is_silent() {
    let database = Database::create().await;
    let (store, relay) = relayed(&database);
    let mut hints = store.listen_for_due_hints().await.unwrap();
    relay.swallow_answers(true);
    assert!(matches!(hints.next().await, Err(store::Error::Silence)));
    relay.swallow_answers(false);
    let mut hints = store.listen_for_due_hints().await.unwrap();
    store.hint_schedule().await.unwrap();
    assert_eq!(hints.next().await.unwrap(), DueHint::Schedule);
}
