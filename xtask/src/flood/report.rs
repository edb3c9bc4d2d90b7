use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    flood::{FloodArguments, backlog::Lane, samples::Samples},
    stage::{DATABASE, Stage},
};

/// What came of a flood.
pub(crate) struct Report {
    requests: u64,
    filled_in: Duration,
    lanes: Vec<Lane>,
    samples: Samples,
    problems: Vec<String>,
}

impl Report {
    /// Asks the database what came of everything, and judges.
    pub(crate) fn make(
        stage: &Stage,
        arguments: &FloodArguments,
        lanes: Vec<Lane>,
        samples: Samples,
        filled_in: Duration,
    ) -> Result<Self> {
        let mut problems = Vec::new();
        let count = |sql: &str| -> Result<u64> { Ok(stage.servers.postgres.ask(DATABASE, sql)?.parse()?) };
        let mut expect = |what: String, is: u64, wanted: u64| {
            if is != wanted {
                problems.push(format!("{what}: {is}, not {wanted}"));
            }
        };
        let accepted = "SELECT count(*) FROM request WHERE source <> 'flood' AND outcome = 'accepted'";
        expect("requests accepted".to_owned(), count(accepted)?, arguments.requests);
        let left = samples.all.last().map_or(arguments.requests, |sample| sample.waiting_in_sqs);
        expect("requests left in SQS".to_owned(), left, 0);
        for lane in &lanes {
            let of_flood = format!(
                "FROM notification n JOIN notification_content c ON c.notification_id = n.id
                 JOIN request r ON r.id = c.request_id
                 WHERE r.source = 'flood' AND n.channel = '{}' AND n.state",
                lane.channel
            );
            let name = lane.channel;
            let delivered = count(&format!("SELECT count(*) {of_flood} = 'delivered'"))?;
            expect(format!("{name} delivered"), delivered, lane.due - lane.hanging);
            expect(format!("{name} failed"), count(&format!("SELECT count(*) {of_flood} = 'failed'"))?, lane.hanging);
        }
        let due: u64 = lanes.iter().map(|lane| lane.due).sum();
        expect("calls".to_owned(), count("SELECT count(*) FROM attempt")?, due);
        for (n, lane) in lanes.iter().enumerate() {
            let starved = samples.starved(n, lane.hanging);
            if let Some(first) = starved.first() {
                let times = starved.len();
                problems.push(format!("{} starved {times} times, first at {} s", lane.channel, first.as_secs()));
            }
        }
        for (label, (peak, _)) in samples.memory.iter().filter(|(label, _)| *label != "simulator") {
            if *peak > arguments.memory_mb * 1024 {
                problems.push(format!("{label} needed {} MB", peak / 1024));
            }
        }
        Ok(Self { requests: arguments.requests, filled_in, lanes, samples, problems })
    }

    /// What does not hold.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// For machines.
    pub(crate) fn to_json(&self) -> Value {
        let memory = self
            .samples
            .memory
            .iter()
            .map(|(label, (peak, last))| (label.clone(), json!({"peak_kib": peak, "last_kib": last})));
        let channels = self.lanes.iter().enumerate().map(|(n, lane)| {
            let delivered: Vec<_> = self.samples.all.iter().map(|sample| sample.delivered[n]).collect();
            let fields = json!({
                "due": lane.due, "hanging": lane.hanging, "delay_ms": lane.delay_ms, "in_flight": lane.in_flight,
                "delivered": delivered, "done_after_s": self.samples.done_at(n).map(|at| at.as_secs()),
            });
            (lane.channel.to_owned(), fields)
        });
        json!({
            "requests": self.requests,
            "filled_in_s": self.filled_in.as_secs(),
            "drained_after_s": self.samples.all.last().map(|sample| sample.at.as_secs()),
            "sampled_at_s": self.samples.all.iter().map(|sample| sample.at.as_secs()).collect::<Vec<_>>(),
            "waiting_in_sqs": self.samples.all.iter().map(|sample| sample.waiting_in_sqs).collect::<Vec<_>>(),
            "memory": serde_json::Map::from_iter(memory),
            "channels": serde_json::Map::from_iter(channels),
            "problems": self.problems,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_memory(f)?;
        self.fmt_channels(f)?;
        let drained = self.samples.all.last().map_or(0, |sample| sample.at.as_secs());
        let filled = self.filled_in.as_secs();
        writeln!(f, "{} requests filled into SQS in {filled} s; all drained after {drained} s.", self.requests)?;
        for problem in &self.problems {
            writeln!(f, "NOT KEPT: {problem}")?;
        }
        if self.problems.is_empty() {
            writeln!(f, "Everything was delivered once, within bounds, and no channel starved.")?;
        }
        Ok(())
    }
}

impl Report {
    /// Of several copies of a program, the one that needed most.
    fn fmt_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut programs: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
        for (label, (peak, last)) in &self.samples.memory {
            let program = label.split(' ').next().unwrap_or(label);
            let (copies, most, most_last) = programs.entry(program).or_default();
            *copies += 1;
            *most = (*most).max(*peak);
            *most_last = (*most_last).max(*last);
        }
        writeln!(f, "\n{:<18} {:>6} {:>10} {:>10}", "program", "copies", "peak MB", "at the end")?;
        for (program, (copies, peak, last)) in programs {
            let (peak, last) = (peak as f64 / 1024.0, last as f64 / 1024.0);
            writeln!(f, "{program:<18} {copies:>6} {peak:>10.1} {last:>10.1}")?;
        }
        writeln!(f, "The simulator is no part of Tocsin; it forgets what arrived at each sample.\n")
    }

    fn fmt_channels(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.samples.last_with_all(&self.lanes);
        writeln!(
            f,
            "{:<8} {:>8} {:>8} {:>9} {:>11} {:>10} {:>9}",
            "channel", "due", "hanging", "done in s", "most in a s", "in a s", "share"
        )?;
        for (n, lane) in self.lanes.iter().enumerate() {
            let done = self.samples.done_at(n).map_or("never".to_owned(), |at| at.as_secs().to_string());
            let most = lane.most_a_second().map_or("-".to_owned(), |most| most.to_string());
            let total = all.map_or(0, |sample| sample.delivered.iter().sum::<u64>());
            let (rate, share) = match all.filter(|_| total > 0) {
                Some(all) => {
                    let delivered = all.delivered[n] as f64;
                    let rate = delivered / all.at.as_secs_f64();
                    (format!("{rate:.0}"), format!("{:.0} %", 100.0 * delivered / total as f64))
                }
                None => ("-".to_owned(), "-".to_owned()),
            };
            writeln!(
                f,
                "{:<8} {:>8} {:>8} {done:>9} {most:>11} {rate:>10} {share:>9}",
                lane.channel, lane.due, lane.hanging
            )?;
        }
        let until = all.map_or("it was over too soon to be seen".to_owned(), |all| format!("{} s", all.at.as_secs()));
        writeln!(f, "Deliveries in a second, and shares, as long as each channel had a backlog: {until}.\n")
    }
}
