use std::{result, time::Duration};

use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::FieldTable,
    uri::AMQPUri,
};
use tokio::time::timeout;

use crate::QueueDepth;

/// Connecting, verifying and closing each take no longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What every operation on the broker returns.
pub type Result<T> = result::Result<T, Error>;

/// Something went wrong between here and RabbitMQ.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker URL can't be used. It is not shown, as it holds a password.
    #[error("the broker URL can't be read; it looks like amqp://user:password@host:5672/vhost")]
    Url,
    /// RabbitMQ or the connection to it.
    #[error("broker: {0}")]
    Amqp(#[from] lapin::Error),
    /// No answer in time.
    #[error("broker: no answer within 10 s while {0}")]
    Silence(&'static str),
    /// Something that rabbitmq/definitions.json declares is not there.
    #[error("broker: {kind} {name} is missing: import rabbitmq/definitions.json ({source})")]
    Missing {
        /// `exchange` or `queue`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What the broker said.
        source: lapin::Error,
    },
    /// The connection broke, or the broker closed it.
    #[error("broker: the connection has ended")]
    SessionEnded,
    /// The broker ended the consumer, as it does when its queue is deleted.
    #[error("broker: the consumer of {0} was cancelled by the broker")]
    ConsumerCancelled(String),
}

/// Where RabbitMQ is, and who we are to it.
#[derive(Clone)]
pub struct Broker {
    uri: AMQPUri,
    program: String,
}

impl Broker {
    /// `program` is what the management UI calls these connections.
    pub fn new(url: &str, program: &str) -> Result<Self> {
        let mut uri: AMQPUri = url.parse().map_err(|_| Error::Url)?;
        uri.query.heartbeat = Some(10);
        Ok(Self { uri, program: program.to_owned() })
    }

    /// A new connection, for `purpose`.
    pub(crate) async fn connect(&self, purpose: &'static str) -> Result<Connection> {
        let name = format!("{} {purpose}", self.program);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        in_time("connecting", Connection::connect_uri(self.uri.clone(), properties)).await
    }
}

impl Broker {
    /// Connects, and sees whether these exchanges and queues are there. Answers what the broker calls itself.
    pub async fn check(&self, exchanges: &[&str], queues: &[&str]) -> Result<String> {
        let connection = self.connect("check").await?;
        let channel = in_time("opening a channel", connection.create_channel()).await?;
        verify_exchanges(&channel, exchanges).await?;
        for queue in queues {
            verify_queue(&channel, queue).await?;
        }
        close(&connection).await;
        let count = exchanges.len() + queues.len();
        Ok(format!("answers, and has the {count} exchanges and queues that this program uses"))
    }
}

/// An error if one of them is missing. Passive, so that nothing is declared here.
pub(crate) async fn verify_exchanges(channel: &Channel, exchanges: &[&str]) -> Result<()> {
    for exchange in exchanges {
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let declare = channel.exchange_declare((*exchange).into(), ExchangeKind::Topic, options, FieldTable::default());
        in_time("verifying an exchange", declare).await.map_err(|error| missing("exchange", exchange, error))?;
    }
    Ok(())
}

/// What it has, or an error if it is missing.
pub(crate) async fn verify_queue(channel: &Channel, queue: &str) -> Result<QueueDepth> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let declare = channel.queue_declare(queue.into(), options, FieldTable::default());
    let declared = in_time("verifying a queue", declare).await.map_err(|error| missing("queue", queue, error))?;
    Ok(QueueDepth { messages: declared.message_count(), consumers: declared.consumer_count() })
}

fn missing(kind: &'static str, name: &str, error: Error) -> Error {
    match error {
        Error::Amqp(source) if source.is_amqp_soft_error() => Error::Missing { kind, name: name.to_owned(), source },
        other => other,
    }
}

pub(crate) async fn in_time<T>(doing: &'static str, work: impl Future<Output = lapin::Result<T>>) -> Result<T> {
    match timeout(PATIENCE, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Error::Silence(doing)),
    }
}

/// Closes in good order where that is still possible; where it isn't, the broker notices by itself.
pub(crate) async fn close(connection: &Connection) {
    if let Err(error) = in_time("closing", connection.close(200, "done".into())).await {
        tracing::debug!(%error, "connection was not closed in good order");
    }
}
