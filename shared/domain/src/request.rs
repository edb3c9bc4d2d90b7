use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use crate::{Channel, OnUnknown, ProcessName};

/// A valid request: warn these people until somebody stops it, or stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which process it is about.
    pub process: ProcessName,
    /// What is asked.
    pub action: Action,
}

/// What a request asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start the process with these notifications, 1 to 1,000.
    Start(Vec<NewNotification>),
    /// Cancel everything of the process that is not finished.
    Stop,
}

impl Action {
    /// The word in the request.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Stop => "stop",
        }
    }
}

/// One notification of a start request.
#[derive(Clone, PartialEq, Eq)]
pub struct NewNotification {
    /// How to reach them.
    pub channel: &'static Channel,
    /// When. In the past means at once.
    pub at: Timestamp,
    /// Whom, where the channel has addresses.
    pub address: Option<String>,
    /// The channel's further keys that were given.
    pub options: BTreeMap<&'static str, Value>,
    /// What to do when nobody can tell whether a call was carried out.
    pub on_unknown: OnUnknown,
    /// How many calls at most, 1 to 100.
    pub max_attempts: u16,
    /// How long after the later of `at` and acceptance it may still be tried.
    pub max_age: Duration,
}

/// Addresses and texts do not belong in logs.
impl std::fmt::Debug for NewNotification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewNotification")
            .field("channel", &self.channel.name)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
