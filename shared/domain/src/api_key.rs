use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// What the holder of a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Send requests, and nothing else.
    Send,
    /// See everything but addresses, texts and bodies.
    Read,
    /// See everything; send, stop, retry, edit, pause.
    Operate,
    /// All that, and make and revoke keys, set properties, see the audit.
    Admin,
}

/// The text names no role.
#[derive(Debug, thiserror::Error)]
#[error("must be send, read, operate or admin")]
pub struct UnknownRole;

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Send, Self::Read, Self::Operate, Self::Admin];

    /// The name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// Whether it may do what this role is there for.
    pub fn includes(self, other: Self) -> bool {
        match self {
            Self::Send | Self::Read => self == other,
            Self::Operate => other != Self::Admin,
            Self::Admin => true,
        }
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == name).ok_or(UnknownRole)
    }
}

/// A key of the HTTP API: `tocsin_`, 8 hex digits that name it, `_`, and 64 hex digits that nobody can guess.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    text: String,
}

/// The text has not the form of a key.
#[derive(Debug, thiserror::Error)]
#[error("is no key of Tocsin: they look like tocsin_1a2b3c4d_ and 64 hex digits")]
pub struct InvalidApiKey;

const START: &str = "tocsin_";
const PREFIX_DIGITS: usize = 8;
const SECRET_DIGITS: usize = 64;

impl ApiKey {
    /// Makes one of 36 random bytes, 32 of which are its secret.
    pub fn of_random(bytes: [u8; 36]) -> Self {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (prefix, secret) = hex.split_at(PREFIX_DIGITS);
        Self { text: format!("{START}{prefix}_{secret}") }
    }

    /// Reads what somebody shows as their key.
    pub fn parse(text: &str) -> Result<Self, InvalidApiKey> {
        let is_hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let parts = text.strip_prefix(START).and_then(|rest| rest.split_once('_'));
        match parts {
            Some((prefix, secret))
                if prefix.len() == PREFIX_DIGITS
                    && secret.len() == SECRET_DIGITS
                    && is_hex(prefix)
                    && is_hex(secret) =>
            {
                Ok(Self { text: text.to_owned() })
            }
            _ => Err(InvalidApiKey),
        }
    }

    /// The part by which it is found and named; no secret.
    pub fn prefix(&self) -> &str {
        &self.text[START.len()..START.len() + PREFIX_DIGITS]
    }

    /// What is stored instead of it.
    pub fn hash(&self) -> Vec<u8> {
        Sha256::digest(&self.text).to_vec()
    }

    /// The whole key, which is shown once.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

/// The secret is not shown.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}, ..)", self.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_made_and_is_not_shown_by_debug() {
        let key = ApiKey::of_random(std::array::from_fn(|n| u8::try_from(n).unwrap()));
        assert_eq!(key.prefix(), "00010203");
        assert_eq!(ApiKey::parse(key.expose()).unwrap(), key);
        assert_eq!(format!("{key:?}"), "ApiKey(00010203, ..)");
        assert_eq!(key.hash().len(), 32);
        for bad in ["", "tocsin_", "tocsin_00010203_", &key.expose()[1..], &key.expose().to_uppercase()] {
            assert!(ApiKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_role_may_do_what_it_is_there_for() {
        let may = |role: Role| Role::ALL.into_iter().filter(|other| role.includes(*other)).collect::<Vec<_>>();
        assert_eq!(may(Role::Send), [Role::Send]);
        assert_eq!(may(Role::Read), [Role::Read]);
        assert_eq!(may(Role::Operate), [Role::Send, Role::Read, Role::Operate]);
        assert_eq!(may(Role::Admin), Role::ALL);
    }
}
