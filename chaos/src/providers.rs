use std::{collections::BTreeMap, sync::Mutex};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    channel::{CHANNELS, Channel},
    installation::Simulator,
};

/// How the simulated providers behave: always to some addresses, and for a while to all of a channel.
pub(crate) struct Providers<'a> {
    simulator: &'a Simulator,
    troubles: Mutex<BTreeMap<&'static str, Value>>,
}

/// What a provider may do to all that comes, beside its name.
fn troubles(channel: &Channel) -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("breaks connections", json!({"drop": true})),
        ("hangs", json!({"hang": true})),
        ("is slow", json!({"delay_ms": 1_500})),
    ];
    if channel.name == "email" {
        all.push(("says 451", json!({"status": 451})));
        all.push(("says 451 at the end", json!({"status": 451, "stage": "end"})));
    } else {
        all.push(("says 503", json!({"status": 503})));
        all.push(("says 503 and when to come again", json!({"status": 503, "retry_after": 7})));
        all.push(("says 429", json!({"status": 429, "retry_after": 2})));
        all.push(("says 500", json!({"status": 500})));
        all.push(("says 502", json!({"status": 502})));
    }
    all
}

impl<'a> Providers<'a> {
    /// They begin with their habits alone.
    pub(crate) fn new(simulator: &'a Simulator) -> Result<Self> {
        let this = Self { simulator, troubles: Mutex::default() };
        this.tell()?;
        Ok(this)
    }

    /// Channels whose provider may get into trouble.
    pub(crate) fn channels() -> impl Iterator<Item = &'static Channel> {
        CHANNELS.iter().filter(|channel| channel.everybody.is_some())
    }

    /// Lets a channel's provider misbehave towards everybody, and answers how. `choice` is any number.
    pub(crate) fn trouble(&self, channel: &Channel, choice: usize) -> Result<&'static str> {
        let mut all = troubles(channel);
        let (name, mut rule) = all.swap_remove(choice % all.len());
        rule["address"] = channel.everybody.context("a channel with a provider")?.into();
        self.troubles().insert(channel.name, rule);
        self.tell()?;
        Ok(name)
    }

    /// Lets it behave again.
    pub(crate) fn calm(&self, channel: &Channel) -> Result<()> {
        self.troubles().remove(channel.name);
        self.tell()
    }

    fn troubles(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Value>> {
        self.troubles.lock().expect("nobody panics while holding this lock")
    }

    /// The first rule that fits applies, so trouble comes before habits.
    fn tell(&self) -> Result<()> {
        let troubles = self.troubles();
        let rules: Vec<_> = troubles.values().cloned().chain(CHANNELS.iter().flat_map(Channel::habits)).collect();
        // The lock is held, so that the newest rules are the last that are told.
        self.simulator.set_rules(&rules)
    }
}
