use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::{
    Flag,
    channel::{CHANNELS, Channel, Habit},
    installation::{RequestQueue, Simulator},
    now_micros,
};

/// How often a request is sent again if SQS does not answer. It has an id by which SQS knows it again.
const SEND_TRIES: usize = 5;

/// A request, as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// What SQS calls it. An occurrence of a schedule, which nobody sends: the schedule and the second.
    pub(crate) message_id: String,
    /// Its process, which is its message group too.
    pub(crate) process: String,
    /// What it asks for.
    pub(crate) asks: Asks,
}

impl Sent {
    /// Whether a schedule is to make it.
    pub(crate) fn is_occurrence(&self) -> bool {
        self.message_id.starts_with("schedule:")
    }
}

/// What a request asks for.
#[derive(Debug, Clone)]
pub(crate) enum Asks {
    /// To start a process.
    Start(Vec<Wanted>),
    /// To stop it.
    Stop,
    /// Something that can't be carried out, for this reason.
    Nonsense(&'static str),
}

impl fmt::Display for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(wanted) => write!(f, "a start with {} notifications", wanted.len()),
            Self::Stop => f.write_str("a stop"),
            Self::Nonsense(what) => write!(f, "a bad request: {what}"),
        }
    }
}

/// A notification that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) channel: &'static str,
    /// Nobody else's.
    pub(crate) address: String,
    /// When, in seconds since 1970.
    pub(crate) at: i64,
    pub(crate) max_attempts: usize,
    pub(crate) on_unknown_fail: bool,
}

/// Sends requests at a steady rate, and keeps its own record of them.
pub(crate) struct Load<'a> {
    queue: &'a RequestQueue,
    simulator: &'a Simulator,
    sent_count: &'a AtomicUsize,
    random: StdRng,
    notifications: usize,
    processes: usize,
    sent: Vec<Sent>,
    later: Vec<(Instant, String, Later)>,
}

/// What is sent to a process some time after its start.
enum Later {
    Stop,
    Start,
}

