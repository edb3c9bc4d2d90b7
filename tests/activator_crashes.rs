use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Arena, Program, Relay, Signal, wait_for};

use crate::checker::{Checker, Verdict, found_nothing_to_do, not_ready, ready_again};

/// What an activator has taken it publishes within a minute, or another does.
const AFTER_A_RESCUE: &str = "65 seconds";

#[tokio::test]
async fn killed_between_claim_and_publish_another_brings_it() {
    let arena = Arena::new().await;
    let mut checker = Checker::new(&arena);
    let _bridge = arena.start("bridge").await;
    let _worker = arena.start("notifier-phone").await;
    let victim = arena.start_failing("activator", "activator.claimed=kill").await;
    checker.start("r", -1, 20);
    victim.killed().await;
    let _activator = arena.start("activator").await;
    assert_eq!(arena.states().await, [("queued".to_owned(), 20)].into());
    arena.database.shift_time(AFTER_A_RESCUE).await;
    assert_eq!(checker.settled(30).await, Verdict::each_called_once(20));
}

#[tokio::test]
async fn frozen_past_its_claim_and_resumed_it_changes_nothing() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "hang": true, "times": 20}]));
    let mut checker = Checker::new(&arena);
    let _bridge = arena.start("bridge").await;
    let timeout = [("TOCSIN_NOTIFIER__CALL_TIMEOUT_SECONDS", "15")];
    let _worker = arena.start_with("notifier-phone", &[], &timeout).ready().await;
    let frozen = arena.start_failing("activator", "activator.claimed=stop").await;
    checker.start("r", -1, 20);
    frozen.frozen().await;
    let other = arena.start("activator").await;
    arena.database.shift_time(AFTER_A_RESCUE).await;
    // Before it has called, a worker gives back what it claimed too long ago.
    let all_called = || async { (arena.simulator.called().len() == 20).then_some(()) };
    wait_for("a call to each", Duration::from_secs(30), all_called).await;
    let claims = "SELECT concat_ws(' ', fence, wake_at, busy_until) FROM notification ORDER BY id";
    let before = arena.database.texts(claims).await;
    frozen.signal(Signal::CONT);
    // It goes on to publish what it had taken, is confirmed, and on its way out writes down what was confirmed.
    frozen.stop().await;
    assert_eq!(arena.database.texts(claims).await, before, "the workers' claims stand as they were");
    let verdict = checker.settled(90).await;
    assert_eq!((verdict.delivered, verdict.calls, verdict.unknown), (20, 40, 20), "{verdict:?}");
    assert_eq!(other.metric("tocsin_published_total", "").await, 20);
}

/// An activator that publishes 20 notifications and hears nothing from the broker any more.
async fn publish_without_hearing_of_it(arena: &Arena, checker: &mut Checker<'_>) -> (Program, Relay) {
    let relay = Relay::to(arena.vhost.address());
    let url = arena.vhost.url_at(&relay.address(), "activator");
    let settings = [("TOCSIN_BROKER__URL", url.as_str()), ("TOCSIN_FAILPOINTS", "activator.claimed=stop")];
    let activator = arena.start_with("activator", &[], &settings).ready().await;
    checker.start("r", -1, 20);
    activator.frozen().await;
    relay.swallow_answers(true);
    activator.signal(Signal::CONT);
    (activator, relay)
}

#[tokio::test]
async fn with_the_confirm_lost_there_is_one_more_message_and_no_more_calls() {
    let arena = Arena::new().await;
    let mut checker = Checker::new(&arena);
    let _bridge = arena.start("bridge").await;
    let worker = arena.start("notifier-phone").await;
    let (activator, relay) = publish_without_hearing_of_it(&arena, &mut checker).await;
    arena.notifications_in("delivered", 20, 30).await;
    not_ready(&activator, "broker").await;
    // It did not see a confirm, so what nobody had claimed by then it would bring once more.
    relay.mend();
    ready_again(&activator).await;
    checker.start("s", -1, 20);
    assert_eq!(checker.settled(60).await, Verdict::each_called_once(40));
    let published = activator.metric("tocsin_published_total", "").await;
    assert!((40..=60).contains(&published), "{published}");
    assert!(worker.metric("tocsin_claims_total", "result=\"not_claimable\"").await <= 20);
}

#[tokio::test]
async fn with_the_confirm_lost_of_what_nobody_takes_it_is_published_once_more_and_called_once() {
    let arena = Arena::new().await;
    let mut checker = Checker::new(&arena);
    let _bridge = arena.start("bridge").await;
    let (activator, relay) = publish_without_hearing_of_it(&arena, &mut checker).await;
    not_ready(&activator, "broker").await;
    relay.mend();
    two_messages_make_one_call(&arena, &checker, &activator, 40).await;
}

