use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::{contender::Contender, drain::Drain, figures::show, measures::Bench, report::Table};

/// Interleaved rounds: each contender once a round, in turn forwards and backwards, so that each ratio is of runs that
/// were near in time. A machine's speed drifts by up to two within minutes.
pub(crate) struct Rounds {
    pub(crate) rounds: Vec<Vec<Drain>>,
    dropped: usize,
}

impl Rounds {
    pub(crate) fn run(
        bench: &Bench,
        count: usize,
        contenders: &[&dyn Contender],
        mut run: impl FnMut(&dyn Contender) -> Result<Drain>,
    ) -> Result<Self> {
        let run = |round: usize, contender: &&dyn Contender| {
            bench.progress.say(&format!("round {} of {count}: {}", round + 1, contender.name()));
            run(*contender)
        };
        let must_drop =
            |round: &[Drain]| bench.must_drop(round.iter().map(|run| (run.contender.as_str(), run.other_load)));
        Self::interleave(count, contenders, run, must_drop)
    }

    fn interleave<T: Clone>(
        count: usize,
        contenders: &[T],
        mut run: impl FnMut(usize, &T) -> Result<Drain>,
        must_drop: impl Fn(&[Drain]) -> bool,
    ) -> Result<Self> {
        let mut this = Self { rounds: Vec::new(), dropped: 0 };
        while this.rounds.len() < count {
            let mut order = contenders.to_vec();
            if (this.rounds.len() + this.dropped) % 2 == 1 {
                order.reverse();
            }
            let round: Vec<_> = order.iter().map(|one| run(this.rounds.len(), one)).collect::<Result<_>>()?;
            if must_drop(&round) {
                this.dropped += 1;
                ensure!(this.dropped <= 2 * count, "this machine is too busy to measure on");
                continue;
            }
            this.rounds.push(round);
        }
        Ok(this)
    }

    fn of(&self, contender: &str) -> Vec<&Drain> {
        self.rounds.iter().flatten().filter(|run| run.contender == contender).collect()
    }

    /// What the one has for each of the other's, round by round.
    pub(crate) fn ratios(&self, one: &str, other: &str, figure: fn(&Drain) -> f64) -> Vec<f64> {
        let of = |round: &[Drain], name: &str| round.iter().find(|run| run.contender == name).map(figure);
        self.rounds.iter().filter_map(|round| Some(of(round, one)? / of(round, other)?)).collect()
    }

    /// What each contender did, and ours as ratios to every peer.
    pub(crate) fn tables(&self, contenders: &[&dyn Contender]) -> Vec<Table> {
        let mut absolute = Table::new(
            "",
            &[
                "",
                "recorded a second",
                "CPU us each",
                "of it",
                "handed over a second",
                "sink CPU us",
                "repeated",
                "early",
            ],
        );
        for contender in contenders {
            let runs = self.of(contender.name());
            let mut parts: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
            for (part, micros) in runs.iter().flat_map(|run| &run.cpu_us) {
                parts.entry(part).or_default().push(*micros);
            }
            let parts: Vec<_> = parts.into_iter().map(|(part, micros)| format!("{part} {}", show(micros, 0))).collect();
            absolute.row([
                contender.name().to_owned(),
                show(runs.iter().map(|run| run.rate), 0),
                show(runs.iter().map(|run| run.total_cpu_us), 0),
                parts.join(", "),
                show(runs.iter().map(|run| run.enqueue_rate), 0),
                show(runs.iter().map(|run| run.sink_cpu_us), 1),
                runs.iter().map(|run| run.repeated).sum::<u64>().to_string(),
                runs.iter().map(|run| run.early).sum::<u64>().to_string(),
            ]);
        }
        let columns = ["", "to", "recorded a second", "CPU each", "CPU each by the sink's as a clock"];
        let mut ratios = Table::new("Ratios, each within its round", &columns);
        let (ours, peers): (Vec<_>, Vec<_>) =
            contenders.iter().map(|one| one.name()).partition(|name| name.starts_with("tocsin"));
        for (one, peer) in ours.iter().flat_map(|one| peers.iter().map(move |peer| (one, peer))) {
            ratios.row([
                (*one).to_owned(),
                (*peer).to_owned(),
                show(self.ratios(one, peer, |run| run.rate), 2),
                show(self.ratios(one, peer, |run| run.total_cpu_us), 2),
                show(self.ratios(one, peer, |run| run.total_cpu_us / run.sink_cpu_us), 2),
            ]);
        }
        vec![absolute, ratios]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(contender: &str, other_load: f64) -> Drain {
        Drain {
            contender: contender.to_owned(),
            count: 1,
            recorded_ms: 1.0,
            rate: 1.0,
            enqueue_rate: 1.0,
            cpu_us: BTreeMap::new(),
            total_cpu_us: 1.0,
            sink_cpu_us: 1.0,
            other_load,
            repeated: 0,
            early: 0,
            memory: BTreeMap::new(),
        }
    }

    fn is_loud(round: &[Drain]) -> bool {
        round.iter().any(|run| run.other_load > 0.5)
    }

    #[test]
    fn rounds_go_forwards_and_backwards_and_a_loud_one_is_made_up_for() {
        let mut ran = Vec::new();
        let run = |round, contender: &&str| {
            ran.push(format!("{round}{contender}"));
            Ok(drain(contender, if ran.len() == 4 { 1.0 } else { 0.0 }))
        };
        let rounds = Rounds::interleave(2, &["a", "b"], run, is_loud).unwrap();
        assert_eq!(ran, ["0a", "0b", "1b", "1a", "1a", "1b"]);
        assert_eq!((rounds.rounds.len(), rounds.dropped), (2, 1));
        assert!(rounds.rounds.iter().flatten().all(|run| run.other_load == 0.0), "nothing of the loud one counts");
    }

    #[test]
    fn where_it_is_always_loud_there_are_no_figures() {
        let rounds = Rounds::interleave(2, &["a"], |_, contender| Ok(drain(contender, 1.0)), is_loud);
        assert_eq!(rounds.err().unwrap().to_string(), "this machine is too busy to measure on");
    }
}
