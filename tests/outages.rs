use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::json;
use testkit::{Arena, wait_for};
use tokio::time::sleep;

use crate::checker::ready_again;

#[tokio::test]
async fn database_stopped_for_20_s_while_requests_arrive() {
    let arena = Arena::with_own_postgres().await;
    let postgres = arena.postgres.as_ref().unwrap();
    let programs = arena.start_all(&["phone"]).await;
    let body = |process: &str, action: &str, step: usize| {
        let at = arena.now() + 3_600;
        let call = json!({"channel": "phone", "at": at, "phone-number": format!("+3859{step:04}")});
        json!({"process-id": process, "action": action, "step": step, "notifications": [call]}).to_string()
    };
    let processes: Vec<_> = (0..10).map(|n| format!("p{n}")).collect();
    let send_round = |step: usize| {
        let action = if step.is_multiple_of(2) { "start" } else { "stop" };
        let bodies: Vec<_> = processes.iter().map(|process| body(process, action, step)).collect();
        let requests: Vec<_> = processes.iter().zip(&bodies).map(|(p, b)| (p.as_str(), b.as_str())).collect();
        arena.queue.send_all(&requests);
    };
    send_round(0);
    arena.requests_recorded(10).await;
    postgres.stop_immediately();
    let away = Instant::now();
    let mut step = 1;
    while away.elapsed() < Duration::from_secs(20) {
        send_round(step);
        step += 1;
        sleep(Duration::from_secs(2)).await;
    }
    for program in &programs {
        let (status, text) = program.get("/health/ready").await;
        assert!(status == 503 && text.contains("database"), "{text}");
    }
    arena.start_calls("now", -1, &["+3851111111"]);
    postgres.run(&arena.workplace).unwrap();

    let expected = i64::try_from(step * processes.len() + 1).unwrap();
    arena.counted("SELECT count(*) FROM request", expected, 60).await;
    assert_eq!(arena.database.count("SELECT count(*) FROM request WHERE outcome <> 'accepted'").await, 0);
    for process in &processes {
        let steps = format!(
            "SELECT convert_from(body, 'UTF8')::json->>'step' FROM request WHERE process_name = '{process}' ORDER BY id"
        );
        let in_order: Vec<_> = (0..step).map(|n| n.to_string()).collect();
        assert_eq!(arena.database.texts(&steps).await, in_order);
    }
    arena.notifications_in("delivered", 1, 30).await;
    assert_eq!(arena.simulator.called(), ["+3851111111"]);
    for program in &programs {
        ready_again(program).await;
    }
}

#[tokio::test]
async fn rabbitmq_restarted_under_load() {
    let arena = Arena::with_own_rabbitmq().await;
    let rabbitmq = arena.rabbitmq.as_ref().unwrap();
    let programs = arena.start_all(&["phone"]).await;
    let numbers: Vec<_> = (0..4_000).map(|n| format!("+38591{n:07}")).collect();
    // Due at once, and over the next fifteen seconds.
    for (n, chunk) in numbers.chunks(250).enumerate() {
        let chunk: Vec<_> = chunk.iter().map(String::as_str).collect();
        arena.start_calls(&format!("p{n}"), i64::try_from(n).unwrap() - 1, &chunk);
    }
    wait_for("the first calls", Duration::from_secs(20), || async {
        (arena.simulator.called().len() > 300).then_some(())
    })
    .await;
    rabbitmq.kill();
    wait_for("not ready", Duration::from_secs(20), || async {
        let (status, text) = programs[2].get("/health/ready").await;
        (status == 503 && text.contains("broker")).then_some(())
    })
    .await;
    rabbitmq.run(&arena.workplace).unwrap();
    arena.notifications_in("delivered", 4_000, 120).await;
    let mut calls: BTreeMap<String, i64> = numbers.iter().map(|number| (number.clone(), 0)).collect();
    arena.simulator.called().into_iter().for_each(|number| *calls.entry(number).or_default() += 1);
    assert_eq!(calls.len(), 4_000);
    assert!(calls.values().all(|count| *count == 1), "a broker's restart costs no extra call");
    for program in &programs {
        ready_again(program).await;
    }
}

