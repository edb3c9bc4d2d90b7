//! Why a notification was or was not sent: the API's sentence, held against histories that real workers made.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Api, Arena, Signal, wait_for};

/// Sends a start of one phone call and answers the notification's number.
fn call(arena: &Arena, api: &Api, process: &str, in_seconds: i64, number: &str, keys: &Value) -> i64 {
    let mut call = json!({"channel": "phone", "at": arena.now() + in_seconds, "phone-number": number});
    call.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let body = json!({"process-id": process, "action": "start", "notifications": [call]});
    let answer = api.ask("POST", "/v1/requests", Some(&body));
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["notifications"][0].as_i64().unwrap()
}

/// Waits until a notification's sentence has all these words, in their order, and answers it.
async fn says(api: &Api, notification: i64, answer: &str, words: &[&str]) -> String {
    let last = std::cell::RefCell::new(String::new());
    let found = tokio::time::timeout(
        Duration::from_secs(30),
        wait_for("the sentence", Duration::from_secs(60), || async {
            let (said, sentence) = api.explain(notification);
            let mut rest = sentence.as_str();
            let fits = words.iter().all(|word| match rest.split_once(word) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            });
            *last.borrow_mut() = format!("{said}: {sentence}");
            (said == answer && fits).then_some(sentence)
        }),
    )
    .await;
    found.unwrap_or_else(|_| panic!("notification {notification} is {answer} with {words:?}, but: {}", last.borrow()))
}

#[tokio::test]
async fn what_waits_says_what_it_waits_for() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let none = json!({});
    let future = call(&arena, &api, "future", 3_600, "+3851111111", &none);
    says(&api, future, "not-yet", &["Not sent yet: it is scheduled for ", "min from now."]).await;
    let due = call(&arena, &api, "due", -1, "+3852222222", &none);
    says(&api, due, "not-yet", &["it is due since ", "no activator has taken it."]).await;
    let _activator = arena.start("activator").await;
    says(&api, due, "not-yet", &["it was handed to the broker, and waits in queue notify.phone for a worker"]).await;
    api.ask("PUT", "/v1/channels/phone/pause", Some(&json!({"reason": "the number is being moved"})));
    let paused = ["channel phone is paused by key ", " (the admin) since ", " (the number is being moved)."];
    says(&api, due, "not-yet", &paused).await;
    says(&api, future, "not-yet", &paused).await;
    let _worker = arena.start_with("notifier-phone", &[], &[]);
    says(&api, due, "not-yet", &paused).await;
    assert!(arena.simulator.arrivals().is_empty());
    api.ask("DELETE", "/v1/channels/phone/pause", None);
    let sentence = says(&api, due, "accepted", &["Accepted by the provider at ", ", as CA"]).await;
    assert!(sentence.ends_with("what became of it at the other end is not known by this."), "{sentence}");
    assert_eq!(arena.simulator.called(), ["+3852222222"]);
}

#[tokio::test]
async fn what_the_broker_gave_back_says_so() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    arena.vhost.ask("DELETE", "bindings", "/e/tocsin.deliver/q/notify.phone/*.system.phone", None);
    let _activator = arena.start("activator").await;
    let id = call(&arena, &api, "r", -1, "+3851111111", &json!({}));
    says(
        &api,
        id,
        "not-yet",
        &["Not sent yet: the broker gave its message back (", "), and it is published again at "],
    )
    .await;
}

