use std::{str::FromStr, time::Duration};

use jiff::{SignedDuration, Timestamp};

mod line;

pub use line::{InvalidLine, Line};

/// An occurrence that starts later than this was missed: nobody was there to start it. Until then it is only late, as after
/// the death of an activator, whose place another takes within seconds.
pub const MISSED_AFTER: Duration = Duration::from_secs(60);

/// For how long a missed occurrence is made up for, unless the schedule says otherwise.
pub const DEFAULT_MISSED_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// What becomes of occurrences that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnMissed {
    /// Each is made up for, in order.
    All,
    /// The last of them is, unless a later one is on time.
    #[default]
    Last,
    /// They are passed over.
    None,
}

/// What becomes of an occurrence while the process of the one before is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlap {
    /// It starts all the same.
    #[default]
    Allow,
    /// It is ignored, and recorded so.
    Skip,
    /// The process of the one before is stopped.
    Stop,
}

/// The text names no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be {0}")]
pub struct UnknownPolicy(&'static str);

impl OnMissed {
    /// The name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Last => "last",
            Self::None => "none",
        }
    }
}

impl FromStr for OnMissed {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        let found = [Self::All, Self::Last, Self::None].into_iter().find(|one| one.as_str() == name);
        found.ok_or(UnknownPolicy("all, last or none"))
    }
}

impl Overlap {
    /// The name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Skip => "skip",
            Self::Stop => "stop",
        }
    }
}

impl FromStr for Overlap {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        let found = [Self::Allow, Self::Skip, Self::Stop].into_iter().find(|one| one.as_str() == name);
        found.ok_or(UnknownPolicy("allow, skip or stop"))
    }
}

/// When a schedule starts processes: the occurrences of all its lines, from `start` on and before `end`. An instant that two
/// lines name is one occurrence.
#[derive(Debug, Clone)]
pub struct Timetable {
    /// One at least.
    pub lines: Vec<Line>,
    /// From here `@every` counts, and nothing is before it.
    pub start: Timestamp,
    /// Nothing is then or later.
    pub end: Option<Timestamp>,
}

/// What is to be done when a schedule's time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The occurrence that starts now, if there is one.
    pub fire: Option<Timestamp>,
    /// When to look again; that may be in the past, as long as there are more to make up for.
    pub next_at: Option<Timestamp>,
}

const TICK: SignedDuration = SignedDuration::from_nanos(1);

impl Timetable {
    /// The first occurrence after an instant.
    pub fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        let instant = instant.max(self.start.saturating_sub(TICK).unwrap_or(self.start));
        let first = self.lines.iter().filter_map(|line| line.next_after(instant, self.start)).min();
        first.filter(|at| self.end.is_none_or(|end| *at < end))
    }

    /// The first occurrence at an instant or after it.
    pub fn next_from(&self, instant: Timestamp) -> Option<Timestamp> {
        self.next_after(instant.saturating_sub(TICK).unwrap_or(instant))
    }

    /// What to do at `now` about a schedule whose next occurrence is, or was, at `next_at`.
    ///
    /// One occurrence at a time, so that each is committed with the step to the next.
    pub fn step(&self, next_at: Timestamp, now: Timestamp, on_missed: OnMissed, window: Duration) -> Step {
        let ago = |wait: Duration| {
            SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_sub(wait).ok()).unwrap_or(Timestamp::MIN)
        };
        let on_time = next_at.max(ago(MISSED_AFTER));
        let oldest = next_at.max(ago(window.max(MISSED_AFTER)));
        let candidate = match on_missed {
            OnMissed::All => self.next_from(oldest),
            OnMissed::None => self.next_from(on_time),
            OnMissed::Last => {
                let first = self.next_from(on_time);
                match first {
                    Some(at) if at <= now => first,
                    _ => self.last_between(oldest, on_time).or(first),
                }
            }
        };
        match candidate {
            Some(at) if at <= now => Step { fire: Some(at), next_at: self.next_after(at) },
            _ => Step { fire: None, next_at: candidate },
        }
    }

    /// The last occurrence at `from` or later that is before `end`. Each turn halves what is left: there may be millions.
    fn last_between(&self, from: Timestamp, end: Timestamp) -> Option<Timestamp> {
        let mut end = end;
        let mut last = self.next_from(from).filter(|at| *at < end)?;
        while let Some(next) = self.next_after(last).filter(|at| *at < end) {
            let middle = next.saturating_add(end.duration_since(next) / 2).unwrap_or(next);
            match self.next_after(middle).filter(|at| *at < end) {
                Some(later) => last = later,
                None => {
                    last = next;
                    // What is at the middle itself is still in question.
                    end = end.min(middle.saturating_add(TICK).unwrap_or(middle));
                }
            }
        }
        Some(last)
    }
}

#[cfg(test)]
mod tests;
