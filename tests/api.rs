//! The HTTP API: who gets in, requests, lists, problems.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use testkit::{Answer, Api, Arena};

fn bearer(key: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {key}"))
}

pub(crate) fn start(arena: &Arena, process: &str, in_seconds: i64) -> Value {
    json!({"process-id": process, "action": "start", "notifications": [
        {"channel": "phone", "at": arena.now() + in_seconds, "phone-number": "+3851111111"}]})
}

/// Sends a request with an idempotency key.
fn send(api: &Api, key: &str, body: &Value) -> Answer {
    let headers =
        [bearer(&api.key), ("content-type", "application/json".to_owned()), ("idempotency-key", key.to_owned())];
    api.ask_with("POST", "/v1/requests", &headers, Some(&body.to_string()))
}

#[track_caller]
pub(crate) fn is_problem(answer: &Answer, status: u16, field: Option<&str>) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{problem}");
    for key in ["type", "title", "detail"] {
        assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
    if let Some(field) = field {
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
}

#[tokio::test]
async fn nothing_answers_without_a_key() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let paths = ["/v1/requests", "/v1/status", "/v1/events", "/openapi.json", "/docs", "/docs/style.css", "/nothing"];
    for path in paths {
        is_problem(&api.ask_with("GET", path, &[], None), 401, None);
        let basic = ("authorization", format!("Basic {}", BASE64_STANDARD.encode(format!("me:{}", api.key))));
        let with_password = api.ask_with("GET", path, &[basic], None).status;
        let is_for_browsers = path.starts_with("/docs") || path == "/openapi.json";
        assert_eq!(with_password, if is_for_browsers { 200 } else { 401 }, "{path}");
    }
    assert_eq!(api.ask_with("GET", "/v1/status", &[], None).header("www-authenticate"), Some("Bearer"));
    is_problem(&api.ask_with("DELETE", "/v1/status", &[], None), 401, None);
    is_problem(&api.ask("GET", "/nothing", None), 404, None);
    is_problem(&api.ask("DELETE", "/v1/status", None), 405, None);
    assert_eq!(api.program.get("/health/ready").await.0, 200);
}

#[tokio::test]
async fn tries_with_a_wrong_key_are_limited_and_keep_nobody_out_who_was_in() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let (unused, revoked) = (arena.make_key("read").await, arena.make_key("admin").await);
    assert_eq!(api.ask("GET", "/v1/status", None).status, 200);
    let prefix = revoked.split('_').nth(1).unwrap();
    assert_eq!(api.ask("DELETE", &format!("/v1/keys/{prefix}"), None).status, 200);
    is_problem(&api.ask("DELETE", &format!("/v1/keys/{prefix}"), None), 404, None);

    let mut wrong = api.key.clone();
    wrong.pop();
    wrong.push(if api.key.ends_with('0') { '1' } else { '0' });
    for key in [&revoked, &wrong, "no key at all"] {
        is_problem(&api.ask_as(key, "GET", "/v1/status", None), 401, None);
    }
    for _ in 0..7 {
        is_problem(&api.ask_as(&wrong, "GET", "/v1/status", None), 401, None);
    }
    for key in [&wrong, &unused] {
        let refused = api.ask_as(key, "GET", "/v1/status", None);
        is_problem(&refused, 429, None);
        assert_eq!(refused.header("retry-after"), Some("60"));
    }
    assert_eq!(api.ask("GET", "/v1/status", None).status, 200);
    let log = api.program.output().join("\n");
    assert!(log.contains("wrong_key") && !log.contains(&wrong) && !log.contains(&api.key));
    let kept = arena.database.texts("SELECT string_agg(k::text, ' ') FROM api_key k").await.remove(0);
    assert!(!kept.contains(api.key.rsplit('_').next().unwrap()), "only the hash is kept");
}

