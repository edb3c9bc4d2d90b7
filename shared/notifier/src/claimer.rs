use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use domain::{NotificationId, provider::Allowance};
use futures_timer::Delay;
use jiff::{SignedDuration, Timestamp};
use runtime::{Lifecycle, failpoint};
use store::{ClaimBatch, ClaimRequest, Disposition};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::sleep,
};
use tokio_util::task::TaskTracker;

use crate::{
    Channel,
    caller::{CLAIM_FRESHNESS, Ready, call},
    inbox::{Inbox, Item},
    pace::Pace,
    recorder::{Finished, until_done},
    worker::Worker,
};

/// Claims of few on their way to the database at once. One of many goes alone: what arrives, and what slots become free, while
/// it does gathers for the next, and a claim costs as much as fifty more rows of it do.
const CONCURRENT_CLAIMS: u32 = 2;

/// The most that are few.
const FEW: usize = 32;

/// How long to leave the database alone after a claim has failed.
const REST: Duration = Duration::from_millis(500);

/// The earliest that a message may be for its time, by the database, and still be waited for here. Beyond that the
/// activator brings it again.
const HOLDABLE: SignedDuration = SignedDuration::from_mins(1);

/// How long to leave a row alone that somebody has locked.
pub(crate) const LOCKED_REST: Duration = Duration::from_secs(1);

/// For how long after a row was locked every claim asks first which are.
const WARY: Duration = Duration::from_secs(5);

/// The longest wait before the database is asked again, as its clock may have been set.
const LONGEST_HOLD: Duration = Duration::from_secs(1);

/// As much as tokio's sleep may be late: it rounds up to whole milliseconds, and so does the system call beneath it.
const ROUNDING: Duration = Duration::from_millis(3);

/// The most that one claim takes: what it got must be called within 100 ms of it. Halved when that is in danger.
const MAX_CLAIM: usize = 256;

/// An item that was taken to be claimed, and comes back.
#[derive(Debug)]
pub(crate) enum Returned {
    /// To be claimed again.
    Ready(Item),
    /// The database did not answer, or somebody has paused the channel.
    Failed(Vec<Item>),
}

/// Claims what is due, no more than there are free slots, and starts the calls. Ends when the program stops and
/// every call that it started is done.
pub(crate) async fn claim_until_stopped<C: Channel>(
    worker: Arc<Worker<C>>,
    mut incoming: mpsc::UnboundedReceiver<Item>,
    (returned, mut back): (mpsc::UnboundedSender<Returned>, mpsc::UnboundedReceiver<Returned>),
    finished: mpsc::UnboundedSender<Finished>,
    lifecycle: Lifecycle,
) {
    let claims = Arc::new(Semaphore::new(CONCURRENT_CLAIMS as usize));
    let tasks = TaskTracker::new();
    let mut inbox = Inbox::default();
    let mut rest_until = Instant::now();
    let mut claims_made = 0u64;
    let seen = Arc::new(Seen::new());
    let mut pace = Pace::default();
    loop {
        let clock = worker.store.clock();
        let next_due = inbox.ripen(clock);
        let now = Instant::now();
        // Where slots are scarce, none is to wait.
        let are_few = inbox.ready_len() <= FEW && worker.slots.available_permits() >= FEW;
        let pause = if are_few { pace.wait(now) } else { Duration::ZERO };
        let rest = rest_until.saturating_duration_since(now).max(pause);
        tokio::select! {
            biased;
            () = lifecycle.stop.cancelled() => break,
            Some(item) = back.recv() => match item {
                Returned::Ready(item) => inbox.push(item, clock),
                Returned::Failed(items) => {
                    items.into_iter().for_each(|item| inbox.push(item, clock));
                    rest_until = Instant::now() + REST;
                }
            },
            (claim, slot) = permits(&claims, are_few, &worker.slots), if rest.is_zero() && inbox.has_ready() => {
                let limit = match worker.gate.allowance() {
                    Allowance::All => seen.claim_size.load(Ordering::Relaxed),
                    Allowance::One => 1,
                    Allowance::NoneFor(wait) => {
                        inbox.forget_dead();
                        rest_until = Instant::now() + wait.min(Duration::from_secs(1));
                        continue;
                    }
                };
                let slots = more_slots(slot, &worker.slots, inbox.ready_len().min(limit));
                claims_made += 1;
                if are_few {
                    pace.claimed(Instant::now());
                }
                let attempt = ClaimAttempt {
                    worker_name: format!("{}#{claims_made}", worker.name),
                    seen: Arc::clone(&seen),
                    items: inbox.take(slots.num_permits()),
                    slots,
                    returned: returned.clone(),
                    finished: finished.clone(),
                    tasks: tasks.clone(),
                };
                tasks.spawn(attempt.run(Arc::clone(&worker), claim));
            }
            Some(item) = incoming.recv() => {
                inbox.push(item, clock);
                while let Ok(item) = incoming.try_recv() {
                    inbox.push(item, clock);
                }
            }
            () = sleep_precisely(next_due.unwrap_or_default().min(LONGEST_HOLD)), if next_due.is_some() => {}
            () = sleep(rest), if !rest.is_zero() => {}
        }
    }
    // What is not claimed goes back to the broker, and need not wait for calls in flight.
    drop((inbox, incoming, back));
    tasks.close();
    tasks.wait().await;
}

