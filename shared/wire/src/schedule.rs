use std::time::Duration;

use domain::{
    ProcessName,
    schedule::{DEFAULT_MISSED_WINDOW, InvalidLine, Line, OnMissed, Overlap},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    json::Json,
    request::{Members, Reader, Reason, join, printable},
    template::{Occasion, render_request},
};

/// The most lines of a schedule.
pub const MAX_LINES: usize = 20;

/// The longest window within which missed occurrences are made up for.
pub const MAX_MISSED_WINDOW_SECONDS: u64 = 366 * 24 * 60 * 60;

const MAX_WORD_CHARACTERS: usize = 255;

const KEYS: [&str; 10] =
    ["name", "owner", "external-id", "lines", "from", "until", "missed", "missed-window", "overlap", "request"];

/// What somebody says of a schedule.
#[derive(Debug, Clone)]
pub struct ScheduleDefinition {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: Option<String>,
    /// What it is called elsewhere.
    pub external_id: Option<String>,
    /// Its lines, as they were read.
    pub lines: Vec<Line>,
    /// The same as JSON: `[{"cron": .., "time-zone": ..}]`.
    pub lines_as_given: Value,
    /// From when on.
    pub from: Option<Timestamp>,
    /// Until when.
    pub until: Option<Timestamp>,
    /// What becomes of occurrences that were missed.
    pub on_missed: OnMissed,
    /// For how long they are made up for.
    pub missed_window: Duration,
    /// What becomes of an occurrence while the process of the one before is not finished.
    pub overlap: Overlap,
    /// The request to start, with templates in its texts.
    pub request: Value,
}

/// Reads what a schedule is to be. All keys are ours, so an unknown one is an error.
pub fn parse_schedule(body: &[u8]) -> Result<ScheduleDefinition, Vec<Reason>> {
    let mut reader = Reader::default();
    let definition = reader.body(body).and_then(|members| reader.schedule(members));
    match definition {
        Some(definition) if reader.reasons.is_empty() => Ok(definition),
        _ => Err(reader.finish()),
    }
}

/// What is wrong with a template, as far as one occurrence shows it.
pub fn check_template(template: &Value, occasion: Occasion<'_>) -> Vec<Reason> {
    let reasons =
        render_request(template, occasion).parsed.err().map(|rejection| rejection.reasons).unwrap_or_default();
    let at_its_place = |reason: Reason| {
        let field = if reason.field.is_empty() { "request".to_owned() } else { join("request", &reason.field) };
        Reason { field, message: reason.message }
    };
    reasons.into_iter().map(at_its_place).collect()
}

impl Reader {
    fn schedule(&mut self, mut members: Members) -> Option<ScheduleDefinition> {
        let name = self.required_string(&mut members, "", "name");
        let name = name.and_then(|name| match ProcessName::parse(&name) {
            Ok(_) => Some(name),
            Err(error) => {
                self.wrong("name", error.to_string());
                None
            }
        });
        let owner = self.word(&mut members, "owner");
        let external_id = self.word(&mut members, "external-id");
        let lines = self.lines(&mut members);
        let from = self.time_if_any(&mut members, "from");
        let until = self.time_if_any(&mut members, "until");
        let on_missed = self.policy(&mut members, "missed", OnMissed::default());
        let window = self.whole_number(&mut members, "", "missed-window", MAX_MISSED_WINDOW_SECONDS);
        let overlap = self.policy(&mut members, "overlap", Overlap::default());
        let request = self.template(&mut members);
        for (key, _) in members.iter().filter(|(key, _)| !KEYS.contains(&key.as_str())) {
            self.wrong(printable(key), format!("is not known here; known are {}", KEYS.join(", ")));
        }
        if let (Some(Some(from)), Some(Some(until))) = (from, until)
            && until <= from
        {
            self.wrong("until", "must be after from");
        }
        let (lines, lines_as_given) = lines?;
        Some(ScheduleDefinition {
            name: name?,
            owner: owner?,
            external_id: external_id?,
            lines,
            lines_as_given,
            from: from?,
            until: until?,
            on_missed: on_missed?,
            missed_window: window?.map_or(DEFAULT_MISSED_WINDOW, Duration::from_secs),
            overlap: overlap?,
            request: request?,
        })
    }

    fn word(&mut self, members: &mut Members, key: &str) -> Option<Option<String>> {
        let word = self.string(members, "", key)?;
        if word.as_ref().is_some_and(|word| !(1..=MAX_WORD_CHARACTERS).contains(&word.chars().count())) {
            self.wrong(key, format!("must be 1 to {MAX_WORD_CHARACTERS} characters"));
            return None;
        }
        Some(word)
    }

    fn time_if_any(&mut self, members: &mut Members, key: &str) -> Option<Option<Timestamp>> {
        if members.iter().any(|(name, _)| name == key) { self.time(members, "", key).map(Some) } else { Some(None) }
    }

