use futures_util::StreamExt;
use lapin::{
    Channel, Connection,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    Broker, Error, Result,
    connection::{close, in_time, verify_queue},
};

const TAG: &str = "tocsin";

/// A session that consumes one queue.
pub struct Consumer {
    connection: Connection,
    channel: Channel,
    stream: lapin::Consumer,
    queue: String,
    waiting: u32,
}

/// A message, unacknowledged.
#[derive(Debug)]
pub struct Delivery {
    /// Its number in this session.
    pub tag: u64,
    /// Its body.
    pub body: Vec<u8>,
    /// Where it first died and why, if it comes from a dead-letter exchange.
    pub first_death: Option<FirstDeath>,
}

/// Where and why a message was given up, as the broker notes it.
#[derive(Debug)]
pub struct FirstDeath {
    /// The queue that gave it up.
    pub queue: String,
    /// `rejected`, `delivery_limit`, `expired` or `maxlen`.
    pub reason: String,
}

/// The way to acknowledge the messages of one session. After the session's end it does nothing: the broker gives
/// those messages to somebody else.
#[derive(Clone)]
pub struct Acks(Channel);

impl Consumer {
    /// Connects, verifies that the queue exists, and begins to consume, with at most `prefetch` messages
    /// unacknowledged.
    pub async fn open(broker: &Broker, queue: &str, prefetch: u16) -> Result<Self> {
        let connection = broker.connect("consumer").await?;
        let channel = in_time("opening a channel", connection.create_channel()).await?;
        let waiting = verify_queue(&channel, queue).await?.messages;
        in_time("setting the prefetch", channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let consume =
            channel.basic_consume(queue.into(), TAG.into(), BasicConsumeOptions::default(), FieldTable::default());
        let stream = in_time("starting to consume", consume).await?;
        Ok(Self { connection, channel, stream, queue: queue.to_owned(), waiting })
    }

    /// The next message. An error ends the session. Safe to use in `select!`.
    pub async fn next(&mut self) -> Result<Delivery> {
        let delivery = self.stream.next().await.ok_or_else(|| Error::ConsumerCancelled(self.queue.clone()))??;
        let header = |name: &str| match delivery.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            _ => None,
        };
        let first_death = header("x-first-death-queue")
            .map(|queue| FirstDeath { queue, reason: header("x-first-death-reason").unwrap_or_default() });
        Ok(Delivery { tag: delivery.delivery_tag, body: delivery.data, first_death })
    }

    /// How many messages were waiting in the queue when the session began.
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    /// The way to acknowledge.
    pub fn acks(&self) -> Acks {
        Acks(self.channel.clone())
    }

    /// Asks the broker for no more; what came already can still be acknowledged.
    pub async fn stop(&self) -> Result<()> {
        in_time("stopping to consume", self.channel.basic_cancel(TAG.into(), BasicCancelOptions::default())).await
    }

    /// Closes in good order.
    pub async fn close(self) {
        close(&self.connection).await;
    }
}

impl Acks {
    /// This message is done.
    pub async fn ack(&self, tag: u64) -> Result<()> {
        in_time("acknowledging", self.0.basic_ack(tag, BasicAckOptions { multiple: false })).await
    }

    /// This message and all before it are done.
    pub async fn ack_up_to(&self, tag: u64) -> Result<()> {
        in_time("acknowledging", self.0.basic_ack(tag, BasicAckOptions { multiple: true })).await
    }

    /// Nobody can use this message: to the dead-letter exchange with it.
    pub async fn reject(&self, tag: u64) -> Result<()> {
        in_time("rejecting", self.0.basic_reject(tag, BasicRejectOptions { requeue: false })).await
    }

    /// Somebody else is to have this message.
    pub async fn requeue(&self, tag: u64) -> Result<()> {
        in_time("giving back", self.0.basic_reject(tag, BasicRejectOptions { requeue: true })).await
    }
}
