use std::collections::{HashMap, HashSet};

use domain::{Action, Organisation, ProcessName, Request, schedule::Overlap};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::json;
use sqlx::{Connection, PgConnection, Row};

use crate::{
    HeldLease, ReceivedRequest, RequestResult, Result, Store, lease,
    request::{Batch, results},
};

/// What is to be done about a schedule whose time has come.
#[derive(Debug, Clone)]
pub struct Occurrence {
    /// Which schedule.
    pub schedule: i64,
    /// As it was read. If somebody has changed it since, nothing is done.
    pub version: i32,
    /// The source of its requests.
    pub source: String,
    /// What becomes of it while the process of the one before is not finished.
    pub overlap: Overlap,
    /// The request to start, or what is wrong with it. Its message id is the occurrence's instant. `None` if nothing starts,
    /// as what was missed is passed over.
    pub request: Option<ReceivedRequest>,
    /// The instant.
    pub at: Timestamp,
    /// When the schedule is looked at again.
    pub next_at: Option<Timestamp>,
}

impl Occurrence {
    fn process(&self) -> Option<&ProcessName> {
        self.request.as_ref().and_then(|request| Some(&request.parsed.as_ref().ok()?.process))
    }

    /// What stops the process of the one before.
    fn stop_of(&self, process: &str) -> Option<ReceivedRequest> {
        let request = Request { process: ProcessName::parse(process).ok()?, action: Action::Stop };
        let body = json!({"process-id": process, "action": "stop"}).to_string().into_bytes();
        Some(ReceivedRequest { message_id: format!("{} stop", self.at), body, parsed: Ok(request) })
    }
}

const LOCK: &str = "
SELECT s.id, s.last_process FROM unnest($1::bigint[], $2::int[]) AS x(id, version)
JOIN schedule s ON s.id = x.id AND s.version = x.version
ORDER BY s.id FOR UPDATE OF s";

const LOCK_PROCESSES: &str = "SELECT FROM process WHERE organisation = $1 AND name = ANY($2) ORDER BY name FOR UPDATE";

const UNFINISHED: &str = "
SELECT p.name FROM unnest($2::text[]) AS x(name) JOIN process p ON p.organisation = $1 AND p.name = x.name
WHERE EXISTS (SELECT FROM notification n WHERE n.process_id = p.id AND n.finished_at IS NULL)";

const ADVANCE: &str = "
UPDATE schedule s SET last_at = x.at, next_at = x.next_at, last_process = coalesce(x.process, s.last_process)
FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::text[]) AS x(id, at, next_at, process)
WHERE s.id = x.id";

/// What was found out about the schedules of some occurrences, whose rows are locked since.
struct Locked {
    /// The schedules that are as they were read, each with the process that it started last.
    last_process: HashMap<i64, Option<String>>,
    /// Those of these processes that are not finished.
    unfinished: HashSet<String>,
}

impl Locked {
    async fn take(
        transaction: &mut PgConnection,
        organisation: &Organisation,
        occurrences: &[Occurrence],
    ) -> Result<Self> {
        let ids: Vec<i64> = occurrences.iter().map(|one| one.schedule).collect();
        let versions: Vec<i32> = occurrences.iter().map(|one| one.version).collect();
        let mut last_process: HashMap<i64, Option<String>> = HashMap::new();
        for row in sqlx::query(LOCK).bind(ids).bind(versions).fetch_all(&mut *transaction).await? {
            last_process.insert(row.try_get("id")?, row.try_get("last_process")?);
        }
        let matters = |one: &&Occurrence| one.overlap != Overlap::Allow && one.request.is_some();
        let named = occurrences.iter().filter(matters).filter_map(|one| last_process.get(&one.schedule)?.clone());
        let named: Vec<String> = named.collect();
        let mut unfinished = HashSet::new();
        if !named.is_empty() {
            // First the locks, then a look at what their last holders left behind.
            let lock = sqlx::query(LOCK_PROCESSES).bind(organisation.as_str()).bind(&named);
            lock.execute(&mut *transaction).await?;
            let look = sqlx::query(UNFINISHED).bind(organisation.as_str()).bind(&named);
            for row in look.fetch_all(&mut *transaction).await? {
                unfinished.insert(row.try_get("name")?);
            }
        }
        Ok(Self { last_process, unfinished })
    }

