use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{Arena, Signal};

#[tokio::test]
async fn two_phone_workers_and_two_activators_call_each_of_10_000_exactly_once() {
    let arena = Arena::new().await;
    let mut programs = arena.start_all(&["phone"]).await;
    for name in ["activator", "notifier-phone"] {
        programs.push(arena.start(name).await);
    }
    let numbers: Vec<_> = (0..10_000).map(|n| format!("+38591{n:07}")).collect();
    for (n, chunk) in numbers.chunks(1_000).enumerate() {
        let chunk: Vec<_> = chunk.iter().map(String::as_str).collect();
        arena.start_calls(&format!("p{n}"), -1, &chunk);
    }
    arena.notifications_in("delivered", 10_000, 120).await;
    let called = arena.simulator.called();
    assert_eq!(called.len(), 10_000);
    assert_eq!(called.into_iter().collect::<BTreeSet<_>>(), numbers.into_iter().collect());
    assert_eq!(arena.database.count("SELECT count(*) FROM attempt WHERE outcome = 'delivered'").await, 10_000);
    let workers = arena.database.count("SELECT count(DISTINCT split_part(worker, '#', 1)) FROM attempt").await;
    assert_eq!(workers, 2, "both workers took part");
    assert_eq!(arena.database.count("SELECT count(*) FROM attempt a JOIN notification n ON n.id = a.notification_id WHERE a.started_at < n.scheduled_at").await, 0);
}

#[tokio::test]
async fn nothing_is_called_before_its_time_and_all_of_it_soon_after() {
    let arena = Arena::new().await;
    let _programs = arena.start_all(&["console"]).await;
    let now = arena.now();
    let note = |n: i64| json!({"channel": "console", "at": now + 1 + n % 4});
    let notifications: Vec<Value> = (0..200).map(note).collect();
    arena.queue.send("p", &json!({"process-id": "p", "action": "start", "notifications": notifications}).to_string());
    arena.notifications_in("delivered", 200, 30).await;
    let early = "SELECT count(*) FROM attempt a JOIN notification n ON n.id = a.notification_id
                 WHERE a.started_at < n.scheduled_at OR n.claimed_at < n.scheduled_at";
    assert_eq!(arena.database.count(early).await, 0);
}

#[tokio::test]
async fn a_provider_that_answers_503_twice_then_201() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "status": 503, "times": 2}]));
    let _programs = arena.start_all(&["phone"]).await;
    arena.start_calls("r", -1, &["+3851111111"]);
    arena.notifications_in("delivered", 1, 90).await;
    let outcomes = arena.database.texts("SELECT outcome FROM attempt ORDER BY number").await;
    assert_eq!(outcomes, ["temporary", "temporary", "delivered"]);
    let waits = arena
        .database
        .texts(
            "SELECT floor(extract(epoch FROM started_at - lag(finished_at) OVER (ORDER BY number)))::int::text
             FROM attempt ORDER BY number OFFSET 1",
        )
        .await;
    let waits: Vec<u32> = waits.iter().map(|wait| wait.parse().unwrap()).collect();
    // Less than half a minute late, or the broker would not have been who brought it back.
    assert!((5..25).contains(&waits[0]) && (30..55).contains(&waits[1]), "{waits:?}");
    assert_eq!(arena.simulator.called().len(), 3);
    assert_eq!(arena.database.count("SELECT count(*) FROM attempt WHERE provider_id LIKE 'CA%'").await, 1);
}

#[tokio::test]
async fn retry_after_is_kept_by_the_database_clock_and_costs_no_attempt() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "status": 429, "code": 20429, "retry_after": 2, "times": 2}]));
    let _bridge = arena.start("bridge").await;
    let call = json!({"channel": "phone", "at": 1, "phone-number": "+3851111111", "max-attempts": 1});
    arena.queue.send("r", &json!({"process-id": "r", "action": "start", "notifications": [call]}).to_string());
    arena.requests_recorded(1).await;
    // As after nine claims that were given back without a call: those are no refusals.
    arena.database.execute("UPDATE notification SET fence = 9").await;
    let _others = (arena.start("activator").await, arena.start("notifier-phone").await);
    arena.notifications_in("delivered", 1, 30).await;
    // A busy machine gives more claims back.
    let outcomes = arena.database.texts("SELECT outcome FROM attempt WHERE number > 9 ORDER BY number").await;
    assert_eq!(outcomes, ["rate_limited", "rate_limited", "delivered"]);
    let times: Vec<_> = arena.simulator.arrivals().iter().map(|arrival| arrival["at"].as_i64().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 2_000_000), "{times:?}");
    assert_eq!(arena.database.count("SELECT attempts::bigint FROM notification").await, 1);
}

