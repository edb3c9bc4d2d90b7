use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{Organisation, ProcessName};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use runtime::failpoint;
use serde_json::json;
use store::{
    Disposition, HeldLease, Occurrence, ReceivedRequest, RejectedRequest, RequestOutcome, RequestResult, Result,
    SCHEDULER, ScheduleRecord, cut_waves,
};
use wire::{Occasion, RenderedRequest, render_request};

use crate::Activator;

/// How long the lease lasts that is not renewed: so long nothing may start after its holder has died.
const LEASE_LIFE: Duration = Duration::from_secs(10);

const RENEW_AFTER: Duration = Duration::from_secs(3);

/// The longest sleep, in case no hint came of a schedule that has changed, or of a lease that was given up.
const POLL: Duration = Duration::from_secs(1);

/// The most schedules that are looked at in one round.
const LIMIT: i64 = 2_000;

/// So many are committed together, so that a transaction stays short.
const PART: usize = 250;

/// Parts that are committed at the same time.
const PARTS_IN_FLIGHT: usize = 3;

/// A schedule that could not be carried out is left alone for so long, and stops no other meanwhile.
const LEFT_FOR: Duration = Duration::from_secs(5);

/// Starts what schedules say, as long as it holds the lease for that.
pub(crate) struct Scheduler {
    activator: Arc<Activator>,
    holder: String,
    lease: Option<(HeldLease, Instant)>,
    since: Instant,
    left: HashMap<i64, Instant>,
}

/// What came of one round.
enum Round {
    /// Somebody else holds the lease.
    NotHolder,
    /// There may be more.
    More,
    /// Nothing is due before that.
    Done(Option<Timestamp>),
}

impl Scheduler {
    pub(crate) fn new(activator: Arc<Activator>, holder: String) -> Self {
        let scheduler = Self { activator, holder, lease: None, since: Instant::now(), left: HashMap::new() };
        scheduler.tell();
        scheduler
    }

    /// Goes on until the program stops, and then lets another take over at once.
    pub(crate) async fn run(mut self) {
        let stop = self.activator.lifecycle.stop.clone();
        let mut backoff = broker::Backoff::default();
        while !stop.is_cancelled() {
            let sleep = match self.round().await {
                Ok(Round::More) => Duration::ZERO,
                Ok(Round::NotHolder) => POLL,
                Ok(Round::Done(next_at)) => {
                    backoff.reset();
                    next_at.map_or(POLL, |next| self.activator.store.clock().until(next).min(POLL))
                }
                Err(error) => {
                    self.activator.database.down(error);
                    backoff.next(runtime::chance())
                }
            };
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.activator.schedule_hint.notified(), if !sleep.is_zero() => {}
                () = stop.cancelled() => {}
            }
        }
        self.give_up().await;
    }

    /// Starts what is due now, unless somebody else does that.
    pub(crate) async fn run_once(mut self) -> Result<()> {
        while let Round::More = self.round().await? {}
        self.give_up().await;
        Ok(())
    }

    async fn give_up(&mut self) {
        if let Some((lease, _)) = self.lease.take()
            && let Err(error) = self.activator.store.lease_give_up(&lease).await
        {
            tracing::debug!(%error, "the lease runs out by itself");
        }
        self.tell();
    }

    async fn round(&mut self) -> Result<Round> {
        if self.hold().await?.is_none() {
            return Ok(Round::NotHolder);
        }
        self.left.retain(|_, until| *until > Instant::now());
        let left: Vec<i64> = self.left.keys().copied().collect();
        let sent = Instant::now();
        let found = self.activator.store.schedules_due(&left, LIMIT).await?;
        self.activator.store.clock().learn(sent, found.now);
        if found.due.is_empty() {
            return Ok(Round::Done(found.next_at));
        }
        let occurrences: Vec<_> = found.due.iter().filter_map(|due| self.occurrence(due, found.now)).collect();
        // No process stands twice in a wave; beyond that they have no order.
        let groups: Vec<String> = (0..occurrences.len()).map(|n| n.to_string()).collect();
        let waves = cut_waves(groups.iter().zip(&occurrences).map(|(group, one)| (group.as_str(), process(one))));
        failpoint("activator.scheduling", "");
        for wave in waves {
            let Some(lease) = self.hold().await? else { return Ok(Round::NotHolder) };
            let parts: Vec<Vec<Occurrence>> =
                wave.chunks(PART).map(|part| part.iter().map(|n| occurrences[*n].clone()).collect()).collect();
            let activator = &*self.activator;
            let applied: Vec<_> = stream::iter(parts)
                .map(|part| apply(activator, &lease, part))
                .buffer_unordered(PARTS_IN_FLIGHT)
                .collect()
                .await;
            for one in applied {
                let Applied { left, is_holder } = one?;
                self.left.extend(left.into_iter().map(|id| (id, Instant::now() + LEFT_FOR)));
                if !is_holder {
                    self.lose();
                    return Ok(Round::NotHolder);
                }
            }
        }
        Ok(Round::More)
    }

    /// The lease, taken or renewed if need be. Renewed here, between two rounds, and not beside them: a transaction that has
    /// looked at the lease keeps it from being changed until it ends.
    async fn hold(&mut self) -> Result<Option<HeldLease>> {
        let store = &self.activator.store;
        match &mut self.lease {
            Some((_, renewed)) if renewed.elapsed() < RENEW_AFTER => {}
            Some((lease, renewed)) => {
                let now = Instant::now();
                if store.lease_renew(lease, LEASE_LIFE).await? {
                    *renewed = now;
                    let counts = store.schedule_counts().await?;
                    metrics::gauge!("tocsin_schedules_overdue").set(counts.overdue as f64);
                } else {
                    self.lose();
                }
            }
            None => {
                let now = Instant::now();
                let taken = match store.lease_take(SCHEDULER, &self.holder, LEASE_LIFE).await {
                    // Its last holder is in the middle of a transaction.
                    Err(error) if error.disposition() == Disposition::TooMuch => None,
                    other => other?,
                };
                if let Some(lease) = taken {
                    tracing::info!(
                        event = "lease_taken",
                        lease = lease.name,
                        fence = lease.fence,
                        "schedules start here"
                    );
                    self.lease = Some((lease, now));
                    self.since = now;
                }
            }
        }
        self.tell();
        Ok(self.lease.as_ref().map(|(lease, _)| lease.clone()))
    }

    fn lose(&mut self) {
        if let Some((lease, _)) = self.lease.take() {
            tracing::warn!(event = "lease_lost", lease = lease.name, fence = lease.fence, "another has taken it");
        }
        self.tell();
    }

    /// The metrics of the lease. How many schedules are overdue its holder says.
    fn tell(&self) {
        let is_held = self.lease.is_some();
        let age = if is_held { self.since.elapsed().as_secs() } else { 0 };
        metrics::gauge!("tocsin_lease_held", "lease" => SCHEDULER).set(u8::from(is_held));
        metrics::gauge!("tocsin_lease_age_seconds", "lease" => SCHEDULER).set(age as f64);
        if !is_held {
            metrics::gauge!("tocsin_schedules_overdue").set(0);
        }
    }

    /// What is to be done about a schedule. `None`, and it is left alone for a while, if it can't be read.
    fn occurrence(&mut self, schedule: &ScheduleRecord, now: Timestamp) -> Option<Occurrence> {
        let timetable = match schedule.timetable() {
            Ok(timetable) => timetable,
            Err(error) => {
                tracing::error!(event = "schedule_unreadable", schedule = schedule.id, %error, "it starts nothing");
                self.left.insert(schedule.id, Instant::now() + LEFT_FOR);
                return None;
            }
        };
        let next_at = schedule.next_at?;
        let said = &schedule.said;
        let step = timetable.step(next_at, now, said.on_missed, said.missed_window);
        Some(Occurrence {
            schedule: schedule.id,
            version: schedule.version,
            source: schedule.source(),
            overlap: said.overlap,
            request: step.fire.map(|at| request(schedule, at)),
            at: step.fire.unwrap_or(next_at),
            next_at: step.next_at,
        })
    }
}

