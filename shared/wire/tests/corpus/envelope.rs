use serde_json::json;

use super::{Case, Expected, bad, good, rejected, start_with, starts, stops};

pub(super) fn cases() -> Vec<Case> {
    [process_ids(), misspelt_keys(), actions(), notifications(), stops_with_rubbish(), duplicates()]
        .into_iter()
        .flatten()
        .collect()
}

fn process_ids() -> Vec<Case> {
    let start = |name: &str, process: &str| {
        let due = json!({"channel": "console", "at": 0});
        starts(name, start_with(process, ""), 1, due)
    };
    let long = |name: &str, process: &str| {
        rejected(name, start_with(process, ""), &[("process-id", "must be at most 255 characters")])
    };
    vec![
        rejected("no process-id", r#"{"action":"stop"}"#, &[("process-id", "is required")]),
        rejected("empty process-id", start_with("", ""), &[("process-id", "must not be empty")]),
        start("process-id of a space", " "),
        start("process-id with spaces around it", "  spaces around  "),
        start("process-id of 255 letters", &"a".repeat(255)),
        long("process-id of 256 letters", &"a".repeat(256)),
        start("process-id of 255 emoji", &"🔔".repeat(255)),
        long("process-id of 256 emoji", &"🔔".repeat(256)),
        long("process-id of 128 letters with accents of their own", &"e\u{301}".repeat(128)),
        long("process-id of a megabyte", &"a".repeat(1_000_000)),
        start("process-id with line ends", r"line\r\nends"),
        start("process-id with escape sequences", r"\u001b[2J\u001b]0;owned\u0007"),
        start("process-id written from right to left", "\u{202e}drawkcab"),
        start("process-id with quotes", r#"'; DROP TABLE request; -- \" \\"#),
        start("process-id with a path", "../../etc/passwd%00"),
        start("process-id with placeholders", "$1 %s {} {{name}} ${jndi:ldap://x}"),
        start("process-id that says null", "null"),
        rejected("process-id of U+0000", start_with(r"\u0000", ""), &[("process-id", "must not contain U+0000")]),
        rejected("process-id ends in U+0000", start_with(r"p\u0000", ""), &[("process-id", "must not contain U+0000")]),
    ]
}

fn misspelt_keys() -> Vec<Case> {
    let stop = |key: &str| format!(r#"{{"{key}":"p","action":"stop"}}"#);
    let missing: &[(&str, &'static str)] = &[("process-id", "is required")];
    vec![
        rejected("process_id", stop("process_id"), missing),
        rejected("processId", stop("processId"), missing),
        rejected("PROCESS-ID", stop("PROCESS-ID"), missing),
        rejected("space after process-id", stop("process-id "), missing),
        rejected("hyphen that does not break", stop("process\u{2011}id"), missing),
        rejected("invisible character in process-id", stop("process-\u{200b}id"), missing),
        rejected(
            "U+0000 in a key",
            stop(r"process-id\u0000"),
            &[("process-id\u{fffd}", "the key must not contain U+0000"), ("process-id", "is required")],
        ),
        rejected(
            "U+0000 in the key and in the value",
            r#"{"process-id":"p","action":"stop","\u0000":"\u0000"}"#,
            &[("\u{fffd}", "the key must not contain U+0000"), ("\u{fffd}", "must not contain U+0000")],
        ),
        rejected(
            "notification for notifications",
            r#"{"process-id":"p","action":"start","notification":[{"channel":"console","at":0}]}"#,
            &[("notifications", "is required to start")],
        ),
        rejected(
            "everything wrong at once",
            r#"{"process-id":"","action":"","notifications":[{"channel":"","at":""},[]]}"#,
            &[
                ("process-id", "must not be empty"),
                ("action", "must be \"start\" or \"stop\""),
                ("notifications[0].channel", "must be one of phone"),
                ("notifications[0].at", "must be whole seconds"),
                ("notifications[1]", "must be an object, is an array"),
            ],
        ),
    ]
}

fn actions() -> Vec<Case> {
    let action = |name: &str, action: &str| {
        let body = format!(r#"{{"process-id":"p","action":"{action}"}}"#);
        rejected(name, body, &[("action", "must be \"start\" or \"stop\"")])
    };
    vec![
        rejected("no action", r#"{"process-id":"p"}"#, &[("action", "is required")]),
        action("empty action", ""),
        action("action in capitals", "STOP"),
        action("action with a capital", "Start"),
        action("space before an action", " stop"),
        action("line end after an action", r"stop\n"),
        action("unknown action", "restart"),
        action("Cyrillic letter in an action", "\u{455}top"),
        action("two actions in one", "start,stop"),
        rejected(
            "U+0000 after an action",
            r#"{"process-id":"p","action":"stop\u0000"}"#,
            &[("action", "must not contain U+0000"), ("action", "must be \"start\" or \"stop\"")],
        ),
    ]
}

fn notifications() -> Vec<Case> {
    let start =
        |notifications: &str| format!(r#"{{"process-id":"p","action":"start","notifications":{notifications}}}"#);
    let of = |process: &str, item: &str, n| {
        let items = vec![item; n].join(",");
        format!(r#"{{"process-id":"{process}","action":"start","notifications":[{items}]}}"#)
    };
    let console = r#"{"channel":"console","at":4102444800}"#;
    let number = "must have 1 to 1000 notifications, has ";
    let mut all_wrong: Vec<_> =
        (0..100).map(|n| (format!("notifications[{n}]"), "must be an object, is null")).collect();
    all_wrong.push((String::new(), "and 900 more"));
    vec![
        rejected("start of nothing", r#"{"process-id":"p","action":"start"}"#, &[("notifications", "is required")]),
        rejected("no notifications", start("[]"), &[("notifications", number)]),
        starts("a thousand notifications", of("thousand", console, 1_000), 1_000, json!({"at": 4_102_444_800_i64})),
        rejected("a thousand and one", of("p", console, 1_001), &[("notifications", "has 1001")]),
        rejected("300,000 notifications", of("p", "{}", 300_000), &[("notifications", "has 300000")]),
        Case::new("a thousand nulls", of("p", "null", 1_000), Expected::Rejected(all_wrong)),
        rejected(
            "notifications encoded twice",
            start(r#""[{\"channel\":\"console\",\"at\":0}]""#),
            &[("notifications", "must be an array, is a string")],
        ),
        rejected("array in the array", start(&format!("[[{console}]]")), &[("notifications[0]", "is an array")]),
        rejected(
            "one bad among good ones",
            start(&format!(r#"[{console},{console},{{"channel":"console"}},{console}]"#)),
            &[("notifications[2].at", "is required")],
        ),
        bad("empty notification", "", &[("channel", "is required"), ("at", "is required")]),
        good(
            "a key of the top in a notification",
            r#""channel":"console","at":0,"process-id":7,"action":"stop","notifications":[]"#,
            json!({"channel": "console"}),
        ),
    ]
}

fn stops_with_rubbish() -> Vec<Case> {
    let stop = |process: &str, notifications: &str| {
        stops(
            &format!("stop with {process}"),
            format!(r#"{{"process-id":"{process}","action":"stop","notifications":{notifications}}}"#),
            process,
        )
    };
    vec![
        stop("null for notifications", "null"),
        stop("a string for notifications", "\"all\""),
        stop("bad notifications", r#"[{"channel":"pigeon","at":"soon","at":1},7,[]]"#),
        stop("2,000 notifications", &format!("[{}]", vec!["{}"; 2_000].join(","))),
        stop("good notifications", r#"[{"channel":"console","at":0}]"#),
    ]
}

fn duplicates() -> Vec<Case> {
    let twice = "stands more than once";
    vec![
        rejected(
            "process-id twice",
            r#"{"process-id":"p","process-id":"q","action":"stop"}"#,
            &[("process-id", twice)],
        ),
        rejected("the same twice", r#"{"process-id":"p","process-id":"p","action":"stop"}"#, &[("process-id", twice)]),
        rejected(
            "process-id five times",
            format!(r#"{{{}"action":"stop"}}"#, r#""process-id":"p","#.repeat(5)),
            &[("process-id", twice)],
        ),
        rejected(
            "process-id in two spellings",
            r#"{"process-id":"p","\u0070rocess\u002did":"q","action":"stop"}"#,
            &[("process-id", twice)],
        ),
        rejected("start and stop", start_with("p", r#""action":"stop""#), &[("action", twice)]),
        rejected("notifications twice", start_with("p", r#""notifications":[]"#), &[("notifications", twice)]),
        rejected(
            "notifications twice in a stop",
            r#"{"process-id":"p","action":"stop","notifications":1,"notifications":2}"#,
            &[("notifications", twice)],
        ),
        rejected(
            "all keys twice",
            r#"{"process-id":"p","action":"stop","action":"stop","process-id":"p"}"#,
            &[("process-id", twice), ("action", twice)],
        ),
        rejected(
            "50,000 process-ids",
            format!("{{{}}}", vec![r#""process-id":"p""#; 50_000].join(",")),
            &[("process-id", twice), ("action", "is required")],
        ),
        bad("channel twice", r#""channel":"console","at":0,"channel":"phone""#, &[("channel", twice)]),
        bad("at twice", r#""channel":"console","at":0,"at":1"#, &[("at", twice)]),
        bad(
            "max-attempts twice",
            r#""channel":"console","at":0,"max-attempts":1,"max-attempts":1"#,
            &[("max-attempts", twice)],
        ),
        bad(
            "address twice",
            r#""channel":"phone","at":0,"phone-number":"+3851111111","phone-\u006eumber":"+3852222222""#,
            &[("phone-number", twice)],
        ),
        bad("option twice", r#""channel":"console","at":0,"message":"a","message":"b""#, &[("message", twice)]),
        bad(
            "first good and second bad",
            r#""channel":"console","at":0,"max-age":60,"max-age":"x""#,
            &[("max-age", twice)],
        ),
        bad(
            "first bad and second good",
            r#""channel":"console","at":"soon","at":0"#,
            &[("at", twice), ("at", "must be whole seconds")],
        ),
        good(
            "another channel's key twice",
            r#""channel":"console","at":0,"email":1,"email":2"#,
            json!({"channel": "console", "address": null, "options": {}}),
        ),
    ]
}
