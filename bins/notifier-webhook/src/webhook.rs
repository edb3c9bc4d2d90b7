use std::{fmt, io, time::Duration};

use domain::{Outcome, provider::receiver_answer};
use http_client::{Answered, Connections, HeaderName, Reply, Target};
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

/// Posts webhooks as <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md> has
/// them.
pub(crate) struct Webhook {
    connections: Connections,
    secret: Secret,
    allow_private: bool,
}

/// What is posted, and where.
pub(crate) struct Post {
    target: Target,
    id: String,
    timestamp: i64,
    body: String,
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
        Ok(Self { connections, secret, allow_private })
    }
}

impl Channel for Webhook {
    const NAME: &'static str = "webhook";

    type Message = Post;

    fn prepare(&self, claim: &Claim, _property: Option<&Value>) -> Result<Post, Answer> {
        let target = claim.address.as_deref().and_then(Target::parse);
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
        let body = Body { data, timestamp: claim.scheduled_at.to_string(), kind: "notification" };
        let body = serde_json::to_string(&body)
            .map_err(|error| Answer::new(Outcome::Permanent, format!("it can't be written as JSON: {error}")))?;
        let id = format!("msg_{}", claim.idempotency_key());
        Ok(Post { target, id, timestamp: claim.claimed_at.as_second(), body })
    }

    /// A server, not each of its URLs.
    fn shared_place<'a>(&self, _claim: &'a Claim, post: &'a Post) -> Option<&'a str> {
        Some(post.target.server())
    }

    async fn send(&self, post: Post) -> Answer {
        let signature = self.secret.sign(&post.id, post.timestamp, &post.body);
        let headers = [
            (CONTENT_TYPE, "application/json"),
            (WEBHOOK_ID, post.id.as_str()),
            (WEBHOOK_TIMESTAMP, &post.timestamp.to_string()),
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
