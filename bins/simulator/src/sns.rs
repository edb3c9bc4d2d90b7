use std::{collections::BTreeMap, fmt::Write};

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

/// An answer, as the API's query protocol has it.
#[derive(Debug, Clone)]
pub(crate) struct Xml(String);

impl IntoResponse for Xml {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "text/xml")], self.0).into_response()
    }
}

/// HTTP status and error code.
type Problem = (u16, &'static str);

/// What SNS would refuse in a message. Nobody's signature is checked, but there has to be one.
pub(crate) fn problem(form: &BTreeMap<String, String>, authorization: Option<&str>) -> Option<Problem> {
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let topic = field("TopicArn");
    let is_fifo = topic.ends_with(".fifo");
    let grouped = !field("MessageGroupId").is_empty() && !field("MessageDeduplicationId").is_empty();
    match field("Message").len() {
        _ if !authorization.is_some_and(|header| header.starts_with("AWS4-HMAC-SHA256 Credential=")) => {
            Some((403, "MissingAuthenticationToken"))
        }
        _ if topic.split(':').count() != 6 || !topic.starts_with("arn:aws") => Some((400, "InvalidParameter")),
        0 | 262_145.. => Some((400, "InvalidParameter")),
        _ if is_fifo && !grouped => Some((400, "InvalidParameter")),
        _ => None,
    }
}

/// The code that goes with a status, if SNS has one.
pub(crate) fn code(status: u16) -> Option<&'static str> {
    let code = match status {
        400 => "InvalidParameter",
        403 => "AuthorizationError",
        404 => "NotFound",
        429 => "Throttled",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        _ => return None,
    };
    Some(code)
}

/// An error, as SNS describes it; without a code, as something between it and the client does.
pub(crate) fn error(status: u16, code: Option<&str>) -> Xml {
    let Some(code) = code else { return Xml(format!("<html><body>{status}</body></html>")) };
    let fault = if status < 500 { "Sender" } else { "Receiver" };
    let code = escaped(code);
    let error =
        format!("<Error><Type>{fault}</Type><Code>{code}</Code><Message>as the simulator was told</Message></Error>");
    Xml(format!("<ErrorResponse xmlns=\"{NAMESPACE}\">{error}<RequestId>{REQUEST_ID}</RequestId></ErrorResponse>"))
}

/// The id of an accepted message.
pub(crate) fn message_id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// An accepted message, as SNS describes it.
pub(crate) fn published(message_id: &str) -> Xml {
    response("Publish", &format!("<MessageId>{message_id}</MessageId>"))
}

/// The list of topics, of which there are none: any can be published to.
pub(crate) fn topics() -> Xml {
    response("ListTopics", "<Topics/>")
}

const NAMESPACE: &str = "http://sns.amazonaws.com/doc/2010-03-31/";
const REQUEST_ID: &str = "00000000-0000-0000-0000-000000000000";

fn response(action: &str, result: &str) -> Xml {
    let metadata = format!("<ResponseMetadata><RequestId>{REQUEST_ID}</RequestId></ResponseMetadata>");
    let result = format!("<{action}Result>{result}</{action}Result>");
    Xml(format!("<{action}Response xmlns=\"{NAMESPACE}\">{result}{metadata}</{action}Response>"))
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut all, c| {
        // A String takes all that is written to it.
        if c.is_ascii_alphanumeric() {
            all.push(c)
        } else {
            write!(all, "&#{};", u32::from(c)).unwrap_or_default()
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sns_refuses() {
        let topic = "arn:aws:sns:us-east-1:000000000000:orders";
        let signed = Some("AWS4-HMAC-SHA256 Credential=test/20261122/us-east-1/sns/aws4_request");
        let form = |fields: &[(&str, &str)]| fields.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let good = form(&[("TopicArn", topic), ("Message", "x")]);
        assert_eq!(problem(&good, signed), None);
        assert_eq!(problem(&good, None), Some((403, "MissingAuthenticationToken")));
        let fifo = format!("{topic}.fifo");
        let (refused, long) = (Some((400, "InvalidParameter")), "x".repeat(262_145));
        for bad in [
            form(&[("TopicArn", "orders"), ("Message", "x")]),
            form(&[("TopicArn", topic)]),
            form(&[("TopicArn", topic), ("Message", &long)]),
            form(&[("TopicArn", &fifo), ("Message", "x"), ("MessageGroupId", "g")]),
        ] {
            assert_eq!(problem(&bad, signed), refused, "{:?}", bad.get("TopicArn"));
        }
        let fifo =
            [("TopicArn", &fifo[..]), ("Message", "x"), ("MessageGroupId", "g"), ("MessageDeduplicationId", "d")];
        assert_eq!(problem(&form(&fifo), signed), None);
    }

    #[test]
    fn an_error_without_a_code_is_somebody_elses() {
        assert!(error(502, code(502)).0.starts_with("<html>"));
        assert!(error(429, code(429)).0.contains("<Code>Throttled</Code>"));
        assert!(error(400, Some("<&>")).0.contains("<Code>&#60;&#38;&#62;</Code>"));
    }
}