fn process(occurrence: &Occurrence) -> Option<&str> {
    Some(occurrence.request.as_ref()?.parsed.as_ref().ok()?.process.as_str())
}

fn request(schedule: &ScheduleRecord, at: Timestamp) -> ReceivedRequest {
    let said = &schedule.said;
    let (owner, external_id) = (said.owner.as_deref(), said.external_id.as_deref());
    let occasion = Occasion { at, id: schedule.id, name: &said.name, owner, external_id };
    let RenderedRequest { body, parsed } = render_request(&said.request, occasion);
    let parsed =
        parsed.map_err(|rejection| RejectedRequest { process: rejection.process, reasons: json!(rejection.reasons) });
    ReceivedRequest { message_id: at.to_string(), body, parsed }
}

struct Applied {
    left: HashSet<i64>,
    is_holder: bool,
}

/// Carries a part out. What the database refuses is found by halving: bad data is rejected, and what somebody has locked is
/// left for a while.
async fn apply(activator: &Activator, lease: &HeldLease, part: Vec<Occurrence>) -> Result<Applied> {
    let organisation = Organisation::default();
    let mut applied = Applied { left: HashSet::new(), is_holder: true };
    let mut todo = vec![part];
    while let Some(mut part) = todo.pop() {
        match activator.store.occurrences_apply(lease, &organisation, &part).await {
            Ok(Some(results)) => {
                failpoint("activator.scheduled", "");
                part.iter().zip(&results).for_each(|(one, result)| log(one, result.as_ref()));
                results
                    .iter()
                    .flatten()
                    .filter_map(|result| result.due_soon_at)
                    .for_each(|due_at| activator.due.add(due_at));
            }
            Ok(None) => {
                applied.is_holder = false;
                return Ok(applied);
            }
            Err(error) if part.len() > 1 && error.disposition() != Disposition::Wait => {
                let second = part.split_off(part.len() / 2);
                todo.extend([second, part]);
            }
            Err(error) => match (error.disposition(), part.pop()) {
                (Disposition::BadData, Some(mut one)) if process(&one).is_some() => {
                    one.request = one.request.map(|request| request.rejected_by(&error));
                    todo.push(vec![one]);
                }
                (Disposition::Wait, _) | (_, None) => return Err(error),
                (_, Some(one)) => {
                    tracing::warn!(event = "schedule_left", schedule = one.schedule, %error, "tried again soon");
                    applied.left.insert(one.schedule);
                }
            },
        }
    }
    Ok(applied)
}

fn log(one: &Occurrence, result: Option<&RequestResult>) {
    let (Some(request), Some(result)) = (&one.request, result) else { return };
    let outcome = result.outcome.as_str();
    metrics::counter!("tocsin_occurrences_total", "outcome" => outcome).increment(1);
    let process = match &request.parsed {
        Ok(request) => Some(&request.process),
        Err(rejected) => rejected.process.as_ref(),
    };
    let (schedule, process, at, run) = (one.schedule, process.map(ProcessName::as_str), one.at, result.run);
    match (&result.outcome, &request.parsed) {
        (RequestOutcome::Rejected, Err(rejected)) => {
            let reasons = &rejected.reasons;
            tracing::warn!(event = "occurrence", outcome, schedule, process, %at, %reasons, "it starts nothing");
        }
        _ => tracing::info!(event = "occurrence", outcome, schedule, process, %at, run, "occurrence"),
    }
}
