use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use domain::{Organisation, ProcessName};
use jiff::Timestamp;
use serde_json::json;
use store::{
    Disposition, DueHint, Error, NotificationFilter, Page, ReceivedRequest, RejectedRequest, RequestOutcome,
    RequestResult, Store,
};
use tokio::time::timeout;

use crate::fresh;

pub(crate) fn request(message_id: &str, process: &str, action: &str) -> ReceivedRequest {
    let notification = json!({"channel": "phone", "at": 4_000_000_000u64, "phone-number": "+3851111111"});
    let body = json!({"process-id": process, "action": action, "notifications": [notification]}).to_string();
    let parsed = Ok(wire::parse_request(body.as_bytes()).unwrap());
    ReceivedRequest { message_id: message_id.to_owned(), body: body.into(), parsed }
}

async fn apply(store: &Store, requests: &[ReceivedRequest]) -> Vec<RequestResult> {
    store.requests_apply("queue", &Organisation::default(), requests).await.unwrap()
}

async fn outcome(store: &Store, message_id: &str, process: &str, action: &str) -> RequestOutcome {
    apply(store, &[request(message_id, process, action)]).await.remove(0).outcome
}

#[tokio::test]
async fn a_redelivered_message_is_applied_once_and_never_revives_a_finished_process() {
    let (database, store) = fresh().await;
    assert_eq!(outcome(&store, "1", "p", "start").await, RequestOutcome::Accepted);
    assert_eq!(outcome(&store, "2", "p", "stop").await, RequestOutcome::Accepted);
    assert_eq!(outcome(&store, "1", "p", "start").await, RequestOutcome::Duplicate);
    assert_eq!(outcome(&store, "2", "p", "stop").await, RequestOutcome::Duplicate);
    assert_eq!(database.texts("SELECT state::text FROM notification").await, ["cancelled"]);
    assert_eq!(outcome(&store, "3", "p", "start").await, RequestOutcome::Accepted);
    assert_eq!(outcome(&store, "2", "p", "stop").await, RequestOutcome::Duplicate, "an old stop stops nothing new");
    assert_eq!(database.count("SELECT count(*) FROM notification WHERE state = 'scheduled'").await, 1);
}

#[tokio::test]
async fn the_same_message_to_two_bridges_at_once_has_one_effect() {
    let (database, store) = fresh().await;
    for n in 0..100 {
        let (process, message) = (format!("p{n}"), format!("m{n}"));
        let (a, b) =
            tokio::join!(outcome(&store, &message, &process, "start"), outcome(&store, &message, &process, "start"));
        let accepted = [a, b].iter().filter(|o| **o == RequestOutcome::Accepted).count();
        assert_eq!(accepted, 1);
    }
    assert_eq!(database.count("SELECT count(*) FROM notification").await, 100);
}

/// Polls a future until it waits for something after having waited so often, and drops it there. Whether it came to that.
async fn dropped_when_it_waits(future: impl Future, after: u32) -> bool {
    let mut future = pin!(future);
    let mut waits = 0;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(false),
        Poll::Pending if waits == after => Poll::Ready(true),
        Poll::Pending => {
            waits += 1;
            Poll::Pending
        }
    })
    .await
}

/// sqlx 0.9 may leave a connection in a transaction that nobody ends when its `begin` is dropped: whoever uses it next is
/// told that all went well, and nothing is ever committed.
#[tokio::test]
async fn a_future_that_is_dropped_while_it_begins_a_transaction_loses_nobody_elses_statement() {
    let (database, _) = fresh().await;
    let store = Store::new(database.url(), "test", 1).unwrap();
    assert_eq!(outcome(&store, "first", "first", "start").await, RequestOutcome::Accepted);
    // It begins, applies and commits, and waits for each, unless the answer is there at once, as on a busy machine.
    let (mut drops, wanted) = (0, 20);
    for round in 0..1_000 {
        if drops >= wanted {
            break;
        }
        for waits in 0.. {
            let id = format!("unlucky {round} {waits}");
            let (unlucky, organisation) = ([request(&id, &id, "start")], Organisation::default());
            let was_dropped =
                dropped_when_it_waits(store.requests_apply("queue", &organisation, &unlucky), waits).await;
            // One statement, which nobody begins or commits: what follows it on this connection can't mend it.
            let next = format!("next {round} {waits}");
            store.property_set(&next, &json!(true), "somebody").await.unwrap();
            let committed = database.count(&format!("SELECT count(*) FROM property WHERE key = '{next}'")).await;
            assert_eq!(committed, 1, "{next}");
            if !was_dropped {
                break;
            }
            drops += 1;
        }
    }
    assert!(drops >= wanted, "{drops} were dropped");
    let whole = "SELECT count(*) FROM request r FULL JOIN notification_content c ON c.request_id = r.id
                 WHERE r.id IS NULL OR c.notification_id IS NULL";
    assert_eq!(database.count(whole).await, 0, "a request has all of its effect or none");
}

#[tokio::test]
async fn of_a_start_and_a_stop_at_once_the_order_of_commits_decides() {
    let (database, store) = fresh().await;
    for n in 0..200 {
        let (process, start, stop) = (format!("p{n}"), format!("start {n}"), format!("stop {n}"));
        let (started, stopped) =
            tokio::join!(outcome(&store, &start, &process, "start"), outcome(&store, &stop, &process, "stop"));
        assert_eq!(started, RequestOutcome::Accepted);
        let state = database
            .texts(&format!(
                "SELECT n.state::text FROM notification n JOIN process p ON p.id = n.process_id WHERE p.name = '{process}'"
            ))
            .await;
        let expected = if stopped == RequestOutcome::Accepted { "cancelled" } else { "scheduled" };
        assert_eq!(state, [expected]);
    }
}

