use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use domain::{Outcome, provider::receiver_answer};
use http_client::{Answered, Bytes, Connections, HeaderName, Reply, Target};
use notifier::{Answer, Channel, Claim};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{
    addresses::{Names, PRIVATE, is_public_or_name},
    signature::Secret,
};

const CONTENT_TYPE: HeaderName = HeaderName::from_static("content-type");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// As many URLs as are kept, each of up to 2,048 characters.
const MAX_TARGETS: usize = 1_000;

/// More than a body has beside its payload and the name of its process.
const ENVELOPE_BYTES: usize = 200;

/// Posts webhooks as <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md> has
/// them.
pub(crate) struct Webhook {
    connections: Connections,
    secret: Secret,
    allow_private: bool,
    targets: Targets,
}

/// What is posted, and where.
pub(crate) struct Post {
    target: Arc<Target>,
    id: String,
    timestamp: i64,
    body: Bytes,
}

#[derive(Serialize)]
struct Body<'a> {
    data: Data<'a>,
    timestamp: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Data<'a> {
    notification_id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    process_id: &'a str,
    run: i32,
}

impl fmt::Display for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "webhook {} of {} bytes", self.id, self.body.len())
    }
}

impl Webhook {
    /// `call_timeout` is when a call is given up.
    pub(crate) fn new(secret: Secret, allow_private: bool, call_timeout: Duration) -> io::Result<Self> {
        let names = Names::new(allow_private);
        let connections = Connections::new(move |name| names.resolve(name), call_timeout)?;
        Ok(Self { connections, secret, allow_private, targets: Targets::default() })
    }
}

/// URLs that were posted to lately: most are posted to again, and to understand one takes as long as a tenth of a call.
#[derive(Default)]
struct Targets(Mutex<HashMap<String, Arc<Target>>>);

impl Targets {
    /// `None` if it is no URL.
    fn parse(&self, url: &str) -> Option<Arc<Target>> {
        if let Some(target) = self.known().get(url) {
            return Some(Arc::clone(target));
        }
        let target = Arc::new(Target::parse(url)?);
        let mut known = self.known();
        if known.len() >= MAX_TARGETS {
            known.clear();
        }
        known.insert(url.to_owned(), Arc::clone(&target));
        Some(target)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<Target>>> {
        self.0.lock().expect("nobody panics while holding this lock")
    }
}

impl Channel for Webhook {
    const NAME: &'static str = "webhook";

    type Message = Post;

    fn prepare(&self, claim: &Claim, _property: Option<&Value>) -> Result<Post, Answer> {
        let target = claim.address.as_deref().and_then(|url| self.targets.parse(url));
        let target = target.ok_or_else(|| Answer::new(Outcome::Permanent, "the notification has no URL"))?;
        // The resolver is not asked about addresses, so they are looked at here.
        if !self.allow_private && !is_public_or_name(target.url()) {
            return Err(Answer::new(Outcome::Permanent, PRIVATE));
        }
        let data = Data {
            notification_id: claim.id.0,
            payload: claim.options.raw("payload"),
            process_id: claim.process.as_str(),
            run: claim.run,
        };
        // The same on every try, as the receiver may compare.
        let mut body = Vec::with_capacity(
            ENVELOPE_BYTES + claim.process.len() + data.payload.map_or(0, |payload| payload.get().len()),
        );
        let envelope = Body { data, timestamp: claim.scheduled_at.to_string(), kind: "notification" };
        serde_json::to_writer(&mut body, &envelope)
            .map_err(|error| Answer::new(Outcome::Permanent, format!("it can't be written as JSON: {error}")))?;
        let id = format!("msg_{}", claim.idempotency_key());
        Ok(Post { target, id, timestamp: claim.claimed_at.as_second(), body: body.into() })
    }

    /// A server, not each of its URLs.
    fn shared_place<'a>(&self, _claim: &'a Claim, post: &'a Post) -> Option<&'a str> {
        Some(post.target.server())
    }

    async fn send(&self, post: Post) -> Answer {
        let timestamp = post.timestamp.to_string();
        let signature = self.secret.sign(&post.id, &timestamp, &post.body);
        let headers = [
            (CONTENT_TYPE, "application/json"),
            (WEBHOOK_ID, post.id.as_str()),
            (WEBHOOK_TIMESTAMP, &timestamp),
            (WEBHOOK_SIGNATURE, &signature),
        ];
        match self.connections.post(&post.target, headers, post.body).await {
            Reply::Answered(answered) => {
                let answer = classify(&answered);
                // By this the receiver knows it.
                let provider_id = (answer.outcome == Outcome::Delivered).then_some(post.id);
                Answer { provider_id, ..answer }
            }
            Reply::Unreachable(why) if why == PRIVATE => Answer::new(Outcome::Permanent, PRIVATE),
            Reply::Unreachable(why) => Answer::new(Outcome::Temporary, format!("could not connect: {why}")),
            Reply::Broken => Answer::new(Outcome::Unknown, "the connection broke before the answer came"),
            Reply::Unusable => Answer::new(Outcome::Permanent, "the URL is of no use"),
        }
    }

    async fn check(&self) -> Result<String, String> {
        let private = if self.allow_private { "allowed" } else { "refused" };
        Ok(format!("the secret is good, private addresses are {private}; receivers are contacted with a webhook only"))
    }
}

/// What an answer means.
pub fn classify(answered: &Answered) -> Answer {
    receiver_answer(answered.status, answered.retry_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_late_are_understood_once_and_no_more_of_them_kept_than_is_promised() {
        let targets = Targets::default();
        let first = targets.parse("https://example.org/0").unwrap();
        for n in 1..MAX_TARGETS {
            targets.parse(&format!("https://example.org/{n}")).unwrap();
        }
        assert!(Arc::ptr_eq(&first, &targets.parse("https://example.org/0").unwrap()));
        assert_eq!(*targets.parse("https://example.net/").unwrap(), Target::parse("https://example.net/").unwrap());
        assert!(targets.known().len() <= MAX_TARGETS);
        assert!(targets.parse("no url").is_none());
    }
}
