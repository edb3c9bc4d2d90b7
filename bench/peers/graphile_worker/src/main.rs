//! graphile_worker on the bench's work: `setup`, `worker`, or `enqueue N T0 STEP AHEAD` (all in microseconds).

use std::{
    env,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use chrono::DateTime;
use graphile_worker::{IntoTaskHandlerResult, JobSpec, JobSpecBuilder, LocalQueueConfig, TaskHandler, WorkerContext, WorkerOptions};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, Serialize};

static CLIENT: OnceLock<Client<HttpConnector, Full<Bytes>>> = OnceLock::new();
static SINK: OnceLock<String> = OnceLock::new();

#[derive(Clone, Deserialize, Serialize)]
struct Send {
    id: u64,
    due: u64,
    pad: String,
}

impl TaskHandler for Send {
    const IDENTIFIER: &'static str = "send";

    async fn run(self, _context: WorkerContext) -> impl IntoTaskHandlerResult {
        post(serde_json::to_vec(&self).unwrap()).await
    }
}

async fn post(body: Vec<u8>) -> Result<(), String> {
    let request = hyper::Request::post(SINK.get().unwrap())
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let answer = CLIENT.get().unwrap().request(request).await.map_err(|error| error.to_string())?;
    let good = answer.status() == 200;
    answer.into_body().collect().await.map_err(|error| error.to_string())?;
    if good { Ok(()) } else { Err("status".to_owned()) }
}

fn micros_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    CLIENT.set(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(256).build_http()).ok();
    SINK.set(env::var("BENCH_SINK_URL").unwrap()).unwrap();
    let worker = WorkerOptions::default()
        .database_url(&env::var("BENCH_DATABASE_URL").unwrap())
        .max_pg_conn(10)
        .concurrency(64)
        .schema("graphile_worker")
        .poll_interval(Duration::from_millis(100))
        .local_queue(LocalQueueConfig::default().with_size(500).with_queue_count(1).with_ttl(Duration::from_secs(300)))
        .complete_job_batch_delay(Duration::ZERO)
        .fail_job_batch_delay(Duration::ZERO)
        .define_job::<Send>()
        .init()
        .await
        .unwrap();
    match arguments[0].as_str() {
        "setup" => {}
        "worker" => {
            println!("READY");
            worker.run().await.unwrap();
        }
        _ => {
            let numbers: Vec<u64> = arguments[1..].iter().map(|text| text.parse().unwrap()).collect();
            enqueue(Arc::new(worker), numbers[0], numbers[1], numbers[2], numbers[3]).await;
        }
    }
}

/// All at once in batches, or, with `ahead`, each so long before it is due.
async fn enqueue(worker: Arc<graphile_worker::Worker>, n: u64, t0: u64, step: u64, ahead: u64) {
    let batch = if ahead > 0 { 1 } else { 1_000 };
    let next = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let (worker, next) = (worker.clone(), next.clone());
            tokio::spawn(async move {
                let utils = worker.create_utils();
                loop {
                    let first = next.fetch_add(batch, Ordering::Relaxed);
                    if first >= n {
                        break;
                    }
                    if ahead > 0 {
                        let wait = (t0 + first * step).saturating_sub(ahead + micros_now());
                        tokio::time::sleep(Duration::from_micros(wait)).await;
                    }
                    let jobs: Vec<(Send, JobSpec)> = (first..n.min(first + batch))
                        .map(|id| {
                            let due = t0 + id * step;
                            let at = DateTime::from_timestamp_micros(due as i64).unwrap();
                            let send = Send { id, due, pad: "x".repeat(256) };
                            (send, JobSpecBuilder::new().run_at(at).build())
                        })
                        .collect();
                    let jobs: Vec<(Send, &JobSpec)> = jobs.iter().map(|(send, spec)| (send.clone(), spec)).collect();
                    utils.add_jobs::<Send>(&jobs).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
