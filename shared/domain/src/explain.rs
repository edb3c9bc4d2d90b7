use jiff::{SignedDuration, Timestamp};

use crate::{OnUnknown, Outcome, State};

/// Everything that decides what can be said of a notification.
#[derive(Debug, Clone)]
pub struct Story {
    /// The database's time.
    pub now: Timestamp,
    /// Its process's name.
    pub process: String,
    /// The process's run that it belongs to.
    pub run: i32,
    /// The process's newest run.
    pub newest_run: i32,
    /// Its channel's name.
    pub channel: String,
    /// Where it stands.
    pub state: State,
    /// Why it failed, was cancelled, or came back from the broker, as it was recorded.
    pub reason: Option<String>,
    /// When it was asked for.
    pub scheduled_at: Timestamp,
    /// When the next call may begin.
    pub due_at: Timestamp,
    /// When the activator looks at it again, unless it is finished.
    pub wake_at: Option<Timestamp>,
    /// When its `max-age` is over.
    pub expires_at: Timestamp,
    /// When it was claimed last.
    pub claimed_at: Option<Timestamp>,
    /// By whom.
    pub claimed_by: Option<String>,
    /// When it came to its end.
    pub finished_at: Option<Timestamp>,
    /// How many calls that cost an attempt there may be.
    pub max_attempts: u16,
    /// What it wants when nobody can tell.
    pub on_unknown: OnUnknown,
    /// How often in a row the broker gave its message back.
    pub returns: u16,
    /// A stop came while it was being sent.
    pub stop_requested: bool,
    /// Its calls, in their order.
    pub calls: Vec<Call>,
    /// Why nothing of its channel is claimed, if it is so.
    pub pause: Option<Held>,
    /// The newest stop that took effect on its process while it was unfinished.
    pub stop: Option<StopRequest>,
    /// What people did to it, in their order.
    pub interventions: Vec<Intervention>,
}

/// One call, or a claim of which nobody can tell whether a call was made.
#[derive(Debug, Clone)]
pub struct Call {
    /// The number of its claim. Not every claim led to a call.
    pub number: i32,
    /// Who made it.
    pub worker: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it had its end.
    pub finished_at: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
    /// What the provider said.
    pub detail: Option<String>,
    /// The provider's id of what it accepted.
    pub provider_id: Option<String>,
    /// What its worker said when its claim had run out.
    pub late_outcome: Option<Outcome>,
}

/// A pause.
#[derive(Debug, Clone)]
pub struct Held {
    /// Which channel, or `all`.
    pub channel: String,
    /// By whom.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// Why, if it was said.
    pub reason: Option<String>,
}

/// A stop.
#[derive(Debug, Clone)]
pub struct StopRequest {
    /// The request's number.
    pub request: i64,
    /// When it was received.
    pub at: Timestamp,
}

/// What somebody did.
#[derive(Debug, Clone)]
pub struct Intervention {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What.
    pub kind: InterventionKind,
}

/// What can be done to a failed notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterventionKind {
    /// Tried again.
    Retry,
    /// Its address or text was changed.
    Edit,
    /// Not to be tried again.
    GiveUp,
}

/// Whether it was sent, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A provider accepted it. What became of it at the other end is not known by this.
    Accepted,
    /// It was not, and will not be.
    NotSent,
    /// It was not, and may be.
    NotYet,
    /// A worker has it in hand.
    BeingSent,
    /// Nobody can tell.
    Unknown,
}

impl Answer {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Accepted, Self::NotSent, Self::NotYet, Self::BeingSent, Self::Unknown];

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::NotSent => "not-sent",
            Self::NotYet => "not-yet",
            Self::BeingSent => "being-sent",
            Self::Unknown => "unknown",
        }
    }
}

/// Why it was or was not sent, in one sentence.
pub fn explain(story: &Story) -> (Answer, String) {
    let (answer, mut sentence) = match story.state {
        State::Scheduled => (Answer::NotYet, scheduled(story)),
        State::Queued => (Answer::NotYet, waiting(story, "it was handed to the broker")),
        State::Retrying => (Answer::NotYet, retrying(story)),
        State::Sending => (Answer::BeingSent, sending(story)),
        State::Delivered => (Answer::Accepted, delivered(story)),
        State::Failed => failed(story),
        State::Cancelled => cancelled(story),
    };
    if !story.state.is_final() && story.newest_run > story.run {
        sentence.push_str(&format!(
            "; its process was started again since (run {}), which does not end what run {} had begun",
            story.newest_run, story.run
        ));
    }
    sentence.push('.');
    (answer, sentence)
}

fn scheduled(story: &Story) -> String {
    if story.returns > 0 {
        let reason = story.reason.as_deref().unwrap_or("no reason given");
        let again = story.wake_at.map_or_else(String::new, |at| format!(" at {at:.0}"));
        return format!("Not sent yet: the broker gave its message back ({reason}), and it is published again{again}");
    }
    if story.due_at > story.now {
        let wait = length(story.due_at.duration_since(story.now));
        let held = match &story.pause {
            Some(pause) => format!(", and {}", paused(pause)),
            None => String::new(),
        };
        return format!("Not sent yet: it is scheduled for {:.0}, {wait} from now{held}", story.due_at);
    }
    match &story.pause {
        Some(pause) => format!("Not sent yet: it is due since {:.0}, and {}", story.due_at, paused(pause)),
        None => format!("Not sent yet: it is due since {:.0}, and no activator has taken it", story.due_at),
    }
}

