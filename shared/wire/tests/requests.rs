//! What holds of every request that anybody may send.

use std::{collections::BTreeMap, time::Duration};

use domain::{Action, Channel, DEFAULT_MAX_AGE, DEFAULT_MAX_ATTEMPTS, NewNotification, OnUnknown};
use jiff::Timestamp;
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::Value;
use wire::parse_request;

proptest! {
    #[test]
    fn what_is_written_is_read(
        process in "[a-z äöü/]{1,40}",
        at in 0..=Timestamp::MAX.as_second(),
        address in "\\+[1-9][0-9]{1,14}",
        message in "[^\0]{1,60}",
        fail in option::of(any::<bool>()),
        max_attempts in option::of(1u16..=100),
        max_age in option::of(1u64..=30 * 24 * 60 * 60),
        order in Just((0..7).collect::<Vec<usize>>()).prop_shuffle(),
        copies in 1usize..4,
    ) {
        let message = Value::String(message);
        let on_unknown = fail.map(|fail| if fail { "fail" } else { "retry" });
        let keys = [
            Some(r#""channel":"sms""#.to_owned()),
            Some(format!(r#""at":{at}"#)),
            Some(format!(r#""phone-number":"{address}""#)),
            Some(format!(r#""message":{message}"#)),
            on_unknown.map(|word| format!(r#""on-unknown":"{word}""#)),
            max_attempts.map(|n| format!(r#""max-attempts":{n}"#)),
            max_age.map(|seconds| format!(r#""max-age":{seconds}"#)),
        ];
        let keys: Vec<_> = order.iter().filter_map(|n| keys[*n].clone()).collect();
        let notifications = vec![format!("{{{}}}", keys.join(",")); copies].join(",");
        let body = format!(r#"{{"notifications":[{notifications}],"action":"start","process-id":"{process}"}}"#);

        let request = parse_request(body.as_bytes()).unwrap();
        prop_assert_eq!(request.process.as_str(), process);
        let expected = NewNotification {
            channel: Channel::named("sms").unwrap(),
            at: Timestamp::from_second(at).unwrap(),
            address: Some(address),
            options: BTreeMap::from([("message", message)]),
            on_unknown: if fail == Some(true) { OnUnknown::Fail } else { OnUnknown::Retry },
            max_attempts: max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS),
            max_age: max_age.map_or(DEFAULT_MAX_AGE, Duration::from_secs),
        };
        prop_assert_eq!(request.action, Action::Start(vec![expected; copies]));
    }

    #[test]
    fn no_body_makes_it_panic_and_a_rejection_has_its_reasons(
        body in prop_oneof![vec(any::<u8>(), 0..100), request_like().prop_map(String::into_bytes)],
    ) {
        if let Err(rejection) = parse_request(&body) {
            prop_assert!((1..=101).contains(&rejection.reasons.len()));
            prop_assert!(rejection.reasons.iter().all(|reason| !reason.message.is_empty()));
        }
    }
}

/// JSON with the keys of a request in any place, some of them twice, and any values.
fn request_like() -> impl Strategy<Value = String> {
    let words = vec!["start", "stop", "phone", "webhook", "+38514445555", "http://[", "fail", "\0"];
    let value = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        select(words).prop_map(|word| Value::String(word.to_owned()).to_string()),
        any::<String>().prop_map(|text| Value::String(text).to_string()),
    ];
    value.prop_recursive(4, 40, 8, |inner| {
        let keys =
            vec!["process-id", "action", "notifications", "channel", "at", "phone-number", "url", "on-unknown", "\0"];
        let key = select(keys).prop_map(|key| Value::String(key.to_owned()).to_string());
        let member = (key, inner.clone()).prop_map(|(key, value)| format!("{key}:{value}"));
        prop_oneof![
            vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            vec(member, 0..8).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}
