use std::{pin::pin, time::Duration};

use domain::{NotificationId, Outcome, State};
use store::{FailureFilter, Repair, Store};
use testkit::{Database, raw};
use tokio::time::timeout;

use crate::{claim, fresh, insert_queued, result};

/// Longer than a statement that waits for nothing takes, and shorter than one may wait for a row.
const A_WHILE: Duration = Duration::from_millis(300);

async fn failed(database: &Database, store: &Store) -> NotificationId {
    let id = insert_queued(database, "p").await;
    let claim = claim(store, id).await.unwrap();
    store.attempts_record(&[result(id, claim.fence, Outcome::Permanent, State::Failed)]).await.unwrap();
    id
}

async fn insert_failed(database: &Database, process: &str) {
    let columns = "expires_at, state, finished_at, open_failure_at, reason";
    crate::insert(database, process, columns, "now() + interval '1 day', 'failed', now(), now(), 'refused'").await;
}

/// As a stop does that has found nothing to stop, and is not committed yet.
async fn stop_under_way(database: &Database) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut stop = database.pool.begin().await.unwrap();
    raw("SELECT FROM process WHERE name = 'p' FOR UPDATE").execute(&mut *stop).await.unwrap();
    raw("INSERT INTO request (source, message_id, received_at, process_id, process_name, action, outcome, reasons, body)
         SELECT 'test', 'stop', now(), id, name, 'stop', 'ignored', '[]', '' FROM process WHERE name = 'p'")
    .execute(&mut *stop)
    .await
    .unwrap();
    stop
}

#[tokio::test]
async fn a_retry_waits_for_a_stop_that_is_under_way() {
    let (database, store) = fresh().await;
    let id = failed(&database, &store).await;
    let stop = stop_under_way(&database).await;
    let mut retry = pin!(store.failure_retry(id, "maria"));
    assert!(timeout(A_WHILE, &mut retry).await.is_err(), "or the stop would not have seen it");
    stop.commit().await.unwrap();
    assert_eq!(retry.await.unwrap(), Repair::Done, "who asks for this one knows of the stop");
}

#[tokio::test]
async fn what_is_stopped_while_many_are_retried_is_left_alone() {
    let (database, store) = fresh().await;
    failed(&database, &store).await;
    let stop = stop_under_way(&database).await;
    let mut retry = pin!(store.failures_retry(FailureFilter::default(), 10, 1.0, "maria"));
    assert!(timeout(A_WHILE, &mut retry).await.is_err());
    stop.commit().await.unwrap();
    let done = retry.await.unwrap();
    assert_eq!((done.retried, done.left_alone), (0, 1));
    assert_eq!(database.texts("SELECT state::text FROM notification").await, ["failed"]);
}

#[tokio::test]
async fn a_process_that_somebody_holds_keeps_no_other_from_being_retried() {
    let (database, store) = fresh().await;
    failed(&database, &store).await;
    insert_failed(&database, "other").await;
    let somebody = stop_under_way(&database).await;
    let done = store.failures_retry(FailureFilter::default(), 10, 1.0, "maria").await.unwrap();
    assert_eq!((done.retried, done.left_alone), (1, 1));
    somebody.rollback().await.unwrap();
    let done = store.failures_retry(FailureFilter::default(), 10, 1.0, "maria").await.unwrap();
    assert_eq!((done.retried, done.left_alone), (1, 0));
}

#[tokio::test]
async fn a_failure_that_somebody_holds_keeps_no_other_from_being_retried() {
    let (database, store) = fresh().await;
    failed(&database, &store).await;
    insert_failed(&database, "other").await;
    let mut somebody = database.pool.begin().await.unwrap();
    raw("SELECT FROM notification ORDER BY id LIMIT 1 FOR UPDATE").execute(&mut *somebody).await.unwrap();
    let done = store.failures_retry(FailureFilter::default(), 10, 1.0, "maria").await.unwrap();
    assert_eq!((done.retried, done.left_alone), (1, 1));
}

#[tokio::test]
async fn many_are_retried_at_the_pace_that_was_asked_for() {
    let (database, store) = fresh().await;
    let filter = FailureFilter::default;
    for n in 0..450 {
        insert_failed(&database, &format!("p{n}")).await;
    }
    let done = store.failures_retry(filter(), 1_000, 10.0, "maria").await.unwrap();
    assert_eq!((done.retried, done.left_alone), (450, 0));
    let sql = "SELECT round(10 * extract(epoch FROM max(due_at) - min(due_at)))::bigint FROM notification";
    let tenths = database.count(sql).await;
    assert!((449..=480).contains(&tenths), "one each tenth of a second, and what three statements take: {tenths}");
    assert_eq!(store.failures_retry(filter(), 1_000, 10.0, "maria").await.unwrap().retried, 0);
}
