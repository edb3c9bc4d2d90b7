/// A way to reach somebody: its name, and the keys that a notification for it has in a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Channel {
    /// `[a-z0-9-]`, as it stands in routing keys, queue names and `notifier-<name>`.
    pub name: &'static str,
    /// The key whose value says whom to reach, if the channel has such a thing.
    pub address: Option<Field>,
    /// Further keys, none of them required.
    pub options: &'static [Field],
}

/// A key of a notification, and what its value must be.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// The key as it stands in the request.
    pub key: &'static str,
    /// What its value must be.
    pub kind: FieldKind,
}

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// An E.164 number.
    PhoneNumber,
    /// An absolute http or https URL of at most 2,048 characters.
    Url,
    /// A text of at most so many characters.
    Text(usize),
}

/// The channels of this installation. A new one is a line here and a program `notifier-<name>` (see ARCHITECTURE.md).
pub const CHANNELS: &[Channel] = &[
    Channel {
        name: "phone",
        address: Some(Field { key: "phone-number", kind: FieldKind::PhoneNumber }),
        options: &[Field { key: "url", kind: FieldKind::Url }],
    },
    Channel { name: "console", address: None, options: &[Field { key: "message", kind: FieldKind::Text(4096) }] },
];

impl Channel {
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
            assert!(!channel.name.is_empty());
            assert!(channel.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            assert_eq!(Channel::named(channel.name), Some(channel));
        }
        assert_eq!(Channel::named("pigeon"), None);
    }
}
