use domain::Outcome;
use notifier::Answer;

use crate::smtp::{Failure, Phase};

/// As much of a server's words as is kept, in characters.
const MAX_WORDS: usize = 200;

/// What the server says of us, and not of a recipient or a message, before either is named; from RFC 5321, section 4.2.3, and RFC 4954, section 6.
const CODES: &[(u16, Outcome, &str)] = &[
    (454, Outcome::ChannelDown, "the server can't check logins for now"),
    (530, Outcome::ChannelDown, "the server wants a login, or TLS"),
    (534, Outcome::ChannelDown, "the login is too weak for the server"),
    (535, Outcome::ChannelDown, "the login was refused"),
    (538, Outcome::ChannelDown, "the server wants TLS before the login"),
];

/// What a failure means, by its code where that says enough, else by how far the session had come. `own_sender`: the
/// notification brought a sender of its own.
pub(crate) fn answer(failure: &Failure, own_sender: bool) -> Answer {
    let is_of_us = matches!(failure.phase, Phase::Connecting | Phase::LoggingIn | Phase::Sender);
    if let Some((code, outcome, meaning)) = CODES.iter().find(|(code, ..)| Some(*code) == failure.code)
        && is_of_us
    {
        return Answer::new(*outcome, format!("{meaning} ({code} {})", words(&failure.text)));
    }
    let (outcome, meaning) = match (failure.phase, failure.code) {
        (Phase::Connecting, _) => {
            return Answer::unreachable(format!("no session with the mail server: {}", told(failure)));
        }
        (Phase::LoggingIn, _) => (Outcome::ChannelDown, "could not log in to the mail server"),
        (Phase::Sender, Some(500..)) if own_sender => (Outcome::Permanent, "the sender was refused"),
        (Phase::Sender, Some(500..)) => (Outcome::ChannelDown, "the sender mail.from was refused"),
        (Phase::Sender, _) => (Outcome::Temporary, "the sender was not taken for now"),
        (Phase::Recipient, Some(500..)) => (Outcome::Permanent, "the recipient was refused"),
        (Phase::Recipient, _) => (Outcome::Temporary, "the recipient was not taken for now"),
        (Phase::Message | Phase::End, Some(500..)) => (Outcome::Permanent, "the message was refused"),
        // Without its end no message is accepted.
        (Phase::Message, _) | (Phase::End, Some(_)) => (Outcome::Temporary, "the message was not taken for now"),
        (Phase::End, None) => (Outcome::Unknown, "no answer to the message; nobody can tell whether it was accepted"),
    };
    Answer::new(outcome, format!("{meaning}: {}", told(failure)))
}

fn told(failure: &Failure) -> String {
    let words = words(&failure.text);
    failure.code.map_or_else(|| words.clone(), |code| format!("{code} {words}"))
}

/// A server's words without the addresses and control characters that they may hold.
fn words(text: &str) -> String {
    let hidden = |word| if str::contains(word, ['@', '<']) { "(address)" } else { word };
    let words: Vec<_> = text.split_whitespace().map(hidden).collect();
    let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    words.join(" ").chars().map(printable).take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_refusal_means() {
        use Outcome::{ChannelDown, Permanent, Temporary, Unknown};
        for (phase, code, outcome) in [
            (Phase::Connecting, None, ChannelDown),
            (Phase::Connecting, Some(554), ChannelDown),
            (Phase::Connecting, Some(421), ChannelDown),
            (Phase::LoggingIn, Some(535), ChannelDown),
            (Phase::LoggingIn, None, ChannelDown),
            (Phase::Sender, Some(530), ChannelDown),
            (Phase::Sender, Some(550), ChannelDown),
            (Phase::Sender, Some(451), Temporary),
            (Phase::Sender, None, Temporary),
            (Phase::Recipient, Some(550), Permanent),
            (Phase::Recipient, Some(450), Temporary),
            (Phase::Recipient, Some(454), Temporary),
            (Phase::Recipient, Some(530), Permanent),
            (Phase::Recipient, Some(421), Temporary),
            (Phase::Recipient, None, Temporary),
            (Phase::Message, Some(554), Permanent),
            (Phase::Message, Some(451), Temporary),
            (Phase::Message, None, Temporary),
            (Phase::End, Some(552), Permanent),
            (Phase::End, Some(452), Temporary),
            (Phase::End, Some(421), Temporary),
            (Phase::End, None, Unknown),
        ] {
            let failure = Failure { phase, code, text: String::new() };
            assert_eq!(answer(&failure, false).outcome, outcome, "{phase:?} {code:?}");
        }
        let failure = Failure { phase: Phase::Sender, code: Some(550), text: String::new() };
        assert_eq!(answer(&failure, true).outcome, Permanent, "the notification's own sender is its own fault");
    }

    #[test]
    fn addresses_are_left_out() {
        let text = "5.1.1 <me@example.org>: Recipient address rejected".to_owned();
        let failure = Failure { phase: Phase::Recipient, code: Some(550), text };
        let detail = answer(&failure, false).detail.unwrap();
        assert_eq!(detail, "the recipient was refused: 550 5.1.1 (address) Recipient address rejected");
    }

    /// Found by fuzzing: a terminal that shows the detail would do what they say.
    #[test]
    fn control_characters_are_made_visible() {
        let failure = Failure { phase: Phase::Connecting, code: Some(554), text: "go \u{1b}[2Jaway\0".to_owned() };
        let detail = answer(&failure, false).detail.unwrap();
        assert_eq!(detail, "no session with the mail server: 554 go \u{fffd}[2Jaway\u{fffd}");
    }
}
