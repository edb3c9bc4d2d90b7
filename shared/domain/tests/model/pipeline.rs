use domain::{Event, Notification, OnUnknown, State, transition};
use stateright::{Model, Property};

use crate::{
    properties,
    world::{Activator, Answer, Ask, Row, Wake, Worker, World},
};

/// The pipeline: a bridge, two activators, a broker, two workers of one channel, a provider.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    pub(crate) requests: &'static [Ask],
    /// How many faults may happen, of any kind, anywhere.
    pub(crate) faults: u8,
    pub(crate) max_attempts: u16,
    pub(crate) on_unknown: OnUnknown,
    /// Guards that are switched off, to see what they are for.
    pub(crate) without: &'static [Guard],
}

/// What keeps the invariants, one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// A request is known by its MessageId.
    MessageId,
    /// A stop cancels what waits.
    StopCancels,
    /// A stop marks what is being sent.
    StopMarksSending,
    /// A claim asks the row's state.
    ClaimAsksState,
    /// A claim asks whether the row is due.
    ClaimAsksDue,
    /// A claim says when it runs out.
    ClaimWakes,
    /// A record asks for the fence.
    RecordAsksFence,
    /// A record says when its row is to be looked at again.
    RecordWakes,
    /// A release asks for the fence.
    ReleaseAsksFence,
    /// An activator that takes a row says when it is to be looked at again.
    TakeWakes,
    /// A publication is mandatory: the broker tells if it could not route it.
    Mandatory,
    /// What the broker said is written down only under the same fence.
    MarkAsksFence,
    /// What the broker said is written down only while the row has the wake-up that this publication's take gave it.
    MarkAsksWake,
    /// No two takes give a row the same wake-up.
    TakesWakeApart,
    /// What an activator takes does not count as confirmed until its new message is.
    TakeForgetsConfirm,
    /// What a worker claims does not count as confirmed any more.
    ClaimForgetsConfirm,
    /// What had a message that died does not count as confirmed any more.
    DeathForgetsConfirm,
    /// Who ends a claim asks whether it has run out.
    ExpireAsksTime,
    /// With on-unknown = fail, the end of a claim is the end of its notification.
    UnknownFails,
    /// A message is acknowledged when all is recorded, and its retry is with the broker.
    AcknowledgesLast,
}

/// One step of one program, or of time, or a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The bridge receives a request and commits it, for the first time or again.
    Apply(usize),
    Delete,
    BecomeDue(usize),
    Wake(usize),
    Take(usize, usize),
    Publish(usize),
    WriteDown(usize),
    SeeRunOut(usize, usize),
    Expire(usize),
    Claim(usize, usize),
    Discard(usize),
    Call(usize, Answer),
    Record(usize),
    SendRetry(usize),
    Acknowledge(usize),
    /// The worker was too slow to call, and gives its claim back; it keeps the message.
    Release(usize),
    Fault(Fault),
}

/// What goes wrong. Each costs one of the faults that may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Between commit and delete; or the delete failed.
    BridgeDies,
    /// SQS delivers a request that was deleted; or a second bridge had it in hand all the while.
    DeliverAgain(usize),
    ActivatorDies(usize),
    WorkerDies(usize),
    /// A worker stands still, or is cut off from the database, so long that its claim may run out.
    WorkerFreezes(usize),
    /// A worker is slow, and gives its claim back.
    WorkerIsSlow(usize),
    /// The address is busy: the claim is given back, and the clock brings it again.
    AddressIsBusy(usize),
    /// The max-age is over when a worker wants to claim.
    TooOld(usize),
    NotRouted(usize),
    /// The connection breaks in the middle of a publication, which the broker has or has not.
    ConfirmLost(usize, bool),
    /// A worker can't publish its retry, and goes on.
    RetryNotSent(usize),
    MessageLost(usize),
    MessageDoubled(usize),
    /// The broker gives a message up; it is kept for people to see, and wakes its row.
    MessageDies(usize),
    /// A row wakes while its message is still on its way.
    WakesTooEarly(usize),
    /// What was confirmed wakes while messages of others wait, and is left to them for an hour more.
    LeftInBacklog(usize),
    /// An answer that costs no attempt.
    Answers(usize, Answer),
}

