use std::fmt;

/// A notification's number in the database. Small on purpose: it is read out loud at night, stands in each message
/// on the broker, and is the key of the busiest index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NotificationId(pub i64);

impl fmt::Display for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a name was refused, in words for the sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(&'static str);

/// The sender's name for a process (`process-id` in a request): 1 to 255 characters, without U+0000.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessName(String);

impl ProcessName {
    /// The greatest length, in characters.
    pub const MAX_CHARS: usize = 255;

    /// Refuses an empty name, one that is too long, and one that Postgres can't keep (U+0000).
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        if name.is_empty() {
            Err(InvalidName("must not be empty"))
        } else if name.chars().count() > Self::MAX_CHARS {
            Err(InvalidName("must be at most 255 characters"))
        } else if name.contains('\0') {
            Err(InvalidName("must not contain U+0000"))
        } else {
            Ok(Self(name.to_owned()))
        }
    }

    /// The name as the sender wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The organisation that a process belongs to: `[a-z0-9-]`, 1 to 63 characters, as it stands in routing keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Organisation(String);

impl Organisation {
    /// Refuses what would break a routing key.
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=63).contains(&name.len()) && name.chars().all(legal) {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidName("must be 1 to 63 of a-z, 0-9 and -"))
        }
    }

    /// The name as it stands in the database and in routing keys.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Organisation {
    fn default() -> Self {
        Self("main".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_has_1_to_255_characters() {
        assert!(ProcessName::parse("").is_err());
        assert!(ProcessName::parse(&"ž".repeat(255)).is_ok());
        assert!(ProcessName::parse(&"ž".repeat(256)).is_err());
        assert!(ProcessName::parse("a\0b").is_err());
    }

    #[test]
    fn an_organisation_can_stand_in_a_routing_key() {
        assert!(Organisation::parse("green-peas-2").is_ok());
        for bad in ["", "a.b", "A", "a b", "*", "#"] {
            assert!(Organisation::parse(bad).is_err(), "{bad:?}");
        }
    }
}
