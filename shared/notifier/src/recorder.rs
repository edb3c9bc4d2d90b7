use std::{
    collections::{BTreeMap, HashMap},
    mem::take,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use broker::Backoff;
use domain::{NotificationId, Outcome, RetryWay};
use runtime::{chance, failpoint, log_together};
use store::{AttemptResult, Claim, Disposition, Recorded};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    Channel,
    claimer::{LOCKED_REST, Returned},
    inbox::Item,
    receipt::Receipt,
    retrier::Retry,
    worker::Worker,
};

/// As many results as one statement takes.
const BATCH: usize = 1_000;

/// The longest that a result waits for others.
const PATIENCE: Duration = Duration::from_millis(20);

/// Results wait while they are fewer than one to so many claims in hand. If this worker dies, nobody knows what came of those
/// either: the calls that are made again for the wait are an eighth more.
const CLAIMS_TO_A_WAITING_RESULT: usize = 8;

/// What is to be recorded of a claim.
pub(crate) enum Finished {
    /// The provider was called.
    Called(Box<Called>),
    /// It was not, and the claim is given back.
    Uncalled(Uncalled),
}

pub(crate) struct Called {
    pub(crate) result: AttemptResult,
    pub(crate) claim: Claim,
    pub(crate) receipt: Receipt,
}

pub(crate) struct Uncalled {
    pub(crate) item: Item,
    pub(crate) fence: i32,
    /// When it may be claimed again: at once, by this worker, or later, when the activator brings it back.
    pub(crate) delay: Duration,
}

impl Finished {
    fn id(&self) -> NotificationId {
        match self {
            Self::Called(one) => one.result.id,
            Self::Uncalled(one) => one.item.id,
        }
    }
}

/// Records what came of calls, in batches that grow while the database is busy, and only then lets go of their
/// messages. While the database is away it waits. Ends when nobody can finish anything any more.
pub(crate) async fn record<C: Channel>(
    worker: Arc<Worker<C>>,
    mut finished: mpsc::UnboundedReceiver<Finished>,
    retries: mpsc::UnboundedSender<Retry>,
    returned: mpsc::UnboundedSender<Returned>,
) {
    let recorder = Recorder { worker, retries, returned, set_aside: AtomicUsize::new(0) };
    let (aside, held_up) = mpsc::unbounded_channel();
    let together = async {
        let aside = aside;
        let mut batch = Vec::new();
        while finished.recv_many(&mut batch, BATCH).await > 0 {
            gather(&mut batch, &mut finished, || recorder.worker.claims_in_hand() / CLAIMS_TO_A_WAITING_RESULT).await;
            let unlocked_only = recorder.set_aside.load(Ordering::Relaxed) > 0;
            for one in recorder.record(take(&mut batch), unlocked_only).await {
                recorder.set_aside.fetch_add(1, Ordering::Relaxed);
                aside.send(one).unwrap_or_default();
            }
        }
    };
    tokio::join!(together, recorder.record_held_up(held_up));
}

