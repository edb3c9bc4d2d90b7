//! The bridge: takes start and stop requests from an SQS FIFO queue into Postgres.
//!
//! A message is deleted only after its effect is committed. While Postgres is away nothing is received, so that no
//! redrive policy throws good requests away.

mod applier;
mod outstanding;
mod receiver;

use std::sync::Arc;

use runtime::{
    Checks, Component, ExposeSecret, Failure, Lifecycle, MEND_DATABASE, Program, Reader, Run, SecretString,
    connection_name,
    settings::{DATABASE_URL, SQS_RECEIVERS},
};
use sqs::Queue;
use store::Store;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{applier::Applier, outstanding::Outstanding};

/// The program.
pub const PROGRAM: Program<Config> = Program {
    name: "bridge",
    about: "Takes start and stop requests from an SQS FIFO queue into Postgres",
    settings: &[sqs::SETTINGS, &[SQS_RECEIVERS]],
    has_once: true,
    read: Config::read,
};

/// How the bridge works.
pub struct Config {
    database_url: SecretString,
    queue: sqs::Config,
    receivers: usize,
}

impl Config {
    fn read(reader: &mut Reader) -> Option<Self> {
        let database_url = reader.secret(&DATABASE_URL);
        let queue = sqs::Config::read(reader);
        let receivers = reader.number(&SQS_RECEIVERS, 1..=100);
        Some(Self { database_url: database_url?, queue: queue?, receivers: receivers? })
    }
}

/// What the parts of the bridge share.
pub(crate) struct Bridge {
    pub(crate) queue: Queue,
    pub(crate) store: Store,
    pub(crate) database: Component,
    pub(crate) sqs: Component,
    /// Whether Postgres answers. While it does not, nothing is received.
    pub(crate) database_up: watch::Sender<bool>,
    /// Messages that were received and not deleted yet.
    pub(crate) outstanding: Outstanding,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) once: bool,
}

impl Bridge {
    pub(crate) fn database_is_up(&self) {
        self.database.up();
        self.database_up.send_replace(true);
    }

    pub(crate) fn database_is_down(&self, error: &store::Error) {
        self.database.down(error);
        self.database_up.send_replace(false);
    }
}

/// Runs until it is told to stop, or, once, until the queue is empty.
pub async fn run(config: Config, run: Run, lifecycle: Lifecycle) -> Result<(), Failure> {
    let unavailable = |error: &dyn std::fmt::Display| Failure::Unavailable(error.to_string());
    let store = Store::new(config.database_url.expose_secret(), &connection_name(PROGRAM.name), 4)
        .map_err(|e| unavailable(&e))?;
    let queue = Queue::new(&config.queue).await;
    if let Some(format) = run.check {
        return check(&store, &queue, Checks::new(format)).await;
    }
    let (database, sqs) = (lifecycle.health.component("database"), lifecycle.health.component("sqs"));
    if run.migrate {
        store.migrate().await.map_err(|e| unavailable(&e))?;
    }
    let bridge = Arc::new(Bridge {
        queue,
        store: store.clone(),
        database,
        sqs,
        database_up: watch::Sender::new(false),
        outstanding: Outstanding::default(),
        lifecycle,
        once: run.once,
    });
    if run.once {
        store.check().await.map_err(|e| unavailable(&e))?;
        bridge.database_is_up();
    } else {
        bridge.lifecycle.spawn("watch", watch_database(Arc::clone(&bridge)));
    }

    bridge.lifecycle.spawn("keep hidden", outstanding::keep_hidden(Arc::clone(&bridge)));
    let (batches, incoming) = mpsc::channel(config.receivers);
    let applier = bridge.lifecycle.spawn("applier", Applier::new(Arc::clone(&bridge)).run(incoming));
    let mut receivers = JoinSet::new();
    for _ in 0..config.receivers {
        receivers.spawn(receiver::receive(Arc::clone(&bridge), batches.clone()));
    }
    drop(batches);
    let bug = |error: tokio::task::JoinError| Failure::Bug(error.to_string());
    while let Some(ended) = receivers.join_next().await {
        ended.map_err(bug)?.map_err(Failure::Unavailable)?;
    }
    applier.await.map_err(bug)?.map_err(|e| unavailable(&e))?;
    store.close().await;
    Ok(())
}

async fn check(store: &Store, queue: &Queue, mut checks: Checks) -> Result<(), Failure> {
    let schema = async { store.check().await.map(|()| "answers, and its schema is up to date".to_owned()) };
    checks.check("database", MEND_DATABASE, schema).await;
    let mend =
        "see TOCSIN_SQS__QUEUE_URL, TOCSIN_SQS__ENDPOINT_URL, and AWS's own AWS_REGION, AWS_ACCESS_KEY_ID and so on";
    checks.check("sqs", mend, queue.check()).await;
    checks.finish()
}

async fn watch_database(bridge: Arc<Bridge>) {
    let checked = Arc::clone(&bridge);
    let check = move || {
        let bridge = Arc::clone(&checked);
        async move {
            let checked = bridge.store.check().await;
            bridge.database_up.send_replace(checked.is_ok());
            checked
        }
    };
    runtime::watch(bridge.database.clone(), bridge.lifecycle.clone(), check).await;
}
