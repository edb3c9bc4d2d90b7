//! Private copies of Postgres, RabbitMQ and an SQS emulator, for development and tests: own folders, own ports, on
//! loopback only. What this starts, it stops; what an earlier run left behind after a kill -9 it finds and ends.

mod ministack;
mod packages;
mod postgres;
mod process;
mod rabbitmq;
mod relay;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub use ministack::{MiniStack, sns, sqs};
pub use packages::{BROWSER, CHROMEDRIVER, PROMTOOL, Purpose, Python, Tool, install_missing, is_root, libfaketime};
pub use postgres::{Postgres, SmallDisk, url_for};
pub use process::{Process, Workplace, free_port};
pub use rabbitmq::{RabbitMq, management};
pub use relay::Relay;
pub use rustix::process::Signal;

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap_or_else(|_| PathBuf::from("."))
}

/// All three servers.
pub struct Servers {
    /// The database server.
    pub postgres: Postgres,
    /// The broker.
    pub rabbitmq: RabbitMq,
    /// The SQS emulator.
    pub ministack: MiniStack,
}

/// Where the servers are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Addresses {
    /// A superuser's URL of the database `postgres`.
    pub postgres_url: String,
    /// `127.0.0.1:port` of AMQP.
    pub amqp: String,
    /// RabbitMQ's management API.
    pub management_url: String,
    /// SQS's endpoint.
    pub sqs_url: String,
}

impl Servers {
    /// Starts all three, in the folder of `workplace`, beside each other.
    pub fn start(workplace: &Workplace, durable: bool) -> Result<Self> {
        let python = Python::prepare(Tool::Emulator)?;
        thread::scope(|scope| {
            let postgres = scope.spawn(|| Postgres::start(workplace, durable).context("Postgres"));
            let rabbitmq = scope.spawn(|| RabbitMq::start(workplace).context("RabbitMQ"));
            let ministack = scope.spawn(|| MiniStack::start(workplace, &python).context("MiniStack"));
            let (postgres, rabbitmq, ministack) = (postgres.join(), rabbitmq.join(), ministack.join());
            let panicked = "the starting thread panicked";
            Ok(Self {
                postgres: postgres.expect(panicked)?,
                rabbitmq: rabbitmq.expect(panicked)?,
                ministack: ministack.expect(panicked)?,
            })
        })
    }

    /// Where they are.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            postgres_url: self.postgres.url("postgres"),
            amqp: self.rabbitmq.amqp(),
            management_url: self.rabbitmq.management_url(),
            sqs_url: self.ministack.url(),
        }
    }

    /// Stops all three, beside each other.
    pub fn stop(self) {
        thread::scope(|scope| {
            scope.spawn(|| self.postgres.stop());
            scope.spawn(|| self.rabbitmq.stop());
            scope.spawn(|| self.ministack.stop());
        });
    }
}

impl Addresses {
    /// Where they are written while the servers for tests run.
    pub fn path() -> PathBuf {
        workspace().join(".dev/test/addresses.json")
    }

    /// Reads the addresses of the running servers for tests.
    pub fn of_test_servers() -> Result<Self> {
        let how = "the servers for tests are not running: start the tests with `cargo xtask test`, or the servers \
                   alone with `cargo xtask servers`";
        Ok(serde_json::from_slice(&fs::read(Self::path()).context(how)?)?)
    }

    /// Writes the addresses down for the tests.
    pub fn write(&self) -> Result<()> {
        Ok(fs::write(Self::path(), serde_json::to_vec_pretty(self)?)?)
    }
}
