use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use devservers::{Addresses, Python, Tool, workspace};
use serde_json::Value;

use crate::checks::with_servers;

/// One guard, and how it is taken away.
struct Sabotage {
    name: &'static str,
    file: &'static str,
    /// This text, which stands there once,
    guard: &'static str,
    /// becomes this.
    without: &'static str,
    /// Tests of which at least one must turn red, as nextest filters them.
    tests: &'static str,
}

const SABOTAGES: &[Sabotage] = &[
    Sabotage {
        name: "claim-guard",
        file: "shared/store/src/claim.rs",
        guard: "AND n.channel = $2 AND n.state IN ('queued', 'retrying')\n    AND (n.due_at",
        without: "AND n.channel = $2\n    AND (n.due_at",
        tests: "test(notifier_crashes::) | test(stop_races::)",
    },
    Sabotage {
        name: "claim-due",
        file: "shared/store/src/claim.rs",
        guard: "AND (n.due_at <= tocsin_now() OR n.expires_at <= tocsin_now())",
        without: "",
        tests: "test(comes_back_early) | test(transition_table)",
    },
    Sabotage {
        name: "fence",
        file: "shared/store/src/record.rs",
        guard: "WHERE n.id = x.id AND n.fence = x.fence AND n.state = 'sending'",
        without: "WHERE n.id = x.id AND n.state = 'sending'",
        tests: "package(store)",
    },
    Sabotage {
        name: "stop-update",
        file: "shared/store/src/request.rs",
        guard: "WHERE n.id = ANY(ARRAY(SELECT id FROM stopping))",
        without: "WHERE false AND n.id = ANY(ARRAY(SELECT id FROM stopping))",
        tests: "test(stop_races::) | test(stopping::)",
    },
    Sabotage {
        name: "dedup-key",
        file: "shared/store/src/request.rs",
        guard: "SELECT * FROM unnest($3::int[], $1::text[]",
        without: "SELECT x.n, x.source, x.message_id || clock_timestamp() AS message_id, x.process_name, x.action,
            x.reasons, x.body FROM unnest($3::int[], $1::text[]",
        tests: "test(bridge_crashes::)",
    },
    Sabotage {
        name: "ack-after-record",
        file: "shared/notifier/src/receipt.rs",
        // Acknowledged as it comes; what is done with it later nobody hears of.
        guard: "        let message = Message { tag, open: AtomicUsize::new(notifications), finished: self.0.clone() };\n",
        without: "        Message { tag, open: AtomicUsize::new(0), finished: self.0.clone() }.send(Finished::Done(tag));\n        \
                  let finished = mpsc::unbounded_channel().0;\n        \
                  let message = Message { tag, open: AtomicUsize::new(notifications), finished };\n",
        tests: "test(notifier_crashes::)",
    },
    Sabotage {
        name: "mandatory",
        file: "shared/broker/src/publisher.rs",
        guard: "mandatory: true",
        without: "mandatory: false",
        tests: "test(cannot_be_routed)",
    },
    Sabotage {
        name: "mark-guard",
        file: "shared/store/src/dispatch.rs",
        guard: "WHERE n.id = x.id AND n.fence = x.fence AND n.busy_until = x.busy_until AND n.state IN ('queued', 'retrying')\";\n\nconst MARK_RETURNED",
        without: "WHERE n.id = x.id AND n.state IN ('queued', 'retrying')\";\n\nconst MARK_RETURNED",
        tests: "package(store)",
    },
    Sabotage {
        name: "backlog",
        file: "shared/store/src/dispatch.rs",
        // It stands there twice: where rows are chosen, and for one that has changed since.
        guard: "WHERE n.id = ANY (ARRAY(SELECT id FROM due WHERE NOT is_left)) AND n.state IN ('scheduled', 'queued', 'retrying')\n        \
                AND coalesce(n.wake_at <= tocsin_now() + $3 * interval '1 microsecond', false)\n        \
                AND coalesce(n.busy_until <= tocsin_now(), true)\n        \
                AND NOT (n.confirmed_at IS NOT NULL AND n.channel = ANY($4))\n",
        without: "WHERE n.id = ANY (ARRAY(SELECT id FROM due)) AND n.state IN ('scheduled', 'queued', 'retrying')\n        \
                  AND coalesce(n.wake_at <= tocsin_now() + $3 * interval '1 microsecond', false)\n        \
                  AND coalesce(n.busy_until <= tocsin_now(), true)\n",
        tests: "package(store)",
    },
    Sabotage {
        name: "retry-lock",
        file: "shared/store/src/repair.rs",
        guard: "lock_processes!(\"FOR UPDATE\")",
        without: "lock_processes!(\"\")",
        tests: "test(repairs::)",
    },
    Sabotage {
        name: "freshness",
        file: "shared/notifier/src/caller.rs",
        guard: "if claimed_since.elapsed() > CLAIM_FRESHNESS {",
        without: "if claimed_since.elapsed() > CLAIM_FRESHNESS * 1_000 {",
        tests: "test(stop_races::)",
    },
    Sabotage {
        name: "half-used-connection",
        file: "shared/store/src/connections.rs",
        guard: "drop(self.taken.take().map(|taken| taken.connection.detach()));",
        without: "drop(self.taken.take());",
        tests: "test(dropped_while_it_begins)",
    },
    Sabotage {
        name: "delete-after-commit",
        file: "bins/bridge/src/applier.rs",
        guard: "            let requests: Vec<_> = part.iter().map(|work| work.request.clone()).collect();\n",
        without: "            let requests: Vec<_> = part.iter().map(|work| work.request.clone()).collect();\n\
                  \x20           delete(Arc::clone(&self.bridge), part.iter().map(|work| work.receipt.clone()).collect()).await;\n",
        tests: "test(bridge_crashes::)",
    },
];

/// Takes one guard away after the other, in a copy of the sources, and sees that tests turn red or chaos finds it. Chaos
/// is asked where no test turns red, or `always`.
pub(crate) fn run(names: &[String], always: bool) -> Result<()> {
    let known = || SABOTAGES.iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = names.iter().find(|name| SABOTAGES.iter().all(|one| one.name != **name)) {
        bail!("{unknown} is none of {}", known());
    }
    let chosen: Vec<_> =
        SABOTAGES.iter().filter(|one| names.is_empty() || names.iter().any(|n| n == one.name)).collect();
    let copy = copy_sources()?;
    let mut survived = Vec::new();
    with_servers(|| {
        let addresses = copy.join(".dev/test/addresses.json");
        fs::create_dir_all(addresses.parent().context("a path of several parts")?)?;
        fs::copy(Addresses::path(), &addresses)?;
        let mut all: Vec<_> = chosen.iter().map(|one| one.tests).collect();
        all.dedup();
        println!("── nothing taken away");
        if let Some(red) = red_tests(&copy, &all.join(" | "))? {
            bail!("these are red with every guard in its place: {red}");
        }
        for one in &chosen {
            let begin = Instant::now();
            println!("── without {}", one.name);
            let path = copy.join(one.file);
            let whole = fs::read_to_string(&path)?;
            if whole.matches(one.guard).count() != 1 {
                bail!("{}: the guard of {} does not stand there once: {:?}", one.file, one.name, one.guard);
            }
            fs::write(&path, whole.replace(one.guard, one.without))?;
            let caught = caught_by(&copy, one, always);
            fs::write(&path, whole)?;
            let (caught, seconds) = (caught?, begin.elapsed().as_secs());
            match caught.is_empty() {
                false => println!("   caught, after {seconds} s, by {}", caught.join(", ")),
                true => {
                    println!("   NOT caught, after {seconds} s");
                    survived.push(one.name);
                }
            }
        }
        Ok(())
    })?;
    if survived.is_empty() {
        println!("all {} were caught", chosen.len());
        return Ok(());
    }
    bail!("neither a test nor chaos finds it without {}", survived.join(", "))
}

/// Which tests turn red, and whether chaos finds something, if it is asked.
fn caught_by(copy: &Path, one: &Sabotage, always: bool) -> Result<Vec<String>> {
    let mut caught: Vec<_> = red_tests(copy, one.tests)?.into_iter().collect();
    if always || caught.is_empty() {
        caught.extend(chaos_finds(copy)?.map(|finding| format!("chaos ({finding})")));
    }
    Ok(caught)
}

/// The headline of what chaos finds first, if it finds anything.
fn chaos_finds(copy: &Path) -> Result<Option<String>> {
    let mut chaos = Command::new(copy.join("target/debug/xtask"));
    let output = chaos
        .args(["chaos", "--json", "--minutes", "1", "--seed", "395", "--fault-every", "2"])
        .current_dir(copy)
        .output()?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("chaos: {}", String::from_utf8_lossy(&output.stderr)))?;
    let all = ["findings", "problems"].into_iter().flat_map(|kind| report[kind].as_array().into_iter().flatten());
    let mut headlines = all.filter_map(|one| one.as_str()?.lines().next().map(str::to_owned));
    Ok(headlines.next())
}

