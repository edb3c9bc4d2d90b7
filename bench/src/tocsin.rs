use std::{process::Command, time::Duration};

use anyhow::Result;
use devservers::url_for;
use domain::{Action, Organisation, Request};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde_json::json;
use store::{ReceivedRequest, RejectedRequest, RequestOutcome, Store};

use crate::{
    contender::{Contender, Work},
    stage::{Stage, Worker, micros_now, programs_dir, run, wait_for},
};

pub(crate) const DATABASE: &str = "tocsin_bench";

const WEBHOOK_SECRET: &str = "whsec_dG9jc2luLWRldmVsb3BtZW50LXNpZ25pbmcta2V5";

/// Requests that are applied at once, as the bridge does under load.
const BATCH: u64 = 500;

/// Tocsin as it ships: its own programs, a process for each, with these settings other than the defaults.
#[derive(Debug, Clone)]
pub(crate) struct Tocsin {
    /// Copies of each program.
    pub(crate) notifiers: usize,
    pub(crate) activators: usize,
    /// `TOCSIN_ACTIVATOR__BUNDLE`.
    pub(crate) bundle: usize,
    /// `TOCSIN_NOTIFIER__MAX_IN_FLIGHT`.
    pub(crate) in_flight: usize,
    /// Loopback addresses among which the notifications are spread.
    pub(crate) hosts: u64,
    /// Rows beside the work that are due in years, in a database of their own.
    pub(crate) beside_rows: u64,
    /// How results call it.
    pub(crate) label: &'static str,
}

impl Default for Tocsin {
    fn default() -> Self {
        Self { notifiers: 1, activators: 1, bundle: 64, in_flight: 512, hosts: 1, beside_rows: 0, label: "tocsin" }
    }
}

impl Tocsin {
    /// Its database.
    pub(crate) fn database(&self) -> String {
        if self.beside_rows == 0 { DATABASE.to_owned() } else { format!("{DATABASE}_{}", self.beside_rows) }
    }

    /// A program's command, with what it needs to know.
    pub(crate) fn command(&self, stage: &Stage, program: &str) -> Result<Command> {
        let mut command = Command::new(programs_dir()?.join(program));
        let user = format!("{program}:{program}-development");
        command
            .env_clear()
            .env("TOCSIN_DATABASE__URL", url_for(program, &stage.postgres.url(&self.database())))
            .env("TOCSIN_BROKER__URL", format!("amqp://{user}@{}/tocsin", stage.rabbitmq.amqp()))
            .env("TOCSIN_WEBHOOK__SECRET", WEBHOOK_SECRET)
            .env("TOCSIN_WEBHOOK__ALLOW_PRIVATE", "true")
            .env("TOCSIN_ACTIVATOR__BUNDLE", self.bundle.to_string())
            .env("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", self.in_flight.to_string())
            .env("TOCSIN_HEALTH__LISTEN", "127.0.0.1:0");
        Ok(command)
    }

    /// Starts copies of a program.
    pub(crate) fn start_program(&self, stage: &Stage, program: &str, copies: usize) -> Result<Vec<Worker>> {
        let start = |copy| stage.start(&format!("{program}-{copy}"), &mut self.command(stage, program)?);
        let workers: Vec<_> = (1..=copies).map(start).collect::<Result<_>>()?;
        for worker in &workers {
            wait_until_ready(worker)?;
        }
        Ok(workers)
    }

    /// A store that writes as the bridge does.
    pub(crate) fn store(&self, stage: &Stage) -> Result<Store> {
        Ok(Store::new(&url_for("bridge", &stage.postgres.url(&self.database())), "bench", 2)?)
    }

    fn request(&self, stage: &Stage, id: u64, due: u64) -> ReceivedRequest {
        let notification = json!({
            "channel": "webhook",
            "at": due / 1_000_000,
            "url": stage.sink_url(id % self.hosts),
            "payload": {"id": id, "due": due, "pad": "x".repeat(256)},
        });
        let body = json!({"process-id": process(id), "action": "start", "notifications": [notification]});
        let mut request = received(format!("{due}-{id}"), body.to_string().into_bytes());
        // Requests have whole seconds; what is to fall due within one is set behind their back.
        if let Ok(Request { action: Action::Start(notifications), .. }) = &mut request.parsed {
            let due = Timestamp::from_microsecond(due.cast_signed()).unwrap_or_default();
            notifications.iter_mut().for_each(|notification| notification.at = due);
        }
        request
    }

    /// Every so manyth batch, from a first one on.
    async fn enqueue_share(
        &self,
        stage: &Stage,
        store: &Store,
        work: Work,
        batch: u64,
        (share, shares): (u64, u64),
    ) -> Result<()> {
        let mut first = share * batch;
        while first < work.count {
            if work.ahead > 0 {
                let at = work.t0 + first * work.step - work.ahead;
                tokio::time::sleep(Duration::from_micros(at.saturating_sub(micros_now()))).await;
            }
            self.apply(stage, store, first, (first + batch).min(work.count), work).await?;
            first += shares * batch;
        }
        Ok(())
    }

