//! The API of Call Me, as programs written for it use it, and what it leaves alone.

use serde_json::{Value, json};
use testkit::{Answer, Api, Arena};

use crate::{schedules::now, sns::Topic};

const ARN: &str = "arn:aws:sns:us-east-1:000000000000:nobody";

const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// As Call Me's clients ask: without a key.
fn ask(api: &Api, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let body = body.map(ToString::to_string);
    api.ask_with(method, &format!("/compat/callme{path}"), &[], body.as_deref())
}

async fn open(arena: &Arena) -> Api {
    arena.start_api_with(&[("TOCSIN_API__COMPAT", "anonymous")]).await
}

#[track_caller]
fn refused(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{words}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    let said = answer.json();
    assert_eq!(said.as_object().unwrap().len(), 1, "{said}");
    assert!(said["err"].as_str().unwrap().contains(words), "{words}: {said}");
}

#[track_caller]
fn nothing_to_do(answer: &Answer) {
    assert_eq!((answer.status, answer.text.as_str()), (304, ""), "{answer:?}");
}

fn at(second: i64) -> String {
    format!("{:.3}", jiff::Timestamp::from_second(second).unwrap())
}

#[tokio::test]
async fn it_is_off_unless_a_setting_says_otherwise() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let job = json!({"when": "2030-01-01T00:00:00Z", "arn": ARN, "payload": "x"});
    for (method, path) in [("POST", "/job"), ("GET", "/job/1"), ("POST", "/schedule"), ("GET", "/schedule/1")] {
        assert_eq!(ask(&api, method, path, Some(&job)).status, 401);
        let with_key = api.ask(method, &format!("/compat/callme{path}"), Some(&job));
        assert_eq!(with_key.status, 404, "{with_key:?}");
    }
    let wrong = arena.run_with("api", &["--check-config"], &[("TOCSIN_API__COMPAT", "on")]).await;
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned() + &String::from_utf8_lossy(&wrong.stdout);
    assert!(wrong.status.code() == Some(64) && said.contains("must be off or key or anonymous"), "{wrong:?}");
    assert_eq!(arena.database.count("SELECT count(*) FROM request").await, 0);
}

