use domain::{NotificationId, Organisation};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The most notifications in one message.
pub const MAX_ITEMS: usize = 1_000;

/// The work queue of a channel, as in rabbitmq/definitions.json.
pub fn queue_name(channel: &str) -> String {
    format!("notify.{channel}")
}

/// The routing key by which a message reaches the workers of a channel: `<organisation>.system.<channel>`.
pub fn routing_key(organisation: &Organisation, channel: &str) -> String {
    format!("{}.system.{channel}", organisation.as_str())
}

/// A message from the activator (or a retry queue) to the workers of one channel.
///
/// `{"v":1,"ids":[7,8]}`, or with the times at which they are due, in microseconds since 1970, where one of them was
/// still to come: `{"v":1,"ids":[7,8],"due":[1555057084000000,1555057084000000]}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// What to send, at least one.
    pub items: Vec<Item>,
}

/// One notification in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Which notification.
    pub id: NotificationId,
    /// When it may be claimed, by the database's clock; none if it could be when the message was made.
    pub due_at: Option<Timestamp>,
}

/// Why a message's body is no dispatch.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDispatch {
    /// No JSON, or not of this shape.
    #[error("no dispatch message: {}", bounded(.0))]
    Json(#[from] serde_json::Error),
    /// A version that this program doesn't know.
    #[error("v: version {0} is not known here, only 1")]
    Version(u32),
    /// Too few or too many.
    #[error("ids: must have 1 to {MAX_ITEMS}, has {0}")]
    Count(usize),
    /// `due` doesn't fit to `ids`.
    #[error("due: must have a time for each id")]
    DueCount,
    /// A time that no calendar has.
    #[error("due: {0} is no time")]
    Due(i64),
}

/// What serde says may repeat all that a stranger wrote.
fn bounded(error: &serde_json::Error) -> String {
    error.to_string().chars().take(200).collect()
}

#[derive(Serialize, Deserialize)]
struct Body {
    v: u32,
    ids: Vec<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    due: Vec<i64>,
}

impl Dispatch {
    /// The message's body.
    pub fn to_json(&self) -> Vec<u8> {
        let due = if self.items.iter().any(|item| item.due_at.is_some()) {
            self.items.iter().map(|item| item.due_at.map_or(0, Timestamp::as_microsecond)).collect()
        } else {
            Vec::new()
        };
        let body = Body { v: 1, ids: self.items.iter().map(|item| item.id.0).collect(), due };
        serde_json::to_vec(&body).expect("numbers in lists always serialise")
    }

    /// Reads a message's body.
    pub fn from_json(body: &[u8]) -> Result<Self, InvalidDispatch> {
        let body: Body = serde_json::from_slice(body)?;
        if body.v != 1 {
            return Err(InvalidDispatch::Version(body.v));
        }
        if !(1..=MAX_ITEMS).contains(&body.ids.len()) {
            return Err(InvalidDispatch::Count(body.ids.len()));
        }
        if !body.due.is_empty() && body.due.len() != body.ids.len() {
            return Err(InvalidDispatch::DueCount);
        }
        let items = body.ids.iter().enumerate().map(|(i, id)| {
            let due_at = match body.due.get(i) {
                None | Some(0) => None,
                Some(&micros) => Some(Timestamp::from_microsecond(micros).map_err(|_| InvalidDispatch::Due(micros))?),
            };
            Ok(Item { id: NotificationId(*id), due_at })
        });
        Ok(Self { items: items.collect::<Result<_, InvalidDispatch>>()? })
    }

    /// The ids in a body that may be damaged otherwise, for the record of a dead letter.
    pub fn ids_in(body: &[u8]) -> Vec<NotificationId> {
        Self::from_json(body).map_or_else(|_| Vec::new(), |d| d.items.iter().map(|item| item.id).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_shape_on_the_wire() {
        let due = Timestamp::from_second(1_555_057_084).unwrap();
        let mut dispatch = Dispatch { items: vec![Item { id: NotificationId(7), due_at: None }] };
        assert_eq!(dispatch.to_json(), br#"{"v":1,"ids":[7]}"#);
        dispatch.items.push(Item { id: NotificationId(8), due_at: Some(due) });
        assert_eq!(dispatch.to_json(), br#"{"v":1,"ids":[7,8],"due":[0,1555057084000000]}"#);
        assert_eq!(routing_key(&Organisation::default(), "phone"), "main.system.phone");
        assert_eq!(queue_name("phone"), "notify.phone");
    }

    #[test]
    fn what_is_refused() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"v":2,"ids":[1]}"#,
            r#"{"v":1,"ids":[]}"#,
            r#"{"v":1,"ids":["1"]}"#,
            r#"{"v":1,"ids":[1],"due":[1,2]}"#,
            r#"{"v":1,"ids":[1],"due":[9223372036854775807]}"#,
        ] {
            assert!(Dispatch::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
        let long = format!(r#"{{"v":1,"ids":"{}"}}"#, "x".repeat(10_000));
        assert!(Dispatch::from_json(long.as_bytes()).unwrap_err().to_string().len() < 300);
    }

    proptest! {
        #[test]
        fn there_and_back(items in proptest::collection::vec((any::<i64>(), proptest::option::of(1i64..4_000_000_000_000_000)), 1..50)) {
            let dispatch = Dispatch {
                items: items
                    .into_iter()
                    .map(|(id, due)| Item { id: NotificationId(id), due_at: due.map(|d| Timestamp::from_microsecond(d).unwrap()) })
                    .collect(),
            };
            prop_assert_eq!(Dispatch::from_json(&dispatch.to_json()).unwrap(), dispatch);
        }

        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let parsed = Dispatch::from_json(&body);
            prop_assert!(parsed.is_err() || !parsed.unwrap().items.is_empty());
        }
    }
}
