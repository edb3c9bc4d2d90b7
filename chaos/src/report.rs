use std::{collections::BTreeMap, fmt::Write, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use crate::{
    faults::{Fault, Kind},
    reconcile::Verdict,
};

/// So many findings are told in full.
const TOLD: usize = 20;

/// What came of a run.
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) cluster: bool,
    pub(crate) lasted: Duration,
    pub(crate) drained: Duration,
    pub(crate) verdict: Verdict,
    pub(crate) faults: Vec<Fault>,
    /// Programs that did not recover, or say themselves that something is wrong.
    pub(crate) problems: Vec<String>,
    pub(crate) logs: PathBuf,
}

impl Report {
    /// Whether everything was accounted for.
    pub(crate) fn passed(&self) -> bool {
        self.verdict.findings.is_empty() && self.problems.is_empty()
    }

    fn longest_recovery(&self) -> Option<&Fault> {
        self.faults.iter().max_by_key(|fault| fault.recovery)
    }

    fn faults_by_kind(&self) -> BTreeMap<Kind, usize> {
        let mut counts: BTreeMap<_, _> = Kind::ALL.into_iter().map(|kind| (kind, 0)).collect();
        self.faults.iter().for_each(|fault| *counts.entry(fault.kind).or_default() += 1);
        counts
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.rows() {
            // A String takes all that is written to it.
            writeln!(text, "  {name:<34} {value}").unwrap_or_default();
        }
        for finding in self.verdict.findings.iter().take(TOLD) {
            writeln!(text, "\n{finding}").unwrap_or_default();
        }
        if self.verdict.findings.len() > TOLD {
            writeln!(text, "\n… and {} findings more", self.verdict.findings.len() - TOLD).unwrap_or_default();
        }
        for problem in &self.problems {
            writeln!(text, "\n{problem}").unwrap_or_default();
        }
        let verdict = match self.passed() {
            true => "PASSED: every notification is accounted for".to_owned(),
            false => format!(
                "FAILED: {} findings, {} problems of programs; logs in {}; again with --seed {}",
                self.verdict.findings.len(),
                self.problems.len(),
                self.logs.display(),
                self.seed
            ),
        };
        format!("\n{text}\n{verdict}\n")
    }

    fn rows(&self) -> Vec<(String, String)> {
        let tally = &self.verdict.tally;
        let row = |name: &str, value: usize| (name.to_owned(), value.to_string());
        let mut rows = vec![
            ("seed".to_owned(), self.seed.to_string()),
            ("RabbitMQ nodes".to_owned(), if self.cluster { "3" } else { "1" }.to_owned()),
            ("lasted, draining included".to_owned(), format!("{:.0} s", self.lasted.as_secs_f64())),
            ("drained after".to_owned(), format!("{:.0} s", self.drained.as_secs_f64())),
            row("requests", tally.requests),
            row("  of them occurrences of schedules", tally.occurrences),
            row("  of them rejected, as they must be", tally.rejected),
            row("  of them ignored", tally.ignored),
            row("notifications accepted", tally.accepted),
            row("  delivered", tally.delivered),
            row("  failed", tally.failed),
            row("  cancelled", tally.cancelled),
            row("  pending (must be 0)", tally.pending),
            row("  lost (must be 0)", tally.lost),
            row("calls", tally.calls),
            row("  after a stop (must be 0)", tally.calls_after_stop),
            row("  early (must be 0)", tally.early_calls),
            row("  extra", tally.extra_calls),
            row("    of them marked unknown (all)", tally.extra_calls_marked),
            row("attempts marked unknown", tally.unknown),
            row("dead letters", tally.dead_letters),
            row("faults", self.faults.len()),
        ];
        rows.extend(self.faults_by_kind().into_iter().map(|(kind, count)| row(&format!("  {}", kind.name()), count)));
        let longest = self.longest_recovery().and_then(|fault| Some((fault, fault.recovery?)));
        let longest = longest.map(|(fault, recovery)| {
            format!("{:.1} s, after {} ({})", recovery.as_secs_f64(), fault.kind.name(), fault.target)
        });
        rows.push(("longest recovery".to_owned(), longest.unwrap_or_else(|| "none".to_owned())));
        rows
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let tally = &self.verdict.tally;
        let faults: BTreeMap<_, _> =
            self.faults_by_kind().into_iter().map(|(kind, count)| (kind.name(), count)).collect();
        let longest = self.longest_recovery().and_then(|fault| fault.recovery);
        json!({
            "passed": self.passed(), "seed": self.seed, "rabbitmq_nodes": if self.cluster { 3 } else { 1 },
            "seconds": self.lasted.as_secs_f64(), "drain_seconds": self.drained.as_secs_f64(),
            "requests": tally.requests, "occurrences": tally.occurrences, "rejected": tally.rejected, "ignored": tally.ignored,
            "accepted": tally.accepted, "delivered": tally.delivered, "failed": tally.failed,
            "cancelled": tally.cancelled, "pending": tally.pending, "lost": tally.lost, "calls": tally.calls,
            "calls_after_stop": tally.calls_after_stop, "early_calls": tally.early_calls,
            "extra_calls": tally.extra_calls, "extra_calls_marked_unknown": tally.extra_calls_marked,
            "attempts_unknown": tally.unknown, "dead_letters": tally.dead_letters, "faults": faults,
            "longest_recovery_seconds": longest.map(|time| time.as_secs_f64()),
            "findings": self.verdict.findings, "problems": self.problems, "logs": self.logs,
        })
    }
}
