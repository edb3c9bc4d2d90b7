//! The workbench for what failed: seen by cause, edited, tried again once, given up.

use serde_json::{Value, json};
use testkit::{Api, Arena};

use crate::checker::{Checker, Verdict};

/// Starts calls that all fail, and answers their numbers.
async fn failed(arena: &Arena, api: &Api, process: &str, phone_numbers: &[String]) -> Vec<i64> {
    let at = arena.now() - 1;
    let call = |number: &String| json!({"channel": "phone", "at": at, "phone-number": number, "max-attempts": 1});
    let calls: Vec<Value> = phone_numbers.iter().map(call).collect();
    let body = json!({"process-id": process, "action": "start", "notifications": calls});
    let before = arena.states().await.get("failed").copied().unwrap_or_default();
    let answer = api.ask("POST", "/v1/requests", Some(&body));
    assert_eq!(answer.status, 201, "{answer:?}");
    arena.notifications_in("failed", before + i64::try_from(calls.len()).unwrap(), 20).await;
    answer.json()["notifications"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
}

fn numbers(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n:06}")).collect()
}

#[tokio::test]
async fn a_failure_is_edited_and_tried_again_and_retrying_twice_sends_once() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _programs = arena.start_all(&["phone"]).await;
    // Syntactically good, but nobody's.
    arena.simulator.set_rules(&json!([{"address": "+3851111111", "status": 404, "code": 21211}]));
    let id = failed(&arena, &api, "r", &["+3851111111".to_owned()]).await[0];
    let path = format!("/v1/notifications/{id}");
    let bad = api.ask("PATCH", &path, Some(&json!({"phone-number": "0385", "url": "x", "body": "y"})));
    let fields: Vec<_> = bad.json()["errors"].as_array().unwrap().iter().map(|e| e["field"].clone()).collect();
    assert_eq!((bad.status, fields), (422, vec![json!("phone-number"), json!("url"), json!("body")]));
    let edited = api.ask("PATCH", &path, Some(&json!({"phone-number": "+3852222222", "url": "http://example.org/x"})));
    assert_eq!(edited.status, 200, "{edited:?}");
    assert_eq!(edited.json()["content"], json!({"phone-number": "+3852222222", "url": "http://example.org/x"}));
    assert_eq!(
        api.ask("PATCH", &path, Some(&json!({"url": null}))).json()["content"],
        json!({"phone-number": "+3852222222"})
    );

    let retry = format!("{path}/retry");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..6).map(|_| scope.spawn(|| api.ask("POST", &retry, None).status)).collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
    arena.notifications_in("delivered", 1, 20).await;
    assert_eq!(api.ask("POST", &retry, None).status, 409, "what was accepted is not sent again");
    assert_eq!(api.ask("PATCH", &path, Some(&json!({"phone-number": "+385"}))).status, 409);
    assert_eq!(api.ask("POST", "/v1/notifications/999/retry", None).status, 404);
    assert_eq!(arena.simulator.called(), ["+3851111111", "+3852222222"]);

    let view = api.get(&path);
    let by_hand: Vec<_> = view["interventions"].as_array().unwrap().iter().map(|one| one["action"].clone()).collect();
    assert_eq!(by_hand, ["edit", "edit", "retry"]);
    assert!(view["interventions"][2]["actor"].as_str().unwrap().ends_with("(the admin)"));
    assert_eq!(view["calls"].as_array().unwrap().len(), 2, "the whole history is kept");
    let audit = api.get(&format!("/v1/audit?object=notification%20{id}"));
    let first = &audit["items"][2];
    assert_eq!((&first["before"], &first["action"]), (&json!({"phone-number": "+38…11"}), &json!("notification.edit")));
    assert_eq!(first["after"], json!({"phone-number": "+38…22", "changed": ["phone-number", "url"]}));
    assert!(!audit.to_string().contains("+3851111111"), "addresses live in one table");
}

#[tokio::test]
async fn a_retry_has_all_attempts_and_the_whole_max_age_anew() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _programs = arena.start_all(&["phone"]).await;
    arena.simulator.set_rules(&json!([{"address": "*", "status": 503, "times": 3}]));
    let call = json!({"channel": "phone", "at": 1, "phone-number": "+3851111111", "max-attempts": 2, "max-age": 600});
    let body = json!({"process-id": "r", "action": "start", "notifications": [call]});
    let id = api.ask("POST", "/v1/requests", Some(&body)).json()["notifications"][0].as_i64().unwrap();
    arena.notifications_in("failed", 1, 30).await;
    arena.database.shift_time("1 hour").await;
    assert_eq!(api.ask("POST", &format!("/v1/notifications/{id}/retry"), None).status, 200);
    let (answer, sentence) = api.explain(id);
    assert!(
        answer == "accepted" || sentence.contains("had it tried again at") || sentence.contains("call "),
        "{sentence}"
    );
    arena.notifications_in("delivered", 1, 30).await;
    assert_eq!(arena.simulator.called().len(), 4, "two in vain, and two more after the retry");
    let age = "SELECT round(extract(epoch FROM expires_at - retried_at))::bigint FROM notification";
    assert_eq!(arena.database.count(age).await, 600);
}

