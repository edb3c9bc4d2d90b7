use std::{
    collections::BTreeMap,
    process::{Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use devservers::{Postgres, RabbitMq, SmallDisk, Workplace, workspace};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{Database, Program, Queue, Simulator, Vhost, WEBHOOK_SECRET, program::binary, wait_for};

/// Everything that an end-to-end test needs, its own and fresh: programs started in it work with one another and with
/// nothing else.
pub struct Arena {
    /// Its database.
    pub database: Database,
    /// Its part of the broker.
    pub vhost: Vhost,
    /// Its queue of requests.
    pub queue: Queue,
    /// Its providers.
    pub simulator: Simulator,
    /// A database server of its own, if it asked for one.
    pub postgres: Option<Postgres>,
    /// A broker of its own, if it asked for one.
    pub rabbitmq: Option<RabbitMq>,
    /// Where its processes run.
    pub workplace: Workplace,
}

impl Arena {
    /// On the servers of all tests.
    pub async fn new() -> Self {
        Self::build(workplace(), None, None).await
    }

    /// With a database server of its own, which the test may stop.
    pub async fn with_own_postgres() -> Self {
        let workplace = workplace();
        let postgres = Postgres::start(&workplace, false).unwrap_or_else(|error| panic!("{error:#}"));
        Self::build(workplace, Some(postgres), None).await
    }

    /// With a database server of its own on a small disk, which the test may fill.
    pub async fn with_postgres_on_small_disk(megabytes: u32) -> (Self, SmallDisk) {
        let workplace = workplace();
        let started = Postgres::start_on_small_disk(&workplace, megabytes);
        let (postgres, disk) = started.unwrap_or_else(|error| panic!("{error:#}"));
        (Self::build(workplace, Some(postgres), None).await, disk)
    }

    /// With a broker of its own, which the test may stop.
    pub async fn with_own_rabbitmq() -> Self {
        let workplace = workplace();
        let rabbitmq = RabbitMq::start(&workplace).unwrap_or_else(|error| panic!("{error:#}"));
        Self::build(workplace, None, Some(rabbitmq)).await
    }

    /// With a database server and a broker of its own.
    pub async fn with_own_servers() -> Self {
        let workplace = workplace();
        let postgres = Postgres::start(&workplace, false).unwrap_or_else(|error| panic!("{error:#}"));
        let rabbitmq = RabbitMq::start(&workplace).unwrap_or_else(|error| panic!("{error:#}"));
        Self::build(workplace, Some(postgres), Some(rabbitmq)).await
    }

    async fn build(workplace: Workplace, postgres: Option<Postgres>, rabbitmq: Option<RabbitMq>) -> Self {
        let database = match &postgres {
            Some(postgres) => Database::create_on(postgres).await,
            None => Database::create().await,
        };
        database.set_caller_ids(&json!({"default": "+15005550006"})).await;
        let vhost = rabbitmq.as_ref().map_or_else(Vhost::create, Vhost::of);
        let simulator = Simulator::start(&workplace).await;
        Self { database, vhost, queue: Queue::create(), simulator, postgres, rabbitmq, workplace }
    }

    /// Starts a program and waits until it is ready.
    pub async fn start(&self, name: &str) -> Program {
        self.start_with(name, &[], &[]).ready().await
    }

    /// Starts a program with settings of the test's own, and does not wait.
    pub fn start_with(&self, name: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Program {
        let mut all = self.settings(name);
        all.extend(settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        Program::spawn(&self.workplace, name, arguments, &all.into_iter().collect::<Vec<_>>())
    }

    /// Starts a program that is killed or frozen at a failpoint, such as `bridge.committed=kill`.
    pub async fn start_failing(&self, name: &str, failpoints: &str) -> Program {
        self.start_with(name, &[], &[("TOCSIN_FAILPOINTS", failpoints)]).ready().await
    }

    /// Starts a program with these settings and no others.
    pub fn start_only_with(&self, name: &str, settings: &[(&str, String)]) -> Program {
        let settings: Vec<_> = settings.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        Program::spawn(&self.workplace, name, &[], &settings)
    }

    /// Starts one of each: bridge, activator, and the workers of these channels.
    pub async fn start_all(&self, channels: &[&str]) -> Vec<Program> {
        let workers = channels.iter().map(|channel| format!("notifier-{channel}"));
        let names = ["bridge".to_owned(), "activator".to_owned()].into_iter().chain(workers);
        let started: Vec<_> = names.map(|name| self.start_with(&name, &[], &[])).collect();
        let mut ready = Vec::new();
        for program in started {
            ready.push(program.ready().await);
        }
        ready
    }

    /// Runs a program of Tocsin's to its end, with this arena's settings.
    pub async fn run(&self, name: &str, arguments: &[&str]) -> Output {
        self.run_with(name, arguments, &[]).await
    }

    /// The same, with settings of the test's own.
    pub async fn run_with(&self, name: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
        let mut all = self.settings(name);
        all.extend(settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let mut command = Command::new(binary(name));
        command.args(arguments).env_clear().envs(all).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(120), command.output()).await;
        output.unwrap_or_else(|_| panic!("{name} {arguments:?} did not end")).expect("the program starts")
    }

    fn settings(&self, program: &str) -> BTreeMap<String, String> {
        [
            ("TOCSIN_DATABASE__URL", self.database.url_for(program).as_str()),
            ("TOCSIN_BROKER__URL", &self.vhost.url(program)),
            ("TOCSIN_SQS__QUEUE_URL", &self.queue.url),
            ("TOCSIN_SQS__ENDPOINT_URL", &self.queue.endpoint),
            ("TOCSIN_SQS__WAIT_TIME_SECONDS", "1"),
            ("TOCSIN_TWILIO__BASE_URL", &self.simulator.url),
            ("TOCSIN_TWILIO__ACCOUNT_SID", "SID"),
            ("TOCSIN_TWILIO__AUTH_TOKEN", "auth-token-development"),
            ("TOCSIN_TWILIO__URL", "http://example.org/twiml"),
            ("TOCSIN_SMTP__HOST", "localhost"),
            ("TOCSIN_SMTP__PORT", &self.simulator.smtp.port().to_string()),
            ("TOCSIN_SMTP__CA_FILE", self.simulator.authority.to_str().expect("a readable path")),
            ("TOCSIN_SMTP__USERNAME", "tocsin"),
            ("TOCSIN_SMTP__PASSWORD", "mail-development"),
            ("TOCSIN_MAIL__FROM", "Tocsin <alarm@example.com>"),
            ("TOCSIN_PUBNUB__SERVICE_URL", &self.simulator.url),
            ("TOCSIN_PUBNUB__PUB_KEY", "pub-key-development"),
            ("TOCSIN_PUBNUB__SUB_KEY", "sub-key-development"),
            ("TOCSIN_SNS__ENDPOINT_URL", &self.queue.endpoint),
            ("TOCSIN_WEBHOOK__SECRET", WEBHOOK_SECRET),
            ("TOCSIN_WEBHOOK__ALLOW_PRIVATE", "true"),
            ("TOCSIN_API__LISTEN", "127.0.0.1:0"),
            ("TOCSIN_HEALTH__LISTEN", "127.0.0.1:0"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    }

    /// Sends a start of phone calls to these numbers, due `in_seconds` from now (negative: in the past).
    pub fn start_calls(&self, process: &str, in_seconds: i64, numbers: &[&str]) {
        let at = self.now() + in_seconds;
        let call = |number: &&str| json!({"channel": "phone", "at": at, "phone-number": number});
        let notifications: Vec<Value> = numbers.iter().map(call).collect();
        let body = json!({"process-id": process, "action": "start", "notifications": notifications});
        self.queue.send(process, &body.to_string());
    }

    /// Sends a start with these notifications.
    pub fn start_process(&self, process: &str, notifications: &[Value]) {
        let body = json!({"process-id": process, "action": "start", "notifications": notifications});
        self.queue.send(process, &body.to_string());
    }

    /// Sends a stop.
    pub fn stop_process(&self, process: &str) {
        self.queue.send(process, &json!({"process-id": process, "action": "stop"}).to_string());
    }

    /// The time, in seconds since 1970. The servers run on this machine and share its clock.
    pub fn now(&self) -> i64 {
        #[expect(clippy::disallowed_methods, reason = "a sender has no other clock than its own")]
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        i64::try_from(since.as_secs()).expect("before the year 292 billion")
    }

    /// Waits until so many requests have been recorded.
    pub async fn requests_recorded(&self, count: i64) {
        self.counted("SELECT count(*) FROM request", count, 30).await;
    }

    /// Waits until so many notifications are in a state.
    pub async fn notifications_in(&self, state: &str, count: i64, seconds: u64) {
        self.counted(&format!("SELECT count(*) FROM notification WHERE state = '{state}'"), count, seconds).await;
    }

    /// Waits until a query gives a number.
    pub async fn counted(&self, sql: &str, count: i64, seconds: u64) {
        wait_for(&format!("{sql} = {count}"), Duration::from_secs(seconds), || async {
            (self.database.try_count(sql).await.ok() == Some(count)).then_some(())
        })
        .await;
    }

    /// `state: count` of all notifications.
    pub async fn states(&self) -> BTreeMap<String, i64> {
        let rows = self.database.texts("SELECT state || ' ' || count(*) FROM notification GROUP BY state").await;
        let pair = |row: &String| {
            let (state, count) = row.split_once(' ').expect("two words");
            (state.to_owned(), count.parse().expect("a number"))
        };
        rows.iter().map(pair).collect()
    }
}

fn workplace() -> Workplace {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let dir = workspace().join(".dev/test/arenas").join(name);
    Workplace::take(&dir).unwrap_or_else(|error| panic!("{error:#}"))
}
