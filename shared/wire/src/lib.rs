//! What strangers and programs send each other, as bytes: requests in JSON, messages on the broker, routing keys.
//!
//! Parsed once, at the edge, into types that can't be wrong afterwards.

mod callme;
mod changes;
mod dispatch;
mod field;
mod json;
mod request;
mod schedule;
mod simulation;
mod template;

pub use callme::{
    CallmeError, CallmeMessage, callme_crontab, callme_field, callme_job, callme_message, callme_schedule,
    callme_schedule_of,
};
pub use changes::{Changes, parse_changes};
pub use dispatch::{Dispatch, InvalidDispatch, Item, MAX_ITEMS, queue_name, routing_key};
pub use request::{
    MAX_BODY_BYTES, MAX_MAX_AGE_SECONDS, MAX_MAX_ATTEMPTS, MAX_NOTIFICATIONS, Reason, Rejection, parse_request,
};
pub use schedule::{MAX_LINES, MAX_MISSED_WINDOW_SECONDS, ScheduleDefinition, check_template, parse_schedule};
pub use simulation::{MAX_ANSWERS, MAX_RETRY_AFTER_SECONDS, MAX_TIMES, SimulationRequest, parse_simulation};
pub use template::{MAX_IN_SECONDS, Occasion, RenderedRequest, render_request};
