//! Each channel against its provider: what it sends, and what it makes of each kind of answer.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use testkit::{Arena, Program, wait_for};

/// A notification of a channel, to an address, to be sent at once.
fn notification(channel: &str, address: &str) -> Value {
    let mut notification = json!({"channel": channel, "at": 1});
    match channel {
        "phone" => notification["phone-number"] = address.into(),
        "sms" => {
            notification["phone-number"] = address.into();
            notification["message"] = "a new order".into();
        }
        "email" => notification["email"] = address.into(),
        "pubnub" => notification["pubnub-channel"] = address.into(),
        "webhook" => notification["url"] = address.into(),
        other => panic!("no such channel: {other}"),
    }
    notification
}

/// The outcomes of each address's attempts, in order.
async fn outcomes(arena: &Arena) -> BTreeMap<String, Vec<String>> {
    let rows = arena
        .database
        .texts(
            "SELECT t.address || ' ' || string_agg(a.outcome, ' ' ORDER BY a.number) FROM attempt a
             JOIN notification_content t USING (notification_id) GROUP BY notification_id, t.address",
        )
        .await;
    let outcomes = rows.iter().map(|row| {
        let mut words = row.split(' ').map(str::to_owned);
        (words.next().unwrap(), words.collect())
    });
    outcomes.collect()
}

/// Sends one notification to each of four addresses, of which the provider accepts the first, is busy for the second,
/// refuses the third and breaks the connection on the fourth, and judges what came of each.
async fn each_kind_of_answer(channel: &str, addresses: [&str; 4], permanent: u16) {
    let arena = Arena::new().await;
    let [accepted, busy, refused, broken] = addresses;
    // The simulator knows a webhook by its path.
    let path = |address: &str| address.strip_prefix("SIMULATOR").unwrap_or(address).to_owned();
    arena.simulator.set_rules(&json!([
        {"address": path(busy), "status": if channel == "email" { 450 } else { 503 }, "times": 1},
        {"address": path(refused), "status": permanent},
        {"address": path(broken), "drop": true, "times": 1},
    ]));
    let _programs = arena.start_all(&[channel]).await;
    let full = |address: &str| address.replace("SIMULATOR", &arena.simulator.url);
    let notifications: Vec<_> = addresses.iter().map(|address| notification(channel, &full(address))).collect();
    arena.start_process("r", &notifications);
    arena.notifications_in("delivered", 3, 30).await;
    arena.notifications_in("failed", 1, 5).await;
    let expected: BTreeMap<_, Vec<_>> = [
        (full(accepted), vec!["delivered"]),
        (full(busy), vec!["temporary", "delivered"]),
        (full(refused), vec!["permanent"]),
        (full(broken), vec!["unknown", "delivered"]),
    ]
    .into();
    assert_eq!(
        outcomes(&arena).await,
        expected.into_iter().map(|(a, o)| (a, o.into_iter().map(str::to_owned).collect())).collect()
    );
    assert_eq!(arena.simulator.arrivals().len(), 6, "and no call beyond those");
    let named = arena.database.count("SELECT count(*) FROM attempt WHERE outcome = 'delivered' AND provider_id <> ''");
    assert_eq!(named.await, 3, "the provider's id is kept");
}

#[tokio::test]
async fn sms_each_kind_of_answer() {
    each_kind_of_answer("sms", ["+385911", "+385912", "+385913", "+385914"], 400).await;
}

#[tokio::test]
async fn phone_each_kind_of_answer() {
    each_kind_of_answer("phone", ["+385911", "+385912", "+385913", "+385914"], 400).await;
}

#[tokio::test]
async fn email_each_kind_of_answer() {
    each_kind_of_answer("email", ["a@example.org", "b@example.org", "c@example.org", "d@example.org"], 550).await;
}

#[tokio::test]
async fn pubnub_each_kind_of_answer() {
    each_kind_of_answer("pubnub", ["ch-a", "ch-b", "ch-c", "ch-d"], 413).await;
}

#[tokio::test]
async fn webhook_each_kind_of_answer() {
    let addresses = ["SIMULATOR/webhook/a", "SIMULATOR/webhook/b", "SIMULATOR/webhook/c", "SIMULATOR/webhook/d"];
    each_kind_of_answer("webhook", addresses, 410).await;
}

