use std::time::Duration;

use serde_json::json;
use testkit::{Arena, Program, wait_for};

use crate::checker::{Checker, Verdict, found_nothing_to_do, waits_for_a_lock};

/// A claim lasts the call's time limit and half a minute more.
const AFTER_A_CLAIM: &str = "3 minutes";

async fn start_others(arena: &Arena) -> [Program; 2] {
    [arena.start("bridge").await, arena.start("activator").await]
}

#[tokio::test]
async fn killed_with_a_message_taken_and_not_claimed_costs_nothing() {
    let arena = Arena::new().await;
    let _others = start_others(&arena).await;
    let mut checker = Checker::new(&arena);
    let victim = arena.start_failing("notifier-phone", "notifier.taken=kill").await;
    checker.start("r", -1, 20);
    victim.killed().await;
    let _worker = arena.start("notifier-phone").await;
    assert_eq!(checker.settled(30).await, Verdict::each_called_once(20));
}

#[tokio::test]
async fn killed_while_its_claim_is_on_the_way_costs_one_call_and_no_more() {
    let arena = Arena::new().await;
    let _others = start_others(&arena).await;
    let mut checker = Checker::new(&arena);
    checker.start("r", -1, 1);
    arena.notifications_in("queued", 1, 20).await;
    // The claim reaches the database, and can't go on as long as somebody holds the row.
    let mut somebody = arena.database.pool.begin().await.unwrap();
    testkit::raw("SELECT FROM notification FOR UPDATE").execute(&mut *somebody).await.unwrap();
    let victim = arena.start("notifier-phone").await;
    waits_for_a_lock(&arena, "notifier-phone").await;
    victim.kill();
    somebody.rollback().await.unwrap();
    let _worker = arena.start("notifier-phone").await;
    // Postgres may have carried out the claim of the dead one, of which nobody can tell.
    arena.database.shift_time(AFTER_A_CLAIM).await;
    let verdict = checker.settled(30).await;
    assert_eq!((verdict.delivered, verdict.calls, verdict.extra_calls), (1, 1, 0), "{verdict:?}");
}

#[tokio::test]
async fn killed_after_its_claim() {
    killed_at("notifier.claimed", 0).await;
}

#[tokio::test]
async fn killed_right_before_its_call() {
    killed_at("notifier.calling", 0).await;
}

#[tokio::test]
async fn killed_after_its_call() {
    killed_at("notifier.called", 1).await;
}

/// Whether the call was made nobody can tell, as the worker died between claim and record: the attempt is unknown, and
/// the notification decides whether there is another call.
async fn killed_at(point: &str, calls: usize) {
    for (on_unknown, expected) in [
        ("retry", Verdict { delivered: 1, calls: calls + 1, extra_calls: calls, unknown: 1, ..Verdict::default() }),
        ("fail", Verdict { failed: 1, calls, unknown: 1, ..Verdict::default() }),
    ] {
        let arena = Arena::new().await;
        let _others = start_others(&arena).await;
        let mut checker = Checker::new(&arena);
        let victim = arena.start_failing("notifier-phone", &format!("{point}=kill")).await;
        checker.start_with("r", -1, 1, &json!({"on-unknown": on_unknown}));
        victim.killed().await;
        let _worker = arena.start("notifier-phone").await;
        assert_eq!(arena.states().await, [("sending".to_owned(), 1)].into(), "its claim holds for a while");
        arena.database.shift_time(AFTER_A_CLAIM).await;
        assert_eq!(checker.settled(30).await, expected, "{point}, on-unknown {on_unknown}");
    }
}

#[tokio::test]
async fn killed_after_its_record_and_before_the_ack_calls_nobody_again() {
    let arena = Arena::new().await;
    let _others = start_others(&arena).await;
    let mut checker = Checker::new(&arena);
    let victim = arena.start_failing("notifier-phone", "notifier.recorded=kill").await;
    checker.start("r", -1, 1);
    victim.killed().await;
    assert_eq!(arena.states().await, [("delivered".to_owned(), 1)].into());
    let worker = arena.start("notifier-phone").await;
    found_nothing_to_do(&worker, 1).await;
    assert_eq!(checker.settled(30).await, Verdict::each_called_once(1));
}

#[tokio::test]
async fn a_message_is_the_brokers_until_its_call_is_recorded() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "delay_ms": 2000}]));
    let _others = start_others(&arena).await;
    let victim = arena.start("notifier-phone").await;
    let mut checker = Checker::new(&arena);
    checker.start("r", -1, 1);
    arena.notifications_in("sending", 1, 20).await;
    // The record comes to a row that somebody holds.
    let mut somebody = arena.database.pool.begin().await.unwrap();
    testkit::raw("SELECT FROM notification FOR UPDATE").execute(&mut *somebody).await.unwrap();
    waits_for_a_lock(&arena, "notifier-phone").await;
    victim.kill();
    somebody.rollback().await.unwrap();
    let worker = arena.start("notifier-phone").await;
    found_nothing_to_do(&worker, 1).await;
    arena.database.shift_time(AFTER_A_CLAIM).await;
    let verdict = checker.settled(30).await;
    assert_eq!((verdict.delivered, verdict.extra_calls, verdict.calls), (1, verdict.unknown, 1 + verdict.unknown));
}