/// The activator comes to have published so many; a worker then calls each of the 20 once, and meets each twice.
async fn two_messages_make_one_call(arena: &Arena, checker: &Checker<'_>, activator: &Program, published: u64) {
    wait_for("the second message", Duration::from_secs(30), || async {
        (activator.metric("tocsin_published_total", "").await == published).then_some(())
    })
    .await;
    let worker = arena.start("notifier-phone").await;
    found_nothing_to_do(&worker, 20).await;
    assert_eq!(checker.settled(30).await, Verdict::each_called_once(20));
}

#[tokio::test]
async fn killed_between_confirm_and_its_note_there_is_one_more_message_and_no_more_calls() {
    let arena = Arena::new().await;
    let mut checker = Checker::new(&arena);
    let _bridge = arena.start("bridge").await;
    let victim = arena.start_failing("activator", "activator.confirmed=kill").await;
    checker.start("r", -1, 20);
    victim.killed().await;
    let activator = arena.start("activator").await;
    arena.database.shift_time(AFTER_A_RESCUE).await;
    two_messages_make_one_call(&arena, &checker, &activator, 20).await;
}

#[tokio::test]
async fn two_activators_claim_each_row_once() {
    let arena = Arena::new().await;
    let mut checker = Checker::new(&arena);
    let _bridge = arena.start("bridge").await;
    let activators = [arena.start("activator").await, arena.start("activator").await];
    // All of it is due when both wake.
    activators.iter().for_each(|activator| activator.signal(Signal::STOP));
    for n in 0..10 {
        checker.start(&format!("p{n}"), -1, 1_000);
    }
    checker.recorded(60).await;
    activators.iter().for_each(|activator| activator.signal(Signal::CONT));
    arena.notifications_in("queued", 10_000, 60).await;
    let published = async || {
        let mut published = Vec::new();
        for activator in &activators {
            published.push(activator.metric("tocsin_published_total", "").await);
        }
        published
    };
    let all = wait_for("all published", Duration::from_secs(30), || async {
        let published = published().await;
        (published.iter().sum::<u64>() >= 10_000).then_some(published)
    })
    .await;
    assert_eq!(all.iter().sum::<u64>(), 10_000, "{all:?}");
    assert!(all.iter().all(|one| *one > 0), "both took part: {all:?}");
    let _worker = arena.start("notifier-phone").await;
    assert_eq!(checker.settled(90).await, Verdict::each_called_once(10_000));
}

#[tokio::test]
async fn what_a_full_queue_refuses_is_not_taken_for_published_and_comes_when_there_is_room() {
    let arena = Arena::new().await;
    let mut checker = Checker::new(&arena);
    let low = json!({"pattern": "^notify\\.phone$", "apply-to": "queues", "priority": 10, "definition": {
        "dead-letter-exchange": "tocsin.dead", "overflow": "reject-publish", "max-length": 1,
    }});
    arena.vhost.ask("PUT", "policies", "/low", Some(&low));
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    // A quorum queue notices only after a few that it is full.
    for n in 0..100 {
        checker.start(&format!("p{n}"), -1, 1);
    }
    let refused = "SELECT count(*) FROM notification WHERE state = 'scheduled' AND reason LIKE '%refused it%'";
    wait_for("refused ones", Duration::from_secs(30), || async {
        (arena.database.count(refused).await > 0).then_some(())
    })
    .await;
    arena.vhost.ask("DELETE", "policies", "/low", None);
    let _worker = arena.start("notifier-phone").await;
    assert_eq!(checker.settled(90).await, Verdict::each_called_once(100));
}

#[tokio::test]
async fn without_its_exchange_nothing_is_taken_for_published_and_all_comes_when_it_is_back() {
    let arena = Arena::new().await;
    let mut checker = Checker::new(&arena);
    let _bridge = arena.start("bridge").await;
    let activator = arena.start("activator").await;
    let _worker = arena.start("notifier-phone").await;
    let exchange = arena.vhost.ask("GET", "exchanges", "/tocsin.deliver", None);
    let bindings = arena.vhost.ask("GET", "exchanges", "/tocsin.deliver/bindings/source", None);
    arena.vhost.ask("DELETE", "exchanges", "/tocsin.deliver", None);
    checker.start("r", -1, 20);
    not_ready(&activator, "tocsin.deliver is missing").await;
    assert!(arena.simulator.called().is_empty());
    arena.vhost.ask("PUT", "exchanges", "/tocsin.deliver", Some(&only(&exchange, &["type", "durable"])));
    for binding in bindings.as_array().unwrap() {
        let queue = binding["destination"].as_str().unwrap();
        let path = format!("/e/tocsin.deliver/q/{queue}");
        arena.vhost.ask("POST", "bindings", &path, Some(&only(binding, &["routing_key"])));
    }
    assert_eq!(checker.settled(60).await, Verdict::each_called_once(20));
    ready_again(&activator).await;
}

fn only(object: &Value, keys: &[&str]) -> Value {
    keys.iter().map(|key| ((*key).to_owned(), object[*key].clone())).collect::<serde_json::Map<_, _>>().into()
}
