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

const NOTIFIERS: [(usize, &str); 3] =
    [(1, "tocsin, 1 notifier"), (2, "tocsin, 2 notifiers"), (4, "tocsin, 4 notifiers")];

/// More processes, and more work at once.
pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let notifiers = NOTIFIERS.map(|(notifiers, label)| Tocsin { notifiers, label, ..Tocsin::default() });
    let activators =
        Tocsin { activators: 2, notifiers: 2, label: "tocsin, 2 notifiers, 2 activators", ..Tocsin::default() };
    let all: Vec<&dyn Contender> =
        notifiers.iter().chain([&activators]).map(|contender| contender as &dyn Contender).collect();
    activators.prepare(bench.stage)?;
    let rounds = Rounds::run(bench, bench.rounds, &all, |contender| {
        drain(bench.stage, contender, Setup { count: bench.count, keep: false })
    })?;
    let rates = |name: &str| -> Vec<f64> {
        rounds.rounds.iter().flatten().filter(|run| run.contender == name).map(|run| run.rate).collect()
    };
    let mut table = Table::new("", &["", "recorded a second", "to 1 notifier", "CPU us each, to 1 notifier"]);
    for contender in &all {
        let ratio = |figure| show(rounds.ratios(contender.name(), NOTIFIERS[0].1, figure), 2);
        let name = contender.name();
        table.row([name.to_owned(), show(rates(name), 0), ratio(|run| run.rate), ratio(|run| run.total_cpu_us)]);
    }
    let copies = NOTIFIERS.iter().map(|(copies, name)| {
        let rates = rates(name);
        (*copies as f64, rates.iter().sum::<f64>() / rates.len().max(1) as f64)
    });

    let sizes: &[u64] = if bench.quick { &[1_000, 5_000] } else { &[1_000, 10_000, 100_000, 1_000_000] };
    let mut by_size = Table::new("One drain of each size", &["due at once", "recorded a second"]);
    let mut points = Vec::new();
    let mut data = Vec::new();
    for size in sizes {
        bench.progress.say(&format!("{size} at once"));
        let run = drain(bench.stage, &Tocsin::default(), Setup { count: *size, keep: false })?;
        by_size.row([size.to_string(), format!("{:.0}", run.rate)]);
        points.push((*size as f64, run.rate));
        data.push(run);
    }
    Ok(Section {
        name: "scale",
        how: format!("The drain of {} with more processes, and drains of other sizes.", bench.count),
        tables: vec![table, by_size],
        plots: vec![
            Plot {
                file: "notifiers",
                title: "Drain by notifier processes",
                x: "processes",
                y: "recorded a second",
                lines: vec![("tocsin".to_owned(), copies.collect())],
                log_x: false,
            },
            Plot {
                file: "sizes",
                title: "Drain by size",
                x: "notifications due at once",
                y: "recorded a second",
                lines: vec![("tocsin".to_owned(), points)],
                log_x: true,
            },
        ],
        data: json!({"rounds": rounds.rounds, "sizes": data}),
    })
}
