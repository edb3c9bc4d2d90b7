use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};

/// Ticks of `/proc/*/stat` a second: `sysconf(_SC_CLK_TCK)`, which is 100 wherever Linux runs today.
const TICKS_A_SECOND: f64 = 100.0;

/// What a process and all that it started have used so far, in seconds of CPU.
pub(crate) type Cpu = BTreeMap<String, f64>;

/// The machine at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Seconds of CPU used by each part.
    pub(crate) parts: Cpu,
    /// Seconds of CPU used by anybody, and seconds that there were, of all CPUs together.
    busy: f64,
    total: f64,
}

/// What happened between two moments.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    /// Seconds of CPU by part.
    pub(crate) parts: Cpu,
    /// What others used, as a part of all that there was.
    pub(crate) other_load: f64,
}

struct Process {
    parent: i32,
    ticks: u64,
}

/// Looks at the parts, each given by its first process.
pub(crate) fn sample(parts: &[(String, i32)]) -> Result<Sample> {
    let processes = processes()?;
    let mut used = Cpu::new();
    for (name, root) in parts {
        let ticks: u64 =
            processes.iter().filter(|(pid, _)| descends(&processes, **pid, *root)).map(|(_, p)| p.ticks).sum();
        *used.entry(name.clone()).or_default() += ticks as f64 / TICKS_A_SECOND;
    }
    // What this program does itself is neither a part's nor somebody else's.
    let own = processes.get(&i32::try_from(std::process::id())?).map_or(0, |own| own.ticks);
    used.insert("bench".to_owned(), own as f64 / TICKS_A_SECOND);
    // Not by what /proc/stat says of idle time: that is guessed from what runs at each tick of the clock, and work that begins
    // with a timer, as all that is due does, runs just then.
    let busy: u64 = processes.values().map(|process| process.ticks).sum();
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    // The eighth is what other machines on the same host took from this one.
    let states: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|number| number.parse().ok()).collect();
    let stolen = states.get(7).copied().unwrap_or_default();
    let total: u64 = states.iter().sum();
    Ok(Sample { parts: used, busy: (busy + stolen) as f64 / TICKS_A_SECOND, total: total as f64 / TICKS_A_SECOND })
}

impl Sample {
    /// What happened since an earlier moment. A part that was not there then began at nothing.
    pub(crate) fn since(&self, earlier: &Self) -> Usage {
        let used = |(name, now): (&String, &f64)| {
            (name.clone(), (now - earlier.parts.get(name).copied().unwrap_or_default()).max(0.0))
        };
        let mut parts: Cpu = self.parts.iter().map(used).collect();
        let ours: f64 = parts.values().sum();
        parts.remove("bench");
        let total = (self.total - earlier.total).max(f64::EPSILON);
        Usage { parts, other_load: ((self.busy - earlier.busy - ours) / total).max(0.0) }
    }
}

/// The most memory that a process has held so far, in bytes.
pub(crate) fn peak_memory(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

fn processes() -> Result<BTreeMap<i32, Process>> {
    let mut processes = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // It may have ended meanwhile; its parent then has its time.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |n: usize| fields.get(n).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
        let parent = fields.get(1).and_then(|field| field.parse().ok()).unwrap_or_default();
        processes.insert(pid, Process { parent, ticks: (11..=14).map(field).sum() });
    }
    Ok(processes)
}

fn descends(processes: &BTreeMap<i32, Process>, mut pid: i32, root: i32) -> bool {
    loop {
        if pid == root {
            return true;
        }
        match processes.get(&pid) {
            Some(process) if process.parent > 1 => pid = process.parent,
            Some(_) | None => return false,
        }
    }
}
