//! apalis-postgres on the bench's work: `setup`, `worker`, or `enqueue N T0 STEP AHEAD` (all in microseconds).

use std::{
    env,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use apalis::prelude::*;
use apalis_postgres::{Config, *};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, Serialize};

static CLIENT: OnceLock<Client<HttpConnector, Full<Bytes>>> = OnceLock::new();
static SINK: OnceLock<String> = OnceLock::new();

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Send {
    id: u64,
    due: u64,
    pad: String,
}

async fn send(work: Send) -> Result<(), BoxDynError> {
    let body = Full::new(Bytes::from(serde_json::to_vec(&work)?));
    let request = hyper::Request::post(SINK.get().unwrap()).header("content-type", "application/json").body(body)?;
    let answer = CLIENT.get().unwrap().request(request).await?;
    let good = answer.status() == 200;
    answer.into_body().collect().await?;
    if good { Ok(()) } else { Err("status".into()) }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    CLIENT.set(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(256).build_http()).ok();
    SINK.set(env::var("BENCH_SINK_URL").unwrap()).unwrap();
    let url = env::var("BENCH_DATABASE_URL").unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(10).connect(&url).await.unwrap();
    match arguments[0].as_str() {
        "setup" => PostgresStorage::setup(&pool).await.unwrap(),
        "worker" => {
            let config = Config::default().queue("send").batch_size(2_000).lock_tasks(false).persist_results(true);
            let storage = PostgresStorage::<Send>::new(&pool)
                .with_config(config)
                .poll_with_interval(Duration::from_millis(100));
            let worker = WorkerBuilder::new(format!("worker-{}", std::process::id()))
                .backend(storage)
                .parallelize(tokio::spawn)
                .concurrency(64)
                .build(send);
            println!("READY");
            worker.run().await.unwrap();
        }
        _ => {
            let numbers: Vec<u64> = arguments[1..].iter().map(|text| text.parse().unwrap()).collect();
            enqueue(pool, numbers[0], numbers[1], numbers[2], numbers[3]).await;
        }
    }
}

/// Its times have whole seconds, so that what is due within one is rounded up: nothing may be early.
async fn enqueue(pool: sqlx::PgPool, n: u64, t0: u64, step: u64, ahead: u64) {
    let batch = if ahead > 0 { 1 } else { 1_000 };
    let next = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let (pool, next) = (pool.clone(), next.clone());
            tokio::spawn(async move {
                let mut connection = pool.acquire().await.unwrap();
                loop {
                    let first = next.fetch_add(batch, Ordering::Relaxed);
                    if first >= n {
                        break;
                    }
                    if ahead > 0 {
                        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
                        let wait = (t0 + first * step).saturating_sub(ahead + now);
                        tokio::time::sleep(Duration::from_micros(wait)).await;
                    }
                    let tasks: Vec<_> = (first..n.min(first + batch))
                        .map(|id| {
                            let due = t0 + id * step;
                            let work = serde_json::to_vec(&Send { id, due, pad: "x".repeat(256) }).unwrap();
                            TaskBuilder::new(work).run_at_timestamp(due.div_ceil(1_000_000)).max_attempts(5).build()
                        })
                        .collect();
                    apalis_postgres::queries::push_tasks(&mut *connection, "send", tasks).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
