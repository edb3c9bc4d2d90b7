use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use domain::{NotificationId, Organisation, Outcome, State};
use jiff::Timestamp;
use serde_json::json;
use store::{AttemptResult, ClaimRequest, ReceivedRequest, Store};

use crate::{claim, claim_request, due_claim, fresh, insert, insert_queued, result, state};

async fn stop(store: &Store, process: &str) {
    let body = json!({"process-id": process, "action": "stop"}).to_string();
    let parsed = Ok(wire::parse_request(body.as_bytes()).unwrap());
    let request = ReceivedRequest { message_id: format!("stop {process}"), body: body.into(), parsed };
    store.requests_apply("queue", &Organisation::default(), &[request]).await.unwrap();
}

#[tokio::test]
async fn of_two_workers_one_gets_it() {
    let (database, store) = fresh().await;
    for n in 0..200 {
        let id = insert_queued(&database, &format!("p{n}")).await;
        let (a, b) = tokio::join!(claim(&store, id), claim(&store, id));
        assert!(a.is_some() != b.is_some());
    }
}

#[tokio::test]
async fn after_a_stop_has_committed_no_claim_succeeds() {
    let (database, store) = fresh().await;
    let mut claimed_first = 0;
    for n in 0..300 {
        let process = format!("p{n}");
        let id = insert_queued(&database, &process).await;
        let (claimed, ()) = tokio::join!(claim(&store, id), stop(&store, &process));
        let row = database
            .texts(&format!("SELECT state || ' ' || stop_requested FROM notification WHERE id = {id}"))
            .await
            .remove(0);
        let expected = if claimed.is_some() { "sending true" } else { "cancelled false" };
        assert_eq!(row, expected);
        claimed_first += usize::from(claimed.is_some());
        assert!(claim(&store, id).await.is_none(), "claimed after the stop");
    }
    assert!(claimed_first > 0, "the race never went the other way");
}

#[tokio::test]
async fn a_failed_call_that_races_with_a_stop_is_never_tried_again() {
    let (database, store) = fresh().await;
    for n in 0..300 {
        let process = format!("p{n}");
        let id = insert_queued(&database, &process).await;
        let fence = claim(&store, id).await.unwrap().fence;
        let failed = [result(id, fence, Outcome::Temporary, State::Retrying)];
        let (recorded, ()) = tokio::join!(store.attempts_record(&failed), stop(&store, &process));
        assert_eq!(recorded.unwrap().len(), 1);
        assert_eq!(state(&database, id).await, "cancelled");
    }
}

#[tokio::test]
async fn activators_share_the_work_and_take_nothing_twice() {
    let (database, store) = fresh().await;
    let id = insert(&database, "p", "expires_at, wake_at", "now() + interval '1 day', now() - interval '1 min'").await;
    database
        .execute(&format!(
            "INSERT INTO notification (process_id, organisation, channel, scheduled_at, due_at, accepted_at, max_attempts,
                 expires_at, wake_at)
             SELECT process_id, organisation, CASE WHEN g % 2 = 0 THEN 'phone' ELSE 'console' END, scheduled_at, due_at,
                 accepted_at, max_attempts, expires_at, wake_at
             FROM notification, generate_series(1, 1999) g WHERE id = {id}"
        ))
        .await;
    let mut taken = Vec::new();
    loop {
        let round = || due_claim(&store, &["phone", "console"], 100, Duration::from_secs(1), &[]);
        let (a, b, c) = tokio::join!(round(), round(), round());
        let found: Vec<_> = [a, b, c].into_iter().flat_map(|batch| batch.unwrap().due).collect();
        if found.is_empty() {
            break;
        }
        assert!(found.iter().filter(|due| due.channel == "phone").count() <= 300, "each channel has its own limit");
        taken.extend(found.into_iter().map(|due| due.publication.id));
    }
    assert_eq!(taken.len(), 2_000);
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 2_000);
}

