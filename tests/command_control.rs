//! The command `tocsin` over the HTTP API, as scripts use it, and as what it does shows elsewhere.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{Api, Arena, Program, Signal, binary, wait_for};

use crate::command_screens::Terminal;

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn json_is_the_apis_own() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let terminal = Terminal::new(&arena, &api);
    for process in ["pizzeria", "a b/č?#%", "osteria"] {
        let started = terminal.good(&["start", process, "--notify", "console@+1h", "--json"]).await;
        assert_eq!(objects(&started)[0]["process-id"], process);
    }
    let shown = terminal.good(&["show", "a b/č?#%", "--json"]).await;
    let same = api.get("/v1/processes/a%20b%2F%C4%8D%3F%23%25");
    assert_eq!((objects(&shown)[0].clone(), shown.lines().count()), (same, 1));
    for (arguments, path) in [
        (vec!["list", "processes", "--json"], "/v1/processes"),
        (vec!["list", "notifications", "--state", "scheduled", "--json"], "/v1/notifications?state=scheduled"),
        (
            vec!["list", "notifications", "--limit", "2", "--before", "3", "--json"],
            "/v1/notifications?before=3&limit=2",
        ),
        (vec!["requests", "--json"], "/v1/requests"),
        (vec!["audit", "--json"], "/v1/audit"),
    ] {
        assert_eq!(json!(objects(&terminal.good(&arguments).await)), api.get(path)["items"], "{arguments:?}");
    }
    terminal.good(&["schedule", "create", "daily", "--cron", "@daily", "--notify", "console@now"]).await;
    assert_eq!(objects(&terminal.good(&["schedule", "show", "daily", "--json"]).await)[0], api.get("/v1/schedules/1"));
    let listed = json!(objects(&terminal.good(&["schedule", "list", "--json"]).await));
    assert_eq!(listed, api.get("/v1/schedules")["items"]);
    assert_eq!(json!(objects(&terminal.good(&["leases", "--json"]).await)), api.get("/v1/leases"));
    assert_eq!(objects(&terminal.good(&["explain", "1", "--json"]).await)[0], api.get("/v1/notifications/1/explain"));
    assert_eq!(objects(&terminal.good(&["requests", "show", "1", "--json"]).await)[0], api.get("/v1/requests/1"));
    let status = terminal.run(&["status", "--json"]).await;
    assert_eq!(status.status.code(), Some(1), "nobody but the API runs");
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["problems"], api.get("/v1/status")["problems"]);
    let page = terminal.good(&["list", "notifications", "--limit", "2"]).await;
    assert!(page.ends_with("there may be more: --before 2\n"), "{page}");
}

#[tokio::test]
async fn a_request_is_read_from_a_file_or_standard_input_and_sent_once_with_its_key() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let terminal = Terminal::new(&arena, &api);
    let file = arena.workplace.dir().join("order.json");
    // As senders write it, with a comma too much.
    let body = "{\"process-id\": \"pizzeria\", \"action\": \"start\", \"notifications\": [{\"channel\": \"console\", \"at\": 4102444800}],}";
    fs::write(&file, body).unwrap();
    let arguments = ["start", "--file", file.to_str().unwrap(), "--idempotency-key", "order-4711"];
    let first = terminal.good(&arguments).await;
    assert_eq!(first, "started pizzeria, run 1, with 1 notification (1), as request 1\n");
    assert_eq!(terminal.good(&arguments).await, first, "a second try has no second effect");
    assert_eq!(arena.database.count("SELECT count(*) FROM request").await, 1);

    let mut command = Command::new(binary("tocsin"));
    command.args(["start", "--file", "-"]).env_clear().env("TOCSIN_URL", &api.url).env("TOCSIN_KEY", &api.key);
    let mut started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    started.stdin.take().unwrap().write_all(body.replace("pizzeria", "osteria").as_bytes()).unwrap();
    let output = started.wait_with_output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("started osteria, run 1"), "{:?}", output.status);
}