impl Model for Pipeline {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::fresh(self.faults)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        self.steps(world, steps);
        self.faults(world, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut world = world.clone();
        self.take(&mut world, step);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

const ANSWERS: [Answer; 6] = [
    Answer::Delivered,
    Answer::Temporary,
    Answer::Unknown,
    Answer::Permanent,
    Answer::RateLimited,
    Answer::ChannelDown,
];

impl Pipeline {
    pub(crate) fn has(&self, guard: Guard) -> bool {
        !self.without.contains(&guard)
    }

    /// Whether nothing more happens by itself, without a fault, if nobody sends another request.
    pub(crate) fn is_at_rest(&self, world: &World) -> bool {
        let mut steps = Vec::new();
        self.steps(world, &mut steps);
        steps.iter().all(|step| matches!(step, Step::Apply(request) if *request == world.applied))
    }

    fn steps(&self, world: &World, steps: &mut Vec<Step>) {
        match world.bridge {
            Some(_) => steps.push(Step::Delete),
            None => {
                let next = (world.applied + 1).min(self.requests.len());
                steps.extend((0..next).filter(|request| !world.is_deleted(*request)).map(Step::Apply));
            }
        }
        for (n, row) in world.rows.iter().enumerate() {
            if !row.due && !row.is_finished() {
                steps.push(Step::BecomeDue(n));
            }
            if can_wake(row) && !is_on_its_way(world, n) {
                steps.push(Step::Wake(n));
            }
            if row.messages > 0 && self.claimed(row).is_none() && !is_held(row) {
                steps.push(Step::Discard(n));
            }
        }
        for (a, activator) in world.activators.iter().enumerate() {
            match activator {
                Activator::Idle if a > 0 && world.activators[a - 1] == Activator::Idle => {}
                Activator::Idle => self.steps_of_idle_activator(world, a, steps),
                Activator::Took(_) => steps.push(Step::Publish(a)),
                Activator::Published(..) => steps.push(Step::WriteDown(a)),
                Activator::SawRunOut { .. } => steps.push(Step::Expire(a)),
            }
        }
        for (w, worker) in world.workers.iter().enumerate() {
            match *worker {
                Worker::Idle if w > 0 && world.workers[w - 1] == Worker::Idle => {}
                Worker::Idle => steps.extend(self.claimable(world).map(|row| Step::Claim(w, row))),
                Worker::Claimed { frozen, .. } => {
                    steps.extend(ANSWERS.into_iter().filter(|a| !a.is_a_fault()).map(|a| Step::Call(w, a)));
                    if frozen {
                        steps.push(Step::Release(w));
                    }
                }
                Worker::Called { .. } => steps.push(Step::Record(w)),
                Worker::Retrying { .. } => steps.push(Step::SendRetry(w)),
                Worker::Done { .. } => steps.push(Step::Acknowledge(w)),
            }
        }
    }

    fn steps_of_idle_activator(&self, world: &World, activator: usize, steps: &mut Vec<Step>) {
        let is_possible = |row: &Row, event| transition(&row.notification, &event).is_some();
        for (n, row) in world.rows.iter().enumerate() {
            if matches!(row.wake, Some(Wake::Now | Wake::AtDue)) && is_possible(row, Event::Publish) {
                steps.push(Step::Take(activator, n));
            } else if row.wake == Some(Wake::Now) && is_possible(row, Event::ClaimExpired) {
                steps.push(Step::SeeRunOut(activator, n));
            }
        }
    }

    /// What a worker makes of a row whose message it has, if it can claim it.
    pub(crate) fn claimed(&self, row: &Row) -> Option<Notification> {
        let state = if self.has(Guard::ClaimAsksState) { row.state() } else { State::Queued };
        let due = row.due || !self.has(Guard::ClaimAsksDue);
        transition(&Notification { state, ..row.notification }, &Event::Claim { due, expired: false })
    }

    fn claimable<'a>(&'a self, world: &'a World) -> impl Iterator<Item = usize> + 'a {
        let claimable = move |(_, row): &(usize, &Row)| row.messages > 0 && self.claimed(row).is_some();
        world.rows.iter().enumerate().filter(claimable).map(|(n, _)| n)
    }

    fn faults(&self, world: &World, steps: &mut Vec<Step>) {
        if world.faults == 0 {
            return;
        }
        let mut faults = Vec::new();
        faults.extend(world.bridge.map(|_| Fault::BridgeDies));
        if world.bridge.is_none() {
            faults.extend((0..world.applied).filter(|r| world.is_deleted(*r)).map(Fault::DeliverAgain));
        }
        for (a, activator) in world.activators.iter().enumerate() {
            if *activator != Activator::Idle {
                faults.push(Fault::ActivatorDies(a));
            }
            if let Activator::Took(_) = activator {
                let confirm_lost = [Fault::ConfirmLost(a, false), Fault::ConfirmLost(a, true)];
                faults.push(Fault::NotRouted(a));
                faults.extend(confirm_lost);
            }
        }
        for (w, worker) in world.workers.iter().enumerate() {
            if *worker != Worker::Idle {
                faults.push(Fault::WorkerDies(w));
            }
            match worker {
                Worker::Claimed { frozen: false, .. } => {
                    faults.extend([Fault::WorkerFreezes(w), Fault::WorkerIsSlow(w), Fault::AddressIsBusy(w)]);
                    faults.extend(ANSWERS.into_iter().filter(|a| a.is_a_fault()).map(|a| Fault::Answers(w, a)));
                }
                Worker::Called { frozen: false, .. } => faults.push(Fault::WorkerFreezes(w)),
                Worker::Retrying { .. } => faults.push(Fault::RetryNotSent(w)),
                _ => {}
            }
        }
        for (n, row) in world.rows.iter().enumerate() {
            if row.messages > 0 {
                faults.extend([Fault::MessageLost(n), Fault::MessageDoubled(n), Fault::MessageDies(n)]);
                if row.is_waiting() && row.due {
                    faults.push(Fault::TooOld(n));
                }
            }
            // The end of a claim comes early when its worker freezes.
            if can_wake(row) && row.is_waiting() && is_on_its_way(world, n) {
                faults.push(Fault::WakesTooEarly(n));
            }
            if row.confirmed && row.is_waiting() && matches!(row.wake, Some(Wake::Now | Wake::AtDue)) {
                faults.push(Fault::LeftInBacklog(n));
            }
        }
        steps.extend(faults.into_iter().map(Step::Fault));
    }
}

/// Whether a worker keeps its message until it is due. What an activator publishes ahead is due within a second; what
/// comes otherwise may be far too early.
fn is_held(row: &Row) -> bool {
    row.is_waiting() && !row.due && row.routed
}

/// Whether time alone brings the row's `wake_at`.
fn can_wake(row: &Row) -> bool {
    let waits = matches!(row.wake, Some(Wake::Later | Wake::Confirmed));
    waits && (row.due || row.state() == State::Sending)
}

/// Whether a message of it, or the worker that has claimed it, would normally come before its `wake_at`.
fn is_on_its_way(world: &World, n: usize) -> bool {
    let row = &world.rows[n];
    match row.state() {
        State::Sending => {
            return world.workers.iter().any(|w| w.claim() == Some((n, row.fence())) && !w.is_frozen());
        }
        // What was returned waits a second at first, and what was confirmed is written down after fifteen.
        State::Scheduled => return false,
        _ => {}
    }
    let publishes = |a: &Activator| matches!(a, Activator::Took(p) | Activator::Published(p, _) if p.row == n);
    row.messages > 0
        || world.activators.iter().any(publishes)
        || world.workers.iter().any(|w| matches!(w, Worker::Retrying { row } if *row == n))
}
