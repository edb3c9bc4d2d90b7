mod corpus;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use devservers::workspace;

const CARGO_FUZZ: &str = "0.13.2";

/// How often to say how far it is.
const PROGRESS: Duration = Duration::from_secs(15);

/// How to fuzz.
#[derive(Args)]
#[command(after_help = "\
cargo-fuzz is installed into .dev/cargo-fuzz at the first run. The targets are built with the project's own compiler
(RUSTC_BOOTSTRAP stands in for a nightly one), optimised, with debug assertions and overflow checks, and without a
sanitizer, as the project holds no unsafe code. What a run has collected stays in .dev/fuzz, where the next goes on.
A finding is a file in .dev/fuzz/TARGET; moved to fuzz/corpus/TARGET it becomes a test.")]
pub(crate) struct FuzzArguments {
    /// Which targets: the names in fuzz/fuzz_targets; all, if none is named
    targets: Vec<String>,

    /// How long each is run
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,

    /// Add to fuzz/corpus what reaches anything new, 80 files of a target at most
    #[arg(long)]
    keep: bool,
}

/// What came of a run.
struct Report {
    target: String,
    seconds: u64,
    executions: String,
    edges: String,
    peak_mb: String,
    finding: Option<PathBuf>,
}

/// Runs one target after the other, and fails if one finds anything.
pub(crate) fn run(arguments: &FuzzArguments) -> Result<()> {
    let known = targets()?;
    if let Some(unknown) = arguments.targets.iter().find(|target| !known.contains(target)) {
        bail!("no target {unknown}: must be one of {}", known.join(", "));
    }
    if !(arguments.minutes > 0.0 && arguments.minutes <= 24.0 * 60.0) {
        bail!("--minutes: must be more than 0, and a day at most");
    }
    let chosen = if arguments.targets.is_empty() { &known } else { &arguments.targets };
    let cargo_fuzz = install()?;
    println!("── build");
    build(&cargo_fuzz)?;
    let time = Duration::from_secs_f64(arguments.minutes * 60.0).max(Duration::from_secs(1));
    let mut reports = Vec::new();
    for target in chosen {
        println!("── {target}: {} s", time.as_secs());
        let report = fuzz(target, time)?;
        if arguments.keep && report.finding.is_none() {
            let files = corpus::keep(&binary(target)?, &kept(target), &folder(target).join("corpus"));
            println!("   fuzz/corpus/{target} has {} files", files.with_context(|| target.clone())?);
        }
        reports.push(report);
    }
    summarise(&reports)
}

fn targets() -> Result<Vec<String>> {
    let folder = workspace().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        names.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Makes sure that cargo-fuzz is there, in the version that is wanted.
fn install() -> Result<PathBuf> {
    let root = workspace().join(".dev/cargo-fuzz");
    let program = root.join("bin/cargo-fuzz");
    let output = Command::new(&program).arg("--version").output();
    if output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim().ends_with(CARGO_FUZZ)) {
        return Ok(program);
    }
    println!("── installing cargo-fuzz {CARGO_FUZZ} into .dev/cargo-fuzz");
    let status = Command::new(env!("CARGO"))
        .args(["install", "--quiet", "--locked", "--force", "--version", CARGO_FUZZ, "--root"])
        .arg(&root)
        .arg("cargo-fuzz")
        .status()?;
    if !status.success() {
        bail!("cargo-fuzz {CARGO_FUZZ} could not be installed: is crates.io, or its mirror, within reach?");
    }
    Ok(program)
}

fn build(cargo_fuzz: &Path) -> Result<()> {
    let status = Command::new(cargo_fuzz)
        .args(["build", "--release", "--sanitizer", "none"])
        .env("RUSTC_BOOTSTRAP", "1")
        .current_dir(workspace().join("fuzz"))
        .status()
        .context("cargo-fuzz")?;
    if !status.success() {
        bail!("the targets can't be built: {status}");
    }
    Ok(())
}

/// Where cargo-fuzz puts a target: it always names the machine it builds for.
fn binary(target: &str) -> Result<PathBuf> {
    let built = workspace().join("fuzz/target");
    for entry in fs::read_dir(&built).with_context(|| built.display().to_string())? {
        let path = entry?.path().join("release").join(target);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!("{target} is not in {}", built.display())
}

fn folder(target: &str) -> PathBuf {
    workspace().join(".dev/fuzz").join(target)
}

fn kept(target: &str) -> PathBuf {
    workspace().join("fuzz/corpus").join(target)
}

fn fuzz(target: &str, time: Duration) -> Result<Report> {
    let folder = folder(target);
    let collected = folder.join("corpus");
    fs::create_dir_all(&collected)?;
    let mut command = Command::new(binary(target)?);
    command
        .arg(format!("-max_total_time={}", time.as_secs()))
        .arg(format!("-artifact_prefix={}/", folder.display()))
        // One input that takes ten seconds, or a gigabyte, is a finding too.
        .args(["-timeout=10", "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1"])
        .args([&collected, &kept(target)]);
    let dictionary = workspace().join("fuzz/dictionaries").join(format!("{target}.dict"));
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    follow(target, child)
}

/// Shows how far it is, and reads what came of it from what it prints.
fn follow(target: &str, mut child: Child) -> Result<Report> {
    let begin = Instant::now();
    let mut told = Instant::now();
    let mut report = Report {
        target: target.to_owned(),
        seconds: 0,
        executions: "?".to_owned(),
        edges: "?".to_owned(),
        peak_mb: "?".to_owned(),
        finding: None,
    };
    let mut other = Vec::new();
    for line in BufReader::new(child.stderr.take().context("its output")?).lines() {
        let line = line?;
        if let Some((name, value)) = line.strip_prefix("stat::").and_then(|stat| stat.split_once(':')) {
            match name {
                "number_of_executed_units" => report.executions = value.trim().to_owned(),
                "peak_rss_mb" => report.peak_mb = value.trim().to_owned(),
                _ => {}
            }
        } else if let Some((_, rest)) = line.split_once(" cov: ").filter(|_| line.starts_with('#')) {
            report.edges = rest.split(' ').next().unwrap_or_default().to_owned();
            if told.elapsed() > PROGRESS {
                println!("   {:>4} s  {line}", begin.elapsed().as_secs());
                told = Instant::now();
            }
        } else if let Some((_, path)) = line.split_once("Test unit written to ") {
            report.finding = Some(path.into());
        } else {
            other.push(line);
        }
    }
    let status = child.wait()?;
    report.seconds = begin.elapsed().as_secs();
    if !status.success() {
        let end = other.len().saturating_sub(30);
        println!("{}", other[end..].join("\n"));
        if report.finding.is_none() {
            bail!("{target}: {status}, without a finding");
        }
    }
    Ok(report)
}

fn summarise(reports: &[Report]) -> Result<()> {
    println!("\n{:<16} {:>7} {:>12} {:>7} {:>8}  finding", "target", "seconds", "executions", "edges", "peak MB");
    for report in reports {
        let finding = report.finding.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
        println!(
            "{:<16} {:>7} {:>12} {:>7} {:>8}  {finding}",
            report.target, report.seconds, report.executions, report.edges, report.peak_mb
        );
    }
    let found: Vec<_> = reports.iter().filter(|report| report.finding.is_some()).collect();
    if let Some(report) = found.first() {
        bail!(
            "{} of {} targets found something; see it again with {} FILE",
            found.len(),
            reports.len(),
            binary(&report.target)?.display()
        );
    }
    Ok(())
}
