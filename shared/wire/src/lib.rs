//! What strangers and programs send each other, as bytes: requests in JSON, messages on the broker, routing keys.
//!
//! Parsed once, at the edge, into types that can't be wrong afterwards.

mod changes;
mod dispatch;
mod field;
mod json;
mod request;

pub use changes::{Changes, parse_changes};
pub use dispatch::{Dispatch, InvalidDispatch, Item, MAX_ITEMS, queue_name, routing_key};
pub use request::{MAX_BODY_BYTES, MAX_NOTIFICATIONS, Reason, Rejection, parse_request};
