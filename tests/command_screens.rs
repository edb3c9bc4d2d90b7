//! What the command `tocsin` shows of what real programs did, screen by screen.
//!
//! A screen that is to change is written anew by `INSTA_UPDATE=always cargo xtask test command_screens`.

use std::{process::Output, time::Duration};

use insta::{Settings, assert_snapshot};
use serde_json::{Value, json};
use testkit::{Api, Arena, wait_for};

/// Somebody at a terminal, with the API's address and a key.
pub(crate) struct Terminal<'a> {
    arena: &'a Arena,
    url: String,
    key: String,
}

impl<'a> Terminal<'a> {
    pub(crate) fn new(arena: &'a Arena, api: &Api) -> Self {
        Self { arena, url: api.url.clone(), key: api.key.clone() }
    }

    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { arena: self.arena, url: self.url.clone(), key: key.to_owned() }
    }

    pub(crate) fn at(&self, url: &str) -> Self {
        Self { arena: self.arena, url: url.to_owned(), key: self.key.clone() }
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let settings = [("TOCSIN_URL", self.url.as_str()), ("TOCSIN_KEY", &self.key), ("TOCSIN_DATABASE__URL", "")];
        self.arena.run_with("tocsin", arguments, &settings).await
    }

    /// What it prints, which must go well.
    pub(crate) async fn good(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments).await;
        assert!(run.status.success(), "{arguments:?}: {run:?}");
        String::from_utf8(run.stdout).unwrap()
    }

    /// What somebody sees who types this.
    async fn screen(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments).await;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let quoted = |word: &&str| if word.contains([' ', '(']) { format!("'{word}'") } else { (*word).to_owned() };
        let typed: Vec<_> = arguments.iter().map(quoted).collect();
        let code = run.status.code().unwrap();
        format!("$ tocsin {}\n{}{}(exit code {code})\n", typed.join(" "), text(&run.stdout), text(&run.stderr))
    }
}

/// The screen of a status that knows the broker's queues and who has which duty: a slow broker does not answer in time.
async fn status_of_all(terminal: &Terminal<'_>, arguments: &[&str]) -> String {
    wait_for("a status with the queues", Duration::from_secs(60), || async {
        Some(terminal.screen(arguments).await)
            .filter(|screen| !screen.contains("the broker's queues: ") && screen.contains("scheduler"))
    })
    .await
}

/// Puts something as wide in the place of what is another at each run.
fn steady() -> Settings {
    let mut settings = Settings::clone_current();
    for (what, instead) in [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "2026-11-22T12:00:00Z"),
        (r"Z  ( *\d+ (s|min) ago| {7}now\b)", "Z     7 s ago"),
        (r"Z \((\d+ s ago|now)\)", "Z (7 s ago)"),
        (r"Z  +in \d+ (s|min|h|days)\b", "Z   in 59 min"),
        (r"Z \(in \d+ (s|min|h|days)\)", "Z (in 59 min)"),
        (r"\d+ (min|h) from now", "59 min from now"),
        (r"called [\d.]+ \w+ after its time", "called 7 ms after its time"),
        (r"\b(\d\.\d\d s|\d\d s  )", "0.07 s"),
        (r"CA[0-9a-f]{32}", "CA000000000000000000000000000000ff"),
        (r"notifier-(\w+)@\S+", "notifier-$1@host:4711-5f3a"),
        (r"activator/\S+ \S+@\S+", "activator/0.1.0 1a2b3c4d@host"),
        (r"\b[0-9a-f]{8}\b", "1a2b3c4d"),
        (r"(127\.0\.0\.1|localhost):\d{5}\b", "$1:5000"),
        (r"(?m) \d+\.\d+\.\d+$", " 0.1.0"),
        (r"000000000000/t-\d+-\d+\.fifo", "000000000000/requests.fifo"),
        (r"FROM {20,}WHY", "FROM                            WHY"),
        (r"\.fifo +", ".fifo  "),
    ] {
        settings.add_filter(what, instead);
    }
    settings.set_snapshot_path("snapshots");
    settings.set_omit_expression(true);
    settings.set_prepend_module_to_snapshot(false);
    settings
}

macro_rules! screen {
    ($terminal:expr, $name:literal, $($argument:expr),+) => {
        let shown = $terminal.screen(&[$($argument),+]).await;
        steady().bind(|| assert_snapshot!($name, shown));
    };
}

