use std::{fmt, time::Duration};

use domain::{
    Outcome,
    provider::{pubnub_accepted, pubnub_answer},
};
use http_client::{Answered, Reply, exchange};
use notifier::{Answer, Channel, Claim};
use reqwest::Client;
use runtime::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

/// Who publishes, and in which keyset.
pub(crate) struct Keys {
    pub(crate) publish: SecretString,
    pub(crate) subscribe: SecretString,
    pub(crate) uuid: String,
}

/// PubNub's REST API: `POST /publish/{pub}/{sub}/0/{channel}/0?store=0&uuid={uuid}`, see
/// <https://www.pubnub.com/docs/sdks/rest-api/publish-message-to-channel>.
pub(crate) struct Pubnub {
    client: Client,
    service: Url,
    keys: Keys,
    call_timeout: Duration,
}

/// A message and where it goes.
pub(crate) struct Publication {
    url: Url,
    body: String,
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a PubNub message of {} bytes", self.body.len())
    }
}

impl Pubnub {
    /// `call_timeout` is when a call is given up.
    pub(crate) fn new(
        service_url: &str,
        keys: Keys,
        call_timeout: Duration,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let client = http_client::builder(call_timeout).build()?;
        Ok(Self { client, service: service_url.parse()?, keys, call_timeout })
    }

    /// Each part is escaped, so that none can reach into the next.
    fn url(&self, parts: &[&str]) -> Option<Url> {
        let mut url = self.service.clone();
        url.path_segments_mut().ok()?.pop_if_empty().extend(parts);
        Some(url)
    }
}

impl Channel for Pubnub {
    const NAME: &'static str = "pubnub";

    type Message = Publication;

    fn prepare(&self, claim: &Claim, _property: Option<&Value>) -> Result<Publication, Answer> {
        let channel = claim.address.as_deref();
        let channel =
            channel.ok_or_else(|| Answer::new(Outcome::Permanent, "the notification has no PubNub channel"))?;
        let (publish, subscribe) = (self.keys.publish.expose_secret(), self.keys.subscribe.expose_secret());
        let mut url = self
            .url(&["publish", publish, subscribe, "0", channel, "0"])
            .ok_or_else(|| Answer::new(Outcome::ChannelDown, "pubnub.service_url is of no use"))?;
        url.query_pairs_mut().append_pair("store", "0").append_pair("uuid", &self.keys.uuid);
        let mut body = json!({"process-id": claim.process, "notification-id": claim.id.0, "run": claim.run});
        if let Some(payload) = claim.options.get("payload") {
            body["payload"] = payload;
        }
        Ok(Publication { url, body: body.to_string() })
    }

    async fn send(&self, message: Publication) -> Answer {
        let request = self.client.post(message.url).header("content-type", "application/json").body(message.body);
        match exchange(request, self.call_timeout).await {
            Reply::Answered(answered) => classify(&answered),
            Reply::Unreachable(why) => Answer::unreachable(format!("could not connect to PubNub: {why}")),
            Reply::Broken => Answer::new(Outcome::Unknown, "the connection broke before PubNub's answer came"),
            Reply::Unusable => Answer::new(Outcome::ChannelDown, "pubnub.service_url is of no use"),
        }
    }

    /// Asks PubNub for the time: `GET /time/0`. Whether the keys are good only a publication can tell.
    async fn check(&self) -> Result<String, String> {
        let url = self.url(&["time", "0"]).ok_or("pubnub.service_url is of no use")?;
        match exchange(self.client.get(url), self.call_timeout).await {
            Reply::Answered(Answered { status: 200, .. }) => {
                Ok("PubNub answers; whether it knows the keys, only a message can tell".to_owned())
            }
            Reply::Answered(answered) => {
                Err(format!("PubNub answers HTTP {} when asked for the time", answered.status))
            }
            Reply::Unreachable(why) => Err(format!("could not connect to PubNub: {why}")),
            Reply::Broken => Err("the connection broke before PubNub's answer came".to_owned()),
            Reply::Unusable => Err("pubnub.service_url is of no use".to_owned()),
        }
    }
}

/// What an answer means.
///
/// A publication is answered by `[1, "Sent", "17000000000000000"]`, whose last is the message's time token; an error by
/// `[0, "Invalid Key", "17000000000000000"]` or `{"message": "..."}`.
pub fn classify(answered: &Answered) -> Answer {
    let body: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
    let said = body[1].as_str().or_else(|| body["message"].as_str()).unwrap_or_default();
    let sent = (200..300).contains(&answered.status) && body[0] == 1;
    if sent {
        let is_token = |token: &&str| (1..=32).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_digit());
        return Answer { provider_id: body[2].as_str().filter(is_token).map(str::to_owned), ..pubnub_accepted() };
    }
    if answered.status == 403 && body["payload"]["channels"].is_array() {
        // The access manager names the channels that the keys may not use; they may use others.
        let detail = "PubNub: the keys may not publish to this channel (HTTP 403)";
        return Answer { retry_after: answered.retry_after, ..Answer::new(Outcome::Permanent, detail) };
    }
    pubnub_answer(answered.status, said, answered.retry_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(status: u16, body: &str) -> Answer {
        classify(&Answered { status, retry_after: None, body: body.as_bytes().to_vec() })
    }

    #[test]
    fn answers() {
        let sent = classified(200, r#"[1, "Sent", "17000000000000001"]"#);
        assert_eq!((sent.outcome, sent.provider_id.as_deref()), (Outcome::Delivered, Some("17000000000000001")));
        let odd = classified(200, r#"[1, "Sent", ""]"#);
        assert_eq!((odd.outcome, odd.provider_id), (Outcome::Delivered, None));
        for (status, body, outcome) in [
            (400, r#"[0, "Invalid Key", "17000000000000001"]"#, Outcome::ChannelDown),
            (200, r#"[0, "Invalid Key", "17000000000000001"]"#, Outcome::ChannelDown),
            (403, r#"{"message": "Forbidden", "error": true, "status": 403}"#, Outcome::ChannelDown),
            (403, r#"{"message": "Forbidden", "payload": {"channels": ["ch"]}, "error": true}"#, Outcome::Permanent),
            (413, r#"{"message": "Request Entity Too Large", "error": true}"#, Outcome::Permanent),
            (200, r#"{"error": true, "status": 200}"#, Outcome::Unknown),
            (200, "<html>a proxy's page</html>", Outcome::Unknown),
            (200, "", Outcome::Unknown),
            (400, "", Outcome::Permanent),
            (302, "", Outcome::ChannelDown),
            (429, "", Outcome::RateLimited),
            (500, "<html>", Outcome::Unknown),
            (503, "", Outcome::Temporary),
        ] {
            assert_eq!(classified(status, body).outcome, outcome, "{status} {body}");
        }
    }

    #[test]
    fn no_part_of_the_path_reaches_into_the_next() {
        let secret = |text: &str| SecretString::from(text.to_owned());
        let keys = Keys { publish: secret("pub"), subscribe: secret("a/b"), uuid: "x&y".to_owned() };
        let pubnub = Pubnub::new("http://localhost:1/base/", keys, Duration::from_secs(1)).unwrap();
        let url = pubnub.url(&["publish", "pub", "a/b", "0", "ü?#%2f", "0"]).unwrap();
        assert_eq!(url.as_str(), "http://localhost:1/base/publish/pub/a%2Fb/0/%C3%BC%3F%23%252f/0");
    }
}
