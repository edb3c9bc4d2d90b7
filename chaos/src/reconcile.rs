use std::collections::BTreeMap;

use crate::{
    evidence::{Arrival, Attempt, Evidence, Notification, Request},
    faults::{Fault, Kind},
    load::{Asks, Sent, Wanted},
    story::story,
};

const SECOND: i64 = 1_000_000;

/// A call may begin so long after its stop was committed, and the worker's idea of the database's time may be off a
/// little.
const AFTER_STOP: i64 = 100_000 + 40_000;

/// What a call may take from its beginning until the provider has read it, on a busy machine.
const ON_ITS_WAY: i64 = 5 * SECOND;

/// How long before its time the activator takes a notification, and then some.
const PUBLISHED_AHEAD: i64 = 2 * SECOND;

/// The shortest wait after a call that is known to have failed is five seconds, and the worker's idea of the database's
/// time may be off by a connection's delay.
const SHORTEST_WAIT: i64 = 4 * SECOND;

/// What became of all that was sent.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) tally: Tally,
    /// What must not be, each with all that is known of it.
    pub(crate) findings: Vec<String>,
}

/// How many there were.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) requests: usize,
    /// Those of them that are occurrences of schedules.
    pub(crate) occurrences: usize,
    pub(crate) rejected: usize,
    pub(crate) ignored: usize,
    pub(crate) accepted: usize,
    pub(crate) delivered: usize,
    pub(crate) failed: usize,
    pub(crate) cancelled: usize,
    pub(crate) pending: usize,
    pub(crate) lost: usize,
    pub(crate) calls: usize,
    pub(crate) calls_after_stop: usize,
    pub(crate) early_calls: usize,
    /// Calls that a provider accepted of notifications that it had accepted before.
    pub(crate) extra_calls: usize,
    /// Those of them of which an attempt says that nobody can tell.
    pub(crate) extra_calls_marked: usize,
    /// Attempts of which nobody can tell.
    pub(crate) unknown: usize,
    pub(crate) dead_letters: usize,
}

/// One notification that was asked for, and all that is known of it.
pub(crate) struct Case<'a> {
    pub(crate) process: &'a str,
    pub(crate) wanted: &'a Wanted,
    pub(crate) told: Option<&'a Notification>,
    pub(crate) attempts: &'a [Attempt],
    pub(crate) arrivals: &'a [Arrival],
    /// When the first stop after its start was committed.
    pub(crate) stopped: Option<i64>,
}

/// Compares what was sent with what the database and the providers say, notification by notification.
pub(crate) fn reconcile(sent: &[Sent], evidence: &Evidence, faults: &[Fault]) -> Verdict {
    let mut court = Court { evidence, faults, verdict: Verdict::default(), processes: BTreeMap::new() };
    court.verdict.tally.dead_letters = usize::try_from(evidence.dead_letters).unwrap_or(usize::MAX);
    if evidence.queue_depth > 0 {
        court.find(format!("{} requests are still in SQS", evidence.queue_depth));
    }
    court.judge_requests(sent);
    court.judge_notifications();
    court.verdict
}

struct Court<'a> {
    evidence: &'a Evidence,
    faults: &'a [Fault],
    verdict: Verdict,
    /// By process, what was sent and recorded, in order.
    processes: BTreeMap<&'a str, Vec<(&'a Sent, &'a Request)>>,
}

impl<'a> Court<'a> {
    fn find(&mut self, what: String) {
        self.verdict.findings.push(what);
    }

