use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::{
    Process, Workplace, free_port,
    packages::{is_root, postgres_binaries},
    process::wait_until_ready,
    workspace,
};

const USER: &str = "tocsin";
const PASSWORD: &str = "tocsin-development";

/// A private Postgres, listening on 127.0.0.1 only.
pub struct Postgres {
    dir: PathBuf,
    log: PathBuf,
    port: u16,
    durable: bool,
    process: Mutex<Option<Process>>,
}

impl Postgres {
    /// Starts it, after making its cluster if there is none. Not `durable` means that a power failure may lose data.
    pub fn start(workplace: &Workplace, durable: bool) -> Result<Self> {
        let log = workplace.dir().join("postgres.log");
        let postgres =
            Self { dir: data_dir(workplace.dir())?, log, port: free_port()?, durable, process: Mutex::new(None) };
        if !postgres.dir.join("complete").exists() {
            postgres.make_cluster()?;
        }
        postgres.run(workplace)?;
        postgres.make_users()?;
        Ok(postgres)
    }

    /// Starts it on a disk of its own, of so many megabytes, which a test may fill. Needs root.
    pub fn start_on_small_disk(workplace: &Workplace, megabytes: u32) -> Result<(Self, SmallDisk)> {
        let disk = SmallDisk::mount(&data_dir(workplace.dir())?, megabytes)?;
        // What is mounted belongs to root at first.
        data_dir(workplace.dir())?;
        Ok((Self::start(workplace, false)?, disk))
    }

    /// Whether its process is there.
    pub fn runs(&self) -> bool {
        let process = self.process.lock().expect("nobody panics while holding this lock");
        process.as_ref().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// Its first process, while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.process.lock().expect("nobody panics while holding this lock").as_ref().map(Process::pid)
    }

    /// Starts it again after it was stopped or killed, on the same port.
    pub fn run(&self, workplace: &Workplace) -> Result<()> {
        let data = self.dir.join("data");
        // No other server can run here: the workplace is locked, and its leftovers are gone.
        drop(fs::remove_file(data.join("postmaster.pid")));
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = as_postgres_user(&postgres_binaries()?.join("postgres"));
        command.args(["-p", &self.port.to_string(), "-D"]).arg(&data).stdout(log.try_clone()?).stderr(log);
        let sync = if self.durable { "on" } else { "off" };
        for setting in ["fsync", "full_page_writes"] {
            command.args(["-c", &format!("{setting}={sync}")]);
        }
        if !self.durable {
            // A gigabyte is kept else, and a machine that only runs tests may have a small disk.
            command.args(["-c", "max_wal_size=256MB"]);
        }
        let process = workplace.spawn("postgres", &mut command)?;
        wait_until_ready(&process, &self.log, Duration::from_secs(30), || self.ask("postgres", "SELECT 1").is_ok())?;
        *self.process.lock().expect("nobody panics while holding this lock") = Some(process);
        Ok(())
    }

    fn make_cluster(&self) -> Result<()> {
        let password_file = self.dir.join("password");
        let data = self.dir.join("data");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        fs::write(&password_file, PASSWORD)?;
        let initdb = as_postgres_user(&postgres_binaries()?.join("initdb"))
            .arg("-D")
            .arg(&data)
            .arg(format!("--pwfile={}", password_file.display()))
            .args(["-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"])
            .stdin(Stdio::null())
            .output()?;
        if !initdb.status.success() {
            bail!("initdb: {}", String::from_utf8_lossy(&initdb.stderr));
        }
        fs::remove_file(password_file)?;
        let settings = "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 400\n\
                        shared_buffers = 128MB\ntrack_commit_timestamp = on\nlog_min_duration_statement = 1s\n";
        let conf = data.join("postgresql.conf");
        fs::write(&conf, fs::read_to_string(&conf)? + settings)?;
        fs::write(data.join("pg_hba.conf"), "host all all 127.0.0.1/32 scram-sha-256\n")?;
        fs::write(self.dir.join("complete"), "")?;
        Ok(())
    }

