//! What people do with schedules over the API.

use serde_json::{Value, json};
use testkit::{Answer, Arena};

use crate::schedules::{calls, make, now};

fn daily(name: &str) -> Value {
    let line = json!({"cron": "0 9 * * MON-FRI", "time-zone": "Europe/Zagreb"});
    json!({"name": name, "lines": [line], "request": calls("{{ schedule.name }}-{{ occurrence }}")})
}

#[track_caller]
fn refused(answer: &Answer, field: &str, words: &str) {
    assert_eq!(answer.status, 422, "{answer:?}");
    let errors = answer.json()["errors"].clone();
    let named = errors
        .as_array()
        .unwrap()
        .iter()
        .any(|error| error["field"] == field && error["message"].as_str().unwrap().contains(words));
    assert!(named, "{field}: {words}: {errors}");
}

#[tokio::test]
async fn a_schedule_is_made_shown_listed_changed_and_deleted_and_each_change_is_in_the_audit() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let body = json!({"owner": "ops", "external-id": "42", "until": "2100-01-01T00:00:00Z"});
    let mut body = [daily("daily"), body].into_iter().fold(json!({}), |mut all, part| {
        all.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        all
    });
    let id = make(&api, &body);
    let path = format!("/v1/schedules/{id}");
    let shown = api.get(&path);
    assert_eq!(shown["lines"], body["lines"]);
    assert_eq!(shown["request"], body["request"]);
    assert_eq!((shown["missed"].as_str(), shown["overlap"].as_str()), (Some("last"), Some("allow")));
    let occurrences = shown["occurrences"].as_array().unwrap();
    assert_eq!(occurrences.len(), 10);
    assert_eq!(occurrences[0], shown["next-at"]);
    for at in occurrences {
        let at: jiff::Timestamp = at.as_str().unwrap().parse().unwrap();
        assert!(matches!(at.strftime("%H:%M:%S").to_string().as_str(), "07:00:00" | "08:00:00"), "{at}");
    }
    assert_eq!(api.get("/v1/schedules?owner=ops&external-id=42&name=daily")["items"][0]["id"], id);
    assert_eq!(api.get("/v1/schedules?owner=nobody")["items"], json!([]));

    refused(&api.ask("POST", "/v1/schedules", Some(&daily("daily"))), "name", "of another schedule");
    body["lines"] = json!([{"cron": "@every 90s"}]);
    let edited = api.ask("PUT", &path, Some(&body));
    assert_eq!((edited.status, edited.json()["from"] == shown["from"]), (200, true), "{edited:?}");
    assert_eq!(api.ask("POST", &format!("{path}/pause"), None).json()["next-at"], Value::Null);
    assert_eq!(api.ask("POST", &format!("{path}/pause"), None).status, 200, "as it is already");
    assert_eq!(api.get(&path)["occurrences"].as_array().unwrap().len(), 10, "those that there would be");
    assert!(api.ask("POST", &format!("{path}/resume"), None).json()["next-at"].is_string());
    assert_eq!(api.ask("DELETE", &path, None).status, 204);
    for (method, path) in [("GET", path.clone()), ("DELETE", path.clone()), ("POST", format!("{path}/trigger"))] {
        assert_eq!(api.ask(method, &path, None).status, 404, "{method} {path}");
    }
    make(&api, &daily("daily"));
    let audit = api.get(&format!("/v1/audit?object=schedule%20{id}"));
    let actions: Vec<_> =
        audit["items"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    let expected = ["schedule.delete", "schedule.resume", "schedule.pause", "schedule.edit", "schedule.create"];
    assert_eq!(actions, expected);
    assert!(!audit.to_string().contains("+385"), "no addresses: {audit}");
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_is_named() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let at = now(&arena).await;
    for (key, value, field, words) in [
        ("lines", json!([{"cron": "0 25 * * *"}]), "lines[0].cron", "hours: \"25\" must be of 0 to 23"),
        ("lines", json!([{"cron": "@daily", "time-zone": "Mars"}]), "lines[0].time-zone", "name of a time zone"),
        ("overlap", json!("queue"), "overlap", "allow, skip or stop"),
        ("until", json!(at - 5), "until", "nothing that is still to come"),
        ("colour", json!("red"), "colour", "is not known here"),
        ("request", json!({"process-id": "{{ nobody }}"}), "request.process-id", "undefined value"),
        ("request", json!({"process-id": "p"}), "request.notifications", "is required"),
        (
            "request",
            json!({"process-id": "p", "notifications": [{"channel": "phone", "in": 0, "phone-number": "{{ 1 }}"}]}),
            "request.notifications[0].phone-number",
            "E.164",
        ),
    ] {
        let mut body = daily("daily");
        body[key] = value;
        refused(&api.ask("POST", "/v1/schedules", Some(&body)), field, words);
    }
    assert_eq!(arena.database.count("SELECT count(*) FROM schedule").await, 0);
}

