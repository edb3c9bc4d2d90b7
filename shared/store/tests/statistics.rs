use std::time::Duration;

use domain::{Organisation, Outcome, State};
use store::Store;
use testkit::{Database, wait_for};

use crate::{claim_request, due_claim, fresh, requests::request, result};

fn insert(count: i64, process: &str, columns: &str, values: &str) -> String {
    format!(
        "WITH p AS (INSERT INTO process (name, run) SELECT '{process}' || g, 1 FROM generate_series(1, {count}) g
                    RETURNING id),
              r AS (INSERT INTO request (source, message_id, received_at, outcome, body)
                    VALUES ('test', '{process}', now(), 'accepted', '') RETURNING id),
              n AS (INSERT INTO notification (process_id, organisation, channel, scheduled_at, due_at, accepted_at,
                        expires_at, max_attempts, {columns})
                    SELECT p.id, 'main', 'phone', now(), now(), now(), now() + interval '1 day', 10, {values} FROM p
                    RETURNING id)
         INSERT INTO notification_content (notification_id, request_id, run, process_name, options)
         SELECT n.id, r.id, 1, '{process}', '{{}}' FROM n, r"
    )
}

/// How many entries of indexes like this have been read since the database was made. A connection counts what it has read
/// when it ends.
async fn entries_read(database: &Database, indexes: &str) -> i64 {
    let read =
        format!("SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE indexrelname LIKE '{indexes}'");
    wait_for("what was read to be counted", Duration::from_secs(20), || async {
        let read = database.count(&read).await;
        (read >= 1_000).then_some(read)
    })
    .await
}

#[tokio::test]
async fn what_is_due_in_years_is_not_gone_through_for_what_is_due_now() {
    let (database, store) = fresh().await;
    database.execute("ALTER TABLE notification SET (autovacuum_enabled = false)").await;
    database.execute(&insert(50_000, "far", "wake_at", "now() + interval '10 years'")).await;
    database.execute("VACUUM ANALYZE notification").await;
    database.execute(&insert(1_000, "new", "wake_at", "now()")).await;
    assert_eq!(due_claim(&store, &["phone"], 1_000, Duration::ZERO, &[]).await.unwrap().due.len(), 1_000);
    store.close().await;
    let read = entries_read(&database, "notification_%").await;
    assert!(read < 10_000, "{read} index entries were read for 1000 notifications that were due");
}

/// The planner knows a table as it was when its statistics were taken. When that was after a quiet night, with nothing
/// unfinished, it takes the index of what is due for empty; in the morning's rush each statement must still go straight
/// to the rows that it names.
#[tokio::test]
async fn statistics_of_a_quiet_time_lead_no_statement_through_all_that_is_due() {
    const DUE: i64 = 20_000;
    let (database, store) = fresh().await;
    database.execute("ALTER TABLE notification SET (autovacuum_enabled = false)").await;
    database.execute(&insert(DUE, "old", "state, finished_at", "'delivered', now()")).await;
    database.execute("ANALYZE").await;
    database.execute(&insert(DUE, "new", "wake_at", "now()")).await;

    let batch = due_claim(&store, &["phone"], 1_000, Duration::ZERO, &[]).await.unwrap();
    assert_eq!(batch.due.len(), 1_000);
    let publications: Vec<_> = batch.due.iter().map(|due| due.publication).collect();
    store.publications_confirmed(&publications).await.unwrap();
    let ids: Vec<_> = publications.iter().map(|publication| publication.id).collect();
    let claims = store.notifications_claim(claim_request(&ids, "worker")).await.unwrap().claims;
    assert_eq!(claims.len(), 1_000);
    let mut results: Vec<_> =
        claims.iter().map(|claim| result(claim.id, claim.fence, Outcome::Delivered, State::Delivered)).collect();
    (results[0].outcome, results[0].state) = (Outcome::Permanent, State::Failed);
    for results in results.chunks(500) {
        assert_eq!(store.attempts_record(results).await.unwrap().len(), 500);
    }
    let stops: Vec<_> = (1..=200).map(|n| request(&format!("stop{n}"), &format!("new{}", DUE - n), "stop")).collect();
    let starts: Vec<_> = (1..=200).map(|n| request(&format!("start{n}"), &format!("old{n}"), "start")).collect();
    for requests in [stops, starts] {
        let results = store.requests_apply("queue", &Organisation::default(), &requests).await.unwrap();
        assert!(results.iter().all(|result| result.notifications == 1), "{results:?}");
    }
    store.close().await;

    // Only the search for what is due may go through this index.
    let read = entries_read(&database, "notification_wake").await;
    assert!(read < 5_000, "{read} entries of notification_wake were read for 1000 notifications that were due");
}

/// A bridge plans once what it does, perhaps on the day that everything is new and empty, for its first request or for its
/// first full batch: by then there is a little, and the planner believes that it will stay so.
#[tokio::test]
async fn a_plan_from_an_empty_database_goes_straight_to_the_rows_of_a_full_one() {
    for first in [1, 500] {
        goes_straight_to_the_rows(first).await;
    }
}

async fn goes_straight_to_the_rows(first: i64) {
    let (database, _) = fresh().await;
    // With one connection, and before the first plan is made, so that each statement has one. What changes a table, or takes
    // its statistics, has its plans made anew.
    for table in ["notification", "process"] {
        database.execute(&format!("ALTER TABLE {table} SET (autovacuum_enabled = false)")).await;
    }
    let store = Store::new(database.url(), "test", 1).unwrap();
    let apply = |what: &'static str, process: &'static str, numbers: std::ops::Range<i64>| {
        let requests: Vec<_> =
            numbers.map(|n| request(&format!("{what} {process}{n}"), &format!("{process}{n}"), what)).collect();
        let store = &store;
        async move {
            let results = store.requests_apply("queue", &Organisation::default(), &requests).await.unwrap();
            assert!(results.iter().all(|result| result.notifications == 1), "{results:?}");
        }
    };
    for action in ["start", "stop"] {
        apply(action, "first", 1..first + 1).await;
    }
    database.execute(&insert(20_000, "old", "state, finished_at", "'delivered', now()")).await;
    database.execute(&insert(20_000, "new", "wake_at", "now()")).await;
    apply("start", "old", 1..501).await;
    apply("stop", "new", 1..501).await;
    store.close().await;
    let requests = 1_000 + 2 * first;
    for indexes in ["notification_%", "process_%"] {
        let read = entries_read(&database, indexes).await;
        assert!(read < 10 * requests, "{read} entries of {indexes} were read for {requests} requests");
    }
}
