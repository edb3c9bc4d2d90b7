//! What README.md and docker-compose.yml say, against what the code says.

use std::{collections::BTreeMap, fs, process::Command};

use domain::{CHANNELS, Field};
use runtime::{Setting, settings};
use serde_json::Value;

use crate::programs;

fn read(path: &str) -> String {
    fs::read_to_string(devservers::workspace().join(path)).unwrap()
}

/// The part of README.md between `<!-- name -->` and `<!-- /name -->`.
fn part(name: &str) -> String {
    let readme = read("README.md");
    let (_, rest) = readme.split_once(&format!("<!-- {name} -->\n")).expect("the part's beginning");
    rest.split_once(&format!("<!-- /{name} -->")).expect("the part's end").0.to_owned()
}

/// What a program's `--help` lists.
fn settings_of(program: &str) -> Vec<String> {
    let help = Command::new(testkit::binary(program)).arg("--help").env_clear().output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let is_listed = |variable: &String| help.lines().any(|line| line.trim() == variable);
    settings::ALL.iter().map(Setting::variable).filter(is_listed).collect()
}

#[test]
fn the_table_of_settings_is_that_of_the_code() {
    let mut used_by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for program in programs().into_iter().chain(["tocsin".to_owned()]) {
        for variable in settings_of(&program) {
            used_by.entry(variable).or_default().push(program.replace("notifier-", ""));
        }
    }
    let mut table = "| variable | default | for | what | roesc's name |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for setting in settings::ALL {
        table.push_str(&row(setting, &used_by[&setting.variable()]));
    }
    assert_eq!(part("settings"), table, "README.md must have this table:\n\n{table}");
}

fn row(setting: &Setting, used_by: &[String]) -> String {
    let default = match setting.default {
        None => "required".to_owned(),
        Some("") => String::new(),
        Some(default) => format!("`{default}`"),
    };
    let notifiers = CHANNELS.len();
    let all_notifiers = CHANNELS.iter().all(|channel| used_by.iter().any(|name| name == channel.name));
    let programs = match used_by.len() {
        n if n == notifiers + 3 => "all".to_owned(),
        n if n == notifiers => "notifiers".to_owned(),
        n if all_notifiers => format!("{}, notifiers", used_by[..n - notifiers].join(", ")),
        _ => used_by.join(", "),
    };
    let roesc: Vec<_> = runtime::roesc_names_of(setting).iter().map(|name| format!("`{name}`")).collect();
    format!("| `{}` | {default} | {programs} | {} | {} |\n", setting.variable(), setting.help, roesc.join(" "))
}

#[test]
fn the_tests_that_reliability_names_are_there() {
    let document = read("docs/RELIABILITY.md");
    let mut listed = String::new();
    for dir in ["tests", "shared/store/tests"] {
        for file in fs::read_dir(devservers::workspace().join(dir)).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                listed.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let is_row = |line: &&str| line.starts_with("| ") && line[2..].starts_with(char::is_numeric);
    let rows: Vec<_> = document.lines().filter(is_row).collect();
    assert_eq!(rows.len(), 24);
    for row in rows {
        let tests: Vec<_> = row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row}");
        for test in tests {
            assert!(listed.contains(&format!("fn {test}(")), "{test} is no test");
        }
    }
}

#[test]
fn the_table_of_keys_is_that_of_the_code() {
    let mut table = "| channel | key | what |\n| --- | --- | --- |\n".to_owned();
    for channel in CHANNELS {
        let row = |field: &Field| {
            let required = if field.required { " (required)" } else { "" };
            format!("| `{}` | `{}`{required} | {} |\n", channel.name, field.key, field.help)
        };
        channel.address.iter().chain(channel.options).for_each(|field| table.push_str(&row(field)));
    }
    assert_eq!(part("keys"), table, "README.md must have this table:\n\n{table}");
}

fn compose() -> Value {
    let mut yaml: serde_norway::Value = serde_norway::from_str(&read("docker-compose.yml")).unwrap();
    // One pass for each level: a service takes from x-program, which takes from x-hardened.
    yaml.apply_merge().unwrap();
    yaml.apply_merge().unwrap();
    serde_json::to_value(yaml).unwrap()
}

