use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{Outcome, after_attempt};
use futures_util::FutureExt;
use runtime::failpoint;
use serde_json::Value;
use store::{AttemptResult, Claim};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};

use crate::{
    Answer, Channel,
    inbox::Item,
    recorder::{Called, Finished, Uncalled},
    worker::Worker,
};

/// A call may begin no later than this after its claim was sent: a stop that commits after the claim must not be
/// followed by a call for longer.
pub(crate) const CLAIM_FRESHNESS: Duration = Duration::from_millis(100);

/// As much of a provider's words as is kept, in characters.
const MAX_DETAIL: usize = 500;

/// A claimed notification with a slot to call in.
pub(crate) struct Ready {
    pub(crate) claim: Claim,
    pub(crate) item: Item,
    pub(crate) property: Arc<Option<Value>>,
    /// When the claim was sent, and so the earliest that it can have been committed.
    pub(crate) claimed_since: Instant,
    pub(crate) slot: OwnedSemaphorePermit,
}

/// Makes one call, unless its claim has grown stale or its address is busy, and says what came of it.
pub(crate) async fn call<C: Channel>(worker: Arc<Worker<C>>, ready: Ready, finished: mpsc::UnboundedSender<Finished>) {
    let Ready { claim, item, property, claimed_since, slot } = ready;
    let uncalled = |item, delay| {
        worker.gate.not_called();
        finish(&finished, Finished::Uncalled(Uncalled { item, fence: claim.fence, delay }));
    };
    let message = prepare(&worker.channel, &claim, property.as_ref().as_ref());
    let patience = CLAIM_FRESHNESS.saturating_sub(claimed_since.elapsed());
    let address = message.as_ref().ok().and_then(|message| worker.channel.shared_place(&claim, message));
    let place = match address {
        None => None,
        Some(address) => match worker.shares.place(address, patience).await {
            Ok(place) => Some(place),
            Err(stay_away) => return uncalled(item, stay_away),
        },
    };
    if claimed_since.elapsed() > CLAIM_FRESHNESS {
        metrics::counter!("tocsin_stale_claims_total", "channel" => C::NAME).increment(1);
        return uncalled(item, Duration::ZERO);
    }

    failpoint("notifier.calling", claim.id);
    let clock = worker.store.clock();
    let (began, started_at) = (Instant::now(), clock.now());
    if claim.attempts == 0 {
        let late = Duration::try_from(started_at.duration_since(claim.scheduled_at)).unwrap_or_default();
        worker.meters.lateness_seconds.record(late.as_secs_f64());
    }
    worker.meters.calls_in_flight.increment(1);
    let (answer, was_sent) = match message {
        Ok(message) if worker.dry_run => (Answer::new(Outcome::DryRun, message.to_string()), false),
        Ok(message) => (send(&worker, message).await, true),
        Err(answer) => (answer, false),
    };
    worker.meters.calls_in_flight.decrement(1);
    worker.meters.call_seconds.record(began.elapsed().as_secs_f64());
    failpoint("notifier.called", claim.id);
    drop((slot, place));
    learn(&worker, &answer, was_sent);
    let refusals = claim.refusals.saturating_add(u16::from(!answer.outcome.costs_an_attempt()));
    let answer = answer.with_wait_of_one(worker.provider, refusals);
    let attempts = claim.attempts.saturating_add(u16::from(answer.outcome.costs_an_attempt()));
    let (state, retry) =
        after_attempt(answer.outcome, attempts, refusals, claim.max_attempts, claim.on_unknown, answer.retry_after);
    let result = AttemptResult {
        id: claim.id,
        fence: claim.fence,
        outcome: answer.outcome,
        state,
        retry,
        started_at,
        finished_at: clock.now(),
        provider_id: answer.provider_id.map(keepable),
        detail: answer.detail.map(keepable),
    };
    finish(&finished, Finished::Called(Box::new(Called { result, claim, receipt: item.receipt })));
}

/// What the answer says of the channel as a whole. `was_sent`: it is the provider who gave it.
fn learn<C: Channel>(worker: &Worker<C>, answer: &Answer, was_sent: bool) {
    if !worker.provider.serves_all() {
        return;
    }
    // Only the provider can say that it serves the channel again.
    if was_sent || answer.outcome == Outcome::ChannelDown {
        worker.gate.saw(answer);
    } else {
        worker.gate.not_called();
    }
}

fn prepare<C: Channel>(channel: &C, claim: &Claim, property: Option<&Value>) -> Result<C::Message, Answer> {
    std::panic::catch_unwind(AssertUnwindSafe(|| channel.prepare(claim, property))).unwrap_or_else(|_| Err(panicked()))
}

async fn send<C: Channel>(worker: &Worker<C>, message: C::Message) -> Answer {
    let call = AssertUnwindSafe(worker.channel.send(message)).catch_unwind();
    match timeout(worker.call_timeout, call).await {
        Ok(answer) => answer.unwrap_or_else(|_| panicked()),
        Err(_) => Answer::timed_out(worker.call_timeout),
    }
}

fn panicked() -> Answer {
    Answer::new(Outcome::Unknown, "the worker failed in the middle of the call: a bug")
}

/// A provider's words as the database can keep them.
fn keepable(text: String) -> String {
    let is_kept_whole = text.len() <= MAX_DETAIL && !text.contains('\0');
    if is_kept_whole { text } else { text.chars().filter(|c| *c != '\0').take(MAX_DETAIL).collect() }
}

fn finish(finished: &mpsc::UnboundedSender<Finished>, what: Finished) {
    if finished.send(what).is_err() {
        tracing::error!(event = "bug", "the recorder ended before the calls: the claim will run out");
    }
}
