use serde_json::json;

use super::{Case, bad, good, no_json, start_of_one};

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = WRONG.iter().map(|(name, at, words)| bad(name, &console(at), &[("at", words)])).collect();
    cases.extend(NO_NUMBER.iter().map(|(name, at, words)| no_json(name, start_of_one(name, &console(at)), words)));
    cases.extend(RIGHT.iter().map(|(name, at, seconds)| good(name, &console(at), json!({"at": seconds}))));
    cases.push(bad("no at", r#""channel":"console""#, &[("at", "is required")]));
    cases
}

fn console(at: &str) -> String {
    format!(r#""channel":"console","at":{at}"#)
}

const WHOLE: &str = "must be whole seconds since 1970";
const FORM: &str = "RFC 3339 with an offset";
const RANGE: &str = "from 0 to 253402207200";

const WRONG: &[(&str, &str, &str)] = &[
    ("before 1970", "-1", RANGE),
    ("minus zero", "-0", WHOLE),
    ("a fraction of a second", "1555057084.5", WHOLE),
    ("with a point", "1555057084.0", WHOLE),
    ("with an exponent", "1e9", WHOLE),
    ("tiny", "1e-400", WHOLE),
    ("the last second of 9999", "253402300799", RANGE),
    ("a second too far", "253402207201", RANGE),
    ("milliseconds", "1555057084000", "looks like milliseconds"),
    ("microseconds", "1555057084000000", RANGE),
    ("2^53 + 1", "9007199254740993", RANGE),
    ("2^63 - 1", "9223372036854775807", RANGE),
    ("2^63", "9223372036854775808", RANGE),
    ("2^64", "18446744073709551616", RANGE),
    ("-2^63", "-9223372036854775808", RANGE),
    ("less than -2^63", "-9223372036854775809", RANGE),
    ("1e308", "1e308", RANGE),
    ("seconds as a string", "\"1555057084\"", FORM),
    ("empty string", "\"\"", FORM),
    ("white space", "\" \"", FORM),
    ("a word", "\"now\"", FORM),
    ("a duration", "\"PT1H\"", FORM),
    ("no offset", "\"2026-11-21T18:00:00\"", FORM),
    ("a date", "\"2026-11-21\"", FORM),
    ("a time", "\"18:00:00Z\"", FORM),
    ("a named zone", "\"2026-11-21T18:00:00+01:00[Europe/Zagreb]\"", FORM),
    ("only a named zone", "\"2026-11-21T18:00:00[UTC]\"", FORM),
    ("a zone by letters", "\"2026-11-21T18:00:00 CET\"", FORM),
    ("30 February", "\"2028-02-30T00:00:00Z\"", FORM),
    ("29 February of no leap year", "\"2027-02-29T00:00:00Z\"", FORM),
    ("month 13", "\"2026-13-01T00:00:00Z\"", FORM),
    ("month 0", "\"2026-00-01T00:00:00Z\"", FORM),
    ("24 hours", "\"2026-11-21T24:00:00Z\"", FORM),
    ("minute 60", "\"2026-11-21T18:60:00Z\"", FORM),
    ("second 61", "\"2026-11-21T18:00:61Z\"", FORM),
    ("one digit for the hour", "\"2026-11-21T8:00:00Z\"", FORM),
    ("space before", "\" 2026-11-21T18:00:00Z\"", FORM),
    ("line end after", "\"2026-11-21T18:00:00Z\\n\"", FORM),
    ("offset without sign", "\"2026-11-21T18:00:00 01:00\"", FORM),
    ("offset too great", "\"2026-11-21T18:00:00+26:00\"", FORM),
    ("minus of the typographer", "\"2026-11-21T18:00:00\u{2212}01:00\"", FORM),
    ("fullwidth digits", "\"２０２６-11-21T18:00:00Z\"", FORM),
    ("Arabic digits", "\"٢٠٢٦-11-21T18:00:00Z\"", FORM),
    ("day first", "\"21.11.2026 18:00:00+01:00\"", FORM),
    ("as in mail", "\"Sat, 21 Nov 2026 18:00:00 +0100\"", FORM),
    ("ISO week", "\"2026-W47-6T18:00:00Z\"", FORM),
    ("two-digit year", "\"26-11-21T18:00:00Z\"", FORM),
    ("year 10000", "\"10000-01-01T00:00:00Z\"", FORM),
    ("last second of 9999 as text", "\"9999-12-31T23:59:59Z\"", "9999-12-30"),
    ("1969", "\"1969-12-31T23:59:59Z\"", "must not be before 1970"),
    ("1970 in the east", "\"1970-01-01T00:30:00+01:00\"", "must not be before 1970"),
    ("year 0", "\"0000-01-01T00:00:00Z\"", "must not be before 1970"),
    ("year -1", "\"-000001-01-01T00:00:00Z\"", "must not be before 1970"),
];

/// What other languages call a number, and JSON does not.
const NO_NUMBER: &[(&str, &str, &str)] = &[
    ("NaN", "NaN", "expected value"),
    ("Infinity", "Infinity", "expected value"),
    ("minus Infinity", "-Infinity", "invalid number"),
    ("hexadecimal", "0x5CB0", "expected `,` or `}`"),
    ("leading zero", "01555057084", "invalid number"),
    ("leading plus", "+1555057084", "expected value"),
    ("no digit before the point", ".5", "expected value"),
    ("no digit after the point", "1.", "invalid number"),
    ("no digit in the exponent", "1e", "invalid number"),
    ("underscores", "1_555_057_084", "expected `,` or `}`"),
    ("fullwidth number", "１", "expected value"),
    ("BigInt", "1555057084n", "expected `,` or `}`"),
    ("1e400", "1e400", "number out of range"),
    ("exponent without end", "1e99999999999999999999", "number out of range"),
];

const RIGHT: &[(&str, &str, i64)] = &[
    ("the very beginning", "0", 0),
    ("the last that can be", "253402207200", 253_402_207_200),
    ("long past", "1555057084", 1_555_057_084),
    ("Z", "\"2019-04-12T08:18:04Z\"", 1_555_057_084),
    ("small letters", "\"2019-04-12t08:18:04z\"", 1_555_057_084),
    ("offset", "\"2019-04-12T10:18:04+02:00\"", 1_555_057_084),
    ("negative offset", "\"2019-04-12T00:18:04-08:00\"", 1_555_057_084),
    ("unknown offset", "\"2019-04-12T08:18:04-00:00\"", 1_555_057_084),
    ("offset of a day less a minute", "\"2019-04-13T08:17:04+23:59\"", 1_555_057_084),
    ("a space for the T", "\"2019-04-12 08:18:04Z\"", 1_555_057_084),
    ("nanoseconds", "\"2019-04-12T08:18:04.123456789Z\"", 1_555_057_084),
    ("29 February", "\"2028-02-29T00:00:00Z\"", 1_835_395_200),
    ("leap second", "\"2016-12-31T23:59:60Z\"", 1_483_228_799),
    ("the last nanosecond that can be", "\"9999-12-30T22:00:00.999999999Z\"", 253_402_207_200),
    // Wider than RFC 3339, and still of one meaning only.
    ("offset without colon", "\"2019-04-12T10:18:04+0200\"", 1_555_057_084),
    ("offset of hours", "\"2019-04-12T10:18:04+02\"", 1_555_057_084),
    ("ISO 8601 without separators", "\"20190412T081804Z\"", 1_555_057_084),
];
