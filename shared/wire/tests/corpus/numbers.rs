use serde_json::json;

use super::{Case, bad, good};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (key, max) in [("max-attempts", 100), ("max-age", 2_592_000)] {
        // Far off, so that no age ends it before its time.
        let members = |value: &str| format!(r#""channel":"console","at":4102444800,"{key}":{value}"#);
        let wrong = format!("must be a whole number from 1 to {max}").leak();
        for (name, value) in WRONG {
            cases.push(bad(&format!("{key} {name}"), &members(value), &[(key, &*wrong)]));
        }
        let too_great = (max + 1).to_string();
        cases.push(bad(&format!("{key} too great"), &members(&too_great), &[(key, &*wrong)]));
        for value in [1, max] {
            cases.push(good(&format!("{key} of {value}"), &members(&value.to_string()), json!({key: value})));
        }
    }
    let on_unknown = |value: &str| format!(r#""channel":"console","at":0,"on-unknown":"{value}""#);
    let words = "must be \"retry\" or \"fail\"";
    for (name, value) in [("empty", ""), ("in capitals", "RETRY"), ("with a space", "fail "), ("unknown", "ignore")] {
        cases.push(bad(&format!("on-unknown {name}"), &on_unknown(value), &[("on-unknown", words)]));
    }
    for value in ["retry", "fail"] {
        cases.push(good(&format!("on-unknown {value}"), &on_unknown(value), json!({"on-unknown": value})));
    }
    cases.push(good(
        "nothing said of tries",
        r#""channel":"console","at":0"#,
        json!({"max-attempts": 10, "max-age": 86_400, "on-unknown": "retry"}),
    ));
    cases
}

const WRONG: &[(&str, &str)] = &[
    ("of 0", "0"),
    ("of minus 0", "-0"),
    ("below 0", "-1"),
    ("with a fraction", "1.5"),
    ("with a point", "3.0"),
    ("with an exponent", "1e1"),
    ("of 2^16 + 1", "65537000"),
    ("of 2^32 + 1", "4294967297"),
    ("of 2^64 + 1", "18446744073709551617"),
    ("as a string", "\"3\""),
    ("as a duration", "\"1h\""),
];
