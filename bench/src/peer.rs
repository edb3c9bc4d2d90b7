use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};
use devservers::workspace;

use crate::{
    contender::{Contender, Work},
    stage::{Stage, Worker, micros_now, run},
};

/// What a user would pick instead: a library with a program around it in bench/peers, with the settings that gave it
/// its best figures.
pub(crate) struct Peer {
    name: &'static str,
    program: Program,
    /// Worker processes.
    copies: usize,
    keeps: Keeps,
    /// How long handing over one takes at most, in microseconds.
    enqueue_micros: u64,
}

enum Program {
    /// The crate's folder, and what it builds.
    Rust(&'static str, &'static str),
    /// The script in bench/peers/node.
    Node(&'static str),
    Celery,
}

/// Where it keeps its work, and how to ask.
enum Keeps {
    Postgres {
        database: &'static str,
        clear: &'static str,
        /// `{n}` rows that are due in years. One ordinary job has been handed over before.
        far: &'static str,
        /// Whether anything that is due is unfinished.
        unfinished: &'static str,
        /// How many of the run's have not come to a good end.
        not_good: &'static str,
    },
    Redis,
    RabbitMq,
}

const GRAPHILE: [&str; 4] = [
    "TRUNCATE graphile_worker._private_jobs CASCADE",
    "INSERT INTO graphile_worker._private_jobs (task_id, payload, run_at, job_queue_id, max_attempts)
     SELECT t.id, json_build_object('id', g, 'due', 4000000000000000, 'pad', repeat('x', 256)),
         now() + interval '10 years' + g * interval '1 second', NULL, 25
     FROM generate_series(1, {n}) g, graphile_worker._private_tasks t WHERE t.identifier = 'send'",
    "SELECT EXISTS (SELECT FROM graphile_worker._private_jobs WHERE run_at <= now())",
    // Jobs that are done are deleted; those that failed stay.
    "SELECT count(*) FROM graphile_worker._private_jobs WHERE run_at < now() + interval '1 year'",
];

const fn graphile(database: &'static str) -> Keeps {
    let [clear, far, unfinished, not_good] = GRAPHILE;
    Keeps::Postgres { database, clear, far, unfinished, not_good }
}

/// All of them, the default ones first.
pub(crate) const PEERS: &[Peer] = &[
    Peer {
        name: "graphile_worker",
        program: Program::Rust("graphile_worker", "graphile-worker-peer"),
        copies: 1,
        keeps: graphile("peer_graphile_rust"),
        enqueue_micros: 100,
    },
    Peer {
        name: "graphile-worker",
        program: Program::Node("graphile-worker.mjs"),
        copies: 2,
        keeps: graphile("peer_graphile_node"),
        enqueue_micros: 100,
    },
    Peer {
        name: "pg-boss",
        program: Program::Node("pg-boss.mjs"),
        copies: 1,
        keeps: Keeps::Postgres {
            database: "peer_pg_boss",
            clear: "TRUNCATE pgboss.job CASCADE",
            far: "INSERT INTO pgboss.job (name, data, start_after, keep_until, policy, retry_limit)
                  SELECT 'send', json_build_object('id', g, 'due', 4000000000000000, 'pad', repeat('x', 256)),
                      now() + interval '10 years' + g * interval '1 second', now() + interval '11 years', 'standard', 5
                  FROM generate_series(1, {n}) g",
            unfinished: "SELECT EXISTS (SELECT FROM pgboss.job WHERE state < 'completed' AND start_after <= now())",
            not_good: "SELECT count(*) FROM pgboss.job WHERE name = 'send' AND state <> 'completed'
                           AND start_after < now() + interval '1 year'",
        },
        enqueue_micros: 100,
    },
    Peer {
        name: "apalis",
        program: Program::Rust("apalis", "apalis-peer"),
        copies: 2,
        keeps: Keeps::Postgres {
            database: "peer_apalis",
            clear: "TRUNCATE apalis.jobs CASCADE; DELETE FROM apalis.workers",
            far:
                "INSERT INTO apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at, priority, metadata)
                  SELECT g::text, 'send', convert_to(json_build_object('id', g, 'due', 4000000000000000,
                      'pad', repeat('x', 256))::text, 'UTF8'), 'Pending', 0, 5,
                      now() + interval '10 years' + g * interval '1 second', 0, ''
                  FROM generate_series(1, {n}) g",
            unfinished: "SELECT EXISTS (SELECT FROM apalis.jobs WHERE status <> 'Done' AND run_at <= now())",
            not_good: "SELECT count(*) FROM apalis.jobs WHERE status <> 'Done' AND run_at < now() + interval '1 year'",
        },
        enqueue_micros: 60,
    },
    Peer { name: "bullmq", program: Program::Node("bullmq.mjs"), copies: 1, keeps: Keeps::Redis, enqueue_micros: 150 },
    Peer { name: "celery", program: Program::Celery, copies: 2, keeps: Keeps::RabbitMq, enqueue_micros: 900 },
];

const CELERY_QUEUE: &str = "celery";

impl Peer {
    fn command(&self, stage: &Stage, arguments: &[&str]) -> Command {
        let peers = stage.dir().join("peers");
        let mut command = match self.program {
            Program::Rust(_, program) => Command::new(peers.join("target/release").join(program)),
            Program::Node(script) => {
                let mut node = Command::new("node");
                node.arg(script).current_dir(peers.join("node"));
                node
            }
            Program::Celery if arguments == ["worker"] => {
                let mut celery = Command::new(peers.join("celery/bin/celery"));
                celery.args(["-A", "tasks", "worker", "-P", "gevent", "-c", "100", "-O", "fair", "-l", "WARNING"]);
                celery.args(["--without-gossip", "--without-mingle"]).current_dir(celery_sources());
                celery
            }
            Program::Celery => {
                let mut python = Command::new(peers.join("celery/bin/python"));
                python.arg("tasks.py").current_dir(celery_sources());
                python
            }
        };
        if !matches!(self.program, Program::Celery) || arguments != ["worker"] {
            command.args(arguments);
        }
        if let Keeps::Postgres { database, .. } = self.keeps {
            command.env("BENCH_DATABASE_URL", stage.postgres.url(database));
        }
        command
            .env("BENCH_SINK_URL", stage.sink_url(0))
            .env("BENCH_REDIS_PORT", stage.redis_port().to_string())
            .env("BENCH_BROKER_URL", format!("amqp://admin:admin-development@{}/tocsin", stage.rabbitmq.amqp()));
        command
    }