impl<'a> Load<'a> {
    /// What is sent depends on the seed alone; when, on the machine too.
    pub(crate) fn new(
        seed: u64,
        queue: &'a RequestQueue,
        simulator: &'a Simulator,
        sent_count: &'a AtomicUsize,
    ) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self {
            queue,
            simulator,
            sent_count,
            random,
            notifications: 0,
            processes: 0,
            sent: Vec::new(),
            later: Vec::new(),
        }
    }

    /// Sends so many new processes a second until it is to end, and answers what it has sent.
    pub(crate) fn run(mut self, rate: f64, ending: &Flag) -> Result<Vec<Sent>> {
        let begin = Instant::now();
        for tick in 0_u32.. {
            let next = begin + Duration::from_secs_f64(f64::from(tick) / rate);
            while Instant::now() < next && !ending.is_raised() {
                self.send_what_is_due(Instant::now())?;
                thread::sleep(Duration::from_millis(5));
            }
            if ending.is_raised() {
                break;
            }
            self.next()?;
        }
        // What was to follow does follow, at once.
        self.send_what_is_due(Instant::now() + Duration::from_secs(3_600))?;
        Ok(self.sent)
    }

    fn next(&mut self) -> Result<()> {
        let die = self.random.random_range(0..100);
        self.processes += 1;
        let process = format!("chaos-{}", self.processes);
        let now = Instant::now();
        let mut wait = |most: u64| now + Duration::from_millis(self.random.random_range(0..=most));
        match die {
            0..55 => self.start(&process, None),
            55..75 => {
                let at = wait(6_000);
                self.later.push((at, process.clone(), Later::Stop));
                self.start(&process, None)
            }
            75..85 => {
                let (again, stop) = (wait(8_000), wait(12_000));
                self.later.push((again, process.clone(), Later::Start));
                self.later.push((stop, process.clone(), Later::Stop));
                self.start(&process, None)
            }
            85..92 => self.nonsense(&process),
            92..96 => self.stop(&process),
            // Many at once on one channel, stopped about when they are called.
            _ => {
                let at = wait(2_500);
                self.later.push((at, process.clone(), Later::Stop));
                self.start(&process, Some(20))
            }
        }
    }

    fn send_what_is_due(&mut self, now: Instant) -> Result<()> {
        while let Some(at) = self.later.iter().position(|(due, ..)| *due <= now) {
            let (_, process, later) = self.later.swap_remove(at);
            match later {
                Later::Stop => self.stop(&process)?,
                Later::Start => self.start(&process, None)?,
            }
        }
        Ok(())
    }

    /// A burst is of so many notifications on one channel, all due at once.
    fn start(&mut self, process: &str, burst: Option<usize>) -> Result<()> {
        let now = now_micros() / 1_000_000;
        let count = burst.unwrap_or_else(|| self.random.random_range(1..=4));
        let only = burst.map(|_| self.channel());
        let mut wanted = Vec::new();
        let mut notifications = Vec::new();
        for _ in 0..count {
            let channel = only.unwrap_or_else(|| self.channel());
            let at = now + if burst.is_some() { 1 } else { self.random.random_range(-2..=5) };
            let (one, notification) = self.notification(channel, at);
            wanted.push(one);
            notifications.push(notification);
        }
        let body = json!({"process-id": process, "action": "start", "notifications": notifications});
        self.send(process, Asks::Start(wanted), &body.to_string())
    }

    fn channel(&mut self) -> &'static Channel {
        CHANNELS.choose(&mut self.random).expect("there are channels")
    }

    fn notification(&mut self, channel: &'static Channel, at: i64) -> (Wanted, Value) {
        self.notifications += 1;
        let habit = Habit::of_die(self.random.random_range(0..10));
        let (address, mut notification) = channel.notification(self.notifications, habit, &self.simulator.url);
        // The waits grow quickly: a fourth attempt would come after minutes.
        let max_attempts = self.random.random_range(2..=3);
        let on_unknown_fail = self.random.random_bool(0.15);
        notification["at"] = at.into();
        notification["max-attempts"] = max_attempts.into();
        if on_unknown_fail {
            notification["on-unknown"] = "fail".into();
        }
        (Wanted { channel: channel.name, address, at, max_attempts, on_unknown_fail }, notification)
    }

    fn stop(&mut self, process: &str) -> Result<()> {
        // The second way of writing it is one that senders in the field use.
        let body = match self.random.random_bool(0.5) {
            true => json!({"process-id": process, "action": "stop"}).to_string(),
            false => format!("{{\"process-id\": \"{process}\", \"action\": \"stop\",}}"),
        };
        self.send(process, Asks::Stop, &body)
    }

    /// A request that must be rejected, most of them with a notification in it that would be good.
    fn nonsense(&mut self, process: &str) -> Result<()> {
        let at = now_micros() / 1_000_000;
        let channel = self.channel();
        let (_, good) = self.notification(channel, at);
        let start = |second: Value| {
            json!({"process-id": process, "action": "start", "notifications": [good, second]}).to_string()
        };
        let all = [
            ("no JSON", format!("{{\"process-id\": \"{process}\", \"action\"")),
            ("no action", json!({"process-id": process, "notifications": [good]}).to_string()),
            ("no notification", json!({"process-id": process, "action": "start", "notifications": []}).to_string()),
            ("no process", json!({"action": "start", "notifications": [good]}).to_string()),
            ("an unknown channel", start(json!({"channel": "pigeon", "at": at}))),
            ("no number", start(json!({"channel": "phone", "at": at, "phone-number": "385"}))),
            ("milliseconds", start(json!({"channel": "console", "at": at * 1_000}))),
            ("no address", start(json!({"channel": "email", "at": at}))),
            ("a key twice", format!("{{\"process-id\": \"{process}\", \"action\": \"stop\", \"action\": \"stop\"}}")),
        ];
        let (why, body) = all.choose(&mut self.random).expect("there are some");
        self.send(process, Asks::Nonsense(why), body)
    }

    fn send(&mut self, process: &str, asks: Asks, body: &str) -> Result<()> {
        let unique = self.sent.len().to_string();
        let mut tries = 0;
        let message_id = loop {
            match self.queue.send(process, &unique, body) {
                Ok(id) => break id,
                Err(error) if tries == SEND_TRIES => return Err(error.context("a request can't be sent")),
                Err(_) => tries += 1,
            }
            thread::sleep(Duration::from_millis(200));
        };
        self.sent.push(Sent { message_id, process: process.to_owned(), asks });
        self.sent_count.store(self.sent.len(), Ordering::Relaxed);
        Ok(())
    }
}
