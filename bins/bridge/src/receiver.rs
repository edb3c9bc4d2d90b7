use std::{sync::Arc, time::Duration};

use runtime::{chance, failpoint};
use sqs::{Message, Problem};
use tokio::sync::mpsc;

use crate::Bridge;

/// How long a receive waits when the queue is to be drained once.
const ONCE_WAIT: Duration = Duration::from_secs(1);

/// Receives, one batch after the other, while Postgres answers. Ends when the program stops, or, once, when the queue
/// is empty. A receive that has begun is waited for: its messages would be hidden from everybody for a while.
pub(crate) async fn receive(bridge: Arc<Bridge>, batches: mpsc::Sender<Vec<Message>>) -> Result<(), Problem> {
    let mut database_up = bridge.database_up.subscribe();
    let stop = &bridge.lifecycle.stop;
    let mut failures = 0u32;
    while !stop.is_cancelled() {
        tokio::select! {
            up = database_up.wait_for(|up| *up) => if up.is_err() { break },
            () = stop.cancelled() => break,
            // The applier has given up.
            () = batches.closed() => break,
        }
        match bridge.queue.receive(bridge.once.then_some(ONCE_WAIT)).await {
            Ok(messages) => {
                bridge.sqs.up();
                failures = 0;
                metrics::counter!("tocsin_received_total").increment(messages.len() as u64);
                // A group whose messages are not deleted yet hides what stands behind them.
                if messages.is_empty() && bridge.once && bridge.outstanding.is_empty() {
                    break;
                }
                if !messages.is_empty() {
                    failpoint("bridge.received", "");
                }
                bridge.outstanding.add(messages.iter().map(|message| &message.receipt));
                if !messages.is_empty() && batches.send(messages).await.is_err() {
                    break;
                }
            }
            Err(problem) if bridge.once => return Err(format!("SQS: {problem}")),
            Err(problem) => {
                bridge.sqs.down(problem);
                let wait = Duration::from_millis(200 << failures.min(5)).mul_f64(0.5 + chance() / 2.0);
                failures += 1;
                bridge.lifecycle.pause(wait).await;
            }
        }
    }
    Ok(())
}