/// Of what only waits for a worker.
fn waiting(story: &Story, how: &str) -> String {
    match &story.pause {
        Some(pause) => format!("Not sent yet: {how}, and {}", paused(pause)),
        None if story.expires_at <= story.now => {
            format!(
                "Not sent yet: its max-age was over at {:.0}, so it fails as soon as a worker sees it",
                story.expires_at
            )
        }
        None if story.due_at > story.now => {
            format!("Not sent yet: {how} ahead of its time, {:.0}", story.due_at)
        }
        None => format!(
            "Not sent yet: {how}, and waits in queue notify.{} for a worker since {:.0}",
            story.channel, story.due_at
        ),
    }
}

fn retrying(story: &Story) -> String {
    let last = story.calls.last();
    // What somebody did after the last call is what it waits for now.
    let retry = story.interventions.iter().rev().find(|one| one.kind == InterventionKind::Retry);
    let since = match (retry, last) {
        (Some(retry), Some(call)) if retry.at >= call.finished_at => Some(retry),
        (Some(retry), None) => Some(retry),
        _ => None,
    };
    let why = match (since, last) {
        (Some(retry), _) => format!("{} had it tried again at {:.0}", retry.actor, retry.at),
        (None, Some(call)) => why_again(story, call),
        (None, None) => "a worker gave it back without having called".to_owned(),
    };
    if story.due_at > story.now && story.pause.is_none() {
        let wait = length(story.due_at.duration_since(story.now));
        return format!("Not sent yet: {why}, and the next call is made at {:.0}, {wait} from now", story.due_at);
    }
    waiting(story, &why)
}

fn why_again(story: &Story, call: &Call) -> String {
    let number = story.calls.len();
    let said = said(call);
    match call.outcome {
        Outcome::Unknown => {
            format!("nobody can tell whether call {number}, begun at {:.0}, was carried out{said}", call.started_at)
        }
        Outcome::RateLimited => format!("the provider asked for fewer calls at {:.0}{said}", call.finished_at),
        Outcome::ChannelDown => {
            format!("the provider refused the whole channel, or was away, at {:.0}{said}", call.finished_at)
        }
        Outcome::Temporary | Outcome::Permanent | Outcome::Delivered | Outcome::DryRun => {
            format!("call {number} failed at {:.0}{said}", call.finished_at)
        }
    }
}

fn sending(story: &Story) -> String {
    let who = story.claimed_by.as_deref().unwrap_or("a worker");
    let since = story.claimed_at.unwrap_or(story.due_at);
    let stop = match (&story.stop, story.stop_requested) {
        (Some(stop), true) => {
            format!(
                "; request {} stopped the process at {:.0}, so a failed call is not tried again",
                stop.request, stop.at
            )
        }
        (None, true) => "; its process was stopped meanwhile, so a failed call is not tried again".to_owned(),
        (_, false) => String::new(),
    };
    let limit = match story.wake_at {
        Some(wake) if wake <= story.now => {
            "; its worker has not said in time what came of the call, which will count as unknown".to_owned()
        }
        Some(wake) => format!("; if it does not say what came of the call until {wake:.0}, the call counts as unknown"),
        None => String::new(),
    };
    format!("Being sent: {who} has it in hand since {since:.0}{limit}{stop}")
}

fn delivered(story: &Story) -> String {
    let call = story.calls.iter().rev().find(|call| call.outcome == Outcome::Delivered);
    let at = call.map_or(story.finished_at.unwrap_or(story.due_at), |call| call.finished_at);
    let id = match call.and_then(|call| call.provider_id.as_ref()) {
        Some(id) => format!(", as {id}"),
        None => String::new(),
    };
    let late = call.map(|call| call.started_at.duration_since(story.scheduled_at)).filter(|late| late.is_positive());
    let late = late.map_or_else(String::new, |late| format!(", called {} after its time", length(late)));
    let before = story.calls.len().saturating_sub(1);
    let before = match before {
        0 => String::new(),
        1 => format!(", after a first call that {}", came_to_nothing(&story.calls[0])),
        n => format!(", after {n} other calls{}", unknown_among(&story.calls[..n])),
    };
    format!(
        "Accepted by the provider at {at:.0}{id}{late}{before}; what became of it at the other end is not known by this"
    )
}

fn came_to_nothing(call: &Call) -> String {
    match call.outcome {
        Outcome::Unknown => format!("may have been carried out too{}", said(call)),
        Outcome::Delivered => "was accepted too".to_owned(),
        _ => format!("failed{}", said(call)),
    }
}

