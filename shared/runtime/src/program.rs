use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Arg, ArgAction, Command, value_parser};
use clap_complete::Shell;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::{
    CheckFormat, Lifecycle, Reader, Setting, checks, health, lifecycle, roesc,
    settings::{self, COMMON, HEALTH_LISTEN, LOG_FORMAT, LOG_LEVEL, SHUTDOWN_TIMEOUT_SECONDS},
    telemetry::{self, LogFormat},
};

const BAD_USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const BUG: u8 = 70;

/// A program: what its `--help` says, and how it reads its settings.
pub struct Program<C> {
    /// Its name, which is also the name of its folder in bins/.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Its settings beside [`COMMON`], group by group.
    pub settings: &'static [&'static [Setting]],
    /// Whether it has `--once`.
    pub has_once: bool,
    /// Reads its settings; `None` if any of them is wrong.
    pub read: fn(&mut Reader) -> Option<C>,
}

/// What a program is asked to do, from its command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Do what is there, and end.
    pub once: bool,
    /// Bring the schema up to date first.
    pub migrate: bool,
    /// Only contact what it needs, and say how that went.
    pub check: Option<CheckFormat>,
}

/// Why a program ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something that it needs is away, and it was not asked to wait. Exit code 69.
    #[error("{0}")]
    Unavailable(String),
    /// What should not be possible. Exit code 70.
    #[error("{0} (this is a bug in Tocsin)")]
    Bug(String),
}

impl Failure {
    /// The program's exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Unavailable(_) => UNAVAILABLE,
            Self::Bug(_) => BUG,
        })
    }
}

struct Common {
    listen: SocketAddr,
    listen_is_default: bool,
    log_format: LogFormat,
    log_filter: EnvFilter,
    shutdown_limit: Duration,
}