    /// Each request was recorded once, as what it is, in the order of its group.
    fn judge_requests(&mut self, sent: &'a [Sent]) {
        let mut recorded: BTreeMap<&str, Vec<&Request>> = BTreeMap::new();
        for request in &self.evidence.requests {
            recorded.entry(&request.message_id).or_default().push(request);
        }
        for one in sent {
            self.verdict.tally.requests += 1;
            self.verdict.tally.occurrences += usize::from(one.is_occurrence());
            let rows = recorded.remove(one.message_id.as_str()).unwrap_or_default();
            match rows[..] {
                [row] => self.judge_request(one, row),
                [] => {
                    if let Asks::Start(wanted) = &one.asks {
                        self.verdict.tally.lost += wanted.len();
                    }
                    self.find(format!("LOST: request {} of {}, {}", one.message_id, one.process, one.asks));
                }
                _ => self.find(format!("APPLIED {} TIMES: request {} of {}", rows.len(), one.message_id, one.process)),
            }
        }
        if !recorded.is_empty() {
            self.find(format!("requests that nobody sent: {:?}", recorded.keys()));
        }
    }

    fn judge_request(&mut self, sent: &'a Sent, row: &'a Request) {
        let is_nonsense = matches!(sent.asks, Asks::Nonsense(_));
        match row.outcome.as_str() {
            "rejected" => self.verdict.tally.rejected += 1,
            "ignored" => self.verdict.tally.ignored += 1,
            _ => {}
        }
        if is_nonsense != (row.outcome == "rejected") || (row.outcome != "accepted" && row.reasons == 0) {
            self.find(format!(
                "request {} of {} was {} with {} reasons: {}",
                row.id, sent.process, row.outcome, row.reasons, sent.asks
            ));
        }
        let earlier = self.processes.entry(&sent.process).or_default();
        let out_of_order = earlier.last().is_some_and(|(_, last)| last.id > row.id || last.committed > row.committed);
        earlier.push((sent, row));
        if out_of_order {
            self.find(format!("OUT OF ORDER: request {} of {}, sent after others", row.id, sent.process));
        }
    }

    /// Each notification of each start that was accepted came to an end that everybody agrees on, and nobody else's did.
    fn judge_notifications(&mut self) {
        let mut told: BTreeMap<&str, Vec<&Notification>> = BTreeMap::new();
        for notification in &self.evidence.notifications {
            told.entry(&notification.address).or_default().push(notification);
        }
        let mut called: BTreeMap<&str, &[Arrival]> =
            self.evidence.arrivals.iter().map(|(address, arrivals)| (address.as_str(), &arrivals[..])).collect();
        for (process, requests) in std::mem::take(&mut self.processes) {
            let mut cases: Vec<(&Request, Vec<Case<'_>>)> = Vec::new();
            for (n, (sent, row)) in requests.iter().enumerate() {
                self.judge_effect(process, sent, row, &cases);
                let Asks::Start(wanted) = &sent.asks else { continue };
                if row.outcome != "accepted" {
                    continue;
                }
                let is_stop = |(sent, _): &&(&Sent, &Request)| matches!(sent.asks, Asks::Stop);
                let stopped = requests[n..].iter().find(is_stop).map(|(_, row)| row.committed);
                let case = |wanted: &'a Wanted| {
                    let rows = told.remove(wanted.address.as_str()).unwrap_or_default();
                    let one = rows.first().copied().filter(|told| told.message_id == sent.message_id);
                    Case {
                        process,
                        wanted,
                        told: one,
                        attempts: one.and_then(|told| self.evidence.attempts.get(&told.id)).map_or(&[], Vec::as_slice),
                        arrivals: called.remove(wanted.address.as_str()).unwrap_or_default(),
                        stopped,
                    }
                };
                let new: Vec<_> = wanted.iter().map(case).collect();
                new.iter().for_each(|case| self.judge(case));
                cases.push((row, new));
            }
        }
        if !told.is_empty() {
            self.find(format!("NOBODY ASKED FOR these notifications: {:?}", told.into_values().collect::<Vec<_>>()));
        }
        if !called.is_empty() {
            self.find(format!("NOBODY ASKED FOR these calls: {called:?}"));
        }
    }

