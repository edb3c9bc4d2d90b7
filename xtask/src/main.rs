//! Development tasks: `cargo xtask --help`.

mod bench;
mod checks;
mod demo;
mod events;
mod flood;
mod fuzz;
mod interrupt;
mod leaks;
mod sabotage;
mod stage;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about = "Development tasks of Tocsin")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start everything, send sample requests, and show what happens, until Ctrl-C
    Demo(StageArguments),
    /// Start everything, and show what happens, until Ctrl-C
    Up(StageArguments),
    /// Check format, lints, dependencies and licences, and run every test
    Test {
        /// Arguments for cargo-nextest, such as a part of a test's name; with them only tests are run
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        nextest: Vec<String>,
    },
    /// Let everything fail under load as a seed says, and account for every notification
    Chaos(chaos::Arguments),
    /// Take away one guard after the other, in a copy of the sources, and see that tests or chaos find it
    Sabotage {
        /// Which guards; all, if none is named
        guards: Vec<String>,

        /// Ask chaos in any case, not only where every test stays green
        #[arg(long)]
        chaos: bool,
    },
    /// Measure speed beside what a user would pick instead
    #[command(disable_help_flag = true)]
    Bench {
        /// See `cargo xtask bench --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Let hundreds of thousands wait, with slow providers, and see that memory is bounded and nobody starves
    Flood(flood::FloodArguments),
    /// Feed everything that strangers send with whatever a fuzzer comes up with, and see that it holds
    Fuzz(fuzz::FuzzArguments),
    /// Start the servers that tests need, until Ctrl-C, so that tests can be run without xtask
    Servers,
}

/// How to set the stage.
#[derive(Args)]
pub(crate) struct StageArguments {
    /// How many copies of a program to run
    #[arg(long, value_name = "PROGRAM=N", value_parser = scale)]
    pub(crate) scale: Vec<(String, usize)>,

    /// Where the servers keep their data and the programs their logs
    #[arg(long, value_name = "DIR", default_value = ".dev/demo")]
    pub(crate) folder: PathBuf,

    /// End after the samples, instead of staying up until Ctrl-C
    #[arg(long)]
    pub(crate) exit: bool,
}

fn scale(text: &str) -> Result<(String, usize), String> {
    let wrong = || "must be a program and a number, such as notifier-phone=3".to_owned();
    let (program, number) = text.split_once('=').ok_or_else(wrong)?;
    let programs = stage::programs();
    if !programs.iter().any(|known| known == program) {
        return Err(format!("must name one of {}", programs.join(", ")));
    }
    let number = number.parse().ok().filter(|n| (1..=50).contains(n)).ok_or_else(wrong)?;
    Ok((program.to_owned(), number))
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Demo(arguments) => stage::run(&arguments, demo::play),
        Task::Up(arguments) => stage::run(&arguments, |_, _| Ok(())),
        Task::Test { nextest } => checks::run(&nextest),
        Task::Bench { arguments } => bench::run(&arguments),
        Task::Chaos(arguments) => checks::chaos(&arguments),
        Task::Sabotage { guards, chaos } => sabotage::run(&guards, chaos),
        Task::Flood(arguments) => flood::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Servers => checks::servers(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