#[tokio::test]
async fn each_role_may_do_what_it_is_there_for() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let roles = ["send", "read", "operate", "admin"];
    let mut keys = Vec::new();
    for role in roles {
        keys.push(arena.make_key(role).await);
    }
    let stop = json!({"process-id": "nobody", "action": "stop"});
    let reason = json!({"reason": "a drill"});
    let registry = json!({"default": "+15005550006"});
    let retry = json!({"dry-run": true});
    for (method, path, body, may) in [
        ("POST", "/v1/requests", Some(&stop), [true, false, true, true]),
        ("GET", "/v1/requests", None, [false, true, true, true]),
        ("GET", "/v1/processes", None, [false, true, true, true]),
        ("GET", "/v1/notifications", None, [false, true, true, true]),
        ("GET", "/v1/failures", None, [false, true, true, true]),
        ("GET", "/v1/status", None, [false, true, true, true]),
        ("GET", "/v1/channels", None, [false, true, true, true]),
        ("GET", "/v1/dead-letters", None, [false, true, true, true]),
        ("GET", "/v1/properties/caller-id-registry", None, [false, true, true, true]),
        ("PUT", "/v1/channels/phone/pause", Some(&reason), [false, false, true, true]),
        ("POST", "/v1/failures/retry", Some(&retry), [false, false, true, true]),
        ("PUT", "/v1/properties/caller-id-registry", Some(&registry), [false, false, false, true]),
        ("GET", "/v1/audit", None, [false, false, false, true]),
        ("GET", "/v1/keys", None, [false, false, false, true]),
        ("GET", "/openapi.json", None, [true, true, true, true]),
    ] {
        for ((role, key), may) in roles.iter().zip(&keys).zip(may) {
            let answer = api.ask_as(key, method, path, body);
            assert_eq!(answer.status < 300, may, "{role}: {method} {path}: {answer:?}");
            if !may {
                is_problem(&answer, 403, None);
            }
        }
    }
    assert_eq!(api.ask("POST", "/v1/requests", Some(&start(&arena, "r", 3_600))).status, 201);
    let seen = |role: usize, path: &str| api.ask_as(&keys[role], "GET", path, None).text;
    for path in ["/v1/requests", "/v1/processes/r", "/v1/notifications"] {
        assert!(!seen(1, path).contains("+385"), "a reader sees no address: {path}");
        assert!(seen(2, path).contains("+3851111111"), "{path}");
    }
    let by_address = "/v1/notifications?address=%2B3851111111";
    is_problem(&api.ask_as(&keys[1], "GET", by_address, None), 422, Some("address"));
    assert_eq!(api.get(by_address)["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.get("/v1/notifications?address=%2B385")["items"], json!([]));
}

#[tokio::test]
async fn a_request_by_http_is_one_as_by_sqs() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _programs = arena.start_all(&["phone"]).await;
    let sent = api.ask("POST", "/v1/requests", Some(&start(&arena, "r", -1)));
    assert_eq!(sent.status, 201, "{sent:?}");
    let request = sent.json();
    assert_eq!((&request["outcome"], &request["run"]), (&json!("accepted"), &json!(1)));
    let notification = request["notifications"][0].as_i64().unwrap();
    arena.notifications_in("delivered", 1, 10).await;
    assert_eq!(arena.simulator.called(), ["+3851111111"]);
    assert_eq!(api.get(&format!("/v1/notifications/{notification}"))["state"], "delivered");

    // A start by the queue is seen by a stop over HTTP, and the other way round.
    arena.start_calls("q", 3_600, &["+3852222222"]);
    arena.notifications_in("scheduled", 1, 10).await;
    let ignored = api.ask("POST", "/v1/requests", Some(&start(&arena, "q", 3_600)));
    assert_eq!((ignored.status, &ignored.json()["outcome"]), (200, &json!("ignored")));
    assert_eq!(ignored.json()["reasons"][0]["message"], "is active already");
    let stopped = api.ask("POST", "/v1/processes/q/stop", None);
    assert_eq!(stopped.status, 201, "{stopped:?}");
    arena.notifications_in("cancelled", 1, 1).await;
    assert_eq!(api.ask("POST", "/v1/processes/q/stop", None).status, 200);
    is_problem(&api.ask("POST", "/v1/processes/never/stop", None), 404, None);
    let process = api.get("/v1/processes/q");
    assert_eq!(process["requests"].as_array().unwrap().len(), 4, "{process}");
    let sources: Vec<_> =
        process["requests"].as_array().unwrap().iter().map(|r| r["source"].as_str().unwrap()).collect();
    let mine = format!("api:{}", api.key.split('_').nth(1).unwrap());
    assert_eq!(sources.iter().filter(|source| **source == mine).count(), 3, "{sources:?}");
}

