//! The command line of whoever runs Tocsin: start and stop processes, see what became of them and mend what failed, over
//! the HTTP API; and bring the schema up to date, see whether all is well, try a channel.

mod caller_id;
mod check;
mod control;
mod keys;
mod pauses;
mod ready;
mod trial;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use control::client::{Access, Client};
use domain::CHANNELS;
use runtime::{
    ExposeSecret, Reader, SecretString, connection_name, read_settings,
    settings::{API_KEY, API_URL, DATABASE_URL},
};
use store::Store;

/// What was asked for did not come about: a notification was not delivered, a name is not known.
pub(crate) const NOT_DONE: u8 = 1;
/// The command line or the configuration is wrong.
pub(crate) const BAD_USAGE: u8 = 64;
/// Something that is needed is away.
pub(crate) const UNAVAILABLE: u8 = 69;

/// The command line.
#[derive(Parser)]
#[command(
    name = "tocsin",
    version,
    about = "Runs Tocsin: who is notified when, what became of it, and what to mend",
    after_help = help()
)]
struct Arguments {
    /// A TOML file with settings; the environment wins over it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

fn help() -> String {
    let (url, key, default) = (API_URL.variable(), API_KEY.variable(), API_URL.default.unwrap_or_default());
    format!(
        "A first try:\n  \
           export TOCSIN_KEY=$(TOCSIN_DATABASE__URL=postgres://… tocsin key create \"$USER\" --role admin)\n  \
           tocsin status\n  \
           tocsin start pizzeria --notify phone:+3851111111@now --notify email:boss@example.org@+5m\n  \
           tocsin show pizzeria\n  \
           tocsin stop pizzeria\n\n\
         Settings come from the environment, or from the TOML file that --config names:\n\n  \
           {url}\n      {} (default {default})\n  \
           {key}\n      {} (required)\n\n\
         for start, stop, show, list, watch, explain, failures, retry, give-up, edit, simulate, requests, schedule, leases,\n\
         status and audit.\n\
         pause, resume and caller-id go through the API where {url} is set, and key where both are; the audit then\n\
         names the key. Else they, and migrate and test, take TOCSIN_DATABASE__URL; test also TOCSIN_SQS__QUEUE_URL and AWS's\n\
         own variables; check whatever the programs need that it checks. NO_COLOR takes the colours away.\n\n\
         Exit codes: 0 done, 1 not done or not found, 64 bad usage or configuration, 69 something that it needs is away.",
        API_URL.help, API_KEY.help
    )
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Control(control::Command),
    /// Pause a channel, or all: workers claim nothing until it is resumed. Without a channel: show what is paused
    #[command(after_help = BY_API)]
    Pause {
        /// Which
        channel: Option<PausedChannel>,
        /// Why, for others to read
        #[arg(long, requires = "channel")]
        reason: Option<String>,
        /// Who says so, where it goes to the database; the user at this machine unless given
        #[arg(long, requires = "channel")]
        by: Option<String>,
    },
    /// Let a channel go on, or all
    #[command(after_help = BY_API)]
    Resume {
        /// Which
        channel: PausedChannel,
    },
    /// Whose number calls and texts come from, by the longest prefix of the number that they go to
    #[command(subcommand, after_help = BY_API)]
    CallerId(caller_id::Command),
    /// Keys of the HTTP API
    #[command(
        subcommand,
        after_help = "Through the API where TOCSIN_URL and TOCSIN_KEY are set, the key being of role admin; else straight on the\n\
            database of TOCSIN_DATABASE__URL, as the first key must be."
    )]
    Key(keys::Command),
    /// Send one real notification through the whole path, and follow it
    Test(trial::Arguments),
    /// Contact everything that the programs need, send nothing, and say what is wrong and how to mend it
    ///
    /// Runs each program that is installed beside this one with --check, in this environment. A notifier of whose
    /// provider nothing is set counts as not wanted, unless it is named.
    Check {
        /// Which programs; all that are installed beside this one unless given
        programs: Vec<String>,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Bring the database's schema up to date, as its owner
    Migrate,
    /// Ask a running program whether it is ready; for health checks of containers
    Ready {
        /// Its health endpoint; that of the program beside which this runs unless given
        #[arg(long)]
        url: Option<String>,
    },
    /// Print the completions for a shell
    #[command(after_help = "Example: tocsin completions bash > /etc/bash_completion.d/tocsin")]
    Completions {
        /// Which
        shell: Shell,
    },
    /// Write a manual page for each command into a folder
    #[command(after_help = "Example: tocsin man /usr/local/share/man/man1 && man tocsin-start")]
    Man {
        /// Which; it must be there
        directory: PathBuf,
    },
}

const BY_API: &str = "Through the API where TOCSIN_URL is set, with TOCSIN_KEY; else straight on the database of \
    TOCSIN_DATABASE__URL.";

/// The name of a channel, or `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PausedChannel(&'static str);

