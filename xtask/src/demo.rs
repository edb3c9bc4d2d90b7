use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{interrupt::Interrupt, stage::Stage};

/// How long the samples may take: one call is tried again after five seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Sends sample requests and follows them to their end.
pub(crate) fn play(stage: &Stage, interrupt: &Interrupt) -> Result<()> {
    let postgres = &stage.servers.postgres;
    postgres.ask(
        "tocsin",
        "INSERT INTO property (key, value)
         VALUES ('caller-id-registry', '{\"+385\": \"+38514445555\", \"default\": \"+15005550006\"}')
         ON CONFLICT (key) DO NOTHING",
    )?;
    let rules = json!([{"address": "+385912222222", "status": 503, "times": 1}]);
    ureq::put(format!("{}/simulator/rules", stage.simulator_url)).send_json(rules)?;
    println!(
        "Three restaurants have new orders. Nobody at the first confirms, so its whole ladder goes out; the second finds \
         Twilio busy at first; the third confirms in time.\n"
    );
    let (now, before) = (now(), newest_notification(stage)?);
    // Time for the requests to get there first, so that the ladders go out in their order.
    let at = |seconds: u64| now + 2 + seconds;
    let call = |seconds, number: &str| json!({"channel": "phone", "at": at(seconds), "phone-number": number});
    let mail = |seconds, to: &str| json!({"channel": "email", "at": at(seconds), "email": to, "subject": "A new order", "body": "Nobody has confirmed it."});
    let pubnub = |seconds, channel: &str| json!({"channel": "pubnub", "at": at(seconds), "pubnub-channel": channel});
    let webhook = json!({"channel": "webhook", "at": at(1), "url": format!("{}/webhook/orders", stage.simulator_url)});
    let text = json!({"channel": "sms", "at": at(7), "phone-number": "+385912222223", "message": "a new order"});
    let note = json!({"channel": "console", "at": at(1), "message": "a new order has come in"});
    let id = |name: &str| format!("{name}-{now}");
    let pizzeria = json!([note, call(2, "+385911111111"), mail(5, "manager@example.org"), pubnub(6, "kitchen")]);
    send(stage, &id("pizzeria"), Some(pizzeria))?;
    send(stage, &id("trattoria"), Some(json!([webhook, call(4, "+385912222222"), text])))?;
    send(stage, &id("osteria"), Some(json!([call(8, "+385913333333"), mail(9, "owner@example.org")])))?;

    let mut seen = arrivals(stage, 0)?.len();
    let mut stop_sent = false;
    for _ in 0..LIMIT.as_millis() / 100 {
        interrupt.pause(Duration::from_millis(100))?;
        seen += show_arrivals(stage, seen)?;
        if !stop_sent && self::now() >= now + 7 {
            send(stage, &id("osteria"), None)?;
            stop_sent = true;
        }
        let sql = format!("SELECT count(*) FROM notification WHERE id > {before} AND finished_at IS NOT NULL");
        if stop_sent && postgres.ask("tocsin", &sql)? == "9" {
            show_arrivals(stage, seen)?;
            return summarise(stage, before);
        }
    }
    bail!("the samples were not done within {} s: the logs say why", LIMIT.as_secs())
}

fn summarise(stage: &Stage, before: i64) -> Result<()> {
    let sql = format!(
        "SELECT format('%-22s %-8s %-10s %s', p.name, n.channel, n.state,
             coalesce(n.reason, string_agg(a.outcome || coalesce(' ' || a.provider_id, ''), ', ' ORDER BY a.number)))
         FROM notification n JOIN process p ON p.id = n.process_id LEFT JOIN attempt a ON a.notification_id = n.id
         WHERE n.id > {before} GROUP BY n.id, p.name ORDER BY n.id"
    );
    let table = stage.servers.postgres.ask("tocsin", &sql)?;
    println!("\nWhat Postgres says came of them:\n");
    table.lines().for_each(|line| println!("  {line}"));
    Ok(())
}

fn send(stage: &Stage, process: &str, notifications: Option<Value>) -> Result<()> {
    let mut request = json!({"process-id": process, "action": "stop"});
    if let Some(notifications) = notifications {
        request["action"] = "start".into();
        request["notifications"] = notifications;
    }
    stage.servers.ministack.send(&stage.queue_url, process, &request.to_string())
}

/// Shows the calls that have arrived since, and answers how many.
fn show_arrivals(stage: &Stage, after: usize) -> Result<usize> {
    let new = arrivals(stage, after)?;
    new.iter().for_each(|arrival| stage.screen.show_arrival(arrival));
    Ok(new.len())
}

fn arrivals(stage: &Stage, after: usize) -> Result<Vec<Value>> {
    let mut response = ureq::get(format!("{}/simulator/arrivals?after={after}", stage.simulator_url)).call()?;
    serde_json::from_str(&response.body_mut().read_to_string()?).context("the simulator's list")
}

fn newest_notification(stage: &Stage) -> Result<i64> {
    Ok(stage.servers.postgres.ask("tocsin", "SELECT coalesce(max(id), 0) FROM notification")?.parse()?)
}

fn now() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a sender has no other clock than its own")]
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
