//! The command `tocsin`, as an operator types it.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use testkit::Arena;

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn test_follows_a_notification_through_the_whole_path() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "+1*", "status": 400, "code": 21211}]));
    let _programs = arena.start_all(&["phone", "sms"]).await;
    let test = arena.run("tocsin", &["test", "phone", "+3851111111"]).await;
    assert!(test.status.success(), "{test:?}");
    for step in
        ["to the queue", "call 1: delivered: Twilio accepted the call, as CA", "delivered: the provider accepted it"]
    {
        assert!(out(&test).contains(step), "{step}: {}", out(&test));
    }
    let test = arena.run("tocsin", &["test", "sms", "+3851111111", "--set", "message=a try"]).await;
    assert!(test.status.success(), "{test:?}");
    assert_eq!(arena.simulator.arrivals().last().unwrap()["form"]["Body"], "a try");

    let test = arena.run("tocsin", &["test", "phone", "+1555"]).await;
    assert_eq!(test.status.code(), Some(1));
    assert!(err(&test).contains("failed: Twilio: the number called is not valid"), "{test:?}");
}

#[tokio::test]
async fn test_says_what_is_wrong_with_its_arguments_and_sends_nothing() {
    let arena = Arena::new().await;
    for (arguments, words) in [
        (vec!["test", "pigeon", "x"], "channel: must be one of phone"),
        (vec!["test", "phone", "12"], "phone-number: must be an E.164 number"),
        (vec!["test", "phone"], "channel phone needs an address"),
        (vec!["test", "console", "x"], "channel console has no addresses"),
        (vec!["test", "email", "me@example.org", "--set", "cc=x"], "cc: must be one e-mail address"),
    ] {
        let test = arena.run("tocsin", &arguments).await;
        assert_eq!(test.status.code(), Some(1), "{arguments:?}");
        assert!(err(&test).contains(words), "{arguments:?}: {}", err(&test));
    }
    assert_eq!(arena.queue.depth(), 0);
}

#[tokio::test]
async fn test_says_who_may_be_missing() {
    let arena = Arena::new().await;
    let bridge_is_missing = arena.run("tocsin", &["test", "console", "--timeout", "10"]).await;
    assert_eq!(bridge_is_missing.status.code(), Some(69));
    assert!(out(&bridge_is_missing).contains("does the bridge run"), "{bridge_is_missing:?}");
    let _programs = arena.start_all(&[]).await;
    let worker_is_missing = arena.run("tocsin", &["test", "console", "--timeout", "18"]).await;
    assert!(out(&worker_is_missing).contains("does notifier-console run"), "{worker_is_missing:?}");
    arena.run("tocsin", &["pause", "all", "--reason", "we are moving"]).await;
    let paused = arena.run("tocsin", &["test", "console", "--timeout", "18"]).await;
    assert!(out(&paused).contains("all is paused by ") && out(&paused).contains("we are moving"), "{paused:?}");
}

#[tokio::test]
async fn check_contacts_everything_and_sends_nothing() {
    let arena = Arena::new().await;
    let check = arena.run("tocsin", &["check"]).await;
    assert!(check.status.success(), "{}", out(&check));
    for words in [
        "bridge\n",
        "activator\n",
        "notifier-phone\n",
        "notifier-console\n",
        "database   answers, and its schema is up to date",
        "sqs        the queue answers, and has about 0 messages",
        "broker     answers, and has the 5 exchanges and queues",
        "provider   Twilio answers, and knows the account",
        "answers, and takes the login",
        "provider   PubNub answers",
        "provider   the secret is good",
    ] {
        assert!(out(&check).contains(words), "{words}: {}", out(&check));
    }
    assert!(!out(&check).contains("WRONG"));
    assert!(arena.simulator.arrivals().is_empty(), "nothing was sent");
    assert_eq!(arena.queue.depth(), 0);
}