/// Ends within a tenth of a millisecond of its time or, if that is long, shortly before.
async fn sleep_precisely(time: Duration) {
    if time > ROUNDING { sleep(time - ROUNDING).await } else { Delay::new(time).await }
}

/// To make one claim, of few or alone, and for the first of its calls.
async fn permits(
    claims: &Arc<Semaphore>,
    are_few: bool,
    slots: &Arc<Semaphore>,
) -> (OwnedSemaphorePermit, OwnedSemaphorePermit) {
    let open = "these semaphores are never closed";
    let wanted = if are_few { 1 } else { CONCURRENT_CLAIMS };
    let claim = Arc::clone(claims).acquire_many_owned(wanted).await.expect(open);
    (claim, Arc::clone(slots).acquire_owned().await.expect(open))
}

fn more_slots(mut slot: OwnedSemaphorePermit, slots: &Arc<Semaphore>, wanted: usize) -> OwnedSemaphorePermit {
    let more = slots.available_permits().min(wanted.saturating_sub(1));
    if let Ok(more) = Arc::clone(slots).try_acquire_many_owned(u32::try_from(more).unwrap_or(u32::MAX)) {
        slot.merge(more);
    }
    slot
}

/// What earlier claims have shown.
struct Seen {
    claim_size: AtomicUsize,
    locked_until: Mutex<Instant>,
}

impl Seen {
    fn new() -> Self {
        Self { claim_size: AtomicUsize::new(MAX_CLAIM), locked_until: Mutex::new(Instant::now()) }
    }

    fn adjust_claim_size(&self, quick: bool) {
        let size = self.claim_size.load(Ordering::Relaxed);
        let size = if quick { (size + size / 4 + 1).min(MAX_CLAIM) } else { (size / 2).max(1) };
        self.claim_size.store(size, Ordering::Relaxed);
    }

    fn rows_are_locked(&self) {
        *self.locked_until.lock().expect("nobody panics while holding this lock") = Instant::now() + WARY;
    }

    fn are_rows_locked(&self) -> bool {
        *self.locked_until.lock().expect("nobody panics while holding this lock") > Instant::now()
    }
}

struct ClaimAttempt {
    /// No other claim has this name.
    worker_name: String,
    seen: Arc<Seen>,
    items: Vec<Item>,
    slots: OwnedSemaphorePermit,
    returned: mpsc::UnboundedSender<Returned>,
    finished: mpsc::UnboundedSender<Finished>,
    tasks: TaskTracker,
}

impl ClaimAttempt {
    async fn run<C: Channel>(mut self, worker: Arc<Worker<C>>, claim: OwnedSemaphorePermit) {
        failpoint("notifier.taken", "");
        let (batch, sent) = self.claim(&worker).await;
        let quick = batch.is_ok() && sent.elapsed() < CLAIM_FRESHNESS / 2;
        self.seen.adjust_claim_size(quick);
        drop(claim);
        match batch {
            Ok(batch) => {
                if sent.elapsed() < CLAIM_FRESHNESS {
                    worker.database.up();
                } else {
                    let took = sent.elapsed().as_millis();
                    worker.database.down(format!("a claim took {took} ms, and a call must begin within 100 ms of it"));
                }
                if batch.claims.is_empty() {
                    worker.gate.not_called();
                }
                if batch.paused {
                    worker.gate.set_paused(Some("somebody has paused it".to_owned()));
                    return give_back(&self.returned, Returned::Failed(self.items));
                }
                if !batch.claims.is_empty() {
                    failpoint("notifier.claimed", "");
                }
                self.start_calls(&worker, batch, sent).await;
            }
            Err(error) => {
                worker.database.down(&error);
                // The claim may have been carried out, and only its answer lost.
                let ids = self.ids();
                until_done(&worker, || worker.store.claim_abandon(&self.worker_name, &ids)).await;
                give_back(&self.returned, Returned::Failed(self.items));
            }
        }
    }

    /// Claims them or, where somebody has locked one of them, the others. Answers also when the claim was sent.
    async fn claim<C: Channel>(&mut self, worker: &Worker<C>) -> (store::Result<ClaimBatch>, Instant) {
        let mut unlocked_only = self.seen.are_rows_locked();
        loop {
            if unlocked_only && let Err(error) = self.leave_out_locked(worker).await {
                return (Err(error), Instant::now());
            }
            let request = ClaimRequest {
                channel: C::NAME,
                worker: &self.worker_name,
                ids: &self.ids(),
                lease: worker.lease(),
                property: C::PROPERTY,
            };
            let sent = Instant::now();
            match worker.store.notifications_claim(request).await {
                Err(error) if error.disposition() == Disposition::TooMuch && !unlocked_only => unlocked_only = true,
                batch => return (batch, sent),
            }
        }
    }

