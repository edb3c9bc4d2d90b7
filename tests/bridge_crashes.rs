use std::time::Duration;

use serde_json::json;
use testkit::{Arena, Queue, wait_for};

use crate::{
    checker::{Checker, not_ready, waits_for_a_lock},
    sqs_proxy::SqsProxy,
};

/// Later than any start of these tests.
const HOUR: i64 = 3_600;

/// Five groups of six requests each, start and stop by turns.
fn send_groups(checker: &mut Checker<'_>) {
    for step in 0..6 {
        for process in ["a", "b", "c", "d", "e"] {
            if step % 2 == 0 {
                checker.start(process, HOUR, 1);
            } else {
                checker.stop(process);
            }
        }
    }
}

/// That each group was applied in order, and each request once.
async fn in_order(arena: &Arena, checker: &Checker<'_>) {
    checker.recorded(60).await;
    let steps = "SELECT string_agg(action || ' ' || outcome, ', ' ORDER BY id) FROM request GROUP BY process_name";
    let by_turns = ["start accepted, stop accepted"; 3].join(", ");
    assert_eq!(arena.database.texts(steps).await, vec![by_turns; 5]);
    let order = "SELECT count(*) FROM (SELECT (convert_from(body, 'UTF8')::json->>'check')::int < lag(
                     (convert_from(body, 'UTF8')::json->>'check')::int) OVER (PARTITION BY process_name ORDER BY id) AS wrong
                 FROM request) r WHERE wrong";
    assert_eq!(arena.database.count(order).await, 0);
    assert_eq!(arena.states().await, [("cancelled".to_owned(), 15)].into());
    emptied(&arena.queue).await;
    checker.settled(1).await;
}

#[tokio::test]
async fn killed_with_requests_received_and_not_committed_loses_none_and_keeps_their_order() {
    let arena = Arena::new().await;
    let mut checker = Checker::new(&arena);
    send_groups(&mut checker);
    arena.start_with("bridge", &[], &[("TOCSIN_FAILPOINTS", "bridge.received=kill")]).killed().await;
    let _bridge = arena.start("bridge").await;
    in_order(&arena, &checker).await;
}

#[tokio::test]
async fn killed_in_the_middle_of_its_transaction_loses_nothing_and_keeps_the_order() {
    let arena = Arena::new().await;
    let mut checker = Checker::new(&arena);
    // Its statements come to this lock one after the other, and have written by then.
    arena.database.execute("INSERT INTO process (name) VALUES ('c')").await;
    let mut somebody = arena.database.pool.begin().await.unwrap();
    testkit::raw("SELECT FROM process FOR UPDATE").execute(&mut *somebody).await.unwrap();
    send_groups(&mut checker);
    let victim = arena.start("bridge").await;
    waits_for_a_lock(&arena, "bridge").await;
    victim.kill();
    somebody.rollback().await.unwrap();
    let _bridge = arena.start("bridge").await;
    in_order(&arena, &checker).await;
}

#[tokio::test]
async fn killed_between_commit_and_delete_has_one_effect_when_redelivered_at_once() {
    redelivered_after(None).await;
}

#[tokio::test]
async fn killed_between_commit_and_delete_has_one_effect_when_redelivered_days_later() {
    redelivered_after(Some("14 days")).await;
}

/// The redelivery meets processes that are over, and must not revive them.
async fn redelivered_after(time: Option<&str>) {
    let arena = Arena::new().await;
    let mut checker = Checker::new(&arena);
    for process in ["a", "b", "c"] {
        checker.start(process, HOUR, 2);
    }
    arena.start_with("bridge", &[], &[("TOCSIN_FAILPOINTS", "bridge.committed=kill")]).killed().await;
    let committed = arena.database.count("SELECT count(*) FROM request").await;
    assert!(committed > 0 && arena.queue.depth() == 3, "committed, and not deleted");
    arena
        .database
        .execute(
            "UPDATE notification SET state = 'failed', wake_at = NULL, finished_at = now(), open_failure_at = now()",
        )
        .await;
    if let Some(time) = time {
        arena.database.shift_time(time).await;
    }
    let bridge = arena.start("bridge").await;
    emptied(&arena.queue).await;
    checker.recorded(30).await;
    let duplicates = bridge.metric("tocsin_requests_total", "outcome=\"duplicate\"").await;
    assert_eq!(i64::try_from(duplicates).unwrap(), committed);
    assert_eq!(arena.database.count("SELECT count(*) FROM notification").await, 6);
    let revived = "SELECT count(*) FROM process WHERE run <> 1";
    assert_eq!(arena.database.count(revived).await, 0);
}

