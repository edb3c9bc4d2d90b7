use std::{fmt, sync::Arc, time::Duration};

use domain::{Outcome, provider::receiver_answer};
use http_client::{Answered, Reply, exchange};
use notifier::{Answer, Channel, Claim};
use reqwest::Client;
use serde_json::{Value, json};
use url::Url;

use crate::{
    addresses::{PRIVATE, PublicOnly, is_public_or_name},
    signature::Secret,
};

/// Posts webhooks as <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md> has
/// them.
pub(crate) struct Webhook {
    client: Client,
    secret: Secret,
    allow_private: bool,
    call_timeout: Duration,
}

/// What is posted, and where.
pub(crate) struct Post {
    url: Url,
    id: String,
    timestamp: i64,
    body: String,
}

impl fmt::Display for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "webhook {} of {} bytes", self.id, self.body.len())
    }
}

impl Webhook {
    /// `call_timeout` is when a call is given up.
    pub(crate) fn new(secret: Secret, allow_private: bool, call_timeout: Duration) -> reqwest::Result<Self> {
        let mut builder = http_client::builder(call_timeout);
        if !allow_private {
            builder = builder.dns_resolver(Arc::new(PublicOnly::default()));
        }
        Ok(Self { client: builder.build()?, secret, allow_private, call_timeout })
    }
}

impl Channel for Webhook {
    const NAME: &'static str = "webhook";

    type Message = Post;

    /// A server, not each of its URLs.
    fn shared_place(&self, claim: &Claim) -> Option<String> {
        let url: Url = claim.address.as_deref()?.parse().ok()?;
        Some(url.origin().ascii_serialization())
    }

    fn prepare(&self, claim: &Claim, _property: Option<&Value>) -> Result<Post, Answer> {
        let url = claim.address.as_deref().and_then(|address| address.parse::<Url>().ok());
        let url = url.ok_or_else(|| Answer::new(Outcome::Permanent, "the notification has no URL"))?;
        // The resolver is not asked about addresses, so they are looked at here.
        if !self.allow_private && !is_public_or_name(&url) {
            return Err(Answer::new(Outcome::Permanent, PRIVATE));
        }
        let mut data = json!({"process-id": claim.process, "notification-id": claim.id.0, "run": claim.run});
        if let Some(payload) = claim.options.get("payload") {
            data["payload"] = payload.clone();
        }
        // The same on every try, as the receiver may compare.
        let body = json!({"type": "notification", "timestamp": claim.scheduled_at.to_string(), "data": data});
        let id = format!("msg_{}", claim.idempotency_key());
        Ok(Post { url, id, timestamp: claim.claimed_at.as_second(), body: body.to_string() })
    }

    async fn send(&self, post: Post) -> Answer {
        let request = self
            .client
            .post(post.url)
            .header("content-type", "application/json")
            .header("webhook-id", &post.id)
            .header("webhook-timestamp", post.timestamp)
            .header("webhook-signature", self.secret.sign(&post.id, post.timestamp, &post.body))
            .body(post.body);
        match exchange(request, self.call_timeout).await {
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