#[tokio::test]
async fn what_the_provider_answered_is_in_the_sentence() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    arena.simulator.set_rules(&json!([
        {"address": "+3851*", "status": 404, "code": 21211},
        {"address": "+3852*", "status": 503},
        {"address": "+3853*", "drop": true},
        {"address": "+3854*", "status": 429, "retry_after": 900},
        {"address": "+3855*", "status": 503, "times": 1},
        {"address": "+3856*", "drop": true, "times": 1},
    ]));
    let _activator = arena.start("activator").await;
    let _worker = arena.start("notifier-phone").await;
    let go = |name: &str, number: &str, keys: Value| call(&arena, &api, name, -1, number, &keys);
    let refused = go("refused", "+3851111111", json!({}));
    let exhausted = go("exhausted", "+3852222222", json!({"max-attempts": 1}));
    let patient = go("patient", "+3852222223", json!({}));
    let unclear = go("unclear", "+3853333333", json!({"on-unknown": "fail"}));
    let unclear_twice = go("unclear twice", "+3853333334", json!({"max-attempts": 1}));
    let limited = go("limited", "+3854444444", json!({}));
    let second = go("second", "+3855555555", json!({}));
    let twice = go("twice", "+3856666666", json!({}));

    says(&api, refused, "not-sent", &["Not sent: it was refused for good at ", "21211"]).await;
    says(&api, exhausted, "not-sent", &["Not sent: all 1 attempts failed, the last at ", "503"]).await;
    says(&api, patient, "not-yet", &["Not sent yet: call ", " failed at ", "503", "the next call is made at "]).await;
    let no_answer = ["Nobody can tell whether it was sent: the call begun at ", "on-unknown is fail"];
    says(&api, unclear, "unknown", &no_answer).await;
    let may_have =
        ["Nobody can tell whether it was sent: all 1 attempts failed", "of which 1 may have been carried out"];
    says(&api, unclear_twice, "unknown", &may_have).await;
    let later = ["the provider asked for fewer calls at ", "the next call is made at ", "min from now."];
    says(&api, limited, "not-yet", &later).await;
    says(&api, second, "accepted", &["called ", " after its time, after a first call that failed (", "503"]).await;
    says(&api, twice, "accepted", &["after a first call that may have been carried out too"]).await;
    assert_eq!(arena.simulator.called().iter().filter(|number| *number == "+3856666666").count(), 2);

    // The facts behind it are there, and are those of the database.
    let facts = api.get(&format!("/v1/notifications/{second}/explain"))["facts"].clone();
    let outcomes: Vec<_> = facts["calls"].as_array().unwrap().iter().map(|call| call["outcome"].clone()).collect();
    assert_eq!(outcomes, ["temporary", "delivered"]);
    assert_eq!((&facts["state"], &facts["content"]["phone-number"]), (&json!("delivered"), &json!("+3855555555")));
}

#[tokio::test]
async fn a_channel_that_is_refused_says_so() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    arena.simulator.set_rules(&json!([{"address": "*", "status": 401, "code": 20003}]));
    let _activator = arena.start("activator").await;
    let _worker = arena.start("notifier-phone").await;
    let id = call(&arena, &api, "r", -1, "+3851111111", &json!({}));
    says(&api, id, "not-yet", &["Not sent yet: the provider refused the whole channel, or was away, at ", "20003"])
        .await;
}

