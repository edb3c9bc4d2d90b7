use std::time::Duration;

use domain::{Event, Notification, NotificationId, OnUnknown, Organisation, Outcome, State, after_attempt, transition};
use serde_json::json;
use store::{Publication, ReceivedRequest, Store};
use testkit::Database;

use crate::{claim_request, due_claim, fresh, insert, result};

const MAX_ATTEMPTS: u16 = 3;

/// Drives every state and event through the SQL and through the pure function, and compares.
#[tokio::test]
async fn the_sql_follows_the_transition_table() {
    let (database, store) = fresh().await;
    let mut compared = 0;
    for before in notifications() {
        for event in events(before.fence) {
            let expected = transition(&before, &event).unwrap_or(before);
            let id = put(&database, &before, &event).await;
            apply(&database, &store, id, &before, &event).await;
            let after = read(&database, id, &before).await;
            assert_eq!(after, expected, "{event:?} on {before:?}");
            database.execute("TRUNCATE notification, process, request, attempt CASCADE").await;
            compared += 1;
        }
    }
    assert!(compared > 600, "{compared} cases");
}

fn notifications() -> Vec<Notification> {
    let mut all = Vec::new();
    for state in State::ALL {
        for stop_requested in [false, true] {
            for attempts in [0, MAX_ATTEMPTS - 1] {
                for on_unknown in [OnUnknown::Retry, OnUnknown::Fail] {
                    if !stop_requested || matches!(state, State::Sending | State::Failed) {
                        let fence = 4;
                        let max_attempts = MAX_ATTEMPTS;
                        all.push(Notification { state, fence, stop_requested, attempts, max_attempts, on_unknown });
                    }
                }
            }
        }
    }
    all
}

fn events(fence: i64) -> Vec<Event> {
    let mut all = vec![Event::Publish, Event::PublishReturned, Event::ClaimExpired, Event::Stop, Event::Retry];
    for due in [false, true] {
        for expired in [false, true] {
            all.push(Event::Claim { due, expired });
        }
    }
    for fence in [fence - 1, fence] {
        all.push(Event::Release { fence });
        all.extend(Outcome::ALL.map(|outcome| Event::Record { fence, outcome }));
    }
    all
}

async fn put(database: &Database, n: &Notification, event: &Event) -> NotificationId {
    let past_or_future = |past: bool| if past { "now() - interval '1 s'" } else { "now() + interval '1 hour'" };
    let (due, expired) = match event {
        Event::Claim { due, expired } => (*due, *expired),
        _ => (true, false),
    };
    let is_final = n.state.is_final();
    let wakes = matches!(event, Event::Publish | Event::ClaimExpired);
    let id = insert(
        database,
        "p",
        "state, fence, stop_requested, attempts, on_unknown_fail, expires_at, wake_at, busy_until, finished_at,
         open_failure_at, claimed_at",
        &format!(
            "'{}', {}, {}, {}, {}, {}, {}, {}, {}, {}, now()",
            n.state,
            n.fence,
            n.stop_requested,
            n.attempts,
            n.on_unknown == OnUnknown::Fail,
            past_or_future(expired),
            if is_final { "NULL" } else { past_or_future(true) },
            if is_final { "NULL" } else { past_or_future(wakes) },
            if is_final { "now()" } else { "NULL" },
            if n.state == State::Failed { "now()" } else { "NULL" },
        ),
    )
    .await;
    let due = past_or_future(due);
    database.execute(&format!("UPDATE notification SET max_attempts = {MAX_ATTEMPTS}, due_at = {due}")).await;
    id
}

async fn apply(database: &Database, store: &Store, id: NotificationId, before: &Notification, event: &Event) {
    match *event {
        Event::Publish => {
            let batch = due_claim(store, &["phone"], 10, Duration::ZERO, &[]).await.unwrap();
            let published = matches!(before.state, State::Scheduled | State::Queued | State::Retrying);
            assert_eq!(batch.due.len(), usize::from(published));
            assert_eq!(batch.claims_run_out.len(), usize::from(before.state == State::Sending));
        }
        Event::PublishReturned => {
            let publication = publication(database, id, before.fence).await;
            store.publications_returned(&[publication], "no route").await.unwrap();
        }
        Event::Claim { .. } => {
            store.notifications_claim(claim_request(&[id], "worker")).await.unwrap();
        }
        Event::Record { fence, outcome } => {
            let attempts = before.attempts + u16::from(outcome.costs_an_attempt());
            let (state, _) = after_attempt(outcome, attempts, 1, before.max_attempts, before.on_unknown, None);
            store.attempts_record(&[result(id, i32::try_from(fence).unwrap(), outcome, state)]).await.unwrap();
        }
        Event::Release { fence } => {
            store.notifications_release(&[(id, i32::try_from(fence).unwrap())], Duration::ZERO).await.unwrap();
        }
        Event::ClaimExpired => {
            store.claims_expire(&[id]).await.unwrap();
        }
        Event::Retry => {
            let done = store.failure_retry(id, "maria").await.unwrap();
            assert_eq!(done == store::Repair::Done, before.state == State::Failed);
        }
        Event::Stop => {
            let request = wire::parse_request(json!({"process-id": "p", "action": "stop"}).to_string().as_bytes());
            let request =
                ReceivedRequest { message_id: "stop".to_owned(), body: Vec::new(), parsed: Ok(request.unwrap()) };
            store.requests_apply("queue", &Organisation::default(), &[request]).await.unwrap();
        }
    }
}

/// As if the activator had just taken it.
async fn publication(database: &Database, id: NotificationId, fence: i64) -> Publication {
    let busy_until = "SELECT to_json(coalesce(busy_until, now()) AT TIME ZONE 'UTC') #>> '{}' || 'Z' FROM notification";
    let busy_until = database.texts(busy_until).await.remove(0).parse().unwrap();
    Publication { id, fence: i32::try_from(fence).unwrap(), busy_until }
}

async fn read(database: &Database, id: NotificationId, before: &Notification) -> Notification {
    let row = database
        .texts(&format!(
            "SELECT concat_ws(' ', state, fence, stop_requested, attempts) FROM notification WHERE id = {id}"
        ))
        .await
        .remove(0);
    let words: Vec<&str> = row.split(' ').collect();
    Notification {
        state: words[0].parse().unwrap(),
        fence: words[1].parse().unwrap(),
        stop_requested: words[2] == "t",
        attempts: words[3].parse().unwrap(),
        ..*before
    }
}
