use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use broker::{Message, Publisher};
use domain::{CHANNELS, State};
use jiff::Timestamp;
use runtime::failpoint;
use store::{Due, DueBatch, Publication, Store, WakePosition};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use wire::{Dispatch, Item};

use crate::{Activator, confirmed::Confirmed, returned::Returned, session::Error};

/// Where everything is published, as in rabbitmq/definitions.json.
pub(crate) const EXCHANGE: &str = "tocsin.deliver";

/// The most that is taken of one channel at once.
const LIMIT: i64 = 1_000;

/// Rounds whose confirms are still awaited while the next is taken.
const ROUNDS_IN_FLIGHT: usize = 4;

/// How often to look for backlogs. What a backlog says is of use to what was confirmed an hour ago.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// How often a round begins at the beginning while there is always more.
const BEGIN_AGAIN: Duration = Duration::from_secs(1);

/// Such a round passes over all that is in the broker's or a worker's hands: it takes at most one part in so many of the time.
const BEGIN_AGAIN_SHARE: u32 = 20;

/// Under load the notifications of a round go out in about so many messages, so that they spread over the workers.
const MESSAGES_A_ROUND: usize = 16;

/// Takes what is due and publishes it in one session.
pub(crate) struct Dispatcher {
    activator: Arc<Activator>,
    publisher: Publisher,
    confirmed: Confirmed,
    in_flight: Arc<Semaphore>,
    confirms: TaskTracker,
    failures: (mpsc::Sender<broker::Error>, mpsc::Receiver<broker::Error>),
    refused: Arc<AtomicBool>,
    returned: Arc<Returned>,
    /// Channels of which messages wait for a worker, as last seen.
    backlogged: Vec<&'static str>,
    look_again: Instant,
    /// Where the next round goes on, in channels that had more than one round takes.
    reached: BTreeMap<String, WakePosition>,
    begin_again: Instant,
}

/// What came of one round.
pub(crate) struct Round {
    /// There may be more: a channel had as much as one round takes, this round did not begin at the beginning, or claims of
    /// dead workers were ended.
    pub(crate) more: bool,
    /// When to look again, as far as is known.
    pub(crate) next_wake: Option<Timestamp>,
}

impl Dispatcher {
    pub(crate) fn new(activator: Arc<Activator>, publisher: Publisher, confirmed: Confirmed) -> Self {
        Self {
            activator,
            publisher,
            confirmed,
            in_flight: Arc::new(Semaphore::new(ROUNDS_IN_FLIGHT)),
            confirms: TaskTracker::new(),
            failures: mpsc::channel(ROUNDS_IN_FLIGHT),
            refused: Arc::default(),
            returned: Arc::default(),
            backlogged: Vec::new(),
            look_again: Instant::now(),
            reached: BTreeMap::new(),
            begin_again: Instant::now(),
        }
    }

    /// An error if the broker is gone: then nothing should be claimed.
    pub(crate) fn check_session(&self) -> Result<(), broker::Error> {
        self.publisher.check()
    }

