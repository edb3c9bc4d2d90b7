use crate::provider::Provider;

/// A way to reach somebody: its name, and the keys that a notification for it has in a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Channel {
    /// `[a-z0-9-]`, as it stands in routing keys, queue names and `notifier-<name>`.
    pub name: &'static str,
    /// The key whose value says whom to reach, if the channel has such a thing. Always required.
    pub address: Option<Field>,
    /// Further keys.
    pub options: &'static [Field],
    /// Who answers its calls.
    pub provider: Provider,
}

/// A key of a notification, and what its value must be.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// The key as it stands in the request.
    pub key: &'static str,
    /// What its value must be.
    pub kind: FieldKind,
    /// Whether it must be there.
    pub required: bool,
    /// What it is for, in a line.
    pub help: &'static str,
}

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// An E.164 number.
    PhoneNumber,
    /// One e-mail address without a display name, of at most 254 characters.
    EmailAddress,
    /// One e-mail address, or an array of 1 to 50.
    EmailAddresses,
    /// A PubNub channel name: 1 to 92 bytes without control characters and any of `, / \ . * :`.
    PubnubChannel,
    /// An absolute http or https URL of at most 2,048 characters, without white space and backslashes.
    Url,
    /// A text of at most so many characters; not empty where it is required.
    Text(usize),
    /// A text of at most so many characters and none that controls a terminal; not empty where it is required.
    Line(usize),
    /// Any JSON value.
    Json,
    /// The ARN of an SNS topic: `arn:aws:sns:eu-west-1:123456789012:orders`.
    TopicArn,
    /// A text, or any other JSON value but null, of at most 262,144 bytes as it is published.
    Payload,
    /// An object of 1 to 10 texts, with keys as SNS takes them.
    Attributes,
}

/// The channels of this installation. A new one is a line here and a program `notifier-<name>` (see ARCHITECTURE.md).
pub const CHANNELS: &[Channel] = &[
    Channel {
        name: "phone",
        provider: Provider::Twilio("the call"),
        address: Some(required("phone-number", FieldKind::PhoneNumber, "whom to call: E.164, such as `+3851111111`")),
        options: &[optional("url", FieldKind::Url, "the TwiML to play, instead of `TOCSIN_TWILIO__URL`")],
    },
    Channel {
        name: "sms",
        provider: Provider::Twilio("the message"),
        address: Some(required("phone-number", FieldKind::PhoneNumber, "whom to text: E.164")),
        options: &[required(
            "message",
            FieldKind::Text(1_600),
            "the text, which is all that Twilio takes in one message",
        )],
    },
    Channel {
        name: "email",
        provider: Provider::Smtp,
        address: Some(required("email", FieldKind::EmailAddress, "whom to mail: an address without a name")),
        options: &[
            optional("from", FieldKind::EmailAddress, "the sender, instead of `TOCSIN_MAIL__FROM`"),
            optional("subject", FieldKind::Text(255), "instead of `TOCSIN_MAIL__SUBJECT`"),
            optional("body", FieldKind::Text(100_000), "the plain text, instead of `TOCSIN_MAIL__BODY`"),
            optional("html", FieldKind::Text(400_000), "the same as HTML, sent beside the plain text"),
            optional("cc", FieldKind::EmailAddresses, "more recipients: an address or an array of up to 50"),
            optional("bcc", FieldKind::EmailAddresses, "recipients that the others do not see"),
        ],
    },
    Channel {
        name: "pubnub",
        provider: Provider::Pubnub,
        address: Some(required("pubnub-channel", FieldKind::PubnubChannel, "the PubNub channel to publish to")),
        options: &[optional("payload", FieldKind::Json, "any JSON, published beside the ids")],
    },
    Channel {
        name: "sns",
        provider: Provider::Sns,
        address: Some(required(
            "topic-arn",
            FieldKind::TopicArn,
            "the SNS topic to publish to, standard or FIFO, in the region of `AWS_REGION`",
        )),
        options: &[
            required("payload", FieldKind::Payload, "what to publish: a text as it is, any other JSON as JSON"),
            optional("subject", FieldKind::Line(99), "the subject, which mail subscribers see"),
            optional("attributes", FieldKind::Attributes, "message attributes: an object of up to 10 texts"),
        ],
    },
    Channel {
        name: "webhook",
        provider: Provider::Receiver,
        address: Some(required("url", FieldKind::Url, "where to post to")),
        options: &[optional("payload", FieldKind::Json, "any JSON, posted beside the ids")],
    },
    Channel {
        name: "console",
        provider: Provider::Nobody,
        address: None,
        options: &[optional("message", FieldKind::Text(4_096), "the line to write")],
    },
];

const fn required(key: &'static str, kind: FieldKind, help: &'static str) -> Field {
    Field { key, kind, required: true, help }
}

const fn optional(key: &'static str, kind: FieldKind, help: &'static str) -> Field {
    Field { key, kind, required: false, help }
}

impl Channel {
    /// The program that serves it.
    pub fn program(&self) -> String {
        format!("notifier-{}", self.name)
    }

    /// The channel of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        CHANNELS.iter().find(|channel| channel.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_stand_in_a_routing_key() {
        for channel in CHANNELS {
            assert!(!["", "all"].contains(&channel.name), "all is what pauses every channel");
            assert!(channel.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            assert_eq!(Channel::named(channel.name), Some(channel));
        }
        assert_eq!(Channel::named("pigeon"), None);
    }
}