#[tokio::test]
async fn what_is_permanent_or_exhausted_or_too_old_fails_with_its_history() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([
        {"address": "+1*", "status": 400, "code": 21211},
        {"address": "+2*", "status": 503},
        {"address": "+3*", "drop": true},
    ]));
    let call = |number: &str| json!({"channel": "phone", "at": 1, "phone-number": number, "max-attempts": 1, "on-unknown": "retry"});
    let old = json!({"channel": "phone", "at": 1, "phone-number": "+4111", "max-age": 1});
    let notifications = [call("+1111"), call("+2111"), call("+3111"), old];
    let bridge = arena.start("bridge").await;
    arena.queue.send("r", &json!({"process-id": "r", "action": "start", "notifications": notifications}).to_string());
    arena.requests_recorded(1).await;
    // max-age counts from acceptance where at is earlier.
    arena.counted("SELECT count(*) FROM notification WHERE expires_at < now()", 1, 10).await;
    let _activator = arena.start("activator").await;
    let _phone = arena.start("notifier-phone").await;
    arena.notifications_in("failed", 4, 20).await;
    let ends = arena
        .database
        .texts(
            "SELECT coalesce(a.outcome, 'never called') || ': ' || n.reason FROM notification n
             LEFT JOIN attempt a ON a.notification_id = n.id ORDER BY n.id",
        )
        .await;
    assert_eq!(
        ends,
        [
            "permanent: Twilio: the number called is not valid (error 21211, HTTP 400)",
            "temporary: all 1 attempts failed",
            "unknown: all 1 attempts failed",
            "never called: max-age was over before it could be sent",
        ]
    );
    drop(bridge);
}

#[tokio::test]
async fn a_phone_provider_that_hangs_leaves_the_console_channel_at_full_speed() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "hang": true}]));
    let _programs = arena.start_all(&["phone", "console"]).await;
    let numbers: Vec<_> = (0..300).map(|n| format!("+38591{n:07}")).collect();
    arena.start_calls("phones", -1, &numbers.iter().map(String::as_str).collect::<Vec<_>>());
    arena.notifications_in("sending", 64, 10).await;
    let notes: Vec<_> = (0..1_000).map(|_| json!({"channel": "console", "at": 1})).collect();
    arena.queue.send("notes", &json!({"process-id": "notes", "action": "start", "notifications": notes}).to_string());
    arena.notifications_in("delivered", 1_000, 9).await;
    let hanging = "SELECT count(*) FROM notification WHERE channel = 'phone' AND state = 'sending'";
    assert_eq!(arena.database.count(hanging).await, 64, "meanwhile every phone slot hung");
}

#[tokio::test]
async fn a_call_that_hangs_is_given_up_and_one_address_holds_no_more_than_its_share() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "+7*", "hang": true}]));
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let settings = [("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", "8"), ("TOCSIN_NOTIFIER__CALL_TIMEOUT_SECONDS", "2")];
    let _phone = arena.start_with("notifier-phone", &[], &settings).ready().await;
    arena.start_calls("bad", -1, &["+7111"; 20]);
    arena.notifications_in("sending", 2, 10).await;
    let numbers: Vec<_> = (0..40).map(|n| format!("+38591{n:07}")).collect();
    arena.start_calls("good", -1, &numbers.iter().map(String::as_str).collect::<Vec<_>>());
    arena.notifications_in("delivered", 40, 20).await;
    let hung = "SELECT count(*) FROM attempt WHERE outcome = 'unknown' AND detail = 'no answer within 2 s'
                AND finished_at - started_at >= interval '2 s'";
    testkit::wait_for("a call that was given up", std::time::Duration::from_secs(20), || async {
        (arena.database.count(hung).await > 0).then_some(())
    })
    .await;
    let at_once = arena.database.count(
        "SELECT max(n) FROM (SELECT count(*) OVER (ORDER BY started_at RANGE BETWEEN interval '1.5 s' PRECEDING
         AND CURRENT ROW) AS n FROM attempt WHERE outcome = 'unknown') w",
    );
    assert!(at_once.await <= 2, "a quarter of 8 slots");
}

