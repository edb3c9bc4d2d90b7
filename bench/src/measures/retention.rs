use anyhow::{Result, ensure};
use serde_json::json;

use super::Bench;
use crate::{
    contender::Contender,
    drain::{Setup, drain},
    figures::show,
    report::{Section, Table},
    rounds::Rounds,
    tocsin::{DATABASE, Tocsin},
};

/// More than can be dropped while a drain lasts.
const OLD_ROWS: u64 = 500_000;
const FEW_OLD_ROWS: u64 = 100_000;

/// The drain while the activator drops what is over and old, in turn with one while there is nothing to drop.
pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let (without, beside) = (Tocsin::default(), Tocsin { label: "tocsin, dropping", ..Tocsin::default() });
    let old_rows = if bench.quick { FEW_OLD_ROWS } else { OLD_ROWS };
    without.prepare(bench.stage)?;
    let contenders: [&dyn Contender; 2] = [&without, &beside];
    let rounds = Rounds::run(bench, bench.rounds, &contenders, |contender| {
        let drops = contender.name() == beside.label;
        if drops {
            beside.reset(bench.stage)?;
            beside.add_old(bench.stage, old_rows)?;
        }
        let run = drain(bench.stage, contender, Setup { count: bench.count, keep: drops })?;
        let left = bench.stage.number(DATABASE, "SELECT count(*) FROM process WHERE name LIKE 'old-%'")?;
        ensure!(!drops || left > 0, "everything old was dropped before the end: no figure");
        Ok(run)
    })?;
    let rates = |name: &str| -> Vec<f64> {
        rounds.rounds.iter().flatten().filter(|run| run.contender == name).map(|run| run.rate).collect()
    };
    let mut table = Table::new("", &["recorded a second while dropping", "with nothing to drop", "ratio"]);
    let ratios = rounds.ratios(beside.label, without.label, |run| run.rate);
    table.row([show(rates(beside.label), 0), show(rates(without.label), 0), show(ratios, 2)]);
    Ok(Section {
        name: "retention",
        how: format!(
            "The drain of {} while the activator drops {old_rows} notifications that were over 100 days ago, with their \
             contents and attempts.",
            bench.count
        ),
        tables: vec![table],
        plots: Vec::new(),
        data: json!({"old_rows": old_rows, "rounds": rounds.rounds}),
    })
}
