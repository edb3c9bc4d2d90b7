use domain::{
    CHANNELS, OnUnknown,
    explain::{Call, InterventionKind, explain},
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use store::{NotificationReport, ProcessRecord, RecordedRequest};
use utoipa::ToSchema;

use crate::problem::FieldError;

/// A time as it stands in answers: RFC 3339 in UTC.
pub(crate) fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// A request as it was recorded.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RequestView {
    pub(crate) id: i64,
    /// The queue that it came from, or `api:` and the first part of a key.
    pub(crate) source: String,
    pub(crate) received_at: String,
    /// The process that it named, if that could be read.
    pub(crate) process_id: Option<String>,
    /// `start` or `stop`, if that could be read.
    pub(crate) action: Option<String>,
    /// `accepted`; `ignored`, as there was nothing to do; or `rejected`, as it can't be carried out.
    pub(crate) outcome: String,
    /// Why it was not accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) reasons: Vec<FieldError>,
    /// The run that a start began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<i32>,
    /// The notifications that a start made, in their order; only where one request is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notifications: Vec<i64>,
    /// The words as they came, for keys that may see addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
}

impl RequestView {
    pub(crate) fn new(request: RecordedRequest, with_body: bool) -> Self {
        Self {
            id: request.id,
            source: request.source,
            received_at: time(request.received_at),
            process_id: request.process,
            action: request.action,
            outcome: request.outcome,
            reasons: reasons(request.reasons.as_ref()),
            run: request.run,
            notifications: request.notifications,
            body: with_body.then(|| String::from_utf8_lossy(&request.body).into_owned()),
        }
    }
}

/// The reasons as they were recorded.
pub(crate) fn reasons(recorded: Option<&Value>) -> Vec<FieldError> {
    let text = |reason: &Value, key: &str| reason[key].as_str().unwrap_or_default().to_owned();
    let all = recorded.and_then(Value::as_array).into_iter().flatten();
    all.map(|reason| FieldError { field: text(reason, "field"), message: text(reason, "message") }).collect()
}

/// One call, or a claim of which nobody can tell whether a call was made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct CallView {
    /// The number of its claim; not every claim leads to a call.
    pub(crate) number: i32,
    pub(crate) started_at: String,
    pub(crate) finished_at: String,
    /// `delivered` (the provider accepted it), `temporary`, `rate_limited`, `permanent`, `channel_down`, `unknown` or
    /// `dry_run`.
    pub(crate) outcome: &'static str,
    /// What the provider said.
    pub(crate) detail: Option<String>,
    /// The provider's own id of what it accepted.
    pub(crate) provider_id: Option<String>,
    pub(crate) worker: Option<String>,
    /// What its worker said after its claim had run out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) late_outcome: Option<&'static str>,
}

impl From<&Call> for CallView {
    fn from(call: &Call) -> Self {
        Self {
            number: call.number,
            started_at: time(call.started_at),
            finished_at: time(call.finished_at),
            outcome: call.outcome.as_str(),
            detail: call.detail.clone(),
            provider_id: call.provider_id.clone(),
            worker: call.worker.clone(),
            late_outcome: call.late_outcome.map(|outcome| outcome.as_str()),
        }
    }
}

/// What somebody did to a failed notification.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct InterventionView {
    pub(crate) at: String,
    pub(crate) actor: String,
    /// `retry`, `edit` or `give-up`.
    pub(crate) action: &'static str,
}

