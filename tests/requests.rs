use std::time::Duration;

use serde_json::json;
use testkit::{Arena, Queue};

use crate::sqs_proxy::SqsProxy;

#[tokio::test]
async fn a_past_at_fires_at_once() {
    let arena = Arena::new().await;
    let _programs = arena.start_all(&["phone"]).await;
    arena.start_calls("restaurant", -3_600, &["+3851111111"]);
    arena.notifications_in("delivered", 1, 10).await;
    assert_eq!(arena.simulator.called(), ["+3851111111"]);
}

#[tokio::test]
async fn a_start_on_an_active_id_is_ignored() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    arena.start_calls("restaurant", 3_600, &["+3851111111"]);
    arena.start_calls("restaurant", 3_600, &["+3852222222", "+3853333333"]);
    arena.requests_recorded(2).await;
    let outcomes =
        arena.database.texts("SELECT outcome || coalesce(reasons->0->>'message', '') FROM request ORDER BY id");
    assert_eq!(outcomes.await, ["accepted", "ignoredis active already"]);
    assert_eq!(arena.database.count("SELECT count(*) FROM notification").await, 1);
}

#[tokio::test]
async fn a_stop_on_a_missing_id_is_ignored() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    arena.stop_process("nobody");
    arena.requests_recorded(1).await;
    let outcomes = arena.database.texts("SELECT outcome || (reasons->0->>'message') FROM request");
    assert_eq!(outcomes.await, ["ignoredhas nothing to stop"]);
}

#[tokio::test]
async fn an_invalid_request_among_valid_ones() {
    let arena = Arena::new().await;
    let _programs = arena.start_all(&["phone"]).await;
    let call = |process: &str, number: &str| {
        json!({"process-id": process, "action": "start",
               "notifications": [{"channel": "phone", "at": 1, "phone-number": number}]})
        .to_string()
    };
    let bad = json!({"process-id": "b", "action": "start",
                     "notifications": [{"channel": "phone", "at": "soon"}, {"channel": "phone", "at": 1}]});
    arena.queue.send_all(&[
        ("g", &call("a", "+3851111111")),
        ("g", &bad.to_string()),
        ("g", "no JSON at all"),
        ("g", &call("c", "+3853333333")),
    ]);
    arena.notifications_in("delivered", 2, 10).await;
    let outcomes = arena.database.texts("SELECT outcome FROM request ORDER BY id").await;
    assert_eq!(outcomes, ["accepted", "rejected", "rejected", "accepted"]);
    let reasons = arena
        .database
        .texts(
            "SELECT reason->>'field' FROM request, jsonb_array_elements(reasons) AS reason
             WHERE process_name = 'b' ORDER BY 1",
        )
        .await;
    assert_eq!(reasons, ["notifications[0].at", "notifications[0].phone-number", "notifications[1].phone-number"]);
    let bodies = arena.database.texts("SELECT convert_from(body, 'UTF8') FROM request WHERE outcome = 'rejected'");
    assert_eq!(bodies.await, [bad.to_string(), "no JSON at all".to_owned()], "an operator can read and replay them");
    emptied(&arena.queue).await;
}

#[tokio::test]
async fn empty_notifications() {
    rejected(r#"{"process-id": "r", "action": "start", "notifications": []}"#, "1 to 1000 notifications").await;
}

#[tokio::test]
async fn one_unknown_channel_spoils_the_request() {
    let body = r#"{"process-id": "r", "action": "start", "notifications": [
        {"channel": "phone", "at": 1, "phone-number": "+3851111111"}, {"channel": "pigeon", "at": 1}]}"#;
    rejected(body, "must be one of").await;
}

async fn rejected(body: &str, words: &str) {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    arena.queue.send("r", body);
    arena.requests_recorded(1).await;
    let reasons = arena.database.texts("SELECT reasons->0->>'message' FROM request WHERE outcome = 'rejected'").await;
    assert!(reasons[0].contains(words), "{reasons:?}");
    assert_eq!(arena.database.count("SELECT count(*) FROM notification").await, 0);
    emptied(&arena.queue).await;
}

