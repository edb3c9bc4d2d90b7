use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use testkit::{Arena, Relay, Signal};

use crate::checker::{Checker, Verdict, found_nothing_to_do};

/// What a call may take from its beginning until the provider has read it, on a busy machine.
const ON_ITS_WAY: i64 = 5_000_000;

/// In microseconds. A call may begin so long after its stop was committed, and the worker's idea of the database's time
/// may be off a little.
const ALLOWED: i64 = 100_000 + 10_000;

#[tokio::test]
async fn no_call_begins_more_than_100_ms_after_its_stop() {
    let arena = Arena::new().await;
    // One in ten of each kind: tried again, hung up on, slow.
    arena.simulator.set_rules(&json!([
        {"address": "*3", "status": 503}, {"address": "*5", "drop": true}, {"address": "*7", "delay_ms": 300},
    ]));
    let _programs = arena.start_all(&["phone"]).await;
    let _second = arena.start("notifier-phone").await;
    let mut checker = Checker::new(&arena);
    let rounds = 100_usize;
    for round in 0..rounds + 60 {
        checker.together(|checker| {
            for n in 0..20 {
                if round < rounds {
                    checker.start(&format!("{round} {n}"), -1, 1);
                }
                // Some are stopped in the same breath, some while they are called, some while they wait for a retry.
                let lag = [0, 0, 1, 1, 2, 3, 4, 60][n % 8];
                if let Some(started) = round.checked_sub(lag).filter(|started| *started < rounds) {
                    checker.stop(&format!("{started} {n}"));
                }
            }
        });
    }
    let verdict = checker.settled(120).await;
    assert_eq!(verdict.delivered + verdict.failed + verdict.cancelled, 20 * rounds, "{verdict:?}");
    assert!(verdict.cancelled > 200 && verdict.delivered > 200, "both sides win some: {verdict:?}");

    let stops = commits_of_stops(&arena).await;
    let begun = "SELECT c.address || ' ' || (extract(epoch FROM max(a.started_at)) * 1000000)::bigint FROM attempt a
                 JOIN notification_content c ON c.notification_id = a.notification_id GROUP BY c.address";
    let begun = pairs(&arena.database.texts(begun).await);
    let after: Vec<_> = begun.iter().filter_map(|(number, at)| Some(at - stops.get(number)?)).collect();
    let late: Vec<_> = after.iter().filter(|after| **after > ALLOWED).collect();
    assert!(late.is_empty(), "begun so many microseconds after the stop: {late:?}");
    let arrived_late = |arrival: &serde_json::Value| {
        let (number, at) = (arrival["address"].as_str().unwrap(), arrival["at"].as_i64().unwrap());
        stops.get(number).is_some_and(|stop| at - stop > ALLOWED + ON_ITS_WAY)
    };
    assert_eq!(arena.simulator.arrivals().iter().filter(|arrival| arrived_late(arrival)).count(), 0);
}

/// By number, when the stop of its process was committed, in microseconds since 1970.
async fn commits_of_stops(arena: &Arena) -> BTreeMap<String, i64> {
    let commits = "SELECT c.address || ' ' || (extract(epoch FROM pg_xact_commit_timestamp(r.xmin)) * 1000000)::bigint
                   FROM request r JOIN notification n ON n.process_id = r.process_id
                   JOIN notification_content c ON c.notification_id = n.id WHERE r.action = 'stop'";
    pairs(&arena.database.texts(commits).await)
}

fn pairs(rows: &[String]) -> BTreeMap<String, i64> {
    let pair = |row: &String| {
        let (number, at) = row.split_once(' ').unwrap();
        (number.to_owned(), at.parse().unwrap())
    };
    rows.iter().map(pair).collect()
}

#[tokio::test]
async fn a_claim_whose_answer_takes_longer_than_100_ms_is_given_back_without_a_call() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let (_, server) = arena.database.url().split_once('@').unwrap();
    let (server, _) = server.split_once('/').unwrap();
    let relay = Relay::to(server);
    let url = arena.database.url_for("notifier-phone").replace(server, &relay.address());
    let worker = arena.start_with("notifier-phone", &[], &[("TOCSIN_DATABASE__URL", &url)]).ready().await;
    relay.delay(Duration::from_millis(150));
    let mut checker = Checker::new(&arena);
    checker.start("stopped", -1, 1);
    testkit::wait_for("claims that grew stale", Duration::from_secs(30), || async {
        (worker.metric("tocsin_stale_claims_total", "").await >= 3).then_some(())
    })
    .await;
    assert!(arena.simulator.called().is_empty());
    checker.stop("stopped");
    checker.recorded(30).await;
    checker.start("called", -1, 1);
    relay.mend();
    let verdict = checker.settled(90).await;
    assert_eq!(verdict, Verdict { cancelled: 1, ..Verdict::each_called_once(1) });
}

/// The one way in which a call can come later: nothing can look once more between the last look and the socket.
#[tokio::test]
async fn a_worker_frozen_right_before_its_calls_makes_no_more_than_those_after_a_stop() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let settings = [("TOCSIN_FAILPOINTS", "notifier.calling=stop@2"), ("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", "2")];
    let worker = arena.start_with("notifier-phone", &[], &settings).ready().await;
    let mut checker = Checker::new(&arena);
    checker.start("r", -1, 20);
    worker.frozen().await;
    checker.stop("r");
    checker.recorded(20).await;
    worker.signal(Signal::CONT);
    let verdict = checker.settled(30).await;
    assert!(verdict.calls <= 2, "as many as it has slots: {verdict:?}");
    assert_eq!((verdict.extra_calls, verdict.unknown, verdict.failed), (0, 0, 0), "{verdict:?}");
    found_nothing_to_do(&worker, 18).await;
}