#[tokio::test]
async fn what_scripts_look_at_is_the_exit_code() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let terminal = Terminal::new(&arena, &api);
    terminal.good(&["start", "p", "--notify", "console@+1h"]).await;
    let sender = terminal.with_key(&arena.make_key("send").await);
    sender.good(&["start", "q", "--notify", "console@+1h", "--set", "message=x"]).await;
    sender.good(&["stop", "q"]).await;
    for (terminal, arguments, code) in [
        (&terminal, vec!["stop", "nobody"], 1),
        (&terminal, vec!["retry", "1"], 1),
        (&terminal, vec!["list", "notifications", "--channel", "fax"], 1),
        (&terminal, vec!["schedule", "show", "nothing"], 1),
        (&terminal, vec!["schedule", "show", "9"], 1),
        (&terminal, vec!["schedule", "create", "x", "--cron", "soon", "--notify", "console@now"], 1),
        (&terminal, vec!["schedule", "create", "x", "--cron", "@daily"], 64),
        (
            &terminal,
            vec!["schedule", "create", "x", "--cron", "@daily", "--notify", "console@2026-11-21T18:00:00Z"],
            64,
        ),
        (&sender, vec!["schedule", "list"], 64),
        (&terminal, vec!["frobnicate"], 64),
        (&terminal, vec!["pause", "pigeon"], 64),
        (&terminal, vec!["pause", "phone", "--by", "me"], 64),
        (&sender, vec!["list", "processes"], 64),
        (&terminal.at("http://127.0.0.1:1"), vec!["list", "processes"], 69),
    ] {
        let run = terminal.run(&arguments).await;
        assert_eq!(run.status.code(), Some(code), "{arguments:?}: {run:?}");
        assert!(!run.stderr.is_empty(), "{arguments:?} says why");
    }
}

#[tokio::test]
async fn pauses_caller_ids_and_keys_go_through_the_api_where_it_is_named_and_the_audit_names_the_key() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let terminal = Terminal::new(&arena, &api);
    terminal.good(&["pause", "phone", "--reason", "a drill"]).await;
    terminal.good(&["pause", "all"]).await;
    let who = format!("key {} (the admin)", api.key.split('_').nth(1).unwrap());
    let paused = terminal.good(&["pause"]).await;
    assert!(paused.contains(&format!("phone is paused by {who} since ")) && paused.contains(": a drill"), "{paused}");
    assert_eq!(paused.matches("all is paused").count(), 1, "{paused}");
    let phone = terminal.good(&["resume", "phone"]).await;
    assert!(phone.starts_with("phone: goes on\nbut all is paused by "), "{phone}");
    terminal.good(&["resume", "all"]).await;
    assert_eq!(terminal.good(&["pause"]).await, "nothing is paused\n");
    assert_eq!(terminal.run(&["resume", "phone"]).await.status.code(), Some(1));

    let registry = r#"{"+385": "+38514445555", "default": "+15005550006"}"#;
    terminal.good(&["caller-id", "set", registry]).await;
    assert_eq!(
        objects(&terminal.good(&["caller-id", "get"]).await.replace('\n', " "))[0],
        api.get("/v1/properties/caller-id-registry")
    );
    assert_eq!(terminal.good(&["caller-id", "test", "+385111"]).await, "+38514445555\n");

    let key = terminal.good(&["key", "create", "maria", "--role", "read"]).await;
    let prefix = key.split('_').nth(1).unwrap();
    terminal.with_key(key.trim()).good(&["list", "processes"]).await;
    let listed = terminal.good(&["key", "list"]).await;
    assert!(listed.starts_with(&format!("{prefix}  read     maria  by {who} ")), "{listed}");
    assert!(!listed.contains(key.trim()));
    assert_eq!(terminal.good(&["key", "revoke", prefix]).await, format!("{prefix} (maria) opens nothing any more\n"));
    assert_eq!(terminal.run(&["key", "revoke", prefix]).await.status.code(), Some(1));
    assert_eq!(terminal.with_key(key.trim()).run(&["list", "processes"]).await.status.code(), Some(64));

    let audit = api.get("/v1/audit");
    let by_key = audit["items"].as_array().unwrap().iter().filter(|entry| entry["actor"] == *who).count();
    assert_eq!(by_key, 7, "{audit}");
}