#[tokio::test]
async fn failures_are_grouped_by_cause_and_tried_again_by_filter_not_too_fast() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _programs = arena.start_all(&["phone"]).await;
    arena.simulator.set_rules(&json!([
        {"address": "+38591*", "status": 503}, {"address": "+38592*", "status": 404, "code": 21211},
    ]));
    failed(&arena, &api, "busy", &numbers("+38591", 20)).await;
    let stopped = failed(&arena, &api, "stopped", &numbers("+385919", 2)).await;
    failed(&arena, &api, "wrong", &numbers("+38592", 3)).await;
    // Somebody confirms: nobody needs to be called any more.
    assert_eq!(api.ask("POST", "/v1/processes/stopped/stop", None).status, 200, "nothing is left to stop");

    let groups = api.get("/v1/failures");
    let seen: Vec<_> = groups["groups"].as_array().unwrap().iter().map(|g| g["count"].as_i64().unwrap()).collect();
    assert_eq!((seen, &groups["complete"]), (vec![22, 3], &json!(true)), "{groups}");
    let busy = &groups["groups"][0];
    assert_eq!((&busy["channel"], busy["examples"].as_array().unwrap().len()), (&json!("phone"), 5));
    assert!(busy["cause"].as_str().unwrap().contains("503"), "{busy}");
    assert_eq!(api.get("/v1/failures?channel=sms")["groups"], json!([]));

    arena.simulator.set_rules(&json!([]));
    let filter = json!({"channel": "phone", "cause": busy["cause"], "dry-run": true, "limit": 1_000, "per-second": 10});
    let dry = api.ask("POST", "/v1/failures/retry", Some(&filter)).json();
    assert_eq!((&dry["retried"], &dry["left-alone"], &dry["dry-run"]), (&json!(20), &json!(2), &json!(true)), "{dry}");
    assert_eq!(arena.states().await["failed"], 25, "a dry run changes nothing");
    let mut wet = filter.clone();
    wet["dry-run"] = false.into();
    let retried: Vec<i64> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| api.ask("POST", "/v1/failures/retry", Some(&wet)).json()["retried"].as_i64().unwrap())
            })
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(retried.iter().sum::<i64>(), 20, "who asks three times sends once: {retried:?}");
    arena.notifications_in("delivered", 20, 30).await;
    let spread = "SELECT round(extract(epoch FROM max(due) - min(due)) * 10)::bigint
                  FROM (SELECT retried_at AS due FROM notification WHERE retried_at IS NOT NULL) x";
    if retried.contains(&20) {
        assert_eq!(arena.database.count(spread).await, 19, "ten a second");
    }
    let of_each = "SELECT count(*) FROM (SELECT FROM attempt WHERE outcome = 'delivered' GROUP BY notification_id
                   HAVING count(*) > 1) twice";
    assert_eq!(arena.database.count(of_each).await, 0);
    assert_eq!(arena.simulator.called().len(), 25 + 20);

    // One by one it can be done all the same.
    assert_eq!(api.ask("POST", &format!("/v1/notifications/{}/retry", stopped[0]), None).status, 200);
    arena.notifications_in("delivered", 21, 20).await;
    let early = json!({"until": "2020-01-01T00:00:00Z", "process-id": "wrong"});
    assert_eq!(api.ask("POST", "/v1/failures/retry", Some(&early)).json()["retried"], 0);
}

#[tokio::test]
async fn what_is_given_up_waits_for_nobody_and_says_who_gave_it_up() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _programs = arena.start_all(&["phone"]).await;
    arena.simulator.set_rules(&json!([{"address": "*", "status": 404, "code": 21211}]));
    let id = failed(&arena, &api, "r", &numbers("+38592", 1)).await[0];
    let give_up = format!("/v1/notifications/{id}/give-up");
    let given_up = api.ask("POST", &give_up, None);
    assert_eq!((given_up.status, &given_up.json()["given-up"]), (200, &json!(true)), "{given_up:?}");
    assert_eq!(api.ask("POST", &give_up, None).status, 409);
    assert_eq!(api.get("/v1/failures")["groups"], json!([]));
    let (answer, sentence) = api.explain(id);
    assert!(answer == "not-sent" && sentence.contains("(the admin) gave it up at "), "{sentence}");
    let all = api.ask("POST", "/v1/failures/retry", Some(&json!({})));
    assert_eq!(all.json()["retried"], 0);
    arena.simulator.set_rules(&json!([]));
    assert_eq!(
        api.ask("POST", &format!("/v1/notifications/{id}/retry"), None).status,
        200,
        "one may change one's mind"
    );
    arena.notifications_in("delivered", 1, 20).await;
    let (_, sentence) = api.explain(id);
    assert!(sentence.starts_with("Accepted by the provider at "), "{sentence}");
}

#[tokio::test]
async fn killed_after_a_retry_and_asked_again_it_is_sent_once() {
    let arena = Arena::new().await;
    let programs = arena.start_all(&["phone"]).await;
    let mut checker = Checker::new(&arena);
    arena.simulator.set_rules(&json!([{"address": "*", "status": 503, "times": 1}]));
    checker.start_with("r", -1, 1, &json!({"max-attempts": 1}));
    arena.notifications_in("failed", 1, 20).await;
    let api = arena.start_api_with(&[("TOCSIN_FAILPOINTS", "api.retried=kill")]).await;
    let id = arena.database.count("SELECT id FROM notification").await;
    let retry = format!("/v1/notifications/{id}/retry");
    let headers = [("authorization", format!("Bearer {}", api.key))];
    assert!(api.try_ask("POST", &retry, &headers, None).is_err());
    api.program.killed().await;
    let api = arena.start_api().await;
    assert_eq!(api.ask("POST", &retry, None).status, 409);
    let verdict = checker.settled(30).await;
    assert_eq!(verdict, Verdict { delivered: 1, calls: 2, ..Verdict::default() });
    drop(programs);
}
