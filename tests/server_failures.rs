use std::time::Duration;

use serde_json::json;
use testkit::{Arena, wait_for};

use crate::checker::{Checker, Verdict, not_ready, ready_again};

#[tokio::test]
async fn rabbitmq_killed_and_postgres_shut_down_at_once_again_and_again_under_load() {
    let arena = Arena::with_own_servers().await;
    let (postgres, rabbitmq) = (arena.postgres.as_ref().unwrap(), arena.rabbitmq.as_ref().unwrap());
    arena.simulator.set_rules(&json!([{"address": "*", "delay_ms": 50}]));
    let programs = arena.start_all(&["phone"]).await;
    let _second = [arena.start("activator").await, arena.start("notifier-phone").await];
    let mut checker = Checker::new(&arena);
    for round in 0..3 {
        // Due while the servers fall and while they rise.
        for n in 0..30 {
            checker.start(&format!("{round} {n}"), n - 1, 30);
        }
        wait_for("calls of this round", Duration::from_secs(60), || async {
            (arena.simulator.called().len() > 900 * round + 100).then_some(())
        })
        .await;
        postgres.stop_immediately();
        rabbitmq.kill();
        postgres.run(&arena.workplace).unwrap();
        rabbitmq.run(&arena.workplace).unwrap();
    }
    let verdict = checker.settled(180).await;
    assert_eq!(verdict.delivered, 2_700, "{verdict:?}");
    assert!(verdict.extra_calls <= verdict.unknown, "{verdict:?}");
    // A claim lasts longer than these outages, so every answer could be recorded in time.
    assert_eq!(verdict.calls, 2_700, "{verdict:?}");
    for program in &programs {
        ready_again(program).await;
    }
}

#[tokio::test]
async fn a_backlog_of_500_000_is_not_fed_to_itself() {
    let arena = Arena::new().await;
    let backlog = 500_000;
    arena.start_calls("first", 3_600, &["+3850000000"]);
    let bridge = arena.start("bridge").await;
    arena.requests_recorded(1).await;
    bridge.stop().await;
    arena
        .database
        .execute(&format!(
            "WITH more AS (
                 INSERT INTO notification (process_id, organisation, channel, scheduled_at, due_at, wake_at, accepted_at,
                     max_attempts, expires_at)
                 SELECT process_id, organisation, channel, accepted_at, accepted_at, accepted_at, accepted_at, max_attempts,
                     accepted_at + interval '9 days'
                 FROM notification, generate_series(1, {backlog}) RETURNING id
             )
             INSERT INTO notification_content (notification_id, request_id, run, process_name, address, options)
             SELECT m.id, r.id, 1, 'first', '+385' || m.id, '{{}}' FROM more m, request r"
        ))
        .await;
    let activator = arena.start("activator").await;
    let published = async || activator.metric("tocsin_published_total", "").await;
    wait_for("all of it published", Duration::from_secs(200), || async {
        (published().await >= backlog).then_some(())
    })
    .await;
    // A slow worker, who will need for ever.
    arena.simulator.set_rules(&json!([{"address": "*", "delay_ms": 200}]));
    let settings = [("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", "2")];
    let _worker = arena.start_with("notifier-phone", &[], &settings).ready().await;
    let unconfirmed = "SELECT count(*) FROM notification WHERE confirmed_at IS NULL AND state = 'queued'";
    arena.counted(unconfirmed, 0, 120).await;
    let before = published().await;
    for hours in 1..=2 {
        arena.database.shift_time(&format!("{hours} hours 5 minutes")).await;
        let looked_at = "SELECT count(*) FROM notification 
            WHERE state = 'queued' AND greatest(wake_at, busy_until) <= tocsin_now()";
        arena.counted(looked_at, 0, 120).await;
    }
    let again = published().await - before;
    // A few that the worker had to give back.
    assert!(again < 100, "{again} of {backlog} were published again");
}

#[tokio::test]
async fn an_alarm_in_rabbitmq_makes_all_wait_and_say_so_and_loses_nothing() {
    let arena = Arena::with_own_rabbitmq().await;
    let rabbitmq = arena.rabbitmq.as_ref().unwrap();
    let programs = arena.start_all(&["phone"]).await;
    let mut checker = Checker::new(&arena);
    for (raise, end) in [
        (["set_disk_free_limit", "900GB"], ["set_disk_free_limit", "50MB"]),
        (["set_vm_memory_high_watermark", "0.000001"], ["set_vm_memory_high_watermark", "0.5"]),
    ] {
        rabbitmq.control(&raise).unwrap();
        let before = arena.simulator.called().len();
        checker.start(raise[0], -1, 50);
        not_ready(&programs[1], "broker").await;
        assert_eq!(arena.simulator.called().len(), before, "nothing gets through");
        assert_eq!(arena.states().await.get("queued"), Some(&50));
        rabbitmq.control(&end).unwrap();
        arena.notifications_in("delivered", i64::try_from(before).unwrap() + 50, 90).await;
        ready_again(&programs[1]).await;
    }
    assert_eq!(checker.settled(60).await, Verdict::each_called_once(100));
}

#[tokio::test]
async fn a_full_disk_under_postgres_makes_all_wait_and_say_so_and_loses_nothing() {
    let (arena, disk) = Arena::with_postgres_on_small_disk(256).await;
    let postgres = arena.postgres.as_ref().unwrap();
    let programs = arena.start_all(&["phone"]).await;
    let mut checker = Checker::new(&arena);
    checker.start("before", -1, 50);
    arena.notifications_in("delivered", 50, 30).await;
    disk.fill().unwrap();
    for n in 0..40 {
        checker.start(&format!("during {n}"), -1, 100);
    }
    not_ready(&programs[0], "database").await;
    disk.free().unwrap();
    // Postgres may have given up, as it does where it can't write its log.
    wait_for("Postgres", Duration::from_secs(60), || async {
        if !postgres.runs() {
            postgres.run(&arena.workplace).unwrap();
        }
        arena.database.try_count("SELECT 1::bigint").await.ok()
    })
    .await;
    assert_eq!(checker.settled(120).await, Verdict::each_called_once(4_050));
    for program in &programs {
        ready_again(program).await;
    }
}
