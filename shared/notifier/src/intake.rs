use broker::{Backoff, Broker, Consumer, Delivery};
use runtime::{Component, Lifecycle, chance};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use wire::Dispatch;

use crate::{inbox::Item, receipt::Receipts};

/// A session that takes no more messages, but can still acknowledge those that it took.
pub(crate) struct EndingSession {
    consumer: Consumer,
    acknowledging: JoinHandle<broker::Result<()>>,
}

impl EndingSession {
    /// Waits until all that was done is acknowledged, and gives the rest back to the broker.
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
        let prefetch = if *gate.borrow_and_update() { prefetch } else { 1 };
        let error = match Consumer::open(&broker, &queue, prefetch).await {
            Ok(consumer) => {
                component.up();
                backoff.reset();
                match consume(consumer, &items, &mut gate, &lifecycle).await {
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
        lifecycle.pause(backoff.next(chance())).await;
    }
    None
}

async fn consume(
    mut consumer: Consumer,
    items: &mpsc::UnboundedSender<Item>,
    gate: &mut watch::Receiver<bool>,
    lifecycle: &Lifecycle,
) -> broker::Result<End> {
    let (receipts, acknowledge) = Receipts::of(consumer.acks());
    let mut acknowledging = lifecycle.spawn("acknowledging", acknowledge);
    loop {
        tokio::select! {
            delivery = consumer.next() => accept(delivery?, &receipts, items),
            // Without acknowledgements the broker would soon send nothing more.
            Ok(Err(error)) = &mut acknowledging => return Err(error),
            Ok(()) = gate.changed() => {
                // Whatever is not done by now is somebody else's.
                acknowledging.abort();
                return Ok(End::Gate(consumer));
            }
            () = lifecycle.stop.cancelled() => break,
        }
    }
    consumer.stop().await?;
    Ok(End::Stopping(EndingSession { consumer, acknowledging }))
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
