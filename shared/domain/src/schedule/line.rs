use std::sync::LazyLock;

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    SignedDuration, Timestamp,
    tz::{TimeZone, TimeZoneDatabase},
};

/// The one in the program: what the machine has may be older, or missing.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

static CRON: LazyLock<CronParser> =
    LazyLock::new(|| CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build());

/// So long, a leap year's 29 February may be away.
const SEARCHED_FROM: &str = "2026-01-01T00:00:00Z";

const MAX_CHARACTERS: usize = 200;

const MAX_EVERY_SECONDS: i128 = 10 * 366 * 24 * 60 * 60;

const FIELDS: [Field; 6] = [
    Field { name: "seconds", last: "59", names: &[], letters: &[] },
    Field { name: "minutes", last: "59", names: &[], letters: &[] },
    Field { name: "hours", last: "23", names: &[], letters: &[] },
    Field { name: "day of month", last: "31", names: &[], letters: &["L", "W", "LW"] },
    Field { name: "month", last: "12", names: &MONTHS, letters: &[] },
    Field { name: "day of week", last: "6", names: &DAYS, letters: &["L"] },
];

const MONTHS: [&str; 13] = ["", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

struct Field {
    name: &'static str,
    /// Up to where `3/15` goes.
    last: &'static str,
    /// Names of values, each at the place of its value.
    names: &'static [&'static str],
    /// Letters that mean something to croner.
    letters: &'static [&'static str],
}

/// Why a line can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLine {
    /// What it says.
    #[error("{0}")]
    Cron(String),
    /// Its time zone.
    #[error("{0}")]
    TimeZone(String),
}

/// One line of a schedule.
///
/// Five fields (minutes, hours, day of month, month, day of week) or six with seconds before them; `*`, `?`, lists, ranges,
/// steps, names of months and days, `L` (last day of the month; `5L`, its last Friday), `15W` (the weekday closest to the
/// 15th) and `1#2` (second Monday). If both days are restricted, either suffices. Or `@yearly`, `@monthly`, `@weekly`,
/// `@daily`, `@hourly`; or `@every 1h30m`, which counts from the schedule's start and knows no time zone.
///
/// When the clock is set forward, what names one time of day within the hour that there is not is due at its end, and what
/// repeats (`*` or a step in seconds, minutes or hours) goes on after it. When it is set back, the former is due once, the
/// first time, and the latter in both hours.
#[derive(Debug, Clone)]
pub struct Line {
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    Cron(Box<Cron>, TimeZone),
    Every(SignedDuration),
}

impl Line {
    /// Reads a line and its time zone, such as `Europe/Zagreb`. One that names no instant at all is refused.
    pub fn parse(text: &str, time_zone: &str) -> Result<Self, InvalidLine> {
        if text.chars().count() > MAX_CHARACTERS {
            return Err(InvalidLine::Cron(format!("must be at most {MAX_CHARACTERS} characters")));
        }
        let zone = ZONES.get(time_zone).map_err(|_| {
            InvalidLine::TimeZone("must be the name of a time zone, such as Europe/Zagreb or UTC".to_owned())
        })?;
        let rule = match text.trim().strip_prefix("@every") {
            Some(every) => Rule::Every(duration(every).map_err(InvalidLine::Cron)?),
            None => Rule::Cron(Box::new(cron(text).map_err(InvalidLine::Cron)?), zone),
        };
        let line = Self { rule };
        let from = SEARCHED_FROM.parse().unwrap_or(Timestamp::UNIX_EPOCH);
        if line.next_after(from, from).is_none() {
            return Err(InvalidLine::Cron("names no day that ever comes".to_owned()));
        }
        Ok(line)
    }

    /// The first occurrence after an instant, of a schedule that begins at `start`.
    pub fn next_after(&self, instant: Timestamp, start: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Cron(cron, zone) => {
                let from = instant.to_zoned(zone.clone());
                // An error is a search that led beyond the years that there are.
                cron.find_next_occurrence(&from, false).ok().map(|at| at.timestamp())
            }
            Rule::Every(every) => {
                let passed = instant.duration_since(start).as_nanos().div_euclid(every.as_nanos()).max(0);
                let wait = i64::try_from((passed + 1) * every.as_nanos() / 1_000_000_000).ok()?;
                start.checked_add(SignedDuration::from_secs(wait)).ok()
            }
        }
    }
}

