//! The worker of every channel: takes messages, claims, calls, records, acknowledges, in that order.
//!
//! A channel's program brings a [`Channel`], which prepares a message, makes one call to a provider and says what came
//! of it. All else is here: nobody is called without a claim that has just been committed, and no message is acknowledged before what
//! came of it is.

mod address_share;
mod caller;
mod channel;
mod claimer;
mod gate;
mod inbox;
mod intake;
mod pace;
mod receipt;
mod recorder;
mod retrier;
mod worker;

use tikv_jemallocator::Jemalloc;

pub use channel::Channel;
pub use domain::provider::Answer;
pub use store::Claim;
pub use worker::{Config, SETTINGS, run};

/// A call allocates some dozens of small things, which another thread may free. This takes a seventh less of a worker's CPU
/// than the C library's (bench/README.md).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;
