use std::{collections::BTreeMap, fs, thread::sleep, time::Duration};

use anyhow::Result;
use serde_json::json;

use super::Bench;
use crate::{
    contender::Contender,
    report::{Section, Table},
    stage::{Worker, stop},
    tocsin::{DATABASE, Tocsin},
};

/// What all of it costs while nothing is due.
pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let (stage, tocsin) = (bench.stage, Tocsin::default());
    tocsin.prepare(stage)?;
    tocsin.reset(stage)?;
    let seconds = if bench.quick { 5 } else { 60 };
    let mut workers = tocsin.start(stage)?;
    workers.push(tocsin.start_bridge(stage, "idle.fifo")?);
    // Each statement with the program that sent it, as long as this lasts.
    log_statements(bench, true)?;
    sleep(Duration::from_secs(2));
    let log = stage.dir().join("postgres.log");
    let begin = fs::metadata(&log)?.len();
    let before = stage.sample(&workers)?;
    sleep(Duration::from_secs(seconds));
    let usage = stage.sample(&workers)?.since(&before);
    let logged = fs::read(&log)?.split_off(usize::try_from(begin)?);
    log_statements(bench, false)?;
    let statements = statements(&String::from_utf8_lossy(&logged), &workers);
    stop(workers)?;

    let mut table = Table::new("", &["", "part of a core", "statements a second"]);
    for (part, used) in &usage.parts {
        let count = statements.iter().filter(|((program, _), _)| part.starts_with(program.as_str()));
        let count: usize = count.map(|(_, count)| count).sum();
        let percent = used / seconds as f64 * 100.0;
        table.row([part.clone(), format!("{percent:.2} %"), format!("{:.2}", count as f64 / seconds as f64)]);
    }
    let mut busiest: Vec<_> = statements.iter().collect();
    busiest.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut queries = Table::new("The statements sent most often", &["program", "statement", "a second"]);
    for ((program, statement), count) in busiest.iter().take(6) {
        let shown: String = statement.chars().take(70).collect();
        queries.row([program.clone(), format!("`{shown}`"), format!("{:.2}", **count as f64 / seconds as f64)]);
    }
    let statements: Vec<_> =
        busiest.iter().map(|((p, s), count)| json!({"program": p, "statement": s, "count": count})).collect();
    Ok(Section {
        name: "idle",
        how: format!(
            "Bridge, activator and a notifier for {seconds} s with nothing due; {:.1}% other load. Statements as Postgres \
             logs them.",
            usage.other_load * 100.0
        ),
        tables: vec![table, queries],
        plots: Vec::new(),
        data: json!({"seconds": seconds, "cpu_seconds": usage.parts, "statements": statements}),
    })
}

fn log_statements(bench: &Bench, on: bool) -> Result<()> {
    let ask = |sql: &str| bench.stage.postgres.ask("postgres", sql).map(drop);
    if on {
        ask("ALTER SYSTEM SET log_line_prefix = '<%a> '")?;
        ask(&format!("ALTER DATABASE {DATABASE} SET log_min_duration_statement = 0"))?;
        ask("ALTER SYSTEM SET log_min_duration_statement = 0")?;
    } else {
        ask("ALTER SYSTEM RESET log_line_prefix")?;
        ask(&format!("ALTER DATABASE {DATABASE} RESET log_min_duration_statement"))?;
        ask("ALTER SYSTEM RESET log_min_duration_statement")?;
    }
    ask("SELECT pg_reload_conf()")
}

/// How often each program executed each statement.
fn statements(log: &str, workers: &[Worker]) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        // A connection is called `program/version instance`.
        let Some((name, rest)) = line.strip_prefix('<').and_then(|line| line.split_once("> ")) else { continue };
        let program = name.split('/').next().unwrap_or_default();
        let Some((_, statement)) = rest.split_once("execute ").and_then(|(_, rest)| rest.split_once(": ")) else {
            continue;
        };
        if workers.iter().any(|worker| worker.name.starts_with(program)) {
            let mut words: Vec<&str> = statement.split_whitespace().collect();
            while let Some(continued) = lines.next_if(|line| line.starts_with('\t')) {
                words.extend(continued.split_whitespace());
            }
            *counts.entry((program.to_owned(), words.join(" "))).or_default() += 1;
        }
    }
    counts
}
