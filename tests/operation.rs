use std::{collections::BTreeMap, process::Command, time::Duration};

use runtime::{Setting, settings};
use serde_json::json;
use testkit::{Arena, Program, Signal, wait_for};

use crate::{
    checker::{Checker, Verdict},
    programs,
};

fn program(name: &str) -> Command {
    let mut command = Command::new(testkit::binary(name));
    command.env_clear();
    command
}

#[test]
fn help_lists_every_setting_and_version_is_told() {
    let mut listed = String::new();
    for name in &programs() {
        let help = program(name).arg("--help").output().unwrap();
        assert!(help.status.success());
        let help = String::from_utf8(help.stdout).unwrap();
        for common in settings::COMMON {
            assert!(help.contains(&common.variable()), "{name} --help lacks {}", common.variable());
        }
        listed.push_str(&help);
        let version = program(name).arg("--version").output().unwrap();
        assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
        let completions = program(name).args(["--completions", "bash"]).output().unwrap();
        assert!(String::from_utf8(completions.stdout).unwrap().contains("--check-config"));
    }
    listed.push_str(&String::from_utf8(program("tocsin").arg("--help").output().unwrap().stdout).unwrap());
    for variable in settings::ALL.iter().map(Setting::variable) {
        assert!(listed.contains(&variable), "no program's --help lists {variable}");
    }
}

#[test]
fn a_wrong_configuration_is_told_all_at_once_with_exit_64() {
    let output = program("notifier-phone")
        .env("TOCSIN_TWILIO__BASE_URL", "api.twilio.com")
        .env("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", "0")
        .env("TOCSIN_NOTIFIER__MAX_INFLIGHT", "5")
        .env("TOCSIN_TWILIO__AUTH_TOKEN", "a-secret")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let errors = String::from_utf8(output.stderr).unwrap();
    for words in [
        "TOCSIN_DATABASE__URL (database.url): is required",
        "TOCSIN_BROKER__URL (broker.url): is required",
        "TOCSIN_TWILIO__ACCOUNT_SID (twilio.account_sid): is required",
        "TOCSIN_TWILIO__BASE_URL (twilio.base_url): must be an absolute",
        "TOCSIN_NOTIFIER__MAX_IN_FLIGHT (notifier.max_in_flight): must be a whole number from 1",
        "TOCSIN_NOTIFIER__MAX_INFLIGHT: no such setting; is TOCSIN_NOTIFIER__MAX_IN_FLIGHT meant?",
    ] {
        assert!(errors.contains(words), "{words}: {errors}");
    }
    assert!(!errors.contains("a-secret"));
}

#[test]
fn a_wrong_option_is_bad_usage_too() {
    for (name, arguments) in [("bridge", ["--onse"].as_slice()), ("tocsin", &["check", "bridgge"])] {
        let output = program(name).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{name}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains(arguments[arguments.len() - 1]), "{errors}");
    }
}

#[test]
fn check_config_says_so_when_all_is_good_and_contacts_nobody() {
    let output = program("bridge")
        .arg("--check-config")
        .env("TOCSIN_DATABASE__URL", "postgres://nobody@192.0.2.1/nowhere")
        .env("TOCSIN_SQS__QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/123456789012/a.fifo")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "bridge: the configuration is good\n");
}

#[tokio::test]
async fn once_drains_what_is_there_and_ends() {
    let arena = Arena::new().await;
    for n in 0..30 {
        arena.start_calls("same", -1, &["+3851111111"]);
        arena.stop_process("same");
        // A number for each: calls that find theirs busy come back by the activator, which has ended.
        arena.start_calls(&format!("p{n}"), -1, &[&format!("+385911111{n:02}")]);
    }
    let bridge = arena.start_with("bridge", &["--once"], &[]);
    assert!(bridge.ended(Duration::from_secs(30)).await.success());
    assert_eq!(arena.database.count("SELECT count(*) FROM request").await, 90);
    assert_eq!(arena.queue.depth(), 0);
    let activator = arena.start_with("activator", &["--once"], &[]);
    assert!(activator.ended(Duration::from_secs(30)).await.success());
    assert_eq!(arena.states().await, [("cancelled".to_owned(), 30), ("queued".to_owned(), 30)].into());
    let _phone = arena.start("notifier-phone").await;
    arena.notifications_in("delivered", 30, 90).await;
}

