//! Every statement of every program, as the user that the program connects as: those that run seldom would else be
//! refused when they are needed most. What each may not do is in tests/rights.rs.

use std::time::Duration;

use domain::{NotificationId, Organisation, Outcome, State, schedule::Overlap};
use jiff::Timestamp;
use store::{
    ClaimRequest, DeadLetter, Edit, FailureFilter, NotificationFilter, Page, Publication, RequestFilter, SCHEDULER,
    ScheduleChange, ScheduleFilter, Store,
};
use testkit::Database;

use crate::{
    claim_request, due_claim,
    requests::request,
    result,
    schedules::{make, occurrence},
};

const ID: NotificationId = NotificationId(1);

fn store(database: &Database, program: &str) -> Store {
    Store::new(&database.url_for(program), program, 2).unwrap()
}

#[tokio::test]
async fn the_bridge_may_do_its_work() {
    let database = Database::create().await;
    let bridge = store(&database, "bridge");
    bridge.check().await.unwrap();
    for (message_id, action) in [("1", "start"), ("1", "start"), ("2", "stop"), ("3", "stop")] {
        let requests = [request(message_id, "p", action)];
        bridge.requests_apply("queue", &Organisation::default(), &requests).await.unwrap();
    }
    bridge.hint_due(Timestamp::MIN).await.unwrap();
}

#[tokio::test]
async fn the_activator_may_do_its_work() {
    let database = Database::create().await;
    let activator = store(&database, "activator");
    activator.check().await.unwrap();
    due_claim(&activator, &["phone"], 10, Duration::ZERO, &["phone"]).await.unwrap();
    let publications = [Publication { id: ID, fence: 1, busy_until: activator.clock().now() }];
    activator.publications_confirmed(&publications).await.unwrap();
    activator.publications_returned(&publications, "NO_ROUTE").await.unwrap();
    activator.publications_unconfirmed(&publications).await.unwrap();
    activator.claims_expire(&[ID]).await.unwrap();
    let (queue, reason) = ("notify.phone".to_owned(), "rejected".to_owned());
    activator.dead_letter_add(&DeadLetter { queue, reason, ids: vec![ID], body: Vec::new() }).await.unwrap();
    activator.notifications_drop(90).await.unwrap();
    activator.requests_drop(0, 90).await.unwrap();
    activator.dead_letters_drop(90).await.unwrap();
    activator.idempotency_keys_drop().await.unwrap();
    activator.sessions_drop().await.unwrap();
    activator.listen_for_due_hints().await.unwrap();

    let life = Duration::from_secs(10);
    let lease = activator.lease_take(SCHEDULER, "activator", life).await.unwrap().unwrap();
    assert!(activator.lease_renew(&lease, life).await.unwrap());
    let api = store(&database, "api");
    for overlap in [Overlap::Allow, Overlap::Skip, Overlap::Stop] {
        make(&api, overlap.as_str(), overlap).await;
    }
    for _ in 0..2 {
        database.execute("UPDATE schedule SET next_at = now()").await;
        let due = activator.schedules_due(&[], 10).await.unwrap();
        let occurrences: Vec<_> = due.due.iter().map(|schedule| occurrence(schedule, due.now)).collect();
        let results =
            activator.occurrences_apply(&lease, &Organisation::default(), &occurrences).await.unwrap().unwrap();
        assert!(occurrences.len() == 3 && results.iter().all(Option::is_some), "{results:?}");
    }
    activator.lease_give_up(&lease).await.unwrap();
}

#[tokio::test]
async fn a_notifier_may_do_its_work() {
    let database = Database::create().await;
    let notifier = store(&database, "notifier-phone");
    notifier.check().await.unwrap();
    notifier.channel_paused("phone").await.unwrap();
    let claim = ClaimRequest { property: Some("caller-id-registry"), ..claim_request(&[ID], "worker") };
    notifier.notifications_claim(claim).await.unwrap();
    notifier.notifications_release(&[(ID, 1)], Duration::ZERO).await.unwrap();
    notifier.claim_abandon("worker", &[ID]).await.unwrap();
    notifier.notifications_waiting("phone", &[ID]).await.unwrap();
    for (outcome, state) in [(Outcome::Delivered, State::Delivered), (Outcome::Permanent, State::Failed)] {
        let results = [result(ID, 1, outcome, state)];
        notifier.attempts_record(&results).await.unwrap();
        notifier.attempts_record_late(&results).await.unwrap();
    }
}

