use std::time::Instant;

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn table(lines: &[&str], zone: &str, start: &str) -> Timetable {
    let lines = lines.iter().map(|line| Line::parse(line, zone).unwrap_or_else(|error| panic!("{line}: {error}")));
    Timetable { lines: lines.collect(), start: at(start), end: None }
}

fn next(table: &Timetable, after: &str, count: usize) -> Vec<String> {
    let times = std::iter::successors(table.next_after(at(after)), |last| table.next_after(*last));
    times.take(count).map(|time| time.to_string()).collect()
}

/// The syntax that robfig/cron v2 documents, with times worked out by hand from its words. It has six fields; the last
/// columns are from Tuesday, 2026-11-24T10:20:30Z on.
#[test]
fn lines_as_robfig_cron_documents_them() {
    const FROM: &str = "2026-11-24T10:20:30Z";
    for (line, expected) in [
        ("0 30 * * * *", ["2026-11-24T10:30:00Z", "2026-11-24T11:30:00Z"]),
        ("* * * * * *", ["2026-11-24T10:20:31Z", "2026-11-24T10:20:32Z"]),
        ("15,45 * * * * *", ["2026-11-24T10:20:45Z", "2026-11-24T10:21:15Z"]),
        // "3-59/15 in the 1st field (minutes) would indicate the 3rd minute of the hour and every 15 minutes thereafter"
        ("0 3-59/15 * * * *", ["2026-11-24T10:33:00Z", "2026-11-24T10:48:00Z"]),
        // "*/... is equivalent to first-last/..."
        ("0 */25 * * * *", ["2026-11-24T10:25:00Z", "2026-11-24T10:50:00Z"]),
        // "N/... is accepted as meaning N-MAX/...; it does not wrap around"
        ("0 5/20 * * * *", ["2026-11-24T10:25:00Z", "2026-11-24T10:45:00Z"]),
        ("0 50/20 * * * *", ["2026-11-24T10:50:00Z", "2026-11-24T11:50:00Z"]),
        // "MON,WED,FRI"
        ("0 0 9 ? * MON,WED,FRI", ["2026-11-25T09:00:00Z", "2026-11-27T09:00:00Z"]),
        // "9-17 would indicate every hour between 9am and 5pm inclusive"
        ("0 0 9-17 * * *", ["2026-11-24T11:00:00Z", "2026-11-24T12:00:00Z"]),
        ("0 0 17,9-10 * * *", ["2026-11-24T17:00:00Z", "2026-11-25T09:00:00Z"]),
        // "Question mark may be used instead of *"
        ("0 0 0 1 * ?", ["2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"]),
        ("0 0 0 ? JAN SUN", ["2027-01-03T00:00:00Z", "2027-01-10T00:00:00Z"]),
        // "Month and Day-of-week field values are case insensitive"
        ("0 0 0 1 dec,Feb *", ["2026-12-01T00:00:00Z", "2027-02-01T00:00:00Z"]),
        ("0 0 0 * * Sun-tue", ["2026-11-29T00:00:00Z", "2026-11-30T00:00:00Z"]),
        ("0 0 0 * * 6", ["2026-11-28T00:00:00Z", "2026-12-05T00:00:00Z"]),
        ("@yearly", ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"]),
        ("@annually", ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"]),
        ("@monthly", ["2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"]),
        // "midnight between Saturday and Sunday"
        ("@weekly", ["2026-11-29T00:00:00Z", "2026-12-06T00:00:00Z"]),
        ("@daily", ["2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"]),
        ("@midnight", ["2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"]),
        ("@hourly", ["2026-11-24T11:00:00Z", "2026-11-24T12:00:00Z"]),
        ("@every 1h30m10s", ["2026-11-24T11:50:40Z", "2026-11-24T13:20:50Z"]),
        // "less than a second will round up to 1 second; fields less than a second are truncated"
        ("@every 5ns", ["2026-11-24T10:20:31Z", "2026-11-24T10:20:32Z"]),
        ("@every 1.7s", ["2026-11-24T10:20:31Z", "2026-11-24T10:20:32Z"]),
        ("@every 1.5h", ["2026-11-24T11:50:30Z", "2026-11-24T13:20:30Z"]),
    ] {
        assert_eq!(next(&table(&[line], "UTC", FROM), FROM, 2), expected, "{line}");
    }
}

#[test]
fn five_fields_and_what_goes_beyond() {
    const FROM: &str = "2026-11-24T10:20:30Z";
    for (line, expected) in [
        ("30 9 * * 1-5", ["2026-11-25T09:30:00Z", "2026-11-26T09:30:00Z"]),
        ("0 0 L * *", ["2026-11-30T00:00:00Z", "2026-12-31T00:00:00Z"]),
        // 28 November 2026 is a Saturday, 28 December a Monday.
        ("0 0 28W * *", ["2026-11-27T00:00:00Z", "2026-12-28T00:00:00Z"]),
        ("0 0 LW * *", ["2026-11-30T00:00:00Z", "2026-12-31T00:00:00Z"]),
        ("0 0 * * FRIL", ["2026-11-27T00:00:00Z", "2026-12-25T00:00:00Z"]),
        ("0 0 * * MON#2", ["2026-12-14T00:00:00Z", "2027-01-11T00:00:00Z"]),
        ("0 0 * * FRI-SUN", ["2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z"]),
        ("0 0 * * 7", ["2026-11-29T00:00:00Z", "2026-12-06T00:00:00Z"]),
        ("0 0 29 2 *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
        // Either day suffices: the 25th is a Wednesday, and 27 November a Friday.
        ("0 0 25 * FRI", ["2026-11-25T00:00:00Z", "2026-11-27T00:00:00Z"]),
    ] {
        assert_eq!(next(&table(&[line], "UTC", FROM), FROM, 2), expected, "{line}");
    }
}

#[test]
fn what_is_wrong_with_a_line_is_said_with_its_field() {
    for (line, problem) in [
        ("", "must have 5 fields, or 6 with seconds first; has 0"),
        ("* * * *", "has 4"),
        ("* * * * * * *", "has 7"),
        ("60 * * * *", "minutes: \"60\" must be of 0 to 59"),
        ("61 * * * * *", "seconds: \"61\""),
        ("* 24 * * *", "hours: \"24\" must be of 0 to 23"),
        ("* MON * * *", "hours: \"MON\""),
        ("* * 0 * *", "day of month: \"0\" must be of 1 to 31"),
        ("* * 32 * *", "day of month: \"32\""),
        ("* * * 13 *", "month: \"13\" must be of 1 to 12, JAN to DEC"),
        ("* * * MON *", "month: \"MON\""),
        ("* * * JANUARY *", "month: \"JANUARY\""),
        ("* * * * 8", "day of week: \"8\" must be of 0 to 6, SUN to SAT"),
        ("* * * * JAN", "day of week: \"JAN\""),
        ("* * * * SUNMON", "day of week: \"SUNMON\""),
        ("* * * * 1MON", "day of week: \"1MON\""),
        ("* * * * +1", "day of week: \"+1\""),
        ("* * * * 1#9", "day of week: \"1#9\""),
        ("5-2 * * * *", "minutes: \"5-2\""),
        ("*/0 * * * *", "minutes: \"*/0\" has a step that is no whole number"),
        ("*/ * * * *", "minutes: \"*/\" has a step"),
        ("*/x * * * *", "minutes: \"*/x\" has a step"),
        ("1,,2 * * * *", "minutes: \"1,,2\""),
        ("? * * * *", "minutes: \"?\""),
        ("-5 * * * *", "minutes: \"-5\""),
        ("0 0 30 2 *", "names no day that ever comes"),
        ("@sometimes", "must be @yearly"),
        ("@every", "@every takes a duration such as"),
        ("@every 5", "@every takes a duration such as"),
        ("@every 1d", "@every takes a duration such as"),
        ("@every -1s", "@every takes a duration such as"),
        ("@every 1.2.3s", "@every takes a duration such as"),
        ("@every 999999h", "@every takes ten years at most"),
        ("TZ=UTC * * * * *", "seconds: \"TZ=UTC\""),
    ] {
        let error = Line::parse(line, "UTC").map(|_| ()).unwrap_err();
        assert!(matches!(&error, InvalidLine::Cron(said) if said.contains(problem)), "{line}: {error}");
    }
    for zone in ["", "Europe/Atlantis", "+01:00", "local"] {
        assert!(matches!(Line::parse("* * * * *", zone), Err(InvalidLine::TimeZone(_))), "{zone}");
    }
    assert!(Line::parse(&"1,".repeat(200), "UTC").is_err());
}

/// Europe/Zagreb skips 02:00 to 03:00 on 29 March 2026.
#[test]
fn where_the_clock_is_set_forward() {
    const FROM: &str = "2026-03-28T12:00:00+01:00";
    for (line, expected) in [
        // One time of day: at the end of the hour that there is not.
        ("30 2 * * *", ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]),
        ("30 3 * * *", ["2026-03-29T01:30:00Z", "2026-03-30T01:30:00Z"]),
        ("0 12 * * *", ["2026-03-29T10:00:00Z", "2026-03-30T10:00:00Z"]),
    ] {
        assert_eq!(next(&table(&[line], "Europe/Zagreb", FROM), FROM, 2), expected, "{line}");
    }
    // What repeats goes on after it.
    let quarters = table(&["*/30 * * * *"], "Europe/Zagreb", FROM);
    let expected = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"];
    assert_eq!(next(&quarters, "2026-03-29T01:00:00+01:00", 3), expected);
    let hourly = table(&["@hourly"], "Europe/Zagreb", FROM);
    let expected = ["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"];
    assert_eq!(next(&hourly, "2026-03-29T00:00:01+01:00", 3), expected);
}

/// Europe/Zagreb has 02:00 to 03:00 twice on 25 October 2026.
#[test]
fn where_the_clock_is_set_back() {
    const FROM: &str = "2026-10-24T12:00:00+02:00";
    for (line, expected) in [
        // One time of day: once, the first time.
        ("30 2 * * *", ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
        ("30 3 * * *", ["2026-10-25T02:30:00Z", "2026-10-26T02:30:00Z"]),
        ("0 12 * * *", ["2026-10-25T11:00:00Z", "2026-10-26T11:00:00Z"]),
    ] {
        assert_eq!(next(&table(&[line], "Europe/Zagreb", FROM), FROM, 2), expected, "{line}");
    }
    // What repeats does so in both hours.
    let halves = table(&["*/30 * * * *"], "Europe/Zagreb", FROM);
    let expected = ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"];
    assert_eq!(next(&halves, "2026-10-24T23:30:00Z", 4), expected);
}

#[test]
fn lines_together_from_and_until() {
    let mut both = table(&["0 9 * * *", "0 */3 * * *"], "UTC", "2026-11-24T06:00:00Z");
    let expected = ["2026-11-24T06:00:00Z", "2026-11-24T09:00:00Z", "2026-11-24T12:00:00Z"];
    assert_eq!(next(&both, "2026-01-01T00:00:00Z", 3), expected, "nothing before the start, and 09:00 once");
    both.end = Some(at("2026-11-24T12:00:00Z"));
    assert_eq!(next(&both, "2026-01-01T00:00:00Z", 3), expected[..2]);
    let every = table(&["@every 90s"], "UTC", "2026-11-24T06:00:10Z");
    assert_eq!(next(&every, "2026-01-01T00:00:00Z", 1), ["2026-11-24T06:01:40Z"], "counted from the start");
    assert_eq!(next(&every, "2026-11-24T06:01:40Z", 1), ["2026-11-24T06:03:10Z"]);
    assert_eq!(next(&every, "2026-11-24T06:01:39.9Z", 1), ["2026-11-24T06:01:40Z"]);
}

fn fired(table: &Timetable, on_missed: OnMissed, window: u64, next_at: &str, now: &str) -> (Vec<String>, Timestamp) {
    let mut next_at = at(next_at);
    let mut fired = Vec::new();
    while next_at <= at(now) {
        let step = table.step(next_at, at(now), on_missed, Duration::from_secs(window));
        fired.extend(step.fire.map(|time| time.strftime("%H:%M:%S").to_string()));
        next_at = step.next_at.unwrap();
    }
    (fired, next_at)
}

#[test]
fn what_was_missed_follows_the_policy() {
    let hourly = table(&["@hourly"], "UTC", "2026-01-01T00:00:00Z");
    let (down, up) = ("2026-11-24T03:00:00Z", "2026-11-24T07:20:00Z");
    for (policy, window, expected) in [
        (OnMissed::All, 86_400, vec!["03:00:00", "04:00:00", "05:00:00", "06:00:00", "07:00:00"]),
        (OnMissed::All, 2 * 3_600, vec!["06:00:00", "07:00:00"]),
        (OnMissed::All, 600, vec![]),
        (OnMissed::Last, 86_400, vec!["07:00:00"]),
        (OnMissed::Last, 600, vec![]),
        (OnMissed::None, 86_400, vec![]),
    ] {
        let (times, next_at) = fired(&hourly, policy, window, down, up);
        assert_eq!(times, expected, "{policy:?} {window}");
        assert_eq!(next_at, at("2026-11-24T08:00:00Z"));
    }
    // What is late by less than a minute was not missed.
    let soon = "2026-11-24T07:00:59Z";
    for (policy, expected) in [(OnMissed::Last, ["07:00:00"]), (OnMissed::None, ["07:00:00"])] {
        assert_eq!(
            fired(&hourly, policy, 600, down, soon).0,
            expected,
            "{policy:?}: the last is on time, and suffices"
        );
    }
    let seconds = table(&["* * * * * *"], "UTC", "2026-01-01T00:00:00Z");
    for (policy, count) in [(OnMissed::Last, 61), (OnMissed::None, 61), (OnMissed::All, 3_601)] {
        let (times, _) = fired(&seconds, policy, 3_600, down, up);
        assert_eq!(times.len(), count, "{policy:?}");
        assert_eq!(times[count - 1], "07:20:00");
    }
}

#[test]
fn a_schedule_that_is_over_is_never_looked_at_again() {
    let mut hourly = table(&["@hourly"], "UTC", "2026-01-01T00:00:00Z");
    hourly.end = Some(at("2026-11-24T04:00:00Z"));
    let step = |on_missed| {
        hourly.step(at("2026-11-24T03:00:00Z"), at("2026-11-24T03:00:00Z"), on_missed, DEFAULT_MISSED_WINDOW)
    };
    for on_missed in [OnMissed::All, OnMissed::Last, OnMissed::None] {
        assert_eq!(step(on_missed), Step { fire: Some(at("2026-11-24T03:00:00Z")), next_at: None });
    }
}

#[test]
fn the_last_of_millions_is_found_at_once() {
    let began = Instant::now();
    let night = table(&["* * 1-3 * * *"], "Europe/Zagreb", "2020-01-01T00:00:00Z");
    let step = night.step(at("2020-01-01T00:00:00Z"), at("2026-11-24T20:00:00Z"), OnMissed::Last, Duration::MAX);
    assert_eq!(step.fire, Some(at("2026-11-24T02:59:59Z")));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

proptest! {
    #[test]
    fn no_text_panics(text in r"[-*/,?#LWlw0-9A-Z@ a-z.+=]{0,30}", zone in "[A-Za-z/_+-]{0,12}") {
        drop(Line::parse(&text, &zone));
    }

    #[test]
    fn occurrences_go_on_and_are_the_same_by_whatever_way(seconds in 0_i64..40_000_000, minute in 0..60, hour in 0..24) {
        let line = format!("{minute} {hour} * * *");
        let daily = table(&[&line, "@every 7h"], "Europe/Zagreb", "2026-01-01T00:00:00Z");
        let from = at("2026-01-01T00:00:00Z").saturating_add(SignedDuration::from_secs(seconds)).unwrap();
        let next = daily.next_after(from).unwrap();
        prop_assert!(next > from && next.duration_since(from) <= SignedDuration::from_hours(7));
        prop_assert_eq!(daily.next_from(next), Some(next));
        prop_assert_eq!(daily.last_between(from.saturating_add(TICK).unwrap(), next.saturating_add(TICK).unwrap()), Some(next));
    }
}
