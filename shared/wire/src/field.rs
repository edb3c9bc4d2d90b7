use std::str::FromStr;

use domain::{FieldKind, PhoneNumber};
use email_address::{EmailAddress, Options};
use serde_json::Value;

use crate::json::Json;

/// As RFC 5321 bounds a path, less its angle brackets.
const MAX_EMAIL_CHARACTERS: usize = 254;

const MAX_URL_CHARACTERS: usize = 2_048;

/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
const MAX_PAYLOAD_BYTES: usize = 262_144;

/// With raw delivery SQS takes no more:
/// <https://docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html>
const MAX_ATTRIBUTES: usize = 10;

/// <https://www.pubnub.com/docs/general/channels/overview>: the length, and what a name must not hold. A dot and a
/// star are for wildcards, which nobody can publish to.
const MAX_PUBNUB_CHANNEL_BYTES: usize = 92;

/// Reads the value of a channel's own key, or one of an array of addresses, or says what is wrong with it. The value
/// itself, which may be an address, is not repeated.
pub(crate) fn read(kind: FieldKind, json: Json) -> Result<Value, String> {
    match kind {
        FieldKind::Json => return Ok(json.into()),
        FieldKind::Payload => return payload(json),
        FieldKind::Attributes => return attributes(json),
        _ => {}
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
        FieldKind::TopicArn => topic_problem(&text),
        FieldKind::Text(max) => text_problem(&text, max),
        FieldKind::Line(max) => text_problem(&text, max)
            .or_else(|| text.chars().any(char::is_control).then(|| "must be one line".to_owned())),
        FieldKind::Json | FieldKind::Payload | FieldKind::Attributes => None,
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

/// Any partition (`aws`, `aws-cn`, ...), a region, an account, and a name as CreateTopic takes it:
/// <https://docs.aws.amazon.com/sns/latest/api/API_CreateTopic.html>
fn topic_problem(text: &str) -> Option<String> {
    let parts: Vec<_> = text.split(':').collect();
    let is_word = |word: &str| {
        word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') && !word.is_empty()
    };
    let fits = match parts[..] {
        ["arn", partition, "sns", region, account, topic] => {
            let name = topic.strip_suffix(".fifo").unwrap_or(topic);
            (partition == "aws" || partition.starts_with("aws-"))
                && is_word(partition)
                && is_word(region)
                && account.len() == 12
                && account.bytes().all(|b| b.is_ascii_digit())
                && !name.is_empty()
                && topic.len() <= 256
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        }
        _ => false,
    };
    (!fits).then(|| "must be the ARN of an SNS topic, such as arn:aws:sns:eu-west-1:123456789012:orders".to_owned())
}

fn payload(json: Json) -> Result<Value, String> {
    if let Json::Null = json {
        return Err("must be a text or other JSON, is null".to_owned());
    }
    let value = Value::from(json);
    let bytes = value.as_str().map_or_else(|| value.to_string().len(), str::len);
    if bytes > MAX_PAYLOAD_BYTES {
        return Err(format!("must be at most {MAX_PAYLOAD_BYTES} bytes, is {bytes}"));
    }
    Ok(value)
}

fn attributes(json: Json) -> Result<Value, String> {
    let Json::Object(members) = json else { return Err(format!("must be an object, is {}", json.kind())) };
    if !(1..=MAX_ATTRIBUTES).contains(&members.len()) {
        return Err(format!("must have 1 to {MAX_ATTRIBUTES} attributes, has {}", members.len()));
    }
    let is_text = |value: &Json| matches!(value, Json::String(text) if !text.is_empty());
    if !members.iter().all(|(name, value)| is_attribute_name(name) && is_text(value)) {
        return Err("must be names of letters, digits, _ - . (not AWS. or Amazon. first) and texts that are not empty"
            .to_owned());
    }
    Ok(Json::Object(members).into())
}

/// <https://docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html>
fn is_attribute_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    name.len() <= 256
        && name.split('.').all(|part| !part.is_empty())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        && !["aws.", "amazon."].iter().any(|reserved| lower.starts_with(reserved))
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
    fn topics() {
        let long = format!("arn:aws:sns:eu-west-1:123456789012:{}.fifo", "a".repeat(251));
        for good in
            ["arn:aws:sns:eu-west-1:123456789012:orders", "arn:aws-cn:sns:cn-north-1:123456789012:a_B-1.fifo", &long]
        {
            assert_eq!(problem(FieldKind::TopicArn, &format!("{good:?}")), None, "{good}");
        }
        for bad in [
            "",
            "orders",
            "arn:aws:sqs:eu-west-1:123456789012:orders",
            "arn:aws:sns:eu-west-1:123456789012:",
            "arn:aws:sns:eu-west-1:123456789012:.fifo",
            "arn:aws:sns:eu-west-1:12345678901:orders",
            "arn:aws:sns::123456789012:orders",
            "arn:aws:sns:eu-west-1:123456789012:orders:1f2e",
            "arn:aws:sns:eu-west-1:123456789012:or ders",
            "arn:aws:sns:eu/../-1:123456789012:orders",
            "arn:gcp:sns:eu-west-1:123456789012:orders",
            &long.replace(".fifo", "a.fifo"),
        ] {
            assert!(problem(FieldKind::TopicArn, &format!("{bad:?}")).is_some(), "{bad}");
        }
    }

    #[test]
    fn payloads_lines_and_attributes() {
        for good in [r#""text""#, "{}", "[1, null]", "0", "false"] {
            assert_eq!(problem(FieldKind::Payload, good), None, "{good}");
        }
        assert!(problem(FieldKind::Payload, "null").is_some());
        assert_eq!(problem(FieldKind::Payload, &format!("{:?}", "ü".repeat(131_072))), None);
        let long = problem(FieldKind::Payload, &format!("{:?}", "a".repeat(262_145)));
        assert_eq!(long.as_deref(), Some("must be at most 262144 bytes, is 262145"));
        assert_eq!(problem(FieldKind::Line(3), r#""abc""#), None);
        assert!(problem(FieldKind::Line(3), r#""a\nb""#).unwrap().contains("one line"));
        assert_eq!(problem(FieldKind::Attributes, r#"{"a.b-C_1": "x", "z": "ü"}"#), None);
        let many: Vec<_> = (0..11).map(|n| format!(r#""a{n}": "x""#)).collect();
        for bad in [
            "{}",
            "[]",
            r#""x""#,
            r#"{"a": 1}"#,
            r#"{"a": ""}"#,
            r#"{"": "x"}"#,
            r#"{"a..b": "x"}"#,
            r#"{".a": "x"}"#,
            r#"{"AWS.a": "x"}"#,
            r#"{"ü": "x"}"#,
            &format!("{{{}}}", many.join(",")),
        ] {
            assert!(problem(FieldKind::Attributes, bad).is_some(), "{bad}");
        }
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
