//! What a provider says, and what that means: for the workers, who hear it, and for the simulation, which makes it up.

mod gate;
mod http;
mod pubnub;
mod smtp;
mod sns;
mod twilio;

use std::time::Duration;

use crate::{Outcome, RetryTier};

pub use gate::{Allowance, Gate};
pub use http::{outcome_of_status, receiver_answer};
pub use pubnub::{pubnub_accepted, pubnub_answer};
pub use smtp::{SmtpPhase, smtp_accepted, smtp_answer};
pub use sns::{sns_accepted, sns_answer};
pub use twilio::twilio_answer;

/// How soon a provider is tried again that could not be reached.
const UNREACHABLE_RETRY: Duration = Duration::from_secs(5);

/// How long an address is left alone at first whose own provider refuses us.
const PAUSE_OF_ONE_ADDRESS: Duration = Duration::from_secs(30);

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

    /// The call was given up.
    pub fn timed_out(call_timeout: Duration) -> Self {
        Self::new(Outcome::Unknown, format!("no answer within {} s", call_timeout.as_secs()))
    }

    /// How long the notification is to wait, if it was refused with its whole channel. `refusals` counts how often
    /// it was, this time included.
    #[must_use]
    pub fn with_wait_of_one(mut self, provider: Provider, refusals: u16) -> Self {
        if self.outcome != Outcome::ChannelDown {
            return self;
        }
        if provider.serves_all() {
            // Its own wait is for the probes; a notification must not miss the moment when the channel opens.
            self.retry_after = self.retry_after.filter(|wait| *wait < PAUSE_OF_ONE_ADDRESS);
        } else if self.retry_after.is_none() {
            // Nobody probes for the rest of them, so each asks on its own, and less and less often.
            self.retry_after = Some(RetryTier::after_attempts(refusals).delay().max(PAUSE_OF_ONE_ADDRESS));
        }
        self
    }
}

/// Who answers the calls of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Twilio; what it is asked for, in words.
    Twilio(&'static str),
    /// A mail server.
    Smtp,
    /// PubNub.
    Pubnub,
    /// Amazon SNS.
    Sns,
    /// Whoever is at an address: each has a provider of its own.
    Receiver,
    /// Nobody: it is written down here.
    Nobody,
}

/// What a provider may do with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Accept it.
    Accept,
    /// Refuse it with this HTTP status, or reply code of a mail server, and perhaps say how long to wait.
    Refuse(u16, Option<Duration>),
    /// Take it, and say nothing.
    KeepSilent,
    /// Not be there: no connection is made, and nothing sent.
    BeAway,
}

impl Provider {
    /// Whether one provider serves every address. If it refuses the channel or is away, the whole channel pauses;
    /// where each address has a provider of its own, only its own notifications wait.
    pub fn serves_all(self) -> bool {
        self != Self::Receiver
    }

