use futures_util::{StreamExt, stream::FuturesOrdered};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use crate::{
    Broker, Error, Result,
    connection::{close, in_time, verify_exchanges, verify_queue},
};

/// A session that publishes, with confirms.
pub struct Publisher {
    connection: Connection,
    channel: Channel,
}

/// What is to be sent, and where.
#[derive(Debug, Clone)]
pub struct Message {
    /// The exchange's name.
    pub exchange: &'static str,
    /// By what the exchange routes it.
    pub routing_key: String,
    /// JSON.
    pub body: Vec<u8>,
}

/// A message on its way to the broker.
pub struct Publication(PublisherConfirm);

/// The broker's word on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirm {
    /// Every queue that it was routed to has it on disk. So it is said of one that was routed to none, too, which comes back.
    /// False if a queue has refused it, as it is full or not available.
    pub is_ack: bool,
    /// A message that nobody could take, and which has come back: one of the same session, and not always this one. lapin
    /// hands it out with the next confirm that comes (`complete_pending` in its acknowledgement.rs).
    pub returned: Option<Returned>,
}

/// A message that came back, as no queue is bound for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// In the broker's words.
    pub reason: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Publisher {
    /// Connects, and verifies that these exchanges exist.
    pub async fn open(broker: &Broker, exchanges: &[&str]) -> Result<Self> {
        let connection = broker.connect("publisher").await?;
        let channel = in_time("opening a channel", connection.create_channel()).await?;
        verify_exchanges(&channel, exchanges).await?;
        in_time("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self { connection, channel })
    }

    /// Sends messages: persistent, and to come back if nobody can take them. Waits for no confirm. Answers those that were sent,
    /// the first of them first, and the error that came before the others: whether the broker has those nobody knows.
    ///
    /// lapin's own thread writes them, and to wait until it has written one costs two changes of thread: here all are handed
    /// over before the first is waited for.
    pub async fn publish(&self, messages: &[Message]) -> (Vec<Publication>, Option<Error>) {
        let properties = BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let mut sent = Vec::with_capacity(messages.len());
        let sending = async {
            let send = messages.iter().map(|message| {
                let (exchange, routing_key) = (message.exchange.into(), message.routing_key.as_str().into());
                self.channel.basic_publish(exchange, routing_key, options, &message.body, properties.clone())
            });
            let mut sending: FuturesOrdered<_> = send.collect();
            while let Some(publication) = sending.next().await {
                sent.push(Publication(publication?));
            }
            Ok(())
        };
        let error = in_time("publishing", sending).await.err();
        (sent, error)
    }

    /// How many messages of a queue no worker has taken; none if there is no such queue.
    pub async fn waiting(&self, queue: &str) -> Result<u32> {
        // A channel of its own, since the broker closes the one that asks for a queue that is not there.
        let channel = in_time("opening a channel", self.connection.create_channel()).await?;
        match verify_queue(&channel, queue).await {
            Ok(depth) => {
                in_time("closing a channel", channel.close(200, "done".into())).await?;
                Ok(depth.messages)
            }
            Err(Error::Missing { .. }) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// An error if the session has ended meanwhile.
    pub fn check(&self) -> Result<()> {
        if self.channel.status().connected() { Ok(()) } else { Err(Error::SessionEnded) }
    }

    /// Closes in good order.
    pub async fn close(self) {
        close(&self.connection).await;
    }
}

impl Publication {
    /// Waits for the broker's word on it. After an error nobody knows whether the broker has it.
    pub async fn confirm(self) -> Result<Confirm> {
        let (is_ack, returned) = match in_time("waiting for a confirm", self.0).await? {
            Confirmation::Ack(returned) => (true, returned),
            Confirmation::Nack(returned) => (false, returned),
            Confirmation::NotRequested => (false, None),
        };
        let returned = returned.map(|message| Returned {
            reason: format!("the broker could not route it: {} {}", message.reply_code, message.reply_text),
            body: message.delivery.data,
        });
        Ok(Confirm { is_ack, returned })
    }
}
