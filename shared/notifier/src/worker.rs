use std::{sync::Arc, time::Duration};

use broker::Broker;
use domain::{RetryTier, provider::Provider};
use metrics::{Gauge, Histogram};
use runtime::{
    Checks, Component, ExposeSecret, Failure, Lifecycle, MEND_DATABASE, Reader, Run, SecretString, Setting,
    connection_name, instance_name,
    settings::{BROKER_URL, NOTIFIER_CALL_TIMEOUT_SECONDS, NOTIFIER_DRY_RUN, NOTIFIER_MAX_IN_FLIGHT},
};
use store::Store;
use tokio::sync::{Semaphore, mpsc};

use crate::{Channel, address_share::AddressShares, claimer, gate::Gate, intake, recorder, retrier};

/// How much longer than a call's time limit a claim lasts.
const CLAIM_MARGIN: Duration = Duration::from_secs(30);

/// The settings that every notifier has.
pub const SETTINGS: &[Setting] = &[BROKER_URL, NOTIFIER_MAX_IN_FLIGHT, NOTIFIER_CALL_TIMEOUT_SECONDS, NOTIFIER_DRY_RUN];

/// How a worker works.
#[derive(Debug)]
pub struct Config {
    database_url: SecretString,
    broker_url: SecretString,
    max_in_flight: usize,
    call_timeout: Duration,
    dry_run: bool,
}

impl Config {
    /// Reads the [`SETTINGS`] that every notifier has; `None` if any is wrong.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let database_url = reader.secret(&runtime::settings::DATABASE_URL);
        let broker_url = reader.secret(&BROKER_URL);
        let max_in_flight = reader.number(&NOTIFIER_MAX_IN_FLIGHT, 1..=10_000);
        let call_timeout = reader.seconds(&NOTIFIER_CALL_TIMEOUT_SECONDS, 1..=300);
        let dry_run = reader.flag(&NOTIFIER_DRY_RUN);
        Some(Self {
            database_url: database_url?,
            broker_url: broker_url?,
            max_in_flight: max_in_flight?,
            call_timeout: call_timeout?,
            dry_run: dry_run?,
        })
    }

    /// When a call is given up.
    pub fn call_timeout(&self) -> Duration {
        self.call_timeout
    }
}

/// What the parts of a worker share.
pub(crate) struct Worker<C> {
    pub(crate) channel: C,
    pub(crate) name: String,
    pub(crate) store: Store,
    pub(crate) database: Component,
    pub(crate) provider: Provider,
    pub(crate) gate: Gate,
    pub(crate) slots: Arc<Semaphore>,
    max_in_flight: usize,
    pub(crate) shares: AddressShares,
    pub(crate) call_timeout: Duration,
    pub(crate) meters: Meters,
    /// Say what would be sent, and call nobody.
    pub(crate) dry_run: bool,
}

/// What is measured of every call, looked up once: to find a metric by its name takes longer than to count.
pub(crate) struct Meters {
    pub(crate) lateness_seconds: Histogram,
    pub(crate) calls_in_flight: Gauge,
    pub(crate) call_seconds: Histogram,
}

impl Meters {
    fn of(channel: &'static str) -> Self {
        Self {
            lateness_seconds: metrics::histogram!("tocsin_lateness_seconds", "channel" => channel),
            calls_in_flight: metrics::gauge!("tocsin_calls_in_flight", "channel" => channel),
            call_seconds: metrics::histogram!("tocsin_call_seconds", "channel" => channel),
        }
    }
}

impl<C> Worker<C> {
    /// Claims of which the call has not ended.
    pub(crate) fn claims_in_hand(&self) -> usize {
        self.max_in_flight - self.slots.available_permits()
    }

    /// How long a claim lasts.
    pub(crate) fn lease(&self) -> Duration {
        self.call_timeout + CLAIM_MARGIN
    }
}

