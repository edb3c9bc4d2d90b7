use std::collections::BTreeMap;

use serde_json::json;
use testkit::Arena;

use crate::checker::{Checker, Verdict};

#[tokio::test]
async fn programs_whose_clocks_are_an_hour_off_call_nobody_early_and_steal_no_claim() {
    let arena = Arena::new().await;
    let library = devservers::libfaketime().unwrap();
    let library = library.to_str().unwrap();
    let with_clock = |name: &'static str, clock: &'static str| {
        let settings = [("LD_PRELOAD", library), ("FAKETIME", clock), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        arena.start_with(name, &[], &settings).ready()
    };
    // Long calls, so that whoever believes an hour to be over could take their claims for run out.
    arena.simulator.set_rules(&json!([{"address": "*", "delay_ms": 6000}]));
    let bridge = with_clock("bridge", "+1h").await;
    let _activators = [with_clock("activator", "+1h").await, with_clock("activator", "-1h").await];
    let _workers = [with_clock("notifier-phone", "-1h").await, with_clock("notifier-phone", "+1h").await];
    let told: serde_json::Value = serde_json::from_str(&bridge.output()[0]).unwrap();
    let told: jiff::Timestamp = told["timestamp"].as_str().unwrap().parse().unwrap();
    assert!(told.as_second() - arena.now() > 3_000, "its clock is wrong indeed");

    let mut checker = Checker::new(&arena);
    checker.start("soon", 4, 20);
    checker.start("past", -1, 20);
    checker.start("in 50 minutes", 50 * 60, 20);
    arena.notifications_in("delivered", 40, 60).await;
    assert_eq!(arena.states().await, [("delivered".to_owned(), 40), ("scheduled".to_owned(), 20)].into());
    checker.stop("in 50 minutes");
    let verdict = checker.settled(20).await;
    assert_eq!(verdict, Verdict { cancelled: 20, ..Verdict::each_called_once(40) });
    let scheduled =
        "SELECT c.address || ' ' || (extract(epoch FROM n.scheduled_at) * 1000000)::bigint FROM notification n
                JOIN notification_content c ON c.notification_id = n.id";
    let due: BTreeMap<String, i64> = arena.database.texts(scheduled).await.iter().map(|row| pair(row)).collect();
    for arrival in arena.simulator.arrivals() {
        let (number, at) = (arrival["address"].as_str().unwrap(), arrival["at"].as_i64().unwrap());
        assert!(at >= due[number], "{arrival} came early");
    }
}

fn pair(row: &str) -> (String, i64) {
    let (number, at) = row.split_once(' ').unwrap();
    (number.to_owned(), at.parse().unwrap())
}