/// Whom to reach on a channel, and what it needs beside that.
fn job_on(channel: &str) -> (&'static str, &'static [&'static str]) {
    match channel {
        "phone" => (":+3851111111", &[]),
        "sms" => (":+3851111111", &["message=Open?"]),
        "email" => (":me@example.org", &["subject=Open?"]),
        "pubnub" => (":ch13234", &[]),
        "sns" => (":arn:aws:sns:us-east-1:000000000000:orders", &["payload={\"order\": 7}"]),
        "webhook" => (":https://example.org/hook", &["payload=[7]"]),
        _ => ("", &[]),
    }
}

#[tokio::test]
async fn one_job_on_each_channel_at_its_time() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let terminal = Terminal::new(&arena, &api);
    for channel in domain::CHANNELS {
        let (address, fields) = job_on(channel.name);
        let rung = format!("{}{address}@2030-01-01T09:00:00+01:00", channel.name);
        let mut command = vec!["start", channel.name, "--notify", &rung];
        fields.iter().for_each(|field| command.extend(["--set", field]));
        let said = terminal.good(&command).await;
        assert!(said.starts_with(&format!("started {}, run 1, with 1 notification", channel.name)), "{said}");
    }
    let kept =
        arena.database.texts("SELECT DISTINCT scheduled_at::text FROM notification WHERE state = 'scheduled'").await;
    assert_eq!(kept.len(), 1, "{kept:?}");
    let channels = arena.database.count("SELECT count(DISTINCT channel) FROM notification").await;
    assert_eq!(usize::try_from(channels).unwrap(), domain::CHANNELS.len());
}

#[tokio::test]
async fn a_schedule_made_on_the_command_line_starts_processes() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _programs = arena.start_all(&["phone"]).await;
    let terminal = Terminal::new(&arena, &api);
    let rung = ["--notify", "phone:+3851111111@now", "--notify", "phone:+3852222222@+2s"];
    let made =
        [vec!["schedule", "create", "each second", "--cron", "* * * * * *", "--overlap", "allow"], rung.to_vec()]
            .concat();
    terminal.good(&made).await;
    // More come all the time.
    let delivered = "SELECT count(*) FROM notification WHERE state = 'delivered'";
    wait_for("calls of two occurrences", Duration::from_secs(30), || async {
        (arena.database.count(delivered).await >= 2).then_some(())
    })
    .await;
    terminal.good(&["schedule", "pause", "each second"]).await;
    let processes = arena.database.texts("SELECT process_name FROM request WHERE source = 'schedule:1'").await;
    for process in &processes {
        let at = process.strip_prefix("each second-").unwrap();
        assert!(at.parse::<jiff::Timestamp>().is_ok(), "{process}");
    }
    let apart = "SELECT count(*) FROM (SELECT max(scheduled_at) - min(scheduled_at) AS apart FROM notification \
        GROUP BY process_id) AS process WHERE apart = interval '2 seconds'";
    assert_eq!(arena.database.count(apart).await, i64::try_from(processes.len()).unwrap());

    let occurrences = processes.iter().map(|name| name["each second-".len()..].parse::<jiff::Timestamp>().unwrap());
    let first = occurrences.min().unwrap();
    let after = |seconds: i64| (first + jiff::SignedDuration::from_secs(seconds)).to_string();
    // It is from the second before its first occurrence, in the middle of which it was made.
    for (from, until, words) in [
        (-5, -2, "there is no occurrence in that time\n"),
        (-1, 0, "accepted\n1 occurrence started\n"),
        (-1, 1, "had come before: nothing is done\n0 occurrences started\n"),
    ] {
        let range = ["--from", &after(from), "--until", &after(until)];
        let backfill = [["schedule", "backfill", "each second"].as_slice(), &range].concat();
        let said = terminal.good(&backfill).await;
        assert!(said.ends_with(words), "{said}");
    }
    let drill =
        ["schedule", "create", "drill", "--cron", "@yearly", "--process-id", "drill", "--notify", "console@+1h"];
    terminal.good(&drill).await;
    let key = ["schedule", "trigger", "drill", "--idempotency-key", "order-4711"];
    let triggered = terminal.good(&key).await;
    assert!(triggered.starts_with("started drill, run 1, with 1 notification "), "{triggered}");
    assert_eq!(terminal.good(&key).await, triggered, "a second try has no second effect");
}

