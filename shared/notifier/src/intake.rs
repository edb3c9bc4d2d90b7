use std::{
    pin::pin,
    time::{Duration, Instant},
};

use broker::{Backoff, Broker, Consumer, Delivery};
use futures_util::FutureExt;
use runtime::{Component, Lifecycle, chance};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use wire::Dispatch;

use crate::{inbox::Item, receipt::Receipts};

/// How long the gate must have been closed before messages are given back. One failed call among many good ones closes it
/// for a moment, and is no reason to begin anew.
const CLOSED_FOR_GOOD: Duration = Duration::from_secs(2);

/// A session that takes no more messages, but can still acknowledge those that it took.
pub(crate) struct EndingSession {
    consumer: Consumer,
    acknowledging: JoinHandle<broker::Result<()>>,
}

impl EndingSession {
    /// Waits until all that was done is acknowledged, and the rest given back to the broker.
    pub(crate) async fn end(self) {
        match self.acknowledging.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(event = "ack_failed", %error, "some messages will be delivered again"),
            Err(error) => tracing::error!(event = "bug", %error, "some messages will be delivered again"),
        }
        self.consumer.close().await;
    }
}

/// How a session came to its end.
enum End {
    /// The program stops.
    Stopping(EndingSession),
    /// The gate has opened or closed.
    Gate(Consumer),
}

/// Takes messages from the queue, session after session, until the program stops.
///
/// While the gate is closed it holds one message at most, for the next probe. What it had taken goes back to the broker:
/// another worker may have no such trouble.
pub(crate) async fn take_in(
    broker: Broker,
    queue: String,
    prefetch: u16,
    items: mpsc::UnboundedSender<Item>,
    mut gate: watch::Receiver<bool>,
    component: Component,
    lifecycle: Lifecycle,
) -> Option<EndingSession> {
    let mut backoff = Backoff::default();
    while !lifecycle.stop.is_cancelled() {
        let (open, began) = (*gate.borrow(), Instant::now());
        let error = match Consumer::open(&broker, &queue, if open { prefetch } else { 1 }).await {
            Ok(consumer) => {
                component.up();
                match consume(consumer, &items, settled(&mut gate, open), &lifecycle).await {
                    Ok(End::Stopping(session)) => return Some(session),
                    Ok(End::Gate(consumer)) => {
                        consumer.close().await;
                        continue;
                    }
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        component.down(error);
        lifecycle.pause(backoff.next_after(began.elapsed(), chance())).await;
    }
    None
}

async fn consume(
    mut consumer: Consumer,
    items: &mpsc::UnboundedSender<Item>,
    gate_is_other: impl Future<Output = ()>,
    lifecycle: &Lifecycle,
) -> broker::Result<End> {
    let mut gate_is_other = pin!(gate_is_other);
    let (receipts, acknowledge) = Receipts::of(consumer.acks());
    let mut acknowledging = lifecycle.spawn("acknowledging", acknowledge);
    loop {
        tokio::select! {
            biased;
            // First: what nobody here takes any more comes back at once.
            () = lifecycle.stop.cancelled() => break,
            // Without acknowledgements the broker would soon send nothing more.
            Ok(Err(error)) = &mut acknowledging => return Err(error),
            () = &mut gate_is_other => {
                // Whatever is not done by now is somebody else's.
                acknowledging.abort();
                return Ok(End::Gate(consumer));
            }
            delivery = consumer.next() => accept(delivery?, &receipts, items),
        }
    }
    consumer.stop().await?;
    while let Some(Ok(delivery)) = consumer.next().now_or_never() {
        receipts.give_back(delivery.tag);
    }
    Ok(End::Stopping(EndingSession { consumer, acknowledging }))
}

/// Waits until the gate is open where it was not, or closed for good where it was open.
async fn settled(gate: &mut watch::Receiver<bool>, was_open: bool) {
    loop {
        if gate.wait_for(|open| *open != was_open).await.is_err() {
            // The worker is coming to its end, and with it all this.
            return std::future::pending().await;
        }
        if !was_open || timeout(CLOSED_FOR_GOOD, gate.wait_for(|open| *open)).await.is_err() {
            return;
        }
    }
}

fn accept(delivery: Delivery, receipts: &Receipts, items: &mpsc::UnboundedSender<Item>) {
    let dispatch = match Dispatch::from_json(&delivery.body) {
        Ok(dispatch) => dispatch,
        Err(error) => {
            metrics::counter!("tocsin_unusable_messages_total").increment(1);
            tracing::warn!(event = "unusable_message", %error, "a message can't be read and goes to queue dead");
            return receipts.unusable(delivery.tag);
        }
    };
    let receipt = receipts.message(delivery.tag, dispatch.items.len());
    for item in dispatch.items {
        let item = Item { id: item.id, due_at: item.due_at, receipt: receipt.clone() };
        if items.send(item).is_err() {
            tracing::debug!("stopping: the message goes back to the broker");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gate_that_closes_for_a_moment_is_not_taken_for_closed() {
        let gate = watch::Sender::new(true);
        let mut watch = gate.subscribe();
        let mut closed = pin!(settled(&mut watch, true));
        let is_settled = async |closed: &mut std::pin::Pin<&mut _>, wait| timeout(wait, closed).await.is_ok();
        let moment = Duration::from_millis(200);
        for _ in 0..5 {
            gate.send_replace(false);
            assert!(!is_settled(&mut closed, moment).await);
            gate.send_replace(true);
            assert!(!is_settled(&mut closed, moment).await);
        }
        gate.send_replace(false);
        assert!(is_settled(&mut closed, CLOSED_FOR_GOOD + moment).await);
        let mut watch = gate.subscribe();
        let mut opened = pin!(settled(&mut watch, false));
        gate.send_replace(true);
        assert!(timeout(moment, &mut opened).await.is_ok(), "that it is open is used at once");
    }
}
