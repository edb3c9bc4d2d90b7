use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

type Form = BTreeMap<String, String>;

/// HTTP status, error code and message.
type Problem = (u16, u32, &'static str);

fn field<'a>(form: &'a Form, name: &str) -> &'a str {
    form.get(name).map(String::as_str).unwrap_or_default()
}

/// What Twilio would refuse in a request for a call.
pub(crate) fn call_problem(form: &Form) -> Option<Problem> {
    let absolute = url::Url::parse(field(form, "Url")).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    match field(form, "To") {
        "" => return Some((400, 21201, "No 'To' number is specified")),
        to if !is_number(to) => {
            return Some((400, 21211, "The phone number you are attempting to call is not valid."));
        }
        _ => {}
    }
    match field(form, "From") {
        "" => Some((400, 21213, "'From' phone number is required")),
        from if !is_number(from) => Some((400, 21212, "The 'From' number is not a valid phone number.")),
        _ if !absolute => Some((400, 21205, "Url is not a valid URL.")),
        _ if !matches!(field(form, "Method"), "" | "GET" | "POST") => Some((400, 21403, "Invalid Method.")),
        _ => None,
    }
}

/// What Twilio would refuse in a request for a message.
pub(crate) fn message_problem(form: &Form) -> Option<Problem> {
    match field(form, "To") {
        "" => return Some((400, 21604, "A 'To' phone number is required.")),
        to if !is_number(to) => return Some((400, 21211, "The 'To' number is not a valid phone number.")),
        _ => {}
    }
    match (field(form, "From"), field(form, "Body").chars().count()) {
        ("", _) => Some((400, 21603, "A 'From' phone number is required.")),
        (from, _) if !is_number(from) => Some((400, 21212, "The 'From' number is not a valid phone number.")),
        (_, 0) => Some((400, 21602, "Message body is required.")),
        (_, 1_601..) => Some((400, 21617, "The concatenated message body exceeds the 1600 character limit")),
        _ => None,
    }
}

/// Whether the account and some password stand in the header.
pub(crate) fn authorized(account_sid: &str, authorization: Option<&str>) -> bool {
    let decoded = authorization
        .and_then(|header| header.strip_prefix("Basic "))
        .and_then(|encoded| BASE64_STANDARD.decode(encoded).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|pair| pair.split_once(':'));
    pair.is_some_and(|(user, password)| user == account_sid && !password.is_empty())
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (2..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
}

/// An accepted call, as Twilio describes it.
pub(crate) fn call(account_sid: &str, number: usize, form: &Form) -> Value {
    let sid = format!("CA{number:032x}");
    json!({
        "sid": sid, "account_sid": account_sid, "api_version": "2010-04-01", "status": "queued",
        "direction": "outbound-api", "to": form.get("To"), "from": form.get("From"), "price_unit": "USD",
        "uri": format!("/2010-04-01/Accounts/{account_sid}/Calls/{sid}.json"),
    })
}

/// An accepted message, as Twilio describes it.
pub(crate) fn message(account_sid: &str, number: usize, form: &Form) -> Value {
    let sid = format!("SM{number:032x}");
    json!({
        "sid": sid, "account_sid": account_sid, "api_version": "2010-04-01", "status": "queued",
        "direction": "outbound-api", "to": form.get("To"), "from": form.get("From"), "body": form.get("Body"),
        "num_segments": "1", "num_media": "0", "price_unit": "USD", "error_code": null, "error_message": null,
        "uri": format!("/2010-04-01/Accounts/{account_sid}/Messages/{sid}.json"),
    })
}

/// An error, as Twilio describes it.
pub(crate) fn error(status: u16, code: u32, message: &str) -> Value {
    let more_info = format!("https://www.twilio.com/docs/errors/{code}");
    json!({"code": code, "message": message, "more_info": more_info, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_twilio_refuses() {
        let good = [("To", "+385777"), ("From", "+385123"), ("Url", "http://a/b"), ("Method", "GET")];
        let form = |change: &[(&str, &str)]| {
            let mut form: BTreeMap<_, _> = good.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            form.extend(change.iter().map(|(k, v)| (k.to_string(), v.to_string())));
            form
        };
        let code = |form| call_problem(&form).map(|(_, code, _)| code);
        assert_eq!(code(form(&[])), None);
        assert_eq!(code(form(&[("To", "")])), Some(21201));
        assert_eq!(code(form(&[("To", "385")])), Some(21211));
        assert_eq!(code(form(&[("From", "")])), Some(21213));
        assert_eq!(code(form(&[("From", "x")])), Some(21212));
        assert_eq!(code(form(&[("Url", "URL")])), Some(21205));
        assert_eq!(code(form(&[("Method", "PUT")])), Some(21403));
        let code = |form| message_problem(&form).map(|(_, code, _)| code);
        assert_eq!(code(form(&[])), Some(21602));
        assert_eq!(code(form(&[("Body", "x")])), None);
        assert_eq!(code(form(&[("Body", &"x".repeat(1_601))])), Some(21617));
        assert_eq!(code(form(&[("Body", "x"), ("To", "")])), Some(21604));
        assert_eq!(code(form(&[("Body", "x"), ("From", "")])), Some(21603));
    }

    #[test]
    fn who_may_ask() {
        assert!(authorized("SID", Some("Basic U0lEOlRPS0VO")));
        assert!(!authorized("OTHER", Some("Basic U0lEOlRPS0VO")));
        assert!(!authorized("SID", None));
    }
}