/// Adds to a batch until it is large enough: to record it costs as much as fifty more rows do.
async fn gather<T>(batch: &mut Vec<T>, incoming: &mut mpsc::UnboundedReceiver<T>, enough: impl Fn() -> usize) {
    let until = Instant::now() + PATIENCE;
    while batch.len() < enough() {
        match timeout_at(until, incoming.recv_many(batch, BATCH)).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

struct Recorder<C> {
    worker: Arc<Worker<C>>,
    retries: mpsc::UnboundedSender<Retry>,
    returned: mpsc::UnboundedSender<Returned>,
    /// Held up by somebody who has locked their rows, and not recorded yet.
    set_aside: AtomicUsize,
}

impl<C: Channel> Recorder<C> {
    /// Answers those that are held up. `unlocked_only`: the others wait for no row that somebody has locked.
    async fn record(&self, mut finished: Vec<Finished>, unlocked_only: bool) -> Vec<Finished> {
        let mut held_up = Vec::new();
        if unlocked_only {
            let ids: Vec<_> = finished.iter().map(Finished::id).collect();
            let unlocked = until_done(&self.worker, || self.worker.store.notifications_unlocked(&ids)).await;
            held_up.extend(finished.extract_if(.., |one| !unlocked.contains(&one.id())));
        }
        let (mut called, mut uncalled) = (Vec::new(), Vec::new());
        for one in finished {
            match one {
                Finished::Called(one) => called.push(*one),
                Finished::Uncalled(one) => uncalled.push(one),
            }
        }
        if !called.is_empty() {
            held_up.extend(self.record_calls(called, unlocked_only).await);
        }
        if !uncalled.is_empty() {
            held_up.extend(self.release(uncalled).await);
        }
        held_up
    }

    /// Records what was held up when its row is free, while the others go on.
    async fn record_held_up(&self, mut set_aside: mpsc::UnboundedReceiver<Finished>) {
        let mut waiting = Vec::new();
        while set_aside.recv_many(&mut waiting, BATCH).await > 0 {
            while !waiting.is_empty() {
                while let Ok(one) = set_aside.try_recv() {
                    waiting.push(one);
                }
                let count = waiting.len();
                waiting = self.record(waiting, true).await;
                self.set_aside.fetch_sub(count - waiting.len(), Ordering::Relaxed);
                if let Some(first) = waiting.first() {
                    let (count, first) = (waiting.len(), first.id().0);
                    tracing::warn!(event = "record_held_up", count, first, "their rows are locked: tried again");
                    sleep(LOCKED_REST).await;
                }
            }
        }
    }

    async fn record_calls(&self, called: Vec<Called>, unlocked_only: bool) -> Vec<Finished> {
        let mut held_up = Vec::new();
        let mut parts = vec![called];
        while let Some(mut part) = parts.pop() {
            let results: Vec<_> = part.iter().map(|one| &one.result).collect();
            let notification = results[0].id.0;
            let is_given_up = |disposition| match disposition {
                Disposition::BadData | Disposition::TooMuch => true,
                Disposition::Conflict | Disposition::Wait => false,
            };
            let record = || self.worker.store.attempts_record(&results);
            match until_done_unless(&self.worker, is_given_up, record).await {
                Ok(recorded) => self.finish(part, &recorded).await,
                Err(error) if error.disposition() == Disposition::TooMuch && (!unlocked_only || part.len() == 1) => {
                    held_up.extend(part.into_iter().map(|one| Finished::Called(Box::new(one))));
                }
                // Until the one is found that the database refuses, or that takes it too long.
                Err(_) if part.len() > 1 => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
                Err(error) => {
                    tracing::error!(event = "bug", notification, %error, "can't be recorded: its claim will run out");
                }
            }
        }
        held_up
    }

    async fn finish(&self, called: Vec<Called>, recorded: &[Recorded]) {
        failpoint("notifier.recorded", "");
        count(C::NAME, &called, recorded);
        let recorded: HashMap<(NotificationId, i32), &Recorded> =
            recorded.iter().map(|one| ((one.id, one.fence), one)).collect();
        let late = |one: &&Called| !recorded.contains_key(&(one.result.id, one.result.fence));
        let late: Vec<_> = called.iter().filter(late).map(|one| &one.result).collect();
        if !late.is_empty() {
            self.record_late(&late).await;
        }
        log_together(|| {
            for Called { result, claim, receipt } in called {
                let recorded = recorded.get(&(result.id, result.fence)).copied();
                log(&result, &claim, recorded);
                match (recorded, result.retry) {
                    (Some(Recorded { due_at: Some(due_at), .. }), Some(RetryWay::Tier(tier))) => {
                        let retry = Retry { tier, id: result.id, due_at: *due_at, receipt };
                        if self.retries.send(retry).is_err() {
                            tracing::error!(event = "bug", "the retrier ended early: the activator will bring it back");
                        }
                    }
                    _ => receipt.done(),
                }
            }
        });
    }

    /// Adds to the history what came after its claim had run out. What somebody has locked there goes without.
    async fn record_late(&self, late: &[&AttemptResult]) {
        let record = async |part: &[&AttemptResult]| {
            let is_given_up = |disposition| disposition == Disposition::TooMuch;
            until_done_unless(&self.worker, is_given_up, || self.worker.store.attempts_record_late(part)).await
        };
        if record(late).await.is_ok() {
            return;
        }
        for one in late.chunks(1) {
            if let Err(error) = record(one).await {
                let (notification, outcome) = (one[0].id.0, one[0].outcome.as_str());
                tracing::warn!(event = "late_answer_lost", notification, outcome, %error, "its row is locked");
            }
        }
    }

    async fn release(&self, uncalled: Vec<Uncalled>) -> Vec<Finished> {
        let mut held_up = Vec::new();
        let mut by_delay: BTreeMap<Duration, Vec<Uncalled>> = BTreeMap::new();
        for one in uncalled {
            // In steps of a second, so that one statement serves many.
            by_delay.entry(Duration::from_secs(one.delay.as_secs())).or_default().push(one);
        }
        for (delay, group) in by_delay {
            let claims: Vec<_> = group.iter().map(|one| (one.item.id, one.fence)).collect();
            let (count, first) = (claims.len(), group[0].item.id.0);
            let reason = if delay.is_zero() { "the claim took too long" } else { "the address is busy" };
            tracing::warn!(event = "released", count, first, reason, "claimed, and given back without a call");
            let is_given_up = |disposition| disposition == Disposition::TooMuch;
            let release = || self.worker.store.notifications_release(&claims, delay);
            if until_done_unless(&self.worker, is_given_up, release).await.is_err() {
                held_up.extend(group.into_iter().map(Finished::Uncalled));
                continue;
            }
            for Uncalled { item, .. } in group {
                if !delay.is_zero() {
                    item.receipt.done();
                } else if self.returned.send(Returned::Ready(item)).is_err() {
                    tracing::debug!("stopping: the message goes back to the broker");
                }
            }
        }
        held_up
    }
}

/// The same statement again and again until the database has carried it out.
pub(crate) async fn until_done<C, T, W>(worker: &Worker<C>, statement: impl Fn() -> W) -> T
where
    W: Future<Output = store::Result<T>>,
{
    match until_done_unless(worker, |_| false, statement).await {
        Ok(done) => done,
        Err(error) => unreachable!("it was never to be given up: {error}"),
    }
}

/// The same, but an error where it is to be given up.
async fn until_done_unless<C, T, W>(
    worker: &Worker<C>,
    is_given_up: impl Fn(Disposition) -> bool,
    statement: impl Fn() -> W,
) -> store::Result<T>
where
    W: Future<Output = store::Result<T>>,
{
    let mut backoff = Backoff::default();
    loop {
        match statement().await {
            Ok(done) => return Ok(done),
            Err(error) if is_given_up(error.disposition()) => return Err(error),
            Err(error) => {
                worker.database.down(&error);
                sleep(backoff.next(chance())).await;
            }
        }
    }
}

/// Counts them, each metric once: to find it by its name takes longer than to count.
fn count(channel: &'static str, called: &[Called], recorded: &[Recorded]) {
    let mut outcomes: BTreeMap<&'static str, u64> = BTreeMap::new();
    for one in called {
        *outcomes.entry(one.result.outcome.as_str()).or_default() += 1;
    }
    for (outcome, count) in outcomes {
        metrics::counter!("tocsin_attempts_total", "channel" => channel, "outcome" => outcome).increment(count);
    }
    let mut states: BTreeMap<&'static str, u64> = BTreeMap::new();
    for one in recorded.iter().filter(|one| one.state.is_final()) {
        *states.entry(one.state.as_str()).or_default() += 1;
    }
    for (state, count) in states {
        metrics::counter!("tocsin_notifications_total", "channel" => channel, "state" => state).increment(count);
    }
}

fn log(result: &AttemptResult, claim: &Claim, recorded: Option<&Recorded>) {
    let outcome = result.outcome.as_str();
    let state = recorded.map_or("claim lost", |recorded| recorded.state.as_str());
    let late = result.started_at.duration_since(claim.scheduled_at);
    // A wider number would be logged as a text.
    let late_ms = i64::try_from(late.as_millis()).unwrap_or(i64::MAX);
    let (notification, attempt, run) = (result.id.0, result.fence, claim.run);
    // What a dry run would have sent stands in the history, and is nobody else's business.
    let detail = result.detail.as_deref().filter(|_| result.outcome != Outcome::DryRun);
    let (process, provider_id) = (&claim.process, result.provider_id.as_deref());
    if result.outcome == Outcome::Delivered {
        tracing::info!(
            event = "attempt",
            notification,
            process,
            run,
            attempt,
            outcome,
            state,
            provider_id,
            late_ms,
            "called"
        );
    } else {
        tracing::warn!(
            event = "attempt",
            notification,
            process,
            run,
            attempt,
            outcome,
            state,
            detail,
            late_ms,
            "called"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_batch_waits_for_as_many_as_are_enough_and_no_longer_than_patience() {
        let (results, mut incoming) = mpsc::unbounded_channel();
        let send = |count: usize| (0..count).for_each(|n| results.send(n).unwrap());
        let mut batch = vec![0];
        send(1);
        gather(&mut batch, &mut incoming, || 1).await;
        assert_eq!(batch.len(), 1, "what is enough waits for nothing");
        send(2);
        gather(&mut batch, &mut incoming, || 4).await;
        assert_eq!(batch.len(), 4);
        let begin = Instant::now();
        gather(&mut batch, &mut incoming, || 5).await;
        assert!(batch.len() == 4 && begin.elapsed() >= PATIENCE);
        drop(results);
        gather(&mut batch, &mut incoming, || usize::MAX).await;
        assert_eq!(batch.len(), 4, "nobody will send any more");
    }
}
