//! All that Tocsin asks of SQS: one FIFO queue of requests.

mod queue;

pub use queue::{Config, Message, Problem, Queue, Receipt};
use runtime::{
    Setting,
    settings::{SQS_ENDPOINT_URL, SQS_QUEUE_URL, SQS_WAIT_TIME_SECONDS},
};

/// What says which queue, and how it is read.
pub const SETTINGS: &[Setting] = &[SQS_QUEUE_URL, SQS_ENDPOINT_URL, SQS_WAIT_TIME_SECONDS];