    /// Starts the bridge on a queue of this name.
    pub(crate) fn start_bridge(&self, stage: &Stage, queue: &str) -> Result<Worker> {
        let mut command = self.command(stage, "bridge")?;
        stage.with_sqs(|emulator| {
            let url = emulator.create_fifo_queue(queue)?;
            command.env("TOCSIN_SQS__QUEUE_URL", url).env("TOCSIN_SQS__ENDPOINT_URL", emulator.url());
            command
                .env("AWS_ACCESS_KEY_ID", "test")
                .env("AWS_SECRET_ACCESS_KEY", "test")
                .env("AWS_REGION", "us-east-1");
            Ok(())
        })?;
        let bridge = stage.start("bridge-1", &mut command)?;
        wait_until_ready(&bridge)?;
        Ok(bridge)
    }

    /// Adds notifications that were over 100 days ago, a thousand of a process.
    pub(crate) fn add_old(&self, stage: &Stage, count: u64) -> Result<()> {
        let url = stage.sink_url(0);
        let sql = format!(
            "WITH p AS (
                 INSERT INTO process (name, run) SELECT 'old-' || g, 1 FROM generate_series(1, {count} / 1000) g RETURNING id
             ), r AS (
                 INSERT INTO request (source, message_id, received_at, process_id, action, outcome, body)
                 SELECT 'bench', 'old-' || id, now() - interval '100 days', id, 'start', 'accepted', '' FROM p
                 RETURNING id, process_id, received_at
             ), n AS (
                 INSERT INTO notification (process_id, organisation, channel, scheduled_at, due_at, accepted_at, expires_at,
                     finished_at, max_attempts, attempts, fence, state)
                 SELECT r.process_id, 'main', 'webhook', r.received_at, r.received_at, r.received_at,
                     r.received_at + interval '1 day', r.received_at, 5, 1, 1, 'delivered'
                 FROM r, generate_series(1, 1000) g
                 RETURNING id, process_id, finished_at
             ), a AS (
                 INSERT INTO attempt (notification_id, number, started_at, finished_at, outcome, worker)
                 SELECT id, 1, finished_at, finished_at, 'delivered', 'bench' FROM n
             )
             INSERT INTO notification_content (notification_id, request_id, run, process_name, address, options)
             SELECT n.id, r.id, 1, 'bench', '{url}', json_build_object('payload', json_build_object('pad', repeat('x', 256)))
             FROM n JOIN r USING (process_id)"
        );
        stage.postgres.ask(&self.database(), &sql)?;
        stage.postgres.ask(&self.database(), "VACUUM ANALYZE").map(drop)
    }

    /// Adds schedules that are all due at this second, and only then.
    pub(crate) fn add_schedules(&self, stage: &Stage, count: u64, due: u64) -> Result<()> {
        let request = json!({
            "process-id": "{{ schedule.name }}-{{ occurrence }}",
            "notifications": [{"channel": "webhook", "in": 86_400, "url": stage.sink_url(0),
                "payload": {"occurrence": "{{ occurrence }}", "pad": "x".repeat(256)}}],
        });
        let sql = format!(
            "INSERT INTO schedule (name, lines, starts_at, ends_at, on_missed, missed_window_seconds, overlap, request,
                 next_at, created_at, updated_at)
             SELECT 's' || n, '[{{\"cron\": \"* * * * * *\", \"time-zone\": \"Europe/Zagreb\"}}]', now(),
                 to_timestamp({due} + 1), 'last', 300, 'skip', '{request}', to_timestamp({due}), now(), now()
             FROM generate_series(1, {count}) n"
        );
        stage.postgres.ask(&self.database(), &sql).map(drop)
    }

    /// Stops the processes of these notifications, one after the other, as the bridge does when little is going on.
    pub(crate) fn stop_processes(&self, stage: &Stage, ids: &[u64]) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let store = self.store(stage)?;
            for id in ids {
                let body = json!({"process-id": process(*id), "action": "stop"}).to_string().into_bytes();
                let request = received(format!("stop-{id}"), body);
                store.requests_apply("bench", &Organisation::default(), &[request]).await?;
            }
            store.close().await;
            Ok(())
        })
    }

    async fn apply(&self, stage: &Stage, store: &Store, first: u64, end: u64, work: Work) -> Result<()> {
        let requests: Vec<_> = (first..end).map(|id| self.request(stage, id, work.t0 + id * work.step)).collect();
        let results = store.requests_apply("bench", &Organisation::default(), &requests).await?;
        if let Some(other) = results.iter().position(|result| result.outcome != RequestOutcome::Accepted) {
            anyhow::bail!("{:?}: {:?}", results[other].outcome, requests[other].parsed);
        }
        if let Some(due_at) = results.iter().filter_map(|result| result.due_soon_at).min() {
            store.hint_due(due_at).await?;
        }
        Ok(())
    }
}

