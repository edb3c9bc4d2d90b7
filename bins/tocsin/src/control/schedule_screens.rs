//! How schedules look, and what came of their occurrences.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::{
    client::Answer,
    orders::Sent,
    screen::{Cell, Table, count, exact, plain, state, time, time_in_words},
};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Schedule {
    pub(super) id: i64,
    name: String,
    owner: Option<String>,
    external_id: Option<String>,
    lines: Vec<Line>,
    from: String,
    until: Option<String>,
    missed: String,
    missed_window: i64,
    overlap: String,
    request: Option<Value>,
    paused_at: Option<String>,
    #[serde(default)]
    occurrences: Vec<String>,
    #[serde(default)]
    failures: Vec<Failure>,
    next_at: Option<String>,
    last_at: Option<String>,
    last_process: Option<String>,
    source: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Line {
    cron: String,
    time_zone: String,
}

/// What went wrong with an occurrence.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Failure {
    at: String,
    request: i64,
    process_id: Option<String>,
    notification: Option<i64>,
    channel: Option<String>,
    reason: String,
}

impl Failure {
    fn table(failures: &[Self], now: Option<Timestamp>) -> Table {
        let mut table = Table::new(&["WHEN", "PROCESS", "WHAT", "WHY"]);
        for one in failures {
            let what = match one.notification {
                Some(id) => format!("notification {id}, {}", one.channel.as_deref().unwrap_or("?")),
                None => format!("request {}, rejected", one.request),
            };
            table.row([
                time(&one.at, now).into(),
                one.process_id.as_deref().unwrap_or("?").into(),
                what.into(),
                one.reason.as_str().into(),
            ]);
        }
        table
    }
}

impl Schedule {
    /// One a row.
    pub(super) fn table(schedules: &[Self], now: Option<Timestamp>) -> Table {
        let mut table = Table::new(&["ID", "NAME", "STATE", "LINES", "NEXT", "LAST PROCESS"]);
        for one in schedules {
            let lines: Vec<_> = one.lines.iter().map(|line| format!("{} {}", line.cron, line.time_zone)).collect();
            table.row([
                one.id.into(),
                one.name.as_str().into(),
                Cell::state(one.state()),
                lines.join("; ").into(),
                one.next_at.as_deref().map_or_else(String::new, |at| time(at, now)).into(),
                one.last_process.as_deref().unwrap_or_default().into(),
            ]);
        }
        table
    }

    fn state(&self) -> &'static str {
        match (&self.paused_at, &self.next_at) {
            (Some(_), _) => "paused",
            (None, Some(_)) => "active",
            (None, None) => "over",
        }
    }

    /// What became of it, and what comes next.
    pub(super) fn done(&self, what: &str, now: Option<Timestamp>) -> String {
        let next = self.next_at.as_ref().map(|at| format!("; its next occurrence is {}", time_in_words(at, now)));
        let id = self.id;
        let help = self.paused_at.as_ref().map(|_| format!(" until `tocsin schedule resume {id}`"));
        let (help, next) = (help.unwrap_or_default(), next.unwrap_or_default());
        format!("schedule {id} ({}) {what}{help}{next}\n", plain(&self.name))
    }

    /// All of it.
    pub(super) fn story(&self, answer: &Answer) -> String {
        let now = answer.now;
        let since = self.paused_at.as_ref().map(|at| format!(" since {}", time_in_words(at, now))).unwrap_or_default();
        let mut text = format!("schedule {} ({}): {}{since}\n", self.id, plain(&self.name), state(self.state()));
        for (key, value) in [("owner", &self.owner), ("external id", &self.external_id)] {
            let line = value.as_ref().map(|value| format!("{key} {}\n", plain(value)));
            text.push_str(&line.unwrap_or_default());
        }
        let mut lines = Table::new(&["LINE", "TIME ZONE"]);
        self.lines.iter().for_each(|line| lines.row([line.cron.as_str().into(), line.time_zone.as_str().into()]));
        text.push_str(&lines.text(2));
        let until = self.until.as_ref().map(|at| format!(" until {}", exact(at))).unwrap_or_default();
        text.push_str(&format!("from {}{until}\n", exact(&self.from)));
        let window = SignedDuration::from_secs(self.missed_window);
        let (missed, overlap) = (plain(&self.missed), plain(&self.overlap));
        text.push_str(&format!("missed: {missed}, of the last {window:#}; overlap: {overlap}\n"));
        match (&self.last_at, &self.last_process) {
            (Some(at), Some(process)) => {
                text.push_str(&format!("last occurrence {}; last process {}\n", time_in_words(at, now), plain(process)))
            }
            (Some(at), None) => text.push_str(&format!("last occurrence {}\n", time_in_words(at, now))),
            (None, Some(process)) => text.push_str(&format!("last process {}\n", plain(process))),
            (None, None) => text.push_str("it has started nothing yet\n"),
        }
        text.push_str(&format!("its requests come from {}\n", plain(&self.source)));
        if !self.failures.is_empty() {
            text.push_str("what went wrong last\n");
            text.push_str(&Failure::table(&self.failures, now).text(2));
        }
        text.push_str(match (&self.paused_at, self.occurrences.is_empty()) {
            (_, true) => "nothing is to come\n",
            (Some(_), false) => "next, were it not paused\n",
            (None, false) => "next\n",
        });
        self.occurrences.iter().for_each(|at| text.push_str(&format!("  {}\n", time(at, now))));
        if let Some(request) = &self.request {
            text.push_str("what it starts\n");
            let request = format!("{request:#}");
            request.lines().for_each(|line| text.push_str(&format!("  {}\n", plain(line))));
        }
        text
    }
}

/// What came of an occurrence that somebody wanted.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Occurrence {
    at: String,
    is_new: bool,
    pub(super) request: Sent,
}

impl Occurrence {
    /// Now or before.
    pub(super) fn has_started(&self) -> bool {
        !self.is_new || self.request.is_accepted()
    }

    pub(super) fn screen(occurrences: &[Self]) -> String {
        let mut table = Table::new(&["OCCURRENCE", "REQUEST", "PROCESS", "OUTCOME", "WHY"]);
        for one in occurrences {
            let why = if one.is_new { one.request.reasons() } else { "had come before: nothing is done".to_owned() };
            table.row([
                exact(&one.at).into(),
                one.request.id.into(),
                one.request.process_id.as_deref().unwrap_or("?").into(),
                Cell::state(&one.request.outcome),
                why.into(),
            ]);
        }
        if table.is_empty() {
            return "there is no occurrence in that time\n".to_owned();
        }
        let started = occurrences.iter().filter(|one| one.is_new && one.request.is_accepted()).count();
        let started = count(i64::try_from(started).unwrap_or(i64::MAX), "occurrence");
        format!("{}{started} started\n", table.text(0))
    }
}
