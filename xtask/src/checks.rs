use std::{
    fs,
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use devservers::{Addresses, Purpose, Python, Servers, Signal, Tool, Workplace, install_missing, workspace};
use rustix::process::{Pid, kill_process};

use crate::{interrupt::Interrupt, leaks};

/// Everything that must be right, in the order in which it is quickest to know what is wrong.
pub(crate) fn run(nextest: &[String]) -> Result<()> {
    let begin = Instant::now();
    install_missing(Purpose::Test, |what| println!("{what}"))?;
    Python::prepare(Tool::Accessibility)?;
    let tools = Python::prepare(Tool::Checks)?;
    // Here, as tests run side by side and must not install it at once.
    Python::prepare(Tool::Contract)?;
    let interrupt = Interrupt::catch()?;
    let step = |name, command: &mut Command| step(name, command, &interrupt);
    let cargo = || Command::new(env!("CARGO"));
    if nextest.is_empty() {
        step("format", cargo().args(["fmt", "--all", "--check"]))?;
        step("lints", cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))?;
        // Advisories need a database from outside, which is not always to be had.
        let deny = ["--log-level", "error", "check", "bans", "licenses", "sources"];
        step("dependencies and licences", Command::new(tools.program("cargo-deny")).args(deny))?;
    }
    step("build", cargo().args(["build", "--workspace", "--bins", "--quiet"]))?;
    with_servers(|| {
        let mut command = Command::new(tools.program("cargo-nextest"));
        step("tests", command.args(["nextest", "run", "--workspace"]).args(nextest))
    })?;
    println!("── secrets in logs");
    leaks::search(&workspace().join(".dev/test/arenas"))?;
    if nextest.is_empty() {
        println!("── chaos");
        let arguments = chaos::Arguments::short();
        judge(&arguments, &mut |time| interrupt.pause(time))?;
        leaks::search(&workspace().join(arguments.folder))?;
    }
    println!("all is well, after {} s", begin.elapsed().as_secs());
    Ok(())
}

/// Builds the programs, and lets chaos judge them.
pub(crate) fn chaos(arguments: &chaos::Arguments) -> Result<()> {
    install_missing(Purpose::Run, |what| eprintln!("{what}"))?;
    Python::prepare(Tool::Emulator)?;
    let build = ["build", "--workspace", "--bins", "--quiet"];
    if !Command::new(env!("CARGO")).args(build).current_dir(workspace()).status()?.success() {
        bail!("the build failed");
    }
    let interrupt = Interrupt::catch()?;
    judge(arguments, &mut |time| interrupt.pause(time))
}

fn judge(arguments: &chaos::Arguments, pause: &mut dyn FnMut(Duration) -> Result<()>) -> Result<()> {
    match chaos::run(arguments, pause)? {
        true => Ok(()),
        false => bail!("chaos has found something: see above"),
    }
}

/// Only the servers, for running single tests by hand.
pub(crate) fn servers() -> Result<()> {
    install_missing(Purpose::Test, |what| println!("{what}"))?;
    Python::prepare(Tool::Accessibility)?;
    let interrupt = Interrupt::catch()?;
    with_servers(|| {
        println!("the servers for tests are up; Ctrl-C stops them");
        interrupt.wait();
        Ok(())
    })
}

pub(crate) fn with_servers(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    let workplace = Workplace::take(&workspace().join(".dev/test"))?;
    // What earlier runs left: databases, vhosts, logs.
    for name in ["arenas", "postgres", "rabbitmq", "ministack"] {
        let dir = workplace.dir().join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
        }
    }
    let servers = Servers::start(&workplace, false)?;
    servers.addresses().write()?;
    println!("── servers: started in {:.1} s", begin.elapsed().as_secs_f64());
    let done = work();
    fs::remove_file(Addresses::path())?;
    servers.stop();
    done
}

/// Runs a command to its end. A signal to end is passed on, so that the servers are stopped after it.
fn step(name: &str, command: &mut Command, interrupt: &Interrupt) -> Result<()> {
    println!("── {name}");
    let begin = Instant::now();
    let mut child = command.current_dir(workspace()).spawn().with_context(|| name.to_owned())?;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None => interrupt.pause(Duration::from_millis(50)).or_else(|error| end(&mut child).and(Err(error)))?,
        }
    };
    if !status.success() {
        bail!("{name}: {status}");
    }
    println!("── {name}: done in {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

fn end(child: &mut Child) -> Result<()> {
    kill_process(Pid::from_child(child), Signal::TERM)?;
    child.wait()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_ends_a_step_and_what_it_runs() {
        let (sender, receiver) = std::sync::mpsc::channel();
        sender.send(()).unwrap();
        let begin = Instant::now();
        let error = step("sleep", Command::new("sleep").arg("60"), &Interrupt(receiver)).unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
        assert!(begin.elapsed() < Duration::from_secs(30), "it was waited for to the end");
    }
}
