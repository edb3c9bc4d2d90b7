use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use devservers::sqs;
use serde_json::json;

use crate::stage::{DATABASE, Stage};

/// Of each channel's slots, one address may hold a quarter; so few hanging notifications are enough to fill that, and so
/// few are over soon.
const MAX_HANGING: u64 = 200;

/// As many requests of a process wait, starts and stops in turn.
const REQUESTS_OF_A_PROCESS: u64 = 20;

const BATCH: u64 = 10;

/// A queue of the flood.
#[derive(Clone)]
pub(crate) struct Queue {
    pub(crate) url: String,
    /// How many requests were sent to it.
    pub(crate) requests: u64,
}

/// A channel of the flood.
pub(crate) struct Lane {
    pub(crate) channel: &'static str,
    /// The provider answers after this.
    pub(crate) delay_ms: u64,
    /// How many calls its worker makes at once.
    pub(crate) in_flight: u64,
    /// How many of those the addresses of the flood may hold together.
    pub(crate) usable: u64,
    /// How many notifications are due.
    pub(crate) due: u64,
    /// How many of them go to an address that never answers.
    pub(crate) hanging: u64,
    /// Their addresses, as SQL makes them of a number `n`.
    address: &'static str,
}

impl Lane {
    /// The most that it can deliver in a second, if the provider's delay decides.
    pub(crate) fn most_a_second(&self) -> Option<u64> {
        (self.usable * 1_000).checked_div(self.delay_ms)
    }
}

/// The channels, with a sixth of what is due each.
pub(crate) fn lanes(due: u64) -> Vec<Lane> {
    let lane = |channel, delay_ms, in_flight, usable, address| Lane {
        channel,
        delay_ms,
        in_flight,
        usable,
        due: due / 6,
        hanging: if channel == "webhook" { MAX_HANGING.min(due / 50) } else { 0 },
        address,
    };
    vec![
        lane("phone", 400, 100, 100, "'+1' || 200000000 + n"),
        lane("sms", 400, 100, 100, "'+2' || 200000000 + n"),
        lane("pubnub", 100, 32, 32, "'channel-' || n"),
        lane("sns", 200, 64, 64, "'arn:aws:sns:us-east-1:000000000000:flood-' || n"),
        // Two addresses, of which each may have a quarter of the slots.
        lane(
            "webhook",
            200,
            128,
            64,
            "(ARRAY['http://127.0.0.1', 'http://[::ffff:127.0.0.1]'])[1 + n % 2] || $PORT || '/webhook/' || n",
        ),
        lane("console", 0, 64, 64, "NULL"),
    ]
}

