use std::time::Duration;

use domain::{Event, Notification, OnUnknown, Outcome, RetryWay, State, after_attempt, transition};

use crate::{
    pipeline::{Fault, Guard, Pipeline, Step},
    world::{Activator, Answer, Ask, Breach, Publication, Reply, Row, Wake, Worker, World},
};

impl Pipeline {
    /// What becomes of the world by one step.
    pub(crate) fn take(&self, world: &mut World, step: Step) {
        match step {
            Step::Apply(request) => self.apply(world, request),
            Step::Delete => {
                if let Some(request) = world.bridge.take() {
                    world.deleted |= 1 << request;
                }
            }
            Step::BecomeDue(row) => world.rows[row].due = true,
            Step::Wake(row) => world.rows[row].wake = Some(Wake::Now),
            Step::Take(a, row) => self.take_row(world, a, row),
            Step::Publish(a) => publish(world, a, true, Reply::Confirmed),
            Step::WriteDown(a) => self.write_down(world, a),
            Step::SeeRunOut(a, row) => world.activators[a] = Activator::SawRunOut { row },
            Step::Expire(a) => self.expire(world, a),
            Step::Claim(w, row) => self.claim(world, w, row),
            Step::Discard(row) => world.rows[row].messages -= 1,
            Step::Call(w, answer) => call(world, w, answer),
            Step::Record(w) => self.record(world, w),
            Step::SendRetry(w) => {
                if let Worker::Retrying { row } = world.workers[w] {
                    world.rows[row].messages += 1;
                    world.workers[w] = Worker::Done { row };
                }
            }
            Step::Acknowledge(w) => world.workers[w] = Worker::Idle,
            Step::Release(w) => self.release(world, w, true),
            Step::Fault(fault) => {
                world.faults -= 1;
                self.go_wrong(world, fault);
            }
        }
        self.drop_leftovers(world);
        world.activators.sort_unstable();
        world.workers.sort_unstable();
    }

    /// Messages and marks of a row that nothing can change any more come to nothing, in whatever order. To try all
    /// orders of that would only take time.
    fn drop_leftovers(&self, world: &mut World) {
        for n in 0..world.rows.len() {
            if !self.is_unchangeable(&world.rows[n]) {
                continue;
            }
            world.rows[n].messages = 0;
            world.rows[n].due = true;
            for activator in &mut world.activators {
                if activator.row() == Some(n) {
                    *activator = Activator::Idle;
                }
            }
            for worker in &mut world.workers {
                if matches!(worker, Worker::Retrying { row } | Worker::Done { row } if *row == n) {
                    *worker = Worker::Idle;
                }
            }
        }
    }

    fn is_unchangeable(&self, row: &Row) -> bool {
        let (fence, outcome) = (row.fence(), Outcome::Delivered);
        let events = [
            Event::Publish,
            Event::PublishReturned,
            Event::Claim { due: true, expired: false },
            Event::Claim { due: true, expired: true },
            Event::Record { fence, outcome },
            Event::Release { fence },
            Event::ClaimExpired,
            Event::Stop,
        ];
        self.has(Guard::ClaimAsksState) && events.iter().all(|event| transition(&row.notification, event).is_none())
    }

    fn go_wrong(&self, world: &mut World, fault: Fault) {
        match fault {
            Fault::BridgeDies => world.bridge = None,
            Fault::DeliverAgain(request) => self.apply(world, request),
            Fault::ActivatorDies(a) => world.activators[a] = Activator::Idle,
            Fault::WorkerDies(w) => self.worker_dies(world, w),
            Fault::WorkerFreezes(w) => {
                if let Some((row, fence)) = world.workers[w].claim() {
                    world.rows[row].hit.add(fence);
                }
                if let Worker::Claimed { frozen, .. } | Worker::Called { frozen, .. } = &mut world.workers[w] {
                    *frozen = true;
                }
            }
            Fault::WorkerIsSlow(w) => self.release(world, w, true),
            Fault::AddressIsBusy(w) => self.release(world, w, false),
            Fault::TooOld(row) => {
                change(world, row, Event::Claim { due: true, expired: true }, None);
            }
            Fault::NotRouted(a) => {
                let reply = if self.has(Guard::Mandatory) { Reply::Returned } else { Reply::Dropped };
                publish(world, a, false, reply);
            }
            Fault::ConfirmLost(a, routed) => publish(world, a, routed, Reply::None),
            Fault::RetryNotSent(w) => {
                if let Worker::Retrying { row } = world.workers[w] {
                    world.workers[w] = Worker::Done { row };
                }
            }
            Fault::MessageLost(row) => {
                world.rows[row].messages -= 1;
                world.rows[row].lost = true;
            }
            Fault::MessageDoubled(row) => world.rows[row].messages += 1,
            Fault::MessageDies(n) => {
                let row = &mut world.rows[n];
                row.messages -= 1;
                if row.is_waiting() {
                    row.confirmed &= !self.has(Guard::DeathForgetsConfirm);
                    let wake = if row.due { Wake::Now } else { Wake::AtDue };
                    world.set_wake(n, Some(wake));
                }
            }
            Fault::WakesTooEarly(row) => world.rows[row].wake = Some(Wake::Now),
            Fault::LeftInBacklog(row) => world.set_wake(row, Some(Wake::Confirmed)),
            Fault::Answers(w, answer) => call(world, w, answer),
        }
    }

