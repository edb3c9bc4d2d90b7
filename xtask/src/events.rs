use std::{
    io::{self, IsTerminal, Write},
    sync::Mutex,
};

use serde_json::Value;

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const DIM: &str = "2";
const PLAIN: &str = "0";

/// Shows events, if it is not silent, a line each, aligned, and coloured on a terminal.
pub(crate) struct Screen {
    colour: bool,
    silent: bool,
    out: Mutex<io::Stdout>,
}

impl Default for Screen {
    fn default() -> Self {
        Self { colour: io::stdout().is_terminal(), silent: false, out: Mutex::new(io::stdout()) }
    }
}

impl Screen {
    /// Shows nothing, where there is too much of it.
    pub(crate) fn silent() -> Self {
        Self { silent: true, ..Self::default() }
    }

    /// Shows a line that a program wrote: a fact in JSON, or plain text.
    pub(crate) fn show_log_line(&self, program: &str, line: &str) {
        if self.silent {
            return;
        }
        match serde_json::from_str::<Value>(line) {
            Ok(fact) => {
                let time = fact["timestamp"].as_str().and_then(|t| t.get(11..23)).unwrap_or_default().to_owned();
                if let Some((colour, text)) = tell(&fact) {
                    self.show(&time, program, colour, &text);
                }
            }
            Err(_) => self.show("", program, PLAIN, line),
        }
    }

    /// Shows an event of our own.
    pub(crate) fn show(&self, time: &str, who: &str, colour: &str, text: &str) {
        let line = if self.colour {
            format!("\x1b[{DIM}m{time:<12}\x1b[0m  {who:<18} \x1b[{colour}m{text}\x1b[0m\n")
        } else {
            format!("{time:<12}  {who:<18} {text}\n")
        };
        let mut out = self.out.lock().expect("nobody panics while holding this lock");
        // A terminal that is gone must not end the demo before it has cleaned up.
        out.write_all(line.as_bytes()).unwrap_or_default();
    }

    /// Shows a call that arrived at a simulated provider.
    pub(crate) fn show_arrival(&self, arrival: &Value) {
        let at = arrival["at"].as_i64().unwrap_or_default();
        let (seconds, millis) = (at / 1_000_000 % 86_400, at / 1_000 % 1_000);
        let time = format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let to = arrival["address"].as_str().unwrap_or_default();
        let (who, what) = match arrival["kind"].as_str().unwrap_or_default() {
            "twilio-call" => ("(Twilio)", "is asked to call"),
            "twilio-message" => ("(Twilio)", "is asked to text"),
            "mail" => ("(mail server)", "gets a mail for"),
            "pubnub" => ("(PubNub)", "is to publish to"),
            _ => ("(receiver)", "gets a webhook at"),
        };
        let answered = &arrival["answered"]["status"];
        let colour = if answered.as_u64().is_some_and(|status| status < 300) { GREEN } else { YELLOW };
        let answer = if answered.is_null() { arrival["answered"].to_string() } else { answered.to_string() };
        self.show(&time, who, colour, &format!("{what} {to}, answers {answer}"));
    }
}

fn tell(fact: &Value) -> Option<(&'static str, String)> {
    let text = |name: &str| match &fact[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let s = |count: &Value| if count == 1 { "" } else { "s" };
    let told = match fact["event"].as_str()? {
        "request" => {
            let n = &fact["notifications"];
            let effect = match (fact["outcome"].as_str()?, fact["action"].as_str().unwrap_or_default()) {
                ("accepted", "start") => format!(", run {}, {n} notification{}", text("run"), s(n)),
                ("accepted", _) => format!(", {n} notification{} stopped", s(n)),
                ("rejected", _) => format!(" {}", text("reasons")),
                _ => String::new(),
            };
            let colour = if fact["outcome"] == "rejected" { RED } else { PLAIN };
            (colour, format!("{} {} {}{effect}", text("action"), text("process"), text("outcome")))
        }
        "published" => (DIM, format!("published {} for {}", text("count"), text("channel"))),
        "attempt" => {
            let head =
                format!("notification {} of {}, call {}", text("notification"), text("process"), text("attempt"));
            match fact["outcome"].as_str()? {
                "delivered" => {
                    let id = fact["provider_id"].as_str().map(|id| format!(" as {id}")).unwrap_or_default();
                    (GREEN, format!("{head}: delivered{id}, {} ms late", text("late_ms")))
                }
                outcome => (YELLOW, format!("{head}: {outcome}, {}; now {}", text("detail"), text("state"))),
            }
        }
        "started" | "stopped" | "component_up" | "stopping" => return None,
        "component_down" if fact["reason"] == "not tried yet" => return None,
        "component_down" => (RED, format!("{} does not work: {}", text("component"), text("reason"))),
        other => (YELLOW, format!("{other}: {} {}{}", text("message"), text("error"), text("reason"))),
    };
    Some(told)
}
