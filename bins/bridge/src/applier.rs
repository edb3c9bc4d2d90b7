use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{Action, Organisation};
use runtime::{chance, failpoint};
use serde_json::json;
use sqs::{Message, Receipt};
use store::{Disposition, EarliestDue, ReceivedRequest, RejectedRequest, RequestOutcome, RequestResult};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use crate::Bridge;

/// The most receives that are applied together.
const RECEIVES: usize = 50;

/// The most notifications that are made in one statement, so that it stays quick.
const NOTIFICATIONS: usize = 5_000;

/// How often a delete is tried. What is left then comes back, and is known by its MessageId.
const DELETE_TRIES: u32 = 3;

/// How long a request waits whose rows somebody else holds.
const SET_ASIDE_FOR: Duration = Duration::from_secs(1);

/// How often a statement is tried when the queue is to be drained once.
const ONCE_TRIES: u32 = 5;

/// Applies what was received, in order, and deletes it afterwards.
pub(crate) struct Applier {
    bridge: Arc<Bridge>,
    source: String,
    organisation: Organisation,
    deletes: TaskTracker,
    due: Arc<EarliestDue>,
}

struct Work {
    receipt: Receipt,
    group: String,
    request: ReceivedRequest,
}

impl Work {
    fn process(&self) -> Option<&str> {
        self.request.parsed.as_ref().ok().map(|request| request.process.as_str())
    }

    fn notifications(&self) -> usize {
        match &self.request.parsed {
            Ok(domain::Request { action: Action::Start(notifications), .. }) => notifications.len(),
            Ok(_) | Err(_) => 0,
        }
    }
}

/// Requests that can't be applied for now, as somebody else holds their rows, and what must wait for them.
#[derive(Default)]
struct SetAside {
    work: Vec<Work>,
    groups: HashSet<String>,
    processes: HashSet<String>,
}

impl SetAside {
    fn add(&mut self, work: Work) {
        self.groups.insert(work.group.clone());
        self.processes.extend(work.process().map(str::to_owned));
        self.work.push(work);
    }

    fn holds_up(&self, work: &Work) -> bool {
        self.groups.contains(&work.group) || work.process().is_some_and(|process| self.processes.contains(process))
    }
}

impl Applier {
    pub(crate) fn new(bridge: Arc<Bridge>) -> Self {
        let due = Arc::new(EarliestDue::default());
        bridge.lifecycle.spawn("hints", send_hints(Arc::clone(&bridge), Arc::clone(&due)));
        let (source, organisation) = (bridge.queue.source(), Organisation::default());
        Self { bridge, source, organisation, deletes: TaskTracker::new(), due }
    }

    /// Ends when nobody receives any more and all is applied and deleted. What is set aside then stays in SQS. An
    /// error only if the queue is to be drained once, and Postgres goes away meanwhile.
    pub(crate) async fn run(self, mut incoming: mpsc::Receiver<Vec<Message>>) -> Result<(), store::Error> {
        let mut aside = SetAside::default();
        let mut tried_again = Instant::now();
        let mut received = Vec::new();
        loop {
            let limit = if aside.work.is_empty() { Duration::MAX } else { SET_ASIDE_FOR };
            if timeout(limit, incoming.recv_many(&mut received, RECEIVES)).await == Ok(0) {
                break;
            }
            let new: Vec<Work> = received.drain(..).flatten().map(read).collect();
            for wave in cut(new) {
                self.apply(bounded(wave), &mut aside).await?;
            }
            if !aside.work.is_empty() && tried_again.elapsed() > SET_ASIDE_FOR {
                // One by one, so that none is held up by another process's.
                let again = std::mem::take(&mut aside).work;
                self.apply(again.into_iter().rev().map(|work| vec![work]).collect(), &mut aside).await?;
                tried_again = Instant::now();
            }
        }
        self.deletes.close();
        self.deletes.wait().await;
        Ok(())
    }

