//! Schedules and leases, as processes on real servers. What fired is counted at the provider.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Value, json};
use testkit::{Api, Arena, Signal, wait_for};

/// So long after its holder's death a lease is free.
const LEASE_LIFE: i64 = 11;

const ACCEPTED: &str = "SELECT count(*) FROM request WHERE source LIKE 'schedule:%' AND outcome = 'accepted'";

/// The database's time, which tests put off.
pub(crate) async fn now(arena: &Arena) -> i64 {
    arena.database.count("SELECT floor(extract(epoch FROM tocsin_now()))::bigint").await
}

/// A call for each occurrence, to a number of its own.
pub(crate) fn calls(process: &str) -> Value {
    json!({
        "process-id": process,
        "notifications": [{"channel": "phone", "in": 0, "phone-number": "+385{{ occurrence }}"}],
    })
}

#[track_caller]
pub(crate) fn make(api: &Api, body: &Value) -> i64 {
    let answer = api.ask("POST", "/v1/schedules", Some(body));
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_i64().unwrap()
}

async fn outcomes(arena: &Arena, schedule: i64, outcome: &str) -> i64 {
    let count = format!("SELECT count(*) FROM request WHERE source = 'schedule:{schedule}' AND outcome = '{outcome}'");
    arena.database.count(&count).await
}

/// Waits until the calls of so many seconds have been made, and counts them at the provider.
async fn each_second_is_called_once(arena: &Arena, from: i64, seconds: i64) {
    arena.notifications_in("delivered", seconds, 60).await;
    let mut called = arena.simulator.called();
    called.sort_unstable();
    let expected: Vec<_> = (from..from + seconds).map(|second| format!("+385{second}")).collect();
    assert_eq!(called, expected, "each once");
}

#[tokio::test]
async fn each_second_fires_once_while_one_activator_after_the_other_is_killed() {
    const SECONDS: i64 = 70;
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _worker = arena.start("notifier-phone").await;
    // One dies before it has committed what is due, and the next right after.
    let failpoints = ["activator.scheduling=kill@2", "activator.scheduled=kill@2"];
    let mut holder = arena.start_failing("activator", failpoints[0]).await;
    let from = now(&arena).await + 3;
    make(
        &api,
        &json!({"name": "each second", "lines": [{"cron": "* * * * * *"}], "from": from, "until": from + SECONDS,
            "missed": "all", "request": calls("tick-{{ occurrence }}")}),
    );
    for round in 1..=4 {
        // Who starts while nobody holds the lease may take it, and die, before it is seen to be ready.
        arena.counted("SELECT coalesce(max(fence), 0) FROM lease", round, 30).await;
        let next = arena.start_failing("activator", failpoints[usize::from(round % 2 == 1)]).await;
        holder.killed().await;
        arena.database.shift_time(&format!("{} seconds", LEASE_LIFE * round)).await;
        holder = next;
    }
    arena.counted("SELECT max(fence) FROM lease", 5, 30).await;
    let _last = arena.start("activator").await;
    holder.killed().await;
    arena.database.shift_time(&format!("{} seconds", 5 * LEASE_LIFE)).await;
    arena.counted(ACCEPTED, SECONDS, 60).await;
    // What a dead one had taken and not published comes after a minute.
    arena.database.shift_time(&format!("{} seconds", 5 * LEASE_LIFE + 65)).await;
    each_second_is_called_once(&arena, from, SECONDS).await;
    let early = "SELECT count(*) FROM notification WHERE accepted_at < scheduled_at";
    assert_eq!(arena.database.count(early).await, 0);
}

#[tokio::test]
async fn a_whole_minute_of_two_activators_of_which_one_is_killed_each_ten_seconds() {
    const SECONDS: i64 = 60;
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _worker = arena.start("notifier-phone").await;
    let mut activators = VecDeque::from([arena.start("activator").await, arena.start("activator").await]);
    let from = now(&arena).await + 2;
    make(
        &api,
        &json!({"name": "each second", "lines": [{"cron": "* * * * * *"}], "from": from, "until": from + SECONDS,
            "missed": "all", "request": calls("tick-{{ occurrence }}")}),
    );
    for kill_at in (from + 10..from + SECONDS).step_by(10) {
        let is_over = || async { (now(&arena).await >= kill_at).then_some(()) };
        wait_for("ten seconds to pass", std::time::Duration::from_secs(30), is_over).await;
        activators.pop_front().unwrap().kill();
        activators.push_back(arena.start("activator").await);
    }
    arena.counted(ACCEPTED, SECONDS, 60).await;
    // What a dead one had taken and not published comes after a minute.
    arena.database.shift_time("65 seconds").await;
    each_second_is_called_once(&arena, from, SECONDS).await;
}

