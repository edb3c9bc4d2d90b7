//! What `/v1/simulate` says would come, against what comes: the same request through the real programs, with a provider
//! that does as the simulation was told. Nothing in a wait is left to chance, so what differs is what the machine takes,
//! and half a minute for a retry that the broker has in hand when the database's time is put forward.

use std::{cell::Cell, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::{Arena, wait_for};

use crate::api::is_problem;

/// How much later than simulated a call may begin, in seconds, on a machine that has other things to do.
const MACHINE: f64 = 6.0;

/// How long the activator leaves a retry to the broker.
const GRACE: f64 = 30.0;

/// A request, and what its providers do.
struct Ladder {
    channels: &'static [&'static str],
    /// Their `at` is in seconds from now.
    notifications: Vec<Value>,
    /// For the simulation.
    providers: Value,
    /// For the real thing.
    rules: Value,
    /// Stop it when its first call has failed.
    stopped: bool,
    /// Put the database's time forward to whatever is to come next.
    fast: bool,
    /// How long a provider may keep silent.
    call_timeout_seconds: &'static str,
}

impl Ladder {
    fn new(notifications: Vec<Value>, providers: Value, rules: Value) -> Self {
        Self {
            channels: &["phone"],
            notifications,
            providers,
            rules,
            stopped: false,
            fast: false,
            call_timeout_seconds: "15",
        }
    }
}

fn phone(at: i64, more: Value) -> Value {
    let mut phone = json!({"channel": "phone", "at": at, "phone-number": "+3851111111"});
    for (key, value) in more.as_object().unwrap() {
        phone[key] = value.clone();
    }
    phone
}

fn seconds_between(earlier: &Value, later: &Value) -> f64 {
    let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    time(later).duration_since(time(earlier)).as_secs_f64()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().unwrap()
}

/// Plays a ladder in both ways, and compares.
async fn comes_as_simulated(ladder: Ladder) {
    let arena = Arena::new().await;
    let timeout = ("TOCSIN_NOTIFIER__CALL_TIMEOUT_SECONDS", ladder.call_timeout_seconds);
    let api = arena.start_api_with(&[timeout]).await;
    arena.simulator.set_rules(&ladder.rules);
    let _activator = arena.start("activator").await;
    let mut workers = Vec::new();
    for channel in ladder.channels {
        workers.push(arena.start_with(&format!("notifier-{channel}"), &[], &[timeout]).ready().await);
    }
    let mut notifications = ladder.notifications;
    for one in &mut notifications {
        one["at"] = (arena.now() + one["at"].as_i64().unwrap()).into();
        if let Some(path) = one["url"].as_str().filter(|url| url.starts_with('/')).map(str::to_owned) {
            one["url"] = format!("{}{path}", arena.simulator.url).into();
        }
    }
    let request = json!({"process-id": "r", "action": "start", "notifications": notifications});
    assert_eq!(api.ask("POST", "/v1/requests", Some(&request)).status, 201);
    let mut stop_at = Value::Null;
    if ladder.stopped {
        arena.counted("SELECT count(*) FROM attempt", 1, 20).await;
        let stop = api.ask("POST", "/v1/requests", Some(&json!({"process-id": "r", "action": "stop"})));
        stop_at = stop.json()["received-at"].clone();
    }
    play_to_the_end(&arena, ladder.fast).await;

    let mut came = list(&api.get("/v1/notifications?process-id=r"), "items").clone();
    came.sort_by_key(|one| one["id"].as_i64());
    let mut wanted = json!({"request": request, "now": came[0]["accepted-at"], "providers": ladder.providers});
    if ladder.stopped {
        wanted["stop-at"] = stop_at;
    }
    let simulated = api.ask("POST", "/v1/simulate", Some(&wanted));
    assert_eq!(simulated.status, 200, "{simulated:?}");
    compare(&simulated.json(), &came, if ladder.fast { GRACE + MACHINE } else { MACHINE });
    let arrives = |call: &&Value| !call["detail"].as_str().unwrap_or_default().contains("could not connect");
    let calls = came.iter().flat_map(|one| list(one, "calls")).filter(arrives).count();
    assert_eq!(arena.simulator.arrivals().len(), calls, "no call that is not in the history");
}

