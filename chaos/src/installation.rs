use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use devservers::{MiniStack, Postgres, Process, Python, RabbitMq, Relay, Tool, Workplace, free_port, sqs, url_for};
use serde_json::{Value, json};

use crate::{
    channel::CHANNELS,
    program::{Program, programs_dir},
};

const DATABASE: &str = "tocsin";

/// Signs webhooks.
const WEBHOOK_SECRET: &str = "whsec_dG9jc2luLWRldmVsb3BtZW50LXNpZ25pbmcta2V5";

/// How long a call may take. It and half a minute is how long the claim of a killed worker lasts.
const CALL_TIMEOUT_SECONDS: u64 = 5;

/// How long SQS hides what a killed bridge had received.
const VISIBILITY_SECONDS: u64 = 5;

/// Servers of its own, simulated providers, and every program: some of them twice.
pub(crate) struct Installation {
    pub(crate) postgres: Postgres,
    /// One, or the three of a cluster.
    pub(crate) brokers: Vec<RabbitMq>,
    pub(crate) queue: RequestQueue,
    pub(crate) simulator: Simulator,
    pub(crate) api: Api,
    pub(crate) programs: Vec<Program>,
    pub(crate) workplace: Workplace,
    ministack: MiniStack,
    logs: PathBuf,
}

/// The SQS queue of requests.
pub(crate) struct RequestQueue {
    endpoint: String,
    url: String,
}

/// The HTTP API, and a key to it.
pub(crate) struct Api {
    pub(crate) url: String,
    pub(crate) key: String,
}

/// The simulated providers.
pub(crate) struct Simulator {
    /// Where they speak HTTP.
    pub(crate) url: String,
    smtp_port: u16,
    authority: String,
    _process: Process,
}

impl Installation {
    /// Starts everything in this folder, which is emptied before, and waits until all of it is ready.
    pub(crate) fn start(folder: &Path, cluster: bool) -> Result<Self> {
        let python = Python::prepare(Tool::Emulator)?;
        let workplace = Workplace::take(folder)?;
        for name in ["postgres", "rabbitmq", "ministack", "logs"] {
            let dir = folder.join(name);
            if dir.exists() {
                fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
            }
        }
        let logs = folder.join("logs");
        fs::create_dir_all(&logs)?;
        let (postgres, brokers, ministack) = start_servers(&workplace, &python, cluster)?;
        postgres.ask("postgres", &format!("DROP DATABASE IF EXISTS {DATABASE}"))?;
        postgres.create_database(DATABASE)?;
        migrate(&postgres)?;
        let queue = RequestQueue::create(&ministack.url())?;
        let simulator = Simulator::start(&workplace, &logs)?;
        let api = Api { url: format!("http://127.0.0.1:{}", free_port()?), key: String::new() };
        let programs = Vec::new();
        let mut this = Self { postgres, brokers, queue, simulator, api, programs, workplace, ministack, logs };
        this.api.key = this.operate(&["key", "create", "chaos", "--role", "operate"])?;
        let twice = ["bridge", "activator", "notifier-phone"];
        let workers = CHANNELS.iter().map(|channel| channel.program);
        for name in ["bridge", "activator", "api"].into_iter().chain(workers) {
            let copies = if twice.contains(&name) { 2 } else { 1 };
            for copy in 1..=copies {
                let label = if copies == 1 { name.to_owned() } else { format!("{name}-{copy}") };
                let program = this.program(label, name)?;
                program.start(&this.workplace)?;
                this.programs.push(program);
            }
        }
        this.wait_until_ready(Duration::from_secs(90))?;
        Ok(this)
    }