/// The provider refuses the whole channel for a while: one notification is tried, the others wait, nobody loses an
/// attempt, and all go out as soon as it is mended.
async fn a_refused_channel(channel: &str, address: fn(usize) -> String, refusal: Value, words: &str) {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([refusal]));
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let name = format!("notifier-{channel}");
    let worker = arena.start_with(&name, &[], &[("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", "1")]).ready().await;
    let notifications: Vec<_> = (0..5).map(|n| notification(channel, &address(n))).collect();
    arena.start_process("r", &notifications);
    not_ready(&worker, words).await;
    let down = r#"tocsin_component_up{component="provider"} 0"#;
    assert!(worker.get("/metrics").await.1.contains(down), "and the metrics say so");
    arena.simulator.set_rules(&json!([]));
    arena.notifications_in("delivered", 5, 60).await;
    let tried = "SELECT count(*) FROM attempt WHERE outcome <> 'delivered'";
    let refused = "SELECT count(*) FROM attempt WHERE outcome = 'channel_down'";
    assert_eq!(arena.database.count(refused).await, arena.database.count(tried).await);
    assert!(arena.database.count(refused).await <= 4, "only probes went out");
    assert_eq!(arena.database.count("SELECT sum(attempts)::bigint FROM notification").await, 5, "no attempt is lost");
    let _worker = worker.ready().await;
}

async fn not_ready(worker: &Program, words: &str) {
    wait_for(&format!("not ready: {words}"), Duration::from_secs(20), || async {
        let (status, body) = worker.get("/health/ready").await;
        (status == 503 && body.contains(words)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn sms_a_refused_account() {
    let refusal = json!({"address": "*", "status": 401, "code": 20003});
    a_refused_channel("sms", |n| format!("+38591{n}"), refusal, "credentials were refused").await;
}

#[tokio::test]
async fn email_a_refused_login() {
    let refusal = json!({"address": "*", "status": 535, "stage": "login"});
    a_refused_channel("email", |n| format!("me{n}@example.org"), refusal, "the login was refused").await;
}

#[tokio::test]
async fn email_a_server_that_is_away() {
    let refusal = json!({"address": "*", "status": 421, "stage": "greeting"});
    a_refused_channel("email", |n| format!("me{n}@example.org"), refusal, "no session with the mail server").await;
}

#[tokio::test]
async fn pubnub_refused_keys() {
    let refusal = json!({"address": "*", "status": 400, "words": "Invalid Key"});
    a_refused_channel("pubnub", |n| format!("ch{n}"), refusal, "the keys were refused").await;
}

#[tokio::test]
async fn a_webhook_receiver_that_refuses_us_pauses_nobody_else() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "/webhook/closed", "status": 403, "times": 1}]));
    let programs = arena.start_all(&["webhook"]).await;
    let url = |path: &str| format!("{}/webhook/{path}", arena.simulator.url);
    arena.start_process("closed", &[notification("webhook", &url("closed"))]);
    arena.counted("SELECT count(*) FROM attempt WHERE outcome = 'channel_down'", 1, 10).await;
    let open: Vec<_> = (0..20).map(|n| notification("webhook", &url(&format!("open{n}")))).collect();
    arena.start_process("open", &open);
    arena.notifications_in("delivered", 20, 10).await;
    assert_eq!(programs[2].get("/health/ready").await.0, 200);
    // It is asked again later, and has lost no attempt.
    arena.notifications_in("delivered", 21, 45).await;
    assert_eq!(arena.database.count("SELECT max(attempts)::bigint FROM notification").await, 1);
}

#[tokio::test]
async fn a_provider_that_can_not_be_reached_costs_no_attempt() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let closed = ("TOCSIN_TWILIO__BASE_URL", "http://127.0.0.1:1");
    let worker = arena.start_with("notifier-sms", &[], &[closed]).ready().await;
    arena.start_process("r", &[notification("sms", "+385911")]);
    not_ready(&worker, "could not connect to Twilio").await;
    worker.stop().await;
    let _worker = arena.start("notifier-sms").await;
    arena.notifications_in("delivered", 1, 30).await;
    assert_eq!(arena.database.count("SELECT attempts::bigint FROM notification").await, 1);
}

