use crate::{Outcome, provider::Answer};

/// As much of a server's words as is kept, in characters.
const MAX_WORDS: usize = 200;

/// How far a session with a mail server had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpPhase {
    /// Connecting, TLS and greeting.
    Connecting,
    /// The login.
    LoggingIn,
    /// `MAIL FROM`.
    Sender,
    /// `RCPT TO` of the one that the notification is for.
    Recipient,
    /// `DATA`, and the message itself, but for its end.
    Message,
    /// The end of the message has been sent: whether it was accepted, only the answer can tell.
    End,
}

impl SmtpPhase {
    /// Where a server says this code, as a rule: what is of a login at the login, all else when it hears the recipient.
    pub(crate) fn of_refusal(code: u16) -> Self {
        if CODES.iter().any(|(known, ..)| *known == code) { Self::LoggingIn } else { Self::Recipient }
    }
}

/// What the server says of us, and not of a recipient or a message, before either is named; from RFC 5321, section 4.2.3, and RFC 4954, section 6.
const CODES: &[(u16, Outcome, &str)] = &[
    (454, Outcome::ChannelDown, "the server can't check logins for now"),
    (530, Outcome::ChannelDown, "the server wants a login, or TLS"),
    (534, Outcome::ChannelDown, "the login is too weak for the server"),
    (535, Outcome::ChannelDown, "the login was refused"),
    (538, Outcome::ChannelDown, "the server wants TLS before the login"),
];

/// The server took the mail, but refused so many of its copies.
pub fn smtp_accepted(refused_copies: usize) -> Answer {
    let copies = match refused_copies {
        0 => String::new(),
        n => format!(", but refused {n} of its copies"),
    };
    Answer::new(Outcome::Delivered, format!("the mail server accepted the mail{copies}"))
}

/// What a failure means, by the reply's code where that says enough, else by how far the session had come. `text` is what
/// the server said, or what was wrong with the connection; `own_sender`: the notification brought a sender of its own.
pub fn smtp_answer(phase: SmtpPhase, code: Option<u16>, text: &str, own_sender: bool) -> Answer {
    use SmtpPhase::{Connecting, End, LoggingIn, Message, Recipient, Sender};
    let is_of_us = matches!(phase, Connecting | LoggingIn | Sender);
    if let Some((known, outcome, meaning)) = CODES.iter().find(|(known, ..)| Some(*known) == code)
        && is_of_us
    {
        return Answer::new(*outcome, format!("{meaning} ({known} {})", words(text)));
    }
    let (outcome, meaning) = match (phase, code) {
        (Connecting, _) => {
            return Answer::unreachable(format!("no session with the mail server: {}", told(code, text)));
        }
        (LoggingIn, _) => (Outcome::ChannelDown, "could not log in to the mail server"),
        (Sender, Some(500..)) if own_sender => (Outcome::Permanent, "the sender was refused"),
        (Sender, Some(500..)) => (Outcome::ChannelDown, "the sender mail.from was refused"),
        (Sender, _) => (Outcome::Temporary, "the sender was not taken for now"),
        (Recipient, Some(500..)) => (Outcome::Permanent, "the recipient was refused"),
        (Recipient, _) => (Outcome::Temporary, "the recipient was not taken for now"),
        (Message | End, Some(500..)) => (Outcome::Permanent, "the message was refused"),
        // Without its end no message is accepted.
        (Message, _) | (End, Some(_)) => (Outcome::Temporary, "the message was not taken for now"),
        (End, None) => (Outcome::Unknown, "no answer to the message; nobody can tell whether it was accepted"),
    };
    Answer::new(outcome, format!("{meaning}: {}", told(code, text)))
}

fn told(code: Option<u16>, text: &str) -> String {
    let words = words(text);
    code.map_or_else(|| words.clone(), |code| format!("{code} {words}").trim_end().to_owned())
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
            (SmtpPhase::Connecting, None, ChannelDown),
            (SmtpPhase::Connecting, Some(554), ChannelDown),
            (SmtpPhase::Connecting, Some(421), ChannelDown),
            (SmtpPhase::LoggingIn, Some(535), ChannelDown),
            (SmtpPhase::LoggingIn, None, ChannelDown),
            (SmtpPhase::Sender, Some(530), ChannelDown),
            (SmtpPhase::Sender, Some(550), ChannelDown),
            (SmtpPhase::Sender, Some(451), Temporary),
            (SmtpPhase::Sender, None, Temporary),
            (SmtpPhase::Recipient, Some(550), Permanent),
            (SmtpPhase::Recipient, Some(450), Temporary),
            (SmtpPhase::Recipient, Some(454), Temporary),
            (SmtpPhase::Recipient, Some(530), Permanent),
            (SmtpPhase::Recipient, Some(421), Temporary),
            (SmtpPhase::Recipient, None, Temporary),
            (SmtpPhase::Message, Some(554), Permanent),
            (SmtpPhase::Message, Some(451), Temporary),
            (SmtpPhase::Message, None, Temporary),
            (SmtpPhase::End, Some(552), Permanent),
            (SmtpPhase::End, Some(452), Temporary),
            (SmtpPhase::End, Some(421), Temporary),
            (SmtpPhase::End, None, Unknown),
        ] {
            assert_eq!(smtp_answer(phase, code, "", false).outcome, outcome, "{phase:?} {code:?}");
        }
        let own = smtp_answer(SmtpPhase::Sender, Some(550), "", true).outcome;
        assert_eq!(own, Permanent, "the notification's own sender is its own fault");
    }

    #[test]
    fn addresses_are_left_out() {
        let text = "5.1.1 <me@example.org>: Recipient address rejected";
        let detail = smtp_answer(SmtpPhase::Recipient, Some(550), text, false).detail.unwrap();
        assert_eq!(detail, "the recipient was refused: 550 5.1.1 (address) Recipient address rejected");
    }

    /// Found by fuzzing: a terminal that shows the detail would do what they say.
    #[test]
    fn control_characters_are_made_visible() {
        let detail = smtp_answer(SmtpPhase::Connecting, Some(554), "go \u{1b}[2Jaway\0", false).detail.unwrap();
        assert_eq!(detail, "no session with the mail server: 554 go \u{fffd}[2Jaway\u{fffd}");
    }
}
