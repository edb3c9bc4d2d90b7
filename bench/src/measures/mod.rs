mod backlog;
mod drain;
mod idle;
mod intake;
mod punctuality;
mod retention;
mod scale;
mod schedules;
mod slow_provider;
mod stop;

use std::cell::Cell;

use anyhow::Result;

use crate::{contender::Contender, progress::Progress, report::Section, stage::Stage};

/// What every measure gets.
pub(crate) struct Bench<'a> {
    pub(crate) stage: &'a Stage,
    /// Installed and ready.
    pub(crate) peers: Vec<&'a dyn Contender>,
    pub(crate) rounds: usize,
    /// Notifications a drain.
    pub(crate) count: u64,
    /// Everything small and short, to see that it works rather than to know.
    pub(crate) quick: bool,
    pub(crate) progress: Progress,
    /// Rounds of this measure.
    pub(crate) dropped: Cell<usize>,
}

/// A round with more load of others than this is not counted.
const MOST_OTHER_LOAD: f64 = 0.05;

impl Bench<'_> {
    /// Whether a round must be dropped, by what others used of the machine beside each of its contenders; says so. Small ones
    /// never are: the bench's own work before and after them weighs too much.
    pub(crate) fn must_drop<'a>(&self, loads: impl Iterator<Item = (&'a str, f64)>) -> bool {
        let disturbed = if self.quick { None } else { disturbed(loads) };
        if let Some((contender, other_load)) = disturbed {
            self.dropped.set(self.dropped.get() + 1);
            let percent = other_load * 100.0;
            self.progress.print(&format!("a round is dropped: {percent:.0}% other load beside {contender}"));
        }
        disturbed.is_some()
    }
}

/// The first that had too much beside it, and how much.
fn disturbed<'a>(mut loads: impl Iterator<Item = (&'a str, f64)>) -> Option<(&'a str, f64)> {
    loads.find(|(_, other_load)| *other_load > MOST_OTHER_LOAD)
}

/// A measure.
pub(crate) struct Measure {
    /// As options and the report call it.
    pub(crate) name: &'static str,
    /// Whether it is taken of peers too, so that they must be installed.
    pub(crate) has_peers: bool,
    pub(crate) run: fn(&Bench) -> Result<Section>,
}

/// All of them, in the order in which they are run.
pub(crate) const MEASURES: &[Measure] = &[
    Measure { name: "drain", has_peers: true, run: drain::measure },
    Measure { name: "backlog", has_peers: false, run: backlog::measure },
    Measure { name: "punctuality", has_peers: true, run: punctuality::measure },
    Measure { name: "idle", has_peers: false, run: idle::measure },
    Measure { name: "intake", has_peers: false, run: intake::measure },
    Measure { name: "slow-provider", has_peers: false, run: slow_provider::measure },
    Measure { name: "scale", has_peers: false, run: scale::measure },
    Measure { name: "stop", has_peers: false, run: stop::measure },
    Measure { name: "schedules", has_peers: false, run: schedules::measure },
    Measure { name: "retention", has_peers: false, run: retention::measure },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_twentieth_of_other_load_is_too_much() {
        assert_eq!(disturbed([("a", 0.05), ("b", 0.0)].into_iter()), None);
        assert_eq!(disturbed([("a", 0.05), ("b", 0.051)].into_iter()), Some(("b", 0.051)));
    }
}
