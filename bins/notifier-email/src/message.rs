use std::fmt;

use domain::Outcome;
use lettre::{
    Message,
    address::{Address, Envelope},
    message::{
        Mailbox, MessageBuilder, MultiPart, SinglePart,
        header::{HeaderName, HeaderValue},
    },
};
use notifier::{Answer, Claim};
use serde_json::Value;

/// What holds unless the notification says otherwise.
pub(crate) struct Defaults {
    pub(crate) from: Mailbox,
    pub(crate) subject: String,
    pub(crate) body: String,
}

/// A message as it goes to the mail server.
pub(crate) struct Mail {
    pub(crate) envelope: Envelope,
    /// Without a line end at its end, which is put there with the message's end.
    pub(crate) content: Vec<u8>,
    /// The same on every try.
    pub(crate) message_id: String,
    /// The notification brought a sender of its own.
    pub(crate) own_sender: bool,
}

impl fmt::Display for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (to, length) = (self.envelope.to().len(), self.content.len());
        write!(f, "a mail of {length} bytes to {to} recipient(s)")
    }
}

/// Makes the mail of a notification.
pub(crate) fn mail(claim: &Claim, defaults: &Defaults) -> Result<Mail, Answer> {
    let impossible = |what: &str| Answer::new(Outcome::Permanent, format!("the notification has {what}"));
    let to: Address = parse(claim.address.as_deref()).ok_or_else(|| impossible("no usable e-mail address"))?;
    let own_sender = claim.text("from");
    let from = match &own_sender {
        Some(text) => parse(Some(text)).map(|address| Mailbox::new(None, address)),
        None => Some(defaults.from.clone()),
    };
    let from = from.ok_or_else(|| impossible("no usable sender"))?;
    let cc = addresses(claim, "cc").ok_or_else(|| impossible("no usable cc"))?;
    let bcc = addresses(claim, "bcc").ok_or_else(|| impossible("no usable bcc"))?;

    let subject = one_line(claim.text("subject").as_ref().unwrap_or(&defaults.subject));
    let body = lines(claim.text("body").as_ref().unwrap_or(&defaults.body));
    let message_id = format!("<{}@{}>", claim.idempotency_key(), from.email.domain());
    let mut builder = Message::builder()
        .message_id(Some(message_id.clone()))
        .date(claim.claimed_at.into())
        .from(from.clone())
        .to(Mailbox::new(None, to.clone()))
        .subject(subject);
    for address in &cc {
        builder = builder.cc(Mailbox::new(None, address.clone()));
    }
    let mut recipients = vec![to];
    for address in cc.into_iter().chain(bcc) {
        if !recipients.contains(&address) {
            recipients.push(address);
        }
    }
    // Said outright: the one that lettre derives leaves out what it can't read back from the headers.
    let envelope = Envelope::new(Some(from.email), recipients).map_err(|_| impossible("no recipient"))?;
    let message = no_replies_by_machines(builder).envelope(envelope.clone());
    let message = match claim.text("html") {
        Some(html) => message.multipart(
            MultiPart::alternative().singlepart(SinglePart::plain(body)).singlepart(SinglePart::html(lines(&html))),
        ),
        None => message.singlepart(SinglePart::plain(body)),
    };
    let message = message.map_err(|error| impossible(&format!("what makes no mail: {error}")))?;
    let mut content = message.formatted();
    content.truncate(content.trim_ascii_end().len());
    Ok(Mail { envelope, content, message_id, own_sender: own_sender.is_some() })
}

/// RFC 3834, section 5: automatic replies are not wanted.
fn no_replies_by_machines(builder: MessageBuilder) -> MessageBuilder {
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    builder.raw_header(HeaderValue::new(name, "auto-generated".to_owned()))
}

fn parse(text: Option<&str>) -> Option<Address> {
    text?.parse().ok()
}

