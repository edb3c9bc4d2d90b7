use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Bench;
use crate::{
    contender::{Contender, Work},
    figures::show,
    report::{Section, Table},
    stage::{micros_now, stop, wait_for, wait_until},
    tocsin::Tocsin,
};

/// A steady rate, for so long, handed over before all of it or each so many microseconds ahead.
struct Pace {
    name: &'static str,
    a_second: u64,
    seconds: u64,
    ahead: u64,
}

const PACES: [Pace; 3] = [
    Pace { name: "100 a second", a_second: 100, seconds: 60, ahead: 0 },
    Pace { name: "1000 a second", a_second: 1_000, seconds: 30, ahead: 0 },
    Pace { name: "100 a second, requested 200 ms before", a_second: 100, seconds: 60, ahead: 200_000 },
];

/// How late notifications arrive that are due one after the other.
pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let tocsin = Tocsin::default();
    let mut contenders: Vec<&dyn Contender> = vec![&tocsin];
    contenders.extend(bench.peers.iter().filter(|peer| ["graphile_worker", "graphile-worker"].contains(&peer.name())));
    let columns = ["", "", "late p50 ms", "p99 ms", "max ms", "cores", "of it", "early"];
    let mut table = Table::new("", &columns);
    let mut data = Vec::new();
    for pace in &PACES {
        let mut runs: Vec<(&str, Value)> = Vec::new();
        let mut failed = Vec::new();
        let (mut rounds, mut dropped) = (0, 0);
        while rounds < bench.rounds {
            let mut round = Vec::new();
            for contender in &contenders {
                let name = contender.name();
                bench.progress.say(&format!("{}: {name}", pace.name));
                match run(bench, *contender, pace) {
                    Ok(figures) => round.push((name, figures)),
                    // A peer that can't keep up takes nobody else's figures away.
                    Err(error) if name != tocsin.name() => {
                        let why = format!("{}: {name}: no figure: {error:#}", pace.name);
                        bench.progress.print(&why);
                        failed.push(why);
                    }
                    Err(error) => return Err(error),
                }
            }
            let loads = round.iter().map(|(name, run)| (*name, run["other_load"].as_f64().unwrap_or_default()));
            if bench.must_drop(loads) {
                dropped += 1;
                ensure!(dropped <= 2 * bench.rounds, "this machine is too busy to measure on");
                continue;
            }
            runs.extend(round);
            rounds += 1;
        }
        for contender in &contenders {
            let of = |field: &str| -> Vec<f64> {
                let own = runs.iter().filter(|(name, _)| *name == contender.name());
                own.filter_map(|(_, run)| run.pointer(field)?.as_f64()).collect()
            };
            let parts = runs.iter().find(|(name, _)| *name == contender.name()).map(|(_, run)| &run["cores_by_part"]);
            let parts = parts.and_then(Value::as_object).into_iter().flatten();
            let parts = parts.map(|(part, cores)| format!("{part} {:.2}", cores.as_f64().unwrap_or_default()));
            table.row([
                pace.name.to_owned(),
                contender.name().to_owned(),
                show(of("/late_ms/p50"), 1),
                show(of("/late_ms/p99"), 1),
                show(of("/late_ms/max"), 1),
                show(of("/cores"), 2),
                parts.collect::<Vec<_>>().join(", "),
                of("/early").iter().sum::<f64>().to_string(),
            ]);
        }
        data.push(json!({"pace": pace.name, "dropped": dropped, "failed": failed, "runs": runs}));
    }
    Ok(Section {
        name: "punctuality",
        how: "From the moment of being due until the receiver has read the request, at a steady rate. Cores are those \
              of servers and workers together while it lasts; the request's sender is not counted."
            .to_owned(),
        tables: vec![table],
        plots: Vec::new(),
        data: json!(data),
    })
}

fn run(bench: &Bench, contender: &dyn Contender, pace: &Pace) -> Result<Value> {
    let stage = bench.stage;
    let seconds = if bench.quick { 4 } else { pace.seconds };
    let count = pace.a_second * seconds;
    contender.reset(stage)?;
    stage.sink("reset")?;
    let workers = contender.start(stage)?;
    let lead = if pace.ahead > 0 { Duration::from_secs(3) } else { contender.enqueue_time(count) };
    let t0 = (micros_now() + u64::try_from(lead.as_micros())?).next_multiple_of(1_000_000);
    let work = Work { count, t0, step: 1_000_000 / pace.a_second, ahead: pace.ahead };
    let usage = thread::scope(|scope| {
        let enqueuing = scope.spawn(|| contender.enqueue(stage, work));
        wait_until(t0);
        let before = stage.sample(&workers)?;
        wait_until(t0 + seconds * 1_000_000);
        let usage = stage.sample(&workers)?.since(&before);
        enqueuing.join().expect("it does not panic")?;
        anyhow::Ok(usage)
    })?;
    wait_for("every notification to arrive", Duration::from_secs(60), || {
        Ok(stage.sink("count")?.parse::<u64>()? >= count)
    })?;
    wait_for("every outcome to be recorded", Duration::from_secs(60), || contender.is_recorded(stage))?;
    let mut arrivals = stage.arrivals(t0)?;
    stop(workers)?;
    contender.check(stage, work, &arrivals)?;
    let mut cores = usage.parts;
    cores.remove("sink");
    cores.values_mut().for_each(|used| *used /= seconds as f64);
    arrivals["cores"] = json!(cores.values().sum::<f64>());
    arrivals["cores_by_part"] = json!(cores);
    arrivals["other_load"] = json!(usage.other_load);
    Ok(arrivals)
}
