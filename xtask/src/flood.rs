mod backlog;
mod report;
mod samples;

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use devservers::{Workplace, workspace};

use crate::{
    events::Screen,
    flood::{
        backlog::{Lane, lanes},
        report::Report,
        samples::Samples,
    },
    interrupt::Interrupt,
    stage::{Stage, prepare},
};

/// A call to the hanging provider is given up after this.
const CALL_TIMEOUT_SECONDS: u64 = 10;

/// How large a flood, and how long it may take.
#[derive(Args)]
#[command(after_help = "\
Programs are built as for `cargo xtask demo`: a debug build. All servers are private, in .dev/flood, and made anew.

What waits: --requests in SQS, 20 of each process (start, stop, start ...), in --queues FIFO queues with a bridge each,
since the emulator's work for each message grows with its queue; and --due notifications, put into Postgres with SQL,
a fifth for each of five channels. All programs start at once. The providers are slow, and one address of webhooks
hangs:

  channel  answers after  calls at once  so at most    100,000 take at least
  phone    400 ms         100            250 a second  400 s
  sms      400 ms         100            250 a second  400 s
  pubnub   100 ms          32            320 a second  313 s
  webhook  200 ms         128            320 a second  313 s   (two addresses, a quarter of the slots each)
  console  at once         64            as it can

So 500,000 take 7 minutes at least; two cores, which the servers and the simulator need as well, take longer. Filling
the queues takes some minutes before that. It fails if a program needs more memory than --memory-mb at any time, if a
channel that has a backlog delivers nothing for two samples in a row, if anything is delivered twice or not at all, or
if it is not over after --limit-minutes.")]
pub(crate) struct FloodArguments {
    /// How many requests wait in SQS
    #[arg(long, default_value_t = 200_000)]
    pub(crate) requests: u64,

    /// How many notifications are due
    #[arg(long, default_value_t = 500_000)]
    pub(crate) due: u64,

    /// How many queues the requests wait in, with a bridge each
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=50))]
    queues: u64,

    /// How much memory a program may need
    #[arg(long, default_value_t = 256)]
    pub(crate) memory_mb: u64,

    /// When it is given up, counted from the start of the programs
    #[arg(long, default_value_t = 30)]
    limit_minutes: u64,

    /// How often to look, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    sample_seconds: u64,

    /// Print the result as JSON, and nothing else on standard output
    #[arg(long)]
    json: bool,
}

/// Fills everything, starts the programs, watches until all is drained, and judges.
pub(crate) fn run(arguments: &FloodArguments) -> Result<()> {
    prepare(|what| eprintln!("{what}"))?;
    let interrupt = Interrupt::catch()?;
    let workplace = Workplace::take(&workspace().join(".dev/flood"))?;
    for name in ["postgres", "rabbitmq", "ministack"] {
        let dir = workplace.dir().join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
        }
    }
    eprintln!("starting Postgres, RabbitMQ and MiniStack");
    let mut stage = Stage::without_programs(workplace, Screen::silent())?;
    let drained = flood(&mut stage, arguments, &interrupt);
    eprintln!("stopping");
    stage.stop();
    let report = drained?;
    if arguments.json {
        println!("{:#}", report.to_json());
    } else {
        print!("{report}");
    }
    match report.problems() {
        [] => Ok(()),
        problems => bail!("{} of the promises do not hold: {}", problems.len(), problems.join("; ")),
    }
}

fn flood(stage: &mut Stage, arguments: &FloodArguments, interrupt: &Interrupt) -> Result<Report> {
    let lanes = lanes(arguments.due);
    backlog::make_due(stage, &lanes)?;
    let begin = Instant::now();
    let queues = backlog::fill_queues(stage, arguments.requests, arguments.queues)?;
    let filled_in = begin.elapsed();
    backlog::set_rules(stage)?;
    start_programs(stage, &lanes, &queues)?;
    let begin = Instant::now();
    stage.wait_until_ready(interrupt)?;
    let limit = Duration::from_secs(arguments.limit_minutes * 60);
    let mut samples = Samples::default();
    loop {
        interrupt.pause(Duration::from_secs(arguments.sample_seconds))?;
        let sample = samples.take(stage, &lanes, &queues, begin.elapsed())?;
        eprintln!("{sample}");
        if sample.is_drained(arguments.requests) || begin.elapsed() > limit {
            break;
        }
    }
    Report::make(stage, arguments, lanes, samples, filled_in)
}

fn start_programs(stage: &mut Stage, lanes: &[Lane], queues: &[String]) -> Result<()> {
    let quiet = || ("TOCSIN_LOG__LEVEL", "warn".to_owned());
    for (n, queue) in queues.iter().enumerate() {
        let settings = [quiet(), ("TOCSIN_SQS__QUEUE_URL", queue.clone()), ("TOCSIN_SQS__RECEIVERS", "1".to_owned())];
        stage.start_program(&format!("bridge {}", n + 1), "bridge", &settings)?;
    }
    stage.start_program("activator", "activator", &[quiet()])?;
    for lane in lanes {
        let program = format!("notifier-{}", lane.channel);
        let settings = [
            quiet(),
            ("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", lane.in_flight.to_string()),
            ("TOCSIN_NOTIFIER__CALL_TIMEOUT_SECONDS", CALL_TIMEOUT_SECONDS.to_string()),
        ];
        stage.start_program(&program, &program, &settings)?;
    }
    Ok(())
}
