use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use broker::{Backoff, Consumer, Delivery};
use runtime::chance;
use store::DeadLetter;
use tokio::time::timeout;
use wire::Dispatch;

use crate::{Activator, session::Error};

/// Where messages end that nobody could take, as in rabbitmq/definitions.json.
pub(crate) const QUEUE: &str = "dead";

/// How long to wait for a letter that somebody else may have got.
const ONCE_WAIT: Duration = Duration::from_secs(2);

/// Keeps what arrives in the dead-letter queue for people to see, until the program stops.
pub(crate) async fn keep_draining(activator: Arc<Activator>) {
    let stop = &activator.lifecycle.stop;
    let component = &activator.dead_letters;
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        let began = Instant::now();
        let draining = async {
            let mut consumer = Consumer::open(&activator.broker, QUEUE, 100).await?;
            component.up();
            loop {
                let delivery = tokio::select! {
                    delivery = consumer.next() => delivery?,
                    () = stop.cancelled() => break,
                };
                let (tag, letter) = read(delivery);
                // The session is kept while the database is away: each new one would count as a delivery, and the
                // broker drops what was delivered too often.
                let mut database_backoff = Backoff::default();
                while let Err(error) = activator.store.dead_letter_add(&letter).await {
                    component.down(error);
                    if !activator.lifecycle.pause(database_backoff.next(chance())).await {
                        return Ok(());
                    }
                }
                component.up();
                consumer.acks().ack(tag).await?;
            }
            consumer.close().await;
            Ok(())
        };
        let drained: broker::Result<()> = draining.await;
        if let Err(error) = drained {
            component.down(error);
            activator.lifecycle.pause(backoff.next_after(began.elapsed(), chance())).await;
        }
    }
}

/// Keeps what is in the dead-letter queue now.
pub(crate) async fn drain(activator: &Activator) -> Result<(), Error> {
    let mut consumer = Consumer::open(&activator.broker, QUEUE, 100).await?;
    for _ in 0..consumer.waiting() {
        // Another activator may have taken it.
        let Ok(delivery) = timeout(ONCE_WAIT, consumer.next()).await else { break };
        let (tag, letter) = read(delivery?);
        activator.store.dead_letter_add(&letter).await?;
        consumer.acks().ack(tag).await?;
    }
    consumer.close().await;
    Ok(())
}

fn read(delivery: Delivery) -> (u64, DeadLetter) {
    let (queue, reason) = delivery
        .first_death
        .map_or_else(|| ("unknown".to_owned(), "unknown".to_owned()), |death| (death.queue, death.reason));
    let ids = Dispatch::ids_in(&delivery.body);
    metrics::counter!("tocsin_dead_letters_total", "reason" => reason.clone()).increment(1);
    tracing::warn!(event = "dead_letter", queue, reason, notifications = ids.len(), "a message died; it is kept");
    (delivery.tag, DeadLetter { queue, reason, ids, body: delivery.body })
}
