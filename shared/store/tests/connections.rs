use std::time::{Duration, Instant};

use store::Store;
use testkit::Database;
use tokio::task::JoinSet;

const OURS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'connections' AND datname = current_database()";

/// Longer than a connection is kept from the pool.
const A_WHILE: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn two_connections_serve_eight_at_once_and_a_listener_and_end_with_the_store() {
    let database = Database::create().await;
    let store = Store::new(database.url(), "connections", 2).unwrap();
    let hints = store.listen_for_due_hints().await.unwrap();
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
    drop(hints);
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