    /// The users that the programs connect as, with the passwords of `.env.example`.
    fn make_users(&self) -> Result<()> {
        let example = fs::read_to_string(workspace().join(".env.example"))?;
        let passwords = example.lines().filter(|line| line.starts_with("POSTGRES_"));
        let passwords = passwords.filter_map(|line| line.split_once('='));
        let script = workspace().join("postgres/roles.sql");
        psql(self.psql("postgres")?.envs(passwords).arg("--file").arg(script)).map(drop)
    }

    /// The URL of a database, as superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Its `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Makes a database unless it is there.
    pub fn create_database(&self, name: &str) -> Result<()> {
        let exists = self.ask("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = '{name}'"))?;
        if exists.is_empty() {
            self.ask("postgres", &format!("CREATE DATABASE {name}"))?;
        }
        Ok(())
    }

    /// What psql answers to a statement, bare.
    pub fn ask(&self, database: &str, sql: &str) -> Result<String> {
        psql(self.psql(database)?.args(["--tuples-only", "--no-align", "--command", sql]))
    }

    fn psql(&self, database: &str) -> Result<Command> {
        let mut command = Command::new(postgres_binaries()?.join("psql"));
        command.args([&self.url(database), "--no-psqlrc", "--quiet"]).stdin(Stdio::null());
        Ok(command)
    }

    /// Stops it: sessions are ended, what was committed is kept.
    pub fn stop(&self) {
        self.end(Signal::INT);
    }

    /// Stops it as a crash would: no checkpoint, recovery at the next start.
    pub fn stop_immediately(&self) {
        self.end(Signal::QUIT);
    }

    /// Kills it and all its sessions, as when the machine dies and its disk does not.
    pub fn kill(&self) -> Result<()> {
        match self.process.lock().expect("nobody panics while holding this lock").take() {
            Some(process) => process.kill_with_children(),
            None => Ok(()),
        }
    }

    fn end(&self, signal: Signal) {
        if let Some(process) = self.process.lock().expect("nobody panics while holding this lock").take() {
            // Dropping the process kills what did not stop.
            drop(process.stop(signal, Duration::from_secs(20)));
        }
    }
}

/// A small disk in memory. Dropped, it is gone.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: &Path, megabytes: u32) -> Result<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=700"), "tocsin-test"]).arg(dir);
        let output = mount.output()?;
        if !output.status.success() {
            bail!("mount (needs root): {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(Self(dir.to_owned()))
    }

    /// Leaves no byte free.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::options().create(true).append(true).open(self.0.join("ballast"))?;
        for size in [1 << 20, 1 << 12, 1] {
            while ballast.write_all(&vec![1; size]).is_ok() {}
        }
        Ok(())
    }

    /// Makes room again.
    pub fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.join("ballast"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, as a server that is being killed may still hold files there.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).output());
    }
}

/// What psql prints.
fn psql(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("psql: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The URL of the same database for the user that a program connects as, with its development password.
pub fn url_for(program: &str, owners_url: &str) -> String {
    // The owner has the name `tocsin` already.
    let user = if program == "tocsin" { "operator" } else { program };
    let (_, place) = owners_url.split_once('@').unwrap_or_default();
    format!("postgres://{user}:{user}-development@{place}")
}

/// Postgres refuses to run as root, and its user must be able to enter the folder.
fn data_dir(workplace: &Path) -> Result<PathBuf> {
    if !is_root() {
        let dir = workplace.join("postgres");
        fs::create_dir_all(&dir)?;
        return Ok(dir);
    }
    let everybody_can_enter = |dir: &Path| dir.metadata().is_ok_and(|data| data.permissions().mode() & 0o001 != 0);
    let dir = if workplace.ancestors().all(everybody_can_enter) {
        workplace.join("postgres")
    } else {
        // The inode tells clones apart that had the same path one after the other.
        let inode = workplace.metadata()?.ino();
        PathBuf::from(format!("/var/tmp/tocsin-postgres-{inode}"))
    };
    fs::create_dir_all(&dir)?;
    let chown = Command::new("chown").arg("postgres:postgres").arg(&dir).status()?;
    if !chown.success() {
        bail!("can't give {} to user postgres", dir.display());
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).context("postgres folder")?;
    Ok(dir)
}

fn as_postgres_user(program: &Path) -> Command {
    let mut command;
    if is_root() {
        command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
    } else {
        command = Command::new(program);
    }
    command.env("LC_ALL", "C.UTF-8").current_dir("/");
    command
}