    /// Applies parts of a wave, the last of them first. If the database refuses the data of one, halves it until the
    /// one bad request is found and rejected; if somebody holds its rows, until the one is found that has to wait.
    async fn apply(&self, mut todo: Vec<Vec<Work>>, aside: &mut SetAside) -> Result<(), store::Error> {
        while let Some(part) = todo.pop() {
            let (held_up, mut part): (Vec<_>, Vec<_>) = part.into_iter().partition(|work| aside.holds_up(work));
            held_up.into_iter().for_each(|work| aside.add(work));
            if part.is_empty() {
                continue;
            }
            let requests: Vec<_> = part.iter().map(|work| work.request.clone()).collect();
            let error = match self.apply_when_possible(&requests).await {
                Ok(results) => {
                    self.applied(part, results);
                    continue;
                }
                Err(error) => error,
            };
            if part.len() > 1 && error.disposition() != Disposition::Wait {
                let second = part.split_off(part.len() / 2);
                todo.extend([second, part]);
                continue;
            }
            match (error.disposition(), part.pop()) {
                (Disposition::TooMuch, Some(work)) => {
                    let message_id = work.receipt.message_id.as_str();
                    tracing::warn!(event = "set_aside", message_id, %error, "its group waits, the others go on");
                    aside.add(work);
                }
                (Disposition::BadData, Some(work)) if work.request.parsed.is_ok() => {
                    todo.push(vec![Work { request: work.request.rejected_by(&error), ..work }]);
                }
                (Disposition::BadData, Some(work)) => {
                    let message_id = work.receipt.message_id;
                    tracing::error!(event = "bug", message_id, %error, "can't be recorded: left in SQS");
                }
                (Disposition::Wait | Disposition::Conflict, _) => return Err(error),
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// Waits while the database is away, for ever unless the queue is to be drained once.
    async fn apply_when_possible(&self, requests: &[ReceivedRequest]) -> Result<Vec<RequestResult>, store::Error> {
        let mut tries = 0;
        loop {
            let error = match self.bridge.store.requests_apply(&self.source, &self.organisation, requests).await {
                Ok(results) => {
                    self.bridge.database_is_up();
                    return Ok(results);
                }
                Err(error) => error,
            };
            tries += 1;
            match error.disposition() {
                Disposition::BadData | Disposition::TooMuch => return Err(error),
                Disposition::Conflict | Disposition::Wait if self.bridge.once && tries >= ONCE_TRIES => {
                    return Err(error);
                }
                Disposition::Conflict | Disposition::Wait => {
                    self.bridge.database_is_down(&error);
                    sleep(Duration::from_millis(500).mul_f64(0.5 + chance())).await;
                }
            }
        }
    }

    fn applied(&self, part: Vec<Work>, results: Vec<RequestResult>) {
        failpoint("bridge.committed", "");
        for (work, result) in part.iter().zip(&results) {
            log(work, result);
        }
        results.iter().filter_map(|result| result.due_soon_at).for_each(|due_at| self.due.add(due_at));
        let receipts = part.into_iter().map(|work| work.receipt).collect();
        self.deletes.spawn(delete(Arc::clone(&self.bridge), receipts));
    }
}

fn read(message: Message) -> Work {
    let body = message.body.into_bytes();
    let parsed = wire::parse_request(&body)
        .map_err(|rejection| RejectedRequest { process: rejection.process, reasons: json!(rejection.reasons) });
    let request = ReceivedRequest { message_id: message.receipt.message_id.clone(), body, parsed };
    Work { receipt: message.receipt, group: message.group, request }
}

/// Parts of a wave that are each quick to apply, the last of them first.
fn bounded(wave: Vec<Work>) -> Vec<Vec<Work>> {
    let mut parts = vec![Vec::new()];
    let mut notifications = 0;
    for work in wave {
        notifications += work.notifications();
        if notifications > NOTIFICATIONS {
            notifications = work.notifications();
            parts.push(Vec::new());
        }
        parts.last_mut().expect("there is always one").push(work);
    }
    parts.reverse();
    parts
}

fn cut(work: Vec<Work>) -> Vec<Vec<Work>> {
    let keys = work.iter().map(|work| (work.group.as_str(), work.process()));
    let waves = store::cut_waves(keys);
    let mut work: Vec<Option<Work>> = work.into_iter().map(Some).collect();
    waves.into_iter().map(|wave| wave.into_iter().filter_map(|n| work[n].take()).collect()).collect()
}

fn log(work: &Work, result: &RequestResult) {
    let outcome = result.outcome.as_str();
    metrics::counter!("tocsin_requests_total", "outcome" => outcome).increment(1);
    let message_id = work.receipt.message_id.as_str();
    let (run, notifications) = (result.run, result.notifications);
    match &work.request.parsed {
        Ok(request) => {
            let (process, action) = (request.process.as_str(), request.action.as_str());
            tracing::info!(event = "request", outcome, process, action, run, notifications, message_id, "request");
        }
        Err(rejection) if result.outcome == RequestOutcome::Rejected => {
            let process = rejection.process.as_ref().map(domain::ProcessName::as_str);
            let reasons = rejection.reasons.to_string();
            tracing::warn!(event = "request", outcome, process, reasons, message_id, "request");
        }
        Err(_) => tracing::info!(event = "request", outcome, message_id, "request"),
    }
}

async fn delete(bridge: Arc<Bridge>, receipts: Vec<Receipt>) {
    let mut left = receipts.clone();
    for attempt in 1..=DELETE_TRIES {
        let (failed, problem) = bridge.queue.delete(left).await;
        left = failed;
        let Some(problem) = problem.filter(|_| !left.is_empty()) else { break };
        let count = left.len();
        tracing::warn!(event = "delete_failed", count, attempt, problem, "they come back, and will change nothing");
        if attempt < DELETE_TRIES {
            sleep(Duration::from_millis(200)).await;
        }
    }
    bridge.outstanding.remove(receipts.iter());
}

/// Tells the activators that something is due soon, no more often than they can use it. What is not due at once waits for
/// more for an eighth of the time that is left; they wait for half of the rest.
async fn send_hints(bridge: Arc<Bridge>, due: Arc<EarliestDue>) {
    let patience = |due_at| bridge.store.clock().until(due_at) / 8;
    loop {
        let due_at = due.gather(patience).await;
        if let Err(error) = bridge.store.hint_due(due_at).await {
            tracing::debug!(%error, "the activator's poll makes up for the hint");
        }
        sleep(Duration::from_millis(5)).await;
    }
}