#[tokio::test]
async fn a_worker_that_dies_in_a_call_leaves_an_unknown_attempt_and_another_worker_calls_again() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "hang": true, "times": 1}]));
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let victim = arena.start("notifier-phone").await;
    arena.start_calls("r", -1, &["+3851111111"]);
    testkit::wait_for("the call", std::time::Duration::from_secs(10), || async {
        (arena.simulator.called().len() == 1).then_some(())
    })
    .await;
    victim.kill();
    let _phone = arena.start("notifier-phone").await;
    assert_eq!(arena.states().await, [("sending".to_owned(), 1)].into(), "its claim holds for a while");
    arena.database.shift_time("2 minutes").await;
    arena.notifications_in("delivered", 1, 20).await;
    let outcomes = arena.database.texts("SELECT outcome FROM attempt ORDER BY number").await;
    assert_eq!(outcomes, ["unknown", "delivered"]);
    assert_eq!(arena.simulator.called().len(), 2);
}

#[tokio::test]
async fn a_refused_account_pauses_the_channel_costs_nobody_an_attempt_and_is_probed() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "status": 401, "code": 20003}]));
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let phone = arena.start_with("notifier-phone", &[], &[("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", "1")]).ready().await;
    let numbers: Vec<_> = (0..20).map(|n| format!("+38591{n:07}")).collect();
    arena.start_calls("r", -1, &numbers.iter().map(String::as_str).collect::<Vec<_>>());
    testkit::wait_for("not ready", std::time::Duration::from_secs(10), || async {
        (phone.get("/health/ready").await.0 == 503).then_some(())
    })
    .await;
    assert!(phone.get("/health/ready").await.1.contains("credentials were refused"));
    arena.simulator.set_rules(&json!([]));
    arena.notifications_in("delivered", 20, 90).await;
    assert_eq!(arena.database.count("SELECT max(attempts)::bigint FROM notification").await, 1);
    let refused = arena.database.count("SELECT count(*) FROM attempt WHERE outcome = 'channel_down'").await;
    assert!((1..=3).contains(&refused), "{refused} calls while the channel was paused");
    assert_eq!(phone.get("/health/ready").await.0, 200);
    phone.signal(Signal::TERM);
}

/// Two channels with a long backlog each, one of them behind a slow provider, and a third that has only just got
/// something to say.
#[tokio::test]
async fn a_backlog_of_one_channel_starves_no_other() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "delay_ms": 500}]));
    let bridge = arena.start("bridge").await;
    let later = arena.now() + 3_600;
    let notifications = [
        json!({"channel": "phone", "at": later, "phone-number": "+3850000000"}),
        json!({"channel": "pubnub", "at": later, "pubnub-channel": "c"}),
    ];
    arena.start_process("first", &notifications);
    arena.requests_recorded(1).await;
    let backlog = 10_000;
    arena
        .database
        .execute(&format!(
            "WITH more AS (
                 INSERT INTO notification (process_id, organisation, channel, scheduled_at, due_at, wake_at, accepted_at,
                     max_attempts, expires_at)
                 SELECT process_id, organisation, channel, accepted_at, accepted_at, accepted_at, accepted_at, max_attempts,
                     expires_at
                 FROM notification, generate_series(1, {backlog}) RETURNING id
             )
             INSERT INTO notification_content (notification_id, request_id, run, process_name, address, options)
             SELECT m.id, r.id, 1, 'first', '+385' || m.id, '{{}}' FROM more m, request r"
        ))
        .await;
    let settings = [("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", "16")];
    let _phone = arena.start_with("notifier-phone", &[], &settings).ready().await;
    let _pubnub = arena.start_with("notifier-pubnub", &[], &settings).ready().await;
    let _console = arena.start("notifier-console").await;
    let _activator = arena.start("activator").await;
    arena.counted("SELECT count(DISTINCT channel) FROM notification WHERE state = 'delivered'", 2, 10).await;
    let notes: Vec<Value> = (0..100).map(|_| json!({"channel": "console", "at": arena.now()})).collect();
    arena.start_process("notes", &notes);
    arena.counted("SELECT count(*) FROM notification WHERE channel = 'console' AND state = 'delivered'", 100, 5).await;
    // Sixteen calls of half a second each, twice a second: both move, and neither is near its end.
    for channel in ["phone", "pubnub"] {
        let delivered =
            format!("SELECT count(*) FROM notification WHERE channel = '{channel}' AND state = 'delivered'");
        let before = arena.database.count(&delivered).await;
        testkit::wait_for(channel, std::time::Duration::from_secs(5), || async {
            (arena.database.count(&delivered).await >= before + 32).then_some(())
        })
        .await;
        assert!(arena.database.count(&delivered).await < backlog / 2, "a backlog all the while");
    }
    drop(bridge);
}
