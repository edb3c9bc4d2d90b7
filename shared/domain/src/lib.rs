//! What Tocsin is about, as pure types and functions: no clock, no randomness, no network, no database.
//!
//! Time and chance come in as arguments, so that the workers, the property tests and a model checker all run the
//! same rules.

mod api_key;
mod caller_id;
mod channel;
/// Why a notification was or was not sent.
pub mod explain;
mod id;
mod outcome;
mod phone_number;
pub mod provider;
mod request;
mod retry;
/// When a schedule starts processes.
pub mod schedule;
/// What would come of a request.
pub mod simulate;
mod state;

pub use api_key::{ApiKey, InvalidApiKey, Role, UnknownRole};
pub use caller_id::{CallerIdRegistry, CallerIdRegistryError};
pub use channel::{CHANNELS, Channel, Field, FieldKind};
pub use id::{InvalidName, NotificationId, Organisation, ProcessName};
pub use outcome::{Outcome, UnknownOutcome};
pub use phone_number::{InvalidPhoneNumber, PhoneNumber};
pub use request::{Action, NewNotification, Request};
pub use retry::{
    DEFAULT_MAX_AGE, DEFAULT_MAX_ATTEMPTS, MAX_RETRY_AFTER, OnUnknown, RetryTier, RetryWay, after_attempt,
};
pub use state::{Event, Notification, PUBLISHED_AHEAD, State, UnknownState, transition};