    /// Waits until every program is ready.
    pub(crate) fn wait_until_ready(&self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        for program in &self.programs {
            while let Some(why) = program.not_ready() {
                if Instant::now() > end {
                    bail!(
                        "{} is not ready within {} s: {why}; its log is {}",
                        program.label,
                        limit.as_secs(),
                        program.log().display()
                    );
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// What Postgres answers to a question that gives rows, as JSON.
    pub(crate) fn rows(&self, sql: &str) -> Result<Vec<Value>> {
        let text = self.postgres.ask(DATABASE, &format!("SELECT coalesce(json_agg(x), '[]') FROM ({sql}) x"))?;
        serde_json::from_str(&text).with_context(|| sql.to_owned())
    }

    /// The one number that a question gives.
    pub(crate) fn number(&self, sql: &str) -> Result<u64> {
        self.postgres.ask(DATABASE, sql)?.parse().with_context(|| sql.to_owned())
    }

    /// Runs `tocsin`, the operator's command, and answers what it says.
    pub(crate) fn operate(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(programs_dir()?.join("tocsin"));
        command.args(arguments).env_clear().stdin(Stdio::null());
        command.env("TOCSIN_DATABASE__URL", url_for("tocsin", &self.postgres.url(DATABASE)));
        let output = command.output()?;
        if !output.status.success() {
            bail!("tocsin {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Where the programs' logs are.
    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    /// Stops the programs in good order, and says what is wrong with how they end.
    pub(crate) fn stop_programs(&self) -> Vec<String> {
        thread::scope(|scope| {
            let stops: Vec<_> = self.programs.iter().map(|program| scope.spawn(|| program.stop())).collect();
            let ends = stops.into_iter().map(|stop| stop.join().expect("the stopping thread panicked"));
            ends.filter_map(|end| end.err().map(|error| format!("{error:#}"))).collect()
        })
    }

    /// Stops the servers.
    pub(crate) fn stop_servers(&self) {
        thread::scope(|scope| {
            scope.spawn(|| self.postgres.stop());
            scope.spawn(|| self.ministack.stop());
            // Nothing of theirs is used again, and a cluster that stops in good order takes its time.
            scope.spawn(|| self.brokers.iter().for_each(RabbitMq::kill));
        });
    }

    fn program(&self, label: String, name: &'static str) -> Result<Program> {
        let postgres = Relay::to(&self.postgres.address());
        let amqp: Vec<_> = self.brokers.iter().map(RabbitMq::amqp).collect();
        let rabbitmq = Relay::to_any(&amqp);
        let database =
            url_for(name, &self.postgres.url(DATABASE)).replace(&self.postgres.address(), &postgres.address());
        let mut settings = self.settings();
        settings.push(("TOCSIN_DATABASE__URL", database));
        settings
            .push(("TOCSIN_BROKER__URL", format!("amqp://{name}:{name}-development@{}/tocsin", rabbitmq.address())));
        let mut relays = vec![("postgres", postgres), ("rabbitmq", rabbitmq)];
        if name == "bridge" {
            let sqs = Relay::to(self.queue.endpoint.trim_start_matches("http://"));
            settings.push(("TOCSIN_SQS__ENDPOINT_URL", format!("http://{}", sqs.address())));
            relays.push(("sqs", sqs));
        }
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Program::new(label, name, relays, settings, free_port()?, &self.logs))
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let simulator = &self.simulator;
        vec![
            ("TOCSIN_SQS__QUEUE_URL", self.queue.url.clone()),
            ("TOCSIN_SQS__WAIT_TIME_SECONDS", "1".to_owned()),
            ("TOCSIN_TWILIO__BASE_URL", simulator.url.clone()),
            ("TOCSIN_TWILIO__ACCOUNT_SID", "AC00000000000000000000000000000000".to_owned()),
            ("TOCSIN_TWILIO__AUTH_TOKEN", "token-development".to_owned()),
            ("TOCSIN_TWILIO__URL", "http://demo.twilio.com/docs/voice.xml".to_owned()),
            ("TOCSIN_SMTP__HOST", "localhost".to_owned()),
            ("TOCSIN_SMTP__PORT", simulator.smtp_port.to_string()),
            ("TOCSIN_SMTP__CA_FILE", simulator.authority.clone()),
            ("TOCSIN_SMTP__USERNAME", "tocsin".to_owned()),
            ("TOCSIN_SMTP__PASSWORD", "mail-development".to_owned()),
            ("TOCSIN_MAIL__FROM", "Tocsin <alarm@example.com>".to_owned()),
            ("TOCSIN_PUBNUB__SERVICE_URL", simulator.url.clone()),
            ("TOCSIN_PUBNUB__PUB_KEY", "pub-key-development".to_owned()),
            ("TOCSIN_PUBNUB__SUB_KEY", "sub-key-development".to_owned()),
            ("TOCSIN_SNS__ENDPOINT_URL", simulator.url.clone()),
            ("TOCSIN_API__LISTEN", self.api.url.trim_start_matches("http://").to_owned()),
            ("TOCSIN_WEBHOOK__SECRET", WEBHOOK_SECRET.to_owned()),
            ("TOCSIN_WEBHOOK__ALLOW_PRIVATE", "true".to_owned()),
            ("TOCSIN_NOTIFIER__CALL_TIMEOUT_SECONDS", CALL_TIMEOUT_SECONDS.to_string()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }
}

fn start_servers(
    workplace: &Workplace,
    python: &Python,
    cluster: bool,
) -> Result<(Postgres, Vec<RabbitMq>, MiniStack)> {
    thread::scope(|scope| {
        // No power failure is among the faults, so nothing need be forced to the disk.
        let postgres = scope.spawn(|| Postgres::start(workplace, false).context("Postgres"));
        let brokers = scope.spawn(|| match cluster {
            true => RabbitMq::start_cluster(workplace).context("the RabbitMQ cluster"),
            false => RabbitMq::start(workplace).map(|broker| vec![broker]).context("RabbitMQ"),
        });
        let ministack = scope.spawn(|| MiniStack::start(workplace, python).context("MiniStack"));
        let (postgres, brokers, ministack) = (postgres.join(), brokers.join(), ministack.join());
        let panicked = "the starting thread panicked";
        Ok((postgres.expect(panicked)?, brokers.expect(panicked)?, ministack.expect(panicked)?))
    })
}

/// Brings the schema up to date as the database's owner, and says whose number calls come from.
fn migrate(postgres: &Postgres) -> Result<()> {
    let mut command = Command::new(programs_dir()?.join("tocsin"));
    command.arg("migrate").env_clear().env("TOCSIN_DATABASE__URL", postgres.url(DATABASE));
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let registry = "INSERT INTO property (key, value) VALUES ('caller-id-registry', '{\"default\": \"+15005550006\"}')";
    postgres.ask(DATABASE, registry).map(drop)
}

impl RequestQueue {
    fn create(endpoint: &str) -> Result<Self> {
        let attributes = json!({"FifoQueue": "true", "VisibilityTimeout": VISIBILITY_SECONDS.to_string()});
        let answer = sqs(endpoint, "CreateQueue", &json!({"QueueName": "chaos.fifo", "Attributes": attributes}))?;
        let url = answer["QueueUrl"].as_str().context("no QueueUrl in the answer")?.to_owned();
        Ok(Self { endpoint: endpoint.to_owned(), url })
    }

    /// Sends a request, and answers its MessageId.
    pub(crate) fn send(&self, group: &str, unique: &str, body: &str) -> Result<String> {
        let message = json!({
            "QueueUrl": self.url, "MessageGroupId": group, "MessageDeduplicationId": unique, "MessageBody": body,
        });
        let answer = sqs(&self.endpoint, "SendMessage", &message)?;
        Ok(answer["MessageId"].as_str().context("no MessageId in the answer")?.to_owned())
    }

    /// How many messages it has, hidden ones among them.
    pub(crate) fn depth(&self) -> Result<u64> {
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let question = json!({"QueueUrl": self.url, "AttributeNames": names});
        let answer = sqs(&self.endpoint, "GetQueueAttributes", &question)?;
        let number = |name: &str| answer["Attributes"][name].as_str().and_then(|text| text.parse::<u64>().ok());
        names.iter().map(|name| number(name).context("a number of messages")).sum()
    }
}

impl Simulator {
    fn start(workplace: &Workplace, logs: &Path) -> Result<Self> {
        let (http_port, smtp_port, smtps_port) = (free_port()?, free_port()?, free_port()?);
        let [http, smtp, smtps] = [http_port, smtp_port, smtps_port].map(|port| format!("127.0.0.1:{port}"));
        let authority = workplace.dir().join("authority.pem").display().to_string();
        let log = fs::File::create(logs.join("simulator.log"))?;
        let mut command = Command::new(programs_dir()?.join("simulator"));
        command.args(["--listen", &http, "--smtp-listen", &smtp, "--smtps-listen", &smtps, "--authority", &authority]);
        command.env_clear().env("TOCSIN_WEBHOOK__SECRET", WEBHOOK_SECRET);
        let process = workplace.spawn("simulator", command.stdout(log.try_clone()?).stderr(log))?;
        let this = Self { url: format!("http://{http}"), smtp_port, authority, _process: process };
        let end = Instant::now() + Duration::from_secs(20);
        while let Err(error) = this.arrivals() {
            if Instant::now() > end {
                return Err(error.context("the simulator does not answer"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(this)
    }

    /// Everything that arrived.
    pub(crate) fn arrivals(&self) -> Result<Vec<Value>> {
        let mut response = ureq::get(format!("{}/simulator/arrivals", self.url)).call()?;
        let text = response.body_mut().with_config().limit(u64::MAX).read_to_string()?;
        serde_json::from_str(&text).context("the simulator's list")
    }

    /// Sets how they misbehave.
    pub(crate) fn set_rules(&self, rules: &[Value]) -> Result<()> {
        ureq::put(format!("{}/simulator/rules", self.url)).send_json(rules)?;
        Ok(())
    }
}
