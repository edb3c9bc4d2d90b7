//! Measures Tocsin beside what a user would pick instead: `cargo xtask bench --help`.

mod contender;
mod drain;
mod figures;
mod machine;
mod measures;
mod peer;
mod progress;
mod report;
mod rounds;
mod stage;
mod tocsin;

use std::{
    cell::Cell,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::{
    contender::Contender,
    measures::{Bench, MEASURES, Measure},
    peer::PEERS,
    progress::Progress,
    stage::Stage,
    tocsin::Tocsin,
};

/// Measures Tocsin beside what a user would pick instead, on this machine, with every guarantee on.
///
/// Private servers with durable settings are started for it, and stopped. Give it the machine for itself: rounds in
/// which others use more than 5% of it are dropped.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", version)]
struct Arguments {
    /// Measures to take, of: drain, backlog, punctuality, idle, intake, slow-provider, scale, stop, schedules,
    /// retention
    #[arg(value_name = "MEASURE")]
    measures: Vec<String>,

    /// Whom to measure beside, of: graphile_worker (Rust), graphile-worker (node), pg-boss, apalis, bullmq, celery
    #[arg(long, value_delimiter = ',', default_value = "graphile_worker,graphile-worker")]
    peers: Vec<String>,

    /// Interleaved rounds of each
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Notifications a drain
    #[arg(long, default_value_t = 100_000)]
    count: u64,

    /// One small round of everything, in about two minutes: to see that it works rather than to know
    #[arg(long)]
    quick: bool,

    /// Where results.json, results.md and the plots go
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    results: PathBuf,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.rounds, arguments.count) = (1, arguments.count.min(5_000));
    }
    let measures = chosen(&arguments.measures)?;
    let peers: Vec<&dyn Contender> = arguments
        .peers
        .iter()
        .map(|name| {
            let known = || PEERS.iter().map(Contender::name).collect::<Vec<_>>().join(", ");
            let peer = PEERS.iter().find(|peer| peer.name() == name);
            peer.map(|peer| peer as &dyn Contender).with_context(|| format!("--peers: {name} is none of {}", known()))
        })
        .collect::<Result<_>>()?;
    let began = Command::new("date").args(["--iso-8601=seconds"]).output().context("date")?;
    let began = String::from_utf8_lossy(&began.stdout).trim().to_owned();
    println!("starting Postgres and RabbitMQ in .dev/bench");
    let stage = Stage::set()?;
    Tocsin::default().prepare(&stage)?;
    if measures.iter().any(|measure| measure.has_peers) {
        for peer in &peers {
            println!("installing {}", peer.name());
            peer.prepare(&stage).with_context(|| format!("peer {}", peer.name()))?;
        }
    }
    let bench = Bench {
        stage: &stage,
        peers,
        rounds: arguments.rounds,
        count: arguments.count,
        quick: arguments.quick,
        progress: Progress::new(measures.len()),
        dropped: Cell::default(),
    };
    let mut sections = Vec::new();
    let mut failed = Vec::new();
    for measure in &measures {
        bench.progress.begin(measure.name);
        bench.dropped.set(0);
        match (measure.run)(&bench) {
            Ok(mut section) => {
                if bench.dropped.get() > 0 {
                    section.how.push_str(&format!(" Rounds dropped for other load: {}.", bench.dropped.get()));
                }
                bench.progress.print(&section.markdown());
                sections.push(section);
            }
            Err(error) => {
                bench.progress.print(&format!("{}: {error:#}", measure.name));
                failed.push(measure.name);
            }
        }
        bench.progress.end();
    }
    drop(bench);
    let options: Vec<_> = std::env::args().skip(1).collect();
    report::write(&arguments.results, &sections, &began, &options.join(" "))?;
    println!("written to {}", arguments.results.display());
    stage.strike();
    if failed.is_empty() { Ok(()) } else { bail!("without figures: {}", failed.join(", ")) }
}

fn chosen(names: &[String]) -> Result<Vec<&'static Measure>> {
    if names.is_empty() {
        return Ok(MEASURES.iter().collect());
    }
    let find = |name: &String| {
        let known = || MEASURES.iter().map(|measure| measure.name).collect::<Vec<_>>().join(", ");
        MEASURES.iter().find(|measure| measure.name == name).with_context(|| format!("{name} is none of {}", known()))
    };
    names.iter().map(find).collect()
}
