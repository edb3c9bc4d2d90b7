use std::str::FromStr;

use domain::{FieldKind, PhoneNumber};
use email_address::{EmailAddress, Options};
use serde_json::Value;

use crate::json::Json;

/// As RFC 5321 bounds a path, less its angle brackets.
const MAX_EMAIL_CHARACTERS: usize = 254;

const MAX_URL_CHARACTERS: usize = 2_048;

/// <https://www.pubnub.com/docs/general/channels/overview>: the length, and what a name must not hold. A dot and a
/// star are for wildcards, which nobody can publish to.
const MAX_PUBNUB_CHANNEL_BYTES: usize = 92;

/// Reads the value of a channel's own key, or one of an array of addresses, or says what is wrong with it. The value
/// itself, which may be an address, is not repeated.
pub(crate) fn read(kind: FieldKind, json: Json) -> Result<Value, String> {
    if let FieldKind::Json = kind {
        return Ok(json.into());
    }
    let text = match json {
        Json::String(text) => text,
        other => return Err(format!("must be a string, is {}", other.kind())),
    };
    let problem = match kind {
        FieldKind::PhoneNumber => PhoneNumber::parse(&text).err().map(|error| error.to_string()),
        FieldKind::EmailAddress | FieldKind::EmailAddresses => email_problem(&text),
        FieldKind::PubnubChannel => pubnub_problem(&text),
        FieldKind::Url => url_problem(&text),
        FieldKind::Text(max) => text_problem(&text, max),
        FieldKind::Json => None,
    };
    problem.map_or(Ok(Value::String(text)), Err)
}

fn email_problem(text: &str) -> Option<String> {
    let options = Options::default().without_display_text().without_domain_literal();
    let fits = text.chars().count() <= MAX_EMAIL_CHARACTERS
        && !text.chars().any(char::is_control)
        && EmailAddress::parse_with_options(text, options).is_ok();
    (!fits).then(|| "must be one e-mail address without a name, such as me@example.com".to_owned())
}

fn pubnub_problem(text: &str) -> Option<String> {
    let fits = (1..=MAX_PUBNUB_CHANNEL_BYTES).contains(&text.len())
        && !text.chars().any(|c| c.is_control() || ",/\\.*:".contains(c));
    (!fits).then(|| {
        format!(
            "must be a PubNub channel: 1 to {MAX_PUBNUB_CHANNEL_BYTES} bytes without , / \\ . * : or control characters"
        )
    })
}

/// A parser as browsers have it forgives much: line ends within, backslashes, one slash or three. What is kept and sent
/// on is the text as it came, so it must be right as it stands.
fn url_problem(text: &str) -> Option<String> {
    let is_http = |scheme: &str| ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let fits = text.chars().count() <= MAX_URL_CHARACTERS
        && !text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\')
        && text.split_once("://").is_some_and(|(scheme, rest)| is_http(scheme) && !rest.starts_with('/'))
        && url::Url::from_str(text).is_ok_and(|url| url.has_host());
    (!fits).then(|| {
        format!(
            "must be an absolute http or https URL of at most {MAX_URL_CHARACTERS} characters, \
             without white space and backslashes"
        )
    })
}

fn text_problem(text: &str, max: usize) -> Option<String> {
    let count = text.chars().count();
    (count > max).then(|| format!("must be at most {max} characters, is {count}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: FieldKind, json: &str) -> Option<String> {
        read(kind, Json::parse(json).unwrap()).err()
    }

    #[test]
    fn email_addresses() {
        for good in ["me@example.org", "a.b+c@sub.example.org", "o'hara@example.org", "me@localhost", "ü@example.org"]
        {
            assert_eq!(problem(FieldKind::EmailAddress, &format!("{good:?}")), None, "{good}");
        }
        let long = format!("{}@example.org", "a".repeat(250));
        for bad in [
            "",
            "me",
            "me@",
            "@example.org",
            "Me <me@example.org>",
            "me@example.org, you@example.org",
            "me@example.org\\r\\nBcc: you@example.org",
            "me@exa mple.org",
            "me@[127.0.0.1]",
            "<me@example.org>",
            &long,
        ] {
            let bad = bad.replace("\\\\", "\\");
            assert!(problem(FieldKind::EmailAddress, &format!("\"{bad}\"")).is_some(), "{bad}");
        }
    }

    #[test]
    fn pubnub_channels_and_texts() {
        assert_eq!(problem(FieldKind::PubnubChannel, r#""ch13234 ü-_""#), None);
        for bad in [r#""""#, r#""a/b""#, r#""a,b""#, r#""a.b""#, r#""a*""#, r#""a:b""#, r#""a\\b""#, r#""a\nb""#] {
            assert!(problem(FieldKind::PubnubChannel, bad).is_some(), "{bad}");
        }
        assert_eq!(problem(FieldKind::Text(3), r#""äöü""#), None);
        assert!(problem(FieldKind::Text(3), r#""äöüx""#).unwrap().contains("at most 3 characters, is 4"));
    }

    #[test]
    fn json_stays_as_it_is() {
        let json = r#"{"a": [1, 2.5, true, null, "x"], "b": {}}"#;
        let read = read(FieldKind::Json, Json::parse(json).unwrap()).unwrap();
        assert_eq!(read, serde_json::from_str::<Value>(json).unwrap());
    }

    /// Found by fuzzing: read to within one unit in the last place only, this becomes 5.666666666666666e90.
    #[test]
    fn numbers_stay_as_they_are() {
        for number in ["5.666666666666667e+90", "0.1", "-1.7976931348623157e+308", "5e-324", "9007199254740993"] {
            let read = read(FieldKind::Json, Json::parse(number).unwrap()).unwrap();
            assert_eq!(read.to_string(), number);
        }
    }
}