#[tokio::test]
async fn what_was_stopped_names_the_request_that_did_it() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    arena.simulator.set_rules(&json!([
        {"address": "+3851*", "status": 503},
        {"address": "+3852*", "delay_ms": 8_000, "status": 503},
        {"address": "+3853*", "delay_ms": 8_000},
        {"address": "+3854*", "delay_ms": 8_000, "drop": true},
    ]));
    let _activator = arena.start("activator").await;
    let _worker = arena.start("notifier-phone").await;
    let stop = |process: &str| {
        let stopped = api.ask("POST", &format!("/v1/processes/{process}/stop"), None);
        assert_eq!(stopped.status, 201, "{stopped:?}");
        format!("request {} stopped its process at ", stopped.json()["id"])
    };
    let go = |name: &str, seconds: i64, number: &str| call(&arena, &api, name, seconds, number, &json!({}));
    let future = go("future", 3_600, "+3859999999");
    let by = stop("future");
    says(&api, future, "not-sent", &["Not sent: ", &by, " before it was sent."]).await;

    let retrying = go("retrying", -1, "+3851111111");
    says(&api, retrying, "not-yet", &["call 1 failed"]).await;
    let by = stop("retrying");
    says(&api, retrying, "not-sent", &["Not sent: ", &by, " before the next try; call 1 before failed ("]).await;

    let (fails, rings, unclear) =
        (go("fails", -1, "+3852222222"), go("rings", -1, "+3853333333"), go("unclear", -1, "+3854444444"));
    for id in [fails, rings, unclear] {
        says(&api, id, "being-sent", &["Being sent: notifier-phone@", " has it in hand since "]).await;
    }
    let by = [stop("fails"), stop("rings"), stop("unclear")];
    says(&api, fails, "being-sent", &["stopped the process at ", "so a failed call is not tried again"]).await;
    says(&api, fails, "not-sent", &["Not sent: ", &by[0], "while it was being sent, and call 1 failed ("]).await;
    says(&api, rings, "accepted", &["Accepted by the provider at "]).await;
    let may_have = ["Nobody can tell whether it was sent: ", &by[2], "call 1 may have been carried out too"];
    says(&api, unclear, "unknown", &may_have).await;
}

#[tokio::test]
async fn a_dead_worker_and_one_that_speaks_too_late() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _activator = arena.start("activator").await;
    let victim = arena.start_failing("notifier-phone", "notifier.called=kill").await;
    let id = call(&arena, &api, "dead", -1, "+3851111111", &json!({}));
    victim.killed().await;
    says(&api, id, "being-sent", &["Being sent: notifier-phone@", "if it does not say what came of the call until "])
        .await;
    arena.database.shift_time("3 minutes").await;
    says(&api, id, "not-yet", &["nobody can tell whether call 1, begun at ", "the worker did not say in time"]).await;
    let worker = arena.start("notifier-phone").await;
    says(&api, id, "accepted", &["after a first call that may have been carried out too (the worker did not say"])
        .await;
    worker.stop().await;

    let frozen = arena.start_failing("notifier-phone", "notifier.called=stop").await;
    let id = call(&arena, &api, "frozen", -1, "+3852222222", &json!({"on-unknown": "fail"}));
    frozen.frozen().await;
    arena.database.shift_time("9 minutes").await;
    says(&api, id, "unknown", &["Nobody can tell whether it was sent: the call begun at "]).await;
    frozen.signal(Signal::CONT);
    let late =
        ["Accepted by the provider: the call begun at ", "its worker said so too late, so it counts as failed at "];
    says(&api, id, "accepted", &late).await;
}

#[tokio::test]
async fn max_age_dry_run_and_a_new_run() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _activator = arena.start("activator").await;
    let old = call(&arena, &api, "old", -1, "+3851111111", &json!({"max-age": 60}));
    arena.notifications_in("queued", 1, 10).await;
    // Handed over, so the process may be started anew; the first run goes on.
    let new = call(&arena, &api, "old", 3_600, "+3852222222", &json!({}));
    let outlives = ["waits in queue notify.phone", "its process was started again since (run 2), which does not end"];
    says(&api, old, "not-yet", &outlives).await;
    arena.database.shift_time("2 minutes").await;
    says(&api, old, "not-yet", &["its max-age was over at ", "so it fails as soon as a worker sees it"]).await;
    let worker = arena.start("notifier-phone").await;
    says(&api, old, "not-sent", &["Not sent: its max-age was over at ", " before anybody could send it."]).await;
    says(&api, new, "not-yet", &["it is scheduled for "]).await;
    worker.stop().await;

    let _dry = arena.start_with("notifier-phone", &[], &[("TOCSIN_NOTIFIER__DRY_RUN", "true")]).ready().await;
    let dry = call(&arena, &api, "dry", -1, "+3853333333", &json!({}));
    says(&api, dry, "not-sent", &["Not sent: dry run, its worker was told to say only what it would send"]).await;
    assert!(arena.simulator.arrivals().is_empty());
}