#[tokio::test]
async fn check_says_what_is_wrong_and_how_to_mend_it() {
    let arena = Arena::new().await;
    arena.vhost.ask("DELETE", "queues", "/notify.sms", None);
    arena.run("tocsin", &["pause", "pubnub"]).await;
    let settings = [
        ("TOCSIN_SQS__QUEUE_URL", "http://127.0.0.1:1/000000000000/nothing.fifo"),
        ("TOCSIN_SQS__ENDPOINT_URL", "http://127.0.0.1:1"),
        ("TOCSIN_TWILIO__ACCOUNT_SID", ""),
        ("TOCSIN_TWILIO__AUTH_TOKEN", ""),
        ("TOCSIN_TWILIO__URL", ""),
        ("TOCSIN_SMTP__CA_FILE", ""),
        ("TOCSIN_WEBHOOK__SECRET", "hush"),
    ];
    let check = arena.run_with("tocsin", &["check", "--json"], &settings).await;
    assert_eq!(check.status.code(), Some(69));
    let results: Vec<Value> = out(&check).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let result = |program: &str, check: &str| {
        results.iter().find(|result| result["program"] == program && result["check"] == check).cloned().unwrap()
    };
    for (program, check, problem, mend) in [
        ("bridge", "sqs", "", "AWS_REGION"),
        ("notifier-email", "provider", "UnknownIssuer", "notifier-email --help"),
        ("notifier-webhook", "configuration", "must be whsec_", "--help"),
        ("notifier-pubnub", "channel", "pubnub is paused by ", "tocsin resume pubnub"),
        // Nobody has said that there is to be a phone.
        ("notifier-phone", "not configured", "TOCSIN_TWILIO__ACCOUNT_SID", "--help"),
    ] {
        let result = result(program, check);
        let has = |key: &str, words: &str| result[key].as_str().unwrap().contains(words);
        assert!(result["ok"] == false && has("detail", problem) && has("mend", mend), "{result}");
    }
    assert!(!out(&check).contains("hush"));

    let sms = arena.run("tocsin", &["check", "notifier-sms"]).await;
    assert_eq!(sms.status.code(), Some(69));
    assert!(out(&sms).contains("queue notify.sms is missing: import rabbitmq/definitions.json"), "{}", out(&sms));
    let unwanted = arena.run_with("tocsin", &["check", "notifier-phone"], &settings[2..5]).await;
    assert_eq!(unwanted.status.code(), Some(69), "one that is named is wanted");
    let half = [("TOCSIN_TWILIO__AUTH_TOKEN", ""), ("TOCSIN_TWILIO__URL", "")];
    let half = arena.run_with("tocsin", &["check"], &half).await;
    assert_eq!(half.status.code(), Some(69), "one of which something is set is wanted");
    assert!(out(&half).contains("configuration TOCSIN_TWILIO__AUTH_TOKEN"), "{}", out(&half));
}

#[tokio::test]
async fn a_channel_of_which_nobody_has_set_a_thing_is_not_wrong() {
    let arena = Arena::new().await;
    // SNS has nothing that must be set: AWS's tools find credentials in many places, or nowhere.
    let nowhere = arena.workplace.dir().join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    let without = [
        ("TOCSIN_SNS__ENDPOINT_URL", ""),
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", nowhere),
        ("AWS_SHARED_CREDENTIALS_FILE", nowhere),
    ];
    let named = arena.run_with("tocsin", &["check", "notifier-sns"], &without).await;
    assert_eq!(named.status.code(), Some(69), "one that is named is wanted");
    assert!(out(&named).contains("not configured no credentials were found"), "{}", out(&named));
    let of_all = arena.run_with("tocsin", &["check"], &without).await;
    let sns = out(&of_all).split("\n\n").find(|part| part.starts_with("notifier-sns")).unwrap().to_owned();
    assert_eq!(sns, "notifier-sns\n  -      its provider is not configured");
    // The bridge needs credentials for its queue, and says so itself.
    assert_eq!(out(&of_all).matches("WRONG").count(), 1, "{}", out(&of_all));
    assert!(out(&of_all).contains("WRONG  sqs"), "{}", out(&of_all));

    // Who names an endpoint wants it.
    let endpoint = [&without[1..], &[("TOCSIN_SNS__ENDPOINT_URL", arena.queue.endpoint.as_str())]].concat();
    let wanted = arena.run_with("tocsin", &["check"], &endpoint).await;
    assert!(out(&wanted).contains("WRONG  provider   nothing could be sent to SNS"), "{}", out(&wanted));
}