    fn policy<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        members: &mut Members,
        key: &str,
        default: T,
    ) -> Option<T> {
        match self.string(members, "", key)?.map(|word| word.parse()) {
            None => Some(default),
            Some(Ok(policy)) => Some(policy),
            Some(Err(error)) => {
                self.wrong(key, format!("{error}"));
                None
            }
        }
    }

    fn lines(&mut self, members: &mut Members) -> Option<(Vec<Line>, Value)> {
        let items = match self.take(members, "", "lines") {
            Some(Json::Array(items)) if (1..=MAX_LINES).contains(&items.len()) => items,
            Some(Json::Array(items)) => {
                self.wrong("lines", format!("must have 1 to {MAX_LINES} lines, has {}", items.len()));
                return None;
            }
            Some(other) => {
                self.wrong("lines", format!("must be an array, is {}", other.kind()));
                return None;
            }
            None => {
                self.wrong("lines", "is required");
                return None;
            }
        };
        let read: Vec<_> =
            items.into_iter().enumerate().map(|(n, item)| self.line(&format!("lines[{n}]"), item)).collect();
        let (lines, given): (Vec<_>, Vec<_>) = read.into_iter().collect::<Option<Vec<_>>>()?.into_iter().unzip();
        Some((lines, given.into()))
    }

    fn line(&mut self, path: &str, item: Json) -> Option<(Line, Value)> {
        let Json::Object(mut members) = item else {
            self.wrong(path, format!("must be an object with cron and time-zone, is {}", item.kind()));
            return None;
        };
        let cron = self.required_string(&mut members, path, "cron");
        let zone = self.string(&mut members, path, "time-zone");
        for (key, _) in &members {
            self.wrong(join(path, &printable(key)), "is not known here; known are cron, time-zone");
        }
        let (cron, zone) = (cron?, zone?.unwrap_or_else(|| "UTC".to_owned()));
        match Line::parse(&cron, &zone) {
            Ok(line) => Some((line, json!({"cron": cron, "time-zone": zone}))),
            Err(error) => {
                let key = if matches!(error, InvalidLine::Cron(_)) { "cron" } else { "time-zone" };
                self.wrong(join(path, key), error.to_string());
                None
            }
        }
    }

    fn template(&mut self, members: &mut Members) -> Option<Value> {
        match self.take(members, "", "request") {
            Some(Json::Object(request)) => {
                let request = Json::Object(request);
                self.refuse_twice("request", &request);
                Some(request.into())
            }
            Some(other) => {
                self.wrong("request", format!("must be an object, is {}", other.kind()));
                None
            }
            None => {
                self.wrong("request", "is required");
                None
            }
        }
    }

    /// What is kept of the template has each key once.
    fn refuse_twice(&mut self, path: &str, value: &Json) {
        match value {
            Json::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    self.refuse_twice(&format!("{path}[{n}]"), item);
                }
            }
            Json::Object(members) => {
                for (n, (key, value)) in members.iter().enumerate() {
                    let path = join(path, &printable(key));
                    if members[..n].iter().any(|(before, _)| before == key) {
                        self.wrong(path.clone(), "stands more than once");
                    }
                    self.refuse_twice(&path, value);
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: Value) -> Value {
        let mut body = json!({
            "name": "daily",
            "lines": [{"cron": "0 9 * * MON-FRI", "time-zone": "Europe/Zagreb"}],
            "request": {"process-id": "p", "notifications": [{"channel": "console", "in": 0}]},
        });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    }

    #[test]
    fn a_schedule_and_what_it_is_unless_it_says_otherwise() {
        let read = parse_schedule(with(json!({})).to_string().as_bytes()).unwrap();
        assert_eq!((read.name.as_str(), read.lines.len(), read.owner), ("daily", 1, None));
        assert_eq!((read.on_missed, read.overlap), (OnMissed::Last, Overlap::Allow));
        assert_eq!((read.missed_window, read.from, read.until), (DEFAULT_MISSED_WINDOW, None, None));
        let all = json!({"owner": "ops", "external-id": "7", "missed": "all", "missed-window": 60, "overlap": "stop",
            "from": 5, "until": "2026-11-24T09:00:00+01:00", "lines": [{"cron": "@every 90s"}]});
        let read = parse_schedule(with(all).to_string().as_bytes()).unwrap();
        assert_eq!((read.on_missed, read.overlap, read.missed_window.as_secs()), (OnMissed::All, Overlap::Stop, 60));
        assert_eq!(read.lines_as_given, json!([{"cron": "@every 90s", "time-zone": "UTC"}]));
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        for (change, problem) in [
            (json!({"name": ""}), "name: must not be empty"),
            (json!({"owner": ""}), "owner: must be 1 to 255"),
            (json!({"lines": []}), "lines: must have 1 to 20 lines, has 0"),
            (json!({"lines": "* * * * *"}), "lines: must be an array, is a string"),
            (json!({"lines": ["* * * * *"]}), "lines[0]: must be an object"),
            (json!({"lines": [{"cron": "* 25 * * *"}]}), "lines[0].cron: hours: \"25\" must be of 0 to 23"),
            (json!({"lines": [{"cron": "* * * * *", "time-zone": "X"}]}), "lines[0].time-zone: must be the name"),
            (json!({"lines": [{"cron": "* * * * *", "zone": "UTC"}]}), "lines[0].zone: is not known"),
            (json!({"from": 6, "until": 6}), "until: must be after from"),
            (json!({"missed": "some"}), "missed: must be all, last or none"),
            (json!({"missed-window": 0}), "missed-window: must be a whole number"),
            (json!({"overlap": 1}), "overlap: must be a string"),
            (json!({"request": 1}), "request: must be an object"),
            (json!({"paused": true}), "paused: is not known here"),
        ] {
            let reasons = parse_schedule(with(change.clone()).to_string().as_bytes()).unwrap_err();
            assert!(reasons.len() == 1 && reasons[0].to_string().starts_with(problem), "{change}: {reasons:?}");
        }
        let twice = br#"{"name": "a", "lines": [{"cron": "* * * * *"}], "request": {"a": [{"b": 1, "b": 2}]}}"#;
        assert_eq!(parse_schedule(twice).unwrap_err()[0].to_string(), "request.a[0].b: stands more than once");
        let fields: Vec<_> = parse_schedule(b"{}").unwrap_err().into_iter().map(|reason| reason.field).collect();
        assert_eq!(fields, ["name", "lines", "request"]);
    }
}