#[tokio::test]
async fn a_batch_goes_on_behind_the_one_before_and_one_from_the_beginning_finds_the_rest() {
    let (database, store) = fresh().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let at = "now() + interval '1 day', 'scheduled', '2026-01-01T12:00:00Z'";
        ids.push(insert(&database, &format!("p{n}"), "expires_at, state, wake_at", at).await);
    }
    let mut after = BTreeMap::new();
    let mut taken = Vec::new();
    for expected in [2, 2, 1] {
        let batch = store.due_claim(&["console", "phone"], 2, Duration::ZERO, &[], &after).await.unwrap();
        assert_eq!(batch.due.len(), expected);
        taken.extend(batch.due.iter().map(|due| due.publication.id));
        let full = if expected == 2 { vec!["phone"] } else { vec![] };
        assert_eq!(batch.reached.keys().collect::<Vec<_>>(), full);
        assert!(batch.reached.values().all(|position| position.id == *taken.iter().max().unwrap()));
        if expected == 2 {
            after = batch.reached;
        }
    }
    taken.sort_unstable();
    assert_eq!(taken, ids);

    let sooner = "now() + interval '1 day', 'scheduled', '2025-01-01T12:00:00Z'";
    let sooner = insert(&database, "sooner", "expires_at, state, wake_at", sooner).await;
    assert!(store.due_claim(&["phone"], 2, Duration::ZERO, &[], &after).await.unwrap().due.is_empty());
    let found = due_claim(&store, &["phone"], 2, Duration::ZERO, &[]).await.unwrap().due;
    assert_eq!(found.iter().map(|due| due.publication.id).collect::<Vec<_>>(), [sooner]);
}

#[tokio::test]
async fn a_claim_that_ran_out_is_unknown_and_its_late_answer_only_adds_to_the_history() {
    let (database, store) = fresh().await;
    let id = insert_queued(&database, "p").await;
    let first = claim(&store, id).await.unwrap();
    assert!(store.claims_expire(&[id]).await.unwrap().is_empty(), "it has not run out yet");
    database.execute("UPDATE notification SET busy_until = now() - interval '1 s'").await;
    let expired = store.claims_expire(&[id]).await.unwrap();
    assert_eq!((expired.len(), expired[0].state), (1, State::Retrying));

    let mut late = result(id, first.fence, Outcome::Delivered, State::Delivered);
    late.provider_id = Some("CA1".to_owned());
    assert!(store.attempts_record(std::slice::from_ref(&late)).await.unwrap().is_empty());
    store.attempts_record_late(&[late]).await.unwrap();
    assert_eq!(state(&database, id).await, "retrying");
    let history = "SELECT concat_ws(' ', number, outcome, late_outcome, late_provider_id, worker) FROM attempt";
    assert_eq!(database.texts(history).await, ["1 unknown delivered CA1 worker"]);

    let second = claim(&store, id).await.unwrap();
    assert_eq!((second.fence, second.attempts), (2, 1));
}

#[tokio::test]
async fn what_was_delivered_is_recorded_alike_alone_and_beside_what_was_not() {
    let (database, store) = fresh().await;
    let mut results = Vec::new();
    for (process, outcome, state) in [
        ("alone", Outcome::Delivered, State::Delivered),
        ("beside", Outcome::Delivered, State::Delivered),
        ("not", Outcome::Temporary, State::Retrying),
    ] {
        let id = insert_queued(&database, process).await;
        let fence = claim(&store, id).await.unwrap().fence;
        let (provider_id, detail) = (Some("CA1".to_owned()), Some("it rang".to_owned()));
        results.push(AttemptResult { provider_id, detail, ..result(id, fence, outcome, state) });
    }
    database.execute("UPDATE notification SET attempts = 1, refusals = 2, returns = 3, reason = 'came back'").await;
    let (alone, others) = results.split_at(1);
    let recorded = [store.attempts_record(alone).await.unwrap(), store.attempts_record(others).await.unwrap()].concat();
    let told: Vec<_> = recorded.iter().map(|one| (one.id, one.fence, one.state, one.due_at.is_some())).collect();
    let expected = |one: &AttemptResult| (one.id, one.fence, one.state, one.state == State::Retrying);
    assert_eq!(told, results.iter().map(expected).collect::<Vec<_>>());

    let rows = database
        .texts(
            "SELECT ROW(n.attempts, n.refusals, n.returns, n.reason, n.wake_at, n.busy_until, n.finished_at IS NOT NULL,
                 n.open_failure_at, a.number, a.outcome, a.provider_id, a.detail, a.worker)::text
             FROM notification n JOIN attempt a ON a.notification_id = n.id WHERE n.state = 'delivered'",
        )
        .await;
    assert_eq!(rows, ["(2,2,0,,,,t,,1,delivered,CA1,\"it rang\",worker)"; 2]);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_can_be_given_back_and_no_other() {
    let (database, store) = fresh().await;
    let (mine, other) = (insert_queued(&database, "a").await, insert_queued(&database, "b").await);
    store.notifications_claim(claim_request(&[mine], "worker#1")).await.unwrap();
    store.notifications_claim(claim_request(&[other], "worker#2")).await.unwrap();
    store.claim_abandon("worker#1", &[mine, other]).await.unwrap();
    assert_eq!(
        (state(&database, mine).await.as_str(), state(&database, other).await.as_str()),
        ("retrying", "sending")
    );
    assert!(claim(&store, mine).await.is_some(), "it cost nothing, and can be claimed again at once");
}

