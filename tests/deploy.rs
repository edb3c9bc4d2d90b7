//! deploy/: the alert rules and the dashboard are good, and name only what the programs export.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use devservers::{PROMTOOL, workspace};
use serde_json::Value;

use crate::programs;

fn deploy(path: &str) -> PathBuf {
    workspace().join("deploy").join(path)
}

fn promtool(arguments: &[&str], file: &Path) {
    let mut command = Command::new(PROMTOOL);
    command.args(arguments).arg(file.file_name().unwrap()).current_dir(file.parent().unwrap());
    let output = command.output().unwrap_or_else(|error| panic!("{PROMTOOL}: {error}"));
    assert!(output.status.success(), "promtool {arguments:?} {}: {output:?}", file.display());
}

#[test]
fn the_alert_rules_say_what_their_tests_want_and_nothing_else() {
    promtool(&["check", "rules"], &deploy("prometheus/alerts.yml"));
    promtool(&["check", "config"], &deploy("prometheus/prometheus.yml"));
    promtool(&["test", "rules"], &deploy("prometheus/alerts.test.yml"));
}

#[test]
fn every_alert_has_a_test() {
    let rules = fs::read_to_string(deploy("prometheus/alerts.yml")).unwrap();
    let tests = fs::read_to_string(deploy("prometheus/alerts.test.yml")).unwrap();
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert}");
    }
}

#[test]
fn every_program_is_a_target() {
    let example = fs::read_to_string(deploy("prometheus/prometheus.yml")).unwrap();
    for program in programs() {
        assert!(example.lines().any(|line| line.trim() == format!("- {program}")), "{program}");
    }
}

/// The panels' expressions.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_slice(&fs::read(deploy("grafana/tocsin.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn prometheus_understands_the_dashboard() {
    let rule = |(n, expression): (usize, String)| {
        let expression = expression.replace("$__rate_interval", "5m").replace("$channel", ".*");
        serde_json::json!({"record": format!("panel:{n}"), "expr": expression})
    };
    let rules: Vec<_> = expressions().into_iter().enumerate().map(rule).collect();
    let file = workspace().join(".dev/test/dashboard-rules.yml");
    let rules = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    fs::write(&file, rules.to_string()).unwrap();
    promtool(&["check", "rules"], &file);
}

/// The metrics that the programs export, and whether each is a histogram.
fn exported() -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    let mut folders = vec![workspace().join("bins"), workspace().join("shared")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(path).unwrap();
                for kind in ["counter", "gauge", "histogram"] {
                    for rest in text.split(&format!("metrics::{kind}!(\"")).skip(1) {
                        found.insert(rest.split('"').next().unwrap().to_owned(), kind == "histogram");
                    }
                }
            }
        }
    }
    found
}

#[test]
fn the_rules_and_the_dashboard_name_what_the_programs_export_and_all_of_it() {
    let exported = exported();
    let rules = fs::read_to_string(deploy("prometheus/alerts.yml")).unwrap();
    let text = expressions().join("\n") + &rules;
    let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let named: BTreeSet<_> = text.split(|c| !is_of_name(c)).filter(|word| word.starts_with("tocsin_")).collect();
    let mut unused: BTreeSet<_> = exported.keys().map(String::as_str).collect();
    for name in named {
        let of_histogram = name.strip_suffix("_bucket");
        let known = exported.get(of_histogram.unwrap_or(name));
        assert_eq!(known, Some(&of_histogram.is_some()), "{name} is exported by no program, or as something else");
        unused.remove(of_histogram.unwrap_or(name));
    }
    assert!(unused.is_empty(), "nobody looks at {unused:?}");
}
