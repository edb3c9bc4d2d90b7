use std::collections::BTreeMap;

use serde_json::Value;

use crate::{InvalidPhoneNumber, PhoneNumber};

/// Which number a call or text comes from, by the longest prefix of the number it goes to.
///
/// The stored form is a JSON object such as `{"+385": "+38514445555", "default": "+15005550006"}`: a prefix of an
/// E.164 number to the caller's number; `default` serves the numbers that no prefix fits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallerIdRegistry {
    by_prefix: BTreeMap<String, String>,
    default: Option<String>,
}

/// What is wrong with a registry.
#[derive(Debug, thiserror::Error)]
pub enum CallerIdRegistryError {
    /// Not even the form is right.
    #[error("must be a JSON object of prefixes and numbers")]
    NoObject,
    /// A caller's number is none.
    #[error("the number for {0:?} {1}")]
    NotE164(String, InvalidPhoneNumber),
    /// A key is neither `default` nor `+` with digits.
    #[error("caller-id-registry: key {0:?} must be \"default\" or + and digits, such as \"+385\"")]
    Prefix(String),
    /// A caller's number is empty.
    #[error("caller-id-registry: the number for {0:?} must not be empty")]
    Number(String),
}

impl CallerIdRegistry {
    /// Takes the pairs of the stored JSON object.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, CallerIdRegistryError> {
        let mut registry = Self::default();
        for (prefix, number) in pairs {
            if number.is_empty() {
                return Err(CallerIdRegistryError::Number(prefix));
            }
            if prefix == "default" {
                registry.default = Some(number);
                continue;
            }
            match prefix.strip_prefix('+') {
                Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                    registry.by_prefix.insert(prefix, number);
                }
                _ => return Err(CallerIdRegistryError::Prefix(prefix)),
            }
        }
        Ok(registry)
    }

    /// Reads the stored JSON object; null is an empty registry.
    pub fn from_json(value: &Value) -> Result<Self, CallerIdRegistryError> {
        let object = match value {
            Value::Null => return Ok(Self::default()),
            Value::Object(object) => object,
            _ => return Err(CallerIdRegistryError::NoObject),
        };
        let pair = |(prefix, number): (&String, &Value)| match number {
            Value::String(number) => Ok((prefix.clone(), number.clone())),
            _ => Err(CallerIdRegistryError::NoObject),
        };
        Self::new(object.iter().map(pair).collect::<Result<Vec<_>, _>>()?)
    }

    /// Reads a JSON object that is to be stored. All its numbers must be in E.164.
    pub fn from_new_json(value: &Value) -> Result<Self, CallerIdRegistryError> {
        if value.is_null() {
            return Err(CallerIdRegistryError::NoObject);
        }
        let registry = Self::from_json(value)?;
        let default = registry.default.iter().map(|number| ("default", number));
        let all = registry.by_prefix.iter().map(|(prefix, number)| (prefix.as_str(), number)).chain(default);
        for (prefix, number) in all {
            if let Err(error) = PhoneNumber::parse(number) {
                return Err(CallerIdRegistryError::NotE164(prefix.to_owned(), error));
            }
        }
        Ok(registry)
    }

    /// The caller's number for a call to `to`: of the longest prefix that fits, else the default, else none.
    pub fn caller_for(&self, to: &PhoneNumber) -> Option<&str> {
        let to = to.as_str();
        (1..=to.len())
            .rev()
            .find_map(|length| self.by_prefix.get(&to[..length]))
            .or(self.default.as_ref())
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn registry(pairs: &[(&str, &str)]) -> CallerIdRegistry {
        CallerIdRegistry::new(pairs.iter().map(|(a, b)| (a.to_string(), b.to_string()))).unwrap()
    }

    fn number(text: &str) -> PhoneNumber {
        PhoneNumber::parse(text).unwrap()
    }

    #[test]
    fn the_longest_prefix_wins_then_the_default_then_nobody() {
        let r = registry(&[("+385", "+385123"), ("+38591", "+38591000"), ("default", "+1500")]);
        assert_eq!(r.caller_for(&number("+385777")), Some("+385123"));
        assert_eq!(r.caller_for(&number("+38591777")), Some("+38591000"));
        assert_eq!(r.caller_for(&number("+4912345")), Some("+1500"));
        assert_eq!(registry(&[("+385", "+385123")]).caller_for(&number("+4912345")), None);
    }

    #[test]
    fn a_key_that_is_no_prefix_is_named() {
        let error = CallerIdRegistry::new([("385".to_owned(), "+1".to_owned())]).unwrap_err();
        assert!(error.to_string().contains("\"385\""), "{error}");
    }

    proptest! {
        #[test]
        fn the_lookup_agrees_with_trying_every_prefix(
            pairs in proptest::collection::btree_map("\\+[0-9]{0,5}", "\\+[1-9][0-9]{3}", 0..20),
            default in proptest::option::of("\\+[1-9][0-9]{3}"),
            to in "\\+[1-9][0-9]{4,10}",
        ) {
            let all = pairs.clone().into_iter().chain(default.clone().map(|number| ("default".to_owned(), number)));
            let r = CallerIdRegistry::new(all).unwrap();
            let longest = pairs.iter().filter(|(p, _)| to.starts_with(p.as_str())).max_by_key(|(p, _)| p.len());
            let expected = longest.map(|(_, n)| n).or(default.as_ref());
            prop_assert_eq!(r.caller_for(&number(&to)), expected.map(String::as_str));
        }
    }
}