/// One address, or an array of them; none where the key is not there.
fn addresses(claim: &Claim, key: &str) -> Option<Vec<Address>> {
    match claim.options.get(key) {
        None => Some(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(|item| parse(item.as_str())).collect(),
        Some(one) => Some(vec![parse(one.as_str())?]),
    }
}

/// A text that can't begin a new header.
fn one_line(text: &str) -> String {
    text.split(char::is_control).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A text whose lines all end in the same way, without control characters but for tabs.
fn lines(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.chars().filter(|c| !c.is_control() || ['\n', '\t'].contains(c)).collect()
}

#[cfg(test)]
mod tests {
    use domain::{NotificationId, OnUnknown};
    use mail_parser::MessageParser;
    use serde_json::json;

    use super::*;

    fn claim(options: Value) -> Claim {
        let options = serde_json::from_str(&options.to_string()).unwrap();
        let at = "2026-11-22T03:00:00Z".parse().unwrap();
        Claim {
            id: NotificationId(7),
            fence: 1,
            process: "p".to_owned(),
            run: 1,
            attempts: 0,
            max_attempts: 10,
            refusals: 0,
            on_unknown: OnUnknown::Retry,
            scheduled_at: at,
            address: Some("me@example.org".to_owned()),
            options,
            claimed_at: at,
        }
    }

    fn defaults() -> Defaults {
        let from = "Tocsin Alarms <alarm@example.com>".parse().unwrap();
        Defaults { from, subject: "A subject".to_owned(), body: "A body".to_owned() }
    }

    #[test]
    fn what_the_configuration_says_holds_unless_the_notification_says_otherwise() {
        let mail = mail(&claim(json!({})), &defaults()).unwrap_or_else(|answer| panic!("{answer:?}"));
        let read = MessageParser::default().parse(&mail.content).unwrap();
        assert_eq!(read.subject(), Some("A subject"));
        assert_eq!(read.body_text(0).unwrap().trim_end(), "A body");
        assert_eq!(read.from().unwrap().first().unwrap().address(), Some("alarm@example.com"));
        assert_eq!(mail.message_id, "<7-1795316400000000@example.com>");
        assert_eq!(read.message_id(), Some("7-1795316400000000@example.com"));
        assert!(!mail.own_sender);
        assert!(!mail.to_string().contains("me@example.org"), "{mail}");
    }

    #[test]
    fn text_and_html_and_copies() {
        let options = json!({"from": "me@example.net", "subject": "Grüße", "body": "text", "html": "<b>html</b>",
            "cc": ["a@example.org", "me@example.org"], "bcc": "b@example.org"});
        let mail = mail(&claim(options), &defaults()).unwrap_or_else(|answer| panic!("{answer:?}"));
        let to: Vec<String> = mail.envelope.to().iter().map(ToString::to_string).collect();
        assert_eq!(to, ["me@example.org", "a@example.org", "b@example.org"]);
        let text = String::from_utf8_lossy(&mail.content);
        assert!(!text.contains("b@example.org"), "the others must not see it: {text}");
        let read = MessageParser::default().parse(&mail.content).unwrap();
        assert_eq!(read.subject(), Some("Grüße"));
        assert_eq!(read.body_text(0).unwrap().trim_end(), "text");
        assert_eq!(read.body_html(0).unwrap().trim_end(), "<b>html</b>");
        assert!(mail.own_sender);
    }

    #[test]
    fn no_text_makes_a_header() {
        for evil in
            ["x\r\nBcc: you@example.org", "x\nBcc: you@example.org", "x\rBcc: you@example.org", "\0\r\n\r\nbody"]
        {
            let options = json!({"subject": evil, "body": evil, "html": evil});
            let mail = mail(&claim(options), &defaults()).unwrap_or_else(|answer| panic!("{answer:?}"));
            let read = MessageParser::default().parse(&mail.content).unwrap();
            assert!(read.bcc().is_none(), "{evil:?}");
            assert!(!read.subject().unwrap().contains(char::is_control), "{evil:?}");
            let text = String::from_utf8_lossy(&mail.content).replace("\r\n", "\n");
            assert!(!text.contains('\r') && !text.contains('\0'), "{evil:?}");
            assert_eq!(mail.envelope.to().len(), 1);
        }
    }
}
