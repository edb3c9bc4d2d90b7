use anyhow::Result;
use serde_json::json;

use super::Bench;
use crate::{
    contender::Contender,
    drain::{Setup, drain},
    figures::show,
    report::{Section, Table},
    rounds::Rounds,
    tocsin::Tocsin,
};

/// Everything falls due at one moment.
pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let tocsin = Tocsin::default();
    let one_id = Tocsin { bundle: 1, label: "tocsin, one id a message", ..Tocsin::default() };
    let mut contenders: Vec<&dyn Contender> = vec![&tocsin, &one_id];
    contenders.extend(&bench.peers);
    let rounds = Rounds::run(bench, bench.rounds, &contenders, |contender| {
        drain(bench.stage, contender, Setup { count: bench.count, keep: false })
    })?;
    let mut tables = rounds.tables(&contenders);
    let mut memory = Table::new("Resident memory at the peak", &["", "MiB"]);
    let ours: Vec<_> = rounds.rounds.iter().flatten().filter(|run| run.contender == tocsin.label).collect();
    for program in ["activator-1", "notifier-webhook-1"] {
        let bytes = ours.iter().filter_map(|run| run.memory.get(program));
        memory.row([program.to_owned(), show(bytes.map(|bytes| *bytes as f64 / 1024.0 / 1024.0), 1)]);
    }
    tables.push(memory);
    Ok(Section {
        name: "drain",
        how: format!(
            "{} notifications, each of a process of its own, fall due at one moment; the clock stops when every \
             outcome is recorded. {} rounds.",
            bench.count, bench.rounds
        ),
        tables,
        plots: Vec::new(),
        data: json!({"rounds": rounds.rounds}),
    })
}