#[tokio::test]
async fn what_each_role_may_do_with_schedules() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let id = make(&api, &daily("daily"));
    let path = format!("/v1/schedules/{id}");
    let (send, read, operate) =
        (arena.make_key("send").await, arena.make_key("read").await, arena.make_key("operate").await);
    assert_eq!(api.ask_as(&send, "GET", "/v1/schedules", None).status, 403);
    assert_eq!(api.ask_as(&send, "GET", "/v1/leases", None).status, 403);
    assert_eq!(api.ask_as(&read, "GET", "/v1/leases", None).status, 200);
    let seen = api.ask_as(&read, "GET", &path, None);
    assert_eq!((seen.status, seen.text.contains("+385")), (200, false), "a key of role read sees no addresses");
    for (method, path, body) in [
        ("POST", "/v1/schedules".to_owned(), Some(daily("other"))),
        ("PUT", path.clone(), Some(daily("daily"))),
        ("POST", format!("{path}/pause"), None),
        ("POST", format!("{path}/resume"), None),
        ("POST", format!("{path}/trigger"), None),
        (
            "POST",
            format!("{path}/backfill"),
            Some(json!({"from": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"})),
        ),
        ("DELETE", path.clone(), None),
    ] {
        assert_eq!(api.ask_as(&read, method, &path, body.as_ref()).status, 403, "{method} {path}");
        let done = api.ask_as(&operate, method, &path, body.as_ref());
        assert!((200..300).contains(&done.status), "{method} {path}: {done:?}");
    }
}

#[tokio::test]
async fn trigger_and_backfill_start_what_they_name_once() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let minute = (now(&arena).await / 60 + 30) % 60;
    let mut body = daily("hourly");
    body["lines"] = json!([{"cron": format!("{minute} * * * *")}]);
    body["missed"] = json!("none");
    let id = make(&api, &body);
    let path = format!("/v1/schedules/{id}");
    assert_eq!(api.ask("POST", &format!("{path}/pause"), None).status, 200);

    let started = api.ask("POST", &format!("{path}/trigger"), None).json();
    assert_eq!((started["is-new"].as_bool(), started["request"]["outcome"].as_str()), (Some(true), Some("accepted")));
    assert_eq!(started["request"]["source"], format!("schedule:{id}"));
    // A process of another name: it is called after the second.
    arena.database.shift_time("2 seconds").await;
    let once = [
        ("authorization", format!("Bearer {}", api.key)),
        ("content-type", "application/json".to_owned()),
        ("idempotency-key", "a".to_owned()),
    ];
    let again: Vec<_> = (0..2)
        .map(|_| api.ask_with("POST", &format!("{path}/trigger"), &once, None).json()["request"]["id"].clone())
        .collect();
    assert_eq!(again[0], again[1], "an order that is sent again");

    let from = jiff::Timestamp::from_second(now(&arena).await).unwrap().to_string();
    arena.database.shift_time("4 hours").await;
    let until = jiff::Timestamp::from_second(now(&arena).await).unwrap().to_string();
    let range = json!({"from": from, "until": until});
    let backfill = |range: &Value| api.ask("POST", &format!("{path}/backfill"), Some(range));
    for is_new in [true, false] {
        let made = backfill(&range).json();
        let made = made.as_array().unwrap();
        assert_eq!(made.len(), 4);
        assert!(made.iter().all(|one| one["is-new"] == is_new && one["request"]["outcome"] == "accepted"), "{made:?}");
    }
    refused(&backfill(&json!({"from": from, "until": "2100-01-01T00:00:00Z"})), "until", "must not be after now");
    refused(&backfill(&json!({"from": until, "until": from})), "until", "must be after from");
    refused(&backfill(&json!({"from": "yesterday", "until": until})), "from", "must be RFC 3339");
    let count = "SELECT count(*) FROM request WHERE outcome = 'accepted'";
    assert_eq!(arena.database.count(count).await, 1 + 1 + 4);
    let actions = "SELECT action FROM audit WHERE action IN ('schedule.trigger', 'schedule.backfill') ORDER BY id";
    assert_eq!(arena.database.texts(actions).await.len(), 1 + 2 + 2, "each order is in the audit");

    // What it has backfilled the activator does not start again.
    assert_eq!(api.ask("POST", &format!("{path}/resume"), None).status, 200);
    let _activator = arena.start("activator").await;
    arena.notifications_in("queued", 6, 30).await;
    assert_eq!(arena.database.count(count).await, 6);
}

#[tokio::test]
async fn status_says_when_schedules_start_nothing() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let problems = || api.get("/v1/status")["problems"].to_string();
    assert!(!problems().contains("schedule"), "{}", problems());
    make(&api, &daily("daily"));
    assert!(problems().contains("nobody holds the lease scheduler, so 1 schedules start nothing"), "{}", problems());
    let activator = arena.start("activator").await;
    let told = testkit::wait_for("the lease", std::time::Duration::from_secs(20), || async {
        let status = api.get("/v1/status");
        (status["leases"][0]["is-held"] == true).then_some(status)
    })
    .await;
    assert_eq!((told["schedules"].as_i64(), told["schedules-overdue"].as_i64()), (Some(1), Some(0)));
    assert!(told["leases"][0]["holder"].as_str().unwrap().starts_with("activator/"), "{told}");
    assert!(!problems().contains("schedule"), "{}", problems());
    activator.signal(testkit::Signal::STOP);
    arena.database.shift_time("4 days").await;
    assert!(problems().contains("nobody holds the lease"), "{}", problems());
    arena.database.execute("UPDATE lease SET expires_at = tocsin_now() + interval '1 hour'").await;
    assert!(problems().contains("1 schedules are overdue"), "{}", problems());
}

