use anyhow::Result;
use serde_json::json;

use super::Bench;
use crate::{
    contender::Contender,
    drain::{Setup, drain},
    figures::show,
    report::{Plot, Section, Table},
    rounds::Rounds,
    tocsin::Tocsin,
};

/// How many rows that are due in years lie beside the work.
const ROWS: [u64; 2] = [1_000_000, 10_000_000];
const FEW_ROWS: [u64; 2] = [10_000, 100_000];

/// The drain beside ever more rows whose time has not come. Ratios are to a drain without them in the same round.
pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let mut table = Table::new("", &["rows beside it", "recorded a second", "without, in the same round", "ratio"]);
    let mut points = Vec::new();
    let mut data = Vec::new();
    for rows in if bench.quick { FEW_ROWS } else { ROWS } {
        let (without, beside) =
            (Tocsin::default(), Tocsin { beside_rows: rows, label: "tocsin, backlog", ..Tocsin::default() });
        bench.progress.say(&format!("adding {rows} rows"));
        for contender in [&without, &beside] {
            contender.prepare(bench.stage)?;
        }
        beside.reset(bench.stage)?;
        beside.add_far_future(bench.stage, rows)?;
        // The largest once: adding the rows takes longer than all the rest.
        let count = if rows > 1_000_000 { 1 } else { bench.rounds };
        let contenders: [&dyn Contender; 2] = [&without, &beside];
        let rounds = Rounds::run(bench, count, &contenders, |contender| {
            let keep = contender.name() == beside.label;
            drain(bench.stage, contender, Setup { count: bench.count, keep })
        })?;
        let rates = |name: &str| {
            rounds
                .rounds
                .iter()
                .flatten()
                .filter(move |run| run.contender == name)
                .map(|run| run.rate)
                .collect::<Vec<_>>()
        };
        let ratios = rounds.ratios(beside.label, without.label, |run| run.rate);
        table.row([
            rows.to_string(),
            show(rates(beside.label), 0),
            show(rates(without.label), 0),
            show(ratios.clone(), 2),
        ]);
        points.extend(ratios.iter().map(|ratio| (rows as f64, *ratio)));
        data.push(json!({"rows": rows, "rounds": rounds.rounds}));
        bench.stage.postgres.ask("postgres", &format!("DROP DATABASE {}", beside.database()))?;
    }
    Ok(Section {
        name: "backlog",
        how: format!(
            "The drain of {} beside rows that are due in ten years, in turn with one without them.",
            bench.count
        ),
        tables: vec![table],
        plots: vec![Plot {
            file: "backlog",
            title: "Drain beside rows that are due in years",
            x: "rows",
            y: "ratio to a drain without",
            lines: vec![("tocsin".to_owned(), points)],
            log_x: true,
        }],
        data: json!(data),
    })
}