fn received(message_id: String, body: Vec<u8>) -> ReceivedRequest {
    let parsed = wire::parse_request(&body).map_err(|rejection| RejectedRequest {
        process: rejection.process,
        reasons: json!(rejection.reasons.iter().map(|reason| reason.to_string()).collect::<Vec<_>>()),
    });
    ReceivedRequest { message_id, body, parsed }
}

/// The process of a notification.
pub(crate) fn process(id: u64) -> String {
    format!("order-{id}")
}

fn wait_until_ready(worker: &Worker) -> Result<()> {
    let mut address = None;
    wait_for(&format!("{} to be ready", worker.name), Duration::from_secs(60), || {
        anyhow::ensure!(worker.process.try_wait()?.is_none(), "{} ended: {}", worker.name, worker.log.display());
        if address.is_none() {
            let log = std::fs::read_to_string(&worker.log)?;
            let health = log.lines().find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                line["health"].as_str().map(str::to_owned)
            });
            address = health;
        }
        Ok(address.as_ref().is_some_and(|address| ureq::get(format!("http://{address}/health/ready")).call().is_ok()))
    })
}

impl Contender for Tocsin {
    fn name(&self) -> &str {
        self.label
    }

    fn prepare(&self, stage: &Stage) -> Result<()> {
        stage.postgres.create_database(&self.database())?;
        let mut migrate = Command::new(programs_dir()?.join("tocsin"));
        run(migrate.arg("migrate").env_clear().env("TOCSIN_DATABASE__URL", stage.postgres.url(&self.database())))
    }

    fn reset(&self, stage: &Stage) -> Result<()> {
        stage.rabbitmq.control(&["purge_queue", "--vhost", "tocsin", "notify.webhook"])?;
        let all = "TRUNCATE process, request, notification, notification_content, attempt, dead_letter, schedule";
        stage.postgres.ask(&self.database(), all).map(drop)
    }

    fn add_far_future(&self, stage: &Stage, count: u64) -> Result<()> {
        // A process of a thousand each: what counts here are the rows beside which the due ones are found.
        let url = stage.sink_url(0);
        let sql = format!(
            "WITH p AS (
                 INSERT INTO process (name, run) SELECT 'far-' || g, 1 FROM generate_series(1, {count} / 1000) g RETURNING id
             ), r AS (
                 INSERT INTO request (source, message_id, received_at, process_id, action, outcome, body)
                 SELECT 'bench', 'far-' || id, now(), id, 'start', 'accepted', '' FROM p RETURNING id, process_id
             ), n AS (
                 INSERT INTO notification (process_id, organisation, channel, scheduled_at, due_at, wake_at, accepted_at,
                     expires_at, max_attempts)
                 SELECT r.process_id, 'main', 'webhook', t.at, t.at, t.at, now(), t.at + interval '1 day', 5
                 FROM r, generate_series(1, 1000) g,
                     LATERAL (SELECT now() + interval '10 years' + (r.id + g) * interval '1 second' AS at) t
                 RETURNING id, process_id
             )
             INSERT INTO notification_content (notification_id, request_id, run, process_name, address, options)
             SELECT n.id, r.id, 1, 'bench', '{url}', json_build_object('payload', json_build_object('pad', repeat('x', 256)))
             FROM n JOIN r USING (process_id)"
        );
        stage.postgres.ask(&self.database(), &sql)?;
        stage.postgres.ask(&self.database(), "VACUUM ANALYZE").map(drop)
    }

    fn start(&self, stage: &Stage) -> Result<Vec<Worker>> {
        let mut workers = self.start_program(stage, "notifier-webhook", self.notifiers)?;
        workers.extend(self.start_program(stage, "activator", self.activators)?);
        Ok(workers)
    }

    fn enqueue(&self, stage: &Stage, work: Work) -> Result<()> {
        let (batch, tasks) = if work.ahead > 0 { (1, 1) } else { (BATCH, 2) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let store = self.store(stage)?;
            let enqueuing = (0..tasks).map(|task| self.enqueue_share(stage, &store, work, batch, (task, tasks)));
            try_join_all(enqueuing).await?;
            store.close().await;
            Ok(())
        })
    }

    fn enqueue_time(&self, count: u64) -> Duration {
        Duration::from_secs(3) + Duration::from_micros(180 * count)
    }

    fn is_recorded(&self, stage: &Stage) -> Result<bool> {
        let left = "SELECT EXISTS (SELECT FROM notification WHERE channel = 'webhook' AND wake_at IS NOT NULL
                        AND wake_at < now() + interval '1 year')";
        Ok(stage.postgres.ask(&self.database(), left)? == "f")
    }

    /// Delivered, each with one attempt in its history.
    fn recorded(&self, stage: &Stage, work: Work) -> Result<u64> {
        let delivered = format!(
            "SELECT count(*) FROM notification n JOIN attempt a ON a.notification_id = n.id
             WHERE n.state = 'delivered' AND a.outcome = 'delivered'
                 AND extract(epoch FROM n.scheduled_at) * 1e6 BETWEEN {} AND {}",
            work.t0,
            work.t0 + work.count * work.step
        );
        stage.number(&self.database(), &delivered)
    }
}
