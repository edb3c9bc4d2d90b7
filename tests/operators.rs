//! What an operator does on day one: pause, resume, try things without calling anybody.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Arena, wait_for};

#[tokio::test]
async fn a_paused_channel_claims_nothing_loses_nothing_and_goes_on() {
    let arena = Arena::new().await;
    let programs = arena.start_all(&["phone", "console"]).await;
    let paused = arena.run("tocsin", &["pause", "phone", "--reason", "the number is being moved"]).await;
    assert!(paused.status.success(), "{paused:?}");
    arena.start_calls("r", -1, &["+3851111111", "+3851111112"]);
    let note = json!({"channel": "console", "at": 1});
    arena.start_process("note", &[note]);
    arena.notifications_in("delivered", 1, 10).await;
    let phone = &programs[2];
    wait_for("the pause in its readiness", Duration::from_secs(5), || async {
        let (status, body) = phone.get("/health/ready").await;
        (status == 503 && body.contains("the number is being moved")).then_some(())
    })
    .await;
    wait_for("the pause in its metrics", Duration::from_secs(5), || async {
        phone.get("/metrics").await.1.contains(r#"tocsin_channel_paused{channel="phone"} 1"#).then_some(())
    })
    .await;
    arena.notifications_in("queued", 2, 5).await;
    assert!(arena.simulator.arrivals().is_empty());
    assert_eq!(arena.database.count("SELECT count(*) FROM attempt WHERE outcome <> 'delivered'").await, 0);
    let resumed = arena.run("tocsin", &["resume", "phone"]).await;
    assert!(resumed.status.success(), "{resumed:?}");
    arena.notifications_in("delivered", 3, 10).await;
}

#[tokio::test]
async fn a_pause_in_full_flight_stops_all_claims_within_a_second() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "delay_ms": 50}]));
    let settings = [("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", "8")];
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let _phone = arena.start_with("notifier-phone", &[], &settings).ready().await;
    let numbers: Vec<_> = (0..1_000).map(|n| format!("+38591{n:07}")).collect();
    arena.start_calls("r", -1, &numbers.iter().map(String::as_str).collect::<Vec<_>>());
    wait_for("some calls", Duration::from_secs(20), || async { (arena.simulator.arrivals().len() > 50).then_some(()) })
        .await;
    assert!(arena.run("tocsin", &["pause", "all"]).await.status.success());
    // What was in flight ends; and then there is nothing.
    arena.notifications_in("sending", 0, 5).await;
    let late = "SELECT count(*) FROM attempt a, channel_pause p WHERE a.started_at > p.paused_at + interval '1 second'";
    assert_eq!(arena.database.count(late).await, 0);
    let called = arena.simulator.arrivals().len();
    assert!(called < 1_000);
    assert!(arena.run("tocsin", &["resume", "all"]).await.status.success());
    arena.notifications_in("delivered", 1_000, 60).await;
    assert_eq!(arena.simulator.arrivals().len(), 1_000, "each was called once");
}

#[tokio::test]
async fn a_dry_run_says_what_it_would_have_sent_and_calls_nobody() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let mut workers = Vec::new();
    for channel in ["phone", "sms", "email", "pubnub", "sns", "webhook", "console"] {
        let name = format!("notifier-{channel}");
        workers.push(arena.start_with(&name, &[], &[("TOCSIN_NOTIFIER__DRY_RUN", "true")]).ready().await);
    }
    let notifications: [Value; 7] = [
        json!({"channel": "phone", "at": 1, "phone-number": "+3851111111"}),
        json!({"channel": "sms", "at": 1, "phone-number": "+3851111111", "message": "hello"}),
        json!({"channel": "email", "at": 1, "email": "me@example.org", "subject": "Order"}),
        json!({"channel": "pubnub", "at": 1, "pubnub-channel": "ch"}),
        json!({"channel": "sns", "at": 1, "topic-arn": "arn:aws:sns:us-east-1:000000000000:a.fifo", "payload": {}}),
        json!({"channel": "webhook", "at": 1, "url": format!("{}/webhook/a", arena.simulator.url)}),
        json!({"channel": "console", "at": 1, "message": "hello"}),
    ];
    arena.start_process("r", &notifications);
    arena.notifications_in("cancelled", 7, 20).await;
    assert!(arena.simulator.arrivals().is_empty());
    let told = arena.database.texts("SELECT a.outcome || ': ' || a.detail FROM attempt a JOIN notification n ON n.id = a.notification_id ORDER BY n.id").await;
    assert_eq!(told[0], "dry_run: a call from +15005550006 that plays http://example.org/twiml");
    assert_eq!(told[1], "dry_run: a text message from +15005550006 of 5 characters");
    assert!(told[2].starts_with("dry_run: a mail of ") && told[2].ends_with("to 1 recipient(s)"), "{told:?}");
    assert!(told[3].starts_with("dry_run: a PubNub message of "), "{told:?}");
    assert_eq!(told[4], "dry_run: an SNS message of 2 bytes to a FIFO topic");
    assert!(told[5].starts_with("dry_run: webhook msg_"), "{told:?}");
    assert!(told[6].starts_with("dry_run: a line of "), "{told:?}");
    let reasons = arena.database.texts("SELECT DISTINCT reason FROM notification").await;
    assert_eq!(reasons, ["dry run: nobody was called"]);
}
