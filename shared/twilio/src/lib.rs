//! What the channels share that go by Twilio: its REST API, its errors, and whose number a call or a text comes from.

use std::{collections::BTreeMap, time::Duration};

use domain::{CallerIdRegistry, CallerIdRegistryError, Outcome, PhoneNumber, provider::twilio_answer};
use http_client::{Answered, Reply, exchange};
use notifier::{Answer, Claim};
use reqwest::{Client, RequestBuilder};
use runtime::{
    ExposeSecret, Reader, SecretString, Setting,
    settings::{TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, TWILIO_BASE_URL},
};
use serde::Deserialize;
use serde_json::Value;

/// The property that says whose number a call or a text comes from: prefixes of the number called, and `default`.
pub const CALLER_ID_REGISTRY: &str = "caller-id-registry";

/// The settings of whatever goes by Twilio.
pub const SETTINGS: [Setting; 3] = [TWILIO_BASE_URL, TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN];

/// Which account, and where.
pub struct Config {
    base_url: String,
    account_sid: String,
    auth_token: SecretString,
}

impl Config {
    /// Reads the [`SETTINGS`]; `None` if any is wrong.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let base_url = reader.url(&TWILIO_BASE_URL);
        let account_sid = reader.text(&TWILIO_ACCOUNT_SID);
        let auth_token = reader.secret(&TWILIO_AUTH_TOKEN);
        Some(Self { base_url: base_url?, account_sid: account_sid?, auth_token: auth_token? })
    }
}

/// Twilio's REST API: `POST /2010-04-01/Accounts/{sid}/{resource}.json`, see
/// <https://www.twilio.com/docs/voice/api/call-resource> and
/// <https://www.twilio.com/docs/messaging/api/message-resource>.
pub struct Twilio {
    client: Client,
    account_url: String,
    config: Config,
    call_timeout: Duration,
}

/// What Twilio answers: a call or a message has a `sid`, an error a `code`, an account a `status`.
#[derive(Debug, Default, Deserialize)]
struct TwilioAnswer {
    sid: Option<String>,
    code: Option<u32>,
    status: Option<Value>,
}

impl Twilio {
    /// `call_timeout` is when a call is given up.
    pub fn new(config: Config, call_timeout: Duration) -> reqwest::Result<Self> {
        let client = http_client::builder(call_timeout).build()?;
        let base = config.base_url.trim_end_matches('/');
        let account_url = format!("{base}/2010-04-01/Accounts/{}", config.account_sid);
        Ok(Self { client, account_url, config, call_timeout })
    }

    /// Makes a resource, `Calls` or `Messages`, of a form. `what` is that in words: `the call`.
    pub async fn create(&self, resource: &str, what: &str, form: &[(&str, &str)]) -> Answer {
        let request = self.client.post(format!("{}/{resource}.json", self.account_url)).form(form);
        match exchange(self.authorized(request), self.call_timeout).await {
            Reply::Answered(answered) => classify(what, &answered),
            Reply::Unreachable(why) => Answer::unreachable(format!("could not connect to Twilio: {why}")),
            Reply::Broken => Answer::new(Outcome::Unknown, "the connection broke before Twilio's answer came"),
            Reply::Unusable => {
                Answer::new(Outcome::ChannelDown, "twilio.base_url and twilio.account_sid make no usable URL")
            }
        }
    }

    /// Asks for the account, which sends nothing: `GET /2010-04-01/Accounts/{sid}.json`, see
    /// <https://www.twilio.com/docs/iam/api/account>.
    pub async fn check(&self) -> Result<String, String> {
        let request = self.authorized(self.client.get(format!("{}.json", self.account_url)));
        match exchange(request, self.call_timeout).await {
            Reply::Answered(answered) if answered.status == 200 => match parse(&answered.body).status {
                Some(Value::String(status)) if status != "active" => Err(format!("the Twilio account is {status}")),
                _ => Ok("Twilio answers, and knows the account".to_owned()),
            },
            Reply::Answered(answered) => Err(classify("the request", &answered).detail.unwrap_or_default()),
            Reply::Unreachable(why) => Err(format!("could not connect to Twilio: {why}")),
            Reply::Broken => Err("the connection broke before Twilio's answer came".to_owned()),
            Reply::Unusable => Err("twilio.base_url and twilio.account_sid make no usable URL".to_owned()),
        }
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        request.basic_auth(&self.config.account_sid, Some(self.config.auth_token.expose_secret()))
    }
}

