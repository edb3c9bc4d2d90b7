//! What must hold of whatever a stranger sends, one function for each thing that is parsed. The fuzz targets (`fuzz/`)
//! feed them anything; a test of this crate feeds them the corpus that the fuzzer has collected.
//!
//! Each panics where its property does not hold.

mod dispatch;
mod mail_server;
mod phone_number;
mod provider_answer;
mod request;
mod retry_after;
mod smtp_session;

use domain::Outcome;
use notifier::Answer;

pub use dispatch::dispatch;
pub use phone_number::phone_number;
pub use provider_answer::provider_answer;
pub use request::request;
pub use retry_after::retry_after;
pub use smtp_session::smtp_session;

/// A property: panics if it does not hold of these bytes.
pub type Property = fn(&[u8]);

/// All of them, by the name of their target and of their folder in `fuzz/corpus`.
pub const PROPERTIES: &[(&str, Property)] = &[
    ("request", request),
    ("dispatch", dispatch),
    ("phone_number", phone_number),
    ("retry_after", retry_after),
    ("provider_answer", provider_answer),
    ("smtp_session", smtp_session),
];

/// As much of a provider's words as `attempt.detail` keeps.
const MAX_DETAIL: usize = 500;

/// As long as an id of a provider may be.
const MAX_PROVIDER_ID: usize = 400;

/// What holds of every answer, whatever the provider said: it is short, can be printed, and holds no address.
fn check_answer(answer: &Answer) {
    assert_ne!(answer.outcome, Outcome::DryRun, "somebody was called");
    let detail = answer.detail.as_deref().expect("each answer says in words what came of the call");
    assert!(!detail.is_empty() && detail.chars().count() <= MAX_DETAIL, "{} bytes of detail", detail.len());
    assert!(!detail.contains(char::is_control), "control characters: {detail:?}");
    assert!(!detail.contains('@'), "an e-mail address: {detail:?}");
    if let Some(id) = &answer.provider_id {
        assert!((1..=MAX_PROVIDER_ID).contains(&id.len()), "an id of {} bytes", id.len());
        assert!(id.bytes().all(|byte| byte.is_ascii_graphic()), "an odd id: {id:?}");
        assert_eq!(answer.outcome, Outcome::Delivered, "only what was accepted has an id");
    }
}
