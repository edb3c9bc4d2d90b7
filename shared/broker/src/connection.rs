use std::{result, time::Duration};

use lapin::{Connection, ConnectionProperties, uri::AMQPUri};
use tokio::time::timeout;

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
