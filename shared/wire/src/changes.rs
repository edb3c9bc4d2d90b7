use std::collections::BTreeMap;

use domain::Channel;
use serde_json::Value;

use crate::{
    json::Json,
    request::{Reader, Reason},
};

/// What somebody wants changed about a notification of one channel.
#[derive(Clone, Default, PartialEq)]
pub struct Changes {
    /// The channel's key for its address, and the new one.
    pub address: Option<(&'static str, String)>,
    /// Further keys and their new values.
    pub options: BTreeMap<&'static str, Value>,
    /// Further keys that are to be taken away.
    pub removed: Vec<&'static str>,
}

/// Reads a JSON object of a channel's own keys and their new values; `null` takes a key away that is not required.
///
/// Other than in a request, a key that the channel has not is an error: whoever misspells one would else believe that
/// it was changed.
pub fn parse_changes(channel: &'static Channel, body: &[u8]) -> Result<Changes, Vec<Reason>> {
    let mut reader = Reader::default();
    let mut changes = Changes::default();
    if let Some(mut members) = reader.body(body) {
        for field in channel.address.iter().chain(channel.options) {
            match members.iter().find(|(key, _)| key == field.key) {
                None => continue,
                Some((_, Json::Null)) if !field.required => {
                    reader.take(&mut members, "", field.key);
                    changes.removed.push(field.key);
                }
                Some(_) => match reader.field(&mut members, "", channel, field) {
                    Some(Some(Value::String(address))) if channel.address.as_ref() == Some(field) => {
                        changes.address = Some((field.key, address));
                    }
                    Some(Some(value)) => drop(changes.options.insert(field.key, value)),
                    Some(None) | None => {}
                },
            }
        }
        let keys: Vec<_> = channel.address.iter().chain(channel.options).map(|field| field.key).collect();
        for (key, _) in &members {
            reader.wrong(key.clone(), format!("channel {} has no such key; it has {}", channel.name, keys.join(", ")));
        }
        if changes == Changes::default() && reader.reasons.is_empty() {
            reader.wrong("", "must name a key to change");
        }
    }
    if reader.reasons.is_empty() { Ok(changes) } else { Err(reader.finish()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(channel: &str, body: &str) -> Result<Changes, Vec<String>> {
        let changes = parse_changes(Channel::named(channel).unwrap(), body.as_bytes());
        changes.map_err(|reasons| reasons.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_changed_and_what_is_taken_away() {
        let changes = parse("email", r#"{"email": "me@example.org", "subject": "again", "html": null}"#).ok().unwrap();
        assert_eq!(changes.address, Some(("email", "me@example.org".to_owned())));
        assert_eq!(changes.options, [("subject", Value::from("again"))].into());
        assert_eq!(changes.removed, ["html"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (channel, body, problem) in [
            ("phone", r#"{"phone-number": "0385"}"#, "phone-number: must be an E.164 number"),
            ("phone", r#"{"phone-number": null}"#, "phone-number: must be a string, is null"),
            ("sms", r#"{"message": ""}"#, "message: must not be empty"),
            (
                "phone",
                r#"{"phone_number": "+385"}"#,
                "phone_number: channel phone has no such key; it has phone-number",
            ),
            ("phone", "{}", "must name a key to change"),
            ("phone", "[]", "must be a JSON object, is an array"),
        ] {
            let reasons = parse(channel, body).err().unwrap();
            assert!(reasons.len() == 1 && reasons[0].starts_with(problem), "{body}: {reasons:?}");
        }
    }
}
