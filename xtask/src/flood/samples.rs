use std::{collections::BTreeMap, fmt, fs, time::Duration};

use anyhow::{Context, Result};

use crate::{
    flood::backlog::{LOOK, Lane, Queue, depth, forget_arrivals},
    stage::Stage,
};

/// What was seen at one time.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    /// Delivered by each channel so far, in the lanes' order.
    pub(crate) delivered: Vec<u64>,
    /// Neither delivered, failed nor cancelled so far.
    pub(crate) backlog: Vec<u64>,
    pub(crate) waiting_in_sqs: u64,
    pub(crate) requests_taken: u64,
    channels: Vec<&'static str>,
    largest: (String, u64),
}

impl Sample {
    pub(crate) fn is_drained(&self, requests: u64) -> bool {
        self.waiting_in_sqs == 0 && self.requests_taken >= requests && self.backlog.iter().all(|left| *left == 0)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5} s  {} wait in SQS;", self.at.as_secs(), self.waiting_in_sqs)?;
        for (channel, delivered) in self.channels.iter().zip(&self.delivered) {
            write!(f, " {channel} {delivered}")?;
        }
        write!(f, "; most memory: {} {} MB", self.largest.0, self.largest.1 / 1024)
    }
}

/// All that was seen.
#[derive(Default)]
pub(crate) struct Samples {
    pub(crate) all: Vec<Sample>,
    /// The most memory that each program had, in KiB, and how much it had when it was last looked at.
    pub(crate) memory: BTreeMap<String, (u64, u64)>,
    /// How many requests each bridge has taken, those among them that have ended.
    pub(crate) taken: BTreeMap<String, u64>,
}

impl Samples {
    /// Looks at every program, and at the queues when they should be empty.
    pub(crate) fn take(
        &mut self,
        stage: &Stage,
        lanes: &[Lane],
        (requests, queues): (u64, &[Queue]),
        at: Duration,
    ) -> Result<Sample> {
        let agent = ureq::Agent::config_builder().timeout_global(Some(LOOK)).build().new_agent();
        let mut metrics = BTreeMap::new();
        for (label, pid, address) in stage.running() {
            let status =
                fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("{label} has ended"))?;
            let peak = kib(&status, "VmHWM:").with_context(|| format!("{label} has ended"))?;
            self.memory.insert(label.to_owned(), (peak, kib(&status, "VmRSS:").unwrap_or_default()));
            if let Some(address) = address {
                let text = agent.get(&address).call().and_then(|mut page| page.body_mut().read_to_string());
                if label.starts_with("bridge") {
                    // One that has only just been started may not answer yet.
                    let taken = text.map(|text| metric(&text, "tocsin_requests_total", "")).unwrap_or_default();
                    self.taken.insert(label.to_owned(), taken);
                } else {
                    metrics.insert(label.to_owned(), text?);
                }
            }
        }
        let requests_taken = self.taken.values().sum();
        let waiting_in_sqs = waiting(stage, requests.saturating_sub(requests_taken), queues)?;
        let of_lane = |lane: &Lane, label: &str| {
            let text = metrics.get(&format!("notifier-{}", lane.channel)).map_or("", String::as_str);
            metric(text, "tocsin_notifications_total", label)
        };
        let finished: Vec<_> = lanes
            .iter()
            .map(|lane| ["delivered", "failed", "cancelled"].iter().map(|state| of_lane(lane, state)).sum::<u64>())
            .collect();
        let sample = Sample {
            at,
            delivered: lanes.iter().map(|lane| of_lane(lane, "delivered")).collect(),
            backlog: lanes.iter().zip(&finished).map(|(lane, finished)| lane.due.saturating_sub(*finished)).collect(),
            waiting_in_sqs,
            requests_taken,
            channels: lanes.iter().map(|lane| lane.channel).collect(),
            largest: self.largest(),
        };
        forget_arrivals(stage)?;
        self.all.push(sample.clone());
        Ok(sample)
    }

    /// Of Tocsin's own programs.
    fn largest(&self) -> (String, u64) {
        let own = self.memory.iter().filter(|(label, _)| *label != "simulator");
        own.max_by_key(|(_, (peak, _))| *peak).map(|(label, (peak, _))| (label.clone(), *peak)).unwrap_or_default()
    }

    /// The samples at which a channel that had, and still has, something to deliver besides what hangs had delivered
    /// nothing since two samples before.
    pub(crate) fn starved(&self, n: usize, hanging: u64) -> Vec<Duration> {
        let still = |three: &&[Sample]| three[2].backlog[n] > hanging && three[2].delivered[n] == three[0].delivered[n];
        self.all.windows(3).filter(still).map(|three| three[2].at).collect()
    }

    /// When a channel was done.
    pub(crate) fn done_at(&self, n: usize) -> Option<Duration> {
        self.all.iter().find(|sample| sample.backlog[n] == 0).map(|sample| sample.at)
    }

    /// The last sample at which each channel still had something to deliver besides what hangs.
    pub(crate) fn last_with_all(&self, lanes: &[Lane]) -> Option<&Sample> {
        let busy = |sample: &&Sample| sample.backlog.iter().zip(lanes).all(|(left, lane)| *left > lane.hanging);
        self.all.iter().rev().find(busy)
    }
}

/// How many requests wait in SQS. The emulator has enough to do while they are many, and is asked only in the end.
fn waiting(stage: &Stage, not_taken: u64, queues: &[Queue]) -> Result<u64> {
    if not_taken > 0 {
        return Ok(not_taken);
    }
    let endpoint = stage.servers.ministack.url();
    queues.iter().map(|queue| depth(&endpoint, queue)).sum()
}

fn kib(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The sum of a metric over all labels that hold this one.
fn metric(text: &str, name: &str, label: &str) -> u64 {
    let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: u64, delivered: u64, backlog: u64) -> Sample {
        Sample {
            at: Duration::from_secs(seconds),
            delivered: vec![delivered],
            backlog: vec![backlog],
            waiting_in_sqs: 0,
            requests_taken: 0,
            channels: vec!["phone"],
            largest: (String::new(), 0),
        }
    }

    #[test]
    fn who_delivers_nothing_while_something_waits_is_starved() {
        let of = |delivered: [u64; 4], total: u64| {
            let all = delivered.iter().zip(1..).map(|(n, at)| sample(at, *n, total - n));
            Samples { all: all.collect(), ..Samples::default() }
        };
        assert!(of([1, 1, 2, 2], 10).starved(0, 0).is_empty(), "one sample without is not enough");
        assert_eq!(of([1, 1, 1, 2], 10).starved(0, 0), [Duration::from_secs(3)]);
        assert!(of([10, 10, 10, 10], 10).starved(0, 0).is_empty(), "there is nothing more");
        assert!(of([8, 8, 8, 8], 10).starved(0, 2).is_empty(), "what is left hangs");
        assert_eq!(of([8, 9, 10, 10], 10).done_at(0), Some(Duration::from_secs(3)));
    }

    #[test]
    fn sums_of_metrics() {
        let text = "# TYPE a counter\na{channel=\"x\",state=\"delivered\"} 3\na{state=\"failed\"} 4\nab 5\n";
        assert_eq!((metric(text, "a", ""), metric(text, "a", "delivered"), metric(text, "ab", "")), (7, 3, 5));
    }
}
