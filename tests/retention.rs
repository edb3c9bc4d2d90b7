//! What is over is dropped when its time has come, and nothing else is.

use serde_json::json;
use testkit::Arena;

const KEPT: &[&str] = &["notification", "notification_content", "attempt", "request", "dead_letter"];

async fn counts(arena: &Arena) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in KEPT {
        counts.push(arena.database.count(&format!("SELECT count(*) FROM {table}")).await);
    }
    counts
}

#[tokio::test]
async fn after_90_days_what_is_over_is_gone_and_its_process_can_start_again() {
    let arena = Arena::new().await;
    let programs = arena.start_all(&["phone"]).await;
    arena.start_calls("r", 0, &["+3851", "+3852"]);
    arena.start_calls("next-year", 400 * 24 * 3_600, &["+3853"]);
    arena.queue.send("bad", "no request");
    arena.requests_recorded(3).await;
    arena.notifications_in("delivered", 2, 20).await;
    for program in programs {
        program.stop().await;
    }
    arena
        .database
        .execute(
            "INSERT INTO dead_letter (received_at, queue, reason, notification_ids, body) VALUES (now(), 'q', 'r', '{}', '');
             INSERT INTO idempotency_key VALUES ('api:1', 'a', 'm', now());
             INSERT INTO api_key (prefix, name, role, hash, created_at, created_by)
                 VALUES ('p', 'maria', 'read', '', now(), 'maria');
             INSERT INTO session SELECT '', id, now() + interval '12 hours' FROM api_key",
        )
        .await;

    arena.database.shift_time("89 days").await;
    assert!(arena.run("activator", &["--once"]).await.status.success());
    assert_eq!(counts(&arena).await, [3, 3, 2, 3, 1], "it is not 90 days ago");
    let short_lived = "SELECT (SELECT count(*) FROM session) + (SELECT count(*) FROM idempotency_key)";
    assert_eq!(arena.database.count(short_lived).await, 0, "these last a day at most");

    arena.database.shift_time("91 days").await;
    let activator = arena.start("activator").await;
    arena.counted("SELECT count(*) FROM request", 1, 20).await;
    arena.counted("SELECT count(*) FROM dead_letter", 0, 20).await;
    assert_eq!(counts(&arena).await, [1, 1, 0, 1, 0], "what is to be done next year stays, with its request");
    arena.counted("SELECT count(*) FROM process", 2, 1).await;
    assert_eq!(activator.metric("tocsin_dropped_total", "notifications").await, 2);

    let _bridge = arena.start("bridge").await;
    let _worker = arena.start("notifier-phone").await;
    arena.start_process("r", &[json!({"channel": "phone", "at": 1, "phone-number": "+3854"})]);
    arena.notifications_in("delivered", 1, 20).await;
    assert_eq!(arena.database.count("SELECT run::bigint FROM process WHERE name = 'r'").await, 2);
}

#[tokio::test]
async fn a_request_that_comes_a_second_time_is_known_for_15_days_whatever_is_dropped() {
    let arena = Arena::new().await;
    let _programs = arena.start_all(&["phone"]).await;
    arena.start_calls("r", 0, &["+3851"]);
    arena.notifications_in("delivered", 1, 20).await;
    let days = [("TOCSIN_RETENTION__DAYS", "1")];
    for (shift, requests) in [("14 days", 1), ("16 days", 0)] {
        arena.database.shift_time(shift).await;
        assert!(arena.run_with("activator", &["--once"], &days).await.status.success());
        assert_eq!(counts(&arena).await, [0, 0, 0, requests, 0], "{shift}");
    }
}
