use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Mutex,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// A port of 127.0.0.1 that nobody has, and that the system gives to no outgoing connection before it is used.
pub fn free_port() -> Result<u16> {
    for _ in 0..1_000 {
        let port = 15_000 + u16::try_from(random()? % 17_000)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between 15000 and 32000")
}

fn random() -> Result<u64> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(u64::from_str_radix(&uuid[..8], 16)?)
}

/// A folder for servers and programs and what they write, held by one run at a time.
#[derive(Debug)]
pub struct Workplace {
    dir: PathBuf,
    _lock: File,
}

impl Workplace {
    /// Takes the folder, and ends what an earlier run left running in it.
    pub fn take(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir.join("processes"))?;
        let lock = File::create(dir.join("lock"))?;
        if lock.try_lock().is_err() {
            bail!("{} is in use by another run: end that first (Ctrl-C in its terminal)", dir.display());
        }
        let workplace = Self { dir: dir.to_owned(), _lock: lock };
        workplace.end_everything()?;
        Ok(workplace)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Kills every process that was started in it and has not been noticed to end, such as what an earlier run left.
    pub fn end_everything(&self) -> Result<()> {
        for entry in fs::read_dir(self.dir.join("processes"))? {
            let path = entry?.path();
            // Who started it may notice its end at the same time, and forget it.
            let Some(record) = unless_gone(fs::read_to_string(&path))? else { continue };
            if let Some((pid, started)) = record.trim().split_once(' ')
                && let Ok(pid) = pid.parse()
                && start_time(pid).as_deref() == Some(started)
                && let Some(leader) = Pid::from_raw(pid)
            {
                kill_group(leader);
                wait_until(Duration::from_secs(10), || start_time(pid).is_none()).context("a leftover process")?;
            }
            unless_gone(fs::remove_file(path))?;
        }
        Ok(())
    }

    /// Starts a command as the leader of a process group of its own, and notes it down for the next run.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Result<Process> {
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("can't start {}", command.get_program().to_string_lossy()))?;
        let pid = i32::try_from(child.id())?;
        let record = self.dir.join("processes").join(format!("{name}-{pid}"));
        fs::write(&record, format!("{pid} {}\n", start_time(pid).unwrap_or_default()))?;
        Ok(Process { pid, child: Mutex::new(child), record })
    }
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// A child process. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    child: Mutex<Child>,
    record: PathBuf,
}

impl Process {
    /// Its id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if self.try_wait()?.is_none()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    /// Ends the process and all that it started, at once.
    pub fn kill(&self) -> Result<ExitStatus> {
        if let Some(leader) = Pid::from_raw(self.pid) {
            kill_group(leader);
        }
        let status = self.child.lock().expect("nobody panics while holding this lock").wait()?;
        self.forget();
        Ok(status)
    }

    /// Ends the process and its children at once, those too that lead a process group of their own.
    pub(crate) fn kill_with_children(&self) -> Result<()> {
        // Stopped, it can't start another one meanwhile.
        self.signal(Signal::STOP)?;
        let children = children(self.pid)?;
        self.kill()?;
        children.iter().filter_map(|pid| Pid::from_raw(*pid)).for_each(kill_group);
        wait_until(Duration::from_secs(20), || children.iter().all(|pid| start_time(*pid).is_none()))
            .context("the children of a killed process")
    }

    /// Its end, if it has ended.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        let status = self.child.lock().expect("nobody panics while holding this lock").try_wait()?;
        if status.is_some() {
            self.forget();
        }
        Ok(status)
    }

    /// Waits for its end, but not longer than this.
    pub fn wait(&self, limit: Duration) -> Result<ExitStatus> {
        let mut status = None;
        wait_until(limit, || {
            status = self.try_wait().unwrap_or_else(|_| Some(ExitStatus::from_raw(-1)));
            status.is_some()
        })
        .with_context(|| format!("process {} has not ended", self.pid))?;
        status.context("ended without a status")
    }

    /// Sends a signal and waits; kills it after the limit.
    pub fn stop(&self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        self.wait(limit).or_else(|_| self.kill())
    }

    fn forget(&self) {
        // A record of a process that is gone does no harm.
        drop(fs::remove_file(&self.record));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.try_wait(), Ok(None)) {
            drop(self.kill());
        }
    }
}

/// Kills a process group; that it is gone already is as good.
fn kill_group(leader: Pid) {
    kill_process_group(leader, Signal::KILL).unwrap_or_default();
}

fn children(parent: i32) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        if fields.nth(1).and_then(|field| field.parse::<i32>().ok()) == Some(parent) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// When a live process started, in clock ticks since boot: with its id it is unique. None for a zombie.
fn start_time(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18).map(str::to_owned))?
}

/// Waits until something is so; an error after the limit.
pub(crate) fn wait_until(limit: Duration, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while !is_so() {
        if Instant::now() > end {
            bail!("not within {} s", limit.as_secs());
        }
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Waits until a server answers, or its process ends; shows the end of its log if it does not work out.
pub(crate) fn wait_until_ready(
    process: &Process,
    log: &Path,
    limit: Duration,
    mut is_ready: impl FnMut() -> bool,
) -> Result<()> {
    let mut ended = false;
    let waited = wait_until(limit, || {
        ended = matches!(process.try_wait(), Ok(Some(_)));
        ended || is_ready()
    });
    if ended || waited.is_err() {
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(15).collect();
        let tail: Vec<_> = lines.into_iter().rev().collect();
        let what = if ended { "ended at once" } else { "was not ready in time" };
        bail!("it {what}; the end of {}:\n{}", log.display(), tail.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_behind_is_ended_by_the_next() {
        let dir = std::env::temp_dir().join(format!("tocsin-workplace-{}", std::process::id()));
        let workplace = Workplace::take(&dir).unwrap();
        assert!(Workplace::take(&dir).is_err(), "a second run must not share the folder");
        let process = workplace.spawn("sleeper", Command::new("sleep").arg("600")).unwrap();
        let pid = process.pid();
        std::mem::forget(process);
        // As if its end were noticed at that moment.
        std::os::unix::fs::symlink("gone", dir.join("processes/gone-1")).unwrap();
        drop(workplace);
        assert!(start_time(pid).is_some());
        drop(Workplace::take(&dir).unwrap());
        assert!(start_time(pid).is_none());
        fs::remove_dir_all(&dir).unwrap();
    }
}
