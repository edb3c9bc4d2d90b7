use std::time::{Duration, Instant};

use domain::Channel;
use serde_json::{Value, json};
use sqs::Queue;
use store::{ProcessHistory, Store};
use tokio::time::sleep;

use crate::{NOT_DONE, Problem, UNAVAILABLE, control};

/// How often to look.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How long each step may take before it is said who may be missing.
const PATIENCE: Duration = Duration::from_secs(8);

#[derive(clap::Args)]
#[command(
    after_help = "Example: tocsin test phone +3851111111\n         tocsin test sms +3851111111 --set message='a test'"
)]
pub(crate) struct Arguments {
    /// The channel
    channel: String,
    /// Whom to reach: a number, an e-mail address, a PubNub channel, an SNS topic, a URL. The channel console has none
    address: Option<String>,
    /// Another key of the notification, such as message='a test' or subject=Test; as often as needed
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = control::pair)]
    set: Vec<(String, String)>,
    /// How long to follow it, in seconds
    #[arg(long, default_value_t = 120)]
    timeout: u64,
}

/// Sends a start request with one notification to the queue, and says what becomes of it, step by step.
pub(crate) async fn run(arguments: &Arguments, store: &Store, queue: &sqs::Config) -> Result<(), Problem> {
    store.check().await?;
    let now = store.clock().now();
    let process = format!("tocsin-test-{}-{:04.0}", now.as_second(), runtime::chance() * 9999.0);
    let request =
        json!({"process-id": process, "action": "start", "notifications": [notification(arguments, now.as_second())?]});
    let body = request.to_string();
    if let Err(rejection) = wire::parse_request(body.as_bytes()) {
        let reasons: Vec<_> = rejection.reasons.iter().map(ToString::to_string).collect();
        return Err(Problem::new(NOT_DONE, reasons.join("; ").replace("notifications[0].", "")));
    }
    let queue = Queue::new(queue).await;
    let sent = queue.send(&process, &process, &body).await;
    sent.map_err(|problem| Problem::new(UNAVAILABLE, format!("the queue did not take the request: {problem}")))?;
    let mut told = Told::new();
    told.say(&format!("sent a start of {process} to the queue"));
    let begin = Instant::now();
    loop {
        let history = store.process_history(&process).await?;
        if let Some(end) = told.tell(&history, store).await? {
            return end;
        }
        if begin.elapsed() > Duration::from_secs(arguments.timeout) {
            let text =
                format!("it has no end after {} s; table notification knows what becomes of it", arguments.timeout);
            return Err(Problem::new(UNAVAILABLE, text));
        }
        sleep(LOOK_INTERVAL).await;
    }
}

fn notification(arguments: &Arguments, now: i64) -> Result<Value, Problem> {
    let mut notification = json!({"channel": arguments.channel, "at": now});
    let Some(channel) = Channel::named(&arguments.channel) else { return Ok(notification) };
    match (&channel.address, &arguments.address) {
        (Some(field), Some(address)) => notification[field.key] = address.as_str().into(),
        (Some(field), None) => {
            let text = format!("channel {} needs an address: {}", channel.name, field.help);
            return Err(Problem::new(NOT_DONE, text));
        }
        (None, Some(_)) => return Err(Problem::new(NOT_DONE, format!("channel {} has no addresses", channel.name))),
        (None, None) => {}
    }
    for field in channel.options.iter().filter(|field| field.required) {
        notification[field.key] = "A test by Tocsin".into();
    }
    for (key, value) in &arguments.set {
        notification[key] = control::value(Some(channel), key, value);
    }
    Ok(notification)
}

/// What has been said already.
struct Told {
    begin: Instant,
    step: &'static str,
    since: Instant,
    is_warned: bool,
    attempts: usize,
}

impl Told {
    fn new() -> Self {
        let now = Instant::now();
        Self { begin: now, step: "sent", since: now, is_warned: false, attempts: 0 }
    }

    fn say(&self, text: &str) {
        println!("{:6.1} s  {text}", self.begin.elapsed().as_secs_f64());
    }

    fn step(&mut self, step: &'static str, text: &str) {
        if self.step != step {
            self.say(text);
            (self.step, self.since, self.is_warned) = (step, Instant::now(), false);
        }
    }

    /// Says what is new, and answers its end, if it has come.
    async fn tell(&mut self, history: &ProcessHistory, store: &Store) -> Result<Option<Result<(), Problem>>, Problem> {
        let Some(request) = history.requests.first() else {
            self.warn("the request is not recorded yet: does the bridge run, and read this queue?");
            return Ok(None);
        };
        if request.outcome != "accepted" {
            let reasons = request.reasons.clone().unwrap_or_default();
            return Ok(Some(Err(Problem::new(NOT_DONE, format!("the request was {}: {reasons}", request.outcome)))));
        }
        let Some(notification) = history.notifications.first() else { return Ok(None) };
        // Counted as the explanation does: not every claim leads to a call.
        for (call, attempt) in (1..).zip(&history.attempts).skip(self.attempts) {
            let id = attempt.provider_id.as_ref().map(|id| format!(", as {id}")).unwrap_or_default();
            let detail = attempt.detail.as_deref().unwrap_or("no words");
            let worker = attempt.worker.as_deref().unwrap_or("a worker");
            self.say(&format!("{worker}: call {call}: {}: {detail}{id}", attempt.outcome));
        }
        self.attempts = history.attempts.len();
        let reason = notification.reason.as_deref().unwrap_or("no reason");
        match notification.state.as_str() {
            "scheduled" => {
                self.step("scheduled", &format!("the bridge accepted it as notification {}", notification.id));
                self.warn("it is due and was not published: does the activator run?");
            }
            "queued" => {
                self.step("queued", &format!("the activator took notification {} to publish it", notification.id));
                match store.channel_paused(&notification.channel).await? {
                    Some(pause) => self.warn(&format!("no worker claims it: {pause}")),
                    None => {
                        self.warn(&format!("no worker has claimed it: does notifier-{} run?", notification.channel))
                    }
                }
            }
            "sending" => {
                let worker = notification.claimed_by.as_deref().unwrap_or("a worker");
                self.step("sending", &format!("{worker} calls the provider"));
            }
            "retrying" => self.step("retrying", &format!("to be tried again at {:.0}", notification.due_at)),
            "delivered" => {
                self.say(
                    "delivered: the provider accepted it; what became of it at the other end is not known by this",
                );
                return Ok(Some(Ok(())));
            }
            end => return Ok(Some(Err(Problem::new(NOT_DONE, format!("{end}: {reason}"))))),
        }
        Ok(None)
    }

    /// Says once, when a step takes too long, what may be missing.
    fn warn(&mut self, text: &str) {
        if !self.is_warned && self.since.elapsed() > PATIENCE {
            self.is_warned = true;
            self.say(text);
        }
    }
}
