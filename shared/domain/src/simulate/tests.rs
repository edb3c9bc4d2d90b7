use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn notification(channel: &str, second: i64) -> NewNotification {
    NewNotification {
        channel: Channel::named(channel).unwrap(),
        at: at(second),
        address: None,
        options: BTreeMap::new(),
        on_unknown: OnUnknown::Retry,
        max_attempts: 10,
        max_age: Duration::from_secs(24 * 60 * 60),
    }
}

fn simulation(notifications: Vec<NewNotification>, reactions: &[(&'static str, Reaction, u32)]) -> Simulation {
    let mut by_channel: BTreeMap<&'static str, Vec<(Reaction, u32)>> = BTreeMap::new();
    for (channel, reaction, times) in reactions {
        by_channel.entry(channel).or_default().push((*reaction, *times));
    }
    Simulation {
        begins_at: at(0),
        process: ProcessName::parse("r").unwrap(),
        notifications,
        reactions: by_channel,
        stop_at: None,
        call_timeout: Duration::from_secs(10),
        max_events: 100_000,
    }
}

/// What happens and when, such as `5 call 0`.
fn told(simulation: Simulation) -> Vec<String> {
    let timeline = simulate(simulation).unwrap();
    let one = |event: &Happening| {
        let seconds = event.at.duration_since(at(0)).as_secs();
        let whom = event.notification.map_or_else(String::new, |n| format!(" {n}"));
        format!("{seconds} {}{whom}", event.kind.as_str())
    };
    timeline.events.iter().map(one).collect()
}

const BUSY: Reaction = Reaction::Refuse(503, None);

#[test]
fn a_ladder_in_its_order() {
    let ladder = vec![notification("sms", 60), notification("phone", -5), notification("phone", 61)];
    let expected = [
        "0 accepted",
        "0 queued 1",
        "0 call 1",
        "0 delivered 1",
        "59 queued 0",
        "60 queued 2",
        "60 call 0",
        "60 delivered 0",
        "61 call 2",
        "61 delivered 2",
    ];
    assert_eq!(told(simulation(ladder, &[])), expected);
}

#[test]
fn calls_of_a_channel_take_what_its_provider_does_in_their_order() {
    let ladder = vec![notification("phone", 0), notification("phone", 2), notification("sms", 3)];
    let expected = [
        "0 accepted",
        "0 queued 0",
        "0 call 0",
        "0 retrying 0",
        "1 queued 1",
        "2 queued 2",
        "2 call 1",
        "2 retrying 1",
        "3 call 2",
        "3 delivered 2",
        "5 call 0",
        "5 delivered 0",
        "7 call 1",
        "7 delivered 1",
    ];
    assert_eq!(told(simulation(ladder, &[("phone", BUSY, 2)])), expected);
}

#[test]
fn a_stop_cancels_what_waits_and_what_is_being_sent_is_not_tried_again() {
    let ladder = || vec![notification("phone", 0), notification("sms", 0), notification("email", 4)];
    let reactions = [("phone", Reaction::KeepSilent, 1), ("sms", BUSY, 1)];
    let stopped = |stop_at| Simulation { stop_at: Some(at(stop_at)), ..simulation(ladder(), &reactions) };
    let calls = |told: &[String]| told.iter().filter(|event| event.contains("call")).count();
    let all = told(stopped(4));
    assert_eq!(calls(&all), 2, "{all:?}");
    let expected = ["4 stop", "4 cancelled 1", "4 cancelled 2", "10 cancelled 0"];
    assert_eq!(all[all.len() - 4..], expected);
    let end = &simulate(stopped(4)).unwrap().ends[0];
    assert!(explain(end).1.starts_with("Nobody can tell whether it was sent: its process was stopped"), "{end:?}");
    let late = told(stopped(1_000));
    assert_eq!((late.last().unwrap().as_str(), calls(&late)), ("1000 stop", 5));
}

#[test]
fn a_refused_channel_is_asked_with_one_call_and_opens_for_all() {
    let ladder = vec![notification("phone", 0), notification("phone", 0), notification("phone", 10)];
    let refused = [("phone", Reaction::Refuse(401, None), 3)];
    let expected = [
        "0 accepted",
        "0 queued 0",
        "0 queued 1",
        "0 call 0",
        "0 call 1",
        "0 paused",
        "0 retrying 0",
        "0 retrying 1",
        "9 queued 2",
        "30 call 2",
        "30 retrying 2",
        "60 call 0",
        "60 resumed",
        "60 delivered 0",
        "60 call 1",
        "60 call 2",
        "60 delivered 1",
        "60 delivered 2",
    ];
    let told = told(simulation(ladder.clone(), &refused));
    assert_eq!(told, expected);
    let ends = simulate(simulation(ladder, &refused)).unwrap().ends;
    assert!(ends.iter().all(|end| end.calls.iter().filter(|call| call.outcome.costs_an_attempt()).count() == 1));
}

#[test]
fn a_receiver_that_refuses_pauses_nobody_else() {
    let ladder = vec![notification("webhook", 0), notification("webhook", 10)];
    let told = told(simulation(ladder, &[("webhook", Reaction::Refuse(403, None), 1)]));
    assert!(!told.iter().any(|event| event.contains("paused")), "{told:?}");
    assert!(told.contains(&"10 call 1".to_owned()) && told.contains(&"30 call 0".to_owned()), "{told:?}");
}

#[test]
fn a_max_age_ends_it_when_its_next_call_would_begin() {
    let ladder = vec![NewNotification { max_age: Duration::from_secs(20), ..notification("phone", 0) }];
    let told = told(simulation(ladder, &[("phone", BUSY, 9)]));
    assert_eq!(told[4..], ["5 call 0", "5 retrying 0", "35 failed 0"]);
}

#[test]
fn what_would_not_end_soon_is_refused() {
    let long = Simulation { max_events: 50, ..simulation(vec![notification("phone", 0)], &[("phone", BUSY, 100)]) };
    assert!(simulate(long.clone()).is_ok(), "ten attempts are few");
    let patient = NewNotification { max_attempts: 100, ..notification("phone", 0) };
    assert_eq!(simulate(Simulation { notifications: vec![patient], ..long }).unwrap_err(), TooLong(50));
    let last = NewNotification { at: Timestamp::MAX - SignedDuration::from_secs(10), ..notification("phone", 0) };
    let refused = [("phone", Reaction::Refuse(401, None), 100)];
    assert!(simulate(simulation(vec![last], &refused)).is_err(), "time itself has an end");
}

fn any_reaction(channel: &'static str) -> impl Strategy<Value = Reaction> {
    let status = proptest::sample::select(vec![400u16, 401, 408, 429, 450, 500, 503, 535, 550]);
    let wait = proptest::option::of((0u64..2_000).prop_map(Duration::from_secs));
    let refuse = (status, wait).prop_map(|(status, wait)| Reaction::Refuse(status, wait));
    let any = prop_oneof![Just(Reaction::Accept), Just(Reaction::KeepSilent), Just(Reaction::BeAway), refuse];
    let provider = Channel::named(channel).unwrap().provider;
    any.prop_filter("a provider that can", move |reaction| provider.objection(*reaction).is_none())
}

fn any_simulation() -> impl Strategy<Value = Simulation> {
    let names: Vec<_> = CHANNELS.iter().map(|channel| channel.name).collect();
    let one = (proptest::sample::select(names.clone()), -100i64..1_000, 1u16..6, 1u64..4_000, any::<bool>());
    let one = one.prop_map(|(channel, second, max_attempts, max_age, fail)| NewNotification {
        max_attempts,
        max_age: Duration::from_secs(max_age),
        on_unknown: if fail { OnUnknown::Fail } else { OnUnknown::Retry },
        ..notification(channel, second)
    });
    let reactions: Vec<_> = names
        .into_iter()
        .map(|name| (Just(name), proptest::collection::vec((any_reaction(name), 0u32..5), 0..6)))
        .collect();
    (proptest::collection::vec(one, 1..12), reactions, proptest::option::of(-5i64..3_000)).prop_map(
        |(notifications, reactions, stop_at)| Simulation {
            reactions: reactions.into_iter().collect(),
            stop_at: stop_at.map(at),
            ..simulation(notifications, &[])
        },
    )
}

proptest! {
    #[test]
    fn what_holds_for_the_pipeline_holds_for_its_simulation(simulation in any_simulation()) {
        let timeline = simulate(simulation.clone()).unwrap();
        prop_assert!(timeline.events.is_sorted_by_key(|event| event.at));
        prop_assert_eq!(timeline.events.last().map(|last| last.at), Some(timeline.ends_at));
        let stop_at = simulation.stop_at.map(|at| at.max(simulation.begins_at));
        let mut first_calls = BTreeMap::new();
        for event in timeline.events.iter().filter(|event| event.kind == Kind::Call) {
            prop_assert!(stop_at.is_none_or(|stop_at| event.at < stop_at), "a call after the stop");
            first_calls.entry(event.notification.unwrap()).or_insert(event.at);
        }
        let mut used: BTreeMap<&str, u64> = BTreeMap::new();
        for (n, (one, end)) in simulation.notifications.iter().zip(&timeline.ends).enumerate() {
            prop_assert!(end.state.is_final() && end.finished_at.is_some(), "{:?}", end);
            prop_assert!(first_calls.get(&n).is_none_or(|first| *first >= one.at.max(simulation.begins_at)));
            let attempts = end.calls.iter().filter(|call| call.outcome.costs_an_attempt()).count();
            prop_assert!(attempts <= usize::from(one.max_attempts));
            prop_assert!(end.calls.iter().all(|call| call.started_at < end.expires_at));
            let accepted = end.calls.iter().filter(|call| call.outcome == Outcome::Delivered).count();
            prop_assert_eq!(accepted, usize::from(end.state == State::Delivered));
            for two in end.calls.windows(2) {
                prop_assert!(two[1].started_at.duration_since(two[0].finished_at).as_secs() >= 1);
            }
            let finals = |kind: Kind| matches!(kind, Kind::Delivered | Kind::Failed | Kind::Cancelled);
            let ends = timeline.events.iter().filter(|event| event.notification == Some(n) && finals(event.kind));
            prop_assert_eq!(ends.count(), 1);
            *used.entry(one.channel.name).or_default() += end.calls.len() as u64;
        }
        // As long as a provider has something else to do, it does not accept.
        for (channel, reactions) in &simulation.reactions {
            let scripted: u64 = reactions.iter().map(|(_, times)| u64::from(*times)).sum();
            let accepts: u64 = reactions.iter().filter(|(r, _)| *r == Reaction::Accept).map(|(_, n)| u64::from(*n)).sum();
            let calls = used.get(channel).copied().unwrap_or_default();
            let of_channel = timeline.ends.iter().filter(|end| end.channel == *channel);
            let accepted = of_channel.filter(|end| end.state == State::Delivered).count() as u64;
            prop_assert!(accepted <= accepts + calls.saturating_sub(scripted));
        }
    }
}
