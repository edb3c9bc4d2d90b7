//! The pipeline under a model checker: all orders of what its programs, time and a few faults can do.
//!
//! The rows change by `domain::transition` alone, which the SQL follows (`shared/store/tests/transitions.rs`). What the
//! SQL and the programs keep beside it is modelled here: when a row wakes, who has which message, what is written
//! down in which order.

mod effects;
mod pipeline;
mod properties;
mod world;

use std::{
    collections::{BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use domain::OnUnknown;
use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::{
    pipeline::{Guard, Pipeline},
    properties::{
        CALLED_ONCE_MORE, I2, I2_ADDS_UP, I2_HOUR, I2_WAKES, I3, I4, I5, I5_ONE, I6, I6_ONCE, I7, I7_BACK, N11, R8,
        SECOND_RUN,
    },
    world::{Ask, World},
};

const START_AND_STOP: Pipeline = Pipeline {
    requests: &[Ask::Start, Ask::Stop],
    faults: 2,
    max_attempts: 2,
    on_unknown: OnUnknown::Retry,
    without: &[],
};

/// Looks at every state that can be reached, of which there must be more than `floor`: all invariants hold in all of
/// them, and everything happens that should, but for what is `impossible`.
fn explore(pipeline: Pipeline, floor: usize, impossible: &[&str]) {
    let checker = pipeline.checker().threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{states} states, up to {depth} steps deep");
    let mut never_seen = BTreeSet::new();
    for property in checker.model().properties() {
        match (property.expectation, checker.discovery(property.name)) {
            (Expectation::Sometimes, None) => {
                never_seen.insert(property.name);
            }
            (Expectation::Sometimes, Some(_)) | (Expectation::Always | Expectation::Eventually, None) => {}
            (Expectation::Always | Expectation::Eventually, Some(way)) => {
                panic!("{} is broken by {:#?}", property.name, way.into_actions());
            }
        }
    }
    assert_eq!(never_seen, impossible.iter().copied().collect());
    assert!(checker.is_done() && states > floor, "{states} states are too few");
}

/// Without these guards each of these invariants must break.
fn breaks(without: &'static [Guard], invariants: &[&'static str]) {
    breaks_by(START_AND_STOP.faults, without, invariants);
}

fn breaks_by(faults: u8, without: &'static [Guard], invariants: &[&'static str]) {
    let on_unknown = if without.contains(&Guard::UnknownFails) { OnUnknown::Fail } else { OnUnknown::Retry };
    let pipeline = Pipeline { faults, without, on_unknown, ..START_AND_STOP };
    let found = HasDiscoveries::AllOf(invariants.iter().copied().collect());
    let checker = pipeline.checker().threads(2).finish_when(found).spawn_bfs().join();
    for invariant in invariants {
        let way = checker.discovery(invariant);
        let way = way.unwrap_or_else(|| panic!("without {without:?}, {invariant:?} holds all the same"));
        println!("without {without:?}, {invariant:?} is broken by {:?}", way.into_actions());
    }
}

#[test]
fn a_start_and_a_stop_with_any_three_faults() {
    explore(Pipeline { faults: 3, ..START_AND_STOP }, 1_000_000, &[SECOND_RUN]);
}

#[test]
fn a_process_that_is_stopped_and_started_again_with_any_fault() {
    let requests = &[Ask::Start, Ask::Stop, Ask::Start];
    explore(Pipeline { requests, faults: 1, ..START_AND_STOP }, 250_000, &[]);
}

#[test]
fn a_process_that_is_started_twice_and_stopped_with_any_fault() {
    let requests = &[Ask::Start, Ask::Start, Ask::Stop];
    explore(Pipeline { requests, faults: 1, ..START_AND_STOP }, 600_000, &[]);
}

#[test]
fn what_must_not_be_called_twice() {
    let on_unknown = OnUnknown::Fail;
    explore(Pipeline { on_unknown, ..START_AND_STOP }, 70_000, &[CALLED_ONCE_MORE, SECOND_RUN]);
}

/// What comes to rest is finished, says I2; and it does come to rest, as no way leads back to where it has been.
#[test]
fn every_way_comes_to_an_end() {
    fn fingerprint(world: &World) -> u64 {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        hasher.finish()
    }
    let pipeline = START_AND_STOP;
    let (mut on_the_way, mut left) = (HashSet::new(), HashSet::new());
    let mut way: Vec<(u64, Vec<World>)> = Vec::new();
    let mut next = pipeline.init_states().pop();
    loop {
        if let Some(world) = next {
            let print = fingerprint(&world);
            assert!(!on_the_way.contains(&print), "a way leads back to {world:#?}");
            if !left.contains(&print) {
                on_the_way.insert(print);
                way.push((print, pipeline.next_states(&world)));
            }
        }
        let Some((print, others)) = way.last_mut() else { break };
        next = others.pop();
        if next.is_none() {
            on_the_way.remove(print);
            left.insert(*print);
            way.pop();
        }
    }
    assert!(left.len() > 100_000, "{} states are too few", left.len());
}

