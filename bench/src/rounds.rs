use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::{contender::Contender, drain::Drain, figures::show, measures::Bench, report::Table};

/// Interleaved rounds: each contender once a round, in turn forwards and backwards, so that each ratio is of runs that
/// were near in time. A machine's speed drifts by up to two within minutes.
pub(crate) struct Rounds {
    pub(crate) rounds: Vec<Vec<Drain>>,
    pub(crate) dropped: usize,
}

impl Rounds {
    pub(crate) fn run(
        bench: &Bench,
        count: usize,
        contenders: &[&dyn Contender],
        mut run: impl FnMut(&dyn Contender) -> Result<Drain>,
    ) -> Result<Self> {
        let mut this = Self { rounds: Vec::new(), dropped: 0 };
        while this.rounds.len() < count {
            let mut order = contenders.to_vec();
            if (this.rounds.len() + this.dropped) % 2 == 1 {
                order.reverse();
            }
            let mut round = Vec::new();
            for contender in order {
                bench.progress.say(&format!("round {} of {count}: {}", this.rounds.len() + 1, contender.name()));
                round.push(run(contender)?);
            }
            if bench.must_drop(round.iter().map(|run| (run.contender.as_str(), run.other_load))) {
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
