use std::time::Duration;

use domain::{Organisation, schedule::Overlap};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use store::{
    HeldLease, NewSchedule, Occurrence, RequestOutcome, RequestResult, SCHEDULER, ScheduleChange, ScheduleRecord, Store,
};
use testkit::Database;

use crate::{fresh, requests::request};

const LIFE: Duration = Duration::from_secs(10);

/// A schedule that is due at once.
pub(crate) async fn make(store: &Store, name: &str, overlap: Overlap) -> ScheduleRecord {
    let new = NewSchedule {
        name: name.to_owned(),
        owner: Some("ops".to_owned()),
        external_id: None,
        lines: json!([{"cron": "* * * * * *", "time-zone": "UTC"}]),
        starts_at: None,
        ends_at: None,
        on_missed: domain::schedule::OnMissed::Last,
        missed_window: Duration::from_secs(60),
        overlap,
        request: json!({"process-id": name}),
    };
    let now = store.now().await.unwrap();
    let made = store.schedule_create(&new, now, Some(now), "maria").await.unwrap();
    let ScheduleChange::Done(made) = made else { panic!("{made:?}") };
    *made
}

/// What an activator does of it at an instant: a start of the process that is called as the schedule.
pub(crate) fn occurrence(schedule: &ScheduleRecord, at: Timestamp) -> Occurrence {
    Occurrence {
        schedule: schedule.id,
        version: schedule.version,
        source: schedule.source(),
        overlap: schedule.said.overlap,
        request: Some(request(&at.to_string(), &format!("{} {at}", schedule.said.name), "start")),
        at,
        next_at: at.checked_add(SignedDuration::from_secs(1)).ok(),
    }
}

async fn take(store: &Store, holder: &str) -> Option<HeldLease> {
    store.lease_take(SCHEDULER, holder, LIFE).await.unwrap()
}

async fn apply(store: &Store, lease: &HeldLease, occurrences: &[Occurrence]) -> Option<Vec<Option<RequestResult>>> {
    store.occurrences_apply(lease, &Organisation::default(), occurrences).await.unwrap()
}

async fn outcome(store: &Store, lease: &HeldLease, occurrence: &Occurrence) -> RequestOutcome {
    apply(store, lease, std::slice::from_ref(occurrence)).await.unwrap().remove(0).unwrap().outcome
}

async fn next_at(database: &Database) -> Vec<String> {
    database.texts("SELECT next_at::text || ' ' || coalesce(last_process, '') FROM schedule ORDER BY id").await
}

#[tokio::test]
async fn a_lease_is_one_processs_until_it_runs_out_or_is_given_up() {
    let (database, store) = fresh().await;
    let first = take(&store, "a").await.unwrap();
    assert_eq!(take(&store, "b").await, None);
    assert!(store.lease_renew(&first, LIFE).await.unwrap());
    database.shift_time("11 seconds").await;
    assert!(store.lease_renew(&first, LIFE).await.unwrap(), "it has run out, but nobody has taken it");
    database.shift_time("22 seconds").await;
    let second = take(&store, "b").await.unwrap();
    assert_eq!(second.fence, first.fence + 1);
    assert!(!store.lease_renew(&first, LIFE).await.unwrap());
    store.lease_give_up(&first).await.unwrap();
    assert_eq!(take(&store, "c").await, None, "what was lost can't be given up");
    store.lease_give_up(&second).await.unwrap();
    let third = take(&store, "c").await.unwrap();
    let leases = store.leases().await.unwrap();
    assert_eq!((leases[0].holder.as_str(), leases[0].fence, leases[0].is_held), ("c", third.fence, true));
}

#[tokio::test]
async fn of_many_that_take_a_lease_at_once_one_gets_it() {
    let (database, store) = fresh().await;
    for round in 1..=20 {
        let taken = futures(&store).await;
        assert_eq!(taken, 1, "round {round}");
        database.shift_time(&format!("{} seconds", 11 * round)).await;
    }
}

async fn futures(store: &Store) -> usize {
    let (a, b, c, d) = tokio::join!(take(store, "a"), take(store, "b"), take(store, "c"), take(store, "d"));
    [a, b, c, d].iter().flatten().count()
}

#[tokio::test]
async fn an_occurrence_and_the_step_to_the_next_are_one() {
    let (database, store) = fresh().await;
    let schedule = make(&store, "s", Overlap::Allow).await;
    let lease = take(&store, "a").await.unwrap();
    let at: Timestamp = "2026-11-22T09:00:00Z".parse().unwrap();
    let one = occurrence(&schedule, at);
    assert_eq!(outcome(&store, &lease, &one).await, RequestOutcome::Accepted);
    assert_eq!(next_at(&database).await, ["2026-11-22 09:00:01+00 s 2026-11-22T09:00:00Z"]);
    assert_eq!(outcome(&store, &lease, &one).await, RequestOutcome::Duplicate, "whoever comes again");
    assert_eq!(database.count("SELECT count(*) FROM notification").await, 1);
}

