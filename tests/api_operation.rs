//! The HTTP API: channels, caller ids, keys, audit, status, documentation, events.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Arena, wait_for};

use crate::api::{is_problem, start};

/// One for each channel, four for retries, and the dead.
fn queues() -> usize {
    domain::CHANNELS.len() + 5
}

#[tokio::test]
async fn while_the_database_is_away_the_api_says_so_and_goes_on_afterwards() {
    let arena = Arena::with_own_postgres().await;
    let api = arena.start_api().await;
    let postgres = arena.postgres.as_ref().unwrap();
    postgres.stop_immediately();
    is_problem(&api.ask("GET", "/v1/status", None), 503, None);
    wait_for("not ready", Duration::from_secs(10), || async {
        (api.program.get("/health/ready").await.0 == 503).then_some(())
    })
    .await;
    postgres.run(&arena.workplace).unwrap();
    wait_for("an answer", Duration::from_secs(20), || async {
        (api.ask("GET", "/v1/status", None).status == 200).then_some(())
    })
    .await;
    api.program.stop().await;
}

#[tokio::test]
async fn channels_caller_ids_and_keys_are_changed_and_every_change_is_in_the_audit() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let paused = api.ask("PUT", "/v1/channels/phone/pause", Some(&json!({"reason": "a drill"})));
    assert_eq!((paused.status, &paused.json()[0]["reason"]), (200, &json!("a drill")), "{paused:?}");
    api.ask("PUT", "/v1/channels/all/pause", Some(&json!({})));
    let channels = api.get("/v1/channels");
    let phone = channels.as_array().unwrap().iter().find(|channel| channel["channel"] == "phone").unwrap();
    assert_eq!(phone["pauses"].as_array().unwrap().len(), 2);
    assert_eq!(api.ask("DELETE", "/v1/channels/all/pause", None).json(), json!([]));
    is_problem(&api.ask("DELETE", "/v1/channels/phone/pause", None), 409, None);

    let registry = json!({"+385": "+38514445555", "default": "+15005550006"});
    assert_eq!(api.ask("PUT", "/v1/properties/caller-id-registry", Some(&registry)).status, 200);
    assert_eq!(api.get("/v1/properties/caller-id-registry"), registry);
    let made = api.ask("POST", "/v1/keys", Some(&json!({"name": "pizzeria", "role": "send"})));
    assert_eq!(made.status, 201);
    let prefix = made.json()["prefix"].as_str().unwrap().to_owned();
    api.ask("DELETE", &format!("/v1/keys/{prefix}"), None);
    // At a terminal too.
    assert!(arena.run("tocsin", &["pause", "sms"]).await.status.success());
    assert!(arena.run("tocsin", &["resume", "sms"]).await.status.success());

    let audit = api.get("/v1/audit");
    let mut entries: Vec<_> = audit["items"].as_array().unwrap().iter().collect();
    entries.reverse();
    let who = format!("key {} (the admin)", api.key.split('_').nth(1).unwrap());
    let done: Vec<_> = entries.iter().map(|e| (e["action"].as_str().unwrap(), e["actor"] == *who)).collect();
    let expected = [
        ("key.create", false),
        ("channel.pause", true),
        ("channel.pause", true),
        ("channel.resume", true),
        ("channel.resume", true),
        ("property.set", true),
        ("key.create", true),
        ("key.revoke", true),
        ("channel.pause", false),
        ("channel.resume", false),
    ];
    assert_eq!(done, expected);
    let set = entries.iter().find(|entry| entry["action"] == "property.set").unwrap();
    assert_eq!((&set["before"], &set["after"]), (&json!({"default": "+15005550006"}), &registry));
    let of_phone = api.get("/v1/audit?object=channel%20phone");
    assert_eq!(of_phone["items"].as_array().unwrap().len(), 2);
    assert!(!audit.to_string().contains(made.json()["key"].as_str().unwrap()));
}