fn unknown_among(calls: &[Call]) -> String {
    let unknown = calls.iter().filter(|call| call.outcome == Outcome::Unknown).count();
    if unknown == 0 { String::new() } else { format!(", of which {unknown} may have been carried out too") }
}

fn failed(story: &Story) -> (Answer, String) {
    let at = story.finished_at.unwrap_or(story.now);
    let reason = story.reason.as_deref().unwrap_or("no reason was recorded");
    let given_up = story.interventions.iter().rev().find(|one| one.kind == InterventionKind::GiveUp);
    let given_up = given_up.map_or_else(String::new, |one| format!("; {} gave it up at {:.0}", one.actor, one.at));
    if let Some(sentence) = accepted_after_all(story) {
        return (Answer::Accepted, format!("{sentence}, so it counts as failed at {at:.0} ({reason}){given_up}"));
    }
    let last = story.calls.last();
    let expired = reason.starts_with("max-age");
    let unknown = story.calls.iter().any(|call| call.outcome == Outcome::Unknown);
    let (answer, start) =
        if unknown { (Answer::Unknown, "Nobody can tell whether it was sent") } else { (Answer::NotSent, "Not sent") };
    let why = match last {
        Some(call) if expired => {
            let calls = match story.calls.len() {
                1 => "one call".to_owned(),
                n => format!("{n} calls"),
            };
            format!(
                "its max-age was over at {:.0}, after {calls} in vain, the last at {:.0}{}",
                story.expires_at,
                call.started_at,
                said(call)
            )
        }
        None if expired => format!("its max-age was over at {:.0} before anybody could send it", story.expires_at),
        Some(call) if call.outcome == Outcome::Permanent => {
            let others = unknown_among(&story.calls[..story.calls.len() - 1]);
            format!(
                "it was refused for good at {:.0}: {reason}{}",
                call.finished_at,
                others.replace(", of which ", ", and of the calls before ")
            )
        }
        Some(call) if call.outcome == Outcome::Unknown && story.on_unknown == OnUnknown::Fail => {
            format!(
                "the call begun at {:.0} had no clear answer{}, and on-unknown is fail, so it is not tried again",
                call.started_at,
                said(call)
            )
        }
        Some(call) => {
            format!("{reason}, the last at {:.0}{}{}", call.finished_at, said(call), unknown_among(&story.calls))
        }
        None => format!("{reason}, at {at:.0}"),
    };
    (answer, format!("{start}: {why}{given_up}"))
}

fn cancelled(story: &Story) -> (Answer, String) {
    let at = story.finished_at.unwrap_or(story.now);
    if let Some(sentence) = accepted_after_all(story) {
        return (Answer::Accepted, format!("{sentence}, and it was cancelled at {at:.0}"));
    }
    let last = story.calls.last();
    if last.is_some_and(|call| call.outcome == Outcome::DryRun) {
        let why = "dry run, its worker was told to say only what it would send";
        return (Answer::NotSent, format!("Not sent: {why}, and called nobody at {at:.0}"));
    }
    let who = match &story.stop {
        Some(stop) => format!("request {} stopped its process at {:.0}", stop.request, stop.at),
        None => format!("its process was stopped, and it ended at {at:.0}"),
    };
    let unknown = story.calls.iter().any(|call| call.outcome == Outcome::Unknown);
    let (answer, start) =
        if unknown { (Answer::Unknown, "Nobody can tell whether it was sent") } else { (Answer::NotSent, "Not sent") };
    let when = match last {
        Some(call) if story.stop_requested => {
            format!(" while it was being sent, and call {} {}", story.calls.len(), came_to_nothing(call))
        }
        None if story.stop_requested => " when a worker had it in hand, but had not called".to_owned(),
        Some(call) => format!(" before the next try; call {} before {}", story.calls.len(), came_to_nothing(call)),
        None => " before it was sent".to_owned(),
    };
    (answer, format!("{start}: {who}{when}"))
}

/// A worker that spoke when its claim had run out.
fn accepted_after_all(story: &Story) -> Option<String> {
    let call = story.calls.iter().find(|call| call.late_outcome == Some(Outcome::Delivered))?;
    Some(format!(
        "Accepted by the provider: the call begun at {:.0} went through, but its worker said so too late",
        call.started_at
    ))
}

fn said(call: &Call) -> String {
    call.detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"))
}

fn paused(pause: &Held) -> String {
    let what = if pause.channel == "all" { "every channel".to_owned() } else { format!("channel {}", pause.channel) };
    let why = pause.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    format!("{what} is paused by {} since {:.0}{why}", pause.by, pause.since)
}

/// A length of time in the unit that says most: `340 ms`, `12 s`, `5 min`, `3 h`, `2 days`.
fn length(length: SignedDuration) -> String {
    let millis = length.as_millis();
    match millis {
        ..10_000 => format!("{millis} ms"),
        10_000..120_000 => format!("{} s", millis / 1_000),
        120_000..7_200_000 => format!("{} min", millis / 60_000),
        7_200_000..172_800_000 => format!("{} h", millis / 3_600_000),
        _ => format!("{} days", millis / 86_400_000),
    }
}

#[cfg(test)]
mod tests;
