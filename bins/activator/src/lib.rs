//! The activator: takes what is due from Postgres and publishes it to RabbitMQ, routed by channel.
//!
//! It also starts processes as schedules say, which one activator at a time does. It brings back what got lost on the way:
//! messages that were never confirmed or never taken, and claims whose worker died. And it drops what is over and old. Any
//! number of activators may run at once.

mod confirmed;
mod dead_letters;
mod dispatcher;
mod retention;
mod returned;
mod scheduler;
mod session;

use std::{sync::Arc, time::Instant};

use broker::Broker;
use runtime::{
    Checks, Component, ExposeSecret, Failure, Lifecycle, MEND_DATABASE, Program, Reader, Run, SecretString,
    connection_name,
    settings::{ACTIVATOR_BUNDLE, BROKER_URL, DATABASE_URL, RETENTION_DAYS},
};
use store::{DueHint, EarliestDue, Store};
use tokio::sync::Notify;

use crate::scheduler::Scheduler;

/// The program.
pub const PROGRAM: Program<Config> = Program {
    name: "activator",
    about: "Publishes notifications that are due to RabbitMQ, and rescues what got lost on the way",
    settings: &[&[BROKER_URL, ACTIVATOR_BUNDLE, RETENTION_DAYS]],
    has_once: true,
    read: Config::read,
};

/// How the activator works.
pub struct Config {
    database_url: SecretString,
    broker_url: SecretString,
    bundle: usize,
    retention_days: u16,
}

impl Config {
    fn read(reader: &mut Reader) -> Option<Self> {
        let database_url = reader.secret(&DATABASE_URL);
        let broker_url = reader.secret(&BROKER_URL);
        let bundle = reader.number(&ACTIVATOR_BUNDLE, 1..=wire::MAX_ITEMS);
        let retention_days = reader.number(&RETENTION_DAYS, 1..=36_500);
        Some(Self {
            database_url: database_url?,
            broker_url: broker_url?,
            bundle: bundle?,
            retention_days: retention_days?,
        })
    }
}

/// What the parts of the activator share.
pub(crate) struct Activator {
    pub(crate) store: Store,
    pub(crate) broker: Broker,
    pub(crate) database: Component,
    pub(crate) broker_health: Component,
    pub(crate) dead_letters: Component,
    pub(crate) bundle: usize,
    /// For how long what is over is kept.
    pub(crate) retention_days: u16,
    /// Something may be due earlier than was thought.
    pub(crate) due: EarliestDue,
    /// A schedule's next occurrence may be earlier than was thought.
    pub(crate) schedule_hint: Notify,
    pub(crate) lifecycle: Lifecycle,
}

/// Runs until it is told to stop, or, once, until nothing is due.
pub async fn run(config: Config, run: Run, lifecycle: Lifecycle) -> Result<(), Failure> {
    let unavailable = |error: &dyn std::fmt::Display| Failure::Unavailable(error.to_string());
    let name = connection_name(PROGRAM.name);
    let store = Store::new(config.database_url.expose_secret(), &name, 8).map_err(|e| unavailable(&e))?;
    let broker = Broker::new(config.broker_url.expose_secret(), PROGRAM.name).map_err(|e| unavailable(&e))?;
    if let Some(format) = run.check {
        return check(&store, &broker, Checks::new(format)).await;
    }
    let activator = Arc::new(Activator {
        store: store.clone(),
        broker,
        database: lifecycle.health.component("database"),
        broker_health: lifecycle.health.component("broker"),
        dead_letters: lifecycle.health.component("dead letters"),
        bundle: config.bundle,
        retention_days: config.retention_days,
        due: EarliestDue::default(),
        schedule_hint: Notify::new(),
        lifecycle: lifecycle.clone(),
    });
    if run.migrate {
        store.migrate().await.map_err(|e| unavailable(&e))?;
    }
    if run.once {
        store.check().await.map_err(|e| unavailable(&e))?;
        Scheduler::new(Arc::clone(&activator), name).run_once().await.map_err(|e| unavailable(&e))?;
        session::run_once(&activator).await.map_err(|e| unavailable(&e))?;
        dead_letters::drain(&activator).await.map_err(|e| unavailable(&e))?;
        retention::drop_old(&activator).await;
    } else {
        let watched = store.clone();
        let watch = runtime::watch(activator.database.clone(), lifecycle.clone(), move || {
            let store = watched.clone();
            async move { store.check().await }
        });
        lifecycle.spawn("watch", watch);
        lifecycle.spawn("hints", listen_for_hints(Arc::clone(&activator)));
        lifecycle.spawn("retention", retention::keep_dropping(Arc::clone(&activator)));
        let dead_letters = lifecycle.spawn("dead letters", dead_letters::keep_draining(Arc::clone(&activator)));
        let scheduler = lifecycle.spawn("schedules", Scheduler::new(Arc::clone(&activator), name).run());
        // In a task as well: what the program's own future waits for wakes another thread each time.
        let sessions = lifecycle.spawn("sessions", session::run_until_stopped(Arc::clone(&activator)));
        sessions.await.map_err(|error| Failure::Bug(error.to_string()))?;
        scheduler.await.map_err(|error| Failure::Bug(error.to_string()))?;
        dead_letters.await.map_err(|error| Failure::Bug(error.to_string()))?;
    }
    store.close().await;
    Ok(())
}

async fn check(store: &Store, broker: &Broker, mut checks: Checks) -> Result<(), Failure> {
    let schema = async { store.check().await.map(|()| "answers, and its schema is up to date".to_owned()) };
    checks.check("database", MEND_DATABASE, schema).await;
    let mend = "see that RabbitMQ runs, has imported rabbitmq/definitions.json, and knows the user activator";
    checks.check("broker", mend, broker.check(&[dispatcher::EXCHANGE], &[dead_letters::QUEUE])).await;
    checks.finish()
}

async fn listen_for_hints(activator: Arc<Activator>) {
    let mut backoff = broker::Backoff::default();
    loop {
        let began = Instant::now();
        let listening = async {
            let mut hints = activator.store.listen_for_due_hints().await?;
            loop {
                match hints.next().await? {
                    DueHint::Notification(due_at) => activator.due.add(due_at),
                    DueHint::Schedule => activator.schedule_hint.notify_one(),
                }
            }
        };
        let ended: store::Result<()> = listening.await;
        if let Err(error) = ended {
            tracing::debug!(%error, "no hints for now; the poll makes up for them");
        }
        if !activator.lifecycle.pause(backoff.next_after(began.elapsed(), runtime::chance())).await {
            return;
        }
    }
}