/// Whom to reach, and from whose number, or why nobody can be.
pub fn numbers(claim: &Claim, registry: Option<&Value>) -> Result<(PhoneNumber, String), Answer> {
    let to = claim.address.as_deref().and_then(|address| PhoneNumber::parse(address).ok());
    let to = to.ok_or_else(|| Answer::new(Outcome::Permanent, "the notification has no phone number"))?;
    // That the registry can't be read is no fault of this one notification.
    let registry = parse_registry(registry).map_err(|problem| Answer::new(Outcome::ChannelDown, problem))?;
    match registry.caller_for(&to) {
        Some(from) => Ok((to, from.to_owned())),
        None => {
            let reason = "caller-id-registry has no prefix that fits the number, and no default";
            Err(Answer::new(Outcome::Permanent, reason))
        }
    }
}

fn parse_registry(property: Option<&Value>) -> Result<CallerIdRegistry, String> {
    let Some(property) = property.filter(|property| !property.is_null()) else {
        return Ok(CallerIdRegistry::default());
    };
    let pairs: BTreeMap<String, String> = Deserialize::deserialize(property)
        .map_err(|_| "property caller-id-registry must be a JSON object of prefixes and numbers".to_owned())?;
    CallerIdRegistry::new(pairs).map_err(|error: CallerIdRegistryError| error.to_string())
}

/// What an answer means. `what` was asked for, in words: `the call`.
pub fn classify(what: &str, answered: &Answered) -> Answer {
    let body = parse(&answered.body);
    let answer = twilio_answer(what, answered.status, body.code, answered.retry_after);
    let provider_id = body.sid.filter(|sid| answer.outcome == Outcome::Delivered && is_sid(sid));
    Answer { provider_id, ..answer }
}

fn parse(body: &[u8]) -> TwilioAnswer {
    serde_json::from_slice(body).unwrap_or_default()
}

/// Two letters and 32 hex digits; not taken too literally.
fn is_sid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn classified(status: u16, body: &[u8]) -> Answer {
        classify("the call", &Answered { status, retry_after: None, body: body.to_vec() })
    }

    #[test]
    fn what_was_accepted_has_its_sid() {
        let answer = classified(201, br#"{"sid": "CA123", "status": "queued"}"#);
        assert_eq!((answer.outcome, answer.provider_id.as_deref()), (Outcome::Delivered, Some("CA123")));
        assert_eq!(answer.detail.as_deref(), Some("Twilio accepted the call"));
        assert_eq!(classified(201, b"{").outcome, Outcome::Delivered);
        for odd in [br#"{"sid": "CA\u0000"}"#.as_slice(), br#"{"sid": ""}"#] {
            let odd = classified(201, odd);
            assert_eq!((odd.outcome, odd.provider_id), (Outcome::Delivered, None));
        }
    }

    #[test]
    fn what_twilio_says_is_told_without_the_number() {
        let body =
            br#"{"code": 21211, "message": "The 'To' number +385777 is not a valid phone number.", "status": 400}"#;
        let answer = classified(400, body);
        assert_eq!(answer.outcome, Outcome::Permanent);
        assert_eq!(answer.detail.unwrap(), "Twilio: the number called is not valid (error 21211, HTTP 400)");
    }

    #[test]
    fn a_broken_registry_is_told_from_none() {
        assert!(parse_registry(None).is_ok());
        assert!(parse_registry(Some(&json!({"+385": "+1"}))).is_ok());
        for bad in [json!([]), json!({"+385": 1}), json!({"385": "+1"})] {
            assert!(parse_registry(Some(&bad)).is_err(), "{bad}");
        }
    }
}
