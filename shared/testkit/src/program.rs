use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use devservers::{Process, Signal, Workplace};
use serde_json::Value;

use crate::wait_for;

/// A program of Tocsin's, running as a process.
#[derive(Debug)]
pub struct Program {
    process: Process,
    log: PathBuf,
}

/// The path of a built program. The test runner has built all of them before.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().find(|dir| dir.ends_with("deps")).and_then(Path::parent).expect("target/debug");
    let binary = profile.join(name);
    assert!(binary.exists(), "{} is not built: start the tests with `cargo xtask test`", binary.display());
    binary
}

impl Program {
    pub(crate) fn spawn(workplace: &Workplace, name: &str, arguments: &[&str], settings: &[(String, String)]) -> Self {
        let number = fs::read_dir(workplace.dir()).expect("the workplace can be read").count();
        let log = workplace.dir().join(format!("{number:02}-{name}.log"));
        let output = fs::File::create(&log).expect("the log can be made");
        let mut command = Command::new(binary(name));
        command
            .args(arguments)
            .env_clear()
            .envs(settings.iter().map(|(k, v)| (k, v)))
            .stdout(output.try_clone().expect("the log can be shared"))
            .stderr(output);
        let process = workplace.spawn(name, &mut command).unwrap_or_else(|error| panic!("{error:#}"));
        Self { process, log }
    }

    /// What it has logged and printed so far, line by line.
    pub fn output(&self) -> Vec<String> {
        fs::read_to_string(&self.log).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// The address of its health endpoint, as it logged it.
    pub async fn health_address(&self) -> String {
        wait_for(&format!("a health address in {}", self.log.display()), Duration::from_secs(20), || async {
            let started = |line: &String| -> Option<String> {
                let fact: Value = serde_json::from_str(line).ok()?;
                (fact["event"] == "started").then(|| fact["health"].as_str().map(str::to_owned))?
            };
            self.output().iter().find_map(started)
        })
        .await
    }

    /// Waits until it says that it is ready.
    pub async fn ready(self) -> Self {
        let url = format!("http://{}/health/ready", self.health_address().await);
        wait_for(&format!("{} ready", self.log.display()), Duration::from_secs(30), || async {
            ureq::get(&url).call().ok()
        })
        .await;
        self
    }

    /// Status and body of a page of its health endpoint.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.health_address().await);
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut response = agent.get(&url).call().unwrap_or_else(|error| panic!("{url}: {error}"));
        (response.status().as_u16(), response.body_mut().read_to_string().expect("a text"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal).expect("the signal is sent");
    }

    /// Tells it to stop, and waits until it has brought to an end what it had begun.
    pub async fn stop(self) {
        self.signal(Signal::TERM);
        let status = self.ended(Duration::from_secs(20)).await;
        assert!(status.success(), "{}: {status}", self.log.display());
    }

    /// Kills it.
    pub fn kill(self) {
        self.process.kill().expect("it is killed");
    }

    /// Waits until a failpoint has killed it.
    pub async fn killed(self) {
        let status = self.ended(Duration::from_secs(60)).await;
        assert_eq!(status.signal(), Some(9), "{}: {status}", self.log.display());
    }

    /// Waits until a failpoint has frozen it.
    pub async fn frozen(&self) {
        let stat = format!("/proc/{}/stat", self.process.pid());
        wait_for(&format!("{} frozen", self.log.display()), Duration::from_secs(60), || async {
            let stat = fs::read_to_string(&stat).expect("the process is there");
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T")).then_some(())
        })
        .await;
    }

    /// The sum of a metric over all labels that hold this one, such as `result="claimed"`; all, if it is empty.
    pub async fn metric(&self, name: &str, label: &str) -> u64 {
        let (_, text) = self.get("/metrics").await;
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label));
        lines.map(|line| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<u64>().ok()).expect("a count")).sum()
    }

    /// Waits for its end.
    pub async fn ended(&self, limit: Duration) -> ExitStatus {
        wait_for(&format!("the end of {}", self.log.display()), limit, || async {
            self.process.try_wait().expect("its status can be asked")
        })
        .await
    }
}