#[tokio::test]
async fn a_trailing_comma() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    arena.start_calls("restaurantname", 3_600, &["+3851111111"]);
    arena.queue.send("restaurantname", r#"{"process-id": "restaurantname", "action": "stop",}"#);
    arena.requests_recorded(2).await;
    assert_eq!(arena.states().await, [("cancelled".to_owned(), 1)].into());
}

#[tokio::test]
async fn the_call_is_the_one_that_roesc_made() {
    let arena = Arena::new().await;
    arena.database.set_caller_ids(&json!({"+385": "+385123"})).await;
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let _phone = arena
        .start_with("notifier-phone", &[], &[("TOCSIN_TWILIO__URL", "URL"), ("TOCSIN_TWILIO__AUTH_TOKEN", "TOKEN")])
        .ready()
        .await;
    arena.start_calls("restaurant", -1, &["+385777"]);
    arena.counted("SELECT count(*) FROM notification WHERE finished_at IS NOT NULL", 1, 10).await;
    let arrivals = arena.simulator.arrivals();
    assert_eq!(arrivals.len(), 1);
    assert_eq!(arrivals[0]["path"], "/2010-04-01/Accounts/SID/Calls.json");
    assert_eq!(arrivals[0]["authorization"], "Basic U0lEOlRPS0VO");
    assert_eq!(arrivals[0]["body"], "Method=GET&To=%2B385777&From=%2B385123&Url=URL");
}

#[tokio::test]
async fn a_number_that_no_caller_id_fits_fails_for_good_and_a_changed_registry_is_used_at_once() {
    let arena = Arena::new().await;
    arena.database.set_caller_ids(&json!({"+385": "+385123"})).await;
    let _programs = arena.start_all(&["phone"]).await;
    arena.start_calls("a", -1, &["+4912345"]);
    arena.notifications_in("failed", 1, 10).await;
    let reason = arena.database.texts("SELECT reason FROM notification").await;
    assert_eq!(reason, ["caller-id-registry has no prefix that fits the number, and no default"]);

    arena.database.set_caller_ids(&json!({"+385": "+385123", "+49": "+49555"})).await;
    arena.start_calls("b", -1, &["+4912345"]);
    arena.notifications_in("delivered", 1, 10).await;
    assert_eq!(arena.simulator.arrivals()[0]["form"]["From"], "+49555");
}

#[tokio::test]
async fn start_stop_start_stop_in_one_batch_and_twenty_of_them_interleaved() {
    let arena = Arena::new().await;
    let body = |process: &str, action: &str| {
        json!({"process-id": process, "action": action,
               "notifications": [{"channel": "console", "at": arena.now() + 3_600, "message": action}]})
        .to_string()
    };
    let one: Vec<_> = ["start", "stop", "start", "stop"].iter().map(|action| ("one", body("one", action))).collect();
    let names: Vec<_> = (0..20).map(|n| format!("p{n}")).collect();
    let mut interleaved = Vec::new();
    for action in ["start", "stop", "start"] {
        interleaved.extend(names.iter().map(|name| (name.as_str(), body(name, action))));
    }
    let all: Vec<_> = one.iter().chain(&interleaved).map(|(group, body)| (*group, body.as_str())).collect();
    // All of it waits in the queue, so that it comes in as few batches as possible.
    arena.queue.send_all(&all);
    let _bridge = arena.start("bridge").await;
    arena.requests_recorded(64).await;
    assert_eq!(arena.database.count("SELECT count(*) FROM request WHERE outcome <> 'accepted'").await, 0);
    let ends = "SELECT string_agg(c.run || n.state::text, ' ' ORDER BY c.run) FROM notification n
                JOIN notification_content c ON c.notification_id = n.id WHERE c.process_name";
    assert_eq!(arena.database.texts(&format!("{ends} = 'one'")).await, ["1cancelled 2cancelled"]);
    let others = arena.database.texts(&format!("{ends} LIKE 'p%' GROUP BY c.process_name")).await;
    assert_eq!(others, vec!["1cancelled 2scheduled"; 20]);
}