#[tokio::test]
async fn status_tells_who_is_there_what_waits_and_what_was_done() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let problems = |status: &Value| status["problems"].to_string();
    let alone = api.get("/v1/status");
    assert!(problems(&alone).contains("activator is not connected") && problems(&alone).contains("bridge"), "{alone}");
    let programs = arena.start_all(&["phone"]).await;
    arena.simulator.set_rules(&json!([{"address": "+3852222222", "status": 404, "code": 21211}]));
    arena.start_calls("r", -1, &["+3851111111", "+3852222222"]);
    arena.start_process("s", &[json!({"channel": "sms", "at": 1, "phone-number": "+3851111111", "message": "x"})]);
    arena.notifications_in("delivered", 1, 10).await;
    arena.notifications_in("failed", 1, 10).await;
    arena.notifications_in("queued", 1, 10).await;
    let broken =
        json!({"properties": {}, "routing_key": "notify.phone", "payload": "junk", "payload_encoding": "string"});
    arena.vhost.ask("POST", "exchanges", "/amq.default/publish", Some(&broken));
    arena.counted("SELECT count(*) FROM dead_letter", 1, 20).await;

    let status = api.get("/v1/status?minutes=5");
    let channel = |name: &str| status["channels"].as_array().unwrap().iter().find(|c| c["channel"] == name).unwrap();
    assert_eq!(channel("phone")["finished"], json!({"delivered": 1, "failed": 1}));
    assert_eq!(channel("sms")["unfinished"], json!({"queued": 1}));
    let late = &channel("phone")["lateness-seconds"];
    assert!(late["count"] == 2 && late["p99"].as_f64().unwrap() < 60.0 && late["p50"].as_f64() <= late["max"].as_f64());
    assert_eq!((&status["open-failures"], &status["dead-letters"]), (&json!(1), &json!(1)));
    let connections = |name: &str| {
        let programs = status["programs"].as_array().unwrap().iter();
        programs.filter(|program| program["program"] == name).map(|p| p["connections"].as_i64().unwrap()).sum::<i64>()
    };
    assert!(["bridge", "activator", "notifier-phone", "api"].iter().all(|name| connections(name) > 0), "{status}");
    let phone = status["programs"].as_array().unwrap().iter().find(|one| one["program"] == "notifier-phone").unwrap();
    assert_eq!((&phone["copies"], &phone["versions"]), (&json!(1), &json!({"0.1.0": 1})));
    let queue = |name: &str| status["queues"].as_array().unwrap().iter().find(|one| one["queue"] == name).unwrap();
    assert_eq!(*queue("notify.phone"), json!({"queue": "notify.phone", "messages": 0, "consumers": 1}));
    assert_eq!(*queue("notify.sms"), json!({"queue": "notify.sms", "messages": 1, "consumers": 0}));
    assert_eq!((&queue("dead")["consumers"], &queue("tocsin.retry.5s")["consumers"]), (&json!(1), &json!(0)));
    assert_eq!((status["queues"].as_array().unwrap().len(), &status["queues-unknown"]), (queues(), &Value::Null));
    assert_eq!(connections("notifier-sms"), 0);
    for words in
        ["notifier-sms is not connected", "1 failed notification waits", "1 message could be used by no worker"]
    {
        assert!(problems(&status).contains(words), "{words}: {status}");
    }
    let letters = api.get("/v1/dead-letters");
    assert_eq!((&letters["items"][0]["queue"], &letters["items"][0]["body"]), (&json!("notify.phone"), &json!("junk")));
    for program in programs {
        program.stop().await;
    }
}

#[tokio::test]
async fn status_tells_of_copies_of_queues_without_workers_and_of_a_broker_that_is_away() {
    let arena = Arena::with_own_rabbitmq().await;
    let (api, deaf) = (arena.start_api().await, arena.start_api_with(&[("TOCSIN_BROKER__URL", "")]).await);
    let programs = arena.start_all(&["phone", "phone"]).await;
    arena.start_calls("r", -1, &["+3851111111"]);
    arena.notifications_in("delivered", 1, 10).await;
    let copies = |status: &Value| -> Value {
        let phone = |one: &&Value| one["program"] == "notifier-phone";
        status["programs"].as_array().unwrap().iter().find(phone).unwrap()["copies"].clone()
    };
    assert_eq!(copies(&api.get("/v1/status")), 2);
    let unknown = deaf.get("/v1/status");
    assert!(unknown["queues-unknown"].as_str().unwrap().contains("TOCSIN_BROKER__URL"), "{unknown}");
    assert!(!unknown["problems"].to_string().contains("queue"), "{unknown}");

    arena.vhost.ask("DELETE", "queues", "/notify.sms", None);
    let missing = wait_for("a missing queue", Duration::from_secs(10), || async {
        let status = api.get("/v1/status");
        status["problems"].to_string().contains("queue notify.sms is missing").then_some(status)
    })
    .await;
    assert_eq!(missing["queues"].as_array().unwrap().len(), queues(), "the others are told all the same");

    let rabbitmq = arena.rabbitmq.as_ref().unwrap();
    rabbitmq.stop();
    let begin = Instant::now();
    let away = api.get("/v1/status");
    assert!(away["problems"].to_string().contains("the queues can't be seen"), "{away}");
    assert!(begin.elapsed() < Duration::from_secs(10) && away["queues"] == json!([]), "{away}");
    rabbitmq.run(&arena.workplace).unwrap();
    wait_for("the queues again", Duration::from_secs(60), || async {
        let status = api.get("/v1/status");
        (status["queues-unknown"] == Value::Null && !status["problems"].to_string().contains("takes from"))
            .then_some(())
    })
    .await;
    for program in programs {
        program.stop().await;
    }
    let gone = wait_for("nobody serves", Duration::from_secs(20), || async {
        let status = api.get("/v1/status");
        (copies(&status) == 0).then_some(status)
    })
    .await;
    assert!(gone["problems"].to_string().contains("notifier-phone is not connected to the database"), "{gone}");
}

