use serde_json::json;

use super::{Case, NO_TEXT, REFUSED_CHARACTER, good, no_json, rejected, start_of_one, start_with, starts, stops};

const MIB: usize = 1024 * 1024;

pub(super) fn cases() -> Vec<Case> {
    [no_object(), punctuation(), tokens(), strings(), encodings(), forgiven(), huge()].into_iter().flatten().collect()
}

fn no_object() -> Vec<Case> {
    vec![
        no_json("empty body", "", "must be JSON: EOF").never_in_sqs("SQS refuses an empty body"),
        no_json("only white space", " \t\r\n ", "must be JSON: EOF"),
        no_json("top-level null", "null", "must be a JSON object, is null"),
        no_json("top-level boolean", "true", "must be a JSON object, is a boolean"),
        no_json("top-level number", "0", "must be a JSON object, is a number"),
        no_json("top-level string", "\"stop\"", "must be a JSON object, is a string"),
        no_json("request in an array", r#"[{"process-id":"p","action":"stop"}]"#, "must be a JSON object, is an array"),
        no_json(
            "request encoded twice",
            r#""{\"process-id\":\"p\",\"action\":\"stop\"}""#,
            "must be a JSON object, is a string",
        ),
        rejected("empty object", "{}", &[("process-id", "is required"), ("action", "is required")]),
        no_json("form", "process-id=p&action=stop", "must be JSON: expected value"),
        no_json("XML", r#"<?xml version="1.0"?><stop process-id="p"/>"#, "must be JSON: expected value"),
        no_json("YAML", "process-id: p\naction: stop\n", "must be JSON: expected value"),
        no_json("base64", "eyJwcm9jZXNzLWlkIjoicCJ9", "must be JSON: expected value"),
        no_json("server-sent event", r#"data: {"process-id":"p","action":"stop"}"#, "must be JSON: expected value"),
        no_json("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00".as_slice(), "must be UTF-8").never_in_sqs(NO_TEXT),
    ]
}

fn punctuation() -> Vec<Case> {
    vec![
        no_json("truncated in a key", r#"{"process-"#, "EOF while parsing a string"),
        no_json("truncated after a colon", r#"{"process-id":"#, "EOF while parsing"),
        no_json("truncated in a value", r#"{"process-id":"p","action":"st"#, "EOF while parsing a string"),
        no_json("truncated after an escape", r#"{"process-id":"p\"#, "EOF while parsing a string"),
        no_json(
            "truncated before the last brace",
            r#"{"process-id":"p","action":"stop""#,
            "EOF while parsing an object",
        ),
        no_json("truncated after the last comma", r#"{"process-id":"p","action":"stop","#, "EOF while parsing"),
        no_json("two documents", r#"{"process-id":"p","action":"stop"}{"process-id":"q","action":"stop"}"#, "trailing"),
        no_json(
            "two lines",
            "{\"process-id\":\"p\",\"action\":\"stop\"}\n{\"process-id\":\"q\"}",
            "trailing characters",
        ),
        no_json("a brace too many", r#"{"process-id":"p","action":"stop"}}"#, "trailing characters"),
        no_json("a semicolon after it", r#"{"process-id":"p","action":"stop"};"#, "trailing characters"),
        no_json("a comma after it", r#"{"process-id":"p","action":"stop"},"#, "trailing characters"),
        no_json("a NUL after it", "{\"process-id\":\"p\",\"action\":\"stop\"}\0", "trailing characters")
            .never_in_sqs(REFUSED_CHARACTER),
        no_json("a leading comma", r#"{,"process-id":"p","action":"stop"}"#, "key must be a string"),
        no_json("only a comma in braces", "{,}", "key must be a string"),
        no_json("two trailing commas", r#"{"process-id":"p","action":"stop",,}"#, "key must be a string"),
        no_json("two commas between", r#"{"process-id":"p",,"action":"stop"}"#, "key must be a string"),
        no_json("only a comma in brackets", r#"{"x":[,]}"#, "expected value"),
        no_json("a hole in an array", r#"{"x":[1,,2]}"#, "expected value"),
        no_json("a comma after a colon", r#"{"process-id":,}"#, "expected value"),
        no_json("no comma between", r#"{"process-id":"p" "action":"stop"}"#, "expected `,`"),
        no_json("no colon", r#"{"process-id" "p"}"#, "expected `:`"),
        no_json("equals signs", r#"{"process-id"="p","action"="stop"}"#, "expected `:`"),
        no_json("brackets crossed", r#"{"x":[1}]"#, "expected `,` or `]`"),
        no_json("line comment", "// stop it\n{\"process-id\":\"p\",\"action\":\"stop\"}", "expected value"),
        no_json("block comment", r#"{"process-id":"p",/* now */"action":"stop"}"#, "key must be a string"),
        no_json("hash comment", "{\"process-id\":\"p\", # now\n\"action\":\"stop\"}", "key must be a string"),
        no_json("no-break space between tokens", "{\u{a0}\"process-id\":\"p\",\"action\":\"stop\"}", "key must be"),
        no_json(
            "line separator between tokens",
            "{\"process-id\":\u{2028}\"p\",\"action\":\"stop\"}",
            "expected value",
        ),
        no_json("form feed between tokens", "{\u{c}\"process-id\":\"p\"}", "key must be a string")
            .never_in_sqs(REFUSED_CHARACTER),
    ]
}

fn tokens() -> Vec<Case> {
    vec![
        no_json("single quotes", "{'process-id':'p','action':'stop'}", "key must be a string"),
        no_json("curly quotes", "{“process-id”:“p”,“action”:“stop”}", "key must be a string"),
        no_json("backquotes", "{\"process-id\":`p`}", "expected value"),
        no_json("unquoted key", r#"{action:"stop"}"#, "key must be a string"),
        no_json("unquoted value", r#"{"process-id":"p","action":stop}"#, "expected value"),
        no_json("number as a key", r#"{1:"p"}"#, "key must be a string"),
        no_json("null as a key", r#"{null:"p"}"#, "key must be a string"),
        no_json("True", r#"{"x":True}"#, "expected value"),
        no_json("None", r#"{"x":None}"#, "expected value"),
        no_json("undefined", r#"{"x":undefined}"#, "expected value"),
        no_json("truncated literal", r#"{"x":nul}"#, "expected ident"),
        no_json("object in text", "[object Object]", "expected value"),
        no_json("an unfilled template", r#"{"process-id":{{ id }},"action":"stop"}"#, "key must be a string"),
    ]
}

fn strings() -> Vec<Case> {
    vec![
        no_json("raw line feed in a string", "{\"process-id\":\"a\nb\",\"action\":\"stop\"}", "control character"),
        no_json("raw tab in a string", "{\"process-id\":\"a\tb\",\"action\":\"stop\"}", "control character"),
        no_json("raw U+0001 in a string", "{\"process-id\":\"\u{1}\",\"action\":\"stop\"}", "control character")
            .never_in_sqs(REFUSED_CHARACTER),
        stops("raw U+007F in a string", "{\"process-id\":\"a\u{7f}\",\"action\":\"stop\"}", "a\u{7f}"),
        stops("raw U+FFFF in a string", "{\"process-id\":\"a\u{ffff}\",\"action\":\"stop\"}", "a\u{ffff}")
            .never_in_sqs(REFUSED_CHARACTER),
        starts("escaped U+FFFF", start_with(r"escaped\uffff", ""), 1, json!({"channel": "console"})),
        stops("raw U+2028 in a string", "{\"process-id\":\"a\u{2028}b\",\"action\":\"stop\"}", "a\u{2028}b"),
        no_json("backslash and line feed", "{\"process-id\":\"a\\\nb\"}", "invalid escape"),
        no_json("escape of C", r#"{"process-id":"\x41"}"#, "invalid escape"),
        no_json("escape of Rust", r#"{"process-id":"\u{1F514}"}"#, "invalid escape"),
        no_json("escaped single quote", r#"{"process-id":"\'"}"#, "invalid escape"),
        no_json("short escape", r#"{"process-id":"\u12"}"#, "invalid escape"),
        no_json("high surrogate alone", r#"{"process-id":"\ud83d","action":"stop"}"#, "must be JSON: "),
        no_json("low surrogate alone", r#"{"process-id":"\udd14","action":"stop"}"#, "lone leading surrogate"),
        no_json("surrogates in the wrong order", r#"{"process-id":"\udd14\ud83d","action":"stop"}"#, "surrogate"),
        no_json("surrogate before a letter", r#"{"process-id":"\ud83d\u0041","action":"stop"}"#, "surrogate"),
        no_json("surrogate in an unknown key", r#"{"process-id":"p","action":"stop","\ud83d":1}"#, "must be JSON: "),
        stops("surrogate pair", r#"{"process-id":"\ud83d\udd14","action":"stop"}"#, "🔔"),
        stops("escaped slash", r#"{"process-id":"a\/b","action":"st\u006fp"}"#, "a/b"),
        stops("escaped keys", r#"{"\u0070rocess-id":"escaped key","\u0061ction":"stop"}"#, "escaped key"),
    ]
}

fn encodings() -> Vec<Case> {
    let stop = r#"{"process-id":"p","action":"stop"}"#;
    let utf16 = |unit: fn(u16) -> [u8; 2]| stop.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let with = |bytes: &[u8]| [br#"{"process-id":""#, bytes, br#"","action":"stop"}"#].concat();
    let mut cases = vec![
        no_json("byte order mark", format!("\u{feff}{stop}"), "must not begin with a byte order mark"),
        no_json("two byte order marks", format!("\u{feff}\u{feff}{stop}"), "must not begin with a byte order mark"),
        no_json("byte order mark within", "{\u{feff}\"process-id\":\"p\"}", "key must be a string"),
        no_json("byte order mark at the end", format!("{stop}\u{feff}"), "trailing characters"),
    ];
    let bytes = [
        ("UTF-16 with a mark", [vec![0xff, 0xfe], utf16(u16::to_le_bytes)].concat(), "must be UTF-8"),
        ("UTF-16 little-endian", utf16(u16::to_le_bytes), "key must be a string"),
        ("UTF-16 big-endian", utf16(u16::to_be_bytes), "expected value"),
        ("Latin-1", with(b"\xfc"), "must be UTF-8"),
        ("overlong NUL", with(b"\xc0\x80"), "must be UTF-8"),
        ("overlong slash", with(b"\xe0\x80\xaf"), "must be UTF-8"),
        ("raw surrogates", with(b"\xed\xa0\xbd\xed\xb4\x94"), "must be UTF-8"),
        ("beyond U+10FFFF", with(b"\xf4\x90\x80\x80"), "must be UTF-8"),
        ("byte FF", with(b"\xff"), "must be UTF-8"),
        ("lone continuation byte", with(b"\x80"), "must be UTF-8"),
        ("truncated in a character", b"{\"process-id\":\"\xf0\x9f\x94".to_vec(), "must be UTF-8"),
        ("NUL bytes", vec![0; 100], "expected value"),
    ];
    cases.extend(bytes.map(|(name, body, words)| no_json(name, body, words).never_in_sqs(NO_TEXT)));
    cases
}

/// What looks odd and is right.
fn forgiven() -> Vec<Case> {
    let due = json!({"channel": "console", "at": 0});
    vec![
        stops("trailing comma of a stop", r#"{"process-id": "trailing", "action": "stop",}"#, "trailing"),
        starts(
            "trailing commas everywhere",
            "{\"process-id\":\"commas\",\"action\":\"start\",\"notifications\":[{\"channel\":\"console\",\"at\":0 , \n},\t],\"x\":{\"y\":[[1,],],},}",
            1,
            due.clone(),
        ),
        good(
            "commas and brackets in a string",
            r#""channel":"console","at":0,"message":",]},}\",]""#,
            json!({"options": {"message": ",]},}\",]"}}),
        ),
        starts(
            "Windows line ends",
            "\r\n{\r\n\t\"process-id\" : \"Windows\",\r\n\t\"action\":\"start\",\r\n\"notifications\":[\r\n{\"channel\":\"console\",\"at\":0}]\r\n}\r\n",
            1,
            due.clone(),
        ),
        starts(
            "unknown keys",
            start_with("unknown keys", r#""":1,"__proto__":{"action":"stop"},"x":null"#),
            1,
            due.clone(),
        ),
        starts("unknown key twice", start_with("unknown key twice", r#""x":1,"x":{"y":1,"y":2}"#), 1, due.clone()),
        starts(
            "known keys in an unknown one",
            start_with("known keys in an unknown one", r#""x":{"process-id":1,"process-id":2,"at":"soon"}"#),
            1,
            due.clone(),
        ),
        starts(
            "100 levels",
            start_with("100 levels", &format!(r#""x":{}{}"#, "[".repeat(100), "]".repeat(100))),
            1,
            due,
        ),
    ]
}

fn huge() -> Vec<Case> {
    let due = json!({"channel": "console", "at": 0});
    let filled = |size: usize| {
        let start = start_with("filled up", "");
        format!("{}{start}", " ".repeat(size - start.len()))
    };
    let keys: Vec<_> = (0..50_000).map(|n| format!(r#""x{n}":{n}"#)).collect();
    // The way to each item has thousands of characters.
    let far = format!(r#"{{"{}":"#, "k".repeat(100)).repeat(110);
    let far =
        |item: &str, n| format!(r#"{{"process-id":"far","x":{far}[{}]{}"#, vec![item; n].join(","), "}".repeat(111));
    vec![
        no_json("150 levels", format!("{}{}", "[".repeat(150), "]".repeat(150)), "recursion limit"),
        no_json(
            "10,000 levels",
            start_with("p", &format!(r#""x":{}1{}"#, r#"{"y":"#.repeat(10_000), "}".repeat(10_000))),
            "recursion limit",
        ),
        no_json("a million levels", "[".repeat(1_000_000), "recursion limit"),
        no_json("a million closing brackets", "]".repeat(1_000_000), "expected value"),
        no_json("a million commas", ",".repeat(1_000_000), "expected value"),
        no_json("a million quotes", format!("{{\"x\":{}", "\"".repeat(1_000_000)), "must be JSON: "),
        no_json("a million backslashes", format!("{{\"x\":\"{}", "\\".repeat(1_000_000)), "EOF while parsing a string"),
        starts("as long as can be", filled(MIB), 1, due.clone()),
        no_json("a byte too long", filled(MIB + 1), "must be at most 1048576 bytes, is 1048577")
            .never_in_sqs("SQS carries at most 1 MiB"),
        starts(
            "megabyte in an unknown key",
            start_with("megabyte", &format!(r#""x":"{}""#, "🔔".repeat(250_000))),
            1,
            due.clone(),
        ),
        starts(
            "megabyte as an unknown key",
            start_with("long key", &format!(r#""{}":1"#, "k".repeat(1_000_000))),
            1,
            due.clone(),
        ),
        starts("50,000 unknown keys", start_with("keys", &keys.join(",")), 1, due.clone()),
        starts(
            "200,000 trailing commas",
            start_with("many commas", &format!(r#""x":[{}]"#, "[1,],".repeat(200_000))),
            1,
            due.clone(),
        ),
        rejected("400,000 items far down", far("0", 400_000), &[("action", "is required")]),
        far_nuls(far(r#""\u0000""#, 100_000)),
        good(
            "million digits in the payload",
            &format!(r#""channel":"pubnub","at":0,"pubnub-channel":"digits","payload":0.{}"#, "1".repeat(1_000_000)),
            json!({"address": "digits"}),
        ),
        no_json(
            "a million digits",
            start_of_one("a million digits", &format!(r#""channel":"console","at":1{}"#, "0".repeat(1_000_000))),
            "number out of range",
        ),
    ]
}

/// No field is longer than a reader can bear, and the same is not said twice.
fn far_nuls(body: String) -> Case {
    let way = format!("x{}", format!(".{}", "k".repeat(40)).repeat(110));
    let field = format!("{}…", &way[..200]);
    rejected("100,000 times U+0000 far down", body, &[(&field, "must not contain U+0000"), ("action", "is required")])
}
