use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use devservers::{
    Process, Purpose, Python, Servers, Signal, Tool, Workplace, free_port, install_missing, url_for, workspace,
};
use domain::{CHANNELS, Channel};

use crate::{StageArguments, events::Screen, interrupt::Interrupt};

/// The programs, in the order in which they are started.
pub(crate) fn programs() -> Vec<String> {
    let first = ["bridge", "activator", "api"].map(str::to_owned);
    first.into_iter().chain(CHANNELS.iter().map(Channel::program)).collect()
}

pub(crate) const DATABASE: &str = "tocsin";
const ACCOUNT_SID: &str = "AC00000000000000000000000000000000";
const WEBHOOK_SECRET: &str = "whsec_dG9jc2luLWRldmVsb3BtZW50LXNpZ25pbmcta2V5";

/// Everything, running.
pub(crate) struct Stage {
    /// Where requests are sent to.
    pub(crate) queue_url: String,
    /// Where the simulated providers are.
    pub(crate) simulator_url: String,
    smtp_port: u16,
    pub(crate) servers: Servers,
    pub(crate) screen: Arc<Screen>,
    processes: Vec<(String, Process)>,
    workplace: Workplace,
    health: Vec<(String, u16)>,
    api_port: u16,
    /// A key of role admin.
    api_key: String,
}

/// Starts everything, plays, and stays until Ctrl-C, which stops what was started.
pub(crate) fn run(arguments: &StageArguments, play: fn(&Stage, &Interrupt) -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    prepare(|what| println!("{what}"))?;
    let interrupt = Interrupt::catch()?;
    println!("starting Postgres, RabbitMQ and MiniStack");
    let mut stage = Stage::build(arguments)?;
    stage.wait_until_ready(&interrupt)?;
    println!("all is up after {:.1} s\n", begin.elapsed().as_secs_f64());
    stage.print_addresses();
    let played = play(&stage, &interrupt);
    stage.print_dashboard();
    if played.is_ok() && !arguments.exit {
        stage.print_invitation();
        interrupt.wait();
    }
    println!("\nstopping");
    stage.stop();
    played
}

/// Builds the programs, and installs what the servers need.
pub(crate) fn prepare(say: fn(&str)) -> Result<()> {
    install_missing(Purpose::Run, say)?;
    say("building");
    let build = ["build", "--workspace", "--bins", "--quiet"];
    if !Command::new(env!("CARGO")).args(build).current_dir(workspace()).status()?.success() {
        bail!("the build failed");
    }
    say("preparing the SQS emulator's Python environment in .dev/python");
    Python::prepare(Tool::Emulator)?;
    Ok(())
}

impl Stage {
    fn build(arguments: &StageArguments) -> Result<Self> {
        let scale: BTreeMap<_, _> = arguments.scale.iter().cloned().collect();
        let workplace = Workplace::take(&workspace().join(&arguments.folder))?;
        let mut stage = Self::without_programs(workplace, Screen::default())?;
        for program in &programs() {
            let copies = scale.get(program).copied().unwrap_or(1);
            for copy in 1..=copies {
                let label = if copies == 1 { program.clone() } else { format!("{program} {copy}") };
                stage.start_program(&label, program, &[])?;
            }
        }
        stage.write_environment()?;
        Ok(stage)
    }

    /// The servers, a migrated database, a queue and the simulator.
    pub(crate) fn without_programs(workplace: Workplace, screen: Screen) -> Result<Self> {
        let servers = Servers::start(&workplace, true)?;
        let queue_url = servers.ministack.create_fifo_queue("requests.fifo")?;
        servers.postgres.create_database(DATABASE)?;
        let (simulator_port, smtp_port, smtps_port) = (free_port()?, free_port()?, free_port()?);
        let mut stage = Self {
            queue_url,
            simulator_url: format!("http://127.0.0.1:{simulator_port}"),
            smtp_port,
            servers,
            screen: Arc::new(screen),
            processes: Vec::new(),
            workplace,
            health: Vec::new(),
            api_port: free_port()?,
            api_key: String::new(),
        };
        let [http, smtp, smtps] = [simulator_port, smtp_port, smtps_port].map(|port| format!("127.0.0.1:{port}"));
        let authority = stage.authority();
        let listen = ["--listen", &http, "--smtp-listen", &smtp, "--smtps-listen", &smtps, "--authority", &authority];
        stage.start("simulator", "simulator", &listen, &[("TOCSIN_WEBHOOK__SECRET", WEBHOOK_SECRET.to_owned())])?;
        stage.wait_for_file(&authority)?;
        stage.migrate()?;
        stage.api_key = stage.make_key()?;
        Ok(stage)
    }