#[tokio::test]
async fn after_downtime_each_schedule_follows_its_policy() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    // Half an hour away from now, so that none is on time.
    let minute = (now(&arena).await / 60 + 30) % 60;
    let hourly = |name: &str, missed: &str, window: i64| {
        make(
            &api,
            &json!({"name": name, "lines": [{"cron": format!("{minute} * * * *")}], "missed": missed,
                "missed-window": window, "request": calls(&format!("{name}-{{{{ occurrence }}}}"))}),
        )
    };
    let cases = [
        (hourly("all", "all", 86_400), 5),
        (hourly("all of two hours", "all", 7_200), 2),
        (hourly("last", "last", 86_400), 1),
        (hourly("last of a minute", "last", 60), 0),
        (hourly("none", "none", 86_400), 0),
    ];
    arena.database.shift_time("5 hours").await;
    let activator = arena.start("activator").await;
    arena.counted("SELECT count(*) FROM schedule WHERE next_at > tocsin_now()", 5, 30).await;
    for (schedule, expected) in cases {
        assert_eq!(outcomes(&arena, schedule, "accepted").await, expected, "schedule {schedule}");
    }
    let last = "SELECT (s.last_at > tocsin_now() - interval '1 hour')::text FROM schedule s WHERE s.name = 'last'";
    assert_eq!(arena.database.texts(last).await, ["true"], "the last, and no other");
    assert_eq!(activator.metric("tocsin_schedules_overdue", "").await, 0);
    assert_eq!(activator.metric("tocsin_occurrences_total", "outcome=\"accepted\"").await, 8);
}

#[tokio::test]
async fn another_takes_the_lease_over_and_a_frozen_holder_that_wakes_writes_nothing() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let frozen = arena.start_failing("activator", "activator.scheduling=stop").await;
    let from = now(&arena).await + 2;
    let schedule = make(
        &api,
        &json!({"name": "s", "lines": [{"cron": "* * * * * *"}], "from": from, "until": from + 12,
            "request": calls("s-{{ occurrence }}")}),
    );
    frozen.frozen().await;
    let held = api.get("/v1/leases")[0].clone();
    assert_eq!((held["lease"].as_str(), held["is-held"].as_bool()), (Some("scheduler"), Some(true)));
    let other = arena.start("activator").await;
    assert_eq!(other.metric("tocsin_lease_held", "lease=\"scheduler\"").await, 0);
    arena.database.shift_time(&format!("{LEASE_LIFE} seconds")).await;
    arena.counted(ACCEPTED, 12, 30).await;
    let taken = api.get("/v1/leases")[0].clone();
    assert_eq!(taken["fence"].as_i64(), held["fence"].as_i64().map(|fence| fence + 1));
    assert_ne!(taken["holder"], held["holder"]);
    assert_eq!(other.metric("tocsin_lease_held", "lease=\"scheduler\"").await, 1);

    let all = format!(
        "SELECT concat_ws(' ', next_at, last_at, last_process) FROM schedule WHERE id = {schedule}
         UNION ALL SELECT concat_ws(' ', id, outcome) FROM request ORDER BY 1"
    );
    let before = arena.database.texts(&all).await;
    frozen.signal(Signal::CONT);
    wait_for("the frozen one to see that it lost the lease", std::time::Duration::from_secs(30), || async {
        frozen.output().iter().any(|line| line.contains("lease_lost")).then_some(())
    })
    .await;
    assert_eq!(arena.database.texts(&all).await, before);
    frozen.stop().await;
    assert_eq!(api.get("/v1/leases")[0]["holder"], taken["holder"], "it gives up nothing that is another's");
    other.stop().await;
    assert_eq!(api.get("/v1/leases")[0]["is-held"], false, "who stops lets another take over at once");
}

#[tokio::test]
async fn what_overlaps_is_allowed_skipped_or_has_the_one_before_stopped() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _activator = arena.start("activator").await;
    let from = now(&arena).await + 2;
    let mut ids = Vec::new();
    for overlap in ["allow", "skip", "stop"] {
        ids.push(make(
            &api,
            &json!({"name": overlap, "lines": [{"cron": "* * * * * *"}], "from": from, "until": from + 3,
                "overlap": overlap, "request": {"process-id": format!("{overlap}-{{{{ occurrence }}}}"),
                    "notifications": [{"channel": "console", "in": 3_600}]}}),
        ));
    }
    arena.counted("SELECT count(*) FROM schedule WHERE next_at IS NULL", 3, 30).await;
    assert_eq!((outcomes(&arena, ids[0], "accepted").await, outcomes(&arena, ids[0], "ignored").await), (3, 0));
    assert_eq!((outcomes(&arena, ids[1], "accepted").await, outcomes(&arena, ids[1], "ignored").await), (1, 2));
    assert_eq!((outcomes(&arena, ids[2], "accepted").await, outcomes(&arena, ids[2], "ignored").await), (5, 0));
    let states = arena.states().await;
    assert_eq!(states, [("scheduled".to_owned(), 3 + 1 + 1), ("cancelled".to_owned(), 2)].into());
    let stopped = "SELECT count(*) FROM notification WHERE reason LIKE 'stopped by request %'";
    assert_eq!(arena.database.count(stopped).await, 2);
}

