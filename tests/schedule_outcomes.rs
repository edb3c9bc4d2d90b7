//! What may come of a scheduled message: it was sent or it was not, and that was written down or it was not.

use serde_json::{Value, json};
use testkit::{Api, Arena};

use crate::{
    schedules::{make, now},
    sns::Topic,
};

/// A claim lasts the call's time limit and half a minute more.
const AFTER_A_CLAIM: &str = "3 minutes";

/// Makes a schedule that publishes once to a topic.
async fn publish_once(arena: &Arena, api: &Api, topic_arn: &str) {
    let from = now(arena).await + 2;
    make(
        api,
        &json!({"name": "once", "lines": [{"cron": "* * * * * *"}], "from": from, "until": from + 1,
            "request": {"process-id": "once-{{ occurrence }}",
                "notifications": [{"channel": "sns", "in": 0, "topic-arn": topic_arn, "payload": "at {{ occurrence }}"}]}}),
    );
}

async fn attempts(arena: &Arena) -> Vec<String> {
    arena.database.texts("SELECT outcome FROM attempt ORDER BY notification_id, number").await
}

fn bodies(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["Body"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn sent_and_marked_is_left_alone() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let topic = Topic::create(&arena, "orders", true);
    let _worker = arena.start("notifier-sns").await;
    let activator = arena.start("activator").await;
    publish_once(&arena, &api, &topic.arn).await;
    arena.notifications_in("delivered", 1, 30).await;
    activator.stop().await;
    arena.database.shift_time(AFTER_A_CLAIM).await;
    let once = arena.run("activator", &["--once"]).await;
    assert!(once.status.success(), "{once:?}");
    assert_eq!((attempts(&arena).await, topic.depth().as_str()), (vec!["delivered".to_owned()], "1"));
}

#[tokio::test]
async fn failed_and_marked_waits_for_a_person_who_mends_the_target() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let topic = Topic::create(&arena, "orders", true);
    let _worker = arena.start("notifier-sns").await;
    let _activator = arena.start("activator").await;
    publish_once(&arena, &api, &format!("{}-missing", topic.arn)).await;
    arena.notifications_in("failed", 1, 30).await;
    assert_eq!(attempts(&arena).await, ["permanent"]);

    let failed = api.get("/v1/notifications?state=failed")["items"][0]["id"].clone();
    let path = format!("/v1/notifications/{failed}");
    let mended = api.ask("PATCH", &path, Some(&json!({"topic-arn": topic.arn})));
    assert_eq!(mended.status, 200, "{mended:?}");
    assert_eq!(api.ask("POST", &format!("{path}/retry"), None).status, 200);
    arena.notifications_in("delivered", 1, 30).await;
    assert_eq!(attempts(&arena).await, ["permanent", "delivered"]);
    let messages = topic.receive(1).await;
    assert!(bodies(&messages)[0].starts_with("at "), "{messages:?}");
    assert_eq!(topic.depth(), "0");
}

#[tokio::test]
async fn sent_and_not_marked_is_sent_again() {
    let arena = Arena::new().await;
    let topic = Topic::create(&arena, "orders", true);
    die_and_recover(&arena, &topic, "notifier.called", "1").await;
    let messages = topic.receive(2).await;
    let bodies = bodies(&messages);
    assert_eq!(bodies[0], bodies[1], "the same message");
    assert_eq!(topic.depth(), "0");
}

#[tokio::test]
async fn neither_sent_nor_marked_is_tried_again() {
    let arena = Arena::new().await;
    let topic = Topic::create(&arena, "orders", true);
    die_and_recover(&arena, &topic, "notifier.calling", "0").await;
    topic.receive(1).await;
    assert_eq!(topic.depth(), "0");
}

/// A worker dies at this point of its only call, when so many messages have arrived; another finds what it left behind.
async fn die_and_recover(arena: &Arena, topic: &Topic, point: &str, arrived: &str) {
    let api = arena.start_api().await;
    let _activator = arena.start("activator").await;
    let victim = arena.start_failing("notifier-sns", &format!("{point}=kill")).await;
    publish_once(arena, &api, &topic.arn).await;
    victim.killed().await;
    assert_eq!(topic.depth(), arrived);
    assert!(attempts(arena).await.is_empty(), "nothing was marked");
    let _worker = arena.start("notifier-sns").await;
    assert_eq!(arena.states().await, [("sending".to_owned(), 1)].into(), "its claim holds for a while");
    arena.database.shift_time(AFTER_A_CLAIM).await;
    arena.notifications_in("delivered", 1, 30).await;
    assert_eq!(attempts(arena).await, ["unknown", "delivered"]);
}