#[tokio::test]
async fn the_operators_command_may_do_its_work() {
    let database = Database::create().await;
    let operator = store(&database, "tocsin");
    operator.check().await.unwrap();
    for _ in 0..2 {
        operator.property_set("caller-id-registry", &serde_json::json!({}), "maria").await.unwrap();
        operator.channel_pause("phone", "maria", None).await.unwrap();
    }
    operator.property("caller-id-registry").await.unwrap();
    operator.channel_pauses().await.unwrap();
    operator.channel_paused("phone").await.unwrap();
    operator.channel_resume("all", "maria").await.unwrap();
    operator.process_history("p").await.unwrap();
    let key = domain::ApiKey::of_random([7; 36]);
    operator.api_key_create(&key, "maria", domain::Role::Admin, "maria@host").await.unwrap();
    assert_eq!(operator.api_keys().await.unwrap().len(), 1);
    assert!(operator.api_key_revoke(key.prefix(), "maria@host").await.unwrap().is_some());
}

#[tokio::test]
async fn the_api_may_do_its_work() {
    let database = Database::create().await;
    let api = store(&database, "api");
    let page = Page { before: None, limit: 10 };
    api.check().await.unwrap();
    let key = domain::ApiKey::of_random([7; 36]);
    api.api_key_create(&key, "maria", domain::Role::Admin, "maria").await.unwrap();
    assert!(api.api_key_find(&key).await.unwrap().is_some());
    api.api_keys().await.unwrap();
    api.api_key_revoke(key.prefix(), "maria").await.unwrap();
    let message_id = api.idempotency_key_use("api:1", "a").await.unwrap();
    assert_eq!(api.idempotency_key_use("api:1", "a").await.unwrap(), message_id);
    for (message_id, action) in [("1", "start"), ("1", "start"), ("2", "stop")] {
        let requests = [request(message_id, "p", action)];
        api.requests_apply("api:1", &Organisation::default(), &requests).await.unwrap();
    }
    api.hint_due(Timestamp::MIN).await.unwrap();
    assert_eq!(api.requests_named("api:1", &["1"]).await.unwrap().len(), 1);
    assert_eq!(api.request_list(RequestFilter::default(), page).await.unwrap().len(), 2);
    api.request(1).await.unwrap();
    assert_eq!(api.processes(None, page).await.unwrap().len(), 1);
    assert_eq!(api.notification_reports(NotificationFilter::default(), page).await.unwrap().len(), 1);
    api.failure_groups(None).await.unwrap();
    api.failure_retry(ID, "maria").await.unwrap();
    api.failures_retry(FailureFilter::default(), 10, 1.0, "maria").await.unwrap();
    api.failures_retry_dry(FailureFilter::default(), 10).await.unwrap();
    api.failure_give_up(ID, "maria").await.unwrap();
    let edit = Edit { address: Some(("phone-number", "+385".to_owned())), ..Default::default() };
    api.failure_edit(ID, &edit, "maria").await.unwrap();
    for _ in 0..2 {
        api.property_set("caller-id-registry", &serde_json::json!({}), "maria").await.unwrap();
        api.channel_pause("phone", "maria", None).await.unwrap();
    }
    api.property("caller-id-registry").await.unwrap();
    api.channel_pauses().await.unwrap();
    api.channel_resume("all", "maria").await.unwrap();
    api.status(3_600.0, &["bridge"]).await.unwrap();
    api.dead_letters(page).await.unwrap();
    api.audit_list(None, page).await.unwrap();
    api.happenings().await.unwrap();
    api.leases().await.unwrap();
    let made = make(&api, "daily", Overlap::Skip).await;
    let edited = api.schedule_edit(&made, &made.said, made.starts_at, made.next_at, "maria").await.unwrap();
    let ScheduleChange::Done(edited) = edited else { panic!("{edited:?}") };
    let paused = api.schedule_pause(&edited, "maria").await.unwrap();
    let ScheduleChange::Done(paused) = paused else { panic!("{paused:?}") };
    assert!(matches!(api.schedule_resume(&paused, None, "maria").await.unwrap(), ScheduleChange::Done(_)));
    assert!(api.schedule_ordered(made.id, "maria", "schedule.trigger", &serde_json::json!({})).await.unwrap());
    assert_eq!(api.schedules(ScheduleFilter::default(), page).await.unwrap().len(), 1);
    assert!(api.schedule(made.id).await.unwrap().is_some());
    api.schedule_counts().await.unwrap();
    api.hint_schedule().await.unwrap();
    assert!(matches!(api.schedule_delete(made.id, "maria").await.unwrap(), ScheduleChange::Done(_)));
}
