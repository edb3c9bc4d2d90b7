use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use devservers::{MiniStack, Postgres, Process, Python, RabbitMq, Signal, Tool, Workplace, free_port, workspace};
use serde_json::Value;

use crate::machine::{self, Sample};

/// Private servers with durable settings, and the receiver. Everything else is started for one run and stopped.
pub(crate) struct Stage {
    pub(crate) postgres: Postgres,
    pub(crate) rabbitmq: RabbitMq,
    sqs: Mutex<Option<MiniStack>>,
    sink: Mutex<Option<Process>>,
    sink_port: u16,
    redis: Mutex<Option<Process>>,
    redis_port: u16,
    workplace: Arc<Workplace>,
}

/// A process of a run, with the name under which its CPU is counted.
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) process: Process,
    pub(crate) log: PathBuf,
}

impl Stage {
    pub(crate) fn set() -> Result<Self> {
        let workplace = Arc::new(Workplace::take(&workspace().join(".dev/bench"))?);
        let interrupted = Arc::clone(&workplace);
        ctrlc::set_handler(move || {
            if let Err(error) = interrupted.end_everything() {
                eprintln!("bench: {error:#}");
            }
            std::process::exit(130);
        })?;
        let postgres = Postgres::start(&workplace, true)?;
        // Room to measure the programs instead of a disk that writes checkpoints.
        for setting in ["shared_buffers = '1GB'", "max_wal_size = '8GB'", "checkpoint_timeout = '30min'"] {
            postgres.ask("postgres", &format!("ALTER SYSTEM SET {setting}"))?;
        }
        postgres.stop();
        postgres.run(&workplace)?;
        let rabbitmq = RabbitMq::start(&workplace)?;
        let stage = Self {
            postgres,
            rabbitmq,
            sqs: Mutex::default(),
            sink: Mutex::default(),
            sink_port: free_port()?,
            redis: Mutex::default(),
            redis_port: free_port()?,
            workplace,
        };
        stage.start_sink(Duration::ZERO)?;
        Ok(stage)
    }

    /// Where logs and the peers' programs are.
    pub(crate) fn dir(&self) -> &Path {
        self.workplace.dir()
    }

    /// The receiver, again, with so long an answer.
    pub(crate) fn start_sink(&self, answer_after: Duration) -> Result<()> {
        let mut sink = self.sink.lock().expect("nobody panics while holding this lock");
        if let Some(sink) = sink.take() {
            drop(sink.kill());
        }
        let mut command = Command::new(programs_dir()?.join("bench-sink"));
        command.args(["--port", &self.sink_port.to_string()]);
        command.args(["--answer-after-ms", &answer_after.as_millis().to_string()]);
        *sink = Some(self.workplace.spawn("sink", &mut command)?);
        wait_for("the sink", Duration::from_secs(10), || Ok(self.sink("count").is_ok()))
    }

    /// What the receiver answers.
    pub(crate) fn sink(&self, question: &str) -> Result<String> {
        let mut answer = ureq::get(format!("http://127.0.0.1:{}/{question}", self.sink_port)).call()?;
        Ok(answer.body_mut().with_config().limit(u64::MAX).read_to_string()?)
    }

    /// What the receiver says of all that has arrived.
    pub(crate) fn arrivals(&self, t0: u64) -> Result<Value> {
        Ok(serde_json::from_str(&self.sink(&format!("arrivals?t0={t0}"))?)?)
    }

    /// An address of the receiver. It has many, as customers have.
    pub(crate) fn sink_url(&self, host: u64) -> String {
        format!("http://127.0.0.{}:{}/hook", 1 + host % 250, self.sink_port)
    }

    /// The SQS emulator, which only some measures need.
    pub(crate) fn with_sqs<T>(&self, work: impl FnOnce(&MiniStack) -> Result<T>) -> Result<T> {
        let mut sqs = self.sqs.lock().expect("nobody panics while holding this lock");
        if sqs.is_none() {
            *sqs = Some(MiniStack::start(&self.workplace, &Python::prepare(Tool::Emulator)?)?);
        }
        work(sqs.as_ref().context("it was just started")?)
    }

    /// Where Redis is, if it was started.
    pub(crate) fn redis_port(&self) -> u16 {
        self.redis_port
    }

