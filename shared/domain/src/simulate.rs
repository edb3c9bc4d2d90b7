//! A request played on a virtual clock, by the rules that the programs follow: the transition table, the retry policy,
//! what a worker makes of an answer, and the gate that closes a channel.
//!
//! Programs, database and broker take no time here, and there is one worker for each channel, with a slot for every
//! call. A call takes no time either, unless its provider keeps silent. What is due at one moment is called together;
//! what comes of it is learned after that, in the order of the request.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    CHANNELS, Channel, Event, NewNotification, Notification, OnUnknown, Outcome, PUBLISHED_AHEAD, ProcessName, State,
    after_attempt,
    explain::{Call, Story, explain},
    provider::{Allowance, Answer, Gate, Reaction},
    transition,
};

/// So many steps may have no event to show for themselves, for each that has.
const IDLE_STEPS: usize = 20;

/// What is to be played.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// When the request is accepted.
    pub begins_at: Timestamp,
    /// The process's name.
    pub process: ProcessName,
    /// What the request asks for.
    pub notifications: Vec<NewNotification>,
    /// What the provider of each channel does with its calls, in the order in which they happen, and how often; after
    /// that it accepts.
    pub reactions: BTreeMap<&'static str, Vec<(Reaction, u32)>>,
    /// When the process is stopped.
    pub stop_at: Option<Timestamp>,
    /// When a call is given up that nobody answers.
    pub call_timeout: Duration,
    /// How many events there may be.
    pub max_events: usize,
}

/// What would come.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// When the last of it would be.
    pub ends_at: Timestamp,
    /// What would happen, in its order.
    pub events: Vec<Happening>,
    /// What would have come of each notification.
    pub ends: Vec<Story>,
}

/// Something that would happen.
#[derive(Debug, Clone)]
pub struct Happening {
    /// When.
    pub at: Timestamp,
    /// To which notification, by its place in the request, if to a single one.
    pub notification: Option<usize>,
    /// To which channel, if to one.
    pub channel: Option<&'static str>,
    /// What.
    pub kind: Kind,
    /// The same in a sentence.
    pub sentence: String,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is accepted.
    Accepted,
    /// A notification is handed over to the broker.
    Queued,
    /// The provider is called.
    Call,
    /// The call failed, and there will be another.
    Retrying,
    /// The provider has accepted it.
    Delivered,
    /// It is given up.
    Failed,
    /// It is stopped.
    Cancelled,
    /// Somebody stops the process.
    Stop,
    /// The provider refuses the whole channel, or is away.
    Paused,
    /// The provider serves the channel again.
    Resumed,
}

impl Kind {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Queued => "queued",
            Self::Call => "call",
            Self::Retrying => "retrying",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Stop => "stop",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
        }
    }
}

/// More would happen than may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {0} things would happen")]
pub struct TooLong(usize);

/// Plays it to its end.
pub fn simulate(simulation: Simulation) -> Result<Timeline, TooLong> {
    let max_events = simulation.max_events;
    let mut play = Play::begin(simulation);
    let mut steps = 0;
    while let Some((at, step)) = play.agenda.pop_first() {
        play.now = at;
        match step {
            Step::Answer(n) => play.answer(n),
            Step::Stop => play.stop(),
            Step::Publish(n) => play.publish(n),
            Step::Look(channel) => play.look(channel),
        }
        steps += 1;
        if play.events.len() > max_events || steps > IDLE_STEPS.saturating_mul(max_events) {
            return Err(TooLong(max_events));
        }
    }
    let ends = play.players.into_iter().map(|player| Story { now: play.now, ..player.story }).collect();
    let ends_at = play.events.last().map_or(play.begins_at, |last| last.at);
    Ok(Timeline { ends_at, events: play.events, ends })
}

/// What is to be done at a moment, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The call of a notification has its answer.
    Answer(usize),
    Stop,
    /// The activator takes a notification.
    Publish(usize),
    /// A channel's worker sees what it may call.
    Look(&'static str),
}