    /// Whether a start or a stop was rightly carried out or ignored, by what is known of the process at its commit.
    fn judge_effect(&mut self, process: &str, sent: &Sent, row: &Request, earlier: &[(&Request, Vec<Case<'_>>)]) {
        let at = row.committed;
        let wrong = earlier.iter().flat_map(|(_, cases)| cases).find(|case| {
            let Some(told) = case.told else { return false };
            let finished = told.finished_at.is_some_and(|finished| finished < at);
            let called = case.attempts.iter().any(|attempt| attempt.started_at < at);
            match (&sent.asks, row.outcome.as_str()) {
                (Asks::Start(_), "accepted") => told.scheduled_at > at + PUBLISHED_AHEAD && !finished,
                (Asks::Stop, "ignored") => !finished,
                (Asks::Start(_), "ignored") => !(finished || called),
                _ => false,
            }
        });
        let ignored_start = matches!(sent.asks, Asks::Start(_)) && row.outcome == "ignored";
        // A start is ignored because of somebody who still waits; anything else is wrong because of somebody.
        if ignored_start == wrong.is_none() {
            let because = wrong.map(story).unwrap_or_default();
            self.find(format!(
                "WRONGLY {}: request {} of {process}, {}, committed at {at}\n{because}",
                row.outcome.to_uppercase(),
                row.id,
                sent.asks
            ));
        }
    }

    fn judge(&mut self, case: &Case<'_>) {
        let tally = &mut self.verdict.tally;
        tally.accepted += 1;
        tally.calls += case.arrivals.len();
        let Some(told) = case.told else {
            tally.lost += 1;
            return self.find(format!("LOST\n{}", story(case)));
        };
        match told.state.as_str() {
            "delivered" => tally.delivered += 1,
            "failed" => tally.failed += 1,
            "cancelled" => tally.cancelled += 1,
            _ => {
                tally.pending += 1;
                self.find(format!("PENDING\n{}", story(case)));
            }
        }
        self.judge_calls(case, told);
        self.judge_times(case, told);
        if let Some(wrong) = unexplained(case, told) {
            self.find(format!("{wrong}\n{}", story(case)));
        }
    }

    /// Every call is in the history, and every extra one is marked unknown and has a fault as its cause.
    fn judge_calls(&mut self, case: &Case<'_>, told: &Notification) {
        let unknown = case.count("unknown");
        let accepted = case.arrivals.iter().filter(|arrival| arrival.accepted).count();
        let (delivered, extra) = (case.count("delivered"), accepted.saturating_sub(1));
        let tally = &mut self.verdict.tally;
        tally.unknown += unknown;
        tally.extra_calls += extra;
        tally.extra_calls_marked += extra.min(unknown);
        // What was accepted without being known as delivered has to be known as unknown.
        if accepted > delivered + unknown || extra > unknown {
            self.find(format!("A CALL THAT IS NOT MARKED UNKNOWN\n{}", story(case)));
        }
        // A notification that is not finished may be in the middle of a call.
        if case.arrivals.len() > case.attempts.len() + usize::from(told.finished_at.is_none()) {
            self.find(format!("A CALL THAT IS NOT IN THE HISTORY\n{}", story(case)));
        }
        if delivered > accepted || delivered != usize::from(told.state == "delivered") {
            self.find(format!("DELIVERED, AS IT SAYS, AND NOT BY A CALL\n{}", story(case)));
        }
        if extra > self.causes(case) {
            self.find(format!("AN EXTRA CALL WITHOUT A FAULT\n{}", story(case)));
        }
    }

    /// How many extra calls there may be: one for each connection that a provider has broken, and for each fault of the
    /// database or of the channel's workers while it was being sent. RabbitMQ's faults cost no call.
    fn causes(&self, case: &Case<'_>) -> usize {
        let broken = case.arrivals.iter().filter(|arrival| arrival.dropped).count();
        let (Some(first), Some(last)) = (case.attempts.first(), case.attempts.last()) else { return broken };
        let worker = format!("notifier-{}", case.wanted.channel);
        let hits = |fault: &&Fault| {
            (fault.target == "Postgres" || fault.target.starts_with(&worker))
                && fault.began - SECOND < last.finished_at
                && fault.ended + SECOND > first.started_at
        };
        broken + self.faults.iter().filter(hits).count()
    }

    /// No call before its time, none after a stop.
    fn judge_times(&mut self, case: &Case<'_>, told: &Notification) {
        let due = case.wanted.at * SECOND;
        let begins = case.attempts.iter().map(|attempt| attempt.started_at);
        let arrives = case.arrivals.iter().filter_map(|arrival| arrival.at);
        let too_soon = case
            .attempts
            .windows(2)
            .any(|pair| pair[0].outcome == "temporary" && pair[1].started_at < pair[0].finished_at + SHORTEST_WAIT);
        if told.scheduled_at != due || begins.clone().chain(arrives.clone()).any(|at| at < due) || too_soon {
            self.verdict.tally.early_calls += 1;
            self.find(format!("EARLY: it was due at {due}\n{}", story(case)));
        }
        let Some(stopped) = case.stopped else { return };
        let begun = begins.filter(|at| *at > stopped + AFTER_STOP + self.clock_error(case, *at)).count();
        let latest = stopped + AFTER_STOP + ON_ITS_WAY + self.frozen_after(case, stopped);
        let arrived = arrives.filter(|at| *at > latest).count();
        if begun.max(arrived) > 0 {
            self.verdict.tally.calls_after_stop += begun.max(arrived);
            self.find(format!("CALLED AFTER A STOP, which was committed at {stopped}\n{}", story(case)));
        }
    }

    /// How far off a worker's idea of the database's time may be: by as much as its connection is, or was, delayed.
    fn clock_error(&self, case: &Case<'_>, at: i64) -> i64 {
        let worker = format!("notifier-{}", case.wanted.channel);
        let is_delay = |fault: &&Fault| fault.kind == Kind::ConnectionDelayed && fault.target.starts_with(&worker);
        // It believes its best idea for twenty seconds.
        let around = |fault: &&Fault| fault.began < at && fault.ended + 25 * SECOND > at;
        if self.faults.iter().filter(is_delay).any(|fault| around(&fault)) { SECOND } else { 0 }
    }

    /// For how long workers of its channel were frozen after a stop. One that is frozen right before its call makes it
    /// when it wakes.
    fn frozen_after(&self, case: &Case<'_>, stopped: i64) -> i64 {
        let worker = format!("notifier-{}", case.wanted.channel);
        let froze = |fault: &&Fault| {
            fault.kind == Kind::ProgramFrozen
                && fault.target.starts_with(&worker)
                && fault.ended > stopped
                && fault.began < stopped + ON_ITS_WAY
        };
        self.faults.iter().filter(froze).map(|fault| fault.ended - stopped).max().unwrap_or_default()
    }
}

impl Case<'_> {
    fn count(&self, outcome: &str) -> usize {
        self.attempts.iter().filter(|attempt| attempt.outcome == outcome).count()
    }
}

/// Why a notification should not have ended as it did.
fn unexplained(case: &Case<'_>, told: &Notification) -> Option<&'static str> {
    let costly = case.count("temporary") + case.count("unknown");
    let refused = |arrival: &Arrival| matches!(arrival.status, Some(400..=499 | 550)) && arrival.status != Some(429);
    let may_fail = case.arrivals.iter().any(refused)
        || (case.wanted.on_unknown_fail && case.count("unknown") > 0)
        || costly >= case.wanted.max_attempts;
    match told.state.as_str() {
        "cancelled" if case.stopped.is_none() => Some("CANCELLED WITHOUT A STOP"),
        "failed" if !may_fail => Some("FAILED TOO SOON"),
        _ if costly + case.count("delivered") + case.count("permanent") > case.wanted.max_attempts => {
            Some("MORE ATTEMPTS THAN IT WANTED")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