/// Starts to watch, and waits until nothing is missed any more.
async fn watch(arena: &Arena, api: &Api, arguments: &[&str]) -> Program {
    let settings = [("TOCSIN_URL", api.url.as_str()), ("TOCSIN_KEY", &api.key)];
    let watching = arena.start_with("tocsin", arguments, &settings);
    says(&watching, "tocsin: watching http://127.0.0.1:").await;
    watching
}

async fn says(program: &Program, words: &str) -> String {
    let found = || async { program.output().into_iter().find(|line| line.contains(words)) };
    wait_for(&format!("{words} in {:?}", program.output()), Duration::from_secs(20), found).await
}

#[tokio::test]
async fn watch_tells_what_happens_and_ends_well() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _programs = arena.start_all(&["console"]).await;
    let people = watch(&arena, &api, &["watch"]).await;
    let script = watch(&arena, &api, &["watch", "--json"]).await;
    let terminal = Terminal::new(&arena, &api);
    terminal.good(&["start", "pizzeria", "--notify", "console@now"]).await;
    says(&people, "Z  request 1: start of pizzeria accepted").await;
    says(&people, "Z  notification 1 of pizzeria: console delivered").await;
    terminal.good(&["pause", "sms"]).await;
    says(&people, "(the admin): channel.pause channel sms").await;
    let line = says(&script, "\"event\":\"notification\"").await;
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["data"]["state"], &event["data"]["id"]), (&json!("delivered"), &json!(1)), "{event}");

    let address = api.url.trim_start_matches("http://").to_owned();
    api.program.stop().await;
    says(&people, "the connection is lost").await;
    let api = arena.start_api_with(&[("TOCSIN_API__LISTEN", &address)]).await;
    says(&people, "connected again").await;
    Terminal::new(&arena, &api).good(&["start", "osteria", "--notify", "console@+1h"]).await;
    says(&people, "request 2: start of osteria accepted").await;
    for (watching, signal) in [(people, Signal::INT), (script, Signal::TERM)] {
        watching.signal(signal);
        assert!(watching.ended(Duration::from_secs(10)).await.success());
    }
    let away =
        arena.start_with("tocsin", &["watch"], &[("TOCSIN_URL", "http://127.0.0.1:1"), ("TOCSIN_KEY", &api.key)]);
    assert_eq!(away.ended(Duration::from_secs(10)).await.code(), Some(69));
}

#[tokio::test]
async fn there_is_a_manual_page_for_each_command() {
    let arena = Arena::new().await;
    let folder = arena.workplace.dir().join("man");
    let folder = folder.to_str().unwrap();
    let missing = arena.run("tocsin", &["man", folder]).await;
    assert_eq!(missing.status.code(), Some(69));
    fs::create_dir(folder).unwrap();
    assert!(arena.run("tocsin", &["man", folder]).await.status.success());
    for (page, words) in [
        ("tocsin", "TOCSIN_KEY"),
        ("tocsin-start", "idempotency"),
        ("tocsin-requests-replay", "edited"),
        ("tocsin-list-notifications", "address"),
        ("tocsin-migrate", "schema"),
    ] {
        let text = fs::read_to_string(format!("{folder}/{page}.1")).unwrap();
        assert!(text.contains(words), "{page}: {text}");
    }
}

#[test]
fn the_key_is_no_argument_and_never_shown() {
    let key = format!("tocsin_00000000_{}", "5ec3e7".repeat(11));
    let mut command = Command::new(binary("tocsin"));
    command.args(["status"]).env_clear().env("TOCSIN_URL", "http://127.0.0.1:1").env("TOCSIN_KEY", &key);
    let run = command.output().unwrap();
    assert_eq!(run.status.code(), Some(64), "{run:?}");
    assert!(!format!("{run:?}").contains("5ec3e7"));
    let with_argument = Command::new(binary("tocsin")).args(["status", "--key", &key]).env_clear().output().unwrap();
    assert_eq!(with_argument.status.code(), Some(64));
}