#[tokio::test]
async fn with_content_based_deduplication_the_second_stop_of_a_process_works() {
    let mut arena = Arena::new().await;
    // Within five minutes a queue drops the same words in the same group; two groups spare the test the wait. Both
    // messages have the same deduplication id.
    arena.queue = Queue::create_with(&json!({
        "ContentBasedDeduplication": "true", "DeduplicationScope": "messageGroup",
        "FifoThroughputLimit": "perMessageGroupId",
    }));
    let _bridge = arena.start("bridge").await;
    let stop = r#"{"process-id": "r", "action": "stop"}"#;
    for (round, group) in [(1, "r"), (2, "r again")] {
        arena.start_calls("r", 3_600, &["+3851111111"]);
        arena.notifications_in("scheduled", 1, 10).await;
        arena.queue.send_deduplicated_by_content(group, stop);
        arena.notifications_in("cancelled", round, 10).await;
    }
    assert_eq!(arena.database.count("SELECT count(*) FROM request WHERE outcome = 'accepted'").await, 4);
}

#[tokio::test]
async fn the_same_words_in_a_new_message_are_a_new_request() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    for _ in 0..2 {
        arena.start_calls("r", 3_600, &["+3851111111"]);
        arena.stop_process("r");
    }
    arena.requests_recorded(4).await;
    assert_eq!(arena.database.count("SELECT count(*) FROM request WHERE outcome <> 'accepted'").await, 0);
    assert_eq!(arena.states().await, [("cancelled".to_owned(), 2)].into());
}

#[tokio::test]
async fn a_body_with_u0000_at_the_head_of_a_group() {
    let arena = Arena::new().await;
    let _programs = arena.start_all(&["phone"]).await;
    arena.queue.send("r", r#"{"process-id": "r", "action": "stop", "note": "a\u0000b"}"#);
    arena.start_calls("r", -1, &["+3851111111"]);
    arena.notifications_in("delivered", 1, 10).await;
    let outcomes =
        arena.database.texts("SELECT outcome || coalesce(reasons->0->>'field', '') FROM request ORDER BY id");
    assert_eq!(outcomes.await, ["rejectednote", "accepted"]);
}

#[tokio::test]
async fn a_message_that_could_not_be_deleted_comes_back_and_changes_nothing() {
    let arena = Arena::new().await;
    arena.start_calls("r", 3_600, &["+3851111111"]);
    // Received by somebody who never deletes it, so that its receipt has changed when the bridge's turn comes, and
    // once more while the bridge is away after having applied it.
    let proxy = SqsProxy::failing_all_deletes(&arena.queue.endpoint);
    let bridge = arena.start_with("bridge", &[], &[("TOCSIN_SQS__ENDPOINT_URL", &proxy.url)]).ready().await;
    arena.requests_recorded(1).await;
    bridge.kill();
    arena.database.execute("UPDATE notification SET state = 'cancelled', wake_at = NULL, finished_at = now()").await;
    let _bridge = arena.start("bridge").await;
    emptied(&arena.queue).await;
    assert_eq!(arena.database.count("SELECT count(*) FROM request").await, 1);
    assert_eq!(arena.states().await, [("cancelled".to_owned(), 1)].into(), "a finished process is never revived");
}

/// Waits until the queue has no message left, hidden or not.
async fn emptied(queue: &Queue) {
    testkit::wait_for("an empty queue", Duration::from_secs(10), || async { (queue.depth() == 0).then_some(()) }).await;
}

#[tokio::test]
async fn a_process_that_somebody_holds_makes_its_group_wait_and_no_other() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    arena.start_calls("held", 3_600, &["+3851111111"]);
    arena.requests_recorded(1).await;
    let mut somebody = arena.database.pool.begin().await.unwrap();
    testkit::raw("SELECT FROM process FOR UPDATE").execute(&mut *somebody).await.unwrap();
    arena.stop_process("held");
    arena.start_calls("held", 3_600, &["+3852222222"]);
    for n in 0..20 {
        arena.start_calls(&format!("free {n}"), 3_600, &["+3853333333"]);
    }
    arena.requests_recorded(21).await;
    somebody.rollback().await.unwrap();
    arena.requests_recorded(23).await;
    let held =
        arena.database.texts("SELECT action || ' ' || outcome FROM request WHERE process_name = 'held' ORDER BY id");
    assert_eq!(held.await, ["start accepted", "stop accepted", "start accepted"]);
    emptied(&arena.queue).await;
}
