//! What monitoring asks, each answered by a metric, by a field of the API and by a line of the command line.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Arena, Program, wait_for};

use crate::command_screens::Terminal;

async fn metric_is(program: &Program, name: &str, label: &str, value: u64) {
    wait_for(&format!("{name}{{{label}}} = {value}"), Duration::from_secs(30), || async {
        (program.metric(name, label).await == value).then_some(())
    })
    .await;
}

fn named<'a>(list: &'a Value, key: &str, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|one| one[key] == name).unwrap()
}

#[tokio::test]
async fn every_question_has_a_metric_a_field_and_a_line() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let [bridge, activator, worker] =
        [arena.start("bridge").await, arena.start("activator").await, arena.start("notifier-phone").await];
    // Somebody has spoilt it, so it can't start what it should.
    arena
        .database
        .execute(
            "INSERT INTO schedule (name, lines, starts_at, on_missed, missed_window_seconds, overlap, request, next_at,
                 created_at, updated_at)
             VALUES ('spoilt', '[{\"cron\": \"no cron line\"}]', now(), 'last', 60, 'skip', '{}',
                 now() - interval '1 minute', now(), now())",
        )
        .await;
    arena.start_calls("r", -1, &["+3851111111"]);
    // Of this channel no worker runs.
    arena.start_process("waits", &[json!({"channel": "sms", "at": 1, "phone-number": "+3852222222", "message": "x"})]);
    arena.notifications_in("delivered", 1, 30).await;
    arena.notifications_in("queued", 1, 30).await;
    metric_is(&activator, "tocsin_messages_waiting", "channel=\"sms\"", 1).await;

    let status = api.get("/v1/status");
    let screen = Terminal::new(&arena, &api).run(&["status"]).await;
    let screen = String::from_utf8(screen.stdout).unwrap();
    let line = |start: &str| {
        let found = screen.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("{start} in {screen}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };

    // Can the database be reached to take leases?
    metric_is(&activator, "tocsin_component_up", "component=\"database\"", 1).await;
    assert_eq!(named(&status["programs"], "program", "activator")["copies"], 1);
    assert!(line("activator").starts_with("activator 1 "), "{screen}");

    // Which leases are valid, whose are they, and how old?
    metric_is(&activator, "tocsin_lease_held", "lease=\"scheduler\"", 1).await;
    assert!(activator.metric("tocsin_lease_age_seconds", "lease=\"scheduler\"").await < 300);
    let lease = named(&status["leases"], "lease", "scheduler");
    assert!(lease["is-held"] == true && lease["holder"].as_str().unwrap().starts_with("activator/"), "{lease}");
    assert!(lease["since"].is_string(), "{lease}");
    let shown = line("scheduler");
    assert!(shown.contains(" yes ") && shown.contains(" ago ") && shown.contains("activator/"), "{shown}");

    // How many schedules are overdue?
    metric_is(&activator, "tocsin_schedules_overdue", "", 1).await;
    assert_eq!(status["schedules-overdue"], 1);
    assert!(screen.contains("1 schedule to come, 1 overdue"), "{screen}");

    // How much work waits?
    assert_eq!(named(&status["channels"], "channel", "sms")["unfinished"], json!({"queued": 1}));
    assert_eq!(named(&status["queues"], "queue", "notify.sms")["messages"], 1);
    assert!(line("sms").starts_with("sms 1 0 1 queued "), "{screen}");

    // How much was done, and what came of it?
    metric_is(&worker, "tocsin_notifications_total", "state=\"delivered\"", 1).await;
    metric_is(&bridge, "tocsin_requests_total", "outcome=\"accepted\"", 2).await;
    assert_eq!(named(&status["channels"], "channel", "phone")["finished"], json!({"delivered": 1}));
    assert!(line("phone").contains(" 1 delivered "), "{screen}");
}