/// A process one of whose people is reached at the second call, one has a wrong number, and one waits.
async fn ladder(arena: &Arena, terminal: &Terminal<'_>) {
    arena.simulator.set_rules(&json!([
        {"address": "+3851111111", "status": 404, "code": 21211},
        {"address": "+3852222222", "status": 503, "times": 1},
    ]));
    screen!(
        terminal,
        "start",
        "start",
        "pizzeria",
        "--notify",
        "phone:+3852222222@now",
        "--notify",
        "phone:+3851111111@now",
        "--notify",
        "email:boss@example.org@+1h",
        "--set",
        "subject=A new order",
        "--idempotency-key",
        "order-4711"
    );
    arena.notifications_in("failed", 1, 20).await;
    arena.notifications_in("delivered", 1, 30).await;
}

#[tokio::test]
async fn a_process_and_its_notifications() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _programs = arena.start_all(&["phone"]).await;
    let terminal = Terminal::new(&arena, &api);
    screen!(terminal, "list_processes_none", "list", "processes");
    ladder(&arena, &terminal).await;
    screen!(terminal, "start_ignored", "start", "pizzeria", "--notify", "console@now");
    screen!(terminal, "show", "show", "pizzeria");
    screen!(terminal, "explain", "explain", "2");
    screen!(terminal, "list_processes", "list", "processes");
    screen!(terminal, "list_notifications", "list", "notifications", "--process-id", "pizzeria", "--limit", "3");
    screen!(terminal, "list_notifications_none", "list", "notifications", "--state", "sending");
    let reader = terminal.with_key(&arena.make_key("read").await);
    screen!(reader, "show_without_addresses", "show", "pizzeria");
    let status = status_of_all(&terminal, &["status", "--minutes", "5"]).await;
    steady().bind(|| assert_snapshot!("status_problems", status));
    screen!(terminal, "stop", "stop", "pizzeria");
    screen!(terminal, "stop_ignored", "stop", "pizzeria");
    screen!(terminal, "requests", "requests", "--process-id", "pizzeria");
}

#[tokio::test]
async fn what_failed_and_what_was_done_about_it() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _programs = arena.start_all(&["phone"]).await;
    let terminal = Terminal::new(&arena, &api);
    screen!(terminal, "failures_none", "failures");
    let status = status_of_all(&terminal, &["status"]).await;
    steady().bind(|| assert_snapshot!("status_well", status));
    arena.simulator.set_rules(&json!([{"address": "+3851111111", "status": 404, "code": 21211}]));
    for process in ["pizzeria", "osteria", "trattoria"] {
        terminal.good(&["start", process, "--notify", "phone:+3851111111@now"]).await;
    }
    arena.notifications_in("failed", 3, 20).await;
    let failures = terminal.screen(&["failures"]).await;
    // Which of them failed last is chance.
    let failures = failures.replace("1 2 3", "[ids]");
    let newest = ["3 2 1", "2 3 1", "3 1 2", "1 3 2", "2 1 3"].iter();
    let failures = newest.fold(failures, |text, ids| text.replace(ids, "[ids]"));
    steady().bind(|| assert_snapshot!("failures", failures));
    let groups: Value = serde_json::from_str(&terminal.good(&["failures", "--json"]).await).unwrap();
    let cause = groups["cause"].as_str().unwrap();
    screen!(terminal, "retry_many_dry", "retry", "--channel", "phone", "--cause", cause, "--dry-run");
    screen!(terminal, "edit", "edit", "1", "--set", "phone-number=+3852222222", "--unset", "url");
    screen!(terminal, "retry", "retry", "1");
    arena.notifications_in("delivered", 1, 20).await;
    screen!(terminal, "retry_twice", "retry", "1");
    screen!(terminal, "give_up", "give-up", "2");
    screen!(terminal, "give_up_twice", "give-up", "2");
    screen!(terminal, "explain_mended", "explain", "1");
    screen!(terminal, "explain_given_up", "explain", "2");
    terminal.run(&["stop", "trattoria"]).await;
    screen!(terminal, "retry_many", "retry", "--process-id", "trattoria", "--rate", "5");
    screen!(terminal, "audit", "audit", "--limit", "3");
    let junk =
        json!({"properties": {}, "routing_key": "notify.phone", "payload": "junk", "payload_encoding": "string"});
    arena.vhost.ask("POST", "exchanges", "/amq.default/publish", Some(&junk));
    arena.counted("SELECT count(*) FROM dead_letter", 1, 20).await;
    screen!(terminal, "list_dead_letters", "list", "dead-letters");
    screen!(terminal, "audit_of_one", "audit", "--object", "notification 2");
}

