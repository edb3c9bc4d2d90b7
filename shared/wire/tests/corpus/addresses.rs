use serde_json::json;

use super::{Case, bad, good};

/// Far off, so that nothing is sent.
const LATER: &str = r#""at":4102444800,"#;

pub(super) fn cases() -> Vec<Case> {
    [channels(), phone_numbers(), misplaced(), e_mail(), pubnub(), urls()].into_iter().flatten().collect()
}

fn channels() -> Vec<Case> {
    let names = [
        ("unknown channel", "pigeon"),
        ("empty channel", ""),
        ("channel with a capital", "Console"),
        ("channel with a space", "console "),
        ("every channel", "all"),
        ("channel as a pattern", "*.system.#"),
        ("channel as a queue", "notify.console"),
        ("Cyrillic letter in a channel", "c\u{43e}nsole"),
        ("fullwidth channel", "ｃｏｎｓｏｌｅ"),
        ("invisible character in a channel", "console\u{200b}"),
        ("a channel for each", "phone,email"),
    ];
    let mut cases: Vec<_> = names
        .iter()
        .map(|(name, channel)| {
            bad(name, &format!(r#""channel":"{channel}","at":0"#), &[("channel", "must be one of phone")])
        })
        .collect();
    cases.push(bad("no channel", r#""at":0"#, &[("channel", "is required")]));
    cases.push(bad(
        "U+0000 after a channel",
        r#""channel":"console\u0000","at":0"#,
        &[("channel", "must not contain U+0000"), ("channel", "must be one of phone")],
    ));
    cases
}

fn phone_numbers() -> Vec<Case> {
    let members = |number: &str| format!(r#""channel":"phone","at":0,"phone-number":"{number}""#);
    let mut cases: Vec<_> = WRONG_NUMBERS
        .iter()
        .map(|(name, number)| bad(name, &members(number), &[("phone-number", "must be an E.164 number")]))
        .collect();
    cases.extend([
        bad("million digits", &members(&format!("+{}", "1".repeat(1_000_000))), &[("phone-number", "E.164")]),
        bad(
            "U+0000 in a number",
            &members(r"+3851111111\u0000"),
            &[("phone-number", "must not contain U+0000"), ("phone-number", "E.164")],
        ),
        bad("no number", r#""channel":"phone","at":0"#, &[("phone-number", "is required for channel phone")]),
        good("number of 15 digits", &members("+385111111111111"), json!({"address": "+385111111111111"})),
        good("number of 2 digits", &members("+12"), json!({"address": "+12"})),
        good("escaped number", &members(r"\u002b\u0033851111111"), json!({"address": "+3851111111"})),
    ]);
    cases
}

const WRONG_NUMBERS: &[(&str, &str)] = &[
    ("empty number", ""),
    ("number without plus", "3851111111"),
    ("number with 00", "003851111111"),
    ("number with a zero first", "+0851111111"),
    ("number of one digit", "+1"),
    ("number of 16 digits", "+3851111111111111"),
    ("number with spaces", "+385 1 111 1111"),
    ("number with hyphens", "+385-1-111-1111"),
    ("number with brackets", "+385(0)11111111"),
    ("number in letters", "+1800FLOWERS"),
    ("number as a URI", "tel:+3851111111"),
    ("client of Twilio", "client:alice"),
    ("number with an extension", "+3851111111;ext=5"),
    ("number with a pause", "+3851111111,,5"),
    ("number with a star", "+385*11111"),
    ("two numbers", "+3851111111,+3852222222"),
    ("two pluses", "++3851111111"),
    ("fullwidth plus", "＋3851111111"),
    ("fullwidth digits in a number", "+３８５1111111"),
    ("Arabic digits in a number", "+٣٨٥1111111"),
    ("superscript digits", "+385¹¹¹¹¹¹¹"),
    ("combining digit", "+3851111111\u{20e3}"),
    ("number copied from contacts", "\u{202a}+3851111111\u{202c}"),
    ("invisible character in a number", "+385\u{200b}1111111"),
    ("no-break space after a number", "+3851111111\u{a0}"),
    ("space before a number", " +3851111111"),
    ("line feed after a number", "+3851111111\\n"),
    ("form fields in a number", "+3851111111&From=+3852222222"),
    ("line ends in a number", "+3851111111\\r\\nX-Evil: 1"),
];

/// A good address under the key of another channel, and more than one.
fn misplaced() -> Vec<Case> {
    vec![
        bad(
            "number for a mail",
            r#""channel":"email","at":0,"phone-number":"+3851111111""#,
            &[("email", "is required for channel email")],
        ),
        bad(
            "mail address for a call",
            r#""channel":"phone","at":0,"email":"me@example.org""#,
            &[("phone-number", "is required")],
        ),
        bad(
            "mail address as a number",
            r#""channel":"phone","at":0,"phone-number":"me@example.org""#,
            &[("phone-number", "E.164")],
        ),
        bad(
            "number as a mail address",
            r#""channel":"email","at":0,"email":"+3851111111""#,
            &[("email", "must be one")],
        ),
        bad(
            "phone_number",
            r#""channel":"phone","at":0,"phone_number":"+3851111111""#,
            &[("phone-number", "required")],
        ),
        bad("address", r#""channel":"phone","at":0,"address":"+3851111111""#, &[("phone-number", "is required")]),
        bad(
            "text without a text",
            r#""channel":"sms","at":0,"phone-number":"+3851111111""#,
            &[("message", "is required")],
        ),
        bad("webhook without a URL", r#""channel":"webhook","at":0,"payload":1"#, &[("url", "is required")]),
        bad("pubnub without a channel", r#""channel":"pubnub","at":0"#, &[("pubnub-channel", "is required")]),
        good(
            "addresses for every channel",
            r#""channel":"phone","at":0,"phone-number":"+3852222222","email":"me@example.org","pubnub-channel":"c""#,
            json!({"channel": "phone", "address": "+3852222222", "options": {}}),
        ),
        good(
            "bad address of another channel",
            r#""channel":"phone","at":0,"phone-number":"+3853333333","email":7,"pubnub-channel":"a/b""#,
            json!({"address": "+3853333333"}),
        ),
    ]
}

fn e_mail() -> Vec<Case> {
    let members = |address: &str| format!(r#""channel":"email","at":0,"email":"{address}""#);
    let later = |address: &str| format!(r#""channel":"email",{LATER}"email":"{address}""#);
    let words = "must be one e-mail address without a name";
    // 63 letters are the most that a name between dots may have, 64 the most before the @.
    let long = |extra: usize| {
        format!(
            "{}@{}.{}",
            "l".repeat(64),
            "d".repeat(63),
            ["e".repeat(63), "f".repeat(57 + extra), "org".to_owned()].join(".")
        )
    };
    let mut cases: Vec<_> =
        WRONG_MAIL.iter().map(|(name, address)| bad(name, &members(address), &[("email", words)])).collect();
    cases.extend([
        bad("mail address of 255 characters", &members(&long(1)), &[("email", words)]),
        bad("65 characters before the @", &members(&format!("{}@example.org", "l".repeat(65))), &[("email", words)]),
        bad(
            "mail address of a megabyte",
            &members(&format!("{}@example.org", "l".repeat(1_000_000))),
            &[("email", words)],
        ),
        bad(
            "U+0000 in a mail address",
            &members(r"me\u0000@example.org"),
            &[("email", "must not contain U+0000"), ("email", words)],
        ),
        good("mail address of 254 characters", &later(&long(0)), json!({"address": long(0)})),
        good("tag in a mail address", &members("me+tag@example.org"), json!({"address": "me+tag@example.org"})),
        good("quoted mail address", &members(r#"\"a b\"@example.org"#), json!({"address": "\"a b\"@example.org"})),
        good("apostrophe in a mail address", &members("o'hara@example.org"), json!({"address": "o'hara@example.org"})),
        good("percent in a mail address", &members("me%40x@example.org"), json!({"address": "me%40x@example.org"})),
        good("mail address without dots", &members("me@localhost"), json!({"address": "me@localhost"})),
        good("punycode in a mail address", &members("me@xn--bcher-kva.example"), json!({"channel": "email"})),
        good("Unicode domain", &later("me@bücher.example"), json!({"address": "me@bücher.example"})),
        good("Unicode mail address", &later("用户@例子.世界"), json!({"address": "用户@例子.世界"})),
    ]);
    cases
}

const WRONG_MAIL: &[(&str, &str)] = &[
    ("empty mail address", ""),
    ("mail address of a space", " "),
    ("no @", "example.org"),
    ("two @", "me@you@example.org"),
    ("nothing before the @", "@example.org"),
    ("nothing after the @", "me@"),
    ("display name", "Me <me@example.org>"),
    ("quoted display name", r#"\"Me\" <me@example.org>"#),
    ("angle brackets", "<me@example.org>"),
    ("comment", "me(my address)@example.org"),
    ("list with a comma", "me@example.org,you@example.org"),
    ("list with a semicolon", "me@example.org;you@example.org"),
    ("group", "us:me@example.org;"),
    ("mailto", "mailto:me@example.org"),
    ("source route", "@a.example,@b.example:me@example.org"),
    ("address in brackets", "me@[127.0.0.1]"),
    ("dot first", ".me@example.org"),
    ("two dots", "m..e@example.org"),
    ("dot last", "me@example.org."),
    ("hyphen first", "me@-example.org"),
    ("space in a mail address", "me@exam ple.org"),
    ("space after a mail address", "me@example.org "),
    ("header", "me@example.org\\r\\nBcc: you@example.org"),
    ("command of SMTP", "me@example.org>\\r\\nRCPT TO:<you@example.org"),
    ("line feed", "me@example.org\\n"),
    ("line feed in quotes", r#"\"m\ne\"@example.org"#),
    ("tab in quotes", r#"\"m\te\"@example.org"#),
    ("control character", "m\\u0085e@example.org"),
    ("fullwidth @", "me＠example.org"),
    ("fullwidth dot", "me@example．"),
    ("invisible character in a mail address", "me@exam\u{200b}ple.org"),
    ("mail address copied with a mark", "\u{feff}me@example.org"),
    ("right to left", "me\u{202e}@example.org"),
    ("no-break space after a mail address", "me@example.org\u{a0}"),
    ("line separator in a mail address", "me\u{2028}@example.org"),
    ("emoji in a domain", "me@🔔.example"),
];

fn pubnub() -> Vec<Case> {
    let members = |channel: &str| format!(r#""channel":"pubnub","at":0,"pubnub-channel":"{channel}""#);
    let words = "must be a PubNub channel";
    let names = [
        ("empty PubNub channel", ""),
        ("slash in a PubNub channel", "a/b"),
        ("PubNub channel up the path", "..%2f"),
        ("two PubNub channels", "a,b"),
        ("pattern for a PubNub channel", "a*"),
        ("colon in a PubNub channel", "a:b"),
        ("backslash in a PubNub channel", r"a\\b"),
        ("line ends in a PubNub channel", r"a\r\nb"),
        ("U+007F in a PubNub channel", "a\u{7f}"),
        ("U+0085 in a PubNub channel", r"a\u0085"),
    ];
    let mut cases: Vec<_> =
        names.iter().map(|(name, channel)| bad(name, &members(channel), &[("pubnub-channel", words)])).collect();
    let (longest, odd) = ("c".repeat(92), "ü 100% #1?store=1&x=🔔");
    cases.extend([
        bad("PubNub channel of 93 bytes", &members(&"c".repeat(93)), &[("pubnub-channel", words)]),
        bad("PubNub channel of 24 emoji", &members(&"🔔".repeat(24)), &[("pubnub-channel", words)]),
        bad(
            "U+0000 in a PubNub channel",
            &members(r"a\u0000"),
            &[("pubnub-channel", "must not contain U+0000"), ("pubnub-channel", words)],
        ),
        good("PubNub channel of 92 bytes", &members(&longest), json!({"address": longest})),
        good("what a URL would need escaped", &members(odd), json!({"address": odd})),
    ]);
    cases
}

fn urls() -> Vec<Case> {
    let members = |url: &str| format!(r#""channel":"webhook",{LATER}"url":"{url}""#);
    let mut cases: Vec<_> = WRONG_URLS
        .iter()
        .map(|(name, url)| bad(name, &members(url), &[("url", "must be an absolute http or https URL")]))
        .collect();
    let url = |length: usize, letter: &str| format!("https://example.org/{}", letter.repeat(length - 20));
    cases.extend([
        bad("URL of 2,049 characters", &members(&url(2_049, "a")), &[("url", "at most 2048 characters")]),
        bad("URL of a megabyte", &members(&url(1_000_000, "a")), &[("url", "at most 2048 characters")]),
        bad(
            "U+0000 in a URL",
            &members(r"https://example.org/\u0000"),
            &[("url", "must not contain U+0000"), ("url", "must be an absolute http")],
        ),
        bad(
            "bad URL of a call",
            r#""channel":"phone","at":0,"phone-number":"+3851111111","url":"file:///etc/passwd""#,
            &[("url", "must be an absolute http or https URL")],
        ),
    ]);
    let right = RIGHT_URLS.iter().map(|(name, url)| (*name, (*url).to_owned()));
    let long = [("URL of 2,048 characters", url(2_048, "a")), ("URL of 2,048 letters with dots", url(2_048, "ü"))];
    cases.extend(right.chain(long).map(|(name, url)| good(name, &members(&url), json!({"address": url}))));
    cases
}

const WRONG_URLS: &[(&str, &str)] = &[
    ("empty URL", ""),
    ("relative URL", "/hook"),
    ("host only", "example.org/hook"),
    ("URL without scheme", "//example.org/hook"),
    ("file URL", "file:///etc/passwd"),
    ("JavaScript URL", "javascript:alert(1)"),
    ("data URL", "data:text/xml,<Response/>"),
    ("FTP URL", "ftp://example.org/"),
    ("socket URL", "wss://example.org/"),
    ("blob URL", "blob:https://example.org/1"),
    ("scheme in a scheme", "view-source:https://example.org/"),
    ("URL without host", "https://"),
    ("URL with a query for a host", "https://?x=1"),
    ("user without host", "https://me@/"),
    ("one slash", "https:/example.org/"),
    ("no slashes", "https:example.org/"),
    ("three slashes", "https:///example.org/"),
    ("backslashes", r"https:\\\\example.org\\hook"),
    ("port out of range", "https://example.org:65536/"),
    ("port in letters", "https://example.org:http/"),
    ("IPv6 without end", "https://[::1/"),
    ("IPv6 with a zone", "https://[fe80::1%25eth0]/"),
    ("IPv4 out of range", "https://1.2.3.256/"),
    ("space in a host", "https://exam ple.org/"),
    ("space in a path", "https://example.org/a b"),
    ("space before a URL", " https://example.org/"),
    ("line feed after a URL", "https://example.org/\\n"),
    ("line ends in a URL", "https://example.org/\\r\\nX-Evil: 1"),
    ("tab in a scheme", "ht\\ttps://example.org/"),
    ("line feed in a host", "https://exam\\nple.org/"),
    ("no-break space in a URL", "https://example.org/\u{a0}"),
    ("two URLs", "https://example.org/ https://example.com/"),
    ("bad punycode", "https://xn--a/"),
];

const RIGHT_URLS: &[(&str, &str)] = &[
    ("URL in capitals", "HTTPS://EXAMPLE.ORG/Hook"),
    ("user and password", "https://me:secret@example.org/"),
    ("port", "http://example.org:8080"),
    ("IPv4", "http://127.0.0.1/"),
    ("IPv4 as one number", "http://2130706433/"),
    ("IPv6", "http://[2001:db8::1]:80/"),
    ("punycode", "https://xn--bcher-kva.example/"),
    ("Unicode host", "https://bücher.example/"),
    ("fragment", "https://example.org/?a=1&b=%20#top"),
    ("URL in a query", "https://example.org/?next=https://example.com"),
];
