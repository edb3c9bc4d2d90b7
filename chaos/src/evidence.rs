use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::{installation::Installation, see};

/// What the database and the providers say afterwards. All times are microseconds since 1970.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) requests: Vec<Request>,
    pub(crate) notifications: Vec<Notification>,
    pub(crate) attempts: BTreeMap<i64, Vec<Attempt>>,
    /// By address.
    pub(crate) arrivals: BTreeMap<String, Vec<Arrival>>,
    /// Messages that are still in SQS.
    pub(crate) queue_depth: u64,
    pub(crate) dead_letters: u64,
    /// Lines of logs in which a program says that something is wrong with itself.
    pub(crate) bugs_logged: Vec<String>,
}

/// A row of table `request`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Request {
    pub(crate) id: i64,
    pub(crate) message_id: String,
    pub(crate) outcome: String,
    /// Why it was ignored or rejected.
    pub(crate) reasons: usize,
    pub(crate) committed: i64,
}

/// A row of table `notification`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Notification {
    pub(crate) id: i64,
    /// Of the request that made it.
    pub(crate) message_id: String,
    pub(crate) address: String,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) scheduled_at: i64,
    pub(crate) finished_at: Option<i64>,
}

/// A row of table `attempt`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) notification_id: i64,
    pub(crate) number: i32,
    pub(crate) started_at: i64,
    pub(crate) finished_at: i64,
    pub(crate) outcome: String,
    pub(crate) detail: Option<String>,
    pub(crate) late_outcome: Option<String>,
}

/// A call that a provider got.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrival {
    /// Unknown for a line on the console.
    pub(crate) at: Option<i64>,
    /// The status that was answered, if one was.
    pub(crate) status: Option<u64>,
    /// It was accepted and the connection broken without an answer.
    pub(crate) dropped: bool,
    pub(crate) accepted: bool,
}

/// What SQS calls a request; an occurrence of a schedule goes by the schedule and its second.
const MESSAGE_ID: &str = "
CASE WHEN r.source LIKE 'schedule:%' THEN r.source || ' ' || extract(epoch FROM r.message_id::timestamptz)::bigint
    ELSE r.message_id END AS message_id";

const REQUESTS: &str = "
SELECT r.id, $MESSAGE_ID, r.outcome, coalesce(jsonb_array_length(r.reasons), 0) AS reasons,
    (extract(epoch FROM pg_xact_commit_timestamp(r.xmin)) * 1000000)::bigint AS committed
FROM request r ORDER BY r.id";

const NOTIFICATIONS: &str = "
SELECT n.id, $MESSAGE_ID, coalesce(c.address, c.options->>'message') AS address, n.state, n.reason,
    (extract(epoch FROM n.scheduled_at) * 1000000)::bigint AS scheduled_at,
    (extract(epoch FROM n.finished_at) * 1000000)::bigint AS finished_at
FROM notification n JOIN notification_content c ON c.notification_id = n.id JOIN request r ON r.id = c.request_id
ORDER BY n.id";

const ATTEMPTS: &str = "
SELECT notification_id, number, (extract(epoch FROM started_at) * 1000000)::bigint AS started_at,
    (extract(epoch FROM finished_at) * 1000000)::bigint AS finished_at, outcome, detail, late_outcome
FROM attempt ORDER BY notification_id, number";

impl Evidence {
    /// Asks the database, the simulated providers and the logs.
    pub(crate) fn collect(installation: &Installation) -> Result<Self> {
        let mut this = Self {
            requests: rows(installation, &REQUESTS.replace("$MESSAGE_ID", MESSAGE_ID))?,
            notifications: rows(installation, &NOTIFICATIONS.replace("$MESSAGE_ID", MESSAGE_ID))?,
            queue_depth: installation.queue.depth()?,
            dead_letters: installation.number("SELECT count(*) FROM dead_letter")?,
            ..Self::default()
        };
        for notification in &mut this.notifications {
            if let Some(path) = notification.address.strip_prefix(&installation.simulator.url) {
                notification.address = path.to_owned();
            }
        }
        for attempt in rows::<Attempt>(installation, ATTEMPTS)? {
            this.attempts.entry(attempt.notification_id).or_default().push(attempt);
        }
        for arrival in installation.simulator.arrivals()? {
            let address = arrival["address"].as_str().context("an address")?.to_owned();
            this.arrivals.entry(address).or_default().push(Arrival {
                at: arrival["at"].as_i64(),
                status: arrival["answered"]["status"].as_u64(),
                dropped: arrival["answered"] == "dropped",
                accepted: !arrival["id"].is_null(),
            });
        }
        this.read_logs(installation)?;
        Ok(this)
    }

    /// The console has no provider: what it got stands in its program's log.
    fn read_logs(&mut self, installation: &Installation) -> Result<()> {
        for entry in fs::read_dir(installation.logs())? {
            let path = entry?.path();
            let text = see(&path)?;
            for line in text.lines() {
                if line.contains("\"event\":\"bug\"") || line.contains("panicked at") {
                    self.bugs_logged.push(format!("{}: {line}", path.display()));
                }
                let is_console = path.file_stem().is_some_and(|name| name == "notifier-console");
                if is_console && let Some((_, address)) = line.rsplit_once(": ").filter(|_| !line.starts_with('{')) {
                    let arrival = Arrival { accepted: true, ..Arrival::default() };
                    self.arrivals.entry(address.to_owned()).or_default().push(arrival);
                }
            }
        }
        Ok(())
    }
}

fn rows<T: serde::de::DeserializeOwned>(installation: &Installation, sql: &str) -> Result<Vec<T>> {
    let rows = installation.rows(sql)?;
    rows.into_iter().map(|row: Value| Ok(serde_json::from_value(row)?)).collect()
}
