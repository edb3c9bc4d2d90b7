use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// What Twilio would refuse in a request for a call: HTTP status, error code and message.
pub(crate) fn problem(
    account_sid: &str,
    authorization: Option<&str>,
    form: &BTreeMap<String, String>,
) -> Option<(u16, u32, &'static str)> {
    if !authorized(account_sid, authorization) {
        return Some((401, 20003, "Authenticate"));
    }
    let field = |name| form.get(name).map(String::as_str).unwrap_or_default();
    if field("To").is_empty() {
        return Some((400, 21201, "No 'To' number is specified"));
    }
    if !is_number(field("To")) {
        return Some((400, 21211, "The phone number you are attempting to call is not valid."));
    }
    if field("From").is_empty() {
        return Some((400, 21213, "'From' phone number is required"));
    }
    if !is_number(field("From")) {
        return Some((400, 21212, "The 'From' number is not a valid phone number."));
    }
    let absolute = url::Url::parse(field("Url")).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !absolute {
        return Some((400, 21205, "Url is not a valid URL."));
    }
    if !matches!(field("Method"), "" | "GET" | "POST") {
        return Some((400, 21403, "Invalid Method."));
    }
    None
}

fn authorized(account_sid: &str, authorization: Option<&str>) -> bool {
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
pub(crate) fn call(account_sid: &str, sid: &str, form: &BTreeMap<String, String>) -> Value {
    json!({
        "sid": sid, "account_sid": account_sid, "api_version": "2010-04-01", "status": "queued",
        "direction": "outbound-api", "to": form.get("To"), "from": form.get("From"), "price_unit": "USD",
        "uri": format!("/2010-04-01/Accounts/{account_sid}/Calls/{sid}.json"),
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
        let code = |form| problem("SID", Some("Basic U0lEOlRPS0VO"), &form).map(|(_, code, _)| code);
        assert_eq!(code(form(&[])), None);
        assert_eq!(code(form(&[("To", "")])), Some(21201));
        assert_eq!(code(form(&[("To", "385")])), Some(21211));
        assert_eq!(code(form(&[("From", "")])), Some(21213));
        assert_eq!(code(form(&[("From", "x")])), Some(21212));
        assert_eq!(code(form(&[("Url", "URL")])), Some(21205));
        assert_eq!(code(form(&[("Method", "PUT")])), Some(21403));
        assert_eq!(problem("OTHER", Some("Basic U0lEOlRPS0VO"), &form(&[])).unwrap().1, 20003);
        assert_eq!(problem("SID", None, &form(&[])).unwrap().0, 401);
    }
}