impl ValueEnum for PausedChannel {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: std::sync::OnceLock<Vec<PausedChannel>> = std::sync::OnceLock::new();
        ALL.get_or_init(|| {
            let names = CHANNELS.iter().map(|channel| channel.name).chain([store::ALL_CHANNELS]);
            names.map(PausedChannel).collect()
        })
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0))
    }
}

/// Why a command did not end well, and the exit code that says so.
pub(crate) struct Problem {
    pub(crate) text: String,
    pub(crate) code: u8,
}

impl Problem {
    pub(crate) fn new(code: u8, text: impl Into<String>) -> Self {
        Self { text: text.into(), code }
    }

    /// One that stands on standard output already.
    pub(crate) fn said(code: u8) -> Self {
        Self::new(code, "")
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        Self::new(UNAVAILABLE, error.to_string())
    }
}

/// From the command line to the exit code.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Whoever closed the terminal does not want to know.
            error.print().unwrap_or_default();
            return if error.use_stderr() { ExitCode::from(BAD_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let threads = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(threads) => threads,
        Err(error) => {
            eprintln!("tocsin: threads: {error}");
            return ExitCode::from(UNAVAILABLE);
        }
    };
    threads.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> ExitCode {
    let file = arguments.config.as_deref();
    match &arguments.command {
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Arguments::command(), "tocsin", &mut io::stdout());
            ExitCode::SUCCESS
        }
        Command::Man { directory } => end(manual(directory)),
        Command::Check { programs, json } => check::run(programs, *json, file).await,
        Command::Ready { url } => ready::run(url.as_deref(), file).await,
        command => match read_settings("tocsin", file, |reader| Settings::read(reader, command)) {
            Ok((settings, warnings)) => {
                warnings.iter().for_each(|warning| eprintln!("tocsin: {warning}"));
                end(carry_out(arguments.command, settings).await)
            }
            Err(wrong) => wrong.show("tocsin", None),
        },
    }
}

fn end(done: Result<(), Problem>) -> ExitCode {
    let Err(problem) = done else { return ExitCode::SUCCESS };
    if !problem.text.is_empty() {
        eprintln!("tocsin: {}", problem.text);
    }
    ExitCode::from(problem.code)
}

fn manual(directory: &Path) -> Result<(), Problem> {
    let written = clap_mangen::generate_to(Arguments::command(), directory);
    written.map_err(|error| Problem::new(UNAVAILABLE, format!("{}: {error}", directory.display())))
}

/// By which way a command is carried out.
pub(crate) enum Way {
    /// Straight on the database.
    Database(Store),
    /// Through the API.
    Api(Client),
}

enum Settings {
    Database { url: SecretString, queue: Option<sqs::Config> },
    Api(Access),
}

impl Settings {
    fn read(reader: &mut Reader, command: &Command) -> Option<Self> {
        let by_api = match command {
            Command::Control(_) => true,
            Command::Pause { .. } | Command::Resume { .. } | Command::CallerId(_) => reader.is_set(&API_URL),
            Command::Key(_) => reader.is_set(&API_URL) && reader.is_set(&API_KEY),
            _ => false,
        };
        if by_api {
            return Access::read(reader).map(Self::Api);
        }
        let url = reader.secret(&DATABASE_URL);
        let queue = if matches!(command, Command::Test(_)) { Some(sqs::Config::read(reader)?) } else { None };
        Some(Self::Database { url: url?, queue })
    }
}

async fn carry_out(command: Command, settings: Settings) -> Result<(), Problem> {
    let (way, queue) = match settings {
        Settings::Api(access) => (Way::Api(Client::new(&access)?), None),
        Settings::Database { url, queue } => {
            (Way::Database(Store::for_questions(url.expose_secret(), &connection_name("tocsin"), 2)?), queue)
        }
    };
    match (command, &way, queue) {
        (Command::Control(command), Way::Api(client), _) => control::run(&command, client).await?,
        (Command::Migrate, Way::Database(store), _) => migrate(store).await?,
        (Command::Test(arguments), Way::Database(store), Some(queue)) => {
            trial::run(&arguments, store, &queue).await?;
        }
        (Command::Pause { channel: None, .. }, way, _) => pauses::show(way).await?,
        (Command::Pause { channel: Some(channel), reason, by }, way, _) => {
            pauses::pause(way, channel.0, by, reason.as_deref()).await?;
        }
        (Command::Resume { channel }, way, _) => pauses::resume(way, channel.0).await?,
        (Command::CallerId(command), way, _) => caller_id::run(&command, way).await?,
        (Command::Key(command), way, _) => keys::run(&command, way).await?,
        _ => unreachable!("its settings were read for another command"),
    }
    if let Way::Database(store) = way {
        store.close().await;
    }
    Ok(())
}

async fn migrate(store: &Store) -> Result<(), Problem> {
    let applied = store.migrate().await?;
    applied.iter().for_each(|migration| println!("applied {migration}"));
    if applied.is_empty() {
        println!("the schema is up to date");
    }
    Ok(())
}