#[tokio::test]
async fn a_job_reaches_its_topic_and_shows_what_sns_answered() {
    let arena = Arena::new().await;
    let api = open(&arena).await;
    let topic = Topic::create(&arena, "jobs", true);
    let second = now(&arena).await - 5;
    let made =
        ask(&api, "POST", "/job/", Some(&json!({"when": at(second), "arn": topic.arn, "payload": {"order": [7]}})));
    assert_eq!(made.status, 201, "{made:?}");
    let job = made.json();
    let id = job["jobId"].as_i64().unwrap();
    let expected =
        json!({"jobId": id, "scheduleId": null, "when": at(second), "arn": topic.arn, "payload": {"order": [7]}});
    assert_eq!(job, expected);
    let before = ask(&api, "GET", &format!("/job/{id}"), None).json();
    let none = json!({"jobResponseId": 0, "jobId": 0, "time": NO_TIME, "response": "", "isError": false, "error": ""});
    assert_eq!(before, json!({"job": job, "response": none, "hasJobResponse": false}));

    let _programs = arena.start_all(&["sns"]).await;
    arena.notifications_in("delivered", 1, 30).await;
    assert_eq!(topic.receive(1).await[0]["Body"], r#"{"order":[7]}"#);
    let after = ask(&api, "GET", &format!("/job/{id}"), None).json();
    assert_eq!((&after["job"], &after["hasJobResponse"]), (&job, &json!(true)));
    let response = &after["response"];
    let message_id = arena.database.texts("SELECT provider_id FROM attempt").await.remove(0);
    assert_eq!(response["response"], message_id);
    assert_eq!((&response["isError"], &response["error"], &response["jobId"]), (&json!(false), &json!(""), &json!(id)));
    assert!(response["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second() >= second);
    nothing_to_do(&ask(&api, "POST", &format!("/job/{id}/delete"), None));

    let missing = topic.arn.replace("-jobs", "-missing");
    let failing = ask(&api, "POST", "/job", Some(&json!({"when": at(second), "arn": missing, "payload": "x"}))).json();
    arena.notifications_in("failed", 1, 30).await;
    let failed = ask(&api, "GET", &format!("/job/{}", failing["jobId"]), None).json();
    assert_eq!((&failed["hasJobResponse"], &failed["response"]["isError"]), (&json!(true), &json!(true)));
    assert!(failed["response"]["error"].as_str().unwrap().contains("NotFound"), "{failed}");
}

#[tokio::test]
async fn a_job_that_is_deleted_is_not_sent_and_only_jobs_of_its_own_are_seen() {
    let arena = Arena::new().await;
    let api = open(&arena).await;
    let job = json!({"when": at(now(&arena).await + 3_600), "arn": ARN, "payload": "x"});
    let id = ask(&api, "POST", "/job", Some(&job)).json()["jobId"].as_i64().unwrap();
    let done = ask(&api, "POST", &format!("/job/{id}/delete"), Some(&json!({})));
    assert_eq!((done.status, done.json()), (200, json!({"ok": true})));
    assert_eq!(arena.states().await, [("cancelled".to_owned(), 1)].into());
    nothing_to_do(&ask(&api, "POST", &format!("/job/{id}/delete"), None));
    nothing_to_do(&ask(&api, "POST", "/job/987654321/delete", None));
    assert_eq!(ask(&api, "GET", &format!("/job/{id}"), None).json()["hasJobResponse"], false);

    let sns = json!({"channel": "sns", "at": 4_102_444_800_i64, "topic-arn": ARN, "payload": "x"});
    let other =
        api.ask("POST", "/v1/requests", Some(&json!({"process-id": "p", "action": "start", "notifications": [sns]})));
    let other = other.json()["notifications"][0].as_i64().unwrap();
    refused(&ask(&api, "GET", &format!("/job/{other}"), None), 404, &format!("there is no job {other}"));
    nothing_to_do(&ask(&api, "POST", &format!("/job/{other}/delete"), None));
    assert_eq!(arena.states().await["scheduled"], 1, "it is none of its own");

    let sources =
        arena.database.texts("SELECT DISTINCT source FROM request WHERE process_name LIKE 'callme-job-%'").await;
    assert_eq!(sources, ["api:anonymous"]);
}

#[tokio::test]
async fn what_is_wrong_is_named_as_it_was_sent() {
    let arena = Arena::new().await;
    let api = open(&arena).await;
    let job = |key: &str, value: Value| {
        let mut body = json!({"when": "2030-01-01T00:00:00Z", "arn": ARN, "payload": "x"});
        body[key] = value;
        ask(&api, "POST", "/job", Some(&body))
    };
    refused(&ask(&api, "POST", "/job", Some(&json!({}))), 422, "when: is required; arn: is required");
    refused(&job("when", "tomorrow".into()), 422, "when: must be whole seconds since 1970, or RFC 3339");
    refused(&job("arn", "example.com".into()), 422, "arn: must be the ARN of an SNS topic");
    refused(&job("payload", Value::Null), 422, "payload: must be a text or other JSON, is null");
    refused(&job("jobId", 5.into()), 422, "jobId: must not be given");
    refused(&job("colour", "red".into()), 422, "colour: is not known here");
    let schedule = |key: &str, value: Value| {
        let mut body = json!({"arn": ARN, "payload": "x", "crontabs": ["@daily"], "externalId": "7", "by": "shop"});
        body[key] = value;
        ask(&api, "POST", "/schedule", Some(&body))
    };
    refused(&ask(&api, "POST", "/schedule", Some(&json!({}))), 422, "crontabs: is required");
    refused(&schedule("crontabs", json!([])), 422, "crontabs: must have 1 to 20 lines, has 0");
    refused(
        &schedule("crontabs", json!(["@daily", "0 25 * * *"])),
        422,
        "crontabs[1]: hours: \"25\" must be of 0 to 23",
    );
    refused(&schedule("crontabs", json!(["TZ=Mars 0 5 * * *"])), 422, "crontabs[0]: must be the name of a time zone");
    refused(&schedule("from", "soon".into()), 422, "from: must be");
    refused(&schedule("arn", "{{ schedule.name }}".into()), 422, "arn: must be the ARN of an SNS topic");
    refused(&schedule("by", 5.into()), 422, "by: must be a string");
    refused(&schedule("externalId", "a".repeat(256).into()), 422, "externalId: must be 1 to 255 characters");

    let post = |path: &str, body: &str| api.ask_with("POST", &format!("/compat/callme{path}"), &[], Some(body));
    for path in ["/job", "/schedule"] {
        refused(&post(path, "_not_json_"), 400, "must be JSON");
        refused(&post(path, "[1]"), 400, "must be a JSON object");
        refused(&post(path, &" ".repeat(1024 * 1024 + 1)), 413, "length limit");
        let page = [("origin", "http://example.org".to_owned())];
        let from_a_page = api.ask_with("POST", &format!("/compat/callme{path}"), &page, Some("{}"));
        refused(&from_a_page, 403, "a page in a browser has sent this");
    }
    for (method, path) in
        [("GET", "/job/x"), ("POST", "/job/x/delete"), ("GET", "/schedule/x"), ("POST", "/schedule/x/deactivate")]
    {
        refused(&ask(&api, method, path, None), 400, "id: must be a whole number");
    }
    refused(&ask(&api, "GET", "/job/987654321", None), 404, "there is no job 987654321");
    refused(&ask(&api, "GET", "/schedule/987654321", None), 404, "there is no schedule 987654321");
    refused(&ask(&api, "GET", "/jobs", None), 404, "nothing is served there");
    refused(&ask(&api, "DELETE", "/job/1", None), 405, "docs/CALLME.md says what can");
    let kept = "SELECT count(*) FROM request WHERE outcome = 'rejected'";
    assert_eq!(arena.database.count(kept).await, 4, "what reached the requests is recorded");
    assert_eq!(arena.database.count("SELECT count(*) FROM notification").await, 0);
    assert_eq!(arena.database.count("SELECT count(*) FROM schedule").await, 0);
}

#[tokio::test]
async fn a_database_that_is_away_is_an_error_of_its_own() {
    let arena = Arena::with_own_postgres().await;
    let api = open(&arena).await;
    arena.postgres.as_ref().unwrap().stop_immediately();
    let job = json!({"when": "2030-01-01T00:00:00Z", "arn": ARN, "payload": "x"});
    refused(&ask(&api, "POST", "/job", Some(&job)), 500, "the database");
}

#[tokio::test]
async fn a_schedule_starts_jobs_until_it_is_deactivated() {
    let arena = Arena::new().await;
    let api = open(&arena).await;
    let topic = Topic::create(&arena, "ticks", true);
    let payload = json!({"note": "{{ schedule.name }} {% raw %}", "n": 1});
    let crontabs = json!(["* * * * * *", "TZ=Europe/Zagreb 0 9 * * MON-FRI"]);
    let from = now(&arena).await - 60;
    let body = json!({"from": at(from), "arn": topic.arn, "payload": payload, "crontabs": crontabs,
        "externalId": "42", "by": "shop"});
    let made = ask(&api, "POST", "/schedule/", Some(&body));
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.json()["scheduleId"].as_i64().unwrap();
    let mut expected = body.clone();
    expected["scheduleId"] = id.into();
    assert_eq!(made.json(), expected);
    let record = &api.get("/v1/schedules?owner=shop&external-id=42")["items"][0];
    assert_eq!((&record["id"], &record["from"]), (&json!(id), &json!(at(from))));

    let _programs = arena.start_all(&["sns"]).await;
    let delivered = "SELECT count(*) > 1 FROM notification WHERE state = 'delivered'";
    arena.counted(&format!("SELECT ({delivered})::int::bigint"), 1, 30).await;
    let message = topic.receive(1).await.remove(0);
    assert_eq!(serde_json::from_str::<Value>(message["Body"].as_str().unwrap()).unwrap(), payload, "it is no template");
    let job = arena.database.count("SELECT min(id) FROM notification").await;
    let job = ask(&api, "GET", &format!("/job/{job}"), None).json();
    assert_eq!((&job["job"]["scheduleId"], &job["job"]["payload"]), (&json!(id), &payload), "{job}");

    let path = format!("/schedule/{id}");
    let shown = ask(&api, "GET", &path, None).json();
    let schedule = &shown["schedule"];
    assert_eq!((&schedule["active"], &schedule["deactivatedDate"]), (&json!(true), &json!(NO_TIME)));
    assert_eq!((&schedule["arn"], &schedule["payload"]), (&json!(topic.arn), &payload));
    assert_eq!((&schedule["externalId"], &schedule["by"]), (&json!("42"), &json!("shop")));
    for (n, crontab) in shown["crontabs"].as_array().unwrap().iter().enumerate() {
        assert_eq!((&crontab["crontabId"], &crontab["crontab"]), (&json!(n + 1), &crontabs[n]));
        assert!(crontab["next"].as_str().unwrap() > crontab["previous"].as_str().unwrap(), "{shown}");
    }

    let done = ask(&api, "POST", &format!("{path}/deactivate"), Some(&json!({})));
    assert_eq!((done.status, done.json()), (200, json!({"ok": true})));
    nothing_to_do(&ask(&api, "POST", &format!("{path}/deactivate"), None));
    nothing_to_do(&ask(&api, "POST", "/schedule/987654321/deactivate", None));
    let shown = ask(&api, "GET", &path, None).json();
    assert_eq!(shown["schedule"]["active"], false);
    assert_ne!(shown["schedule"]["deactivatedDate"], NO_TIME);
    assert_eq!(shown["crontabs"][0]["next"], NO_TIME);
    assert_eq!(api.ask("GET", &format!("/v1/schedules/{id}"), None).status, 404, "it is gone as /v1 has it");
    let actors = arena.database.texts("SELECT actor || ' ' || action FROM audit WHERE object LIKE 'schedule %'").await;
    let anonymous = "anonymous (/compat/callme)";
    assert_eq!(actors, [format!("{anonymous} schedule.create"), format!("{anonymous} schedule.delete")]);

    let other = json!({"name": "other", "lines": [{"cron": "@daily"}], "request": {"process-id": "p", "notifications": [
        {"channel": "sns", "in": 0, "topic-arn": ARN, "payload": "x"}]}});
    let other = crate::schedules::make(&api, &other);
    refused(&ask(&api, "GET", &format!("/schedule/{other}"), None), 404, "there is no schedule");
    nothing_to_do(&ask(&api, "POST", &format!("/schedule/{other}/deactivate"), None));
    assert_eq!(api.ask("GET", &format!("/v1/schedules/{other}"), None).status, 200);
}

#[tokio::test]
async fn with_a_key_each_role_may_do_what_it_may_elsewhere() {
    let arena = Arena::new().await;
    let api = arena.start_api_with(&[("TOCSIN_API__COMPAT", "key")]).await;
    let job = json!({"when": "2030-01-01T00:00:00Z", "arn": ARN, "payload": "x"});
    refused(&ask(&api, "POST", "/job", Some(&job)), 401, "send your key in a header");
    refused(&ask(&api, "GET", "/nothing", None), 401, "send your key in a header");
    let (send, read, operate) =
        (arena.make_key("send").await, arena.make_key("read").await, arena.make_key("operate").await);
    let ask = |key: &str, method: &str, path: &str, body: Option<&Value>| {
        api.ask_as(key, method, &format!("/compat/callme{path}"), body)
    };
    let made = ask(&send, "POST", "/job", Some(&job));
    assert_eq!((made.status, &made.json()["arn"]), (201, &json!(ARN)), "{made:?}");
    let path = format!("/job/{}", made.json()["jobId"]);
    refused(&ask(&send, "GET", &path, None), 403, "a key of role send may not see how things are");
    let seen = ask(&read, "GET", &path, None);
    assert_eq!((seen.status, &seen.json()["job"]["arn"]), (200, &Value::Null), "{seen:?}");
    refused(&ask(&read, "POST", "/job", Some(&job)), 403, "may not send requests");
    refused(&ask(&read, "POST", &format!("{path}/delete"), None), 403, "that takes role operate");
    assert_eq!(ask(&operate, "GET", &path, None).json()["job"]["payload"], "x");
    assert_eq!(ask(&operate, "POST", &format!("{path}/delete"), None).status, 200);
    let schedule = json!({"arn": ARN, "payload": "x", "crontabs": ["@daily"]});
    refused(&ask(&read, "POST", "/schedule", Some(&schedule)), 403, "that takes role operate");
    let made = ask(&operate, "POST", "/schedule", Some(&schedule));
    assert_eq!(made.status, 201, "{made:?}");
    let path = format!("/schedule/{}", made.json()["scheduleId"]);
    assert_eq!(ask(&read, "GET", &path, None).json()["schedule"]["payload"], Value::Null);
    refused(&ask(&read, "POST", &format!("{path}/deactivate"), None), 403, "that takes role operate");
    assert_eq!(ask(&operate, "POST", &format!("{path}/deactivate"), None).status, 200);
    let prefix = send.split('_').nth(1).unwrap();
    let sources = arena.database.texts("SELECT source FROM request WHERE action = 'start'").await;
    assert_eq!(sources, [format!("api:{prefix}")]);
}