#[tokio::test]
async fn a_batch_answers_each_request_in_its_order() {
    let (database, store) = fresh().await;
    apply(&store, &[request("0", "active", "start")]).await;
    let rejected = store::RejectedRequest { process: None, reasons: json!([{"field": "", "message": "must be JSON"}]) };
    let rejected = ReceivedRequest { message_id: "r".to_owned(), body: b"\0\xff{".to_vec(), parsed: Err(rejected) };
    let batch = [
        request("1", "new", "start"),
        rejected,
        request("2", "active", "start"),
        request("3", "nobody", "stop"),
        request("0", "again", "stop"),
    ];
    let results = apply(&store, &batch).await;
    let outcomes: Vec<_> = results.iter().map(|result| result.outcome.as_str()).collect();
    assert_eq!(outcomes, ["accepted", "rejected", "ignored", "ignored", "duplicate"]);
    assert_eq!((results[0].run, results[0].notifications), (Some(1), 1));
    assert_eq!(database.count("SELECT count(*) FROM request WHERE body = '\\x00ff7b'").await, 1, "kept as it came");
}

#[tokio::test]
async fn a_start_says_when_its_first_notification_is_due_if_that_is_soon() {
    let (database, store) = fresh().await;
    let now = database.count("SELECT extract(epoch FROM now())::bigint").await;
    let start = |process: &str, times: &[i64]| {
        let notifications: Vec<_> =
            times.iter().map(|at| json!({"channel": "phone", "at": at, "phone-number": "+3851111111"})).collect();
        let body = json!({"process-id": process, "action": "start", "notifications": notifications}).to_string();
        let parsed = Ok(wire::parse_request(body.as_bytes()).unwrap());
        ReceivedRequest { message_id: process.to_owned(), body: body.into(), parsed }
    };
    let batch = [start("soon", &[now + 600, now - 5, now]), start("later", &[now + 600])];
    let due: Vec<_> = apply(&store, &batch).await.iter().map(|result| result.due_soon_at).collect();
    assert_eq!(due, [Some(Timestamp::from_second(now - 5).unwrap()), None]);
}

#[tokio::test]
async fn data_that_postgres_refuses_is_told_apart_from_a_database_that_is_away() {
    let (_, store) = fresh().await;
    let mut bad = request("1", "p", "start");
    bad.message_id = "a\0b".to_owned();
    let error = store.requests_apply("queue", &Organisation::default(), &[bad]).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::BadData);
    let away = Store::new("postgres://nobody@127.0.0.1:1/nowhere", "test", 1).unwrap();
    let error =
        away.requests_apply("queue", &Organisation::default(), &[request("1", "p", "start")]).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Wait);
}

#[tokio::test]
async fn check_says_what_to_do_about_an_empty_database() {
    let (database, store) = fresh().await;
    store.check().await.unwrap();
    database.execute("DELETE FROM _sqlx_migrations").await;
    assert!(matches!(store.check().await, Err(Error::SchemaOutdated(_))));
    database.execute("DROP TABLE _sqlx_migrations").await;
    let error = store.check().await.unwrap_err();
    assert!(error.to_string().contains("tocsin migrate"), "{error}");
}

#[tokio::test]
async fn a_hint_reaches_every_activator() {
    let (_, store) = fresh().await;
    let mut hints = [store.listen_for_due_hints().await.unwrap(), store.listen_for_due_hints().await.unwrap()];
    let due_at = Timestamp::from_microsecond(1_800_000_000_123_456).unwrap();
    store.hint_due(due_at).await.unwrap();
    store.hint_schedule().await.unwrap();
    for hints in &mut hints {
        for expected in [DueHint::Notification(due_at), DueHint::Schedule] {
            assert_eq!(timeout(Duration::from_secs(10), hints.next()).await.unwrap().unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn the_last_time_that_can_be_asked_for_can_be_shown() {
    let (database, store) = fresh().await;
    let notification = json!({"channel": "phone", "at": 253_402_207_200u64, "phone-number": "+3851111111"});
    let body = json!({"process-id": "p", "action": "start", "notifications": [notification]}).to_string();
    let parsed = Ok(wire::parse_request(body.as_bytes()).unwrap());
    let last = ReceivedRequest { message_id: "1".to_owned(), body: body.into(), parsed };
    assert_eq!(apply(&store, &[last]).await[0].outcome, RequestOutcome::Accepted);
    let page = Page { before: None, limit: 10 };
    let shown = store.notification_reports(NotificationFilter::default(), page).await.unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!(database.count("SELECT count(*) FROM notification WHERE expires_at < scheduled_at").await, 0);
}

#[tokio::test]
async fn what_was_stopped_names_the_stop_and_not_what_was_rejected_beside_it() {
    let (database, store) = fresh().await;
    outcome(&store, "1", "p", "start").await;
    let rejected = |message_id: &str| ReceivedRequest {
        message_id: message_id.to_owned(),
        body: Vec::new(),
        parsed: Err(RejectedRequest { process: Some(ProcessName::parse("p").unwrap()), reasons: json!([]) }),
    };
    apply(&store, &[rejected("2"), request("3", "p", "stop"), rejected("4")]).await;
    let sql = "SELECT 'stopped by request ' || id FROM request WHERE message_id = '3'";
    assert_eq!(database.texts("SELECT reason FROM notification").await, database.texts(sql).await);
}