    fn apply(&self, world: &mut World, request: usize) {
        world.bridge = Some(request);
        let again = request < world.applied;
        world.applied = world.applied.max(request + 1);
        if again && self.has(Guard::MessageId) {
            return;
        }
        let took_effect = match self.requests[request] {
            Ask::Start => {
                let is_active = world.rows.iter().any(|row| row.state() == State::Scheduled);
                if !is_active {
                    world.rows.push(Row::new(self.max_attempts, self.on_unknown));
                    world.accepted += usize::from(!again);
                }
                !is_active
            }
            Ask::Stop => {
                let is_unfinished = |row: &usize| !world.rows[*row].is_finished();
                let unfinished: Vec<_> = (0..world.rows.len()).filter(is_unfinished).collect();
                unfinished.iter().map(|row| self.stop(world, *row)).count() > 0
            }
        };
        if again && took_effect {
            world.breach(Breach::AppliedTwice);
        }
    }

    fn stop(&self, world: &mut World, n: usize) {
        let row = &mut world.rows[n];
        row.stopped = true;
        let guard = if row.state() == State::Sending { Guard::StopMarksSending } else { Guard::StopCancels };
        if self.has(guard) {
            let wake = row.wake;
            change(world, n, Event::Stop, wake);
        }
    }

    fn take_row(&self, world: &mut World, a: usize, n: usize) {
        let wake = self.has(Guard::TakeWakes).then_some(Wake::Later);
        if !change(world, n, Event::Publish, wake) {
            return;
        }
        let row = &mut world.rows[n];
        row.confirmed &= !self.has(Guard::TakeForgetsConfirm);
        row.lost = false;
        let (fence, due) = (row.fence(), row.due);
        if !due && !self.has(Guard::TakesWakeApart) {
            // A wake-up that is counted from when it is due is the same for all that are taken before that.
            world.publications(n).filter(|p| p.fence == fence).for_each(|p| p.wake_stands = true);
        }
        world.activators[a] = Activator::Took(Publication { row: n, fence, wake_stands: true });
    }

    fn write_down(&self, world: &mut World, a: usize) {
        let activator = std::mem::replace(&mut world.activators[a], Activator::Idle);
        let Activator::Published(Publication { row: n, fence, wake_stands }, reply) = activator else { return };
        let row = &mut world.rows[n];
        let outdated =
            row.fence() != fence && self.has(Guard::MarkAsksFence) || !wake_stands && self.has(Guard::MarkAsksWake);
        if outdated || !row.is_waiting() {
            return;
        }
        match reply {
            Reply::Confirmed | Reply::Dropped => {
                row.confirmed = true;
                world.set_wake(n, Some(Wake::Confirmed));
            }
            Reply::None => world.set_wake(n, Some(Wake::Now)),
            Reply::Returned => {
                change(world, n, Event::PublishReturned, Some(Wake::Later));
            }
        }
        if matches!(reply, Reply::Returned | Reply::Dropped) && world.rows[n].state() == State::Queued {
            world.breach(Breach::LooksPublished);
        }
    }

    fn expire(&self, world: &mut World, a: usize) {
        let activator = std::mem::replace(&mut world.activators[a], Activator::Idle);
        let Activator::SawRunOut { row: n } = activator else { return };
        let row = &mut world.rows[n];
        let fence = row.fence();
        let on_unknown = row.notification.on_unknown;
        if !self.has(Guard::UnknownFails) {
            row.notification.on_unknown = OnUnknown::Retry;
        }
        let has_run_out = row.wake == Some(Wake::Now) || !self.has(Guard::ExpireAsksTime);
        if has_run_out && change(world, n, Event::ClaimExpired, Some(Wake::Now)) {
            world.rows[n].unknown.add(fence);
        }
        world.rows[n].notification.on_unknown = on_unknown;
    }