/// Runs a channel's worker until it is told to stop.
///
/// On the way out nothing new is claimed; calls in flight end, are recorded and acknowledged; what was not claimed
/// goes back to the broker.
pub async fn run<C: Channel>(channel: C, config: Config, run: Run, lifecycle: Lifecycle) -> Result<(), Failure> {
    let program = format!("notifier-{}", C::NAME);
    let unavailable = |error: &dyn std::fmt::Display| Failure::Unavailable(error.to_string());
    let name = connection_name(&program);
    let store = Store::new(config.database_url.expose_secret(), &name, 4).map_err(|e| unavailable(&e))?;
    let broker = Broker::new(config.broker_url.expose_secret(), &program).map_err(|e| unavailable(&e))?;
    if let Some(format) = run.check {
        return check(&channel, &store, &broker, Checks::new(format)).await;
    }
    let health = &lifecycle.health;
    let (database, broker_health) = (health.component("database"), health.component("broker"));
    let gate = Gate::new(health.component("provider"), health.component("channel"));
    if run.migrate {
        store.migrate().await.map_err(|e| unavailable(&e))?;
    }
    let worker = Arc::new(Worker {
        channel,
        name: instance_name(&program),
        store: store.clone(),
        database,
        provider: domain::Channel::named(C::NAME).expect("it stands in domain::CHANNELS").provider,
        gate,
        slots: Arc::new(Semaphore::new(config.max_in_flight)),
        max_in_flight: config.max_in_flight,
        shares: AddressShares::new(config.max_in_flight),
        call_timeout: config.call_timeout,
        meters: Meters::of(C::NAME),
        dry_run: config.dry_run,
    });
    if config.dry_run {
        tracing::warn!(event = "dry_run", channel = C::NAME, "dry run: nobody will be called");
    }
    let watched = Arc::clone(&worker);
    let watch = runtime::watch(worker.database.clone(), lifecycle.clone(), move || look_around(Arc::clone(&watched)));
    lifecycle.spawn("watch", watch);

    let (items, incoming) = mpsc::unbounded_channel();
    let (finished, to_record) = mpsc::unbounded_channel();
    let (retries, to_retry) = mpsc::unbounded_channel();
    let (returned, back) = mpsc::unbounded_channel();
    let prefetch = u16::try_from(2 * config.max_in_flight).unwrap_or(u16::MAX).max(128);
    let queue = wire::queue_name(C::NAME);
    let take_in = intake::take_in(
        broker.clone(),
        queue.clone(),
        prefetch,
        items,
        worker.gate.watch(),
        broker_health,
        lifecycle.clone(),
    );
    let intake = lifecycle.spawn("intake", take_in);
    let record = recorder::record(Arc::clone(&worker), to_record, retries, returned.clone());
    let recorder = lifecycle.spawn("recorder", record);
    let retrier = lifecycle.spawn("retrier", retrier::send_retries(broker, queue, to_retry));

    // In a task as well: what the program's own future waits for wakes another thread each time.
    let claim = claimer::claim_until_stopped(worker, incoming, (returned, back), finished, lifecycle.clone());
    let bug = |error: tokio::task::JoinError| Failure::Bug(error.to_string());
    lifecycle.spawn("claimer", claim).await.map_err(bug)?;
    recorder.await.map_err(bug)?;
    retrier.await.map_err(bug)?;
    if let Some(session) = intake.await.map_err(bug)? {
        session.end().await;
    }
    store.close().await;
    Ok(())
}

/// Whether Postgres answers, and whether somebody has paused the channel.
async fn look_around<C: Channel>(worker: Arc<Worker<C>>) -> store::Result<()> {
    worker.store.check().await?;
    let pause = worker.store.channel_paused(C::NAME).await?;
    metrics::gauge!("tocsin_channel_paused", "channel" => C::NAME).set(f64::from(u8::from(pause.is_some())));
    worker.gate.set_paused(pause.map(|pause| pause.to_string()));
    Ok(())
}

async fn check<C: Channel>(channel: &C, store: &Store, broker: &Broker, mut checks: Checks) -> Result<(), Failure> {
    let program = format!("notifier-{}", C::NAME);
    let schema = async { store.check().await.map(|()| "answers, and its schema is up to date".to_owned()) };
    checks.check("database", MEND_DATABASE, schema).await;
    let queue = wire::queue_name(C::NAME);
    let exchanges = RetryTier::ALL.map(RetryTier::exchange);
    let mend = format!("see that RabbitMQ runs, has imported rabbitmq/definitions.json, and knows the user {program}");
    checks.check("broker", &mend, broker.check(&exchanges, &[&queue])).await;
    let mend = format!("see what {program} --help says of the provider's settings");
    checks.check("provider", &mend, channel.check()).await;
    let paused = async {
        match store.channel_paused(C::NAME).await {
            Ok(None) => Ok("nobody has paused it".to_owned()),
            Ok(Some(pause)) => Err(pause.to_string()),
            Err(error) => Err(error.to_string()),
        }
    };
    checks.check("channel", &format!("tocsin resume {}", C::NAME), paused).await;
    checks.finish()
}