#[tokio::test]
async fn killed_between_a_retrys_confirm_and_the_ack_makes_one_attempt_of_two_messages() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "status": 503, "times": 1}]));
    let _others = start_others(&arena).await;
    let mut checker = Checker::new(&arena);
    let victim = arena.start_failing("notifier-phone", "notifier.retry_published=kill").await;
    checker.start("r", -1, 1);
    victim.killed().await;
    let worker = arena.start("notifier-phone").await;
    found_nothing_to_do(&worker, 1).await;
    assert_eq!(checker.settled(60).await, Verdict { delivered: 1, calls: 2, ..Verdict::default() });
}

#[tokio::test]
async fn a_retry_that_the_broker_lost_is_tried_once_all_the_same() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "status": 503, "times": 1}]));
    let _others = start_others(&arena).await;
    let _worker = arena.start("notifier-phone").await;
    let mut checker = Checker::new(&arena);
    checker.start("r", -1, 1);
    arena.notifications_in("retrying", 1, 20).await;
    arena.vhost.ask("DELETE", "queues", "/tocsin.retry.5s/contents", None);
    arena.database.shift_time("1 minute").await;
    assert_eq!(checker.settled(30).await, Verdict { delivered: 1, calls: 2, ..Verdict::default() });
}

#[tokio::test]
async fn a_retry_that_comes_back_early_and_five_times_is_tried_once_and_at_its_time() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "status": 503, "times": 1}]));
    let _others = start_others(&arena).await;
    let worker = arena.start("notifier-phone").await;
    let mut checker = Checker::new(&arena);
    checker.start("r", -1, 1);
    arena.notifications_in("retrying", 1, 20).await;
    let id = arena.database.count("SELECT id FROM notification").await;
    for _ in 0..5 {
        publish_to_queue(&arena, "notify.phone", &json!({"v": 1, "ids": [id]}));
    }
    assert_eq!(checker.settled(60).await, Verdict { delivered: 1, calls: 2, ..Verdict::default() });
    let times: Vec<_> = arena.simulator.arrivals().iter().map(|arrival| arrival["at"].as_i64().unwrap()).collect();
    assert!(times[1] - times[0] >= 5_000_000, "{times:?}");
    found_nothing_to_do(&worker, 5).await;
    assert_eq!(arena.simulator.called().len(), 2);
}

#[tokio::test]
async fn a_message_that_kills_every_worker_fails_after_its_attempts_and_harms_no_other() {
    let arena = Arena::new().await;
    let _others = start_others(&arena).await;
    let mut checker = Checker::new(&arena);
    let guilty = checker.start_with("guilty", -1, 1, &json!({"max-attempts": 3})).remove(0);
    checker.start("innocent", -1, 20);
    checker.recorded(20).await;
    let id = "SELECT notification_id FROM notification_content WHERE address = ";
    let id = arena.database.count(&format!("{id}'{guilty}'")).await;
    let failpoint = format!("notifier.calling:{id}=kill");
    for death in 1..=3 {
        // One call at a time, so that nobody else is in flight.
        let settings = [("TOCSIN_FAILPOINTS", failpoint.as_str()), ("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", "1")];
        arena.start_with("notifier-phone", &[], &settings).killed().await;
        arena.database.shift_time(&format!("{} minutes", 3 * death)).await;
    }
    let _worker = arena.start("notifier-phone").await;
    let verdict = checker.settled(60).await;
    assert_eq!(verdict, Verdict { delivered: 20, failed: 1, calls: 20, unknown: 3, ..Verdict::default() });
    let history = format!("SELECT outcome FROM attempt WHERE notification_id = {id} ORDER BY number");
    assert_eq!(arena.database.texts(&history).await, ["unknown"; 3]);
    let reason = format!("SELECT reason FROM notification WHERE id = {id}");
    assert_eq!(arena.database.texts(&reason).await, ["all 3 attempts failed"]);
}

#[tokio::test]
async fn what_the_broker_gives_up_after_too_many_disconnects_is_shown_and_delivered_all_the_same() {
    let arena = Arena::new().await;
    let _others = start_others(&arena).await;
    let low = json!({"pattern": "^notify\\.phone$", "apply-to": "queues", "priority": 10, "definition": {
        "dead-letter-exchange": "tocsin.dead", "dead-letter-strategy": "at-least-once", "overflow": "reject-publish",
        "delivery-limit": 2,
    }});
    arena.vhost.ask("PUT", "policies", "/low", Some(&low));
    let mut checker = Checker::new(&arena);
    checker.start("r", -1, 20);
    arena.notifications_in("queued", 20, 20).await;
    for _ in 0..3 {
        arena.start_with("notifier-phone", &[], &[("TOCSIN_FAILPOINTS", "notifier.taken=kill")]).killed().await;
    }
    wait_for("dead letters", Duration::from_secs(30), || async {
        (arena.database.count("SELECT count(*) FROM dead_letter WHERE reason = 'delivery_limit'").await > 0)
            .then_some(())
    })
    .await;
    let _worker = arena.start("notifier-phone").await;
    assert_eq!(checker.settled(60).await, Verdict::each_called_once(20));
    let queue = arena.database.texts("SELECT DISTINCT queue FROM dead_letter");
    assert_eq!(queue.await, ["notify.phone"]);
}

/// Puts a message into a queue behind everybody's back.
fn publish_to_queue(arena: &Arena, queue: &str, body: &serde_json::Value) {
    let message = json!({
        "properties": {"delivery_mode": 2}, "routing_key": queue, "payload": body.to_string(),
        "payload_encoding": "string",
    });
    arena.vhost.ask("POST", "exchanges", "/amq.default/publish", Some(&message));
}
