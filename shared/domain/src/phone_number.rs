use std::fmt;

/// A number as ITU-T E.164 writes it: `+`, a country code that does not begin with 0, 15 digits at most.
/// Syntax and length are checked; numbering plans are the provider's business.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PhoneNumber(String);

/// The text is no E.164 number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be an E.164 number: + and 2 to 15 digits, the first not 0, and nothing else")]
pub struct InvalidPhoneNumber;

impl PhoneNumber {
    /// Accepts `+` and 2 to 15 ASCII digits, the first of them 1 to 9.
    pub fn parse(text: &str) -> Result<Self, InvalidPhoneNumber> {
        let digits = text.strip_prefix('+').ok_or(InvalidPhoneNumber)?;
        let legal =
            (2..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        if legal { Ok(Self(text.to_owned())) } else { Err(InvalidPhoneNumber) }
    }

    /// The number with its `+`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Addresses do not belong in logs, so the digits are not shown.
impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneNumber(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax() {
        for good in ["+385777", "+3851111111", "+15005550006", "+123456789012345", "+12"] {
            assert_eq!(PhoneNumber::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", "+", "385777", "+0385777", "+1234567890123456", "+385 777", "+385-777", "+٣٨٥٧٧٧", "+1", "++385"]
        {
            assert!(PhoneNumber::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_hides_the_digits() {
        assert_eq!(format!("{:?}", PhoneNumber::parse("+385777").unwrap()), "PhoneNumber(..)");
    }
}