#[tokio::test]
async fn what_cannot_be_routed_goes_back_to_scheduled_and_on_by_itself_when_mended() {
    let arena = Arena::new().await;
    let _programs = arena.start_all(&["console", "phone"]).await;
    let binding = "/e/tocsin.deliver/q/notify.console";
    arena.vhost.ask("DELETE", "bindings", &format!("{binding}/*.system.console"), None);
    let note = json!({"channel": "console", "at": 1});
    for n in 0..20 {
        let call = |m: usize| json!({"channel": "phone", "at": 1, "phone-number": format!("+3859{n:02}{m:04}")});
        let notifications: Vec<_> = (0..10).flat_map(|m| [note.clone(), call(m)]).collect();
        arena.start_process(&format!("p{n}"), &notifications);
    }
    // Of each it is known which came back, whatever else the broker has confirmed beside it.
    arena.notifications_in("delivered", 200, 30).await;
    let shown = "SELECT count(*) FROM notification
        WHERE channel = 'console' AND state = 'scheduled' AND reason LIKE '%NO_ROUTE%'";
    arena.counted(shown, 200, 30).await;
    arena.vhost.ask("POST", "bindings", binding, Some(&json!({"routing_key": "*.system.console"})));
    arena.notifications_in("delivered", 400, 70).await;
    assert_eq!(arena.simulator.called().len(), 200);
}

#[tokio::test]
async fn a_message_that_nobody_can_read_is_kept_for_people_to_see() {
    let arena = Arena::new().await;
    let _programs = arena.start_all(&["console"]).await;
    let message = json!({"properties": {}, "routing_key": "notify.console", "payload": "gibberish", "payload_encoding": "string"});
    arena.vhost.ask("POST", "exchanges", "/amq.default/publish", Some(&message));
    arena.counted("SELECT count(*) FROM dead_letter", 1, 20).await;
    let kept =
        arena.database.texts("SELECT queue || ' ' || reason || ' ' || convert_from(body, 'UTF8') FROM dead_letter");
    assert_eq!(kept.await, ["notify.console rejected gibberish"]);
}

#[tokio::test]
async fn a_message_that_the_broker_lost_is_published_again() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    let activator = arena.start("activator").await;
    arena.start_calls("r", -1, &["+3851111111"]);
    arena.notifications_in("queued", 1, 10).await;
    // On its way out the activator notes what the broker has confirmed.
    activator.stop().await;
    arena.vhost.ask("DELETE", "queues", "/notify.phone/contents", None);
    let _phone = arena.start("notifier-phone").await;
    let _activator = arena.start("activator").await;
    assert_eq!(arena.states().await, [("queued".to_owned(), 1)].into(), "for an hour a backlog is left alone");
    arena.database.shift_time("61 minutes").await;
    arena.notifications_in("delivered", 1, 20).await;
}

#[tokio::test]
async fn a_row_that_somebody_holds_keeps_no_other_from_being_called() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    let activator = arena.start("activator").await;
    let numbers: Vec<_> = (0..10).map(|n| format!("+38591{n:07}")).collect();
    arena.start_calls("r", -1, &numbers.iter().map(String::as_str).collect::<Vec<_>>());
    arena.notifications_in("queued", 10, 20).await;
    // It would wait for the row as well, before it can note that they are confirmed.
    activator.stop().await;
    let mut somebody = arena.database.pool.begin().await.unwrap();
    testkit::raw("SELECT FROM notification ORDER BY id LIMIT 1 FOR UPDATE").execute(&mut *somebody).await.unwrap();
    let worker = arena.start("notifier-phone").await;
    arena.notifications_in("delivered", 9, 30).await;
    arena.start_calls("later", -1, &["+385920000000"]);
    let _activator = arena.start("activator").await;
    arena.notifications_in("delivered", 10, 30).await;
    ready_again(&worker).await;
    somebody.rollback().await.unwrap();
    arena.notifications_in("delivered", 11, 30).await;
    assert_eq!(arena.simulator.called().len(), 11);
    let is_taken_for_down = |line: &&String| line.contains("component_down") && line.contains("lock timeout");
    assert_eq!(
        worker.output().iter().find(is_taken_for_down),
        None,
        "the database works, and there was no rest for it"
    );
}

#[tokio::test]
async fn rows_that_somebody_holds_keep_no_other_call_from_being_recorded() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "delay_ms": 6000}]));
    let _programs = arena.start_all(&["phone"]).await;
    let numbers: Vec<_> = (0..10).map(|n| format!("+38591{n:07}")).collect();
    arena.start_calls("r", -1, &numbers.iter().map(String::as_str).collect::<Vec<_>>());
    arena.notifications_in("sending", 10, 20).await;
    let mut somebody = arena.database.pool.begin().await.unwrap();
    testkit::raw("SELECT FROM notification ORDER BY id LIMIT 3 FOR UPDATE").execute(&mut *somebody).await.unwrap();
    arena.notifications_in("delivered", 7, 30).await;
    arena.start_calls("later", -1, &["+385920000000"]);
    arena.notifications_in("delivered", 8, 30).await;
    somebody.rollback().await.unwrap();
    arena.notifications_in("delivered", 11, 30).await;
    assert_eq!(arena.simulator.called().len(), 11);
}
