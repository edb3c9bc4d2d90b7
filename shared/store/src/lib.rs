//! All that Tocsin asks of Postgres, which is the truth: what is due, what was tried, what came of it.
//!
//! Each change is one statement over many rows, guarded by the state and the fence of the rows that it locks. The
//! guards follow `domain::transition`; a test drives every state and event through both. Time is `tocsin_now()`.

mod api_key;
mod audit;
mod claim;
mod clock;
mod connections;
mod dispatch;
mod error;
mod happenings;
mod hint;
mod history;
mod lease;
mod occurrence;
mod overview;
mod page;
mod pause;
mod pool;
mod property;
mod record;
mod repair;
mod report;
mod request;
mod request_list;
mod retention;
mod schedule;
mod session;
mod status;
mod waves;

pub use api_key::ApiKeyRecord;
pub use audit::AuditRecord;
pub use claim::{Claim, ClaimBatch, ClaimRequest, Expired};
pub use clock::DatabaseClock;
pub use dispatch::{DeadLetter, Due, DueBatch, ExpiredClaim, Publication, WakePosition};
pub use error::{Disposition, Error, Result};
pub use happenings::Happening;
pub use hint::{DueHint, DueHints, EarliestDue};
pub use history::{AttemptRecord, NotificationRecord, ProcessHistory, RequestRecord};
pub use lease::{HeldLease, LeaseRecord, SCHEDULER};
pub use occurrence::Occurrence;
pub use overview::{MinuteLateness, Upcoming};
pub use page::Page;
pub use pause::{ALL_CHANNELS, Pause};
pub use pool::Store;
pub use record::{AttemptResult, Recorded};
pub use repair::{BulkRetry, Edit, FailureFilter, FailureGroup, MAX_FAILURES, Repair, ScheduleFailure};
pub use report::{NotificationFilter, NotificationReport, ProcessRecord};
pub use request::{ReceivedRequest, RejectedRequest, RequestOutcome, RequestResult};
pub use request_list::{RecordedRequest, RequestFilter};
pub use retention::DROPPED_AT_ONCE;
pub use schedule::{DueSchedules, NewSchedule, ScheduleChange, ScheduleCounts, ScheduleFilter, ScheduleRecord};
pub use status::{Connected, DeadLetterRecord, Lateness, StatusReport, Work};
pub use waves::cut_waves;
