//! The receiver of every contender's requests: a fast HTTP/1.1 server that notes when each notification arrived.
//!
//! `POST` anywhere, with `"id":N` and `"due":MICROSECONDS` somewhere in the body. `GET /count`, `GET /arrivals` (what
//! [`Arrivals`] says, after `?t0=MICROSECONDS`), `GET /times` (id and arrival of each, a line each), `GET /reset`.

use std::{
    cell::RefCell,
    net::Ipv4Addr,
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::{LocalSet, spawn_local},
};

#[derive(Parser)]
#[command(name = "bench-sink", about = "Receives what is measured, and notes when")]
struct Arguments {
    /// Port on every loopback address
    #[arg(long)]
    port: u16,

    /// How long each answer takes
    #[arg(long, default_value_t = 0)]
    answer_after_ms: u64,
}

/// Connections that may wait to be accepted: all that begin at once. One too many would be tried again after a second.
const BACKLOG: u32 = 4096;

#[derive(Clone, Copy)]
struct Arrival {
    id: u64,
    due: u64,
    at: u64,
}

type Arrivals = Rc<RefCell<Vec<Arrival>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::UNSPECIFIED, arguments.port).into())?;
    let listener = socket.listen(BACKLOG)?;
    let arrivals = Arrivals::default();
    let serve = async {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let arrivals = Rc::clone(&arrivals);
            spawn_local(async move {
                // Whoever breaks a connection off knows it, and will show up as missing.
                serve_connection(stream, arrivals, Duration::from_millis(arguments.answer_after_ms)).await.ok()
            });
        }
    };
    LocalSet::new().run_until(serve).await
}

async fn serve_connection(mut stream: TcpStream, arrivals: Arrivals, delay: Duration) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        while let Some((head, length)) = request(&buffer) {
            let body = &buffer[head.end..length];
            let answer = if head.is_post {
                let arrival =
                    Arrival { id: number(body, b"\"id\":"), due: number(body, b"\"due\":"), at: microseconds_now() };
                arrivals.borrow_mut().push(arrival);
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                "ok".to_owned()
            } else {
                asked(&head.path, &arrivals)
            };
            buffer.drain(..length);
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
            stream.write_all(answer.as_bytes()).await?;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

struct Head {
    is_post: bool,
    path: String,
    end: usize,
}

/// The first request in the buffer and its length, if all of it is there.
fn request(buffer: &[u8]) -> Option<(Head, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let end = match request.parse(buffer) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) | Err(_) => return None,
    };
    let is_post = request.method == Some("POST");
    let path = if is_post { String::new() } else { request.path.unwrap_or_default().to_owned() };
    let length = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok()).unwrap_or(0);
    (buffer.len() >= end + length).then_some((Head { is_post, path, end }, end + length))
}

/// The number after a key, wherever it stands: contenders wrap their bodies differently.
fn number(body: &[u8], key: &[u8]) -> u64 {
    let Some(at) = body.windows(key.len()).position(|window| window == key) else { return 0 };
    let digits =
        body[at + key.len()..].iter().skip_while(|byte| **byte == b' ').take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

fn asked(path: &str, arrivals: &Arrivals) -> String {
    let (path, t0) = path.split_once("?t0=").unwrap_or((path, "0"));
    match path {
        "/count" => arrivals.borrow().len().to_string(),
        "/reset" => {
            let mut arrivals = arrivals.borrow_mut();
            arrivals.clear();
            arrivals.reserve(1 << 20);
            "ok".to_owned()
        }
        "/times" => arrivals.borrow().iter().map(|one| format!("{} {}\n", one.id, one.at)).collect(),
        _ => summary(&arrivals.borrow(), t0.parse().unwrap_or(0)).to_string(),
    }
}

fn summary(arrivals: &[Arrival], t0: u64) -> Value {
    let mut ids: Vec<_> = arrivals.iter().map(|one| one.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut late: Vec<_> = arrivals.iter().map(|one| one.at.cast_signed() - one.due.cast_signed()).collect();
    late.sort_unstable();
    let percentile = |hundredths: usize| {
        let at = (late.len() * hundredths).div_ceil(10_000).clamp(1, late.len().max(1)) - 1;
        late.get(at).map(|micros| *micros as f64 / 1_000.0)
    };
    let last = arrivals.iter().map(|one| one.at).max().unwrap_or_default();
    json!({
        "count": arrivals.len(),
        "distinct": ids.len(),
        "early": late.iter().filter(|micros| **micros < 0).count(),
        "last_ms": (last.cast_signed() - t0.cast_signed()) as f64 / 1_000.0,
        "late_ms": {"p50": percentile(5_000), "p90": percentile(9_000), "p99": percentile(9_900), "max": percentile(10_000)},
    })
}

#[expect(clippy::disallowed_methods, reason = "contenders and receiver share this machine's clock")]
fn microseconds_now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()).unwrap_or_default()
}