#[tokio::test]
async fn a_request_that_is_sent_again_has_one_effect() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let body = start(&arena, "r", 3_600);
    let first = send(&api, "order-17", &body);
    assert_eq!(first.status, 201, "{first:?}");
    for _ in 0..2 {
        let again = send(&api, "order-17", &body);
        assert_eq!((again.status, again.json()), (200, first.json()), "the same answer");
    }
    let stop = json!({"process-id": "r", "action": "stop"});
    is_problem(&send(&api, "order-17", &stop), 422, Some("Idempotency-Key"));
    assert_eq!(arena.states().await, [("scheduled".to_owned(), 1)].into());
    let bad = json!({"process-id": "r", "action": "dance"});
    let rejected = send(&api, "order-18", &bad);
    is_problem(&rejected, 422, Some("action"));
    assert_eq!(send(&api, "order-18", &bad).json(), rejected.json());
    is_problem(&send(&api, "two words", &stop), 400, Some("Idempotency-Key"));

    // Another key of the API has idempotency keys of its own.
    let other = Api { key: arena.make_key("send").await, ..arena.start_api().await };
    let ignored = send(&other, "order-17", &body);
    assert_eq!((ignored.status, &ignored.json()["outcome"]), (200, &json!("ignored")));

    arena.database.shift_time("25 hours").await;
    let next_day = send(&api, "order-17", &stop);
    assert_eq!((next_day.status, &next_day.json()["action"]), (201, &json!("stop")), "{next_day:?}");
    assert_eq!(arena.database.count("SELECT count(*) FROM request").await, 4);
}

#[tokio::test]
async fn many_at_once_with_one_idempotency_key_have_one_effect() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let body = start(&arena, "r", 3_600);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| send(&api, "k", &body))).collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.json() == answers[0].json()), "{answers:?}");
    assert_eq!(arena.database.count("SELECT count(*) FROM request").await, 1);
}

#[tokio::test]
async fn killed_between_commit_and_answer_a_request_is_carried_out_once() {
    let arena = Arena::new().await;
    let api = arena.start_api_with(&[("TOCSIN_FAILPOINTS", "api.committed=kill")]).await;
    let body = start(&arena, "r", 3_600);
    let headers =
        [bearer(&api.key), ("content-type", "application/json".to_owned()), ("idempotency-key", "k".to_owned())];
    assert!(api.try_ask("POST", "/v1/requests", &headers, Some(&body.to_string())).is_err());
    let key = api.key.clone();
    api.program.killed().await;
    arena.notifications_in("scheduled", 1, 1).await;
    let api = Api { key, ..arena.start_api().await };
    let again = send(&api, "k", &body);
    assert_eq!((again.status, &again.json()["outcome"]), (200, &json!("accepted")));
    assert_eq!(arena.database.count("SELECT count(*) FROM request").await, 1);
}

#[tokio::test]
async fn a_batch_has_an_answer_for_each_line() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let stop = json!({"process-id": "a", "action": "stop"});
    let lines = [
        start(&arena, "a", 3_600).to_string(),
        stop.to_string(),
        "no JSON".to_owned(),
        start(&arena, "a", 3_600).to_string(),
        start(&arena, "a", 3_600).to_string(),
        String::new(),
        start(&arena, "b", 3_600).to_string(),
    ]
    .join("\n");
    let headers = [
        bearer(&api.key),
        ("content-type", "application/x-ndjson".to_owned()),
        ("idempotency-key", "batch".to_owned()),
    ];
    let answer = api.ask_with("POST", "/v1/requests/batch", &headers, Some(&lines));
    assert_eq!(answer.status, 200, "{answer:?}");
    let said: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes = said.iter().map(|line| (line["line"].as_i64().unwrap(), line["status"].as_i64().unwrap()));
    assert_eq!(outcomes.collect::<Vec<_>>(), [(1, 201), (2, 201), (3, 422), (4, 201), (5, 200), (6, 201)]);
    assert_eq!(said[3]["request"]["run"], 2);
    assert_eq!(said[4]["request"]["outcome"], "ignored");
    assert!(said[2]["problem"]["request"].is_i64(), "the rejected one is recorded: {}", said[2]);
    let again = api.ask_with("POST", "/v1/requests/batch", &headers, Some(&lines));
    let again: Vec<Value> = again.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (first, again) in said.iter().zip(&again) {
        assert_eq!(first["request"], again["request"]);
        assert!(again["status"] == 200 || again["status"] == 422, "{again}");
    }
    assert_eq!(arena.database.count("SELECT count(*) FROM request").await, 6);
    let too_many = vec!["{}"; 1_001].join("\n");
    is_problem(&api.ask_with("POST", "/v1/requests/batch", &headers[..2], Some(&too_many)), 422, Some(""));
    is_problem(&api.ask_with("POST", "/v1/requests/batch", &headers[..2], Some("\n\n")), 422, Some(""));
}