/// A notification on its way.
struct Player {
    channel: &'static Channel,
    row: Notification,
    story: Story,
    /// The answer that its call is going to have.
    answer: Option<Answer>,
}

/// One channel's worker.
#[derive(Default)]
struct Worker {
    gate: Gate,
    /// What was handed over, by the time when it may be called.
    waiting: BTreeSet<(Timestamp, usize)>,
    /// What its provider will do, the last first.
    reactions: Vec<(Reaction, u32)>,
}

impl Worker {
    fn next_reaction(&mut self) -> Reaction {
        while let Some((reaction, times)) = self.reactions.last_mut() {
            if *times > 0 {
                *times -= 1;
                return *reaction;
            }
            self.reactions.pop();
        }
        Reaction::Accept
    }
}

struct Play {
    begins_at: Timestamp,
    now: Timestamp,
    call_timeout: Duration,
    players: Vec<Player>,
    workers: BTreeMap<&'static str, Worker>,
    agenda: BTreeSet<(Timestamp, Step)>,
    events: Vec<Happening>,
}

impl Play {
    fn begin(simulation: Simulation) -> Self {
        let Simulation { begins_at, process, notifications, mut reactions, stop_at, call_timeout, .. } = simulation;
        let workers = CHANNELS.iter().map(|channel| {
            let mut reactions = reactions.remove(channel.name).unwrap_or_default();
            reactions.reverse();
            (channel.name, Worker { reactions, ..Worker::default() })
        });
        let mut play = Self {
            begins_at,
            now: begins_at,
            call_timeout,
            workers: workers.collect(),
            players: notifications.iter().map(|one| player(one, &process, begins_at)).collect(),
            agenda: BTreeSet::new(),
            events: Vec::new(),
        };
        for (n, one) in notifications.iter().enumerate() {
            let published = one.at.saturating_sub(PUBLISHED_AHEAD).unwrap_or(begins_at).max(begins_at);
            play.agenda.insert((published, Step::Publish(n)));
        }
        if let Some(stop_at) = stop_at {
            play.agenda.insert((stop_at.max(begins_at), Step::Stop));
        }
        let sentence = match notifications.len() {
            1 => "The request is accepted, with one notification.".to_owned(),
            n => format!("The request is accepted, with {n} notifications."),
        };
        play.tell(None, None, Kind::Accepted, sentence);
        play
    }

    fn publish(&mut self, n: usize) {
        if self.happens(n, &Event::Publish) {
            self.tell_of(n, Kind::Queued);
            self.wait(n);
        }
    }

    /// It waits for its worker.
    fn wait(&mut self, n: usize) {
        let (channel, due_at) = (self.channel(n).name, self.players[n].story.due_at);
        self.worker(channel).waiting.insert((due_at, n));
        self.agenda.insert((due_at.max(self.now), Step::Look(channel)));
    }

    fn look(&mut self, channel: &'static str) {
        let (now, elapsed) = (self.now, self.elapsed());
        let worker = self.worker(channel);
        let ready: Vec<_> = worker.waiting.iter().take_while(|(due_at, _)| *due_at <= now).copied().collect();
        if ready.is_empty() {
            return;
        }
        let limit = match worker.gate.allowance(elapsed) {
            Allowance::All => usize::MAX,
            Allowance::One => 1,
            Allowance::NoneFor(wait) => {
                self.agenda.insert((later(now, wait), Step::Look(channel)));
                return;
            }
        };
        let mut called = 0;
        for one in ready {
            if called == limit {
                let next = later(now, self.worker(channel).gate.interval());
                self.agenda.insert((next, Step::Look(channel)));
                return;
            }
            self.worker(channel).waiting.remove(&one);
            called += usize::from(self.claim(one.1));
        }
        if called == 0 {
            self.worker(channel).gate.not_called(elapsed);
        }
    }

