use std::collections::BTreeSet;

use serde_json::json;
use testkit::Arena;

#[tokio::test]
async fn a_stop_while_notifications_sit_in_the_broker_and_in_a_retry_tier() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "+2*", "status": 503}]));
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let phone = arena.start("notifier-phone").await;
    arena.start_calls("in-tier", -1, &["+2111"]);
    arena.notifications_in("retrying", 1, 10).await;
    phone.stop().await;
    arena.start_calls("in-broker", -1, &["+3111"]);
    arena.start_calls("not-stopped", -1, &["+4111"]);
    arena.notifications_in("queued", 2, 10).await;

    arena.stop_process("in-tier");
    arena.stop_process("in-broker");
    arena.notifications_in("cancelled", 2, 10).await;
    // Nothing of them is scheduled any more, so a new order begins a new run.
    arena.start_calls("in-broker", -1, &["+3222"]);
    arena.start_calls("not-stopped", -1, &["+4222"]);
    arena.notifications_in("queued", 3, 10).await;

    let _phone = arena.start("notifier-phone").await;
    arena.notifications_in("delivered", 3, 10).await;
    // The message from the retry tier comes back behind the others; one that is sent after its time is behind it.
    arena
        .counted(
            "SELECT count(*) FROM notification WHERE state = 'cancelled' AND due_at < now() - interval '2 s'",
            2,
            20,
        )
        .await;
    arena.start_calls("sentinel", -1, &["+5111"]);
    arena.notifications_in("delivered", 4, 10).await;
    let called: BTreeSet<_> = arena.simulator.called().into_iter().collect();
    assert_eq!(called.iter().collect::<Vec<_>>(), ["+2111", "+3222", "+4111", "+4222", "+5111"]);
    assert_eq!(arena.simulator.called().len(), 5);
    let runs = arena.database.texts(
        "SELECT c.run || ' ' || n.state FROM notification n JOIN notification_content c ON c.notification_id = n.id
         WHERE c.process_name = 'in-broker' ORDER BY c.run",
    );
    assert_eq!(runs.await, ["1 cancelled", "2 delivered"]);
}

#[tokio::test]
async fn a_stop_during_a_call_lets_it_stand_and_a_failed_one_is_not_tried_again() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([
        {"address": "+2*", "delay_ms": 3000, "status": 503}, {"address": "+3*", "delay_ms": 3000},
    ]));
    let _programs = arena.start_all(&["phone"]).await;
    arena.start_calls("fails", -1, &["+2111"]);
    arena.start_calls("succeeds", -1, &["+3111"]);
    arena.notifications_in("sending", 2, 10).await;
    arena.stop_process("fails");
    arena.stop_process("succeeds");
    arena.counted("SELECT count(*) FROM notification WHERE finished_at IS NOT NULL", 2, 20).await;
    let ends = arena.database.texts(
        "SELECT p.name || ' ' || n.state || coalesce(', ' || n.reason, '') FROM notification n
         JOIN process p ON p.id = n.process_id ORDER BY 1",
    );
    assert_eq!(ends.await, ["fails cancelled, stopped while it was being sent", "succeeds delivered"]);
    assert_eq!(arena.simulator.called().len(), 2);
}

#[tokio::test]
async fn a_stop_in_time_means_no_call() {
    let arena = Arena::new().await;
    let _programs = arena.start_all(&["phone"]).await;
    arena.start_calls("r", 3, &["+3851111111"]);
    arena.requests_recorded(1).await;
    arena.stop_process("r");
    arena.notifications_in("cancelled", 1, 10).await;
    arena.counted("SELECT count(*) FROM notification WHERE scheduled_at < now() - interval '1 s'", 1, 10).await;
    arena.start_calls("sentinel", -1, &["+3852222222"]);
    arena.notifications_in("delivered", 1, 10).await;
    assert_eq!(arena.simulator.called(), ["+3852222222"]);
}