#[tokio::test]
async fn requests_that_were_refused() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _bridge = arena.start("bridge").await;
    let terminal = Terminal::new(&arena, &api);
    arena.queue.send(
        "osteria",
        "{\"process-id\": \"osteria\",\n \"action\": \"start\", \"notifications\": [{\"channel\": \"fax\"}]}",
    );
    arena.requests_recorded(1).await;
    screen!(terminal, "requests_rejected", "requests", "--outcome", "rejected");
    screen!(terminal, "requests_show", "requests", "show", "1");
    screen!(terminal, "requests_replay_same", "requests", "replay", "1");
    let edited = arena.workplace.dir().join("edited.json");
    let body = json!({"process-id": "osteria", "action": "start", "notifications": [{"channel": "console", "at": 1}]});
    std::fs::write(&edited, body.to_string()).unwrap();
    let replayed = terminal.good(&["requests", "replay", "1", "--file", edited.to_str().unwrap()]).await;
    steady().bind(|| assert_snapshot!("requests_replay_edited", replayed));
    screen!(terminal, "requests_replay_accepted", "requests", "replay", "3");
}

#[tokio::test]
async fn what_would_become_of_a_ladder() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let terminal = Terminal::new(&arena, &api);
    screen!(
        terminal,
        "simulate",
        "simulate",
        "--notify",
        "phone:+3851111111@now",
        "--notify",
        "email:boss@example.org@+2m",
        "--notify",
        "sms:+3851111111@+5m",
        "--set",
        "message=A new order",
        "--provider",
        "phone: 503 twice, 400",
        "--provider",
        "email: timeout",
        "--stop-at",
        "+4m"
    );
    let order = arena.workplace.dir().join("order.json");
    let body = r#"{"process-id": "pizzeria", "action": "start", "notifications": [{"channel": "console", "at": 1},],}"#;
    std::fs::write(&order, body).unwrap();
    let simulated = terminal.good(&["simulate", "--file", order.to_str().unwrap()]).await;
    steady().bind(|| assert_snapshot!("simulate_file", simulated));
    let simulated: Value =
        serde_json::from_str(&terminal.good(&["simulate", "--notify", "console@now", "--json"]).await).unwrap();
    assert_eq!(simulated["notifications"][0]["state"], "delivered", "{simulated}");
    screen!(
        terminal,
        "error_bad_answer",
        "simulate",
        "--notify",
        "phone:12@now",
        "--provider",
        "phone: 503 5000 times",
        "--provider",
        "fax: timeout"
    );
    assert_eq!(arena.database.count("SELECT count(*) FROM request").await, 0, "nothing is kept");
}

#[tokio::test]
async fn schedules_and_who_starts_what_they_say() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let terminal = Terminal::new(&arena, &api);
    screen!(terminal, "leases_none", "leases");
    screen!(terminal, "schedule_list_none", "schedule", "list");
    screen!(
        terminal,
        "schedule_create",
        "schedule",
        "create",
        "daily",
        "--cron",
        "0 9 * * *",
        "--cron",
        "30 10 * * *",
        "--time-zone",
        "Europe/Zagreb",
        "--notify",
        "phone:+3851111111@+2m",
        "--missed",
        "last",
        "--overlap",
        "skip"
    );
    let file = arena.workplace.dir().join("daily.json");
    let request = json!({"process-id": "{{ schedule.name }}", "notifications": [{"channel": "console", "in": 60, "message": "x"}]});
    let body = json!({"name": "hourly", "owner": "ops", "external-id": "4711", "lines": [{"cron": "@hourly"}],
        "until": "2100-01-01T00:00:00Z", "request": request});
    std::fs::write(&file, body.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let made = terminal.good(&["schedule", "create", "--file", file]).await;
    steady().bind(|| assert_snapshot!("schedule_create_file", made));
    screen!(terminal, "schedule_show", "schedule", "show", "daily");
    screen!(terminal, "schedule_pause", "schedule", "pause", "2");
    screen!(terminal, "schedule_show_paused", "schedule", "show", "hourly");
    screen!(terminal, "schedule_trigger", "schedule", "trigger", "hourly");
    screen!(terminal, "schedule_trigger_ignored", "schedule", "trigger", "hourly");
    screen!(terminal, "schedule_list", "schedule", "list");
    screen!(terminal, "schedule_resume", "schedule", "resume", "hourly");
    let edited = terminal.good(&["schedule", "edit", "2", "--file", file]).await;
    steady().bind(|| assert_snapshot!("schedule_edit", edited));
    let range = ["--from", "2026-11-01T00:00:00Z", "--until", "2026-11-02T00:00:00Z"];
    screen!(terminal, "schedule_backfill_none", "schedule", "backfill", "1", range[0], range[1], range[2], range[3]);
    screen!(terminal, "schedule_delete", "schedule", "delete", "hourly");
    screen!(terminal, "schedule_delete_twice", "schedule", "delete", "hourly");
    screen!(terminal, "schedule_no_number", "schedule", "show", "99");
    screen!(
        terminal,
        "schedule_bad_line",
        "schedule",
        "create",
        "x",
        "--cron",
        "0 25 * * *",
        "--notify",
        "console@now"
    );
    screen!(terminal, "schedule_bad_policy", "schedule", "create", "--missed", "some");
    let _activator = arena.start("activator").await;
    arena.counted("SELECT count(*) FROM lease", 1, 20).await;
    screen!(terminal, "leases", "leases");
}