#[tokio::test]
async fn once_with_the_database_away_ends_with_69() {
    let arena = Arena::new().await;
    let away = [("TOCSIN_DATABASE__URL", "postgres://nobody@127.0.0.1:1/nowhere")];
    for name in ["bridge", "activator"] {
        let ended = arena.start_with(name, &["--once"], &away).ended(Duration::from_secs(20)).await;
        assert_eq!(ended.code(), Some(69), "{name}");
    }
}

#[tokio::test]
async fn once_with_a_database_that_goes_away_ends_with_69() {
    let arena = Arena::with_own_postgres().await;
    arena.start_calls("p", 60, &["+3851111111"]);
    let bridge = arena.start_with("bridge", &["--once"], &[("TOCSIN_FAILPOINTS", "bridge.received=stop")]);
    bridge.frozen().await;
    arena.postgres.as_ref().unwrap().stop_immediately();
    bridge.signal(Signal::CONT);
    assert_eq!(bridge.ended(Duration::from_secs(60)).await.code(), Some(69));
}

#[tokio::test]
async fn on_sigterm_calls_in_flight_end_and_are_recorded_and_nothing_new_begins() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "delay_ms": 2000}]));
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let phone = arena.start_with("notifier-phone", &[], &[("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", "5")]).ready().await;
    let numbers: Vec<_> = (0..20).map(|n| format!("+38591{n:07}")).collect();
    arena.start_calls("r", -1, &numbers.iter().map(String::as_str).collect::<Vec<_>>());
    arena.notifications_in("sending", 5, 10).await;
    phone.signal(Signal::TERM);
    assert!(phone.ended(Duration::from_secs(10)).await.success());
    assert_eq!(arena.database.count("SELECT count(*) FROM notification WHERE state = 'delivered'").await, 5);
    // On a slow machine some may have been claimed too slowly to be called, and given back.
    let waiting = "SELECT count(*) FROM notification WHERE state IN ('queued', 'retrying') AND attempts = 0";
    assert_eq!(arena.database.count(waiting).await, 15);
    assert_eq!(arena.simulator.called().len(), 5);
    // What it had taken and not begun is back in the broker at once, for another worker.
    arena.simulator.set_rules(&json!([]));
    let _phone = arena.start("notifier-phone").await;
    arena.notifications_in("delivered", 20, 90).await;
    assert_eq!(arena.simulator.called().len(), 20);
}

#[tokio::test]
async fn on_sigterm_what_was_not_begun_goes_to_another_worker_while_calls_are_in_flight() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "delay_ms": 25000}]));
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let settings = [("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", "5"), ("TOCSIN_NOTIFIER__CALL_TIMEOUT_SECONDS", "28")];
    let phone = arena.start_with("notifier-phone", &[], &settings).ready().await;
    let numbers: Vec<_> = (0..20).map(|n| format!("+38591{n:07}")).collect();
    arena.start_calls("r", -1, &numbers.iter().map(String::as_str).collect::<Vec<_>>());
    arena.notifications_in("sending", 5, 10).await;
    wait_for("a worker that holds all messages", Duration::from_secs(30), || async {
        (arena.vhost.ask("GET", "queues", "/notify.phone", None)["messages_unacknowledged"] == 20).then_some(())
    })
    .await;
    arena.simulator.set_rules(&json!([]));
    let _other = arena.start("notifier-phone").await;
    phone.signal(Signal::TERM);
    arena.notifications_in("delivered", 15, 20).await;
    assert_eq!(arena.database.count("SELECT count(*) FROM notification WHERE state = 'sending'").await, 5);
}

#[tokio::test]
async fn on_sigterm_under_load_every_program_ends_in_time_and_leaves_nothing_unknown() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "delay_ms": 100}]));
    let mut checker = Checker::new(&arena);
    let mut programs = BTreeMap::new();
    for name in ["bridge", "activator", "notifier-phone"] {
        programs.insert(name, arena.start(name).await);
    }
    for n in 0..40 {
        checker.start(&format!("p{n}"), n % 10, 50);
    }
    for (round, name) in (1..).zip(["notifier-phone", "activator", "bridge", "notifier-phone"]) {
        wait_for("load", Duration::from_secs(60), || async {
            (arena.simulator.called().len() > 300 * round).then_some(())
        })
        .await;
        for n in 0..10 {
            checker.start(&format!("{round} {n}"), -1, 20);
        }
        let next = arena.start(name).await;
        programs.insert(name, next).unwrap().stop().await;
    }
    assert_eq!(checker.settled(90).await, Verdict::each_called_once(2_800));
}

