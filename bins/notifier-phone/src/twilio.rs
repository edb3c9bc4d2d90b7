use std::{collections::BTreeMap, time::Duration};

use domain::{CallerIdRegistry, CallerIdRegistryError, Outcome, PhoneNumber};
use notifier::{Answer, Channel, Claim, parse_retry_after};
use reqwest::{Client, Response, StatusCode, header::RETRY_AFTER, redirect::Policy};
use runtime::ExposeSecret;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::{Twilio, twilio_errors};

/// As much of an answer as is read. Twilio's are about 1 KiB.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How long the rest of an answer may take after its status.
const ANSWER_BODY_PATIENCE: Duration = Duration::from_millis(800);

/// Asks Twilio for calls:
/// `POST /2010-04-01/Accounts/{sid}/Calls.json`, see <https://www.twilio.com/docs/voice/api/call-resource>.
pub(crate) struct Phone {
    client: Client,
    endpoint: String,
    twilio: Twilio,
}

/// What Twilio answers: a call has a `sid`, an error a `code`.
#[derive(Debug, Default, Deserialize)]
struct TwilioAnswer {
    sid: Option<String>,
    code: Option<u32>,
}

impl Phone {
    /// `call_timeout` is when a call is given up; making a connection gets half of it, as it is known that nothing was
    /// sent before.
    pub(crate) fn new(twilio: Twilio, call_timeout: Duration) -> reqwest::Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("tocsin/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(call_timeout / 2)
            .redirect(Policy::none())
            .no_proxy()
            .build()?;
        let base = twilio.base_url.trim_end_matches('/');
        let endpoint = format!("{base}/2010-04-01/Accounts/{}/Calls.json", twilio.account_sid);
        Ok(Self { client, endpoint, twilio })
    }

    async fn post(&self, to: &PhoneNumber, from: &str, url: &str) -> Answer {
        let form = [("Method", "GET"), ("To", to.as_str()), ("From", from), ("Url", url)];
        let request = self
            .client
            .post(&self.endpoint)
            .basic_auth(&self.twilio.account_sid, Some(self.twilio.auth_token.expose_secret()))
            .form(&form);
        match request.send().await {
            Ok(response) => read(response).await,
            Err(error) => unanswered(&error),
        }
    }
}

impl Channel for Phone {
    const NAME: &'static str = "phone";
    const PROPERTY: Option<&'static str> = Some("caller-id-registry");

    async fn call(&self, claim: &Claim, property: Option<&Value>) -> Answer {
        let to = match claim.address.as_deref().map(PhoneNumber::parse) {
            Some(Ok(to)) => to,
            _ => return Answer::new(Outcome::Permanent, "the notification has no phone number"),
        };
        let registry = match registry(property) {
            Ok(registry) => registry,
            Err(problem) => return Answer::new(Outcome::ChannelDown, problem),
        };
        let Some(from) = registry.caller_for(&to) else {
            let reason = "caller-id-registry has no prefix that fits the number, and no default";
            return Answer::new(Outcome::Permanent, reason);
        };
        let url = claim.options.get("url").unwrap_or(&self.twilio.url);
        self.post(&to, from, url).await
    }
}

fn registry(property: Option<&Value>) -> Result<CallerIdRegistry, String> {
    let Some(property) = property else { return Ok(CallerIdRegistry::default()) };
    let pairs: BTreeMap<String, String> = Deserialize::deserialize(property)
        .map_err(|_| "property caller-id-registry must be a JSON object of prefixes and numbers".to_owned())?;
    CallerIdRegistry::new(pairs).map_err(|error: CallerIdRegistryError| error.to_string())
}

/// No answer came. Only where no connection was made is it sure that Twilio knows nothing of it.
fn unanswered(error: &reqwest::Error) -> Answer {
    if error.is_builder() {
        Answer::new(Outcome::ChannelDown, "twilio.base_url and twilio.account_sid make no usable URL")
    } else if error.is_connect() {
        Answer::new(Outcome::Temporary, "could not connect to Twilio")
    } else {
        Answer::new(Outcome::Unknown, "the connection broke before Twilio's answer came")
    }
}

async fn read(mut response: Response) -> Answer {
    let status = response.status();
    let retry_after =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(parse_retry_after);
    let mut body = Vec::new();
    let end = Instant::now() + ANSWER_BODY_PATIENCE;
    while body.len() < MAX_ANSWER_BYTES {
        match timeout_at(end, response.chunk()).await {
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            // The status says enough where the rest is lost, or does not come.
            Ok(Ok(None) | Err(_)) | Err(_) => break,
        }
    }
    Answer { retry_after, ..classify(status, &body) }
}

/// What an answer means. Public descriptions of the codes are in [`twilio_errors`].
fn classify(status: StatusCode, body: &[u8]) -> Answer {
    let answer: TwilioAnswer = serde_json::from_slice(body).unwrap_or_default();
    if status.is_success() {
        let accepted = Answer::new(Outcome::Delivered, "Twilio accepted the call");
        return Answer { provider_id: answer.sid.filter(|sid| is_sid(sid)), ..accepted };
    }
    let (outcome, meaning) = twilio_errors::classify(status.as_u16(), answer.code);
    let code = answer.code.map(|code| format!("error {code}, ")).unwrap_or_default();
    Answer::new(outcome, format!("Twilio: {meaning} ({code}HTTP {})", status.as_u16()))
}

/// Two letters and 32 hex digits; not taken too literally.
fn is_sid(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_accepted_call_has_its_sid() {
        let answer = classify(StatusCode::CREATED, br#"{"sid": "CA123", "status": "queued"}"#);
        assert_eq!((answer.outcome, answer.provider_id.as_deref()), (Outcome::Delivered, Some("CA123")));
        assert_eq!(classify(StatusCode::CREATED, b"{").outcome, Outcome::Delivered);
        let odd = classify(StatusCode::CREATED, br#"{"sid": "CA\u0000"}"#);
        assert_eq!((odd.outcome, odd.provider_id), (Outcome::Delivered, None));
    }

    #[test]
    fn what_twilio_says_is_told_without_the_number() {
        let body =
            br#"{"code": 21211, "message": "The 'To' number +385777 is not a valid phone number.", "status": 400}"#;
        let answer = classify(StatusCode::BAD_REQUEST, body);
        assert_eq!(answer.outcome, Outcome::Permanent);
        assert_eq!(answer.detail.unwrap(), "Twilio: the number called is not valid (error 21211, HTTP 400)");
    }

    #[test]
    fn a_broken_registry_stops_the_channel_and_not_the_notification() {
        assert!(registry(None).is_ok());
        assert!(registry(Some(&json!({"+385": "+1"}))).is_ok());
        for bad in [json!([]), json!({"+385": 1}), json!({"385": "+1"})] {
            assert!(registry(Some(&bad)).is_err(), "{bad}");
        }
    }
}
