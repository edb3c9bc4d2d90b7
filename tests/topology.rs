use std::{fs, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use domain::{CHANNELS, RetryTier};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn root() -> PathBuf {
    devservers::workspace()
}

fn definitions() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join("rabbitmq/definitions.json")).unwrap()).unwrap()
}

fn find<'a>(definitions: &'a Value, kind: &str, fits: impl Fn(&Value) -> bool) -> Option<&'a Value> {
    definitions[kind].as_array().unwrap().iter().find(|item| fits(item))
}

#[test]
fn every_channel_has_its_program_queue_binding_user_and_documentation() {
    let definitions = definitions();
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let env = fs::read_to_string(root().join(".env.example")).unwrap();
    let roles = fs::read_to_string(root().join("postgres/roles.sql")).unwrap();
    let mut missing = Vec::new();
    for channel in CHANNELS {
        let (program, queue) = (format!("notifier-{}", channel.name), format!("notify.{}", channel.name));
        let key = format!("*.system.{}", channel.name);
        let passwords = ["RABBITMQ", "POSTGRES"]
            .map(|server| format!("{server}_{}_PASSWORD", program.replace('-', "_").to_uppercase()));
        let mut need = |what: &str, is_there: bool| {
            if !is_there {
                missing.push(format!("{program}: {what}"));
            }
        };
        need("a folder in bins/", root().join("bins").join(&program).is_dir());
        need("its queue", find(&definitions, "queues", |q| q["name"] == *queue).is_some());
        let bound =
            |b: &Value| b["destination"] == *queue && b["routing_key"] == *key && b["source"] == "tocsin.deliver";
        need("its binding", find(&definitions, "bindings", bound).is_some());
        need("its user", find(&definitions, "users", |u| u["name"] == *program).is_some());
        let only_its_queue = format!("^{}$", queue.replace('.', "\\."));
        let permitted = |p: &Value| p["user"] == *program && p["read"] == *only_its_queue && p["configure"] == "^$";
        need("permission to read its queue and no other", find(&definitions, "permissions", permitted).is_some());
        for password in &passwords {
            need("its password in .env.example", env.contains(&format!("{password}={program}-development\n")));
        }
        need("its user in postgres/roles.sql", roles.contains(&format!("('{program}', 'tocsin_notifier',")));
        need("its password in postgres/roles.sql", roles.contains(&format!(" {}\n", passwords[1])));
        need("a line in ARCHITECTURE.md", architecture.contains(&program));
    }
    assert!(missing.is_empty(), "missing: {missing:#?}");
}

#[test]
fn every_retry_tier_has_its_exchange_queue_and_wait() {
    let definitions = definitions();
    for tier in RetryTier::ALL {
        let name = tier.exchange();
        let exchange = find(&definitions, "exchanges", |e| e["name"] == name).unwrap();
        assert_eq!(exchange["type"], "fanout");
        assert!(find(&definitions, "queues", |q| q["name"] == name).is_some());
        let pattern = format!("^{}$", name.replace('.', "\\."));
        let policy = find(&definitions, "policies", |p| p["pattern"] == *pattern).unwrap();
        assert_eq!(policy["definition"]["message-ttl"], json!(tier.delay().as_millis() as u64));
        assert_eq!(policy["definition"]["dead-letter-exchange"], "");
    }
}

#[test]
fn every_queue_is_a_quorum_queue_with_nothing_else_fixed() {
    for queue in definitions()["queues"].as_array().unwrap() {
        assert_eq!(queue["arguments"], json!({"x-queue-type": "quorum"}), "{}", queue["name"]);
    }
}

#[test]
fn the_hashes_are_those_of_the_development_passwords() {
    let definitions = definitions();
    let env = fs::read_to_string(root().join(".env.example")).unwrap();
    let users = definitions["users"].as_array().unwrap();
    assert!(users.iter().all(|user| user["name"] != "guest"));
    for user in users {
        let name = user["name"].as_str().unwrap();
        let variable = format!("RABBITMQ_{}_PASSWORD=", name.replace('-', "_").to_uppercase());
        let password = env.lines().find_map(|line| line.strip_prefix(&variable)).expect(&variable);
        // A hash is base64(salt + sha256(salt + password)), with a salt of four bytes.
        let hash = BASE64_STANDARD.decode(user["password_hash"].as_str().unwrap()).unwrap();
        let (salt, digest) = hash.split_at(4);
        assert_eq!(Sha256::digest([salt, password.as_bytes()].concat())[..], *digest, "{name}");
    }
}

#[test]
fn the_picture_shows_what_the_file_declares() {
    let readme = fs::read_to_string(root().join("rabbitmq/README.md")).unwrap();
    let (_, rest) = readme.split_once("```mermaid\n").expect("a picture");
    let (picture, _) = rest.split_once("```").expect("the picture's end");
    let expected = picture_of(&definitions());
    assert_eq!(picture, expected, "rabbitmq/README.md must show this picture:\n\n{expected}");
}

/// A Mermaid flow chart: exchanges as rounded boxes, queues as boxes, what is dead-lettered as dotted arrows.
fn picture_of(definitions: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |kind: &str| definitions[kind].as_array().unwrap().clone();
    let id = |kind: &str, name: &str| format!("{kind}_{}", name.replace(['.', '-'], "_"));
    let mut lines = vec!["flowchart LR".to_owned()];
    for exchange in list("exchanges") {
        let (name, kind) = (text(&exchange["name"]), text(&exchange["type"]));
        lines.push(format!("    {}([\"{name}<br>{kind} exchange\"])", id("x", &name)));
    }
    for queue in list("queues") {
        let name = text(&queue["name"]);
        let ttl = policy_of(definitions, &name)["definition"]["message-ttl"].as_u64();
        let wait = ttl.map(|ttl| format!("<br>waits {} s", ttl / 1_000)).unwrap_or_default();
        lines.push(format!("    {}[\"{name}{wait}\"]", id("q", &name)));
    }
    for binding in list("bindings") {
        let key = text(&binding["routing_key"]);
        let label = if key.is_empty() { String::new() } else { format!("|\"{key}\"|") };
        let (from, to) = (id("x", &text(&binding["source"])), id("q", &text(&binding["destination"])));
        lines.push(format!("    {from} -->{label} {to}"));
    }
    for queue in list("queues") {
        let name = text(&queue["name"]);
        match &policy_of(definitions, &name)["definition"]["dead-letter-exchange"] {
            Value::String(exchange) if exchange.is_empty() => {
                lines.push(format!("    {} -.->|\"to the queue it left\"| left[\"notify.*\"]", id("q", &name)));
            }
            Value::String(exchange) => {
                lines.push(format!("    {} -.->|\"dead\"| {}", id("q", &name), id("x", exchange)))
            }
            _ => {}
        }
    }
    lines.join("\n") + "\n"
}

/// The policy of a queue; null if it has none.
fn policy_of(definitions: &Value, queue: &str) -> Value {
    let fits = |policy: &&Value| {
        let pattern = policy["pattern"].as_str().unwrap().trim_start_matches('^').replace('\\', "");
        pattern.strip_suffix('$').map_or(queue.starts_with(&pattern), |exact| exact == queue)
    };
    definitions["policies"].as_array().unwrap().iter().find(fits).cloned().unwrap_or(Value::Null)
}