    fn install(&self, stage: &Stage) -> Result<()> {
        let peers = stage.dir().join("peers");
        match self.program {
            Program::Rust(folder, _) => {
                let manifest = workspace().join("bench/peers").join(folder).join("Cargo.toml");
                let mut cargo = Command::new(env!("CARGO"));
                cargo.args(["build", "--release", "--locked", "--quiet", "--manifest-path"]).arg(manifest);
                run(cargo.arg("--target-dir").arg(peers.join("target")))
            }
            Program::Node(_) => {
                let folder = peers.join("node");
                std::fs::create_dir_all(&folder)?;
                for entry in std::fs::read_dir(workspace().join("bench/peers/node"))? {
                    let file = entry?;
                    std::fs::copy(file.path(), folder.join(file.file_name()))?;
                }
                let mut npm = Command::new("npm");
                run(npm.args(["install", "--omit=optional", "--no-audit", "--no-fund", "--silent"]).current_dir(folder))
            }
            Program::Celery => {
                run(Command::new("python3").args(["-m", "venv"]).arg(peers.join("celery")))?;
                let mut pip = Command::new(peers.join("celery/bin/pip"));
                run(pip.args(["install", "--quiet", "-r"]).arg(celery_sources().join("requirements.txt")))
            }
        }
    }
}

fn celery_sources() -> PathBuf {
    workspace().join("bench/peers/celery")
}

impl Contender for Peer {
    fn name(&self) -> &str {
        self.name
    }

    fn prepare(&self, stage: &Stage) -> Result<()> {
        self.install(stage)?;
        match self.keeps {
            Keeps::Postgres { database, .. } => stage.postgres.create_database(database)?,
            Keeps::Redis => stage.start_redis()?,
            Keeps::RabbitMq => return Ok(()),
        }
        run(&mut self.command(stage, &["setup"]))
    }

    fn reset(&self, stage: &Stage) -> Result<()> {
        match self.keeps {
            Keeps::Postgres { database, clear, .. } => stage.postgres.ask(database, clear).map(drop),
            Keeps::Redis => stage.redis(&["flushall"]).map(drop),
            // The first run declares it.
            Keeps::RabbitMq => stage.rabbitmq.control(&["purge_queue", "--vhost", "tocsin", CELERY_QUEUE]).or(Ok(())),
        }
    }

    fn add_far_future(&self, stage: &Stage, count: u64) -> Result<()> {
        let Keeps::Postgres { database, far, .. } = self.keeps else {
            anyhow::bail!("{} keeps nothing in Postgres to which rows could be added", self.name);
        };
        let ten_years = 10 * 365 * 24 * 3_600 * 1_000_000;
        self.enqueue(stage, Work { count: 1, t0: micros_now() + ten_years, step: 0, ahead: 0 })?;
        stage.postgres.ask(database, &far.replace("{n}", &count.to_string()))?;
        stage.postgres.ask(database, "VACUUM ANALYZE").map(drop)
    }

    fn start(&self, stage: &Stage) -> Result<Vec<Worker>> {
        let start = |copy| stage.start(&format!("{}-{copy}", self.name), &mut self.command(stage, &["worker"]));
        let workers: Vec<_> = (1..=self.copies).map(start).collect::<Result<_>>()?;
        for worker in &workers {
            worker.wait_until_it_says("READY")?;
        }
        Ok(workers)
    }

    fn enqueue(&self, stage: &Stage, work: Work) -> Result<()> {
        let [count, t0, step, ahead] = [work.count, work.t0, work.step, work.ahead].map(|number| number.to_string());
        run(&mut self.command(stage, &["enqueue", &count, &t0, &step, &ahead]))
    }

    fn enqueue_time(&self, count: u64) -> Duration {
        Duration::from_secs(3) + Duration::from_micros(self.enqueue_micros * count)
    }

    fn is_recorded(&self, stage: &Stage) -> Result<bool> {
        Ok(match self.keeps {
            Keeps::Postgres { database, unfinished, .. } => stage.postgres.ask(database, unfinished)? == "f",
            Keeps::Redis => ["wait", "active"].iter().try_fold(true, |empty, list| {
                anyhow::Ok(empty && stage.redis(&["llen", &format!("bull:send:{list}")])?.trim() == "0")
            })?,
            Keeps::RabbitMq => stage.queue_depth(CELERY_QUEUE)? == 0,
        })
    }

    fn recorded(&self, stage: &Stage, work: Work) -> Result<u64> {
        let count = work.count;
        Ok(match self.keeps {
            Keeps::Postgres { database, not_good, .. } => count - stage.number(database, not_good)?.min(count),
            Keeps::Redis => {
                let completed = stage.redis(&["zcard", "bull:send:completed"])?;
                completed.trim().parse().context("zcard")?
            }
            // It keeps no outcome: what it has acknowledged is all that can be known.
            Keeps::RabbitMq => count - stage.queue_depth(CELERY_QUEUE)?.min(count),
        })
    }
}
