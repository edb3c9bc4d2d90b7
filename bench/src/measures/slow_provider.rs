use std::time::Duration;

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

const ANSWER_AFTER: Duration = Duration::from_millis(200);
const WORKERS: usize = 4;
const IN_FLIGHT: usize = 500;

/// Many calls in flight to receivers that take their time.
pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    // One address gets a quarter of a worker's slots at most, so there must be more of them.
    let tocsin = Tocsin { notifiers: WORKERS, in_flight: IN_FLIGHT, hosts: 16, ..Tocsin::default() };
    tocsin.prepare(bench.stage)?;
    bench.stage.start_sink(ANSWER_AFTER)?;
    let contenders: [&dyn Contender; 1] = [&tocsin];
    let rounds = Rounds::run(bench, bench.rounds, &contenders, |contender| {
        drain(bench.stage, contender, Setup { count: bench.count, keep: false })
    });
    bench.stage.start_sink(Duration::ZERO)?;
    let rounds = rounds?;
    let ceiling = (WORKERS * IN_FLIGHT) as f64 / ANSWER_AFTER.as_secs_f64();
    let rates: Vec<_> = rounds.rounds.iter().flatten().map(|run| run.rate).collect();
    let memory = rounds.rounds.iter().flatten().flat_map(|run| &run.memory);
    let memory =
        memory.filter(|(program, _)| program.starts_with("notifier")).map(|(_, bytes)| *bytes as f64 / 1024.0 / 1024.0);
    let mut table = Table::new("", &["recorded a second", "in flight / latency", "ratio", "MiB a worker"]);
    table.row([
        show(rates.clone(), 0),
        format!("{ceiling:.0}"),
        show(rates.iter().map(|rate| rate / ceiling), 2),
        show(memory, 1),
    ]);
    Ok(Section {
        name: "slow-provider",
        how: format!(
            "{} notifications to 16 addresses that answer after {} ms; {WORKERS} workers with {IN_FLIGHT} calls in flight each.",
            bench.count,
            ANSWER_AFTER.as_millis()
        ),
        tables: vec![table],
        plots: Vec::new(),
        data: json!({"ceiling": ceiling, "rounds": rounds.rounds}),
    })
}