/// Waits until all is finished.
async fn play_to_the_end(arena: &Arena, fast: bool) {
    let unfinished = "SELECT count(*) FROM notification WHERE wake_at IS NOT NULL";
    // Whole seconds until the activator looks at the next, if nothing is under way: what it has published wakes later.
    let next =
        "SELECT CASE WHEN bool_and(state IN ('scheduled', 'retrying') AND wakes_at <= due_at + interval '31 seconds')
        THEN floor(extract(epoch FROM min(wakes_at) - tocsin_now()))::bigint ELSE 0 END
        FROM (
            SELECT state, due_at, greatest(wake_at, busy_until) AS wakes_at FROM notification WHERE wake_at IS NOT NULL
        ) unfinished";
    let shift = Cell::new(0);
    wait_for("the end of all", Duration::from_secs(100), || async {
        let wait = arena.database.try_count(next).await.unwrap_or_default();
        if fast && wait > 3 {
            shift.set(shift.get() + wait - 2);
            arena.database.shift_time(&format!("{} seconds", shift.get())).await;
        }
        (arena.database.count(unfinished).await == 0).then_some(())
    })
    .await;
}

/// The same calls in the same order with the same outcomes, at the same times but for `tolerance`, and the same ends.
fn compare(simulated: &Value, came: &[Value], tolerance: f64) {
    let context = || format!("simulated: {simulated:#}\n came: {came:#?}");
    let ends = list(simulated, "notifications");
    assert_eq!(ends.len(), came.len());
    for (end, real) in ends.iter().zip(came) {
        for key in ["channel", "state", "answer", "attempts", "max-attempts"] {
            assert_eq!(end[key], real[key], "{key}: {}", context());
        }
        let outcomes = |one: &Value| list(one, "calls").iter().map(|call| call["outcome"].clone()).collect::<Vec<_>>();
        assert_eq!(outcomes(end), outcomes(real), "{}", context());
        // Of what was accepted a real sentence has the provider's id; of a stop, its request.
        if end["state"] == "failed" {
            assert_eq!(without_figures(&end["sentence"]), without_figures(&real["sentence"]), "{}", context());
        }
        let (mut earlier, mut earlier_real) = (&simulated["begins-at"], &real["accepted-at"]);
        for (call, real) in list(end, "calls").iter().zip(list(real, "calls")) {
            let wait = seconds_between(earlier, &call["started-at"]);
            let late = seconds_between(earlier_real, &real["started-at"]) - wait;
            assert!((-0.2..tolerance).contains(&late), "{late} s later than {wait} s: {}", context());
            (earlier, earlier_real) = (&call["finished-at"], &real["finished-at"]);
        }
    }
    let calls = |of: &[Value]| {
        let mut calls: Vec<(String, usize)> = Vec::new();
        for (n, one) in of.iter().enumerate() {
            calls.extend(list(one, "calls").iter().map(|call| (call["started-at"].as_str().unwrap().to_owned(), n)));
        }
        calls.sort();
        calls
    };
    let (expected, mut real) = (calls(ends), calls(came).into_iter().map(|(_, n)| n));
    // What is simulated at about one moment may come in any order.
    let together = |one: &(String, _), two: &(String, _)| seconds_between(&json!(one.0), &json!(two.0)) < 0.5;
    for together in expected.chunk_by(together) {
        let mut next: Vec<_> = real.by_ref().take(together.len()).collect();
        next.sort_unstable();
        assert_eq!(next, together.iter().map(|(_, n)| *n).collect::<Vec<_>>(), "{}", context());
    }
    let of_timeline = list(simulated, "timeline").iter().filter(|event| event["event"] == "call").count();
    assert_eq!(of_timeline, expected.len());
}