    /// Whether its provider was called.
    fn claim(&mut self, n: usize) -> bool {
        let (now, call_timeout) = (self.now, self.call_timeout);
        let expired = self.players[n].story.expires_at <= now;
        if !self.happens(n, &Event::Claim { due: true, expired }) {
            return false;
        }
        if self.players[n].row.state == State::Failed {
            self.finish(n, Some("max-age was over before it could be sent".to_owned()));
            return false;
        }
        self.players[n].story.claimed_at = Some(now);
        self.tell_of(n, Kind::Call);
        let channel = self.channel(n);
        let reaction = self.worker(channel.name).next_reaction();
        self.players[n].answer = Some(channel.provider.answer(reaction, call_timeout));
        let takes = if reaction == Reaction::KeepSilent { call_timeout } else { Duration::ZERO };
        self.agenda.insert((later(now, takes), Step::Answer(n)));
        true
    }

    fn answer(&mut self, n: usize) {
        let (channel, now) = (self.channel(n), self.now);
        let Some(answer) = self.players[n].answer.take() else { return };
        self.learn(channel, &answer);
        let Player { row, story, .. } = &mut self.players[n];
        let cost_none = |outcome: Outcome| !outcome.costs_an_attempt();
        let refused = story.calls.iter().filter(|call| cost_none(call.outcome)).count();
        let refusals = u16::try_from(refused + usize::from(cost_none(answer.outcome))).unwrap_or(u16::MAX);
        let answer = answer.with_wait_of_one(channel.provider, refusals);
        let outcome = answer.outcome;
        story.calls.push(Call {
            number: i32::try_from(row.fence).unwrap_or(i32::MAX),
            worker: None,
            started_at: story.claimed_at.unwrap_or(now),
            finished_at: now,
            outcome,
            detail: answer.detail.clone(),
            provider_id: None,
            late_outcome: None,
        });
        let attempts = row.attempts + u16::from(outcome.costs_an_attempt());
        let (_, way) = after_attempt(outcome, attempts, refusals, row.max_attempts, row.on_unknown, answer.retry_after);
        if !self.happens(n, &Event::Record { fence: self.players[n].row.fence, outcome }) {
            return;
        }
        match (self.players[n].row.state, way) {
            (State::Retrying, Some(way)) => {
                self.players[n].story.due_at = later(now, way.delay());
                self.tell_of(n, Kind::Retrying);
                self.wait(n);
            }
            _ => {
                let reason = reason(&self.players[n].row, &answer);
                self.finish(n, reason);
            }
        }
    }

    /// What an answer says of the whole channel.
    fn learn(&mut self, channel: &'static Channel, answer: &Answer) {
        if !channel.provider.serves_all() {
            return;
        }
        let channel = channel.name;
        let (now, elapsed) = (self.now, self.elapsed());
        let gate = &mut self.worker(channel).gate;
        let was_open = gate.is_open();
        gate.saw(elapsed, answer);
        let (is_open, seconds) = (gate.is_open(), gate.interval().as_secs());
        if was_open && !is_open {
            let why = answer.detail.as_deref().unwrap_or("it does not say why");
            let sentence = format!(
                "The provider of channel {channel} refuses all of it, or is away ({why}): it is asked with one call every \
                 {seconds} s, and nobody else is called meanwhile."
            );
            self.tell(None, Some(channel), Kind::Paused, sentence);
        } else if !was_open && is_open {
            self.tell(
                None,
                Some(channel),
                Kind::Resumed,
                format!("The provider of channel {channel} serves it again."),
            );
            self.agenda.insert((now, Step::Look(channel)));
        }
    }