#[tokio::test]
async fn health_and_metrics_tell_what_happens() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "+1*", "status": 400, "code": 21211}]));
    let programs = arena.start_all(&["phone"]).await;
    arena.start_calls("r", -1, &["+3851111111", "+3852222222", "+3853333333", "+1555"]);
    arena.queue.send("r", "gibberish");
    arena.counted("SELECT count(*) FROM notification WHERE finished_at IS NOT NULL", 4, 10).await;
    arena.requests_recorded(2).await;
    let [bridge, activator, phone] = &programs[..] else { panic!("three programs") };
    for (program, line) in [
        (bridge, r#"tocsin_requests_total{outcome="accepted"} 1"#),
        (bridge, r#"tocsin_requests_total{outcome="rejected"} 1"#),
        (activator, r#"tocsin_published_total{channel="phone"} 4"#),
        (phone, r#"tocsin_attempts_total{channel="phone",outcome="delivered"} 3"#),
        (phone, r#"tocsin_attempts_total{channel="phone",outcome="permanent"} 1"#),
        (phone, r#"tocsin_notifications_total{channel="phone",state="delivered"} 3"#),
        (phone, r#"tocsin_notifications_total{channel="phone",state="failed"} 1"#),
        (phone, r#"tocsin_lateness_seconds_count{channel="phone"} 4"#),
        (phone, r#"tocsin_call_seconds_count{channel="phone"} 4"#),
        (phone, r#"tocsin_component_up{component="database"} 1"#),
    ] {
        metric(program, line).await;
    }
    let (status, live) = phone.get("/health/live").await;
    assert_eq!(status, 200);
    assert!(live.contains("notifier-phone") && live.contains(env!("CARGO_PKG_VERSION")), "{live}");
}

/// Counters are told after the record is committed, so the last line may come a moment later.
async fn metric(program: &Program, line: &str) {
    wait_for(line, Duration::from_secs(5), || async {
        program.get("/metrics").await.1.lines().any(|found| found == line).then_some(())
    })
    .await;
}

#[tokio::test]
async fn logs_are_json_and_hold_no_number_and_no_secret() {
    let arena = Arena::new().await;
    arena
        .simulator
        .set_rules(&json!([{"address": "+1*", "status": 400, "code": 21211}, {"address": "+2*", "drop": true}]));
    let settings = [("TOCSIN_LOG__LEVEL", "debug"), ("TOCSIN_TWILIO__AUTH_TOKEN", "a-very-secret-token")];
    let mut programs = Vec::new();
    for name in ["bridge", "activator", "notifier-phone"] {
        programs.push(arena.start_with(name, &[], &settings).ready().await);
    }
    arena.start_calls("r", -1, &["+3851234567", "+1555123456", "+2555123456"]);
    arena.queue.send("x", r#"{"process-id": "x", "action": "start", "notifications": [{"channel": "phone", "at": 1, "phone-number": "3851234567"}]}"#);
    arena.notifications_in("delivered", 1, 10).await;
    arena.notifications_in("retrying", 1, 10).await;
    arena.requests_recorded(2).await;
    for program in &programs {
        let output = program.output();
        assert!(output.len() > 1);
        for line in output {
            assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "no JSON: {line}");
            for hidden in ["51234567", "555123456", "a-very-secret-token", "-development"] {
                assert!(!line.contains(hidden), "{hidden} in {line}");
            }
        }
    }
}

#[tokio::test]
async fn human_logs_have_no_colour_where_there_is_no_terminal() {
    let arena = Arena::new().await;
    let bridge = arena.start_with("bridge", &[], &[("TOCSIN_LOG__FORMAT", "human")]);
    wait_for("a line", Duration::from_secs(10), || async {
        bridge.output().iter().any(|line| line.contains("started")).then_some(())
    })
    .await;
    assert!(bridge.output().iter().all(|line| !line.contains('\u{1b}') && !line.starts_with('{')));
}
