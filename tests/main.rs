//! Tests of the whole: the programs run as separate processes on real servers, and are judged by what the provider
//! simulator got and by what Postgres says, never by their logs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod activator_crashes;
mod api;
mod api_explain;
mod api_failures;
mod api_operation;
mod architecture;
mod bad_input;
mod bridge_crashes;
mod channels;
mod checker;
mod command;
mod command_control;
mod command_screens;
mod compat;
mod contract;
mod dashboard;
mod dashboard_pages;
mod delivery;
mod demo;
mod deploy;
mod documentation;
mod monitoring;
mod notifier_crashes;
mod operation;
mod operators;
mod outages;
mod requests;
mod retention;
mod rights;
mod schedule_outcomes;
mod schedules;
mod schedules_api;
mod server_failures;
mod simulation;
mod sns;
mod sns_double;
mod sqs_proxy;
mod stop_races;
mod stopping;
mod topology;
mod wrong_clocks;

/// Every program that runs for good.
fn programs() -> Vec<String> {
    let notifiers = domain::CHANNELS.iter().map(domain::Channel::program);
    ["bridge", "activator", "api"].map(str::to_owned).into_iter().chain(notifiers).collect()
}
