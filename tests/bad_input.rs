use std::{collections::HashMap, time::Duration};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use testkit::{Arena, Program};

use corpus::{Case, Expected};

#[path = "../shared/wire/tests/corpus/mod.rs"]
mod corpus;

/// A notification far off: what a stop of the corpus has to stop.
const LATER: i64 = 4_102_444_800;

/// Every body heads a message group of its own, with a good start behind it that must not be held up.
#[tokio::test]
async fn no_body_harms_another_request() {
    let arena = Arena::new().await;
    let programs = arena.start_all(&["phone", "console", "email", "pubnub"]).await;
    let cases: Vec<_> = corpus::all().into_iter().filter(|case| case.never_in_sqs.is_none()).collect();
    let messages: Vec<_> = cases.iter().enumerate().flat_map(|(n, case)| messages(n, case)).collect();
    let as_sent: Vec<_> = messages.iter().map(|(group, body)| (group.as_str(), body.as_str())).collect();
    arena.queue.send_all(&as_sent);

    let count = |length: usize| i64::try_from(length).unwrap();
    arena.counted("SELECT count(*) FROM request", count(messages.len()), 60).await;
    let behind = "SELECT count(*) FROM notification n JOIN process p ON p.id = n.process_id
                  WHERE p.name LIKE 'behind %' AND n.state = 'delivered'";
    arena.counted(behind, count(cases.len()), 20).await;
    let unsent = "SELECT count(*) FROM notification WHERE scheduled_at <= now() AND state <> 'delivered'";
    arena.counted(unsent, 0, 20).await;
    testkit::wait_for("an empty queue", Duration::from_secs(10), || async { (arena.queue.depth() == 0).then_some(()) })
        .await;

    let records = records(&arena).await;
    let wrong: Vec<_> = cases
        .iter()
        .filter_map(|case| {
            let record = records.get(&hash(&case.body)).unwrap_or(&Value::Null);
            (!is_right(case, record)).then(|| format!("{}: {:.500}", case.name, record.to_string()))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(arena.database.count("SELECT count(*) FROM dead_letter").await, 0);
    only_what_was_accepted_rang(&arena, &cases);
    all_went_on(&arena, &programs, &cases).await;
}

fn messages(n: usize, case: &Case) -> Vec<(String, String)> {
    let start = |process: &str, at: i64| {
        let notifications = json!([{"channel": "console", "at": at}]);
        json!({"process-id": process, "action": "start", "notifications": notifications}).to_string()
    };
    let started = match &case.expected {
        Expected::Stop(process) => Some(start(process, LATER)),
        Expected::Start(..) | Expected::Rejected(_) => None,
    };
    let body = String::from_utf8(case.body.clone()).unwrap();
    let bodies = started.into_iter().chain([body, start(&format!("behind {n}"), 0)]);
    bodies.map(|body| (format!("case-{n}"), body)).collect()
}

fn hash(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the database says of each request, by the hash of its body.
async fn records(arena: &Arena) -> HashMap<String, Value> {
    let rows = arena
        .database
        .texts(
            "SELECT jsonb_build_object(
                'hash', encode(sha256(r.body), 'hex'), 'outcome', r.outcome, 'action', r.action,
                'process', r.process_name, 'reasons', r.reasons, 'notifications', coalesce((
                    SELECT jsonb_agg(jsonb_build_object(
                        'channel', n.channel, 'at', floor(extract(epoch FROM n.scheduled_at)), 'address', c.address,
                        'options', c.options, 'max-attempts', n.max_attempts,
                        'max-age', extract(epoch FROM n.expires_at - greatest(n.scheduled_at, n.accepted_at))::bigint,
                        'on-unknown', CASE WHEN n.on_unknown_fail THEN 'fail' ELSE 'retry' END
                    ) ORDER BY n.id)
                    FROM notification n JOIN notification_content c ON c.notification_id = n.id
                    WHERE c.request_id = r.id
                ), '[]')
            )::text FROM request r",
        )
        .await;
    rows.iter()
        .map(|row| {
            let record: Value = serde_json::from_str(row).unwrap();
            (record["hash"].as_str().unwrap().to_owned(), record)
        })
        .collect()
}

fn is_right(case: &Case, record: &Value) -> bool {
    let made = record["notifications"].as_array().map_or(0, Vec::len);
    match &case.expected {
        Expected::Rejected(expected) => {
            let reasons = record["reasons"].as_array().map_or(&[][..], Vec::as_slice);
            let same = |((field, words), reason): (&(String, &str), &Value)| {
                reason["field"] == *field && reason["message"].as_str().is_some_and(|message| message.contains(words))
            };
            record["outcome"] == "rejected"
                && made == 0
                && reasons.len() == expected.len()
                && expected.iter().zip(reasons).all(same)
        }
        Expected::Start(count, first) => {
            record["outcome"] == "accepted"
                && record["action"] == "start"
                && made == *count
                && corpus::holds(&record["notifications"][0], first)
        }
        Expected::Stop(process) => {
            record["outcome"] == "accepted" && record["action"] == "stop" && record["process"] == *process && made == 0
        }
    }
}

fn only_what_was_accepted_rang(arena: &Arena, cases: &[Case]) {
    let mut numbers: Vec<_> = cases
        .iter()
        .filter_map(|case| match &case.expected {
            Expected::Start(_, first) => first["address"].as_str().filter(|address| address.starts_with('+')),
            Expected::Stop(_) | Expected::Rejected(_) => None,
        })
        .collect();
    let mut called = arena.simulator.called();
    called.retain(|address| address.starts_with('+'));
    numbers.sort_unstable();
    called.sort_unstable();
    assert_eq!(called, numbers);
}

async fn all_went_on(arena: &Arena, programs: &[Program], cases: &[Case]) {
    for program in programs {
        assert_eq!(program.get("/health/ready").await.0, 200);
    }
    // One that had started anew would have begun to count anew.
    let rejected = cases.iter().filter(|case| matches!(case.expected, Expected::Rejected(_))).count();
    let (_, metrics) = programs[0].get("/metrics").await;
    let line = format!("tocsin_requests_total{{outcome=\"rejected\"}} {rejected}");
    assert!(metrics.lines().any(|metric| metric == line), "{line}, not {metrics}");
    arena.start_calls("sentinel", -1, &["+385991111111"]);
    testkit::wait_for("the last call", Duration::from_secs(10), || async {
        arena.simulator.called().contains(&"+385991111111".to_owned()).then_some(())
    })
    .await;
}
