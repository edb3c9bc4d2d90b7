use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::json;

use super::Bench;
use crate::{
    contender::{Contender, Work},
    figures::{percentile, show},
    report::{Section, Table},
    stage::{micros_now, stop, wait_for, wait_until},
    tocsin::{DATABASE, Tocsin},
};

/// Every so manyth process is stopped.
const EVERY: u64 = 20;

/// Stops in the middle of a full drain: how long after a stop's commit a call still begins.
pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let (stage, tocsin) = (bench.stage, Tocsin::default());
    tocsin.prepare(stage)?;
    let mut after = Vec::new();
    let mut stops = 0;
    for round in 0..bench.rounds {
        bench.progress.say(&format!("round {} of {}", round + 1, bench.rounds));
        tocsin.reset(stage)?;
        stage.sink("reset")?;
        let workers = tocsin.start(stage)?;
        let lead = u64::try_from(tocsin.enqueue_time(bench.count).as_micros())?;
        let t0 = (micros_now() + lead).next_multiple_of(1_000_000);
        tocsin.enqueue(stage, Work { count: bench.count, t0, step: 0, ahead: 0 })?;
        wait_until(t0);
        let stopped: Vec<u64> = (0..bench.count).rev().step_by(usize::try_from(EVERY)?).collect();
        thread::scope(|scope| {
            let stopping = scope.spawn(|| tocsin.stop_processes(stage, &stopped));
            let unfinished = || tocsin.is_recorded(stage);
            wait_for("everything to come to its end", Duration::from_secs(300), unfinished)?;
            stopping.join().expect("it does not panic")
        })?;
        let begin = Instant::now();
        let commits = commits(bench)?;
        let arrivals = arrivals(bench)?;
        ensure!(begin.elapsed() < Duration::from_secs(60), "reading what happened took too long");
        stop(workers)?;
        stops += commits.len();
        for (id, committed) in commits {
            // One that never rang, or whose call had begun before, rang nobody after the stop.
            let late = arrivals.get(&id).map_or(0, |arrived| arrived.saturating_sub(committed));
            after.push(late as f64 / 1_000.0);
        }
    }
    after.sort_unstable_by(f64::total_cmp);
    let late = after.iter().filter(|millis| **millis > 0.0).count();
    let mut table = Table::new(
        "",
        &["stops that had an effect or came too late", "followed by an arrival", "p50 ms", "p99 ms", "max ms"],
    );
    let of = |hundredths| show(percentile(&after, hundredths), 1);
    table.row([stops.to_string(), late.to_string(), of(50), of(99), of(100)]);
    Ok(Section {
        name: "stop",
        how: format!(
            "While {} are drained, every {EVERY}th process is stopped, the last in line first. From the stop's commit, by \
             Postgres's own record, until the receiver has read the last request of its process; none counts as 0.",
            bench.count
        ),
        tables: vec![table],
        plots: Vec::new(),
        data: json!({"after_ms": after}),
    })
}

/// The notifications whose process was stopped, and when that was committed, in microseconds since 1970.
fn commits(bench: &Bench) -> Result<HashMap<u64, u64>> {
    let rows = bench.stage.postgres.ask(
        DATABASE,
        "SELECT substr(process_name, 7) || ' ' || (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1e6)::bigint
         FROM request WHERE action = 'stop'",
    )?;
    Ok(rows.lines().filter_map(pair).collect())
}

/// When the last request of each notification arrived.
fn arrivals(bench: &Bench) -> Result<HashMap<u64, u64>> {
    let mut last = HashMap::new();
    for (id, at) in bench.stage.sink("times")?.lines().filter_map(pair) {
        let newest: &mut u64 = last.entry(id).or_default();
        *newest = at.max(*newest);
    }
    Ok(last)
}

fn pair(line: &str) -> Option<(u64, u64)> {
    let (id, number) = line.split_once(' ')?;
    Some((id.parse().ok()?, number.parse().ok()?))
}
