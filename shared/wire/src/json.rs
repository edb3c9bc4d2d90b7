use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

/// A JSON value that keeps every member of an object, so that a key that stands twice can be seen.
#[derive(Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads JSON as RFC 8259 has it, except that a comma may stand before a closing bracket.
    pub(crate) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&without_trailing_commas(text))
    }

    /// What it is, in words for the sender.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// Of a key that stands twice, the last.
impl From<Json> for Value {
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(b),
            Json::Number(number) => Self::Number(number),
            Json::String(text) => Self::String(text),
            Json::Array(items) => items.into_iter().map(Self::from).collect(),
            Json::Object(members) => members.into_iter().map(|(key, value)| (key, Self::from(value))).collect(),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JsonVisitor;

        impl<'de> Visitor<'de> for JsonVisitor {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, b: bool) -> Result<Json, E> {
                Ok(Json::Bool(b))
            }
            fn visit_i64<E>(self, n: i64) -> Result<Json, E> {
                Ok(Json::Number(n.into()))
            }
            fn visit_u64<E>(self, n: u64) -> Result<Json, E> {
                Ok(Json::Number(n.into()))
            }
            fn visit_f64<E>(self, n: f64) -> Result<Json, E> {
                Ok(Number::from_f64(n).map_or(Json::Null, Json::Number))
            }
            fn visit_str<E>(self, s: &str) -> Result<Json, E> {
                Ok(Json::String(s.to_owned()))
            }
            fn visit_string<E>(self, s: String) -> Result<Json, E> {
                Ok(Json::String(s))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Json::Array(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Json::Object(members))
            }
        }

        deserializer.deserialize_any(JsonVisitor)
    }
}

/// Blanks a comma that follows a value and precedes `}` or `]`, outside of strings. Positions in error messages
/// stay right, as nothing is moved.
fn without_trailing_commas(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut trailing = Vec::new();
    let mut in_string = false;
    let mut escaped = false;
    let mut comma_after_value = None;
    let mut last = b'{';
    for (i, &byte) in bytes.iter().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b',' => comma_after_value = (!matches!(last, b',' | b':' | b'[' | b'{')).then_some(i),
            b'}' | b']' => trailing.extend(comma_after_value.take()),
            b'"' => {
                in_string = true;
                comma_after_value = None;
            }
            _ => comma_after_value = None,
        }
        last = byte;
    }
    if trailing.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut blanked = text.to_owned();
    for i in trailing {
        blanked.replace_range(i..=i, " ");
    }
    Cow::Owned(blanked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_comma_before_a_closing_bracket_is_forgiven_and_no_other() {
        for good in [r#"{"a":1,}"#, "[1,2 ,\n]", r#"{"a":[1,],"b":{"c":",]",},}"#, r#"["\",]",]"#] {
            assert!(Json::parse(good).is_ok(), "{good}");
        }
        for bad in ["[,]", "{,}", "[1,,]", r#"{"a":,}"#, r#"{"a":1,,}"#, "[1,", ",", "[1],"] {
            assert!(Json::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_plain_json_accepts_stays_as_it_is(text in r#"(\[|\]|\{|\}|,|:|"|\\|1|a| ){0,12}"#) {
            if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                prop_assert_eq!(without_trailing_commas(&text), text.as_str());
            }
        }
    }
}