#[tokio::test]
async fn whoever_lost_the_lease_or_read_an_old_schedule_writes_nothing() {
    let (database, store) = fresh().await;
    let schedule = make(&store, "s", Overlap::Allow).await;
    let old = take(&store, "a").await.unwrap();
    database.shift_time("11 seconds").await;
    let new = take(&store, "b").await.unwrap();
    let before = next_at(&database).await;
    let at: Timestamp = "2026-11-22T09:00:00Z".parse().unwrap();
    let one = occurrence(&schedule, at);
    assert_eq!(apply(&store, &old, std::slice::from_ref(&one)).await, None);
    assert_eq!(next_at(&database).await, before);

    let paused = store.schedule_pause(&schedule, "maria").await.unwrap();
    assert!(matches!(paused, ScheduleChange::Done(_)));
    assert_eq!(apply(&store, &new, &[one]).await, Some(vec![None]));
    assert_eq!(database.count("SELECT count(*) FROM request").await, 0);
    assert_eq!(store.schedule_pause(&schedule, "maria").await.unwrap(), ScheduleChange::Missing);
}

/// Between the look at the lease and the commit nobody can become the holder.
#[tokio::test]
async fn a_lease_that_has_run_out_is_not_taken_in_the_middle_of_its_holders_transaction() {
    let (database, store) = fresh().await;
    let schedule = make(&store, "s", Overlap::Allow).await;
    let lease = take(&store, "a").await.unwrap();
    let one = occurrence(&schedule, "2026-11-22T09:00:00Z".parse().unwrap());
    let slow =
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3); RETURN NEW; END';
                CREATE TRIGGER slow BEFORE UPDATE ON schedule FOR EACH ROW EXECUTE FUNCTION slow()";
    database.execute(slow).await;
    let holder = {
        let (store, lease) = (store.clone(), lease.clone());
        tokio::spawn(async move { apply(&store, &lease, &[one]).await })
    };
    let sleeping =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    testkit::wait_for("the holder to be in the middle", Duration::from_secs(20), || async {
        (database.count(sleeping).await == 1).then_some(())
    })
    .await;
    database.shift_time("11 seconds").await;
    testkit::wait_for("the lease to be taken", Duration::from_secs(20), || async {
        // It waits for a second at most, and then says that somebody has locked it.
        store.lease_take(SCHEDULER, "b", LIFE).await.ok().flatten()
    })
    .await;
    assert_eq!(database.count("SELECT count(*) FROM request").await, 1, "what the holder had begun is there by then");
    assert!(holder.await.unwrap().unwrap()[0].is_some());
    assert!(!store.lease_renew(&lease, LIFE).await.unwrap());
}

#[tokio::test]
async fn what_overlaps_follows_the_policy() {
    let (database, store) = fresh().await;
    let lease = take(&store, "a").await.unwrap();
    let first: Timestamp = "2026-11-22T09:00:00Z".parse().unwrap();
    let second = first.checked_add(SignedDuration::from_secs(1)).unwrap();
    for (overlap, outcome_of_second, states) in [
        (Overlap::Allow, RequestOutcome::Accepted, ["scheduled", "scheduled"].as_slice()),
        (Overlap::Skip, RequestOutcome::Ignored, &["scheduled"]),
        (Overlap::Stop, RequestOutcome::Accepted, &["cancelled", "scheduled"]),
    ] {
        let schedule = make(&store, overlap.as_str(), overlap).await;
        assert_eq!(outcome(&store, &lease, &occurrence(&schedule, first)).await, RequestOutcome::Accepted);
        assert_eq!(outcome(&store, &lease, &occurrence(&schedule, second)).await, outcome_of_second, "{overlap:?}");
        let of = format!(
            "SELECT n.state::text FROM notification n JOIN process p ON p.id = n.process_id
             WHERE p.name LIKE '{} %' ORDER BY n.id",
            overlap.as_str()
        );
        assert_eq!(database.texts(&of).await, states, "{overlap:?}");
    }
    let why = "SELECT reasons->0->>'message' FROM request WHERE outcome = 'ignored'";
    assert_eq!(database.texts(why).await, ["the process of the occurrence before is not finished"]);
}

#[tokio::test]
async fn two_schedules_have_no_name_in_common() {
    let (_, store) = fresh().await;
    let first = make(&store, "a", Overlap::Allow).await;
    let second = make(&store, "b", Overlap::Allow).await;
    let now = store.now().await.unwrap();
    let taken = store.schedule_create(&first.said, now, None, "maria").await.unwrap();
    assert_eq!(taken, ScheduleChange::NameTaken);
    let renamed = NewSchedule { name: "a".to_owned(), ..second.said.clone() };
    let taken = store.schedule_edit(&second, &renamed, now, None, "maria").await.unwrap();
    assert_eq!(taken, ScheduleChange::NameTaken);
    store.schedule_delete(first.id, "maria").await.unwrap();
    let edited = store.schedule_edit(&second, &renamed, now, None, "maria").await.unwrap();
    assert!(matches!(edited, ScheduleChange::Done(_)), "a name that is free again");
}
