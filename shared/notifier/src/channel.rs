use std::{fmt, time::Duration};

use domain::Outcome;
use serde_json::Value;
use store::Claim;

/// How soon a provider is tried again that could not be reached.
const UNREACHABLE_RETRY: Duration = Duration::from_secs(5);

/// One way to reach people: what a notifier program brings.
pub trait Channel: Send + Sync + 'static {
    /// Its name in `domain::CHANNELS`.
    const NAME: &'static str;

    /// A property of the database that a call needs; it is read anew with each claim.
    const PROPERTY: Option<&'static str> = None;

    /// Whether one provider serves every address. If it refuses the channel or is away, the whole channel pauses;
    /// where each address has a provider of its own, only its own notifications wait.
    const ONE_PROVIDER: bool = true;

    /// What is ready to be sent. Its text says what that is, in a line, without the address: a dry run records it.
    type Message: fmt::Display + Send;

    /// What may hold a share of the worker's slots and no more, so that it does not hold them all when it hangs: the
    /// address, unless many addresses hang together.
    fn shared_place(&self, claim: &Claim) -> Option<String> {
        claim.address.clone()
    }

    /// Makes what is to be sent, or says why that is impossible. `property` is the value of [`Self::PROPERTY`], if
    /// there is one.
    fn prepare(&self, claim: &Claim, property: Option<&Value>) -> Result<Self::Message, Answer>;

    /// Calls the provider once and says what came of it. Given up, as unknown, when `notifier.call_timeout_seconds` is
    /// over.
    fn send(&self, message: Self::Message) -> impl Future<Output = Answer> + Send;

    /// Contacts the provider in a way that sends nothing, and says how well it is, or what is wrong.
    fn check(&self) -> impl Future<Output = Result<String, String>> + Send;
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it means for the notification.
    pub outcome: Outcome,
    /// The provider's id of what it accepted.
    pub provider_id: Option<String>,
    /// What it said, in words for a person, without addresses.
    pub detail: Option<String>,
    /// How long it asks us to wait.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// An answer with words for a person, which must not hold addresses.
    pub fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, provider_id: None, detail: Some(detail.into()), retry_after: None }
    }

    /// The one provider of the channel could not be reached: nothing was sent, and it is the channel's trouble and no
    /// notification's.
    pub fn unreachable(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(UNREACHABLE_RETRY), ..Self::new(Outcome::ChannelDown, detail) }
    }
}