#[tokio::test]
async fn a_schedule_with_what_went_wrong_last() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let terminal = Terminal::new(&arena, &api);
    let _programs = arena.start_all(&["phone"]).await;
    arena.simulator.set_rules(&json!([{"address": "+3851111111", "status": 400, "code": 21211}]));
    let rung = ["--notify", "phone:+3851111111@now"];
    let create = ["schedule", "create", "drill", "--cron", "@yearly", "--process-id", "{{ schedule.name }}"];
    terminal.good(&[create.as_slice(), rung.as_slice()].concat()).await;
    terminal.good(&["schedule", "trigger", "drill"]).await;
    arena.notifications_in("failed", 1, 20).await;
    arena
        .database
        .execute("UPDATE schedule SET request = jsonb_set(request, '{notifications,0,phone-number}', '\"12\"')")
        .await;
    let rejected = terminal.run(&["schedule", "trigger", "drill"]).await;
    assert_eq!(rejected.status.code(), Some(1), "{rejected:?}");
    screen!(terminal, "schedule_show_failures", "schedule", "show", "drill");
}

#[tokio::test]
async fn what_goes_wrong_is_said_with_what_to_do() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let terminal = Terminal::new(&arena, &api);
    screen!(terminal.with_key(""), "error_no_key", "status");
    screen!(terminal.with_key("hush"), "error_malformed_key", "status");
    let wrong = format!("tocsin_00000000_{}", "0".repeat(64));
    screen!(terminal.with_key(&wrong), "error_wrong_key", "status");
    let sender = terminal.with_key(&arena.make_key("send").await);
    screen!(sender, "error_forbidden", "status");
    screen!(terminal.at("http://127.0.0.1:1"), "error_api_away", "list", "processes");
    screen!(terminal.at(&arena.simulator.url), "error_no_api", "list", "processes");
    screen!(terminal.at("ftp://me:pass@host/?x"), "error_bad_url", "list", "processes");
    screen!(
        sender,
        "error_bad_fields",
        "start",
        "pizzeria",
        "--notify",
        "phone:12@now",
        "--notify",
        "sms:+3851111111@now"
    );
    screen!(terminal, "error_bad_time", "start", "pizzeria", "--notify", "phone:+3851111111@soon");
    screen!(terminal, "error_no_ladder", "start", "pizzeria");
    screen!(terminal, "error_bad_limit", "list", "notifications", "--limit", "0");
    screen!(terminal, "error_unknown_process", "show", "nobody");
    screen!(terminal, "error_unknown_notification", "explain", "999");
    screen!(terminal, "error_retry_of_what", "retry", "--dry-run");
    screen!(terminal, "error_no_file", "start", "--file", "/nonexistent.json");
    screen!(terminal, "error_name_of_dots", "show", "..");
}

#[tokio::test]
async fn help_is_there_for_each() {
    let arena = Arena::new().await;
    let terminal = Terminal { arena: &arena, url: String::new(), key: String::new() };
    screen!(terminal, "help", "--help");
    screen!(terminal, "help_start", "start", "--help");
    screen!(terminal, "help_retry", "retry", "--help");
    screen!(terminal, "help_simulate", "simulate", "--help");
    screen!(terminal, "help_schedule", "schedule", "--help");
    screen!(terminal, "help_schedule_create", "schedule", "create", "--help");
}
