use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use domain::NotificationId;
use jiff::Timestamp;
use store::DatabaseClock;

use crate::receipt::Receipt;

/// A notification that a message named, not claimed yet.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) id: NotificationId,
    pub(crate) due_at: Option<Timestamp>,
    pub(crate) receipt: Receipt,
}

/// What is waiting to be claimed: some now, some in a moment.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    ready: VecDeque<Item>,
    held: BinaryHeap<Reverse<Held>>,
    arrivals: u64,
}

#[derive(Debug)]
struct Held {
    due_at: Timestamp,
    arrival: u64,
    item: Item,
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due_at, self.arrival).cmp(&(other.due_at, other.arrival))
    }
}

impl Inbox {
    pub(crate) fn push(&mut self, item: Item, clock: &DatabaseClock) {
        match item.due_at {
            Some(due_at) if !clock.until(due_at).is_zero() => {
                self.arrivals += 1;
                self.held.push(Reverse(Held { due_at, arrival: self.arrivals, item }));
            }
            _ => self.ready.push_back(item),
        }
    }

    /// Moves what has become due to the ready ones, and says how long until the next does.
    pub(crate) fn ripen(&mut self, clock: &DatabaseClock) -> Option<Duration> {
        while let Some(Reverse(next)) = self.held.peek() {
            let wait = clock.until(next.due_at);
            if !wait.is_zero() {
                return Some(wait);
            }
            if let Some(Reverse(held)) = self.held.pop() {
                self.ready.push_back(held.item);
            }
        }
        None
    }

    /// Drops what came by sessions that have ended: the broker gives it to somebody else.
    pub(crate) fn forget_dead(&mut self) {
        self.ready.retain(|item| item.receipt.is_live());
        self.held.retain(|Reverse(held)| held.item.receipt.is_live());
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes up to `limit` ready ones, the longest waiting first.
    pub(crate) fn take(&mut self, limit: usize) -> Vec<Item> {
        self.ready.drain(..limit.min(self.ready.len())).collect()
    }

    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }
}