#[tokio::test]
async fn of_a_batch_only_the_entries_come_back_whose_delete_failed() {
    let arena = Arena::new().await;
    let proxy = SqsProxy::failing_some_deletes(&arena.queue.endpoint);
    let bridge = arena.start_with("bridge", &[], &[("TOCSIN_SQS__ENDPOINT_URL", &proxy.url)]).ready().await;
    let mut checker = Checker::new(&arena);
    for n in 0..60 {
        checker.start(&format!("p{n}"), HOUR, 1);
    }
    checker.recorded(60).await;
    wait_for("some that came back", Duration::from_secs(60), || async { proxy.came_back().first().map(|_| ()) }).await;
    proxy.delete_all();
    emptied(&arena.queue).await;
    let (came_back, failed) = (proxy.came_back(), proxy.failed_deletes());
    assert!(came_back.iter().all(|id| failed.contains(id)), "{came_back:?} came back of {failed:?}");
    assert!(failed.len() < 60, "most were deleted");
    checker.recorded(1).await;
    assert_eq!(arena.states().await, [("scheduled".to_owned(), 60)].into());
    assert!(bridge.metric("tocsin_requests_total", "outcome=\"duplicate\"").await >= came_back.len() as u64);
}

#[tokio::test]
async fn a_database_away_for_long_sends_no_good_request_to_the_dead_letter_queue() {
    let mut arena = Arena::with_own_postgres().await;
    let dead = Queue::create();
    let redrive = json!({"deadLetterTargetArn": dead.arn(), "maxReceiveCount": "2"});
    arena.queue = Queue::create_with(&json!({"RedrivePolicy": redrive.to_string(), "VisibilityTimeout": "5"}));
    let arena = arena;
    let bridge = arena.start("bridge").await;
    let postgres = arena.postgres.as_ref().unwrap();
    let mut checker = Checker::new(&arena);
    let poison = r#"{"process-id": "a\u0000", "action": "start"}"#;
    arena.queue.send("p0", poison);
    for n in 0..30 {
        checker.start(&format!("p{}", n % 10), HOUR, 1);
        checker.stop(&format!("p{}", n % 10));
    }
    wait_for("the first", Duration::from_secs(20), || async {
        (arena.database.try_count("SELECT count(*) FROM request").await.ok()? > 0).then_some(())
    })
    .await;
    postgres.stop_immediately();
    not_ready(&bridge, "database").await;
    // Some are in its hands, and become visible again and again as long as it does not keep them hidden.
    for n in 0..30 {
        checker.start(&format!("q{n}"), HOUR, 1);
    }
    // Three times the visibility timeout: time itself is what they must outlast.
    tokio::time::sleep(Duration::from_secs(15)).await;
    postgres.run(&arena.workplace).unwrap();
    arena.counted("SELECT count(*) FROM request WHERE outcome = 'accepted'", 90, 60).await;
    emptied(&arena.queue).await;
    assert_eq!(dead.depth(), 0);
    let rejected = "SELECT count(*) FROM request WHERE outcome = 'rejected' AND reasons::text LIKE '%process-id%'";
    assert_eq!(arena.database.count(rejected).await, 1);
}

/// Waits until the queue has no message left, hidden or not.
async fn emptied(queue: &Queue) {
    wait_for("an empty queue", Duration::from_secs(90), || async { (queue.depth() == 0).then_some(()) }).await;
}
