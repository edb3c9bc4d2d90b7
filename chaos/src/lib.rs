//! Chaos: everything runs, requests come in at a steady rate, and meanwhile programs, servers, connections and providers
//! fail as a seed says. In the end every single notification is accounted for, from the checker's own record of what it
//! sent, what the providers got, and what the database says.
//!
//! It judges the pipeline, and so uses none of its crates: it speaks SQL, HTTP and SQS by itself.

mod channel;
mod evidence;
mod faults;
mod installation;
mod load;
mod program;
mod providers;
mod reconcile;
mod report;
mod schedules;
mod story;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};

use crate::{
    evidence::Evidence,
    faults::{Fault, Faults},
    installation::Installation,
    load::{Load, Sent},
    providers::Providers,
    reconcile::reconcile,
    report::Report,
};

/// So long after its time, with no fault since, nothing may be unfinished: a dead worker's claim lasts for a minute and
/// a half at most, and what the broker has lost unconfirmed is published again after one.
const DRAIN_LIMIT: Duration = Duration::from_secs(180);

/// How much longer than it was told a short run may be, so that each kind of fault comes once.
const FIRST_ROUND_LIMIT: Duration = Duration::from_secs(60);

/// The command line.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each fault is mended before its kind comes again. At the end all faults are mended and everything drains, which takes one
to three minutes more. Then the table: every notification has to be accounted for. The exit code is 0 if it is.
What is sent and which faults come, in which order, depends on the seed alone; how they meet, on the machine too.")]
pub struct Arguments {
    /// For how long requests are sent and faults injected; a little longer if not every kind of fault has come yet
    #[arg(long, value_name = "N", default_value_t = 3.0, value_parser = positive)]
    pub minutes: f64,

    /// What all random numbers come from; any, if none is given
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,

    /// How many processes are started a second
    #[arg(long, value_name = "R", default_value_t = 6.0, value_parser = positive)]
    pub rate: f64,

    /// About how many seconds pass from one fault to the next; there are three at once at most
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = positive)]
    pub fault_every: f64,

    /// Run RabbitMQ as a cluster of three nodes, and hit one of them at a time
    #[arg(long)]
    pub cluster: bool,

    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,

    /// Where the servers keep their data and the programs their logs; emptied at the start
    #[arg(long, value_name = "DIR", default_value = ".dev/chaos")]
    pub folder: PathBuf,
}

impl Arguments {
    /// The run that is a part of `cargo xtask test`: short, always the same, with every kind of fault.
    pub fn short() -> Self {
        Self {
            minutes: 0.5,
            seed: Some(395),
            rate: 6.0,
            fault_every: 1.8,
            cluster: false,
            json: false,
            folder: PathBuf::from(".dev/chaos"),
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && *number <= 10_000.0);
    number.ok_or_else(|| "must be a number above 0".to_owned())
}

/// Says that something is to end.
#[derive(Debug, Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for so long, or until it is raised.
    pub(crate) fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.is_raised() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10).min(end.saturating_duration_since(Instant::now())));
        }
    }
}

/// Microseconds since 1970, by the clock that Postgres and the simulated providers have too.
pub(crate) fn now_micros() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "all servers run on this machine and share its clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Runs it all, and answers whether everything was accounted for. The programs have to be built. `pause` waits for so
/// long, and fails if somebody wants all of it to end.
pub fn run(arguments: &Arguments, pause: &mut dyn FnMut(Duration) -> Result<()>) -> Result<bool> {
    let begin = Instant::now();
    let seed = arguments.seed.unwrap_or_else(rand::random);
    // What is on standard output may be read by a program.
    let say = |what: &str| eprintln!("{:>7.1} s  {what}", begin.elapsed().as_secs_f64());
    say(&format!("seed {seed}; starting the servers and the programs in {}", arguments.folder.display()));
    let installation = Installation::start(&devservers::workspace().join(&arguments.folder), arguments.cluster)?;
    let judged = play(arguments, seed, &installation, pause, &say);
    installation.stop_servers();
    let report = judged?;
    match arguments.json {
        true => println!("{}", report.json()),
        false => print!("{}", report.table()),
    }
    Ok(report.passed())
}