    fn stop(&mut self) {
        let stopped: Vec<_> = (0..self.players.len()).filter(|n| self.happens(*n, &Event::Stop)).collect();
        let (cancelled, sending): (Vec<_>, Vec<_>) =
            stopped.into_iter().partition(|n| self.players[*n].row.state == State::Cancelled);
        let mut sentence = match cancelled.len() + sending.len() {
            0 => "The stop is ignored, as all had come to an end.".to_owned(),
            n => format!("The process is stopped, with {n} notifications unfinished."),
        };
        if !sending.is_empty() {
            sentence.push_str(" What is being sent is not tried again if it fails.");
        }
        self.tell(None, None, Kind::Stop, sentence);
        for n in cancelled {
            self.finish(n, Some("stopped".to_owned()));
        }
    }

    /// Changes the row by the transition table; `false` if nothing changes.
    fn happens(&mut self, n: usize, event: &Event) -> bool {
        let Player { row, story, .. } = &mut self.players[n];
        let Some(next) = transition(row, event) else { return false };
        *row = next;
        (story.state, story.stop_requested) = (row.state, row.stop_requested);
        true
    }

    fn finish(&mut self, n: usize, reason: Option<String>) {
        let story = &mut self.players[n].story;
        (story.reason, story.finished_at) = (reason, Some(self.now));
        let kind = match story.state {
            State::Delivered => Kind::Delivered,
            State::Cancelled => Kind::Cancelled,
            _ => Kind::Failed,
        };
        self.tell_of(n, kind);
    }

    fn tell_of(&mut self, n: usize, kind: Kind) {
        let story = &mut self.players[n].story;
        story.now = self.now;
        let (_, sentence) = explain(story);
        let channel = self.channel(n).name;
        self.tell(Some(n), Some(channel), kind, sentence);
    }

    fn tell(&mut self, notification: Option<usize>, channel: Option<&'static str>, kind: Kind, sentence: String) {
        self.events.push(Happening { at: self.now, notification, channel, kind, sentence });
    }

    fn channel(&self, n: usize) -> &'static Channel {
        self.players[n].channel
    }

    fn worker(&mut self, channel: &'static str) -> &mut Worker {
        self.workers.entry(channel).or_default()
    }

    fn elapsed(&self) -> Duration {
        Duration::try_from(self.now.duration_since(self.begins_at)).unwrap_or_default()
    }
}

fn player(one: &NewNotification, process: &ProcessName, begins_at: Timestamp) -> Player {
    let row = Notification {
        state: State::Scheduled,
        fence: 0,
        stop_requested: false,
        attempts: 0,
        max_attempts: one.max_attempts,
        on_unknown: one.on_unknown,
    };
    let story = Story {
        now: begins_at,
        process: process.as_str().to_owned(),
        run: 1,
        newest_run: 1,
        channel: one.channel.name.to_owned(),
        state: row.state,
        reason: None,
        scheduled_at: one.at,
        due_at: one.at,
        wake_at: None,
        expires_at: later(one.at.max(begins_at), one.max_age),
        claimed_at: None,
        claimed_by: None,
        finished_at: None,
        max_attempts: one.max_attempts,
        on_unknown: one.on_unknown,
        returns: 0,
        stop_requested: false,
        calls: Vec::new(),
        pause: None,
        stop: None,
        interventions: Vec::new(),
    };
    Player { channel: one.channel, row, story, answer: None }
}

/// Why it has come to its end with this answer, in the words that the database keeps.
fn reason(row: &Notification, answer: &Answer) -> Option<String> {
    match (row.state, answer.outcome) {
        (State::Cancelled, _) => Some("stopped while it was being sent".to_owned()),
        (State::Failed, Outcome::Permanent) => answer.detail.clone(),
        (State::Failed, Outcome::Unknown) if row.on_unknown == OnUnknown::Fail => {
            Some("nobody can tell whether it was sent, and on-unknown is fail".to_owned())
        }
        (State::Failed, _) => Some(format!("all {} attempts failed", row.max_attempts)),
        _ => None,
    }
}

fn later(at: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
