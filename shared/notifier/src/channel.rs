use std::fmt;

use domain::provider::Answer;
use serde_json::Value;
use store::Claim;

/// One way to reach people: what a notifier program brings.
pub trait Channel: Send + Sync + 'static {
    /// Its name in `domain::CHANNELS`.
    const NAME: &'static str;

    /// A property of the database that a call needs; it is read anew with each claim.
    const PROPERTY: Option<&'static str> = None;

    /// What is ready to be sent. Its text says what that is, in a line, without the address: a dry run records it.
    type Message: fmt::Display + Send;

    /// Makes what is to be sent, or says why that is impossible. `property` is the value of [`Self::PROPERTY`], if
    /// there is one.
    fn prepare(&self, claim: &Claim, property: Option<&Value>) -> Result<Self::Message, Answer>;

    /// What may hold a share of the worker's slots and no more, so that it does not hold them all when it hangs: the
    /// address, unless many addresses hang together.
    fn shared_place<'a>(&self, claim: &'a Claim, _message: &'a Self::Message) -> Option<&'a str> {
        claim.address.as_deref()
    }

    /// Calls the provider once and says what came of it. Given up, as unknown, when `notifier.call_timeout_seconds` is
    /// over.
    fn send(&self, message: Self::Message) -> impl Future<Output = Answer> + Send;

    /// Contacts the provider in a way that sends nothing, and says how well it is, or what is wrong.
    fn check(&self) -> impl Future<Output = Result<String, String>> + Send;
}
