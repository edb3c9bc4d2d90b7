use domain::{OnUnknown, State};
use stateright::Property;

use crate::{
    pipeline::Pipeline,
    world::{Breach, Claims, Row, Wake, Worker, World},
};

pub(crate) const I2: &str = "I2 whatever comes to rest is finished";
pub(crate) const I2_WAKES: &str = "I2 an unfinished row wakes, a finished one never";
pub(crate) const I2_HOUR: &str = "I2 a wake-up is put off for an hour only while a message of it is somewhere";
pub(crate) const I2_ADDS_UP: &str = "I2 accepted = delivered + failed + cancelled + pending";
pub(crate) const I3: &str = "I3 nothing is claimed before it is due";
pub(crate) const I4: &str = "I4 no claim succeeds after a stop";
pub(crate) const I5: &str = "I5 who lost a claim changes nothing";
pub(crate) const I5_ONE: &str = "I5 at most one worker holds a notification";
pub(crate) const I6: &str = "I6 a call is answered, in flight, or marked unknown because of a fault";
pub(crate) const I6_ONCE: &str = "I6 a claim ends once";
pub(crate) const I7: &str = "I7 what was returned is not taken for published";
pub(crate) const I7_BACK: &str = "I7 what was returned is scheduled once more";
pub(crate) const N11: &str = "N11 with on-unknown = fail, no call follows one that nobody knows of";
pub(crate) const R8: &str = "R8 a request takes effect once";

pub(crate) const CALLED_ONCE_MORE: &str = "called once more because of a fault";
pub(crate) const SECOND_RUN: &str = "the second run delivered while the first was cancelled";

pub(crate) fn all() -> Vec<Property<Pipeline>> {
    let mut all = vec![
        Property::<Pipeline>::always(I2, |pipeline, world| is_finished(world) || !pipeline.is_at_rest(world)),
        Property::<Pipeline>::always(I2_WAKES, |_, world| every(world, |row| row.wake.is_none() == row.is_finished())),
        Property::<Pipeline>::always(I2_HOUR, |_, world| every(world, may_wait_an_hour)),
        Property::<Pipeline>::always(I2_ADDS_UP, |_, world| world.accepted == world.rows.len()),
        Property::<Pipeline>::always(I3, |_, world| !world.breaches.contains(&Breach::ClaimedBeforeDue)),
        Property::<Pipeline>::always(I4, |_, world| !world.breaches.contains(&Breach::ClaimedAfterStop)),
        Property::<Pipeline>::always(I5, |_, world| !world.breaches.contains(&Breach::ChangedWithoutClaim)),
        Property::<Pipeline>::always(I5_ONE, |_, world| (0..world.rows.len()).all(|n| holders(world, n) <= 1)),
        Property::<Pipeline>::always(I6, |_, world| every(world, each_call_is_accounted_for)),
        Property::<Pipeline>::always(I6_ONCE, |_, world| every(world, each_claim_ends_once)),
        Property::<Pipeline>::always(I7, |_, world| {
            every(world, |row| row.wake != Some(Wake::Confirmed) || row.routed)
        }),
        Property::<Pipeline>::always(I7_BACK, |_, world| !world.breaches.contains(&Breach::LooksPublished)),
        Property::<Pipeline>::always(N11, |pipeline, world| every(world, |row| knows_or_ends(pipeline, row))),
        Property::<Pipeline>::always(R8, |_, world| !world.breaches.contains(&Breach::AppliedTwice)),
    ];
    all.extend(what_happens());
    all
}

/// So that nothing above holds only because nothing happens.
fn what_happens() -> [Property<Pipeline>; 8] {
    [
        Property::<Pipeline>::sometimes("delivered at once", |_, world| {
            some(world, |row| row.state() == State::Delivered && row.fence() == 1)
        }),
        Property::<Pipeline>::sometimes("delivered at the second try", |_, world| {
            some(world, |row| row.state() == State::Delivered && row.answered.has(1) && row.answered.has(2))
        }),
        Property::<Pipeline>::sometimes(CALLED_ONCE_MORE, |_, world| {
            some(world, |row| row.called.has(1) && row.unknown.has(1) && row.answered.has(2))
        }),
        Property::<Pipeline>::sometimes("delivered although stopped", |_, world| {
            some(world, |row| row.state() == State::Delivered && row.stopped)
        }),
        Property::<Pipeline>::sometimes("stopped while it was being sent", |_, world| {
            some(world, |row| row.state() == State::Cancelled && !row.answered.is_within(Claims::default()))
        }),
        Property::<Pipeline>::sometimes("failed after all attempts", |_, world| {
            some(world, |row| {
                row.state() == State::Failed && row.notification.attempts == row.notification.max_attempts
            })
        }),
        Property::<Pipeline>::sometimes("confirmed", |_, world| some(world, |row| row.wake == Some(Wake::Confirmed))),
        Property::<Pipeline>::sometimes(SECOND_RUN, |_, world| {
            let states: Vec<_> = world.rows.iter().map(Row::state).collect();
            states == [State::Cancelled, State::Delivered]
        }),
    ]
}

fn every(world: &World, holds: impl Fn(&Row) -> bool) -> bool {
    world.rows.iter().all(holds)
}

fn some(world: &World, holds: impl Fn(&Row) -> bool) -> bool {
    world.rows.iter().any(holds)
}

fn is_finished(world: &World) -> bool {
    (0..world.applied).all(|request| world.is_deleted(request)) && every(world, Row::is_finished)
}

/// The workers that hold a claim, but for those that a fault has hit.
fn holders(world: &World, n: usize) -> usize {
    let holds = |worker: &&Worker| !worker.is_frozen() && worker.claim().is_some_and(|(row, _)| row == n);
    world.workers.iter().filter(holds).count()
}

/// The claim that is in flight, if there is one.
fn open(row: &Row) -> Claims {
    if row.state() == State::Sending { Claims::one(row.fence()) } else { Claims::default() }
}

/// A message that the broker has confirmed and then lost is what only the hour makes up for.
fn may_wait_an_hour(row: &Row) -> bool {
    row.wake != Some(Wake::Confirmed) || row.messages > 0 || row.lost
}

/// Beyond the retries that answers ask for, there is at most one call for each fault that hit one in flight.
fn each_call_is_accounted_for(row: &Row) -> bool {
    let accounted_for = row.answered.and(row.unknown).and(open(row));
    row.called.is_within(accounted_for) && row.answered.is_within(row.called) && row.unknown.is_within(row.hit)
}

fn knows_or_ends(pipeline: &Pipeline, row: &Row) -> bool {
    pipeline.on_unknown == OnUnknown::Retry || row.unknown.is_within(Claims::one(row.fence()))
}

fn each_claim_ends_once(row: &Row) -> bool {
    let is_apart = |a: Claims, b: Claims| a.without(b) == a;
    let ended = row.answered.and(row.unknown).and(row.given_back);
    ended == Claims::up_to(row.fence()).without(open(row))
        && is_apart(row.answered, row.unknown)
        && is_apart(row.given_back, row.answered.and(row.unknown))
}
