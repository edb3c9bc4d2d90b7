use broker::{Backoff, Broker, Consumer, Delivery};
use runtime::{Component, Lifecycle, chance};
use tokio::{sync::mpsc, task::JoinHandle};
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

/// Takes messages from the queue, session after session, until the program stops.
pub(crate) async fn take_in(
    broker: Broker,
    queue: String,
    prefetch: u16,
    items: mpsc::UnboundedSender<Item>,
    component: Component,
    lifecycle: Lifecycle,
) -> Option<EndingSession> {
    let mut backoff = Backoff::default();
    while !lifecycle.stop.is_cancelled() {
        let error = match Consumer::open(&broker, &queue, prefetch).await {
            Ok(consumer) => {
                component.up();
                backoff.reset();
                match consume(consumer, &items, &lifecycle).await {
                    Ok(ending) => return Some(ending),
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
    lifecycle: &Lifecycle,
) -> broker::Result<EndingSession> {
    let (receipts, acknowledge) = Receipts::of(consumer.acks());
    let mut acknowledging = lifecycle.spawn("acknowledging", acknowledge);
    loop {
        tokio::select! {
            delivery = consumer.next() => accept(delivery?, &receipts, items),
            // Without acknowledgements the broker would soon send nothing more.
            Ok(Err(error)) = &mut acknowledging => return Err(error),
            () = lifecycle.stop.cancelled() => break,
        }
    }
    consumer.stop().await?;
    Ok(EndingSession { consumer, acknowledging })
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
