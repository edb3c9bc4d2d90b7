use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use devservers::{MiniStack, sqs};
use serde_json::{Value, json};

use super::Bench;
use crate::{
    contender::Contender,
    figures::show,
    report::{Section, Table},
    stage::{micros_now, stop, wait_and_ask_every},
    tocsin::{DATABASE, Tocsin},
};

/// Receives in flight at once: the bridge's default.
const RECEIVERS: usize = 8;

/// Requests through SQS, beside a loop that only receives and deletes.
pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let (stage, tocsin) = (bench.stage, Tocsin::default());
    let count: u64 = if bench.quick { 500 } else { 5_000 };
    let rounds = bench.rounds;
    let mut runs = Vec::new();
    for round in 0..rounds {
        for who in ["bridge", "loop"] {
            bench.progress.say(&format!("round {} of {rounds}: {who}", round + 1));
            // The emulator keeps its state, and would take what another run has sent for repetitions.
            let queue = format!("intake-{who}-{}.fifo", micros_now());
            let seconds = stage.with_sqs(|emulator| {
                let url = emulator.create_fifo_queue(&queue)?;
                fill(emulator, &url, count)?;
                if who == "loop" { receive_and_delete(emulator, &url, count) } else { Ok(None) }
            })?;
            let seconds = match seconds {
                Some(seconds) => seconds,
                None => {
                    tocsin.prepare(stage)?;
                    tocsin.reset(stage)?;
                    let bridge = tocsin.start_bridge(stage, &queue)?;
                    // The records say themselves when they were made.
                    let (interval, limit) = (Duration::from_secs(1), Duration::from_secs(300));
                    wait_and_ask_every(interval, "every request to be accepted", limit, || {
                        Ok(stage.number(DATABASE, "SELECT count(*) FROM request WHERE outcome = 'accepted'")? == count)
                    })?;
                    stop(vec![bridge])?;
                    let micros =
                        "SELECT (extract(epoch FROM max(received_at) - min(received_at)) * 1e6)::bigint FROM request";
                    stage.number(DATABASE, micros)? as f64 / 1e6
                }
            };
            runs.push((who, count as f64 / seconds));
        }
    }
    let of = |who: &str| runs.iter().filter(|(name, _)| *name == who).map(|(_, rate)| *rate).collect::<Vec<_>>();
    let ratios: Vec<_> = of("bridge").iter().zip(of("loop")).map(|(bridge, ceiling)| bridge / ceiling).collect();
    let mut table = Table::new("", &["", "requests a second"]);
    table.row(["bridge, from its first record to its last".to_owned(), show(of("bridge"), 0)]);
    table.row(["loop that only receives and deletes".to_owned(), show(of("loop"), 0)]);
    table.row(["ratio".to_owned(), show(ratios, 2)]);
    Ok(Section {
        name: "intake",
        how: format!(
            "{count} start requests wait in an SQS FIFO queue of the emulator, which is the slow part here; {RECEIVERS} \
             receives at once."
        ),
        tables: vec![table],
        plots: Vec::new(),
        data: json!(runs),
    })
}

fn fill(emulator: &MiniStack, url: &str, count: u64) -> Result<()> {
    let at = 4_000_000_000u64;
    let entry = |id: u64| {
        let notification =
            json!({"channel": "webhook", "at": at, "url": "http://127.0.0.1/hook", "payload": {"id": id}});
        let body = json!({"process-id": format!("order-{id}"), "action": "start", "notifications": [notification]});
        json!({"Id": format!("{id}"), "MessageGroupId": format!("order-{id}"), "MessageBody": body.to_string()})
    };
    for first in (0..count).step_by(10) {
        let entries: Vec<_> = (first..count.min(first + 10)).map(entry).collect();
        sqs(&emulator.url(), "SendMessageBatch", &json!({"QueueUrl": url, "Entries": entries}))?;
    }
    Ok(())
}

fn receive_and_delete(emulator: &MiniStack, url: &str, count: u64) -> Result<Option<f64>> {
    let begin = Instant::now();
    let deleted = AtomicU64::new(0);
    thread::scope(|scope| {
        let receivers: Vec<_> = (0..RECEIVERS)
            .map(|_| {
                scope.spawn(|| {
                    while deleted.load(Ordering::Relaxed) < count {
                        let ask = json!({"QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 0});
                        let received = sqs(&emulator.url(), "ReceiveMessage", &ask)?;
                        let messages = received["Messages"].as_array().map(Vec::as_slice).unwrap_or_default();
                        let entry = |(n, message): (usize, &Value)| {
                            json!({"Id": n.to_string(), "ReceiptHandle": message["ReceiptHandle"]})
                        };
                        let entries: Vec<_> = messages.iter().enumerate().map(entry).collect();
                        if !entries.is_empty() {
                            sqs(&emulator.url(), "DeleteMessageBatch", &json!({"QueueUrl": url, "Entries": entries}))?;
                            deleted.fetch_add(entries.len() as u64, Ordering::Relaxed);
                        }
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        receivers.into_iter().try_for_each(|receiver| receiver.join().expect("it does not panic"))
    })
    .context("the loop that only receives and deletes")?;
    Ok(Some(begin.elapsed().as_secs_f64()))
}