/// What git knows of, as it stands in the working tree.
fn copy_sources() -> Result<PathBuf> {
    let copy = workspace().join(".dev/sabotage");
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(workspace()).output()?;
    let listed = String::from_utf8(listed.stdout)?;
    for file in listed.split_terminator('\0') {
        let (from, to) = (workspace().join(file), copy.join(file));
        // What has not changed keeps its time, so that it is not compiled again.
        if !from.exists() || fs::read(&from)? == fs::read(&to).unwrap_or_default() {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file stands in a folder")?)?;
        fs::copy(from, to)?;
    }
    // What chaos needs beside them.
    let python = copy.join(".dev/python");
    if !python.exists() {
        fs::create_dir_all(copy.join(".dev"))?;
        std::os::unix::fs::symlink(workspace().join(".dev/python"), python)?;
    }
    Ok(copy)
}

/// The tests among these that fail, if any does.
fn red_tests(copy: &Path, filter: &str) -> Result<Option<String>> {
    let tools = Python::prepare(Tool::Checks)?;
    let quiet = |command: &mut Command| {
        let output = command.current_dir(copy).env("CARGO_TERM_COLOR", "never").output()?;
        anyhow::Ok((output.status, String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (built, words) = quiet(Command::new(env!("CARGO")).args(["build", "--workspace", "--bins", "--quiet"]))?;
    if !built.success() {
        bail!("it does not compile any more:\n{words}");
    }
    let mut nextest = Command::new(tools.program("cargo-nextest"));
    nextest.args(["nextest", "run", "--workspace", "--cargo-quiet", "--fail-fast", "-E", filter]);
    let (status, words) = quiet(&mut nextest)?;
    // 100 means that tests have failed; anything else that they could not be run.
    match status.code() {
        Some(0) => Ok(None),
        Some(100) => {
            let failed = words.lines().filter(|line| line.trim_start().starts_with("FAIL ["));
            let mut names: Vec<_> = failed.filter_map(|line| line.rsplit(' ').next()).collect();
            names.sort_unstable();
            names.dedup();
            Ok(Some(names.join(", ")))
        }
        _ => bail!("nextest: {status}\n{words}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guard_stands_where_it_is_looked_for() {
        for one in SABOTAGES {
            let whole = fs::read_to_string(workspace().join(one.file)).expect(one.file);
            assert_eq!(whole.matches(one.guard).count(), 1, "{}", one.name);
            assert_ne!(one.guard, one.without);
        }
    }
}