#[tokio::test]
async fn a_program_away_is_told_by_check() {
    let arena = Arena::new().await;
    let away = [
        ("TOCSIN_DATABASE__URL", "postgres://nobody:pass-word@127.0.0.1:1/nowhere"),
        ("TOCSIN_BROKER__URL", "amqp://nobody:pass-word@127.0.0.1:1/tocsin"),
    ];
    let check = arena.run_with("tocsin", &["check", "activator"], &away).await;
    assert_eq!(check.status.code(), Some(69));
    assert_eq!(out(&check).matches("WRONG").count(), 2, "{}", out(&check));
    assert!(!out(&check).contains("pass-word"));
    let nowhere = "http://127.0.0.1:1";
    let away = [("TOCSIN_TWILIO__BASE_URL", nowhere), ("TOCSIN_PUBNUB__SERVICE_URL", nowhere)];
    let names = ["check", "notifier-phone", "notifier-sms", "notifier-pubnub"];
    let check = arena.run_with("tocsin", &names, &away).await;
    assert_eq!(out(&check).matches("could not connect to Twilio").count(), 2, "{}", out(&check));
    assert_eq!(out(&check).matches("could not connect to PubNub").count(), 1, "{}", out(&check));
}

#[tokio::test]
async fn migrate_makes_the_schema_once_and_tolerates_a_newer_one() {
    let arena = Arena::new().await;
    let fresh = arena.database.create_empty().await;
    let settings = [("TOCSIN_DATABASE__URL", fresh.url())];
    // Several at once, as programs that are started together may do it: each waits for the other.
    let migrate = || arena.run_with("tocsin", &["migrate"], &settings);
    let (first, second, third) = tokio::join!(migrate(), migrate(), migrate());
    assert!([&first, &second, &third].iter().all(|run| run.status.success()), "{first:?} {second:?} {third:?}");
    assert!([first, second, third].iter().any(|run| out(run).contains("applied 20261121220000 thread")));
    let again = arena.run_with("tocsin", &["migrate"], &settings).await;
    assert_eq!(out(&again), "the schema is up to date\n");
    // A newer version has been here.
    fresh.execute("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (29990101000000, 'later', true, '', 0)").await;
    let older = arena.run_with("tocsin", &["migrate"], &settings).await;
    assert_eq!(out(&older), "the schema is up to date\n", "{older:?}");
}