/// A sentence without its times, and without what the provider said.
fn without_figures(sentence: &Value) -> String {
    let mut depth = 0;
    let sentence = sentence.as_str().unwrap();
    let sentence = sentence.split_once(" refused:").map_or(sentence, |(before, _)| before);
    let outside = sentence.chars().filter(|c| {
        depth += i32::from(*c == '(');
        let keep = depth == 0 && !c.is_ascii_digit();
        depth -= i32::from(*c == ')');
        keep
    });
    outside.collect()
}

#[tokio::test]
async fn all_is_accepted() {
    let notifications = vec![
        phone(-5, json!({})),
        json!({"channel": "webhook", "at": 3, "url": "/webhook/a"}),
        json!({"channel": "sms", "at": 5, "phone-number": "+3852222222", "message": "x"}),
        json!({"channel": "email", "at": 5, "email": "me@example.org"}),
    ];
    let ladder = Ladder::new(notifications, json!({}), json!([]));
    comes_as_simulated(Ladder { channels: &["phone", "sms", "email", "webhook"], ..ladder }).await;
}

#[tokio::test]
async fn a_provider_that_is_busy_twice() {
    let providers = json!({"phone": [{"answer": "503", "times": 2, "retry-after": 7}]});
    let rules = json!([{"address": "*", "status": 503, "retry_after": 7, "times": 2}]);
    comes_as_simulated(Ladder::new(vec![phone(0, json!({}))], providers, rules)).await;
}

#[tokio::test]
async fn a_provider_that_wants_fewer_calls_and_one_that_refuses() {
    let providers = json!({
        "phone": [{"answer": "429", "times": 3, "retry-after": 2}],
        "sms": [{"answer": "400"}],
        "email": [{"answer": "550"}],
        "webhook": [{"answer": "refused"}],
    });
    let rules = json!([
        {"address": "+3851111111", "status": 429, "retry_after": 2, "times": 3},
        {"address": "+3852222222", "status": 400},
        {"address": "me@example.org", "status": 550},
    ]);
    let notifications = vec![
        phone(0, json!({"max-attempts": 1})),
        json!({"channel": "sms", "at": 1, "phone-number": "+3852222222", "message": "x"}),
        json!({"channel": "email", "at": 1, "email": "me@example.org"}),
        json!({"channel": "webhook", "at": 1, "url": "http://127.0.0.1:1/", "max-attempts": 1}),
    ];
    let ladder = Ladder::new(notifications, providers, rules);
    comes_as_simulated(Ladder { channels: &["phone", "sms", "email", "webhook"], ..ladder }).await;
}

#[tokio::test]
async fn a_provider_that_keeps_silent() {
    let providers = json!({"phone": [{"answer": "timeout"}], "sms": [{"answer": "timeout"}, {"answer": "500"}]});
    let rules = json!([{"address": "+3851111111", "hang": true}, {"address": "+3852222222", "hang": true, "times": 1},
        {"address": "+3852222222", "status": 500, "times": 1}]);
    let text = json!({"channel": "sms", "at": 0, "phone-number": "+3852222222", "message": "x", "max-attempts": 2});
    let ladder = Ladder::new(vec![phone(0, json!({"on-unknown": "fail"})), text], providers, rules);
    comes_as_simulated(Ladder { channels: &["phone", "sms"], call_timeout_seconds: "2", ..ladder }).await;
}

#[tokio::test]
async fn all_attempts_fail_and_a_max_age_is_over() {
    let providers = json!({"phone": [{"answer": "503", "times": 100}]});
    let rules = json!([{"address": "*", "status": 503}]);
    let patient = phone(0, json!({"max-attempts": 5}));
    let ladder = Ladder::new(vec![patient, phone(100, json!({"max-age": 125}))], providers, rules);
    comes_as_simulated(Ladder { fast: true, ..ladder }).await;
}

#[tokio::test]
async fn a_stop_in_the_middle() {
    let providers = json!({"phone": [{"answer": "503", "times": 100}]});
    let ladder = vec![phone(0, json!({})), phone(60, json!({}))];
    let ladder = Ladder::new(ladder, providers, json!([{"address": "*", "status": 503}]));
    comes_as_simulated(Ladder { stopped: true, ..ladder }).await;
}

