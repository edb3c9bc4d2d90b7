//! All that Tocsin asks of Postgres, which is the truth: what is due, what was tried, what came of it.
//!
//! Each change is one statement over many rows, guarded by the state and the fence of the rows that it locks. The
//! guards follow `domain::transition`; a test drives every state and event through both. Time is `tocsin_now()`.

mod claim;
mod clock;
mod dispatch;
mod error;
mod history;
mod pause;
mod pool;
mod property;
mod record;
mod request;

pub use claim::{Claim, ClaimBatch, ClaimRequest, Expired};
pub use clock::DatabaseClock;
pub use dispatch::{DeadLetter, Due, DueBatch, ExpiredClaim, Publication};
pub use error::{Disposition, Error, Result};
pub use history::{AttemptRecord, NotificationRecord, ProcessHistory, RequestRecord};
pub use pause::{ALL_CHANNELS, Pause};
pub use pool::{DueHints, Store};
pub use record::{AttemptResult, Recorded};
pub use request::{ReceivedRequest, RejectedRequest, RequestOutcome, RequestResult};