    /// Redis, which writes every change to disk at once.
    pub(crate) fn start_redis(&self) -> Result<()> {
        let mut redis = self.redis.lock().expect("nobody panics while holding this lock");
        if redis.is_none() {
            let dir = self.dir().join("redis");
            std::fs::create_dir_all(&dir)?;
            let mut command = Command::new("redis-server");
            command.args(["--port", &self.redis_port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(&dir);
            command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
            let log = File::create(dir.join("redis.log"))?;
            let process = self.workplace.spawn("redis", command.stdout(log)).context("install redis-server first")?;
            *redis = Some(process);
        }
        wait_for("Redis", Duration::from_secs(10), || Ok(self.redis(&["ping"]).is_ok_and(|pong| pong.trim() == "PONG")))
    }

    /// What Redis answers.
    pub(crate) fn redis(&self, question: &[&str]) -> Result<String> {
        let output = Command::new("redis-cli").args(["-p", &self.redis_port.to_string()]).args(question).output()?;
        ensure!(output.status.success(), "redis-cli {question:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// How many messages a queue holds, taken by a worker or not.
    pub(crate) fn queue_depth(&self, queue: &str) -> Result<u64> {
        let path = format!("queues/tocsin/{queue}");
        let queue = devservers::management(&self.rabbitmq.management_url(), "GET", &path, None)?;
        queue["messages"].as_u64().context("messages")
    }

    /// Starts a program whose output goes into a log.
    pub(crate) fn start(&self, name: &str, command: &mut Command) -> Result<Worker> {
        let log = self.dir().join(format!("{name}.log"));
        let output = File::create(&log)?;
        let process = self.workplace.spawn(name, command.stdout(output.try_clone()?).stderr(output))?;
        Ok(Worker { name: name.to_owned(), process, log })
    }

    /// The CPU that servers, receiver and these have used so far.
    pub(crate) fn sample(&self, workers: &[Worker]) -> Result<Sample> {
        let sink = self.sink.lock().expect("nobody panics while holding this lock").as_ref().map(Process::pid);
        let redis = self.redis.lock().expect("nobody panics while holding this lock").as_ref().map(Process::pid);
        let servers =
            [("postgres", self.postgres.pid()), ("rabbitmq", self.rabbitmq.pid()), ("redis", redis), ("sink", sink)];
        let mut parts: Vec<_> =
            servers.into_iter().filter_map(|(name, pid)| pid.map(|pid| (name.to_owned(), pid))).collect();
        parts.extend(workers.iter().map(|worker| (worker.name.clone(), worker.process.pid())));
        machine::sample(&parts)
    }

    /// A number that Postgres answers.
    pub(crate) fn number(&self, database: &str, sql: &str) -> Result<u64> {
        self.postgres.ask(database, sql)?.parse().with_context(|| sql.to_owned())
    }

    /// Stops everything.
    pub(crate) fn strike(self) {
        if let Ok(Some(sink)) = self.sink.into_inner() {
            drop(sink.kill());
        }
        if let Ok(Some(redis)) = self.redis.into_inner() {
            drop(redis.stop(Signal::TERM, Duration::from_secs(10)));
        }
        if let Ok(Some(sqs)) = self.sqs.into_inner() {
            sqs.stop();
        }
        self.rabbitmq.stop();
        self.postgres.stop();
    }
}

impl Worker {
    /// Waits for a word in its log.
    pub(crate) fn wait_until_it_says(&self, word: &str) -> Result<()> {
        wait_for(&format!("{word:?} in {}", self.log.display()), Duration::from_secs(60), || {
            ensure!(self.process.try_wait()?.is_none(), "it ended; see {}", self.log.display());
            Ok(std::fs::read_to_string(&self.log)?.contains(word))
        })
    }
}

/// Ends them in good order.
pub(crate) fn stop(workers: Vec<Worker>) -> Result<()> {
    for worker in &workers {
        worker.process.stop(Signal::TERM, Duration::from_secs(40))?;
    }
    Ok(())
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Where Tocsin's own programs are: beside this one.
pub(crate) fn programs_dir() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().context("this program's folder")?.to_owned())
}

/// Asks again and again until it is so.
pub(crate) fn wait_for(what: &str, limit: Duration, is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_and_ask_every(Duration::from_millis(20), what, limit, is_so)
}

/// The same where to ask costs so much that it slows down what is measured.
pub(crate) fn wait_and_ask_every(
    interval: Duration,
    what: &str,
    limit: Duration,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let end = Instant::now() + limit;
    while !is_so()? {
        ensure!(Instant::now() < end, "waited {} s for {what}", limit.as_secs());
        sleep(interval);
    }
    Ok(())
}

/// Microseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "contenders and receiver share this machine's clock")]
pub(crate) fn micros_now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()).unwrap_or_default()
}

/// Waits until a time in microseconds since 1970.
pub(crate) fn wait_until(micros: u64) {
    sleep(Duration::from_micros(micros.saturating_sub(micros_now())));
}
