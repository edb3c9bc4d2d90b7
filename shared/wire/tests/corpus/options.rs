use serde_json::{Value, json};

use super::{Case, bad, good};

pub(super) fn cases() -> Vec<Case> {
    [texts(), copies(), payloads()].into_iter().flatten().collect()
}

fn texts() -> Vec<Case> {
    let mut cases = Vec::new();
    let texts = [
        ("console", r#""at":0"#, "message", 4_096),
        ("sms", r#""at":4102444800,"phone-number":"+3851111111""#, "message", 1_600),
        ("email", r#""at":0,"email":"me@example.org""#, "subject", 255),
        ("email", r#""at":0,"email":"me@example.org""#, "body", 100_000),
        ("email", r#""at":0,"email":"me@example.org""#, "html", 400_000),
    ];
    for (channel, rest, key, max) in texts {
        let members = |text: &str| format!(r#""channel":"{channel}",{rest},"{key}":"{text}""#);
        let what = format!("{key} of {channel}");
        let words = format!("must be at most {max} characters, is {}", max + 1).leak();
        cases.push(bad(&format!("{what} too long"), &members(&"a".repeat(max + 1)), &[(key, &*words)]));
        // As long as can be in characters, and twice as long in bytes.
        let longest = "ü".repeat(max);
        cases.push(good(&format!("{what} as long as can be"), &members(&longest), json!({"options": {key: longest}})));
        cases.push(bad(&format!("{what} with U+0000"), &members(r"a\u0000"), &[(key, "must not contain U+0000")]));
    }
    let mail = |key: &str, text: &str| format!(r#""channel":"email","at":0,"email":"me@example.org","{key}":"{text}""#);
    cases.extend([
        bad(
            "empty text message",
            r#""channel":"sms","at":0,"phone-number":"+3851111111","message":"""#,
            &[("message", "must not be empty")],
        ),
        good(
            "header in a subject",
            &mail("subject", r"Alarm\r\nBcc: you@example.org\r\n\r\nText"),
            json!({"options": {"subject": "Alarm\r\nBcc: you@example.org\r\n\r\nText"}}),
        ),
        good("end of a mail in a body", &mail("body", r"a\r\n.\r\nQUIT\r\n"), json!({"channel": "email"})),
        good("escape sequences in a body", &mail("body", r"\u001b[2J\u0008\u0085"), json!({"channel": "email"})),
        good("empty subject", &mail("subject", ""), json!({"options": {"subject": ""}})),
        bad("sender with a name", &mail("from", "Me <me@example.org>"), &[("from", "must be one e-mail address")]),
        bad("header in a sender", &mail("from", r"me@example.org\r\nBcc: you@example.org"), &[("from", "must be one")]),
        good(
            "second line on a console",
            r#""channel":"console","at":0,"message":"a\r\n{\"event\":\"started\"}\u001b[1A""#,
            json!({"channel": "console"}),
        ),
        good(
            "signs that change the direction",
            r#""channel":"console","at":0,"message":"\u202egnirts\u2066""#,
            json!({"options": {"message": "\u{202e}gnirts\u{2066}"}}),
        ),
    ]);
    cases
}

fn copies() -> Vec<Case> {
    let mail = |cc: &str| format!(r#""channel":"email","at":0,"email":"me@example.org","cc":{cc}"#);
    let many = |n: usize| {
        let addresses: Vec<_> = (0..n).map(|n| format!(r#""c{n}@example.org""#)).collect();
        format!("[{}]", addresses.join(","))
    };
    let one = "must be one e-mail address";
    vec![
        good("one copy", &mail(r#""you@example.org""#), json!({"options": {"cc": "you@example.org"}})),
        good("50 copies", &mail(&many(50)), json!({"channel": "email"})),
        good("the same copy twice", &mail(r#"["you@example.org","you@example.org"]"#), json!({"channel": "email"})),
        bad("51 copies", &mail(&many(51)), &[("cc", "must have 1 to 50 addresses, has 51")]),
        bad("no copies", &mail("[]"), &[("cc", "must have 1 to 50 addresses, has 0")]),
        bad("list of copies in a string", &mail(r#""you@example.org, me@example.org""#), &[("cc", one)]),
        bad(
            "copies that are wrong",
            &mail(r#"["you","us@example.org",7,null,["a@b.org"],""]"#),
            &[
                ("cc[0]", one),
                ("cc[2]", "must be a string, is a number"),
                ("cc[3]", "must be a string, is null"),
                ("cc[4]", "must be a string, is an array"),
                ("cc[5]", one),
            ],
        ),
        bad("header in a copy", &mail(r#"["you@example.org\r\nTo: us@example.org"]"#), &[("cc[0]", one)]),
        bad(
            "U+0000 in a copy",
            &mail(r#"["you\u0000@example.org"]"#),
            &[("cc[0]", "must not contain U+0000"), ("cc[0]", one)],
        ),
    ]
}

fn payloads() -> Vec<Case> {
    let members =
        |payload: &str| format!(r#""channel":"pubnub","at":0,"pubnub-channel":"payloads","payload":{payload}"#);
    let kept =
        |name: &str, payload: &str, kept: Value| good(name, &members(payload), json!({"options": {"payload": kept}}));
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let deep_value = (0..100).fold(json!(1), |inner, _| json!([inner]));
    vec![
        kept("payload null", "null", Value::Null),
        kept("payload false", "false", json!(false)),
        kept("payload of nothing", "{}", json!({})),
        kept("payload deep down", &deep, deep_value),
        kept("payload of 2^53 + 1", "9007199254740993", json!(9_007_199_254_740_993_u64)),
        kept("payload of 2^64 - 1", "18446744073709551615", json!(u64::MAX)),
        kept("payload with a key twice", r#"{"a":1,"b":2,"a":3}"#, json!({"a": 3, "b": 2})),
        kept("payload with our keys", r#"{"process-id":7,"run":null}"#, json!({"process-id": 7, "run": null})),
        kept("payload with a trailing comma", "[1,]", json!([1])),
        kept("payload of noncharacters", r#""\uffff\ufffe\ud83f\udfff""#, json!("\u{ffff}\u{fffe}\u{1ffff}")),
        bad(
            "U+0000 deep in a payload",
            &members(r#"{"a":[0,{"b":["\u0000"]}]}"#),
            &[("payload.a[1].b[0]", "must not contain U+0000")],
        ),
        bad(
            "U+0000 in a key of a payload",
            &members(r#"[{"\u0000":1}]"#),
            &[("payload[0].\u{fffd}", "the key must not contain U+0000")],
        ),
    ]
}