/// One of two workers has lost its way to the provider: the other one does all the work, without delay.
#[tokio::test]
async fn a_worker_that_can_not_reach_its_provider_keeps_nothing_from_the_others() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let closed = ("TOCSIN_TWILIO__BASE_URL", "http://127.0.0.1:1");
    let broken = arena.start_with("notifier-sms", &[], &[closed]).ready().await;
    let texts: Vec<_> = (0..300).map(|n| notification("sms", &format!("+38591{n:04}"))).collect();
    arena.start_process("r", &texts);
    not_ready(&broken, "could not connect to Twilio").await;
    let _good = arena.start("notifier-sms").await;
    wait_for("most of them delivered", Duration::from_secs(20), || async {
        let delivered = "SELECT count(*) FROM notification WHERE state = 'delivered'";
        (arena.database.count(delivered).await >= 250).then_some(())
    })
    .await;
    // What the broken one had tried before it knew, and its probes, may meet it again.
    broken.stop().await;
    arena.notifications_in("delivered", 300, 90).await;
    assert_eq!(arena.database.count("SELECT max(attempts)::bigint FROM notification").await, 1);
}

#[tokio::test]
async fn what_each_channel_sends() {
    let arena = Arena::new().await;
    let _programs = arena.start_all(&["sms", "email", "pubnub", "webhook"]).await;
    let mut webhook = notification("webhook", &format!("{}/webhook/orders", arena.simulator.url));
    webhook["payload"] = json!({"order": 7});
    let mut pubnub = notification("pubnub", "orders ü");
    pubnub["payload"] = json!([1, 2]);
    let mut email = notification("email", "me@example.org");
    for (key, value) in [("subject", "Order 7"), ("body", "text"), ("html", "<b>html</b>"), ("bcc", "you@example.org")]
    {
        email[key] = value.into();
    }
    arena.start_process("pizzeria", &[notification("sms", "+385911"), email, pubnub, webhook]);
    arena.notifications_in("delivered", 4, 20).await;
    let arrivals = arena.simulator.arrivals();
    let of = |kind: &str| arrivals.iter().find(|arrival| arrival["kind"] == kind).unwrap();

    let sms = of("twilio-message");
    assert_eq!(sms["form"], json!({"To": "+385911", "From": "+15005550006", "Body": "a new order"}));
    assert_eq!(sms["path"], "/2010-04-01/Accounts/SID/Messages.json");

    let mail = of("mail");
    assert_eq!(mail["form"]["to"], "me@example.org, you@example.org");
    assert_eq!(mail["form"]["from"], "alarm@example.com");
    assert_eq!((&mail["authorization"], &mail["form"]["secure"]), (&json!("tocsin"), &json!("true")));
    let text = mail["body"].as_str().unwrap();
    for part in ["Subject: Order 7", "text/plain", "text/html", "<b>html</b>", "From: Tocsin <alarm@example.com>"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("you@example.org"), "a blind copy is seen by nobody: {text}");

    let published = of("pubnub");
    assert_eq!(
        published["path"],
        "/publish/pub-key-development/sub-key-development/0/orders%20%C3%BC/0?store=0&uuid=tocsin"
    );
    let body: Value = serde_json::from_str(published["body"].as_str().unwrap()).unwrap();
    assert_eq!((&body["process-id"], &body["payload"]), (&json!("pizzeria"), &json!([1, 2])));
    assert!(body["notification-id"].is_i64());

    // That its signature is right the simulator has checked, with the specification's own library.
    let posted = of("webhook");
    let body: Value = serde_json::from_str(posted["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["type"], "notification");
    assert_eq!((&body["data"]["process-id"], &body["data"]["payload"]), (&json!("pizzeria"), &json!({"order": 7})));
}

#[tokio::test]
async fn a_retry_is_known_by_its_message_id_and_webhook_id() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([
        {"address": "*@example.org", "status": 451, "stage": "end", "times": 1},
        {"address": "/webhook/*", "status": 503, "times": 1},
    ]));
    let _programs = arena.start_all(&["email", "webhook"]).await;
    let webhook = notification("webhook", &format!("{}/webhook/a", arena.simulator.url));
    arena.start_process("r", &[notification("email", "me@example.org"), webhook]);
    arena.notifications_in("delivered", 2, 30).await;
    let arrivals = arena.simulator.arrivals();
    let ids = |kind: &str, id: fn(&Value) -> String| -> Vec<String> {
        arrivals.iter().filter(|arrival| arrival["kind"] == kind).map(id).collect()
    };
    let message_ids = ids("mail", |mail| {
        let text = mail["body"].as_str().unwrap();
        text.lines().find(|line| line.starts_with("Message-ID: <")).unwrap().to_owned()
    });
    assert!(matches!(&message_ids[..], [first, second] if first == second), "{message_ids:?}");
    let webhook_ids = ids("webhook", |webhook| webhook["form"]["webhook-id"].as_str().unwrap().to_owned());
    assert!(matches!(&webhook_ids[..], [first, second] if first == second), "{webhook_ids:?}");
}