/// Messages only make it quick. What is rescued is rescued by `wake_at`.
#[test]
fn acknowledging_before_recording_costs_time_and_nothing_else() {
    explore(Pipeline { without: &[Guard::AcknowledgesLast], ..START_AND_STOP }, 100_000, &[SECOND_RUN]);
}

#[test]
fn without_the_key_of_a_request_it_takes_effect_twice() {
    breaks(&[Guard::MessageId], &[R8, I2_ADDS_UP]);
}

#[test]
fn without_a_stop_that_cancels_what_waits_a_claim_follows_it() {
    breaks(&[Guard::StopCancels], &[I4]);
}

#[test]
fn without_a_stop_that_marks_what_is_being_sent_a_claim_follows_it() {
    breaks(&[Guard::StopMarksSending], &[I4]);
}

#[test]
fn a_claim_that_asks_no_state_follows_a_stop() {
    breaks(&[Guard::ClaimAsksState], &[I4, I5_ONE]);
}

#[test]
fn a_claim_that_asks_no_time_comes_too_early() {
    breaks(&[Guard::ClaimAsksDue], &[I3]);
}

#[test]
fn a_claim_that_never_runs_out_outlives_its_worker() {
    breaks(&[Guard::ClaimWakes], &[I2]);
}

#[test]
fn a_record_that_asks_for_no_fence_changes_what_somebody_else_has() {
    breaks(&[Guard::RecordAsksFence], &[I5, I6_ONCE]);
}

#[test]
fn a_release_that_asks_for_no_fence_changes_what_somebody_else_has() {
    breaks(&[Guard::ReleaseAsksFence], &[I5]);
}

#[test]
fn a_retry_that_the_broker_alone_knows_of_gets_lost() {
    breaks(&[Guard::RecordWakes], &[I2]);
}

#[test]
fn a_publication_that_only_its_activator_knows_of_gets_lost() {
    breaks(&[Guard::TakeWakes], &[I2, I2_WAKES]);
}

#[test]
fn what_is_not_mandatory_is_taken_for_published() {
    breaks(&[Guard::Mandatory], &[I7, I7_BACK]);
}

/// Who leaves `sending` gets another wake-up, so that the fence only says the same once more.
#[test]
fn marks_that_ask_the_wake_up_need_not_ask_for_the_fence() {
    explore(Pipeline { without: &[Guard::MarkAsksFence], ..START_AND_STOP }, 100_000, &[SECOND_RUN]);
}

#[test]
fn what_was_confirmed_before_the_last_claim_is_taken_for_published() {
    breaks(&[Guard::MarkAsksFence, Guard::MarkAsksWake], &[I7]);
}

#[test]
fn a_mark_that_does_not_ask_the_wake_up_puts_off_what_has_no_message_any_more() {
    breaks(&[Guard::MarkAsksWake], &[I2_HOUR]);
}

#[test]
fn a_wake_up_that_two_takes_share_lets_the_first_put_off_the_second() {
    breaks(&[Guard::TakesWakeApart], &[I2_HOUR]);
}

#[test]
fn what_still_counts_as_confirmed_after_it_was_taken_again_is_left_in_a_backlog_without_a_message() {
    breaks_by(3, &[Guard::TakeForgetsConfirm], &[I2_HOUR]);
}

#[test]
fn what_still_counts_as_confirmed_after_a_claim_is_left_in_a_backlog_without_a_message() {
    breaks(&[Guard::ClaimForgetsConfirm], &[I2_HOUR]);
}

#[test]
fn what_still_counts_as_confirmed_when_its_message_has_died_is_left_in_a_backlog_without_one() {
    breaks(&[Guard::DeathForgetsConfirm], &[I2_HOUR]);
}

#[test]
fn who_ends_claims_that_have_not_run_out_makes_calls_of_no_fault() {
    breaks(&[Guard::ExpireAsksTime], &[I5_ONE, I6]);
}

#[test]
fn a_claim_that_ended_in_the_dark_is_followed_by_another() {
    breaks(&[Guard::UnknownFails], &[N11]);
}