#[tokio::test]
async fn the_last_failures_of_a_schedule_stand_with_it() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _programs = arena.start_all(&["phone"]).await;
    let bad = |address: &str| json!({"address": address, "status": 400, "code": 21211});
    arena.simulator.set_rules(&json!([bad("+3851*"), bad("+3852*")]));
    // From tomorrow on it can't be filled in.
    let at = now(&arena).await;
    let number = format!("{{% if occurrence < {} %}}+3851{{{{ occurrence }}}}{{% endif %}}", at + 86_400);
    let call = json!({"channel": "phone", "in": 0, "phone-number": number});
    let request = json!({"process-id": "{{ schedule.name }}", "notifications": [call]});
    let yearly = json!([{"cron": "0 0 1 1 *"}]);
    let schedule = json!({"name": "yearly", "lines": [{"cron": "@every 1h"}], "from": at, "request": request});
    let path = format!("/v1/schedules/{}", make(&api, &schedule));
    assert_eq!(api.get(&path)["failures"], Value::Null, "there are none");
    let mut other = schedule.clone();
    other["name"] = "other".into();
    other["lines"] = yearly;
    other["request"]["notifications"][0]["phone-number"] = "+38520000000".into();
    let other = format!("/v1/schedules/{}", make(&api, &other));
    assert_eq!(api.ask("POST", &format!("{other}/trigger"), None).status, 200);
    arena.notifications_in("failed", 1, 20).await;
    for n in 2..=7 {
        assert_eq!(api.ask("POST", &format!("{path}/trigger"), None).status, 200);
        arena.notifications_in("failed", n, 20).await;
    }
    let given_up = api.get("/v1/notifications?process-id=yearly&limit=1")["items"][0]["id"].as_i64().unwrap();
    assert_eq!(api.ask("POST", &format!("/v1/notifications/{given_up}/give-up"), None).status, 200);
    // Or it starts what it missed in these days by itself, and that is refused as well.
    assert_eq!(api.ask("POST", &format!("{path}/pause"), None).status, 200);
    arena.database.shift_time("2 days").await;
    assert_eq!(api.ask("POST", &format!("{path}/trigger"), None).json()["request"]["outcome"], "rejected");

    let failures = api.get(&path)["failures"].as_array().unwrap().clone();
    assert_eq!(failures.len(), 5, "{failures:?}");
    assert_eq!((&failures[0]["notification"], &failures[0]["process-id"]), (&Value::Null, &json!("yearly")));
    assert!(
        failures[0]["reason"].as_str().unwrap().starts_with("notifications[0].phone-number: must be"),
        "{failures:?}"
    );
    let requests = format!("/v1/requests/{}", failures[0]["request"]);
    assert_eq!(api.get(&requests)["outcome"], "rejected");
    for (n, failure) in failures[1..].iter().enumerate() {
        let id = given_up - 1 - i64::try_from(n).unwrap();
        assert_eq!((&failure["notification"], &failure["channel"]), (&json!(id), &json!("phone")), "the newest first");
        assert_eq!(failure["process-id"], "yearly");
        assert!(failure["reason"].as_str().unwrap().contains("21211"), "{failure}");
        let notification = api.get(&format!("/v1/notifications/{id}"));
        assert_eq!((&notification["request"], &notification["finished-at"]), (&failure["request"], &failure["at"]));
    }
    let of_other = api.get(&other)["failures"].clone();
    assert_eq!((of_other.as_array().unwrap().len(), &of_other[0]["process-id"]), (1, &json!("other")), "{of_other}");
    assert_eq!(api.get("/v1/schedules")["items"][0]["failures"], Value::Null);
}