#[tokio::test]
async fn mail_goes_by_starttls_by_tls_from_the_first_byte_and_by_none() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let (smtp, smtps) = (arena.simulator.smtp.port().to_string(), arena.simulator.smtps.port().to_string());
    for (n, (tls, port, secure)) in
        (1..).zip([("starttls", &smtp, "true"), ("implicit", &smtps, "true"), ("none", &smtp, "false")])
    {
        let settings = [("TOCSIN_SMTP__TLS", tls), ("TOCSIN_SMTP__PORT", port)];
        let worker = arena.start_with("notifier-email", &[], &settings).ready().await;
        arena.start_process(tls, &[notification("email", "me@example.org")]);
        arena.notifications_in("delivered", n, 20).await;
        worker.stop().await;
        assert_eq!(arena.simulator.arrivals().last().unwrap()["form"]["secure"], secure, "{tls}");
    }
}

#[tokio::test]
async fn a_mail_server_that_nobody_vouches_for_gets_neither_password_nor_mail() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    for (tls, port) in [("starttls", arena.simulator.smtp), ("implicit", arena.simulator.smtps)] {
        let port = port.port().to_string();
        let settings = [("TOCSIN_SMTP__TLS", tls), ("TOCSIN_SMTP__PORT", port.as_str()), ("TOCSIN_SMTP__CA_FILE", "")];
        let worker = arena.start_with("notifier-email", &[], &settings).ready().await;
        arena.start_process(tls, &[notification("email", "me@example.org")]);
        not_ready(&worker, "TLS: invalid peer certificate: UnknownIssuer").await;
    }
    assert!(arena.simulator.arrivals().is_empty());
}

#[tokio::test]
async fn a_refused_copy_does_not_hold_up_the_mail() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "gone@example.org", "status": 550}]));
    let _programs = arena.start_all(&["email"]).await;
    let mut mail = notification("email", "me@example.org");
    mail["cc"] = json!(["gone@example.org", "you@example.org"]);
    arena.start_process("r", &[mail]);
    arena.notifications_in("delivered", 1, 20).await;
    let detail = arena.database.texts("SELECT detail FROM attempt").await;
    assert_eq!(detail, ["the mail server accepted the mail, but refused 1 of its copies"]);
    assert_eq!(arena.simulator.arrivals().last().unwrap()["form"]["to"], "me@example.org, you@example.org");
}