#[tokio::test]
async fn the_caller_ids_are_set_shown_and_tried() {
    let arena = Arena::new().await;
    let registry = r#"{"+385": "+38514445555", "+3859": "+385911", "default": "+15005550006"}"#;
    assert!(arena.run("tocsin", &["caller-id", "set", registry]).await.status.success());
    let shown = arena.run("tocsin", &["caller-id", "get"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out(&shown)).unwrap(), serde_json::from_str::<Value>(registry).unwrap());
    for (number, caller) in [("+385111", "+38514445555"), ("+385922", "+385911"), ("+44555", "+15005550006")] {
        assert_eq!(out(&arena.run("tocsin", &["caller-id", "test", number]).await).trim(), caller);
    }
    for bad in [r#"{"385": "+1"}"#, "[]", "null", "{", r#"{"+385": "none"}"#, r#"{"+385": 7}"#] {
        let refused = arena.run("tocsin", &["caller-id", "set", bad]).await;
        assert_eq!(refused.status.code(), Some(1), "{bad}");
        assert!(err(&refused).contains("nothing was changed"), "{refused:?}");
    }
    assert!(arena.run("tocsin", &["caller-id", "set", r#"{"+385": "+38514445555"}"#]).await.status.success());
    let nobody = arena.run("tocsin", &["caller-id", "test", "+44555"]).await;
    assert_eq!(nobody.status.code(), Some(1));
}

#[tokio::test]
async fn pauses_are_shown_and_lifted() {
    let arena = Arena::new().await;
    assert_eq!(out(&arena.run("tocsin", &["pause"]).await), "nothing is paused\n");
    arena.run("tocsin", &["pause", "phone", "--reason", "a reason", "--by", "maria"]).await;
    arena.run("tocsin", &["pause", "all"]).await;
    let shown = out(&arena.run("tocsin", &["pause"]).await);
    assert!(
        shown.contains("phone is paused by maria since ")
            && shown.contains(": a reason")
            && shown.contains("all is paused"),
        "{shown}"
    );
    let phone = out(&arena.run("tocsin", &["resume", "phone"]).await);
    assert!(phone.contains("phone: goes on") && phone.contains("but all is paused"), "{phone}");
    arena.run("tocsin", &["resume", "all"]).await;
    let not_paused = arena.run("tocsin", &["resume", "sms"]).await;
    assert_eq!(not_paused.status.code(), Some(1));
    let unknown = arena.run("tocsin", &["pause", "pigeon"]).await;
    assert!(!unknown.status.success() && err(&unknown).contains("phone"), "{unknown:?}");
}

#[tokio::test]
async fn ready_asks_a_health_endpoint() {
    let arena = Arena::new().await;
    let bridge = arena.start("bridge").await;
    let url = format!("http://{}/health/ready", bridge.health_address().await);
    let ready = arena.run("tocsin", &["ready", "--url", &url]).await;
    assert!(ready.status.success() && out(&ready).contains("\"ready\""), "{ready:?}");
    bridge.kill();
    assert_eq!(arena.run("tocsin", &["ready", "--url", &url]).await.status.code(), Some(69));
}

#[test]
fn help_teaches_and_completions_complete() {
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(testkit::binary("tocsin"));
        command.args(arguments).env_clear().stdin(Stdio::null()).output().unwrap()
    };
    let help = out(&run(&["--help"]));
    for command in ["migrate", "check", "test", "pause", "resume", "caller-id", "completions", "Exit codes"] {
        assert!(help.contains(command), "{command}");
    }
    assert_eq!(out(&run(&["--version"])), format!("tocsin {}\n", env!("CARGO_PKG_VERSION")));
    assert!(out(&run(&["completions", "bash"])).contains("caller-id"));
    let wrong = run(&["migrate"]);
    assert_eq!(wrong.status.code(), Some(64));
    assert!(err(&wrong).contains("TOCSIN_DATABASE__URL (database.url): is required"));
}

/// roesc's own names, and nothing else but where the simulators are.
#[tokio::test]
async fn an_environment_made_for_roesc_is_understood() {
    let arena = Arena::new().await;
    let (_, place) = arena.database.url().split_once('@').unwrap();
    let (server, name) = place.split_once('/').unwrap();
    let (host, port) = server.split_once(':').unwrap();
    let smtp = arena.simulator.smtp.port().to_string();
    let ours = |program: &str| arena.vhost.url(program);
    let settings = |program: &str| {
        let broker = ours(program);
        [
            ("TOCSIN_BROKER__URL", broker),
            ("TOCSIN_SQS__ENDPOINT_URL", arena.queue.endpoint.clone()),
            // roesc knew no other scheme than https.
            ("TOCSIN_TWILIO__BASE_URL", arena.simulator.url.clone()),
            ("TOCSIN_HEALTH__LISTEN", "127.0.0.1:0".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("REQUEST_QUEUE", arena.queue.url.clone()),
            ("SQS_READ_WAIT_TIME_SECONDS", "1".to_owned()),
            ("MAX_CALLING_THREADS", "2".to_owned()),
            ("MAX_SMTP_THREADS", "2".to_owned()),
            ("MAX_PUBNUB_THREADS", "2".to_owned()),
            ("MAX_NOTIFIER_THREADS", "2".to_owned()),
            ("INITIATOR_MAX_RUN_TIME_MILLIS", "2".to_owned()),
            ("DB_HOST", host.to_owned()),
            ("DB_PORT", port.to_owned()),
            ("DB_NAME", name.to_owned()),
            ("DB_USER", program.to_owned()),
            ("DB_PASSWORD", format!("{program}-development")),
            ("TWILIO_ACCOUNT_SID", "ROESC".to_owned()),
            ("TWILIO_AUTH_TOKEN", "roesc-token".to_owned()),
            ("TWILIO_URL", "http://example.org/roesc.xml".to_owned()),
            ("SMTP_HOST", "localhost".to_owned()),
            ("SMTP_PORT", smtp.clone()),
            ("SMTP_USERNAME", "roesc".to_owned()),
            ("SMTP_PASSWORD", "roesc-password".to_owned()),
            ("MAIL_FROM", "roesc@example.com".to_owned()),
            ("MAIL_SUBJECT", "roesc's subject".to_owned()),
            ("MAIL_BODY", "roesc's body".to_owned()),
            ("PUBNUB_SERVICE_URL", arena.simulator.url.clone()),
            ("PUBNUB_UUID", "roesc-uuid".to_owned()),
            ("PUBNUB_PUB_KEY", "roesc-pub".to_owned()),
            ("PUBNUB_SUB_KEY", "roesc-sub".to_owned()),
        ]
    };
    let mut programs = Vec::new();
    for name in ["bridge", "activator", "notifier-phone", "notifier-email", "notifier-pubnub"] {
        programs.push(arena.start_only_with(name, &settings(name)).ready().await);
    }
    arena.start_process(
        "r",
        &[
            json!({"channel": "phone", "at": 1, "phone-number": "+3851111111"}),
            json!({"channel": "email", "at": 1, "email": "me@example.org"}),
            json!({"channel": "pubnub", "at": 1, "pubnub-channel": "ch13234"}),
        ],
    );
    arena.notifications_in("delivered", 3, 20).await;
    let arrivals = arena.simulator.arrivals();
    let of = |kind: &str| arrivals.iter().find(|arrival| arrival["kind"] == kind).unwrap();
    let call = of("twilio-call");
    assert_eq!(call["path"], "/2010-04-01/Accounts/ROESC/Calls.json");
    assert_eq!(
        call["body"],
        "Method=GET&To=%2B3851111111&From=%2B15005550006&Url=http%3A%2F%2Fexample.org%2Froesc.xml"
    );
    let mail = of("mail");
    assert_eq!((&mail["authorization"], &mail["form"]["secure"]), (&json!("roesc"), &json!("false")));
    let text = mail["body"].as_str().unwrap();
    assert!(
        text.contains("Subject: roesc's subject")
            && text.contains("roesc's body")
            && text.contains("From: roesc@example.com"),
        "{text}"
    );
    assert_eq!(of("pubnub")["path"], "/publish/roesc-pub/roesc-sub/0/ch13234/0?store=0&uuid=roesc-uuid");
    let log = programs[2].output().join("\n");
    for name in ["INITIATOR_MAX_RUN_TIME_MILLIS", "MAX_NOTIFIER_THREADS"] {
        assert!(log.contains(&format!("{name} has no meaning here")), "{log}");
    }
    assert!(!log.contains("roesc-token") && !log.contains("roesc-password"));
}

#[tokio::test]
async fn a_settings_file_serves_the_command_too() {
    let arena = Arena::new().await;
    let file: PathBuf = arena.workplace.dir().join("tocsin.toml");
    std::fs::write(&file, format!("[database]\nurl = \"{}\"\n", arena.database.url())).unwrap();
    let mut command = tokio::process::Command::new(testkit::binary("tocsin"));
    command.args(["--config", file.to_str().unwrap(), "migrate"]).env_clear().stdin(Stdio::null());
    let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await.unwrap().unwrap();
    assert_eq!(out(&output), "the schema is up to date\n", "{output:?}");
}