    /// Starts a program, with settings of its own beside those that all have. A later setting wins.
    pub(crate) fn start_program(&mut self, label: &str, program: &str, more: &[(&'static str, String)]) -> Result<()> {
        let port = free_port()?;
        let mut settings = self.settings(program, port);
        settings.extend_from_slice(more);
        self.start(label, program, &[], &settings)?;
        self.health.push((label.to_owned(), port));
        Ok(())
    }

    /// Stops a program that is not needed any more.
    pub(crate) fn stop_program(&mut self, label: &str) -> Result<()> {
        let found = self.processes.iter().position(|(known, _)| known == label);
        let (_, process) = self.processes.remove(found.with_context(|| format!("{label} was not started"))?);
        self.health.retain(|(known, _)| known != label);
        process.stop(Signal::TERM, Duration::from_secs(35)).map(drop)
    }

    /// The programs that were started, each with its process's id and the address of its metrics. The simulator has
    /// none.
    pub(crate) fn running(&self) -> impl Iterator<Item = (&str, i32, Option<String>)> {
        self.processes.iter().map(|(label, process)| {
            let port = self.health.iter().find(|(known, _)| known == label).map(|(_, port)| port);
            (label.as_str(), process.pid(), port.map(|port| format!("http://127.0.0.1:{port}/metrics")))
        })
    }

    /// As the database's owner, which no program is.
    fn migrate(&self) -> Result<()> {
        let mut command = Command::new(programs_dir()?.join("tocsin"));
        command.arg("migrate").env_clear().env("TOCSIN_DATABASE__URL", self.servers.postgres.url(DATABASE));
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    fn make_key(&self) -> Result<String> {
        let mut command = Command::new(programs_dir()?.join("tocsin"));
        command.args(["key", "create", "development", "--role", "admin"]).env_clear();
        command.env("TOCSIN_DATABASE__URL", url_for("tocsin", &self.servers.postgres.url(DATABASE)));
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn environment(&self) -> PathBuf {
        self.workplace.dir().join("tocsin.env")
    }

    /// For `tocsin` in another terminal: the settings, and where the programs are.
    fn write_environment(&self) -> Result<()> {
        let mut text = String::new();
        for (name, value) in self.settings("tocsin", 0).into_iter().filter(|(name, _)| *name != "TOCSIN_HEALTH__LISTEN")
        {
            text.push_str(&format!("export {name}='{value}'\n"));
        }
        text.push_str(&format!("export PATH={}:$PATH\n", programs_dir()?.display()));
        Ok(std::fs::write(self.environment(), text)?)
    }

    fn settings(&self, program: &str, health_port: u16) -> Vec<(&'static str, String)> {
        let user = format!("{program}:{program}-development");
        vec![
            ("TOCSIN_DATABASE__URL", url_for(program, &self.servers.postgres.url(DATABASE))),
            ("TOCSIN_BROKER__URL", format!("amqp://{user}@{}/tocsin", self.servers.rabbitmq.amqp())),
            ("TOCSIN_SQS__QUEUE_URL", self.queue_url.clone()),
            ("TOCSIN_SQS__ENDPOINT_URL", self.servers.ministack.url()),
            ("TOCSIN_SQS__WAIT_TIME_SECONDS", "1".to_owned()),
            ("TOCSIN_TWILIO__BASE_URL", self.simulator_url.clone()),
            ("TOCSIN_TWILIO__ACCOUNT_SID", ACCOUNT_SID.to_owned()),
            ("TOCSIN_TWILIO__AUTH_TOKEN", "token-development".to_owned()),
            ("TOCSIN_TWILIO__URL", "http://demo.twilio.com/docs/voice.xml".to_owned()),
            ("TOCSIN_SMTP__HOST", "localhost".to_owned()),
            ("TOCSIN_SMTP__PORT", self.smtp_port.to_string()),
            ("TOCSIN_SMTP__CA_FILE", self.authority()),
            ("TOCSIN_SMTP__USERNAME", "tocsin".to_owned()),
            ("TOCSIN_SMTP__PASSWORD", "mail-development".to_owned()),
            ("TOCSIN_MAIL__FROM", "Tocsin <alarm@example.com>".to_owned()),
            ("TOCSIN_PUBNUB__SERVICE_URL", self.simulator_url.clone()),
            ("TOCSIN_PUBNUB__PUB_KEY", "pub-key-development".to_owned()),
            ("TOCSIN_PUBNUB__SUB_KEY", "sub-key-development".to_owned()),
            ("TOCSIN_SNS__ENDPOINT_URL", self.servers.ministack.url()),
            ("TOCSIN_WEBHOOK__SECRET", WEBHOOK_SECRET.to_owned()),
            ("TOCSIN_WEBHOOK__ALLOW_PRIVATE", "true".to_owned()),
            ("TOCSIN_API__LISTEN", format!("127.0.0.1:{}", self.api_port)),
            ("TOCSIN_HEALTH__LISTEN", format!("127.0.0.1:{health_port}")),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// Where the simulated mail server's authority is.
    fn authority(&self) -> String {
        self.workplace.dir().join("authority.pem").display().to_string()
    }

    fn wait_for_file(&self, path: &str) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        while std::fs::read(path).is_ok_and(|found| found.is_empty()) || !std::path::Path::new(path).exists() {
            if Instant::now() > end {
                bail!("the simulator has not written {path}; its log is in {}", self.workplace.dir().display());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn start(
        &mut self,
        label: &str,
        program: &str,
        arguments: &[&str],
        settings: &[(&'static str, String)],
    ) -> Result<()> {
        let mut command = Command::new(programs_dir()?.join(program));
        command.args(arguments).env_clear().envs(settings.iter().map(|(k, v)| (k, v)));
        let (output, output_end) = std::io::pipe()?;
        command.stdout(output_end.try_clone()?).stderr(output_end).stdin(Stdio::null());
        let process = self.workplace.spawn(&label.replace(' ', "-"), &mut command)?;
        // The command holds the pipe's other end too; without it the reader ends with the process.
        drop(command);
        let log = File::create(self.workplace.dir().join(format!("{}.log", label.replace(' ', "-"))))?;
        let (screen, name) = (Arc::clone(&self.screen), label.to_owned());
        thread::spawn(move || follow(output, log, &name, &screen));
        self.processes.push((label.to_owned(), process));
        Ok(())
    }

    pub(crate) fn wait_until_ready(&mut self, interrupt: &Interrupt) -> Result<()> {
        for (label, port) in &self.health {
            let url = format!("http://127.0.0.1:{port}/health/ready");
            let end = Instant::now() + Duration::from_secs(60);
            while ureq::get(&url).call().is_err() {
                if Instant::now() > end {
                    bail!("{label} is not ready; its log is in {}", self.workplace.dir().display());
                }
                interrupt.pause(Duration::from_millis(50))?;
            }
        }
        Ok(())
    }

    fn print_addresses(&self) {
        let management = self.servers.rabbitmq.management_url();
        println!("RabbitMQ management   {management}  monitoring / monitoring-development");
        println!("Postgres              {}", self.servers.postgres.url(DATABASE));
        println!("SQS queue             {}", self.queue_url);
        println!("Simulated providers   {}/", self.simulator_url);
        println!("API                   http://127.0.0.1:{}/docs", self.api_port);
        println!("Try a channel         . {}; tocsin test phone +3851111111", self.environment().display());
        for (label, port) in &self.health {
            println!("{label:<21} http://127.0.0.1:{port}/health/ready  /metrics");
        }
        println!("Logs                  {}/*.log\n", self.workplace.dir().display());
    }

    fn print_dashboard(&self) {
        println!("\nDashboard             http://127.0.0.1:{}/", self.api_port);
        println!("Log in with the key   {}", self.api_key);
    }

    fn print_invitation(&self) {
        println!("\nSend a request of your own, in another terminal:\n");
        println!("  export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1");
        println!("  .dev/python/bin/aws --endpoint-url {} sqs send-message \\", self.servers.ministack.url());
        println!("    --queue-url {} --message-group-id me \\", self.queue_url);
        println!(
            "    --message-body '{{\"process-id\": \"me\", \"action\": \"start\", \"notifications\": \
             [{{\"channel\": \"phone\", \"at\": '$(date +%s)', \"phone-number\": \"+3851111111\"}}]}}'\n"
        );
        println!("Everything stays up until Ctrl-C.\n");
    }

    pub(crate) fn stop(self) {
        for (_, process) in &self.processes {
            process.signal(Signal::TERM).unwrap_or_default();
        }
        for (label, process) in &self.processes {
            match process.wait(Duration::from_secs(35)) {
                Ok(status) if status.success() => {}
                Ok(status) => println!("{label} ended with {status}"),
                Err(error) => println!("{label}: {error}"),
            }
        }
        self.servers.stop();
    }
}

/// Where the programs are: beside this one.
fn programs_dir() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().context("xtask's folder")?.to_owned())
}

/// Copies what a program writes to its log, and shows what a person wants to see of it.
fn follow(output: impl Read, mut log: File, name: &str, screen: &Screen) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { return };
        if writeln!(log, "{line}").is_err() {
            return;
        }
        screen.show_log_line(name, &line);
    }
}