#[tokio::test]
async fn private_addresses_get_no_webhook_unless_that_is_allowed() {
    let arena = Arena::new().await;
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let settings = [("TOCSIN_WEBHOOK__ALLOW_PRIVATE", "false")];
    let _worker = arena.start_with("notifier-webhook", &[], &settings).ready().await;
    let port = arena.simulator.url.rsplit(':').next().unwrap();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "user:password@127.0.0.1",
    ];
    let urls: Vec<_> = hosts.iter().map(|host| format!("http://{host}:{port}/webhook/a")).collect();
    let notifications: Vec<_> = urls.iter().map(|url| notification("webhook", url)).collect();
    arena.start_process("r", &notifications);
    arena.notifications_in("failed", hosts.len() as i64, 20).await;
    assert!(arena.simulator.arrivals().is_empty());
    let reasons = arena.database.texts("SELECT DISTINCT reason FROM notification").await;
    assert!(matches!(&reasons[..], [reason] if reason.contains("private")), "{reasons:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "/webhook/moved", "status": 307, "location": "/webhook/elsewhere"}]));
    let _programs = arena.start_all(&["webhook"]).await;
    arena.start_process("r", &[notification("webhook", &format!("{}/webhook/moved", arena.simulator.url))]);
    arena.notifications_in("failed", 1, 20).await;
    let reason = arena.database.texts("SELECT reason FROM notification").await;
    assert_eq!(reason, ["the receiver: it answers with a redirect, which is not followed (HTTP 307)"]);
    assert_eq!(arena.simulator.arrivals().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_no_more_than_its_share_whatever_its_urls() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "/webhook/hang*", "hang": true}]));
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let settings = [("TOCSIN_NOTIFIER__MAX_IN_FLIGHT", "8"), ("TOCSIN_NOTIFIER__CALL_TIMEOUT_SECONDS", "3")];
    let _worker = arena.start_with("notifier-webhook", &[], &settings).ready().await;
    // Two names, and so two receivers, for the one simulator.
    let port = arena.simulator.url.rsplit(':').next().unwrap();
    let of = |host: &str, path: &str, n| notification("webhook", &format!("http://{host}:{port}/webhook/{path}{n}"));
    arena.start_process("bad", &(0..20).map(|n| of("localhost", "hang", n)).collect::<Vec<_>>());
    arena.notifications_in("sending", 2, 10).await;
    arena.start_process("good", &(0..40).map(|n| of("127.0.0.1", "good", n)).collect::<Vec<_>>());
    arena.notifications_in("delivered", 40, 20).await;
    let at_once = arena.database.count(
        "SELECT coalesce(max(n), 0) FROM (SELECT count(*) OVER (ORDER BY started_at RANGE BETWEEN interval '2.5 s'
         PRECEDING AND CURRENT ROW) AS n FROM attempt WHERE outcome = 'unknown') w",
    );
    assert!(at_once.await <= 2, "a quarter of 8 slots");
}

#[tokio::test]
async fn one_channel_that_is_busy_delays_no_other() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "+*", "status": 503}]));
    let _programs = arena.start_all(&["sms", "pubnub"]).await;
    let texts: Vec<_> = (0..500).map(|n| notification("sms", &format!("+38591{n:04}"))).collect();
    arena.start_process("busy", &texts);
    arena.counted("SELECT count(*) FROM attempt WHERE outcome = 'temporary'", 500, 20).await;
    let now = arena.now();
    let published = |n: i64| json!({"channel": "pubnub", "at": now + 4 + n % 5, "pubnub-channel": format!("ch{n}")});
    arena.start_process("other", &(0..200).map(published).collect::<Vec<_>>());
    arena.notifications_in("delivered", 200, 30).await;
    let late = "SELECT count(*) FROM attempt a JOIN notification n ON n.id = a.notification_id
                WHERE n.channel = 'pubnub' AND a.started_at > n.scheduled_at + interval '10 seconds'";
    assert_eq!(arena.database.count(late).await, 0);
}

#[tokio::test]
async fn on_unknown_fail_means_one_call_and_no_more() {
    let arena = Arena::new().await;
    arena.simulator.set_rules(&json!([{"address": "*", "drop": true}]));
    let _programs = arena.start_all(&["phone", "email"]).await;
    let mut notifications = [notification("phone", "+385911"), notification("email", "me@example.org")];
    notifications.iter_mut().for_each(|notification| notification["on-unknown"] = "fail".into());
    arena.start_process("r", &notifications);
    arena.notifications_in("failed", 2, 20).await;
    assert_eq!(arena.database.texts("SELECT DISTINCT outcome FROM attempt").await, ["unknown"]);
    assert_eq!(arena.simulator.arrivals().len(), 2);
    let reasons = arena.database.texts("SELECT DISTINCT reason FROM notification").await;
    assert_eq!(reasons, ["nobody can tell whether it was sent, and on-unknown is fail"]);
}
