//! The command line of whoever runs Tocsin: bring the schema up to date, see whether all is well, try a channel, pause
//! and resume, set the caller ids.

mod caller_id;
mod check;
mod keys;
mod pauses;
mod ready;
mod trial;

use std::{io, path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use domain::CHANNELS;
use runtime::{ExposeSecret, Reader, SecretString, connection_name, read_settings, settings::DATABASE_URL};
use store::Store;

/// What was asked for did not come about: a notification was not delivered, a name is not known.
pub(crate) const NOT_DONE: u8 = 1;
/// Something that is needed is away.
pub(crate) const UNAVAILABLE: u8 = 69;

/// The command line.
#[derive(Parser)]
#[command(
    name = "tocsin",
    version,
    about = "Runs and tries Tocsin",
    after_help = "Settings come from the environment, or from the TOML file that --config names, as for every program:\n\
        TOCSIN_DATABASE__URL for all but `completions`; for `test` also TOCSIN_SQS__QUEUE_URL and AWS's own variables;\n\
        for `check` whatever the programs need that it checks.\n\n\
        Exit codes: 0 done, 1 not delivered or not found, 64 bad configuration, 69 something that it needs is away."
)]
struct Arguments {
    /// A TOML file with settings; the environment wins over it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the database's schema up to date, as its owner
    Migrate,
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
    /// Send one real notification through the whole path, and follow it
    Test(trial::Arguments),
    /// Pause a channel, or all: workers claim nothing until it is resumed. Without a channel: show what is paused
    Pause {
        /// Which
        channel: Option<PausedChannel>,
        /// Why, for others to read
        #[arg(long, requires = "channel")]
        reason: Option<String>,
        /// Who says so; the user at this machine unless given
        #[arg(long, requires = "channel")]
        by: Option<String>,
    },
    /// Let a channel go on, or all
    Resume {
        /// Which
        channel: PausedChannel,
    },
    /// Whose number calls and texts come from, by the longest prefix of the number that they go to
    #[command(subcommand)]
    CallerId(caller_id::Command),
    /// Keys of the HTTP API
    #[command(subcommand)]
    Key(keys::Command),
    /// Ask a running program whether it is ready; for health checks of containers
    Ready {
        /// Its health endpoint; that of the program beside which this runs unless given
        #[arg(long)]
        url: Option<String>,
    },
    /// Print the completions for a shell
    Completions {
        /// Which
        shell: Shell,
    },
}

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
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        Self::new(UNAVAILABLE, error.to_string())
    }
}

/// From the command line to the exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Completions { shell } = arguments.command {
        clap_complete::generate(shell, &mut Arguments::command(), "tocsin", &mut io::stdout());
        return ExitCode::SUCCESS;
    }
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
    if let Command::Check { programs, json } = &arguments.command {
        return check::run(programs, *json, file).await;
    }
    if let Command::Ready { url } = &arguments.command {
        return ready::run(url.as_deref(), file).await;
    }
    let with_queue = matches!(arguments.command, Command::Test(_));
    let read = read_settings("tocsin", file, |reader| Settings::read(reader, with_queue));
    let settings = match read {
        Ok((settings, warnings)) => {
            warnings.iter().for_each(|warning| eprintln!("tocsin: {warning}"));
            settings
        }
        Err(wrong) => return wrong.show("tocsin", None),
    };
    match carry_out(arguments.command, settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("tocsin: {}", problem.text);
            ExitCode::from(problem.code)
        }
    }
}

async fn carry_out(command: Command, settings: Settings) -> Result<(), Problem> {
    let store = Store::for_questions(settings.database_url.expose_secret(), &connection_name("tocsin"), 2)?;
    match command {
        Command::Migrate => migrate(&store).await?,
        Command::Test(arguments) => {
            let queue = settings.queue.expect("it is read for this command");
            trial::run(&arguments, &store, &queue).await?;
        }
        Command::Pause { channel: None, .. } => pauses::show(&store).await?,
        Command::Pause { channel: Some(channel), reason, by } => {
            let by = by.unwrap_or_else(runtime::operator);
            pauses::pause(&store, channel.0, &by, reason.as_deref()).await?;
        }
        Command::Resume { channel } => pauses::resume(&store, channel.0).await?,
        Command::CallerId(command) => caller_id::run(&command, &store).await?,
        Command::Key(command) => keys::run(&command, &store).await?,
        Command::Check { .. } | Command::Ready { .. } | Command::Completions { .. } => {
            unreachable!("done without settings")
        }
    }
    store.close().await;
    Ok(())
}

struct Settings {
    database_url: SecretString,
    queue: Option<sqs::Config>,
}

impl Settings {
    fn read(reader: &mut Reader, with_queue: bool) -> Option<Self> {
        let database_url = reader.secret(&DATABASE_URL);
        let queue = if with_queue { Some(sqs::Config::read(reader)?) } else { None };
        Some(Self { database_url: database_url?, queue })
    }
}

async fn migrate(store: &Store) -> Result<(), Problem> {
    let applied = store.migrate().await?;
    applied.iter().for_each(|migration| println!("applied {migration}"));
    if applied.is_empty() {
        println!("the schema is up to date");
    }
    Ok(())
}
