//! All that Tocsin asks of RabbitMQ.
//!
//! A session is one connection with one channel: connect, verify, set up, use. It never recovers by itself: after
//! any error its owner drops it, waits (see [`Backoff`]) and opens a new one. Nothing is declared here, only
//! verified: `rabbitmq/definitions.json` is the one source.

mod backoff;
mod connection;
mod consumer;
mod publisher;
mod queue_watch;

pub use backoff::Backoff;
pub use connection::{Broker, Error, Result};
pub use consumer::{Acks, Consumer, Delivery, FirstDeath};
pub use publisher::{Confirm, Message, Publication, Publisher, Returned};
pub use queue_watch::{QueueDepth, QueueWatch};
