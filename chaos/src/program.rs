use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use devservers::{Process, Relay, Signal, Workplace};

/// How long a program may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(35);

/// A program of Tocsin's, which reaches each server by a relay of its own and can be started again and again.
pub(crate) struct Program {
    /// Its name, and a number if there are several: `activator-2`.
    pub(crate) label: String,
    /// The name of its binary.
    pub(crate) name: &'static str,
    /// Between it and the servers: `postgres`, `rabbitmq`, `sqs`.
    pub(crate) relays: Vec<(&'static str, Relay)>,
    settings: Vec<(String, String)>,
    health_port: u16,
    log: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Program {
    /// One that is not started yet.
    pub(crate) fn new(
        label: String,
        name: &'static str,
        relays: Vec<(&'static str, Relay)>,
        settings: Vec<(String, String)>,
        health_port: u16,
        logs: &Path,
    ) -> Self {
        let log = logs.join(format!("{label}.log"));
        Self { label, name, relays, settings, health_port, log, process: Mutex::new(None) }
    }

    /// Starts it; what it says is added to its log.
    pub(crate) fn start(&self, workplace: &Workplace) -> Result<()> {
        self.start_with(workplace, &[])
    }

    /// Starts it with a point at which it kills itself, such as `bridge.committed=kill@3`.
    pub(crate) fn start_failing(&self, workplace: &Workplace, failpoint: &str) -> Result<()> {
        self.start_with(workplace, &[("TOCSIN_FAILPOINTS", failpoint)])
    }

    fn start_with(&self, workplace: &Workplace, further: &[(&str, &str)]) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(programs_dir()?.join(self.name));
        command
            .env_clear()
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .env("TOCSIN_HEALTH__LISTEN", format!("127.0.0.1:{}", self.health_port))
            .envs(further.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        *self.process() = Some(workplace.spawn(&self.label, &mut command)?);
        Ok(())
    }

    /// Kills it.
    pub(crate) fn kill(&self) -> Result<()> {
        match self.process().take() {
            Some(process) => process.kill().map(drop),
            None => Ok(()),
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        match &*self.process() {
            Some(process) => process.signal(signal),
            None => Ok(()),
        }
    }

    /// Tells it to stop, and says what is wrong with how it ends.
    pub(crate) fn stop(&self) -> Result<()> {
        let Some(process) = self.process().take() else { return Ok(()) };
        process.signal(Signal::TERM)?;
        let status = process.wait(STOP_LIMIT).with_context(|| format!("{} after SIGTERM", self.label))?;
        if !status.success() {
            bail!("{} ended with {status} after SIGTERM", self.label);
        }
        Ok(())
    }

    /// Whether it has killed itself at a failpoint.
    pub(crate) fn has_died(&self) -> Result<bool> {
        let process = self.process();
        let status = process.as_ref().map(Process::try_wait).transpose()?.flatten();
        Ok(status.is_some_and(|status| status.signal() == Some(9)))
    }

    /// How it has ended by itself, if it has.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        self.process().as_ref().and_then(|process| process.try_wait().ok().flatten())
    }

    /// Whether it says that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.not_ready().is_none()
    }

    /// Why it is not ready, as it says itself.
    pub(crate) fn not_ready(&self) -> Option<String> {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(2)))
            .http_status_as_error(false)
            .build()
            .new_agent();
        match agent.get(format!("http://127.0.0.1:{}/health/ready", self.health_port)).call() {
            Ok(answer) if answer.status() == 200 => None,
            Ok(mut answer) => Some(answer.body_mut().read_to_string().unwrap_or_default().trim().replace('\n', "; ")),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Whether it is a worker of this channel.
    pub(crate) fn serves(&self, channel: &str) -> bool {
        self.name.strip_prefix("notifier-") == Some(channel)
    }

    /// Its log.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().expect("nobody panics while holding this lock")
    }
}

/// Where the programs are: beside this one.
pub(crate) fn programs_dir() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().context("a program stands in a folder")?.to_owned())
}