    fn claim(&self, world: &mut World, w: usize, n: usize) {
        let Some(claimed) = self.claimed(&world.rows[n]) else { return };
        world.set_wake(n, self.has(Guard::ClaimWakes).then_some(Wake::Later));
        let row = &mut world.rows[n];
        row.notification = claimed;
        row.messages -= 1;
        (row.routed, row.lost) = (false, false);
        row.confirmed &= !self.has(Guard::ClaimForgetsConfirm);
        let (due, stopped) = (row.due, row.stopped);
        world.workers[w] = Worker::Claimed { row: n, fence: row.fence(), frozen: false };
        if !due {
            world.breach(Breach::ClaimedBeforeDue);
        }
        if stopped {
            world.breach(Breach::ClaimedAfterStop);
        }
    }

    fn record(&self, world: &mut World, w: usize) {
        let Worker::Called { row: n, fence, outcome: answer, .. } = world.workers[w] else { return };
        let before = world.rows[n].notification;
        let lost = before.state != State::Sending || before.fence != fence;
        let shown = if self.has(Guard::RecordAsksFence) { fence } else { before.fence };
        let (event, way) = record_of(&before, shown, answer);
        let wake = match way {
            Some(RetryWay::Tier(_)) => Wake::Later,
            Some(RetryWay::Clock(_)) | None => Wake::AtDue,
        };
        let changed = change(world, n, event, self.has(Guard::RecordWakes).then_some(wake));
        world.workers[w] = Worker::Done { row: n };
        if changed {
            let row = &mut world.rows[n];
            row.answered.add(fence);
            if row.state() == State::Retrying {
                row.due = false;
                if let Some(RetryWay::Tier(_)) = way {
                    world.workers[w] = Worker::Retrying { row: n };
                }
            }
        }
        if changed && lost {
            world.breach(Breach::ChangedWithoutClaim);
        }
    }

    /// Gives a claim back. The worker then claims again itself, from the message that it still has, or leaves it to
    /// the clock.
    fn release(&self, world: &mut World, w: usize, keep_message: bool) {
        let Some((n, fence)) = world.workers[w].claim() else { return };
        world.workers[w] = if keep_message { Worker::Idle } else { Worker::Done { row: n } };
        let row = &mut world.rows[n];
        row.messages += u8::from(keep_message);
        let lost = row.state() != State::Sending || row.fence() != fence;
        let shown = if self.has(Guard::ReleaseAsksFence) { fence } else { row.fence() };
        let wake = if keep_message { Wake::Later } else { Wake::AtDue };
        if change(world, n, Event::Release { fence: shown }, Some(wake)) {
            let row = &mut world.rows[n];
            row.given_back.add(fence);
            row.due = keep_message;
            if lost {
                world.breach(Breach::ChangedWithoutClaim);
            }
        }
    }

    /// What it had in hand and not acknowledged, the broker gives to somebody else.
    fn worker_dies(&self, world: &mut World, w: usize) {
        let worker = std::mem::replace(&mut world.workers[w], Worker::Idle);
        if let Some((row, fence)) = worker.claim() {
            world.rows[row].hit.add(fence);
        }
        let (Worker::Claimed { row, .. }
        | Worker::Called { row, .. }
        | Worker::Retrying { row }
        | Worker::Done { row }) = worker
        else {
            return;
        };
        world.rows[row].messages += u8::from(self.has(Guard::AcknowledgesLast));
    }
}

/// Lets something happen to a row. True if it changed; then it wakes as said, and never once it is finished.
fn change(world: &mut World, n: usize, event: Event, wake: Option<Wake>) -> bool {
    let Some(after) = transition(&world.rows[n].notification, &event) else { return false };
    world.rows[n].notification = after;
    world.set_wake(n, wake.filter(|_| !after.state.is_final()));
    true
}

fn publish(world: &mut World, a: usize, routed: bool, reply: Reply) {
    if let Activator::Took(publication) = world.activators[a] {
        world.activators[a] = Activator::Published(publication, reply);
        let row = &mut world.rows[publication.row];
        row.messages += u8::from(routed);
        row.routed |= routed && row.fence() == publication.fence;
        row.lost &= !routed;
    }
}

/// What a worker tells the database of its call, and who is to bring the notification back.
fn record_of(claimed: &Notification, fence: i64, answer: Answer) -> (Event, Option<RetryWay>) {
    let outcome = answer.outcome();
    let attempts = claimed.attempts + u16::from(outcome.costs_an_attempt());
    let retry_after = (answer == Answer::RateLimited).then_some(Duration::from_secs(60));
    let refusals = u16::try_from(fence - i64::from(attempts)).unwrap_or(0);
    let (_, way) = after_attempt(outcome, attempts, refusals, claimed.max_attempts, claimed.on_unknown, retry_after);
    (Event::Record { fence, outcome }, way)
}

fn call(world: &mut World, w: usize, outcome: Answer) {
    if let Worker::Claimed { row, fence, frozen } = world.workers[w] {
        world.rows[row].called.add(fence);
        world.workers[w] = Worker::Called { row, fence, outcome, frozen };
    }
}
