use std::{
    path::Path,
    process::{ExitCode, Stdio},
};

use domain::{CHANNELS, Channel};
use runtime::{NOT_CONFIGURED, coloured};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{BAD_USAGE, UNAVAILABLE};

/// Has each program check what it needs, all at once, and shows what they say.
pub(crate) async fn run(wanted: &[String], json: bool, file: Option<&Path>) -> ExitCode {
    let all = ["bridge", "activator", "api"].map(str::to_owned);
    let all: Vec<_> = all.into_iter().chain(CHANNELS.iter().map(Channel::program)).collect();
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        eprintln!("tocsin: no such program: {unknown}; there are {}", all.join(", "));
        return ExitCode::from(BAD_USAGE);
    }
    let is_wanted = |name: &&String| wanted.is_empty() || wanted.contains(name);
    let checks: Vec<_> = all
        .iter()
        .filter(is_wanted)
        .map(|name| (name, tokio::spawn(check(name.clone(), file.map(Path::to_owned)))))
        .collect();
    let mut all_well = true;
    for (name, check) in checks {
        let results = match check.await {
            Ok(Ok(results)) => results,
            Ok(Err(problem)) => vec![wrong("program", &problem, "install it beside tocsin, or name the others")],
            Err(error) => vec![wrong("program", &error.to_string(), "this is a bug in Tocsin")],
        };
        let is_unwanted = wanted.is_empty()
            && name.starts_with("notifier-")
            && results.iter().all(|result| result["check"] == NOT_CONFIGURED);
        all_well &= is_unwanted || results.iter().all(|result| result["ok"] == true);
        show(name, &results, is_unwanted, json);
    }
    if all_well { ExitCode::SUCCESS } else { ExitCode::from(UNAVAILABLE) }
}

/// One JSON object a check.
async fn check(name: String, file: Option<std::path::PathBuf>) -> Result<Vec<Value>, String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = here.with_file_name(&name);
    let mut command = Command::new(&program);
    command.arg("--check=json").stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    if let Some(file) = file {
        command.arg("--config").arg(file);
    }
    let output = command.output().await.map_err(|error| format!("{}: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let results: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if results.is_empty() {
        return Err(format!(
            "it said nothing and ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    Ok(results)
}

fn wrong(check: &str, problem: &str, mend: &str) -> Value {
    json!({"check": check, "ok": false, "detail": problem, "mend": mend})
}

fn show(name: &str, results: &[Value], is_unwanted: bool, json: bool) {
    if json {
        for result in results {
            let mut line = result.clone();
            line["program"] = name.into();
            println!("{line}");
        }
        return;
    }
    if is_unwanted {
        println!("{name}\n  {}  its provider is not configured\n", coloured("33", "-    "));
        return;
    }
    println!("{name}");
    for result in results {
        let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
        if result["ok"] == true {
            println!("  {}  {:<10} {}", coloured("32", "ok   "), text("check"), text("detail"));
        } else {
            println!("  {}  {:<10} {}", coloured("31", "WRONG"), text("check"), text("detail"));
            println!("         {:<10} {}", "", text("mend"));
        }
    }
    println!();
}
