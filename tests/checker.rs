use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{Arena, Program, wait_for};

/// Sends requests and keeps its own record of them. In the end it compares every single notification with what the
/// provider got and with what the database says of it.
pub(crate) struct Checker<'a> {
    arena: &'a Arena,
    numbers: BTreeSet<String>,
    requests: usize,
    /// Requests that are to be sent together.
    held: Option<Vec<(String, String)>>,
}

/// What became of all that was sent, after every notification was found to be accounted for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) delivered: usize,
    pub(crate) failed: usize,
    pub(crate) cancelled: usize,
    /// Calls that the provider got.
    pub(crate) calls: usize,
    /// Calls that the provider accepted of notifications that it had accepted before.
    pub(crate) extra_calls: usize,
    /// Attempts of which nobody can tell.
    pub(crate) unknown: usize,
}

impl Verdict {
    /// Each delivered by one call.
    pub(crate) fn each_called_once(count: usize) -> Self {
        Self { delivered: count, calls: count, ..Self::default() }
    }
}

/// What the database says of one notification.
struct Told {
    state: String,
    outcomes: Vec<String>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(arena: &'a Arena) -> Self {
        Self { arena, numbers: BTreeSet::new(), requests: 0, held: None }
    }

    /// Sends a start of so many phone calls, each to a number that nobody else has, and answers the numbers.
    pub(crate) fn start(&mut self, process: &str, in_seconds: i64, count: usize) -> Vec<String> {
        self.start_with(process, in_seconds, count, &json!({}))
    }

    /// The same with further keys in each notification.
    pub(crate) fn start_with(&mut self, process: &str, in_seconds: i64, count: usize, keys: &Value) -> Vec<String> {
        let at = self.arena.now() + in_seconds;
        let first = self.numbers.len();
        let numbers: Vec<_> = (first..first + count).map(|n| format!("+3859{n:07}")).collect();
        let call = |number: &String| {
            let mut call = json!({"channel": "phone", "at": at, "phone-number": number});
            let further = keys.as_object().unwrap().clone();
            call.as_object_mut().unwrap().extend(further);
            call
        };
        let calls: Vec<_> = numbers.iter().map(call).collect();
        self.numbers.extend(numbers.iter().cloned());
        self.send(process, json!({"process-id": process, "action": "start", "notifications": calls}));
        numbers
    }

    /// Sends a stop.
    pub(crate) fn stop(&mut self, process: &str) {
        self.send(process, json!({"process-id": process, "action": "stop"}));
    }

    fn send(&mut self, process: &str, mut request: Value) {
        request["check"] = self.requests.into();
        self.requests += 1;
        match &mut self.held {
            Some(held) => held.push((process.to_owned(), request.to_string())),
            None => self.arena.queue.send(process, &request.to_string()),
        }
    }

    /// Sends what `requests` says together, ten a call, in its order.
    pub(crate) fn together(&mut self, requests: impl FnOnce(&mut Self)) {
        self.held = Some(Vec::new());
        requests(self);
        let held = self.held.take().unwrap();
        let all: Vec<_> = held.iter().map(|(process, body)| (process.as_str(), body.as_str())).collect();
        self.arena.queue.send_all(&all);
    }

    /// Waits until every request is recorded.
    pub(crate) async fn recorded(&self, seconds: u64) {
        let sent = i64::try_from(self.requests).unwrap();
        self.arena.counted("SELECT count(*) FROM request", sent, seconds).await;
    }

    /// Waits until every request is recorded and every notification has come to its end, and accounts for all of it.
    pub(crate) async fn settled(&self, seconds: u64) -> Verdict {
        self.recorded(seconds).await;
        let unfinished = "SELECT count(*) FROM notification WHERE state NOT IN ('delivered', 'failed', 'cancelled')";
        self.arena.counted(unfinished, 0, seconds).await;
        self.account().await
    }