    /// Gives those back whose rows somebody has locked, to be claimed in a moment.
    async fn leave_out_locked<C: Channel>(&mut self, worker: &Worker<C>) -> store::Result<()> {
        let unlocked = worker.store.notifications_unlocked(&self.ids()).await?;
        let again_at = worker.store.clock().now() + LOCKED_REST;
        let locked: Vec<_> = self.items.extract_if(.., |item| !unlocked.contains(&item.id)).collect();
        if let Some(first) = locked.first() {
            let (count, first) = (locked.len(), first.id.0);
            tracing::warn!(
                event = "claim_held_up",
                count,
                first,
                "their rows are locked: tried again, the others go on"
            );
            self.seen.rows_are_locked();
        }
        for item in locked {
            give_back(&self.returned, Returned::Ready(Item { due_at: Some(again_at), ..item }));
        }
        Ok(())
    }

    fn ids(&self) -> Vec<NotificationId> {
        self.items.iter().map(|item| item.id).collect()
    }

    async fn start_calls<C: Channel>(mut self, worker: &Arc<Worker<C>>, batch: ClaimBatch, sent: Instant) {
        let mut items: HashMap<NotificationId, Item> = HashMap::with_capacity(self.items.len());
        // Several messages may name the same one.
        let mut left: Vec<Item> = self.items.into_iter().filter_map(|item| items.insert(item.id, item)).collect();
        let count = |result: &'static str, n: usize| {
            metrics::counter!("tocsin_claims_total", "channel" => C::NAME, "result" => result).increment(n as u64);
        };
        count("claimed", batch.claims.len());
        count("expired", batch.expired.len());
        for expired in &batch.expired {
            metrics::counter!("tocsin_notifications_total", "channel" => C::NAME, "state" => "failed").increment(1);
            tracing::warn!(event = "expired", notification = expired.id.0, "its max-age was over: it has failed");
        }
        let property = Arc::new(batch.property);
        for claim in batch.claims {
            let item = items.remove(&claim.id);
            let slot = self.slots.split(1);
            if let (Some(item), Some(slot)) = (item, slot) {
                let ready = Ready { claim, item, property: Arc::clone(&property), claimed_since: sent, slot };
                // Boxed, as a task's own future is moved about as a whole, and this one has kilobytes.
                self.tasks.spawn(Box::pin(call(Arc::clone(worker), ready, self.finished.clone())));
            }
        }
        drop(self.slots);
        left.extend(items.into_values());
        if !left.is_empty() {
            count("not_claimable", left.len());
            put_back_or_done::<C>(worker, left, batch.now, &self.returned).await;
        }
    }
}

/// What could not be claimed is done with, unless the database says that it waits: its time is only just to come, or the channel
/// was paused at that moment.
async fn put_back_or_done<C: Channel>(
    worker: &Worker<C>,
    left: Vec<Item>,
    now: Timestamp,
    returned: &mpsc::UnboundedSender<Returned>,
) {
    let ids: Vec<_> = left.iter().map(|item| item.id).collect();
    let waiting = until_done(worker, || worker.store.notifications_waiting(C::NAME, &ids)).await;
    let waiting: HashMap<NotificationId, Timestamp> = waiting.into_iter().collect();
    for item in left {
        match waiting.get(&item.id) {
            Some(&due_at) if is_worth_a_wait(due_at, now) => {
                give_back(returned, Returned::Ready(Item { due_at: Some(due_at), ..item }));
            }
            Some(_) | None => item.receipt.done(),
        }
    }
}

/// Until it is due, or at once where it is. What is due later than that the activator brings again.
fn is_worth_a_wait(due_at: Timestamp, now: Timestamp) -> bool {
    due_at.duration_since(now) < HOLDABLE
}

fn give_back(returned: &mpsc::UnboundedSender<Returned>, items: Returned) {
    if returned.send(items).is_err() {
        tracing::debug!("stopping: the messages go back to the broker");
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_waits_is_only_let_go_of_where_the_activator_brings_it_again() {
        let now = Timestamp::UNIX_EPOCH;
        let due_in = |seconds| now + SignedDuration::from_secs(seconds);
        assert!(is_worth_a_wait(due_in(30), now) && is_worth_a_wait(now, now) && is_worth_a_wait(due_in(-3_600), now));
        assert!(!is_worth_a_wait(due_in(61), now));
    }

    #[tokio::test]
    async fn a_claim_of_many_goes_alone_and_two_of_few_go_together() {
        let claims = Arc::new(Semaphore::new(CONCURRENT_CLAIMS as usize));
        let slots = Arc::new(Semaphore::new(10));
        let may_begin = |are_few| permits(&claims, are_few, &slots).now_or_never();
        let first = may_begin(true).unwrap();
        assert!(may_begin(false).is_none());
        let second = may_begin(true).unwrap();
        assert!(may_begin(true).is_none());
        drop((first, second));
        let alone = may_begin(false).unwrap();
        assert!(may_begin(true).is_none());
        drop(alone);
        assert_eq!(slots.available_permits(), 10, "who waited in vain holds none");
    }
}
