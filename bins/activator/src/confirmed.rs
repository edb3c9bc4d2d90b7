use std::{collections::VecDeque, sync::Arc, time::Duration};

use store::Publication;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{
    Activator,
    dispatcher::{give_back, report},
    returned::Returned,
};

/// Most notifications are claimed by a worker soon after they were published. Only for those that are not by then is
/// it written down that the broker has them; a crash before that costs one extra message and no extra call.
const WRITE_DOWN_AFTER: Duration = Duration::from_secs(15);

const BATCH: usize = 1_000;

/// What was confirmed of one round, and what has come back in its session, some of it perhaps told of later.
struct Round {
    publications: Vec<Publication>,
    returned: Arc<Returned>,
}

/// What the broker has confirmed, not yet written down.
#[derive(Clone)]
pub(crate) struct Confirmed {
    confirmed: mpsc::UnboundedSender<Round>,
    writing: Arc<std::sync::Mutex<Option<JoinHandle<()>>>>,
}

impl Confirmed {
    pub(crate) fn start(activator: Arc<Activator>) -> Self {
        let (confirmed, incoming) = mpsc::unbounded_channel();
        let lifecycle = activator.lifecycle.clone();
        let writing = lifecycle.spawn("confirmed", write_down(activator, incoming));
        Self { confirmed, writing: Arc::new(std::sync::Mutex::new(Some(writing))) }
    }

    pub(crate) fn add(&self, publications: Vec<Publication>, returned: Arc<Returned>) {
        if !publications.is_empty() && self.confirmed.send(Round { publications, returned }).is_err() {
            tracing::error!(event = "bug", "nobody writes down what was confirmed: it may be published once more");
        }
    }

    /// Writes down at once what is left.
    pub(crate) async fn end(self) {
        let writing = self.writing.lock().expect("nobody panics while holding this lock").take();
        drop(self.confirmed);
        if let Some(writing) = writing
            && let Err(error) = writing.await
        {
            tracing::error!(event = "bug", %error, "what was confirmed may be published once more");
        }
    }
}

async fn write_down(activator: Arc<Activator>, mut incoming: mpsc::UnboundedReceiver<Round>) {
    let mut waiting: VecDeque<(Instant, Round)> = VecDeque::new();
    loop {
        let next = waiting.front().map(|(at, _)| *at);
        tokio::select! {
            round = incoming.recv() => match round {
                Some(round) => waiting.push_back((Instant::now() + WRITE_DOWN_AFTER, round)),
                None => break,
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let mut batch = Vec::new();
                while waiting.front().is_some_and(|(at, _)| *at <= Instant::now()) && batch.len() < BATCH {
                    if let Some((_, round)) = waiting.pop_front() {
                        batch.extend(still_confirmed(&activator, round).await);
                    }
                }
                report(activator.store.publications_confirmed(&batch).await);
            }
        }
    }
    let mut left = Vec::new();
    for (_, round) in waiting {
        left.extend(still_confirmed(&activator, round).await);
    }
    for batch in left.chunks(BATCH) {
        report(activator.store.publications_confirmed(batch).await);
    }
}

/// All but those that have come back.
async fn still_confirmed(activator: &Activator, Round { mut publications, returned }: Round) -> Vec<Publication> {
    give_back(&activator.store, returned.take_from(&mut publications)).await;
    publications
}