#[tokio::test]
async fn a_claim_that_was_given_back_is_no_refusal_and_a_retry_begins_anew() {
    let (database, store) = fresh().await;
    let id = insert_queued(&database, "p").await;
    let first = claim(&store, id).await.unwrap();
    store.notifications_release(&[(id, first.fence)], Duration::ZERO).await.unwrap();
    for (outcome, refusals) in [(Outcome::RateLimited, 0), (Outcome::Temporary, 1), (Outcome::ChannelDown, 1)] {
        let claim = claim(&store, id).await.unwrap();
        assert_eq!(claim.refusals, refusals, "before {outcome}");
        store.attempts_record(&[result(id, claim.fence, outcome, State::Retrying)]).await.unwrap();
        database.execute("UPDATE notification SET due_at = now()").await;
    }
    let last = claim(&store, id).await.unwrap();
    assert_eq!(last.refusals, 2);
    store.attempts_record(&[result(id, last.fence, Outcome::Permanent, State::Failed)]).await.unwrap();
    assert_eq!(store.failure_retry(id, "maria").await.unwrap(), store::Repair::Done);
    assert_eq!(claim(&store, id).await.unwrap().refusals, 0);
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_told_apart_from_a_database_that_is_away_and_can_be_left_out() {
    let (database, store) = fresh().await;
    let ids = [insert_queued(&database, "p").await, insert_queued(&database, "p").await];
    let mut somebody = database.pool.begin().await.unwrap();
    let first = "SELECT FROM notification ORDER BY id LIMIT 1 FOR UPDATE";
    testkit::raw(first).execute(&mut *somebody).await.unwrap();
    let error = store.notifications_claim(claim_request(&ids, "worker")).await.unwrap_err();
    assert_eq!(error.disposition(), store::Disposition::TooMuch);
    assert_eq!(store.notifications_unlocked(&ids).await.unwrap(), [ids[1]].into());
    let missing = NotificationId(ids[1].0 + 1_000);
    assert_eq!(
        store.notifications_unlocked(&[ids[0], missing]).await.unwrap(),
        [missing].into(),
        "there is no row to wait for"
    );
    assert!(claim(&store, ids[1]).await.is_some());
    somebody.rollback().await.unwrap();
    assert_eq!(store.notifications_unlocked(&ids).await.unwrap(), ids.into());
    assert!(claim(&store, ids[0]).await.is_some());
}

#[tokio::test]
async fn a_statement_that_is_dropped_half_way_takes_nobody_elses_with_it() {
    let (database, store) = fresh().await;
    for n in 0..100u64 {
        let hint = tokio::time::timeout(Duration::from_micros(n * 20), store.hint_due(Timestamp::MIN));
        let requests = [crate::requests::request(&format!("m{n}"), &format!("p{n}"), "start")];
        let organisation = Organisation::default();
        let apply = store.requests_apply("queue", &organisation, &requests);
        let _ended_either_way = tokio::join!(hint, tokio::time::timeout(Duration::from_micros(n * 30), apply));
        store.property_set(&format!("k{n}"), &json!(n), "maria").await.unwrap();
    }
    assert_eq!(database.count("SELECT count(*) FROM property").await, 100, "each was said to be set");
}

#[tokio::test]
async fn a_claim_of_another_channel_or_before_its_time_finds_nothing() {
    let (database, store) = fresh().await;
    let id = insert_queued(&database, "p").await;
    let ids = [id];
    let other = ClaimRequest { channel: "console", ..claim_request(&ids, "worker") };
    assert!(store.notifications_claim(other).await.unwrap().claims.is_empty());
    database.execute("UPDATE notification SET due_at = now() + interval '1 hour'").await;
    assert!(claim(&store, id).await.is_none());
    database.shift_time("61 minutes").await;
    assert!(claim(&store, id).await.is_some());
}

#[tokio::test]
async fn what_was_confirmed_is_left_alone_for_an_hour_unless_a_worker_had_it_since() {
    let (database, store) = fresh().await;
    let id = insert(&database, "p", "expires_at, wake_at", "now() + interval '1 day', now()").await;
    let take = || due_claim(&store, &["phone"], 10, Duration::ZERO, &[]);
    let published = take().await.unwrap().due.remove(0).publication;
    store.publications_confirmed(&[published]).await.unwrap();
    database.shift_time("59 minutes").await;
    assert!(take().await.unwrap().due.is_empty());

    let fence = claim(&store, id).await.unwrap().fence;
    store.attempts_record(&[result(id, fence, Outcome::Temporary, State::Retrying)]).await.unwrap();
    let wakes = "SELECT concat_ws(' ', wake_at, busy_until) FROM notification";
    let before = database.texts(wakes).await;
    store.publications_confirmed(&[published]).await.unwrap();
    assert_eq!(database.texts(wakes).await, before, "that was another publication");
}

#[tokio::test]
async fn what_was_confirmed_waits_in_a_backlog_for_as_long_as_there_is_one() {
    let (database, store) = fresh().await;
    let id = insert(&database, "p", "expires_at, wake_at", "now() + interval '9 days', now()").await;
    let take =
        async |backlogged: &[&str]| due_claim(&store, &["phone"], 10, Duration::ZERO, backlogged).await.unwrap().due;
    let published = take(&["phone"]).await.remove(0).publication;
    database.shift_time("65 seconds").await;
    let again = take(&["phone"]).await;
    assert_eq!(again.len(), 1, "nobody has confirmed it yet");
    store.publications_confirmed(&[published, again[0].publication]).await.unwrap();
    for hours in 2..5 {
        database.shift_time(&format!("{hours} hours")).await;
        assert!(take(&["phone", "sms"]).await.is_empty());
    }
    database.shift_time("6 hours").await;
    let again = take(&["sms"]).await;
    assert_eq!(again.len(), 1, "the queue is empty, so the message is lost");
    store.publications_confirmed(&[again[0].publication]).await.unwrap();

    // What is brought back by a dead letter, or was claimed since, has no message that waits.
    let letter = store::DeadLetter { queue: String::new(), reason: String::new(), ids: vec![id], body: Vec::new() };
    store.dead_letter_add(&letter).await.unwrap();
    let again = take(&["phone"]).await.remove(0).publication;
    store.publications_confirmed(&[again]).await.unwrap();
    let fence = claim(&store, id).await.unwrap().fence;
    store.attempts_record(&[result(id, fence, Outcome::Temporary, State::Retrying)]).await.unwrap();
    database.shift_time("7 hours").await;
    assert_eq!(take(&["phone"]).await.len(), 1);
}

#[tokio::test]
async fn a_word_of_the_broker_on_an_earlier_publication_changes_nothing() {
    let (database, store) = fresh().await;
    let id = insert(&database, "p", "expires_at, wake_at", "now() + interval '9 days', now()").await;
    let take = async || due_claim(&store, &["phone"], 10, Duration::ZERO, &[]).await.unwrap().due.remove(0).publication;
    let first = take().await;
    // Its message died before its confirm was written down; its next one is on the way.
    let letter = store::DeadLetter { queue: String::new(), reason: String::new(), ids: vec![id], body: Vec::new() };
    store.dead_letter_add(&letter).await.unwrap();
    for second in [false, true] {
        let now = "SELECT concat_ws(' ', state, wake_at, busy_until, reason, confirmed_at) FROM notification";
        let before = database.texts(now).await;
        store.publications_confirmed(&[first]).await.unwrap();
        store.publications_returned(&[first], "no route").await.unwrap();
        store.publications_unconfirmed(&[first]).await.unwrap();
        assert_eq!(database.texts(now).await, before);
        if !second {
            take().await;
        }
    }
}

#[tokio::test]
async fn a_claim_takes_the_property_along() {
    let (database, store) = fresh().await;
    let ask = || ClaimRequest { property: Some("caller-id-registry"), ..claim_request(&[], "worker") };
    assert_eq!(store.notifications_claim(ask()).await.unwrap().property, None);
    store.property_set("caller-id-registry", &json!({"default": "+1"}), "maria").await.unwrap();
    assert_eq!(store.notifications_claim(ask()).await.unwrap().property, Some(json!({"default": "+1"})));
    assert_eq!(database.count("SELECT count(*) FROM property").await, 1);
}

#[tokio::test]
async fn batches_that_cross_each_other_are_all_carried_out() {
    let (database, store) = fresh().await;
    let mut ids = Vec::new();
    for n in 0..60 {
        ids.push(insert_queued(&database, &format!("p{}", n % 7)).await);
    }
    // Claims and stops of the same rows, over and over: no deadlock may surface as a lost statement.
    let stops = async {
        for n in 0..7 {
            stop(&store, &format!("p{n}")).await;
        }
    };
    let claims = async {
        let mut all = Vec::new();
        for chunk in ids.chunks(6) {
            all.extend(store.notifications_claim(claim_request(chunk, "worker")).await.unwrap().claims);
        }
        all
    };
    let ((), claimed) = tokio::join!(stops, claims);
    let cancelled = database.count("SELECT count(*) FROM notification WHERE state = 'cancelled'").await;
    let sending = database.count("SELECT count(*) FROM notification WHERE state = 'sending' AND stop_requested").await;
    assert_eq!(usize::try_from(sending).unwrap(), claimed.len());
    assert_eq!(cancelled + sending, 60);
}