/// The whole life of a program, from its command line to its exit code: 0 done, 64 bad usage or configuration, 69
/// something it needs is away, 70 a bug.
pub fn start<C, F, W>(program: &Program<C>, run: F) -> ExitCode
where
    F: FnOnce(C, Run, Lifecycle) -> W,
    W: Future<Output = Result<(), Failure>>,
{
    let mut command = command(program);
    let arguments = match command.try_get_matches_from_mut(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => return shown(&error),
    };
    if let Some(shell) = arguments.get_one::<Shell>("completions") {
        clap_complete::generate(*shell, &mut command, program.name, &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    let check = arguments.get_one::<String>("check").map(|format| match format.as_str() {
        "json" => CheckFormat::Json,
        _ => CheckFormat::Human,
    });
    let file = arguments.get_one::<PathBuf>("config").map(PathBuf::as_path);
    let read = read_settings(program.name, file, |reader| Some((common(reader), (program.read)(reader))));
    let (common, config, warnings) = match read {
        Ok(((Some(common), Some(config)), warnings)) => (common, config, warnings),
        Ok(_) => unreachable!("what could not be read was said to be wrong"),
        Err(wrong) => return wrong.show(program.name, check),
    };
    if arguments.get_flag("check-config") {
        println!("{}: the configuration is good", program.name);
        return ExitCode::SUCCESS;
    }
    let run_arguments =
        Run { once: program.has_once && arguments.get_flag("once"), migrate: arguments.get_flag("migrate"), check };
    if check.is_none() {
        telemetry::init_log(common.log_format, common.log_filter.clone());
    }
    tell(program.name, warnings, check.is_some());
    let name = program.name;
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Unavailable(format!("threads: {error}")))
        .and_then(|threads| {
            let done = threads.block_on(async {
                if check.is_some() {
                    run(config, run_arguments, Lifecycle::new().0).await
                } else {
                    live(name, common, |lifecycle| run(config, run_arguments, lifecycle)).await
                }
            });
            // A task that hangs must not keep the program from ending.
            threads.shutdown_timeout(Duration::from_millis(100));
            done
        });
    match done {
        Ok(()) => {
            tracing::info!(event = "stopped", program = name, "stopped");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            tracing::error!(event = "failed", program = name, %failure, "ended by an error");
            failure.exit_code()
        }
    }
}

/// What is odd about the settings; there is no log where only checks are made.
fn tell(program: &str, warnings: Vec<String>, on_the_terminal: bool) {
    for warning in warnings {
        if on_the_terminal {
            eprintln!("{program}: {warning}");
        } else {
            tracing::warn!(event = "odd_setting", warning, "a setting is odd");
        }
    }
}

async fn live<W>(name: &'static str, common: Common, run: impl FnOnce(Lifecycle) -> W) -> Result<(), Failure>
where
    W: Future<Output = Result<(), Failure>>,
{
    let metrics = telemetry::init_metrics().map_err(|error| Failure::Bug(error.to_string()))?;
    let (lifecycle, mut panics) = Lifecycle::new();
    let listener = listen(&common).await?;
    let address = listener.local_addr().map_err(|error| Failure::Unavailable(error.to_string()))?;
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(event = "started", program = name, version, health = %address, pid = std::process::id(), "started");
    let served = health::serve(listener, name, lifecycle.health.clone(), metrics);
    tokio::select! {
        done = run(lifecycle.clone()) => done,
        end = lifecycle::watch_signals(lifecycle.stop.clone(), common.shutdown_limit) => {
            let cause = end.map_err(|error| Failure::Unavailable(format!("signals: {error}")))?;
            Err(Failure::Unavailable(format!("ended by {cause} before all that was in flight was done")))
        }
        Some(task) = panics.recv() => Err(Failure::Bug(format!("task {task} panicked"))),
        ended = served => Err(Failure::Unavailable(format!("health endpoint: {ended:?}"))),
    }
}

/// Shows what is wrong with the command line, or the help that was asked for.
fn shown(error: &clap::Error) -> ExitCode {
    // Whoever closed the terminal does not want to know.
    error.print().unwrap_or_default();
    if error.use_stderr() { ExitCode::from(BAD_USAGE) } else { ExitCode::SUCCESS }
}

async fn listen(common: &Common) -> Result<TcpListener, Failure> {
    health::bind(common.listen, common.listen_is_default).await.map_err(|error| {
        let variable = HEALTH_LISTEN.variable();
        Failure::Unavailable(format!("{variable}: can't listen on {}: {error}; choose another", common.listen))
    })
}

/// Everything that was wrong with the settings.
#[derive(Debug)]
pub struct WrongSettings {
    errors: Vec<String>,
    only_missing: bool,
}

impl WrongSettings {
    /// Shows it, as the result of a check where one was asked for, and answers the exit code.
    pub fn show(&self, program: &str, check: Option<CheckFormat>) -> ExitCode {
        if let Some(format) = check {
            // A program of which nobody has set a thing may simply not be wanted.
            let name = if self.only_missing { NOT_CONFIGURED } else { "configuration" };
            checks::show(format, name, Err(&self.errors.join("; ")), "set it: --help lists all settings");
        } else {
            eprintln!("{program}: the configuration is wrong:");
            self.errors.iter().for_each(|error| eprintln!("  {error}"));
        }
        ExitCode::from(BAD_USAGE)
    }
}

/// The name of the check that fails where required settings are missing, and nothing else is wrong.
pub const NOT_CONFIGURED: &str = "not configured";

/// Reads settings from a TOML file, if one is given, and the environment; beside them comes what is odd about them.
pub fn read_settings<C>(
    program: &str,
    file: Option<&Path>,
    read: impl FnOnce(&mut Reader) -> Option<C>,
) -> Result<(C, Vec<String>), WrongSettings> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect();
    let mut reader = Reader::new(program, file, environment);
    let config = read(&mut reader);
    let problems = reader.into_problems();
    match config {
        Some(config) if problems.errors.is_empty() => Ok((config, problems.warnings)),
        _ => {
            let only_missing = problems.missing == problems.errors.len() && problems.found == 0;
            Err(WrongSettings { only_missing, errors: problems.errors })
        }
    }
}

fn common(reader: &mut Reader) -> Option<Common> {
    let listen = reader.socket_address(&HEALTH_LISTEN);
    let log_format = reader.one_of(&LOG_FORMAT, &[("json", LogFormat::Json), ("human", LogFormat::Human)]);
    let log_filter = reader.text(&LOG_LEVEL).and_then(|text| {
        let filter = EnvFilter::try_new(&text);
        if filter.is_err() {
            reader.wrong(&LOG_LEVEL, "must be error, warn, info, debug, trace, or a filter such as info,lapin=debug");
        }
        filter.ok()
    });
    let shutdown_limit = reader.seconds(&SHUTDOWN_TIMEOUT_SECONDS, 1..=600);
    let listen = listen?;
    Some(Common {
        listen,
        listen_is_default: Some(listen.to_string().as_str()) == HEALTH_LISTEN.default,
        log_format: log_format?,
        log_filter: log_filter?,
        shutdown_limit: shutdown_limit?,
    })
}

fn command<C>(program: &Program<C>) -> Command {
    let mut command = Command::new(program.name)
        .about(program.about)
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(settings_help(program.settings))
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("A TOML file with settings; the environment wins over it"),
        )
        .arg(flag("check-config", "Say whether the configuration is good, and end"))
        .arg(
            Arg::new("check")
                .long("check")
                .value_name("FORMAT")
                .value_parser(["human", "json"])
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("human")
                .help("Contact all that it needs, send nothing, say what is wrong and how to mend it, and end"),
        )
        .arg(flag("migrate", "Bring the database's schema up to date before anything else, as its owner"))
        .arg(
            Arg::new("completions")
                .long("completions")
                .value_name("SHELL")
                .value_parser(value_parser!(Shell))
                .help("Print the completions for a shell, and end"),
        );
    if program.has_once {
        command = command.arg(flag("once", "Do what there is to do now, and end"));
    }
    command
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn settings_help(own: &[&[Setting]]) -> String {
    let mut help = String::from(
        "Settings, from the environment or a TOML file (TOCSIN_DATABASE__URL is url in its section [database]):\n",
    );
    for setting in settings::ALL
        .iter()
        .filter(|s| COMMON.iter().chain(own.iter().copied().flatten()).any(|mine| mine.key == s.key))
    {
        let default = match setting.default {
            None => "required".to_owned(),
            Some("") => "not set".to_owned(),
            Some(default) => format!("default {default}"),
        };
        let roesc = roesc::names_of(setting);
        let default = if roesc.is_empty() { default } else { format!("{default}; or roesc's {}", roesc.join(", ")) };
        help.push_str(&format!("\n  {}\n      {} ({default})", setting.variable(), setting.help));
    }
    help.push_str(
        "\n\nExit codes: 0 done, 64 bad usage or configuration, 69 something that it needs is away, 70 a bug.",
    );
    help
}