#[tokio::test]
async fn a_provider_that_refuses_the_whole_channel() {
    let providers = json!({"phone": [{"answer": "401"}]});
    let rules = json!([{"address": "*", "status": 401, "times": 1}]);
    comes_as_simulated(Ladder::new(vec![phone(0, json!({})), phone(8, json!({}))], providers, rules)).await;
}

#[tokio::test]
async fn a_receiver_that_refuses_is_asked_less_and_less_often() {
    // More often, and the time of a signature would be too far from the receiver's own clock.
    let providers = json!({"webhook": [{"answer": "403", "times": 3}]});
    let rules = json!([{"address": "*", "status": 403, "times": 3}]);
    let ladder = Ladder::new(vec![json!({"channel": "webhook", "at": 0, "url": "/webhook/a"})], providers, rules);
    comes_as_simulated(Ladder { channels: &["webhook"], fast: true, ..ladder }).await;
}

#[tokio::test]
async fn a_simulation_changes_nothing_and_says_what_is_wrong_with_it() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let reader = arena.make_key("read").await;
    let at = "2030-01-01T10:00:00Z";
    let request = json!({"process-id": "r", "action": "start", "notifications": [phone(1_893_492_060, json!({}))]});
    let body = json!({"request": request, "now": at, "stop-at": "2030-01-01T10:05:00Z",
        "providers": {"phone": [{"answer": "503"}]}});
    let answer = api.ask_as(&reader, "POST", "/v1/simulate", Some(&body));
    assert_eq!(answer.status, 200, "{answer:?}");
    let simulated = answer.json();
    let told: Vec<_> = list(&simulated, "timeline")
        .iter()
        .map(|event| (event["after-seconds"].as_f64().unwrap(), event["event"].as_str().unwrap()))
        .collect();
    let expected = [
        (0.0, "accepted"),
        (59.0, "queued"),
        (60.0, "call"),
        (60.0, "retrying"),
        (65.0, "call"),
        (65.0, "delivered"),
        (300.0, "stop"),
    ];
    assert_eq!(told, expected);
    assert_eq!(
        (&simulated["begins-at"], &simulated["ends-at"]),
        (&json!("2030-01-01T10:00:00.000Z"), &json!("2030-01-01T10:05:00.000Z"))
    );
    let why = simulated["timeline"][3]["sentence"].as_str().unwrap();
    assert!(why.contains("call 1 failed") && why.contains("not available for now (HTTP 503)"), "{why}");
    assert_eq!(arena.database.count("SELECT count(*) FROM request").await, 0);
    assert_eq!(arena.database.count("SELECT count(*) FROM process").await, 0);

    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut body = body.clone();
        change(&mut body);
        api.ask("POST", "/v1/simulate", Some(&body))
    };
    is_problem(&wrong(&|body| body["when"] = 1.into()), 422, Some("when"));
    is_problem(&wrong(&|body| body["request"]["action"] = "stop".into()), 422, Some("request.action"));
    is_problem(&wrong(&|body| body["now"] = Value::Null), 422, Some("now"));
    is_problem(&wrong(&|body| body["stop-at"] = 1.into()), 422, Some("stop-at"));
    is_problem(
        &wrong(&|body| body["providers"]["phone"][0]["answer"] = 503.into()),
        422,
        Some("providers.phone[0].answer"),
    );
    let busy = json!({"answer": "429", "times": 1_000});
    let many = vec![phone(1_893_492_060, json!({"max-age": 2_592_000})); 1_000];
    let long = wrong(&|body| {
        body["request"]["notifications"] = many.clone().into();
        body["providers"]["phone"] = json!(vec![busy.clone(); 100]);
        body["stop-at"] = "2030-02-01T10:00:00Z".into();
    });
    is_problem(&long, 422, Some(""));
    let sender = arena.make_key("send").await;
    is_problem(&api.ask_as(&sender, "POST", "/v1/simulate", Some(&body)), 403, None);
    let headers = [("authorization", format!("Bearer {reader}"))];
    is_problem(&api.ask_with("POST", "/v1/simulate", &headers, Some(&body.to_string())), 415, None);
}
