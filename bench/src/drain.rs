use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::{
    contender::{Contender, Work},
    machine::peak_memory,
    stage::{Stage, micros_now, stop, wait_for, wait_until},
};

/// One contender's run over work that fell due at one moment, checked: everything arrived once or more, and every
/// outcome was recorded.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Drain {
    pub(crate) contender: String,
    pub(crate) count: u64,
    /// From the moment of being due until every outcome was recorded.
    pub(crate) recorded_ms: f64,
    /// Notifications a second, by that.
    pub(crate) rate: f64,
    /// How fast the work could be handed over, a second.
    pub(crate) enqueue_rate: f64,
    /// CPU microseconds a notification, by process; without the sink, which is `sink_cpu_us`.
    pub(crate) cpu_us: BTreeMap<String, f64>,
    pub(crate) total_cpu_us: f64,
    /// The receiver's, a request: the same work for everybody, and so a clock of how fast the machine was.
    pub(crate) sink_cpu_us: f64,
    pub(crate) other_load: f64,
    /// More arrivals than notifications.
    pub(crate) repeated: u64,
    pub(crate) early: u64,
    /// Bytes, by process, at the peak.
    pub(crate) memory: BTreeMap<String, u64>,
}

/// How a run is set up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setup {
    pub(crate) count: u64,
    /// Keep what an earlier run has put there: rows that are due in years.
    pub(crate) keep: bool,
}

pub(crate) fn drain(stage: &Stage, contender: &dyn Contender, setup: Setup) -> Result<Drain> {
    let count = setup.count;
    if !setup.keep {
        contender.reset(stage)?;
    }
    stage.sink("reset")?;
    let workers = contender.start(stage)?;
    let began = micros_now();
    let enqueue_time = u64::try_from(contender.enqueue_time(count).as_micros())?;
    let t0 = (began + enqueue_time).next_multiple_of(1_000_000);
    let work = Work { count, t0, step: 0, ahead: 0 };
    contender.enqueue(stage, work)?;
    let enqueued = micros_now();
    ensure!(enqueued < t0, "{}: handing over {count} took {} ms", contender.name(), (enqueued - began) / 1_000);
    stage.postgres.ask("postgres", "CHECKPOINT")?;
    wait_until(t0 - 100_000);
    let before = stage.sample(&workers)?;
    let limit = Duration::from_secs(60) + Duration::from_micros(2_000 * count);
    wait_for("every notification to arrive", limit, || Ok(stage.sink("count")?.parse::<u64>()? >= count))?;
    let mut recorded_at = micros_now();
    wait_for("every outcome to be recorded", Duration::from_secs(120), || {
        recorded_at = micros_now();
        contender.is_recorded(stage)
    })?;
    let usage = stage.sample(&workers)?.since(&before);
    let arrivals = stage.arrivals(t0)?;
    let memory = workers.iter().map(|worker| Ok((worker.name.clone(), peak_memory(worker.process.pid())?)));
    let memory = memory.collect::<Result<_>>()?;
    stop(workers)?;
    contender.check(stage, work, &arrivals)?;
    let recorded_ms = (recorded_at - t0) as f64 / 1e3;
    let a_notification = |seconds: f64| seconds * 1e6 / count as f64;
    let mut cpu_us: BTreeMap<_, _> =
        usage.parts.iter().map(|(name, seconds)| (name.clone(), a_notification(*seconds))).collect();
    let sink_cpu_us = cpu_us.remove("sink").unwrap_or_default();
    Ok(Drain {
        contender: contender.name().to_owned(),
        count,
        recorded_ms,
        rate: count as f64 / recorded_ms * 1e3,
        enqueue_rate: count as f64 / ((enqueued - began) as f64 / 1e6),
        total_cpu_us: cpu_us.values().sum(),
        cpu_us,
        sink_cpu_us,
        other_load: usage.other_load,
        repeated: arrivals["count"].as_u64().unwrap_or_default() - count,
        early: arrivals["early"].as_u64().unwrap_or_default(),
        memory,
    })
}
