use std::io::{self, Write};

use jiff::Timestamp;
use runtime::coloured;
use serde_json::Value;

/// Shows a whole screen.
pub(crate) fn print(text: &str) {
    // Whoever closed standard output does not want to know.
    io::stdout().write_all(text.as_bytes()).unwrap_or_default();
}

/// The items of a list as JSON, one a line.
pub(crate) fn lines(items: &[Value]) -> String {
    items.iter().map(|item| format!("{item}\n")).collect()
}

/// A text without what would move a terminal's cursor or change its colours.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A cell of a table.
pub(crate) struct Cell {
    text: String,
    colour: Option<&'static str>,
    is_number: bool,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self { text: plain(text), colour: None, is_number: false }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self { text: number.to_string(), colour: None, is_number: true }
    }
}

impl Cell {
    /// A state or an outcome, in its colour.
    pub(crate) fn state(name: &str) -> Self {
        Self { colour: colour(name), ..name.into() }
    }
}

fn colour(state: &str) -> Option<&'static str> {
    match state {
        "delivered" | "accepted" => Some("32"),
        "failed" | "rejected" | "permanent" => Some("31"),
        "retrying" | "temporary" | "rate_limited" | "channel_down" | "unknown" | "ignored" | "paused" => Some("33"),
        _ => None,
    }
}

/// A state in its colour, outside a table.
pub(crate) fn state(name: &str) -> String {
    let name = plain(name);
    colour(&name).map_or_else(|| name.clone(), |colour| coloured(colour, &name))
}

/// Rows under titles, aligned.
pub(crate) struct Table {
    titles: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(titles: &[&'static str]) -> Self {
        Self { titles: titles.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each after so many spaces.
    pub(crate) fn text(&self, indent: usize) -> String {
        let titles: Vec<Cell> = self.titles.iter().map(|title| (*title).into()).collect();
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&titles]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..self.titles.len()).map(width).collect();
        let is_number = |column: usize| self.rows.iter().all(|row| row.get(column).is_some_and(|cell| cell.is_number));
        let mut text = String::new();
        for row in [&titles].into_iter().chain(&self.rows) {
            let mut line = " ".repeat(indent);
            for (column, cell) in row.iter().enumerate() {
                let space = " ".repeat(widths.get(column).map_or(0, |w| w.saturating_sub(cell.text.chars().count())));
                let shown = cell.colour.map_or_else(|| cell.text.clone(), |colour| coloured(colour, &cell.text));
                let (before, after) = if is_number(column) { (space.as_str(), "") } else { ("", space.as_str()) };
                line.extend([before, &shown, after, "  "]);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A time to the second in UTC, and how far it is from now, always as wide.
pub(crate) fn time(at: &str, now: Option<Timestamp>) -> String {
    match (at.parse::<Timestamp>(), now) {
        (Ok(at), Some(now)) => format!("{at:.0}  {:>10}", distance(at, now)),
        (Ok(at), None) => format!("{at:.0}"),
        (Err(_), _) => plain(at),
    }
}

/// The same within a sentence.
pub(crate) fn time_in_words(at: &str, now: Option<Timestamp>) -> String {
    match (at.parse::<Timestamp>(), now) {
        (Ok(at), Some(now)) => format!("{at:.0} ({})", distance(at, now)),
        _ => exact(at),
    }
}

/// A time to the second in UTC.
pub(crate) fn exact(at: &str) -> String {
    at.parse::<Timestamp>().map_or_else(|_| plain(at), |at| format!("{at:.0}"))
}

fn distance(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - at.as_second();
    let (number, unit) = match seconds.abs() {
        0 => return "now".to_owned(),
        s @ 1..=59 => (s, "s"),
        s @ 60..=3_599 => (s / 60, "min"),
        s @ 3_600..=172_799 => (s / 3_600, "h"),
        s => (s / 86_400, "days"),
    };
    if seconds > 0 { format!("{number} {unit} ago") } else { format!("in {number} {unit}") }
}

/// `1 notification`, `2 notifications`.
pub(crate) fn count(number: i64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_to_the_right() {
        let mut table = Table::new(&["ID", "CHANNEL", "WHY"]);
        table.row([7.into(), "phone".into(), "".into()]);
        table.row([1234.into(), "sms".into(), "čekaj\x1b[31m".into()]);
        let expected = "    ID  CHANNEL  WHY\n     7  phone\n  1234  sms      čekaj\u{fffd}[31m\n";
        assert_eq!(table.text(2), expected);
    }

    #[test]
    fn how_far_a_time_is() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        for (at, words) in [
            ("2026-11-22T12:00:00.400Z", "2026-11-22T12:00:00Z         now"),
            ("2026-11-22T11:59:01Z", "2026-11-22T11:59:01Z    59 s ago"),
            ("2026-11-22T13:02:03+01:00", "2026-11-22T12:02:03Z    in 2 min"),
            ("2026-11-20T12:00:01Z", "2026-11-20T12:00:01Z    47 h ago"),
            ("2026-11-12T12:00:00Z", "2026-11-12T12:00:00Z  10 days ago"),
            ("soon", "soon"),
        ] {
            assert_eq!(time(at, Some(now)), words);
        }
    }
}
