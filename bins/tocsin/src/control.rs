//! What goes through the HTTP API.

pub(crate) mod administration;
pub(crate) mod client;
mod failures;
mod ladder;
mod leases;
mod notifications;
mod orders;
mod page;
mod processes;
mod requests;
mod schedule_screens;
mod schedules;
mod screen;
mod simulate;
mod status;
mod watch;

use clap::Subcommand;

pub(crate) use ladder::{pair, value};
use page::Page;
pub(crate) use screen::plain;

use self::client::Client;
use crate::Problem;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start a process: somebody is notified unless somebody stops it
    Start(orders::Start),
    /// Stop a process: what is not sent yet is cancelled, in every run
    Stop(orders::Stop),
    /// Show a process: its requests, runs, notifications and calls, and why each was or was not sent
    Show(processes::Show),
    /// List processes or notifications
    #[command(subcommand)]
    List(processes::Lists),
    /// Tell what happens as it happens
    Watch(watch::Watch),
    /// Say why a notification was or was not sent
    #[command(after_help = "Example: tocsin explain 17")]
    Explain(notifications::One),
    /// Show failures that wait for a person, by channel and cause
    Failures(failures::Failures),
    /// Try a failed notification again, or many
    Retry(failures::Retry),
    /// Give a failed notification up: it waits for nobody any more
    #[command(after_help = "Example: tocsin give-up 17\n\nExit code 1: it has not failed, or was given up already.")]
    GiveUp(notifications::One),
    /// Change the address or the text of a failed notification
    Edit(notifications::Edit),
    /// Say what would become of a ladder, on a clock that does not have to be waited for
    Simulate(simulate::Simulate),
    /// List recorded requests, show one, or send a rejected one again
    Requests(requests::Requests),
    /// Schedules, which start a process at each of their occurrences
    #[command(subcommand)]
    Schedule(schedules::Command),
    /// List leases: who has which duty, and since when
    Leases(leases::Leases),
    /// Say on one screen whether all is well and, if not, what to do
    Status(status::Asked),
    /// List what people changed, the newest first
    Audit(status::Audit),
}

/// Carries a command out.
pub(crate) async fn run(command: &Command, client: &Client) -> Result<(), Problem> {
    match command {
        Command::Start(start) => orders::start(start, client).await,
        Command::Stop(stop) => orders::stop(stop, client).await,
        Command::Show(show) => processes::show(show, client).await,
        Command::List(processes::Lists::Processes(filter)) => processes::list(filter, client).await,
        Command::List(processes::Lists::Notifications(filter)) => notifications::list(filter, client).await,
        Command::List(processes::Lists::DeadLetters(letters)) => status::dead_letters(letters, client).await,
        Command::Watch(watch) => watch::run(watch, client).await,
        Command::Explain(one) => notifications::explain(one, client).await,
        Command::Failures(failures) => failures::list(failures, client).await,
        Command::Retry(retry) => failures::retry(retry, client).await,
        Command::GiveUp(one) => notifications::give_up(one, client).await,
        Command::Edit(edit) => notifications::edit(edit, client).await,
        Command::Simulate(simulate) => simulate::run(simulate, client).await,
        Command::Requests(requests) => requests::run(requests, client).await,
        Command::Schedule(command) => schedules::run(command, client).await,
        Command::Leases(leases) => leases::list(leases, client).await,
        Command::Status(asked) => status::show(asked, client).await,
        Command::Audit(audit) => status::audit(audit, client).await,
    }
}