#[tokio::test]
async fn the_api_is_described_and_the_description_is_shown() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let description = api.get("/openapi.json");
    assert!(description["openapi"].as_str().unwrap().starts_with("3."));
    assert!(description["paths"]["/v1/notifications/{id}/explain"]["get"].is_object());
    // What is described is there: none of it is unknown to the router.
    for (path, operations) in description["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "999").replace("{process-id}", "nobody").replace("{channel}", "phone");
        let path = path.replace("{prefix}", "00000000");
        for method in operations.as_object().unwrap().keys().filter(|_| path != "/v1/events") {
            let answer = api.ask(&method.to_uppercase(), &path, (method != "get").then_some(&json!({})));
            assert!(answer.status != 405 && answer.status < 500, "{method} {path}: {answer:?}");
            assert!(!answer.text.contains("nothing is served there"), "{method} {path}");
        }
    }
    let page = api.ask("GET", "/docs", None);
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(page.text.contains("Why it was or was not sent") && page.text.contains("/v1/failures/retry"));
    assert_eq!(api.ask("GET", "/docs/style.css", None).header("content-type"), Some("text/css"));
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _programs = arena.start_all(&["phone"]).await;
    let events = api.events();
    api.ask("POST", "/v1/requests", Some(&start(&arena, "r", -1)));
    api.ask("PUT", "/v1/channels/sms/pause", Some(&json!({"reason": "a drill"})));
    let mut told = Vec::new();
    let patience = Duration::from_secs(20);
    while told.len() < 6 {
        let line = events.recv_timeout(patience).unwrap();
        if line.starts_with("event: ") || line.starts_with("data: ") {
            told.push(line);
        }
    }
    let data = |kind: &str| -> Value {
        let at = told.iter().position(|line| *line == format!("event: {kind}")).unwrap_or_else(|| panic!("{told:?}"));
        serde_json::from_str(told[at + 1].strip_prefix("data: ").unwrap()).unwrap()
    };
    assert_eq!(data("request")["outcome"], "accepted");
    assert_eq!(
        (&data("notification")["state"], &data("notification")["process-id"]),
        (&json!("delivered"), &json!("r"))
    );
    assert_eq!((&data("change")["action"], &data("change")["before"]), (&json!("channel.pause"), &Value::Null));
    // An open stream does not keep the program from stopping.
    api.program.stop().await;
    while events.recv_timeout(patience).is_ok() {}
}

#[tokio::test]
async fn keys_are_made_listed_and_revoked_at_a_terminal() {
    let arena = Arena::new().await;
    let output = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output(&arena.run("tocsin", &["key", "list"]).await).contains("there are none; make one"));
    let key = arena.make_key("read").await;
    let prefix = key.split('_').nth(1).unwrap();
    let listed = output(&arena.run("tocsin", &["key", "list"]).await);
    assert!(listed.starts_with(&format!("{prefix}  read     the read  by ")) && !listed.contains(&key), "{listed}");
    let revoked = arena.run("tocsin", &["key", "revoke", prefix]).await;
    assert!(revoked.status.success() && output(&revoked).contains("opens nothing any more"));
    assert_eq!(arena.run("tocsin", &["key", "revoke", prefix]).await.status.code(), Some(1));
    assert!(output(&arena.run("tocsin", &["key", "list"]).await).contains("revoked "));
    assert!(!arena.run("tocsin", &["key", "create", "me", "--role", "king"]).await.status.success());
    let checked = arena.run("tocsin", &["check", "api"]).await;
    assert!(checked.status.success() && output(&checked).contains("there is none yet"), "{checked:?}");
}