/// Puts what is due into the database: of each channel what hangs first, so that it is in the way of all else.
pub(crate) fn make_due(stage: &Stage, lanes: &[Lane]) -> Result<()> {
    let begin = Instant::now();
    let postgres = &stage.servers.postgres;
    postgres.ask(
        DATABASE,
        "WITH p AS (INSERT INTO process (name, run) VALUES ('flood', 1) RETURNING id)
         INSERT INTO request (source, message_id, received_at, process_id, process_name, action, outcome, run, body)
         SELECT 'flood', 'flood', tocsin_now(), id, 'flood', 'start', 'accepted', 1, '' FROM p",
    )?;
    postgres.ask(
        DATABASE,
        "INSERT INTO property (key, value) VALUES ('caller-id-registry', '{\"default\": \"+15005550006\"}')",
    )?;
    let port = stage.simulator_url.rsplit(':').next().unwrap_or_default();
    for lane in lanes {
        let address = lane.address.replace("$PORT", &format!("':{port}'"));
        let hanging = format!("'http://localhost:{port}/webhook/hang/' || n");
        let options = match lane.channel {
            "sms" => r#"{"message": "a new order"}"#,
            "sns" => r#"{"payload": "a new order"}"#,
            _ => "{}",
        };
        // What hangs has one attempt, or it would take minutes after all else.
        postgres.ask(
            DATABASE,
            &format!(
                "WITH more AS (
                     INSERT INTO notification (process_id, organisation, channel, scheduled_at, due_at, wake_at, accepted_at,
                         max_attempts, expires_at)
                     SELECT r.process_id, 'main', '{channel}', now(), now(), now(), now(),
                         CASE WHEN n <= {hangs} THEN 1 ELSE 10 END, now() + interval '1 day'
                     FROM request r, generate_series(1, {due}) n WHERE r.source = 'flood' ORDER BY n
                     RETURNING id, max_attempts
                 ), numbered AS (SELECT id, max_attempts, row_number() OVER (ORDER BY id) AS n FROM more)
                 INSERT INTO notification_content (notification_id, request_id, run, process_name, address, options)
                 SELECT numbered.id, r.id, 1, 'flood', CASE WHEN max_attempts = 1 THEN {hanging} ELSE {address} END, '{options}'
                 FROM numbered, request r WHERE r.source = 'flood'",
                channel = lane.channel,
                hangs = lane.hanging,
                due = lane.due,
            ),
        )?;
    }
    postgres.ask(DATABASE, "ANALYZE notification, notification_content")?;
    let due: u64 = lanes.iter().map(|lane| lane.due).sum();
    eprintln!("{due} notifications are due, put in within {:.0} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Sends the requests, and answers the queues' URLs.
pub(crate) fn fill_queues(stage: &Stage, requests: u64, count: u64) -> Result<Vec<Queue>> {
    let begin = Instant::now();
    let ministack = &stage.servers.ministack;
    let queues = (0..count).map(|n| {
        let url = ministack.create_fifo_queue(&format!("flood-{n}.fifo"))?;
        Ok(Queue { url, requests: requests / count + u64::from(n < requests % count) })
    });
    let queues = queues.collect::<Result<Vec<_>>>()?;
    let sent = AtomicU64::new(0);
    let endpoint = ministack.url();
    // The emulator does one thing at a time; the other sender makes its next batch meanwhile.
    let senders = 2;
    thread::scope(|scope| {
        let send = |sender: usize| {
            for (n, queue) in queues.iter().enumerate().skip(sender).step_by(senders) {
                let n = n as u64;
                let share = queue.requests;
                for first in (0..share).step_by(BATCH as usize) {
                    let processes = share.div_ceil(REQUESTS_OF_A_PROCESS);
                    let entries = (first..share.min(first + BATCH)).map(|number| entry(n, number, processes));
                    let entries: Vec<_> = entries.collect();
                    let body = json!({"QueueUrl": queue.url, "Entries": entries});
                    let answer = sqs(&endpoint, "SendMessageBatch", &body)?;
                    if answer["Successful"].as_array().map(Vec::len) != Some(entries.len()) {
                        bail!("SQS did not take a batch: {answer}");
                    }
                    let before = sent.fetch_add(entries.len() as u64, Ordering::Relaxed);
                    if before / 10_000 != (before + BATCH) / 10_000 {
                        eprintln!("{} requests wait after {} s", before + BATCH, begin.elapsed().as_secs());
                    }
                }
            }
            Ok(())
        };
        let threads: Vec<_> = (0..senders).map(|sender| scope.spawn(move || send(sender))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("the sending thread does not panic"))
    })?;
    eprintln!("{requests} requests wait in {count} queues, sent within {:.0} s", begin.elapsed().as_secs_f64());
    Ok(queues)
}

/// A start of notifications for later, or the stop of the one before. The processes take turns.
fn entry(queue: u64, number: u64, processes: u64) -> serde_json::Value {
    let process = format!("{queue}-{}", number % processes);
    let body = if (number / processes).is_multiple_of(2) {
        // In the year 2100: that they are put off again is not what this is about.
        let call = json!({"channel": "phone", "at": 4_102_444_800_u64, "phone-number": "+3851111111"});
        let mail = json!({"channel": "email", "at": 4_102_444_800_u64, "email": "me@example.org"});
        json!({"process-id": process, "action": "start", "notifications": [call, mail]})
    } else {
        json!({"process-id": process, "action": "stop"})
    };
    json!({
        "Id": number.to_string(), "MessageGroupId": process, "MessageBody": body.to_string(),
        "MessageDeduplicationId": format!("{queue}-{number}"),
    })
}

/// Makes the providers slow, and one address hang.
pub(crate) fn set_rules(stage: &Stage) -> Result<()> {
    let mut rules = vec![json!({"address": "/webhook/hang/*", "hang": true})];
    let slow = [("+1*", "phone"), ("+2*", "sms"), ("channel-*", "pubnub"), ("arn:*", "sns"), ("/webhook/*", "webhook")];
    let delays = lanes(0);
    for (address, channel) in slow {
        let delay = delays.iter().find(|lane| lane.channel == channel).map_or(0, |lane| lane.delay_ms);
        rules.push(json!({"address": address, "delay_ms": delay}));
    }
    ureq::put(format!("{}/simulator/rules", stage.simulator_url)).send_json(rules)?;
    Ok(())
}

/// How many requests wait in a queue, hidden ones among them.
pub(crate) fn depth(endpoint: &str, queue: &Queue) -> Result<u64> {
    let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
    let answer = sqs(endpoint, "GetQueueAttributes", &json!({"QueueUrl": queue.url, "AttributeNames": names}))?;
    let number = |name: &str| answer["Attributes"][name].as_str().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    Ok(names.iter().map(|name| number(name)).sum())
}

/// The simulator keeps all that arrives, and need not here.
pub(crate) fn forget_arrivals(stage: &Stage) -> Result<()> {
    ureq::delete(format!("{}/simulator/arrivals", stage.simulator_url)).call()?;
    Ok(())
}

/// How long one look at a program may take.
pub(crate) const LOOK: Duration = Duration::from_secs(20);