#[tokio::test]
async fn a_thousand_lines_of_many_processes_are_taken_together() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let line = |n: usize| start(&arena, &format!("p{}", n % 400), 3_600).to_string();
    let lines: Vec<_> = (0..1_000).map(line).collect();
    let headers = [bearer(&api.key), ("content-type", "application/x-ndjson".to_owned())];
    let answer = api.ask_with("POST", "/v1/requests/batch", &headers, Some(&lines.join("\n")));
    let statuses: Vec<_> = answer
        .text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["status"].as_u64().unwrap())
        .collect();
    let expected: Vec<u64> = (0..1_000).map(|n| if n < 400 { 201 } else { 200 }).collect();
    assert_eq!(statuses, expected, "the first of each process starts it, the others are ignored");
}

#[tokio::test]
async fn rejected_requests_are_found_edited_and_replayed() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    let api = arena.start_api().await;
    let bad = json!({"process-id": "r", "action": "start", "notifications": [
        {"channel": "phone", "at": "soon", "phone-number": "+3851111111"}, {"channel": "phone", "at": 1}]});
    arena.start_calls("r", 3_600, &["+3852222222"]);
    arena.start_calls("r", 3_600, &["+3852222222"]);
    arena.queue.send("r", &bad.to_string());
    arena.requests_recorded(3).await;
    let outcomes = |filter: &str| {
        let found = api.get(&format!("/v1/requests{filter}"));
        let all = found["items"].as_array().unwrap().iter();
        all.map(|request| request["outcome"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(""), ["rejected", "ignored", "accepted"]);
    for outcome in ["accepted", "ignored", "rejected"] {
        assert_eq!(outcomes(&format!("?outcome={outcome}")), [outcome]);
    }
    assert_eq!(outcomes("?process-id=r&outcome=ignored"), ["ignored"]);
    assert!(outcomes("?process-id=nobody").is_empty());
    let rejected = &api.get("/v1/requests?outcome=rejected")["items"][0];
    let fields: Vec<_> = rejected["reasons"].as_array().unwrap().iter().map(|r| r["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["notifications[0].at", "notifications[1].phone-number"]);
    assert_eq!(rejected["body"], bad.to_string());

    let replay = format!("/v1/requests/{}/replay", rejected["id"]);
    is_problem(&api.ask("POST", &replay, None), 422, Some("notifications[0].at"));
    let edited = json!({"process-id": "s", "action": "start", "notifications": [
        {"channel": "phone", "at": arena.now() + 3_600, "phone-number": "+3851111111"}]});
    let replayed = api.ask("POST", &replay, Some(&edited));
    assert_eq!(replayed.status, 201, "{replayed:?}");
    let again = api.ask("POST", &replay, Some(&edited));
    assert_eq!((again.status, &again.json()["id"]), (200, &replayed.json()["id"]), "a double click has one effect");
    assert_eq!(arena.database.count("SELECT count(*) FROM notification").await, 2);
    let accepted = api.get("/v1/requests?process-id=s")["items"][0]["id"].as_i64().unwrap();
    is_problem(&api.ask("POST", &format!("/v1/requests/{accepted}/replay"), None), 409, None);
    is_problem(&api.ask("GET", "/v1/requests/999999", None), 404, None);
}

#[tokio::test]
async fn lists_come_in_pages_that_join() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    for n in 0..7 {
        assert_eq!(api.ask("POST", "/v1/requests", Some(&start(&arena, &format!("p/{n} ž"), 3_600))).status, 201);
    }
    for list in ["requests", "processes", "notifications", "audit"] {
        let whole = api.get(&format!("/v1/{list}?limit=200"));
        let ids = |page: &Value| -> Vec<i64> {
            page["items"].as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect()
        };
        let (mut joined, mut next) = (Vec::new(), String::new());
        loop {
            let page = api.get(&format!("/v1/{list}?limit=3{next}"));
            joined.extend(ids(&page));
            match page["next"].as_i64() {
                Some(before) => next = format!("&before={before}"),
                None => break,
            }
        }
        assert_eq!(joined, ids(&whole), "{list}");
        assert!(joined.is_sorted_by(|a, b| a > b) && (list == "audit" || joined.len() == 7), "{list}: {joined:?}");
    }
    let process = api.get("/v1/processes/p%2F3%20%C5%BE");
    assert_eq!((&process["process-id"], &process["active"]), (&json!("p/3 ž"), &json!(true)));
    assert_eq!(process["notifications"].as_array().unwrap().len(), 1);
    assert_eq!(api.get("/v1/notifications?state=scheduled&channel=phone")["items"].as_array().unwrap().len(), 7);
    assert_eq!(api.get("/v1/notifications?state=delivered")["items"], json!([]));
    is_problem(&api.ask("GET", "/v1/processes/nobody", None), 404, None);
    is_problem(&api.ask("GET", "/v1/notifications/999", None), 404, None);
}

#[tokio::test]
async fn what_cannot_be_read_is_a_problem_that_names_the_field() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    for (path, status, field) in [
        ("/v1/requests?limit=0", 422, "limit"),
        ("/v1/requests?limit=201", 422, "limit"),
        ("/v1/requests?limit=many", 400, "limit"),
        ("/v1/requests?outcome=good", 400, "outcome"),
        ("/v1/notifications?channel=pigeon", 422, "channel"),
        ("/v1/notifications?state=asleep", 400, "state"),
        ("/v1/notifications/one", 400, "id"),
        ("/v1/status?minutes=0", 422, "minutes"),
    ] {
        is_problem(&api.ask("GET", path, None), status, Some(field));
    }
    assert!(api.ask("GET", "/v1/requests?stat=x", None).text.contains("stat"));
    is_problem(&api.ask("GET", "/v1/processes/a%00b", None), 422, None);
    for (method, path, body, status, field) in [
        ("PUT", "/v1/channels/pigeon/pause", json!({}), 422, "channel"),
        ("PUT", "/v1/channels/phone/pause", json!({"reason": 7}), 400, "reason"),
        ("PUT", "/v1/channels/phone/pause", json!({"reason": "x".repeat(501)}), 422, "reason"),
        ("POST", "/v1/keys", json!({"name": "", "role": "read"}), 422, "name"),
        ("POST", "/v1/keys", json!({"name": "me", "role": "king"}), 422, "role"),
        ("POST", "/v1/failures/retry", json!({"limit": 0}), 422, "limit"),
        ("POST", "/v1/failures/retry", json!({"per-second": 0}), 422, "per-second"),
        ("POST", "/v1/failures/retry", json!({"since": "yesterday"}), 422, "since"),
        ("PUT", "/v1/properties/caller-id-registry", json!({"385": "+1"}), 422, ""),
    ] {
        is_problem(&api.ask(method, path, Some(&body)), status, Some(field));
    }
    let text = [bearer(&api.key), ("content-type", "text/plain".to_owned())];
    is_problem(&api.ask_with("POST", "/v1/requests", &text, Some("{}")), 415, None);
    let json_type = [bearer(&api.key), ("content-type", "application/json".to_owned())];
    is_problem(&api.ask_with("POST", "/v1/keys", &json_type, Some("{\"name\":")), 400, None);
    let large = format!("{{\"note\": \"{}\"}}", "x".repeat(1024 * 1024));
    is_problem(&api.ask_with("POST", "/v1/requests", &json_type, Some(&large)), 413, None);
    assert_eq!(arena.database.count("SELECT count(*) FROM request").await, 0);
    let nul = api.ask_with(
        "POST",
        "/v1/requests",
        &json_type,
        Some(r#"{"process-id": "r", "action": "stop", "x": "\u0000"}"#),
    );
    is_problem(&nul, 422, Some("x"));
}
