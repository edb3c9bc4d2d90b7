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
        send(&finished, Finished::Uncalled(Uncalled { item, fence: claim.fence, delay }));
    };
    let patience = CLAIM_FRESHNESS.saturating_sub(claimed_since.elapsed());
    let place = match worker.channel.shared_place(&claim) {
        None => None,
        Some(address) => match worker.shares.place(&address, patience).await {
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
        metrics::histogram!("tocsin_lateness_seconds", "channel" => C::NAME).record(late.as_secs_f64());
    }
    let in_flight = metrics::gauge!("tocsin_calls_in_flight", "channel" => C::NAME);
    in_flight.increment(1);
    let (answer, was_sent) = answer(&worker, &claim, property.as_ref().as_ref()).await;
    in_flight.decrement(1);
    metrics::histogram!("tocsin_call_seconds", "channel" => C::NAME).record(began.elapsed().as_secs_f64());
    failpoint("notifier.called", claim.id);
    drop((slot, place));
    learn(&worker, &answer, was_sent);
    let answer = answer.with_wait_of_one(worker.provider, claim.fence.into());

    let attempts = claim.attempts.saturating_add(u16::from(answer.outcome.costs_an_attempt()));
    let (state, retry) = after_attempt(
        answer.outcome,
        attempts,
        claim.fence.into(),
        claim.max_attempts,
        claim.on_unknown,
        answer.retry_after,
    );
    let result = AttemptResult {
        id: claim.id,
        fence: claim.fence,
        outcome: answer.outcome,
        state,
        retry,
        started_at,
        finished_at: clock.now(),
        provider_id: answer.provider_id.map(|text| keepable(&text)),
        detail: answer.detail.map(|text| keepable(&text)),
    };
    send(&finished, Finished::Called(Box::new(Called { result, claim, receipt: item.receipt })));
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

/// What came of it, and whether it is the provider who said so.
async fn answer<C: Channel>(worker: &Worker<C>, claim: &Claim, property: Option<&Value>) -> (Answer, bool) {
    let call = async {
        match worker.channel.prepare(claim, property) {
            Ok(message) if worker.dry_run => (Answer::new(Outcome::DryRun, message.to_string()), false),
            Ok(message) => (worker.channel.send(message).await, true),
            Err(answer) => (answer, false),
        }
    };
    match timeout(worker.call_timeout, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_panic)) => (Answer::new(Outcome::Unknown, "the worker failed in the middle of the call: a bug"), false),
        Err(_) => (Answer::timed_out(worker.call_timeout), true),
    }
}

/// A provider's words as the database can keep them.
fn keepable(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(MAX_DETAIL).collect()
}

fn send(finished: &mpsc::UnboundedSender<Finished>, what: Finished) {
    if finished.send(what).is_err() {
        tracing::error!(event = "bug", "the recorder ended before the calls: the claim will run out");
    }
}