#[test]
fn every_program_has_its_service_and_its_documentation() {
    let (compose, readme) = (compose(), read("README.md"));
    let mut missing = Vec::new();
    for program in programs().into_iter().chain(["tocsin".to_owned()]) {
        let service = &compose["services"][&program];
        let mut need = |what: &str, is_there: bool| {
            if !is_there {
                missing.push(format!("{program}: {what}"));
            }
        };
        need("a service in docker-compose.yml", service.is_object());
        let runs_it = service["command"][0] == *program || service["entrypoint"][0] == *program;
        need("the program's name as the service's command", runs_it);
        let user = if program == "tocsin" { "operator" } else { &program };
        let password = format!("POSTGRES_{}_PASSWORD", user.replace('-', "_").to_uppercase());
        let url = service["environment"]["TOCSIN_DATABASE__URL"].as_str().unwrap_or_default();
        let own =
            url.starts_with(&format!("postgres://{user}:${{{password}:?")) && url.ends_with("@postgres:5432/tocsin");
        need("its own user and password in its TOCSIN_DATABASE__URL", own);
        need(
            "its database password for service roles",
            compose["services"]["roles"]["environment"][&password].is_string(),
        );
        if program != "bridge" {
            let url = service["environment"]["TOCSIN_BROKER__URL"].as_str().unwrap_or_default();
            let password = format!("RABBITMQ_{}_PASSWORD", program.replace('-', "_").to_uppercase());
            let own =
                url.starts_with(&format!("amqp://{program}:${{{password}:?")) && url.ends_with("@rabbitmq:5672/tocsin");
            need("its own user and password in its TOCSIN_BROKER__URL", own);
        }
        need("a row in README.md's table of programs", readme.contains(&format!("| `{program}` |")));
    }
    assert!(missing.is_empty(), "missing: {missing:#?}");
}

/// Or a line in .env would do nothing, and say so to nobody.
#[test]
fn every_setting_of_a_program_reaches_it_from_env() {
    // These go with something else in docker-compose.yml: a port, a file.
    let elsewhere = ["TOCSIN_HEALTH__LISTEN", "TOCSIN_SMTP__CA_FILE"];
    let compose = compose();
    let mut missing = Vec::new();
    for program in programs() {
        let given = compose["services"][&program]["environment"].as_object().unwrap();
        let is_missing = |variable: &String| !elsewhere.contains(&variable.as_str()) && !given.contains_key(variable);
        missing.extend(settings_of(&program).into_iter().filter(is_missing).map(|v| format!("{program}: {v}")));
    }
    // It calls nobody.
    assert_eq!(missing, ["notifier-console: TOCSIN_NOTIFIER__DRY_RUN"]);
}

#[test]
fn every_service_is_hardened() {
    let compose = compose();
    let mut wrong = Vec::new();
    for (name, service) in compose["services"].as_object().unwrap() {
        let mut must = |what: &str, is_so: bool| {
            if !is_so {
                wrong.push(format!("{name}: {what}"));
            }
        };
        must("read_only", service["read_only"] == true);
        must("cap_drop: [ALL]", service["cap_drop"] == serde_json::json!(["ALL"]));
        must("no-new-privileges", service["security_opt"] == serde_json::json!(["no-new-privileges:true"]));
        must("mem_limit", service["mem_limit"].is_string());
        let own_image = service["image"].as_str().is_some_and(|image| image.starts_with("tocsin"));
        must("a user that is not root", own_image || service["user"].is_string());
        let ends = service["restart"] == "no";
        must("restart: unless-stopped, or no for what ends", ends || service["restart"] == "unless-stopped");
        must("a health check", own_image || ends || service["healthcheck"]["test"].is_array());
        let ports = service["ports"].as_array().cloned().unwrap_or_default();
        must("ports on 127.0.0.1 only", ports.iter().all(|port| port.as_str().unwrap().starts_with("127.0.0.1:")));
    }
    let dockerfile = read("Dockerfile");
    assert_eq!(dockerfile.matches("\nUSER ").count(), 2, "both images run as somebody else than root");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_compose_requires_stands_in_the_example() {
    let (compose, example) = (read("docker-compose.yml"), read(".env.example"));
    let required = compose.split("${").skip(1).filter_map(|rest| rest.split_once(":?").map(|(name, _)| name));
    let required: Vec<_> =
        required.filter(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')).collect();
    assert!(required.len() > 8);
    for name in required {
        assert!(example.lines().any(|line| line.starts_with(&format!("{name}="))), "{name}");
    }
}
