use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sqs::Receipt;

use crate::Bridge;

/// Messages that take longer than this are kept hidden, again and again.
const EXTEND_AFTER: Duration = Duration::from_secs(3);
const EXTEND_AGAIN_AFTER: Duration = Duration::from_secs(20);
const EXTEND_BY: Duration = Duration::from_secs(60);

/// The messages that were received and not deleted yet.
#[derive(Debug, Default)]
pub(crate) struct Outstanding(Mutex<HashMap<String, Held>>);

#[derive(Debug)]
struct Held {
    receipt: Receipt,
    extend_at: Instant,
}

impl Outstanding {
    pub(crate) fn add<'a>(&self, receipts: impl Iterator<Item = &'a Receipt>) {
        let mut held = self.0.lock().expect("nobody panics while holding this lock");
        let extend_at = Instant::now() + EXTEND_AFTER;
        held.extend(receipts.map(|r| (r.message_id.clone(), Held { receipt: r.clone(), extend_at })));
    }

    pub(crate) fn remove<'a>(&self, receipts: impl Iterator<Item = &'a Receipt>) {
        let mut held = self.0.lock().expect("nobody panics while holding this lock");
        receipts.for_each(|receipt| {
            held.remove(&receipt.message_id);
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().expect("nobody panics while holding this lock").is_empty()
    }

    fn take_overdue(&self) -> Vec<Receipt> {
        let now = Instant::now();
        let mut held = self.0.lock().expect("nobody panics while holding this lock");
        let overdue = held.values_mut().filter(|one| one.extend_at <= now);
        overdue
            .map(|one| {
                one.extend_at = now + EXTEND_AGAIN_AFTER;
                one.receipt.clone()
            })
            .collect()
    }
}

/// Keeps messages hidden that can't be applied for now, such as while Postgres is away: else each would be handed out
/// again and again, and end in the queue's dead-letter queue.
pub(crate) async fn keep_hidden(bridge: Arc<Bridge>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let overdue = bridge.outstanding.take_overdue();
        if !overdue.is_empty() {
            bridge.queue.extend(&overdue, EXTEND_BY).await;
        }
    }
}
