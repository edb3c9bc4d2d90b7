use super::{Case, bad, rejected};

/// Every key with every JSON type that it must not have.
pub(super) fn cases() -> Vec<Case> {
    let top = TYPES.iter().filter(|(_, value)| !value.starts_with('"')).flat_map(|(kind, value)| {
        let process = format!(r#"{{"process-id":{value},"action":"stop"}}"#);
        let action = format!(r#"{{"process-id":"p","action":{value}}}"#);
        [
            rejected(&format!("process-id is {kind}"), process, &[("process-id", kind)]),
            rejected(&format!("action is {kind}"), action, &[("action", kind)]),
        ]
    });
    let notifications = TYPES.iter().filter(|(kind, _)| *kind != "an array").flat_map(|(kind, value)| {
        let list = format!(r#"{{"process-id":"p","action":"start","notifications":{value}}}"#);
        let item = format!(r#"{{"process-id":"p","action":"start","notifications":[{value}]}}"#);
        let list = rejected(&format!("notifications is {kind}"), list, &[("notifications", kind)]);
        let item = rejected(&format!("notification is {kind}"), item, &[("notifications[0]", kind)]);
        if *kind == "an object" { vec![list] } else { vec![list, item] }
    });
    let keys = KEYS.iter().flat_map(|(channel, key, rest, takes)| {
        let wrong = TYPES.iter().filter(move |(kind, _)| !takes.contains(kind));
        wrong.map(move |(kind, value)| {
            let words = if key.starts_with("max-") { "must be a whole number" } else { *kind };
            let named = if *key == "channel" { String::new() } else { format!(r#""channel":"{channel}","#) };
            let name = format!("{key} of {channel} is {kind}");
            bad(&name, &format!("{named}{rest}\"{key}\":{value}"), &[(key, words)])
        })
    });
    top.chain(notifications).chain(keys).collect()
}

/// As the reasons call them.
const TYPES: &[(&str, &str)] = &[
    ("null", "null"),
    ("a boolean", "true"),
    ("a number", "1"),
    ("a string", "\"1\""),
    ("an array", r#"["1"]"#),
    ("an object", r#"{"1":1}"#),
];

const PHONE: &str = r#""at":1,"phone-number":"+3851111111","#;
const MAIL: &str = r#""at":1,"email":"me@example.org","#;
const TOPIC: &str = r#""at":1,"topic-arn":"arn:aws:sns:eu-west-1:123456789012:orders","#;
const SNS: &str = r#""at":1,"topic-arn":"arn:aws:sns:eu-west-1:123456789012:orders","payload":"p","#;

/// Channel, key, what stands beside it, and the types it takes.
const KEYS: &[(&str, &str, &str, &[&str])] = &[
    ("any", "channel", r#""at":1,"#, &["a string"]),
    ("console", "at", "", &["a number", "a string"]),
    ("console", "on-unknown", r#""at":1,"#, &["a string"]),
    ("console", "max-attempts", r#""at":1,"#, &["a number"]),
    ("console", "max-age", r#""at":1,"#, &["a number"]),
    ("console", "message", r#""at":1,"#, &["a string"]),
    ("phone", "phone-number", r#""at":1,"#, &["a string"]),
    ("phone", "url", PHONE, &["a string"]),
    ("sms", "phone-number", r#""at":1,"message":"m","#, &["a string"]),
    ("sms", "message", PHONE, &["a string"]),
    ("email", "email", r#""at":1,"#, &["a string"]),
    ("email", "from", MAIL, &["a string"]),
    ("email", "subject", MAIL, &["a string"]),
    ("email", "body", MAIL, &["a string"]),
    ("email", "html", MAIL, &["a string"]),
    ("email", "cc", MAIL, &["a string", "an array"]),
    ("email", "bcc", MAIL, &["a string", "an array"]),
    ("pubnub", "pubnub-channel", r#""at":1,"#, &["a string"]),
    ("sns", "topic-arn", r#""at":1,"payload":"p","#, &["a string"]),
    ("sns", "payload", TOPIC, &["a boolean", "a number", "a string", "an array", "an object"]),
    ("sns", "subject", SNS, &["a string"]),
    ("sns", "attributes", SNS, &["an object"]),
    ("webhook", "url", r#""at":1,"#, &["a string"]),
];