#[tokio::test]
async fn a_template_that_fails_is_recorded_as_a_rejected_request_and_stops_no_other() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _activator = arena.start("activator").await;
    let from = now(&arena).await + 2;
    let each_second = |name: &str, message: &str| {
        make(
            &api,
            &json!({"name": name, "lines": [{"cron": "* * * * * *"}], "from": from, "until": from + 4,
                "request": {"process-id": format!("{name}-{{{{ occurrence }}}}"),
                    "notifications": [{"channel": "console", "in": 3_600, "message": message}]}}),
        )
    };
    let bad = each_second("bad", &format!("{{{{ 'well' if occurrence == {from} else nobody }}}}"));
    let good = each_second("good", "{{ schedule.name }} at {{ scheduled_at }}");
    arena.counted("SELECT count(*) FROM schedule WHERE next_at IS NULL", 2, 30).await;
    assert_eq!((outcomes(&arena, good, "accepted").await, outcomes(&arena, good, "rejected").await), (4, 0));
    assert_eq!((outcomes(&arena, bad, "accepted").await, outcomes(&arena, bad, "rejected").await), (1, 3));
    let rejected = api.get("/v1/requests?outcome=rejected")["items"][0].clone();
    assert_eq!(rejected["source"], format!("schedule:{bad}"));
    let reason = &rejected["reasons"][0];
    assert_eq!(reason["field"], "notifications[0].message");
    assert!(reason["message"].as_str().unwrap().contains("undefined value"), "{reason}");
    let texts = "SELECT options->>'message' FROM notification_content WHERE options->>'message' LIKE 'good%'";
    let texts: BTreeSet<String> = arena.database.texts(texts).await.into_iter().collect();
    assert_eq!(texts.len(), 4, "{texts:?}");
}

#[tokio::test]
async fn many_schedules_of_the_same_minute_start_within_seconds() {
    const SCHEDULES: i64 = 3_000;
    let arena = Arena::new().await;
    let due = now(&arena).await + 6;
    let insert = format!(
        "INSERT INTO schedule (name, lines, starts_at, ends_at, on_missed, missed_window_seconds, overlap, request, next_at,
             created_at, updated_at)
         SELECT 's' || n, '[{{\"cron\": \"* * * * * *\", \"time-zone\": \"Europe/Zagreb\"}}]', now(),
             to_timestamp({due} + 1), 'last', 60, 'skip',
             '{{\"process-id\": \"{{{{ schedule.name }}}}-{{{{ occurrence }}}}\",
               \"notifications\": [{{\"channel\": \"console\", \"in\": 3600}}]}}',
             to_timestamp({due}), now(), now()
         FROM generate_series(1, {SCHEDULES}) n"
    );
    arena.database.execute(&insert).await;
    let _activator = arena.start("activator").await;
    arena.counted(ACCEPTED, SCHEDULES, 60).await;
    let lateness = "SELECT ceil(extract(epoch FROM max(accepted_at - (scheduled_at - interval '1 hour'))))::bigint
                    FROM notification";
    let seconds = arena.database.count(lateness).await;
    println!("{SCHEDULES} schedules started within {seconds} s");
    assert!(seconds < 30, "{seconds} s");
}

#[tokio::test]
async fn the_activator_run_once_starts_what_is_due_and_lets_the_lease_go() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let minute = (now(&arena).await / 60 + 30) % 60;
    make(
        &api,
        &json!({"name": "hourly", "lines": [{"cron": format!("{minute} * * * *")}], "missed": "all",
            "request": calls("p-{{ occurrence }}")}),
    );
    arena.database.shift_time("3 hours").await;
    for _ in 0..2 {
        let once = arena.run("activator", &["--once"]).await;
        assert!(once.status.success(), "{once:?}");
    }
    assert_eq!(arena.database.count(ACCEPTED).await, 3);
    assert_eq!(arena.states().await, [("queued".to_owned(), 3)].into());
    assert_eq!(api.get("/v1/leases")[0]["is-held"], false);
}