    /// Why it can't react like that.
    pub fn objection(self, reaction: Reaction) -> Option<&'static str> {
        match (self, reaction) {
            (_, Reaction::Accept) => None,
            (Self::Nobody, _) => Some("has no provider that could refuse"),
            (Self::Smtp, Reaction::Refuse(_, Some(_))) => Some("has a mail server, which can't say how long to wait"),
            (Self::Smtp, Reaction::Refuse(code, None)) if !(400..=599).contains(&code) => {
                Some("has a mail server, whose refusals are from 400 to 599")
            }
            (_, Reaction::Refuse(status, _)) if !(300..=599).contains(&status) => {
                Some("has a provider whose refusals are from 300 to 599")
            }
            (_, Reaction::Refuse(..) | Reaction::KeepSilent | Reaction::BeAway) => None,
        }
    }

    /// What a worker makes of a reaction, to which there must be no objection.
    pub fn answer(self, reaction: Reaction, call_timeout: Duration) -> Answer {
        const AWAY: &str = "Connection refused";
        match (self, reaction) {
            (Self::Nobody, _) => Answer::new(Outcome::Delivered, "written to standard output"),
            (Self::Twilio(what), Reaction::Accept) => twilio_answer(what, 201, None, None),
            (Self::Twilio(what), Reaction::Refuse(status, wait)) => twilio_answer(what, status, None, wait),
            (Self::Twilio(_), Reaction::BeAway) => Answer::unreachable(format!("could not connect to Twilio: {AWAY}")),
            (Self::Pubnub, Reaction::Accept) => pubnub_accepted(),
            (Self::Pubnub, Reaction::Refuse(status, wait)) => pubnub_answer(status, "", wait),
            (Self::Pubnub, Reaction::BeAway) => Answer::unreachable(format!("could not connect to PubNub: {AWAY}")),
            (Self::Sns, Reaction::Accept) => sns_accepted(),
            (Self::Sns, Reaction::Refuse(status, wait)) => sns_answer(status, None, wait),
            (Self::Sns, Reaction::BeAway) => Answer::unreachable(format!("could not connect to SNS: {AWAY}")),
            (Self::Receiver, Reaction::Accept) => receiver_answer(200, None),
            (Self::Receiver, Reaction::Refuse(status, wait)) => receiver_answer(status, wait),
            (Self::Receiver, Reaction::BeAway) => Answer::new(Outcome::Temporary, format!("could not connect: {AWAY}")),
            (Self::Smtp, Reaction::Accept) => smtp_accepted(0),
            (Self::Smtp, Reaction::Refuse(code, _)) => smtp_answer(SmtpPhase::of_refusal(code), Some(code), "", false),
            (Self::Smtp, Reaction::KeepSilent) => smtp_answer(SmtpPhase::End, None, "no answer in time", false),
            (Self::Smtp, Reaction::BeAway) => smtp_answer(SmtpPhase::Connecting, None, AWAY, false),
            (_, Reaction::KeepSilent) => Answer::timed_out(call_timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CHANNELS;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn every_provider_can_accept_and_only_the_terminal_does_nothing_else() {
        for channel in CHANNELS {
            let provider = channel.provider;
            let outcome = |reaction| match provider.objection(reaction) {
                None => Some(provider.answer(reaction, LIMIT).outcome),
                Some(_) => None,
            };
            assert_eq!(outcome(Reaction::Accept), Some(Outcome::Delivered), "{}", channel.name);
            let reacts = provider != Provider::Nobody;
            assert_eq!(outcome(Reaction::KeepSilent), reacts.then_some(Outcome::Unknown), "{}", channel.name);
            let away = if provider.serves_all() { Outcome::ChannelDown } else { Outcome::Temporary };
            assert_eq!(outcome(Reaction::BeAway), reacts.then_some(away), "{}", channel.name);
            let busy = if provider == Provider::Smtp { 450 } else { 503 };
            assert_eq!(outcome(Reaction::Refuse(busy, None)), reacts.then_some(Outcome::Temporary), "{}", channel.name);
            assert_eq!(outcome(Reaction::Refuse(200, None)), None, "{}", channel.name);
        }
    }

    #[test]
    fn a_mail_server_has_codes_of_its_own() {
        let outcome = |code| Provider::Smtp.answer(Reaction::Refuse(code, None), LIMIT).outcome;
        assert_eq!((outcome(535), outcome(550)), (Outcome::ChannelDown, Outcome::Permanent));
        for odd in [Reaction::Refuse(302, None), Reaction::Refuse(450, Some(LIMIT))] {
            assert!(Provider::Smtp.objection(odd).is_some(), "{odd:?}");
        }
    }

    #[test]
    fn who_was_refused_with_the_channel_waits_for_its_opening_and_one_address_waits_longer_and_longer() {
        let refused = |retry_after| Answer { retry_after, ..Answer::new(Outcome::ChannelDown, "") };
        let seconds = |n| Some(Duration::from_secs(n));
        let twilio = |wait| refused(wait).with_wait_of_one(Provider::Twilio("it"), 1).retry_after;
        assert_eq!([twilio(None), twilio(seconds(5)), twilio(seconds(600))], [None, seconds(5), None]);
        let receiver = |wait, refusals| refused(wait).with_wait_of_one(Provider::Receiver, refusals).retry_after;
        assert_eq!([1, 2, 3].map(|refusals| receiver(None, refusals)), [seconds(30), seconds(30), seconds(120)]);
        assert_eq!(receiver(seconds(7), 1), seconds(7));
    }
}
