use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use base64::{Engine, prelude::BASE64_STANDARD};
use runtime::{ExposeSecret, SecretString};

/// The key that signs: `whsec_` and base64 of 24 to 64 bytes, see
/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.
pub(crate) struct Secret(Key);

impl Secret {
    /// None if the text is of another form.
    pub(crate) fn parse(text: &SecretString) -> Option<Self> {
        let key = BASE64_STANDARD.decode(text.expose_secret().strip_prefix("whsec_")?).ok()?;
        (24..=64).contains(&key.len()).then(|| Self(Key::new(HMAC_SHA256, &key)))
    }

    /// The header `webhook-signature` of a body.
    pub(crate) fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut signing = Context::with_key(&self.0);
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            signing.update(part);
        }
        format!("v1,{}", BASE64_STANDARD.encode(signing.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Option<Secret> {
        Secret::parse(&SecretString::from(text.to_owned()))
    }

    /// The example of the specification's own libraries.
    #[test]
    fn the_specifications_example() {
        let secret = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_of_another_form() {
        let of = |bytes: usize| format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
        assert!(secret(&of(24)).is_some() && secret(&of(64)).is_some());
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_***", &of(23), &of(65)] {
            assert!(secret(bad).is_none(), "{bad}");
        }
    }
}