/// `time.ParseDuration` of Go, as robfig/cron takes it: what is less than a second is cut off, but for the first.
fn duration(text: &str) -> Result<SignedDuration, String> {
    let wrong = || "@every takes a duration such as 90s, 1h30m or 1.5h".to_owned();
    let mut rest = text.trim();
    let mut nanoseconds: i128 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "h" => 3_600 * 1_000_000_000,
            _ => return Err(wrong()),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() > 12 || part.len() > 9 || whole.is_empty() && part.is_empty() || part.contains('.') {
            return Err(wrong());
        }
        let digits: i128 = format!("0{whole}{part}").parse().map_err(|_| wrong())?;
        nanoseconds += digits * unit / 10_i128.pow(u32::try_from(part.len()).unwrap_or_default());
        rest = after;
    }
    match nanoseconds / 1_000_000_000 {
        seconds if seconds > MAX_EVERY_SECONDS => Err("@every takes ten years at most".to_owned()),
        seconds => Ok(SignedDuration::from_secs(i64::try_from(seconds.max(1)).map_err(|_| wrong())?)),
    }
}

fn cron(text: &str) -> Result<Cron, String> {
    let text = match text.trim().to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 0 1 1 *",
        "@monthly" => "0 0 0 1 * *",
        "@weekly" => "0 0 0 * * 0",
        "@daily" | "@midnight" => "0 0 0 * * *",
        "@hourly" => "0 0 * * * *",
        other if other.starts_with('@') => {
            return Err("must be @yearly, @monthly, @weekly, @daily, @hourly or @every with a duration".to_owned());
        }
        _ => text,
    };
    let mut parts: Vec<&str> = text.split_whitespace().collect();
    match parts.len() {
        5 => parts.insert(0, "0"),
        6 => {}
        n => return Err(format!("must have 5 fields, or 6 with seconds first; has {n}")),
    }
    let mut fields = Vec::new();
    for (n, (field, part)) in FIELDS.iter().zip(&parts).enumerate() {
        let wrong = |problem: String| format!("{}: {part:?} {problem}", field.name);
        let read = field.read(part).map_err(wrong)?;
        // Each by itself, as croner does not say which field is wrong.
        let mut alone = ["*"; 6];
        alone[n] = &read;
        CRON.parse(&alone.join(" ")).map_err(|_| wrong(field.help()))?;
        fields.push(read);
    }
    CRON.parse(&fields.join(" ")).map_err(|error| error.to_string())
}

impl Field {
    /// The field as croner takes it: names as numbers, as croner would take a day's name for an hour too, and `3/15` written
    /// out.
    fn read(&self, text: &str) -> Result<String, String> {
        let items: Result<Vec<_>, String> = text.to_ascii_uppercase().split(',').map(|item| self.item(item)).collect();
        Ok(items?.join(","))
    }

    fn item(&self, item: &str) -> Result<String, String> {
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        let bounds: Result<Vec<_>, String> = range.split('-').enumerate().map(|(n, one)| self.value(one, n)).collect();
        let mut range = bounds?.join("-");
        let Some(step) = step else { return Ok(range) };
        if !range.contains(['*', '?', '-']) {
            range = format!("{range}-{}", self.last);
        }
        match step.parse::<u16>() {
            Ok(1..) => Ok(format!("{range}/{step}")),
            _ => Err("has a step that is no whole number from 1 on".to_owned()),
        }
    }

    fn value(&self, text: &str, place: usize) -> Result<String, String> {
        if let Some((day, number)) = text.split_once('#') {
            return Ok(format!("{}#{number}", self.value(day, place)?));
        }
        let letters = text.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
        if text.is_empty() || text.contains('+') {
            return Err(self.help());
        }
        if letters.is_empty() || self.letters.contains(&letters) {
            return Ok(text.to_owned());
        }
        let (name, rest) = match text.strip_suffix('L') {
            Some(name) if self.letters == ["L"] => (name, "L"),
            _ => (text, ""),
        };
        let value = self.names.iter().position(|known| *known == name).ok_or_else(|| self.help())?;
        // At the end of a range Sunday comes after Saturday.
        let value = if place == 1 && name == "SUN" { 7 } else { value };
        Ok(format!("{value}{rest}"))
    }

    fn help(&self) -> String {
        let first = if self.last == "31" || self.last == "12" { 1 } else { 0 };
        let names = match self.names {
            [] => String::new(),
            names => {
                format!(", {} to {}", names.iter().find(|name| !name.is_empty()).unwrap_or(&""), names[names.len() - 1])
            }
        };
        format!("must be of {first} to {}{names}, with * , - /", self.last)
    }
}