fn play(
    arguments: &Arguments,
    seed: u64,
    installation: &Installation,
    pause: &mut dyn FnMut(Duration) -> Result<()>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Report> {
    let begin = Instant::now();
    let occurrences = schedules::make(&installation.api, Duration::from_secs_f64(arguments.minutes * 60.0))?;
    say(&format!("all is up; faults for {} minutes", arguments.minutes));
    let (mut sent, faults, mut problems) = send_and_break(arguments, seed, installation, pause, say)?;
    sent.extend(occurrences);
    let faults_over = now_micros();
    if let Err(error) = installation.wait_until_ready(Duration::from_secs(60)) {
        problems.push(format!("after all faults: {error:#}"));
    }
    say(&format!("{} requests were sent or scheduled; draining", sent.len()));
    let drained = drain(installation, sent.len(), faults_over, pause, say)?;
    problems.extend(installation.stop_programs());
    let evidence = Evidence::collect(installation)?;
    problems.extend(evidence.bugs_logged.iter().cloned());
    let verdict = reconcile(&sent, &evidence, &faults);
    Ok(Report {
        seed,
        cluster: arguments.cluster,
        lasted: begin.elapsed(),
        drained,
        verdict,
        faults,
        problems,
        logs: installation.logs().to_owned(),
    })
}

/// Sends requests and injects faults for as long as was asked for. Afterwards all faults are mended.
fn send_and_break(
    arguments: &Arguments,
    seed: u64,
    installation: &Installation,
    pause: &mut dyn FnMut(Duration) -> Result<()>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<(Vec<Sent>, Vec<Fault>, Vec<String>)> {
    let (ending, round, sent_count) = (Flag::default(), Flag::default(), AtomicUsize::new(0));
    let providers = Providers::new(&installation.simulator)?;
    let load = Load::new(seed, &installation.queue, &installation.simulator, &sent_count);
    let faults = Faults::new(installation, &providers, &ending, say);
    // Of its own, so that the load does not depend on how many faults there are.
    let (fault_seed, every) = (seed ^ 0x5EED, Duration::from_secs_f64(arguments.fault_every));
    thread::scope(|scope| {
        let load = scope.spawn(|| load.run(arguments.rate, &ending));
        let faults = scope.spawn(|| faults.run(fault_seed, every, &round));
        let end = Instant::now() + Duration::from_secs_f64(arguments.minutes * 60.0);
        let is_over = || Instant::now() >= end && (round.is_raised() || Instant::now() >= end + FIRST_ROUND_LIMIT);
        let mut waited = Ok(());
        let mut next_word = Instant::now() + Duration::from_secs(10);
        while waited.is_ok() && !is_over() && !load.is_finished() {
            waited = pause(Duration::from_millis(100));
            if Instant::now() > next_word {
                say(&format!("{} requests sent", sent_count.load(Ordering::Relaxed)));
                next_word += Duration::from_secs(10);
            }
        }
        ending.raise();
        let (sent, faults) = (load.join(), faults.join());
        waited?;
        let (injected, problems) = faults.expect("the thread of the faults panicked");
        Ok((sent.expect("the thread of the load panicked")?, injected, problems))
    })
}

/// Waits until every request is recorded and every notification is finished, or nothing can be hoped for any more.
/// Answers how long it took.
fn drain(
    installation: &Installation,
    sent: usize,
    faults_over: i64,
    pause: &mut dyn FnMut(Duration) -> Result<()>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Duration> {
    let begin = Instant::now();
    let unfinished = "SELECT count(*) FROM notification WHERE finished_at IS NULL";
    // What waits for its time, such as the time that a provider has asked for, is not late.
    let overdue = format!(
        "{unfinished} AND greatest(due_at, to_timestamp({faults_over} / 1e6)) < now() - interval '{} s'",
        DRAIN_LIMIT.as_secs()
    );
    let mut next_word = Duration::from_secs(15);
    loop {
        pause(Duration::from_millis(500))?;
        let recorded = installation.number("SELECT count(*) FROM request")?;
        let missing = u64::try_from(sent)?.saturating_sub(recorded) + installation.queue.depth()?;
        let left = installation.number(unfinished)?;
        let hopeless = installation.number(&overdue)? == left && begin.elapsed() > DRAIN_LIMIT;
        if (missing == 0 && left == 0) || hopeless {
            break;
        }
        if begin.elapsed() > next_word {
            say(&format!("{left} notifications are not finished, {missing} requests not recorded"));
            next_word += Duration::from_secs(15);
        }
    }
    let took = begin.elapsed();
    // For a call that should not come any more.
    pause(Duration::from_secs(2))?;
    say(&format!("drained after {:.0} s", took.as_secs_f64()));
    Ok(took)
}

/// A text that says where a program's last words are.
pub(crate) fn see(path: &std::path::Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