/// A notification, what was done about it, and why it was or was not sent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct NotificationView {
    pub(crate) id: i64,
    pub(crate) process_id: String,
    pub(crate) run: i32,
    /// The request that made it.
    pub(crate) request: i64,
    pub(crate) channel: String,
    /// `scheduled`, `queued`, `sending`, `retrying`, `delivered` (accepted by the provider), `failed` or `cancelled`.
    pub(crate) state: &'static str,
    /// Whether it was sent: `accepted`, `not-sent`, `not-yet`, `being-sent` or `unknown`.
    pub(crate) answer: &'static str,
    /// Why it was or was not sent, in one sentence.
    pub(crate) sentence: String,
    /// Why it failed, was cancelled, or came back from the broker, as it was recorded.
    pub(crate) reason: Option<String>,
    /// When it was asked for.
    pub(crate) scheduled_at: String,
    /// When it was accepted by Tocsin.
    pub(crate) accepted_at: String,
    /// When the next call may begin, or could have begun.
    pub(crate) due_at: String,
    /// When its max-age is over.
    pub(crate) expires_at: String,
    pub(crate) finished_at: Option<String>,
    /// Who claimed it last.
    pub(crate) claimed_by: Option<String>,
    /// Calls that cost an attempt, since it was last tried again by hand.
    pub(crate) attempts: u16,
    pub(crate) max_attempts: u16,
    /// `retry` or `fail`.
    pub(crate) on_unknown: &'static str,
    /// A failed one that is not to be tried again, as somebody has decided.
    pub(crate) given_up: bool,
    pub(crate) calls: Vec<CallView>,
    /// What people did to it.
    pub(crate) interventions: Vec<InterventionView>,
    /// Why nothing of its channel is sent now, if it is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) paused_by: Option<String>,
    /// The stop that took effect on its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stopped_by_request: Option<i64>,
    /// The channel's own keys, for keys that may see addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<Value>,
}

impl NotificationView {
    pub(crate) fn new(report: NotificationReport, with_content: bool) -> Self {
        let (answer, sentence) = explain(&report.story);
        let content = with_content.then(|| content(&report));
        let story = report.story;
        let action = |kind| match kind {
            InterventionKind::Retry => "retry",
            InterventionKind::Edit => "edit",
            InterventionKind::GiveUp => "give-up",
        };
        let interventions = story.interventions.iter();
        let interventions = interventions.map(|one| InterventionView {
            at: time(one.at),
            actor: one.actor.clone(),
            action: action(one.kind),
        });
        Self {
            id: report.id,
            request: report.request,
            accepted_at: time(report.accepted_at),
            attempts: report.attempts,
            given_up: report.given_up,
            content,
            answer: answer.as_str(),
            sentence,
            interventions: interventions.collect(),
            calls: story.calls.iter().map(CallView::from).collect(),
            state: story.state.as_str(),
            scheduled_at: time(story.scheduled_at),
            due_at: time(story.due_at),
            expires_at: time(story.expires_at),
            finished_at: story.finished_at.map(time),
            on_unknown: if story.on_unknown == OnUnknown::Fail { "fail" } else { "retry" },
            paused_by: story.pause.map(|pause| pause.by),
            stopped_by_request: story.stop.map(|stop| stop.request),
            process_id: story.process,
            run: story.run,
            channel: story.channel,
            reason: story.reason,
            claimed_by: story.claimed_by,
            max_attempts: story.max_attempts,
        }
    }
}

/// The keys as they stand in a request.
fn content(report: &NotificationReport) -> Value {
    let mut content = report.options.clone();
    let key = CHANNELS.iter().find(|c| c.name == report.story.channel).and_then(|c| c.address.as_ref()).map(|f| f.key);
    if let (Some(key), Some(address), Value::Object(members)) = (key, &report.address, &mut content) {
        members.insert(key.to_owned(), address.as_str().into());
    }
    content
}

/// Why a notification was or was not sent, and the facts behind it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Explanation {
    /// Whether it was sent: `accepted`, `not-sent`, `not-yet`, `being-sent` or `unknown`.
    pub(crate) answer: &'static str,
    /// Why, in one sentence.
    pub(crate) sentence: String,
    pub(crate) facts: NotificationView,
}

impl From<NotificationView> for Explanation {
    fn from(facts: NotificationView) -> Self {
        Self { answer: facts.answer, sentence: facts.sentence.clone(), facts }
    }
}

/// A process.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ProcessView {
    pub(crate) id: i64,
    pub(crate) process_id: String,
    /// How often it was started.
    pub(crate) run: i32,
    /// How many of its notifications have not come to their end.
    pub(crate) unfinished: i64,
    /// One of its notifications was not handed over yet, so that a start would be ignored.
    pub(crate) active: bool,
}

impl From<ProcessRecord> for ProcessView {
    fn from(record: ProcessRecord) -> Self {
        let ProcessRecord { id, name, run, unfinished, active } = record;
        Self { id, process_id: name, run, unfinished, active }
    }
}
