use broker::{Broker, Message, Publisher};
use domain::{NotificationId, RetryTier};
use jiff::Timestamp;
use runtime::failpoint;
use tokio::sync::mpsc;
use wire::{Dispatch, Item};

use crate::receipt::Receipt;

const BATCH: usize = 1_000;

/// A notification that is to come back from a retry queue of the broker.
pub(crate) struct Retry {
    pub(crate) tier: RetryTier,
    pub(crate) id: NotificationId,
    pub(crate) due_at: Timestamp,
    pub(crate) receipt: Receipt,
}

/// Puts retries into the broker's retry queues, and only then lets go of the messages that they came with.
///
/// It does not insist: the time of the next try stands in the database, and what the broker does not bring back the
/// activator does, half a minute later.
pub(crate) async fn send_retries(broker: Broker, queue: String, mut retries: mpsc::UnboundedReceiver<Retry>) {
    let mut publisher = None;
    let mut batch = Vec::new();
    while retries.recv_many(&mut batch, BATCH).await > 0 {
        let mut sent = publish(&broker, &mut publisher, &queue, &batch).await;
        if sent.is_err() {
            // The session may have ended long ago without anybody noticing.
            publisher = None;
            sent = publish(&broker, &mut publisher, &queue, &batch).await;
        }
        if let Err(error) = sent {
            publisher = None;
            let count = batch.len();
            tracing::warn!(event = "retries_unsent", %error, count, "the activator will bring them back");
        }
        failpoint("notifier.retry_published", "");
        batch.drain(..).for_each(|retry| retry.receipt.done());
    }
    if let Some(publisher) = publisher {
        publisher.close().await;
    }
}

async fn publish(
    broker: &Broker,
    publisher: &mut Option<Publisher>,
    queue: &str,
    retries: &[Retry],
) -> broker::Result<()> {
    let publisher = match publisher {
        Some(publisher) if publisher.check().is_ok() => publisher,
        Some(_) | None => publisher.insert(Publisher::open(broker, &RetryTier::ALL.map(RetryTier::exchange)).await?),
    };
    let message = |retry: &Retry| {
        let dispatch = Dispatch { items: vec![Item { id: retry.id, due_at: Some(retry.due_at) }] };
        // The routing key is the queue itself: the retry queue gives the message back to it and to no other.
        Message { exchange: retry.tier.exchange(), routing_key: queue.to_owned(), body: dispatch.to_json() }
    };
    let messages: Vec<_> = retries.iter().map(message).collect();
    let (sent, failed) = publisher.publish(&messages).await;
    if let Some(error) = failed {
        return Err(error);
    }
    for publication in sent {
        let confirm = publication.confirm().await?;
        if !confirm.is_ack || confirm.returned.is_some() {
            let reason = confirm.returned.map_or_else(|| "a queue refused it".to_owned(), |returned| returned.reason);
            tracing::warn!(event = "retry_returned", reason, "the activator will bring it back");
        }
    }
    Ok(())
}
