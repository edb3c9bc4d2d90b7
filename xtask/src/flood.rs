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
        backlog::{Lane, Queue, lanes},
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

What waits: --requests in SQS, 20 of each process (start, stop, start ...), in --queues FIFO queues, of which --bridges
are emptied at once, since the emulator's work for each message grows with its queue; and --due notifications, put into
Postgres with SQL, a sixth for each of six channels. All programs start at once. The providers are slow, and one
address of webhooks hangs:

  channel  answers after  calls at once  so at most    85,000 take at least
  phone    400 ms         100            250 a second  340 s
  sms      400 ms         100            250 a second  340 s
  pubnub   100 ms          32            320 a second  266 s
  sns      200 ms          64            320 a second  266 s
  webhook  200 ms         128            320 a second  266 s   (two addresses, a quarter of the slots each)
  console  at once         64            as it can

So 510,000 take 6 minutes at least; two cores, which the servers and the simulator need as well, take longer. Filling
the queues takes some minutes before that. It fails if a program needs more memory than --memory-mb at any time, if a
channel that has a backlog delivers nothing for two samples in a row, if anything is delivered twice or not at all, or
if it is not over after --limit-minutes.")]
pub(crate) struct FloodArguments {
    /// How many requests wait in SQS
    #[arg(long, default_value_t = 200_000)]
    pub(crate) requests: u64,

    /// How many notifications are due
    #[arg(long, default_value_t = 510_000)]
    pub(crate) due: u64,

    /// How many queues the requests wait in
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    queues: u64,

    /// How many queues are emptied at once, by a bridge each
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=50))]
    bridges: u64,

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
    let mut bridges = Bridges { waiting: queues.clone(), started: 0, running: Vec::new() };
    for _ in 0..arguments.bridges {
        bridges.start_next(stage)?;
    }
    start_programs(stage, &lanes)?;
    let begin = Instant::now();
    stage.wait_until_ready(interrupt)?;
    let limit = Duration::from_secs(arguments.limit_minutes * 60);
    let mut samples = Samples::default();
    loop {
        interrupt.pause(Duration::from_secs(arguments.sample_seconds))?;
        let sample = samples.take(stage, &lanes, (arguments.requests, &queues), begin.elapsed())?;
        eprintln!("{sample}");
        if sample.is_drained(arguments.requests) || begin.elapsed() > limit {
            break;
        }
        bridges.go_on(stage, &mut samples)?;
    }
    Report::make(stage, arguments, lanes, samples, filled_in)
}

/// As many bridges as are to run at once, each with a queue of its own until that is empty.
struct Bridges {
    waiting: Vec<Queue>,
    started: u64,
    running: Vec<(String, u64)>,
}

impl Bridges {
    fn start_next(&mut self, stage: &mut Stage) -> Result<()> {
        let Some(queue) = self.waiting.pop() else { return Ok(()) };
        self.started += 1;
        let label = format!("bridge {}", self.started);
        let settings = [quiet(), ("TOCSIN_SQS__QUEUE_URL", queue.url), ("TOCSIN_SQS__RECEIVERS", "2".to_owned())];
        stage.start_program(&label, "bridge", &settings)?;
        self.running.push((label, queue.requests));
        Ok(())
    }

    /// Lets those take the next queue that have emptied theirs.
    fn go_on(&mut self, stage: &mut Stage, samples: &mut Samples) -> Result<()> {
        let is_done =
            |(label, requests): &(String, u64)| samples.taken.get(label).is_some_and(|taken| taken >= requests);
        let (done, running) = std::mem::take(&mut self.running).into_iter().partition::<Vec<_>, _>(is_done);
        self.running = running;
        for (label, requests) in done {
            // The last one's memory is to be seen until the end.
            if self.waiting.is_empty() {
                self.running.push((label, requests));
                continue;
            }
            stage.stop_program(&label)?;
            self.start_next(stage)?;
        }
        Ok(())
    }
}

fn quiet() -> (&'static str, String) {
    ("TOCSIN_LOG__LEVEL", "warn".to_owned())
}

fn start_programs(stage: &mut Stage, lanes: &[Lane]) -> Result<()> {
    stage.start_program("activator", "activator", &[quiet()])?;
    for lane in lanes {
        let program = format!("notifier-{}", lane.channel);
        let settings = [
            quiet(),
            ("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", lane.in_flight.to_string()),
            ("TOCSIN_NOTIFIER__CALL_TIMEOUT_SECONDS", CALL_TIMEOUT_SECONDS.to_string()),
            // The emulator of SNS has enough to do with SQS, and is never slow on purpose.
            ("TOCSIN_SNS__ENDPOINT_URL", stage.simulator_url.clone()),
        ];
        stage.start_program(&program, &program, &settings)?;
    }
    Ok(())
}
