use std::{fmt, time::Duration};

use aws_config::{
    BehaviorVersion, Region, identity::IdentityCache, meta::region::RegionProviderChain, retry::RetryConfig,
    stalled_stream_protection::StalledStreamProtectionConfig, timeout::TimeoutConfig,
};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError};
use aws_sdk_sns::{
    Client, error::ProvideErrorMetadata, operation::publish::builders::PublishFluentBuilder,
    types::MessageAttributeValue,
};
use domain::{Outcome, provider::sns_accepted};
use notifier::{Answer, Channel, Claim};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::refusals::{Transmission, answer, cause};

/// SNS's action `Publish`, see <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>.
pub(crate) struct Sns {
    client: Client,
    credentials: Option<SharedCredentialsProvider>,
}

/// A message and its topic.
pub(crate) struct Publication {
    call: PublishFluentBuilder,
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.call.get_message_group_id().is_some() { "a FIFO topic" } else { "a standard topic" };
        let bytes = self.call.get_message().as_ref().map_or(0, String::len);
        write!(f, "an SNS message of {bytes} bytes to {kind}")
    }
}

impl Sns {
    /// `call_timeout` is when a call is given up. Connecting and finding credentials get half of it each, as it is known
    /// that nothing was sent before.
    pub(crate) async fn new(endpoint_url: Option<&str>, call_timeout: Duration) -> Self {
        let timeouts = TimeoutConfig::builder().connect_timeout(call_timeout / 2).build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .timeout_config(timeouts)
            // One call a claim: the engine tries again, and counts.
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .identity_cache(IdentityCache::lazy().load_timeout(call_timeout / 2).build())
            .region(RegionProviderChain::default_provider().or_else(Region::new("us-east-1")));
        if let Some(endpoint) = endpoint_url {
            loader = loader.endpoint_url(endpoint);
        }
        let loaded = loader.load().await;
        Self { client: Client::new(&loaded), credentials: loaded.credentials_provider() }
    }

    /// Why there are no credentials, where nobody has set any. What is set and can't be used is another matter.
    pub(crate) async fn lacks_credentials(&self) -> Option<String> {
        let error = self.credentials.as_ref()?.provide_credentials().await.err()?;
        let is_nowhere = matches!(error, CredentialsError::CredentialsNotLoaded(_));
        is_nowhere.then(|| format!("no credentials were found where AWS's own tools look for them: {}", cause(&error)))
    }
}

impl Channel for Sns {
    const NAME: &'static str = "sns";

    type Message = Publication;

    fn prepare(&self, claim: &Claim, _property: Option<&Value>) -> Result<Publication, Answer> {
        let lacks = |what| Answer::new(Outcome::Permanent, format!("the notification has no {what}"));
        let topic = claim.address.as_deref().ok_or_else(|| lacks("topic"))?;
        let message = match claim.options.get("payload").ok_or_else(|| lacks("payload"))? {
            Value::String(text) => text,
            json => json.to_string(),
        };
        let mut call = self.client.publish().topic_arn(topic).message(message);
        call = call.set_subject(claim.text("subject").filter(|subject| !subject.is_empty()));
        let attributes = claim.options.get("attributes");
        for (name, value) in attributes.as_ref().and_then(Value::as_object).into_iter().flatten() {
            let value =
                MessageAttributeValue::builder().data_type("String").string_value(value.as_str().unwrap_or_default());
            let value = value.build().map_err(|error| Answer::new(Outcome::Permanent, error.to_string()))?;
            call = call.message_attributes(name, value);
        }
        if topic.ends_with(".fifo") {
            // The same on every try: SNS leaves out what it has seen in the last five minutes.
            call = call.message_group_id(group(&claim.process)).message_deduplication_id(claim.idempotency_key());
        }
        Ok(Publication { call })
    }

    async fn send(&self, message: Publication) -> Answer {
        let transmission = Transmission::default();
        match message.call.customize().interceptor(transmission.clone()).send().await {
            Ok(published) => Answer { provider_id: published.message_id.filter(|id| is_id(id)), ..sns_accepted() },
            Err(error) => answer(&error, &transmission),
        }
    }

    /// Asks for the list of topics. Who may publish need not be allowed to see it; SNS has looked at the credentials
    /// before it says so.
    async fn check(&self) -> Result<String, String> {
        const GOOD: &str =
            "SNS answers, and knows the credentials; whether they may publish to a topic, only a message can tell";
        let transmission = Transmission::default();
        match self.client.list_topics().customize().interceptor(transmission.clone()).send().await {
            Ok(_) => Ok(GOOD.to_owned()),
            Err(error)
                if error.as_service_error().and_then(ProvideErrorMetadata::code) == Some("AuthorizationError") =>
            {
                Ok(GOOD.to_owned())
            }
            Err(error) => Err(answer(&error, &transmission).detail.unwrap_or_else(|| cause(&error))),
        }
    }
}

/// A MessageGroupId of a process, whose name may be longer, and of other characters, than one may be.
fn group(process: &str) -> String {
    Sha256::digest(process).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_id(id: &str) -> bool {
    (1..=100).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_what_sns_takes_whatever_the_process_is_called() {
        let long = "ü\n".repeat(127);
        let groups = ["pizzeria", "pizzeria ", &long].map(group);
        assert!(groups.iter().all(|group| group.len() == 64 && group.bytes().all(|b| b.is_ascii_hexdigit())));
        assert_ne!(groups[0], groups[1]);
    }
}