    /// Whether a queue has refused a message in this session. RabbitMQ 3.10 then goes on refusing a session's messages
    /// even after the queue's limit was raised.
    pub(crate) fn was_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes what is due within `ahead` and publishes it. Confirms are awaited in the background.
    pub(crate) async fn round(&mut self, ahead: Duration) -> Result<Round, Error> {
        let permit = tokio::select! {
            permit = Arc::clone(&self.in_flight).acquire_owned() => permit.expect("this semaphore is never closed"),
            error = self.failed() => return Err(error.into()),
        };
        self.look_at_queues().await?;
        let channels: Vec<&str> = CHANNELS.iter().map(|channel| channel.name).collect();
        if Instant::now() >= self.begin_again {
            self.reached.clear();
        }
        let after = std::mem::take(&mut self.reached);
        let asked = Instant::now();
        let batch = self.activator.store.due_claim(&channels, LIMIT, ahead, &self.backlogged, &after).await?;
        if after.is_empty() {
            self.begin_again = Instant::now() + BEGIN_AGAIN.max(BEGIN_AGAIN_SHARE * asked.elapsed());
        }
        if !batch.due.is_empty() {
            failpoint("activator.claimed", "");
        }
        let mut by_route: BTreeMap<(&str, &str), Vec<&Due>> = BTreeMap::new();
        for due in &batch.due {
            by_route.entry((&due.channel, due.organisation.as_str())).or_default().push(due);
        }
        let limit = usize::try_from(LIMIT).unwrap_or(usize::MAX);
        let (messages, mut publications): (Vec<_>, Vec<_>) = self.messages(by_route, batch.now).into_iter().unzip();
        let (sent, failed) = self.publisher.publish(&messages).await;
        let unsent = publications.split_off(sent.len()).concat();
        let awaited: Vec<_> = sent.into_iter().zip(publications).collect();
        let confirms = Confirms {
            activator: Arc::clone(&self.activator),
            confirmed: self.confirmed.clone(),
            failures: self.failures.0.clone(),
            refused: Arc::clone(&self.refused),
            returned: Arc::clone(&self.returned),
            unsent,
        };
        if !awaited.is_empty() || !confirms.unsent.is_empty() {
            self.confirms.spawn(async move {
                confirms.settle(awaited).await;
                drop(permit);
            });
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        let rescued = self.expire_claims(&batch).await;
        let more = rescued || !after.is_empty() || batch.due.len() + batch.left_in_backlog >= limit;
        self.reached = batch.reached;
        Ok(Round { more, next_wake: batch.next_wake })
    }

    /// Sees now and then which channels have a backlog. A queue that was empty a moment ago holds nothing older.
    async fn look_at_queues(&mut self) -> Result<(), broker::Error> {
        if Instant::now() < self.look_again {
            return Ok(());
        }
        self.backlogged.clear();
        for channel in CHANNELS {
            let waiting = self.publisher.waiting(&wire::queue_name(channel.name)).await?;
            metrics::gauge!("tocsin_messages_waiting", "channel" => channel.name).set(waiting);
            if waiting > 0 {
                self.backlogged.push(channel.name);
            }
        }
        self.look_again = Instant::now() + LOOK_INTERVAL;
        Ok(())
    }

    fn messages(
        &self,
        by_route: BTreeMap<(&str, &str), Vec<&Due>>,
        now: Timestamp,
    ) -> Vec<(Message, Vec<Publication>)> {
        let mut messages = Vec::new();
        for ((channel, _), mut dues) in by_route {
            dues.sort_unstable_by_key(|due| (due.due_at, due.publication));
            let count = dues.len();
            metrics::counter!("tocsin_published_total", "channel" => channel.to_owned()).increment(count as u64);
            let first = dues[0].publication.id.0;
            tracing::info!(event = "published", channel, count, first, "published");
            let bundle = (count / MESSAGES_A_ROUND).clamp(1, self.activator.bundle);
            let routing_key = wire::routing_key(&dues[0].organisation, channel);
            messages.extend(dues.chunks(bundle).map(|bundle| {
                let message = Message { exchange: EXCHANGE, routing_key: routing_key.clone(), body: body(bundle, now) };
                (message, bundle.iter().map(|due| due.publication).collect())
            }));
        }
        messages
    }

    /// Ends claims that have run out. True if that may have made something due.
    async fn expire_claims(&self, batch: &DueBatch) -> bool {
        if batch.claims_run_out.is_empty() {
            return false;
        }
        let expired = match self.activator.store.claims_expire(&batch.claims_run_out).await {
            Ok(expired) => expired,
            Err(error) => {
                tracing::warn!(event = "rescue_failed", %error, "these claims are looked at again in the next round");
                return false;
            }
        };
        for expired in &expired {
            metrics::counter!("tocsin_claims_run_out_total").increment(1);
            let (notification, state) = (expired.id.0, expired.state.as_str());
            let (worker, again) = (expired.worker.as_deref(), expired.state == State::Retrying);
            tracing::warn!(event = "claim_run_out", notification, worker, state, again, "the attempt is unknown");
        }
        !expired.is_empty()
    }

    /// Waits until a confirm fails.
    pub(crate) async fn failed(&mut self) -> broker::Error {
        match self.failures.1.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Waits for the confirms that are awaited, and answers the first failure among them.
    pub(crate) async fn end(mut self) -> Option<broker::Error> {
        self.confirms.close();
        self.confirms.wait().await;
        self.publisher.close().await;
        self.failures.1.try_recv().ok()
    }
}

fn body(bundle: &[&Due], now: Timestamp) -> Vec<u8> {
    let item = |due: &&Due| Item { id: due.publication.id, due_at: (due.due_at > now).then_some(due.due_at) };
    Dispatch { items: bundle.iter().map(item).collect() }.to_json()
}

struct Confirms {
    activator: Arc<Activator>,
    confirmed: Confirmed,
    failures: mpsc::Sender<broker::Error>,
    refused: Arc<AtomicBool>,
    returned: Arc<Returned>,
    unsent: Vec<Publication>,
}

impl Confirms {
    /// Waits for the broker's word on each message, and tells the database where it was not a yes.
    async fn settle(self, awaited: Vec<(broker::Publication, Vec<Publication>)>) {
        let (mut confirmed, mut refused) = (Vec::new(), Vec::new());
        let mut unconfirmed = self.unsent;
        let mut broken = false;
        for (publication, publications) in awaited {
            if broken {
                // The session ends with its first failure; the rest would only be waited for in vain.
                unconfirmed.extend(publications);
                continue;
            }
            match publication.confirm().await {
                Ok(confirm) => {
                    confirm.returned.iter().for_each(|message| self.returned.add(message));
                    if confirm.is_ack { confirmed.extend(publications) } else { refused.extend(publications) }
                }
                Err(error) => {
                    broken = true;
                    unconfirmed.extend(publications);
                    // A full channel knows of the failure already.
                    self.failures.try_send(error).unwrap_or_default();
                }
            }
        }
        failpoint("activator.confirmed", "");
        let mut back = self.returned.take_from(&mut confirmed);
        self.confirmed.add(confirmed, self.returned);
        let store = &self.activator.store;
        if !refused.is_empty() {
            back.insert("the broker refused it: the queue is full or not available".to_owned(), refused);
        }
        if !back.is_empty() {
            self.refused.store(true, Ordering::Relaxed);
        }
        give_back(store, back).await;
        if !unconfirmed.is_empty() {
            let (count, first) = (unconfirmed.len(), unconfirmed[0].id.0);
            tracing::warn!(event = "unconfirmed", count, first, "nobody knows whether the broker has them: once more");
            report(store.publications_unconfirmed(&unconfirmed).await);
        }
    }
}

/// Back to scheduled, each with the reason.
pub(crate) async fn give_back(store: &Store, by_reason: BTreeMap<String, Vec<Publication>>) {
    for (reason, publications) in by_reason {
        let count = publications.len();
        metrics::counter!("tocsin_returned_total").increment(count as u64);
        tracing::warn!(event = "returned", count, reason, first = publications[0].id.0, "back to scheduled");
        report(store.publications_returned(&publications, &reason).await);
    }
}

/// A mark that could not be made is made up for: the rows wake within a minute.
pub(crate) fn report(marked: store::Result<()>) {
    if let Err(error) = marked {
        tracing::warn!(event = "mark_failed", %error, "they will be published once more within a minute");
    }
}