    /// Accounts for every request and notification.
    async fn account(&self) -> Verdict {
        let database = &self.arena.database;
        // A stop that comes when all is over is ignored, and recorded so.
        let recorded = "SELECT convert_from(body, 'UTF8')::json->>'check' FROM request
                        WHERE outcome = 'accepted' OR (outcome = 'ignored' AND action = 'stop')
                        ORDER BY (convert_from(body, 'UTF8')::json->>'check')::int";
        let sent: Vec<_> = (0..self.requests).map(|n| n.to_string()).collect();
        assert_eq!(database.texts(recorded).await, sent, "each request has had its effect once");

        let mut told = self.told().await;
        let mut verdict = Verdict::default();
        let arrivals = self.arena.simulator.arrivals();
        let mut arrived: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for arrival in &arrivals {
            arrived.entry(arrival["address"].as_str().unwrap()).or_default().push(arrival);
        }
        for number in &self.numbers {
            let one = told.remove(number).unwrap_or_else(|| panic!("{number} is lost"));
            verdict.add(number, &one, &arrived.remove(number.as_str()).unwrap_or_default());
        }
        assert!(told.is_empty(), "nobody asked for these: {:?}", told.keys());
        assert!(arrived.is_empty(), "nobody asked for these calls: {:?}", arrived.keys());
        verdict
    }

    async fn told(&self) -> BTreeMap<String, Told> {
        let rows = self.arena.database.texts(
            "SELECT c.address || ' ' || n.state || ' ' || coalesce(string_agg(a.outcome, ' ' ORDER BY a.number), '')
             FROM notification n JOIN notification_content c ON c.notification_id = n.id
             LEFT JOIN attempt a ON a.notification_id = n.id GROUP BY n.id, c.address, n.state",
        );
        let mut told = BTreeMap::new();
        for row in rows.await {
            let mut words = row.split_whitespace().map(str::to_owned);
            let (number, state) = (words.next().unwrap(), words.next().unwrap());
            let twice = told.insert(number, Told { state, outcomes: words.collect() });
            assert!(twice.is_none(), "there are two of {row}");
        }
        told
    }
}

impl Verdict {
    fn add(&mut self, number: &str, told: &Told, arrived: &[&Value]) {
        let count = |outcomes: &[&str]| told.outcomes.iter().filter(|one| outcomes.contains(&one.as_str())).count();
        let answered = count(&["delivered", "temporary", "rate_limited", "permanent"]);
        let unknown = count(&["unknown"]);
        let calls = arrived.len();
        // A claim of which nobody can tell may have led to a call, or not. Any other call is in the history.
        assert!(
            (answered..=answered + unknown).contains(&calls),
            "{number}: {calls} calls, but its history says {:?}",
            told.outcomes
        );
        let delivered = usize::from(told.state == "delivered");
        assert_eq!(count(&["delivered"]), delivered, "{number} is {}: {:?}", told.state, told.outcomes);
        let accepted = arrived.iter().filter(|arrival| !arrival["id"].is_null()).count();
        assert!(accepted >= delivered, "{number} is delivered, but the provider does not know of it");
        self.calls += calls;
        self.extra_calls += accepted.saturating_sub(1);
        self.unknown += unknown;
        self.delivered += delivered;
        self.failed += usize::from(told.state == "failed");
        self.cancelled += usize::from(told.state == "cancelled");
    }
}

/// Waits until a program says that it is not ready, and why.
pub(crate) async fn not_ready(program: &Program, why: &str) {
    wait_for(&format!("not ready: {why}"), Duration::from_secs(60), || async {
        let (status, text) = program.get("/health/ready").await;
        (status == 503 && text.contains(why)).then_some(())
    })
    .await;
}

/// Waits until a program says that it is ready again.
pub(crate) async fn ready_again(program: &Program) {
    wait_for("ready again", Duration::from_secs(60), || async {
        (program.get("/health/ready").await.0 == 200).then_some(())
    })
    .await;
}

/// Waits until a statement of a program waits for a lock.
pub(crate) async fn waits_for_a_lock(arena: &Arena, program: &str) {
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '{program}/%'
             AND wait_event_type = 'Lock'"
    );
    wait_for("a statement that waits for a lock", Duration::from_secs(30), || async {
        (arena.database.count(&waiting).await > 0).then_some(())
    })
    .await;
}

/// Waits until a worker has taken so many messages in vain.
pub(crate) async fn found_nothing_to_do(worker: &Program, messages: u64) {
    wait_for("messages that came in vain", Duration::from_secs(60), || async {
        (worker.metric("tocsin_claims_total", "result=\"not_claimable\"").await >= messages).then_some(())
    })
    .await;
}
