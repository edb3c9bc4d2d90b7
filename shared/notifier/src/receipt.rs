use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use broker::Acks;
use futures_util::{TryStreamExt, stream::FuturesOrdered};
use tokio::sync::mpsc;

/// One message of one session, of which several notifications may still be worked on. When the last of them is done,
/// the message is acknowledged. If one of them is only dropped, the message goes back to the broker with the last of them, for
/// somebody else.
#[derive(Debug, Clone)]
pub(crate) struct Receipt {
    message: Arc<Message>,
}

#[derive(Debug)]
struct Message {
    tag: u64,
    open: AtomicUsize,
    finished: mpsc::UnboundedSender<Finished>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finished {
    Done(u64),
    Unusable(u64),
    GivenBack(u64),
}

impl Receipt {
    /// Whether its session still stands. If not, the broker has given the message to somebody else.
    pub(crate) fn is_live(&self) -> bool {
        !self.message.finished.is_closed()
    }

    /// One of the message's notifications is done.
    pub(crate) fn done(self) {
        if self.message.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.message.send(Finished::Done(self.message.tag));
        }
    }
}

impl Message {
    fn send(&self, finished: Finished) {
        if self.finished.send(finished).is_err() {
            tracing::debug!(tag = self.tag, "its session is over: the broker will deliver the message again");
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if *self.open.get_mut() > 0 {
            self.send(Finished::GivenBack(self.tag));
        }
    }
}

/// Hands out the receipts of one session.
#[derive(Debug, Clone)]
pub(crate) struct Receipts(mpsc::UnboundedSender<Finished>);

impl Receipts {
    /// The receipts of a session, and the task that acknowledges for it, which ends when no receipt is left or the
    /// session is gone.
    pub(crate) fn of(acks: Acks) -> (Self, impl Future<Output = broker::Result<()>> + Send + 'static) {
        let (finished, incoming) = mpsc::unbounded_channel();
        (Self(finished), acknowledge(acks, incoming))
    }

    /// The receipt of a message of so many notifications, one clone for each.
    pub(crate) fn message(&self, tag: u64, notifications: usize) -> Receipt {
        let message = Message { tag, open: AtomicUsize::new(notifications), finished: self.0.clone() };
        Receipt { message: Arc::new(message) }
    }

    /// Nobody here will use this message: the broker gives it to somebody else.
    pub(crate) fn give_back(&self, tag: u64) {
        drop(self.message(tag, 1));
    }

    /// Nobody can use this message: it goes where people can see it.
    pub(crate) fn unusable(&self, tag: u64) {
        Message { tag, open: AtomicUsize::new(0), finished: self.0.clone() }.send(Finished::Unusable(tag));
    }
}

async fn acknowledge(acks: Acks, mut incoming: mpsc::UnboundedReceiver<Finished>) -> broker::Result<()> {
    let mut ledger = Ledger::default();
    let mut batch = Vec::new();
    while incoming.recv_many(&mut batch, 4_096).await > 0 {
        let steps = ledger.steps(batch.drain(..)).into_iter().map(async |step| match step {
            Step::AckUpTo(tag) => acks.ack_up_to(tag).await,
            Step::Ack(tag) => acks.ack(tag).await,
            Step::Reject(tag) => acks.reject(tag).await,
            Step::Requeue(tag) => acks.requeue(tag).await,
        });
        // All are handed over, in their order, before the first is waited for, as the broker's messages are.
        steps.collect::<FuturesOrdered<_>>().try_collect::<()>().await?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    AckUpTo(u64),
    Ack(u64),
    Reject(u64),
    Requeue(u64),
}

/// Which messages of a session are finished. All up to the first unfinished one are acknowledged at once, which is
/// cheap; those behind it one by one, so that one slow call does not use up the prefetch.
#[derive(Debug, Default)]
struct Ledger {
    /// Every message up to this one is finished and told to the broker.
    settled: u64,
    /// Finished messages beyond it.
    beyond: BTreeSet<u64>,
}

impl Ledger {
    fn steps(&mut self, finished: impl Iterator<Item = Finished>) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut new = Vec::new();
        for one in finished {
            match one {
                Finished::Done(tag) => new.push(tag),
                Finished::Unusable(tag) => {
                    steps.push(Step::Reject(tag));
                    self.beyond.insert(tag);
                }
                Finished::GivenBack(tag) => {
                    steps.push(Step::Requeue(tag));
                    self.beyond.insert(tag);
                }
            }
        }
        new.sort_unstable();
        self.beyond.extend(&new);
        while self.beyond.remove(&(self.settled + 1)) {
            self.settled += 1;
        }
        // Only a message that is not acknowledged yet may be named, or the broker closes the channel.
        let (before, after): (Vec<u64>, Vec<u64>) = new.into_iter().partition(|tag| *tag <= self.settled);
        steps.extend(before.last().map(|last| Step::AckUpTo(*last)));
        steps.extend(after.into_iter().map(Step::Ack));
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::Finished::{Done, GivenBack, Unusable};
    use super::*;

    #[test]
    fn the_front_is_acknowledged_at_once_and_the_rest_one_by_one() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.steps([Done(2), Done(1), Done(4)].into_iter()), [Step::AckUpTo(2), Step::Ack(4)]);
        assert_eq!(ledger.steps([Unusable(5)].into_iter()), [Step::Reject(5)]);
        assert_eq!(ledger.steps([Done(3)].into_iter()), [Step::AckUpTo(3)]);
        assert_eq!(ledger.steps([Done(6)].into_iter()), [Step::AckUpTo(6)]);
        assert_eq!(ledger.steps([GivenBack(7), Done(8)].into_iter()), [Step::Requeue(7), Step::AckUpTo(8)]);
    }

    #[test]
    fn a_message_is_finished_with_its_last_notification() {
        let (finished, mut incoming) = mpsc::unbounded_channel();
        let receipt = Receipts(finished).message(7, 2);
        receipt.clone().done();
        assert!(incoming.try_recv().is_err());
        receipt.done();
        assert_eq!(incoming.try_recv(), Ok(Done(7)));
        assert!(incoming.try_recv().is_err(), "and that is all");
    }

    #[test]
    fn a_message_of_which_not_all_is_done_goes_back_when_nobody_works_on_it_any_more() {
        let (finished, mut incoming) = mpsc::unbounded_channel();
        let receipts = Receipts(finished);
        let (called, dropped) = (receipts.message(7, 2), receipts.message(8, 1));
        drop((called.clone(), dropped));
        assert_eq!(incoming.try_recv(), Ok(GivenBack(8)));
        assert!(incoming.try_recv().is_err(), "the first is still being called");
        called.done();
        assert_eq!(incoming.try_recv(), Ok(GivenBack(7)));
        receipts.unusable(9);
        assert_eq!((incoming.try_recv(), incoming.try_recv().is_err()), (Ok(Unusable(9)), true));
    }
}