    fn is_as_read(&self, occurrence: &Occurrence) -> bool {
        self.last_process.contains_key(&occurrence.schedule)
    }

    /// The process of the one before, if the schedule cares whether it is finished, and it is not.
    fn running(&self, occurrence: &Occurrence) -> Option<&str> {
        let last = self.last_process.get(&occurrence.schedule)?.as_deref()?;
        (occurrence.overlap != Overlap::Allow && self.unfinished.contains(last)).then_some(last)
    }

    fn is_skipped(&self, occurrence: &Occurrence) -> bool {
        occurrence.overlap == Overlap::Skip && self.running(occurrence).is_some()
    }
}

async fn advance(transaction: &mut PgConnection, occurrences: &[&Occurrence], locked: &Locked) -> Result<()> {
    let process = |one: &&Occurrence| {
        let process = if locked.is_skipped(one) { None } else { one.process() };
        process.map(|process| process.as_str().to_owned())
    };
    sqlx::query(ADVANCE)
        .bind(occurrences.iter().map(|one| one.schedule).collect::<Vec<_>>())
        .bind(occurrences.iter().map(|one| one.at.to_sqlx()).collect::<Vec<_>>())
        .bind(occurrences.iter().map(|one| one.next_at.map(|at| at.to_sqlx())).collect::<Vec<_>>())
        .bind(occurrences.iter().map(process).collect::<Vec<_>>())
        .execute(transaction)
        .await?;
    Ok(())
}

async fn apply(
    connection: &mut PgConnection,
    lease: &HeldLease,
    organisation: &Organisation,
    occurrences: &[Occurrence],
) -> Result<Option<Vec<Option<RequestResult>>>> {
    let mut transaction = connection.begin().await?;
    if !lease::hold(&mut transaction, lease).await? {
        return Ok(None);
    }
    let locked = Locked::take(&mut transaction, organisation, occurrences).await?;
    let as_read: Vec<&Occurrence> = occurrences.iter().filter(|one| locked.is_as_read(one)).collect();
    advance(&mut transaction, &as_read, &locked).await?;

    let stops = as_read.iter().filter(|one| one.overlap == Overlap::Stop && one.request.is_some());
    let stops: Vec<_> = stops.filter_map(|one| Some((one, one.stop_of(locked.running(one)?)?))).collect();
    if !stops.is_empty() {
        let stops = Batch::new(organisation, stops.iter().map(|(one, stop)| (one.source.as_str(), stop)));
        stops.apply(&mut transaction).await?;
    }
    let starts: Vec<_> = as_read.iter().filter_map(|one| Some((*one, one.request.as_ref()?))).collect();
    let mut batch = Batch::new(organisation, starts.iter().map(|(one, request)| (one.source.as_str(), *request)));
    for (n, (one, _)) in starts.iter().enumerate() {
        if locked.is_skipped(one) {
            batch.ignore(n, "process-id", "the process of the occurrence before is not finished");
        }
    }
    let mut started: HashMap<i64, RequestResult> = HashMap::new();
    if !starts.is_empty() {
        let rows = batch.apply(&mut transaction).await?;
        started = starts.iter().map(|(one, _)| one.schedule).zip(results(&rows, starts.len())?).collect();
    }
    transaction.commit().await?;
    Ok(Some(occurrences.iter().map(|one| started.remove(&one.schedule)).collect()))
}

impl Store {
    /// Starts what these occurrences say, and takes each schedule on to its next one: all or none. Answers what came of each
    /// request, or `None` if the lease is somebody else's by now: then nothing was done.
    ///
    /// No schedule and no process may stand twice among them.
    ///
    /// Each occurrence starts once, whoever dies when: its process, the record of its request and the step to the next one are
    /// one transaction, so that there is either all of it or nothing; and whoever comes again, with an old idea of what is
    /// next, meets a schedule that is not as it was read, a lease that is not theirs, or the unique key of its request, whose
    /// message id is the occurrence's instant.
    pub async fn occurrences_apply(
        &self,
        lease: &HeldLease,
        organisation: &Organisation,
        occurrences: &[Occurrence],
    ) -> Result<Option<Vec<Option<RequestResult>>>> {
        self.run(|mut lent| async move {
            let done = apply(&mut lent, lease, organisation, occurrences).await?;
            Ok((lent, done))
        })
        .await
    }
}
