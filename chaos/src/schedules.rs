use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    installation::Api,
    load::{Asks, Sent, Wanted},
    now_micros,
};

/// So long after they are made they begin, so that each occurrence is still to come.
const BEGIN_AFTER_SECONDS: i64 = 5;

const MAX_ATTEMPTS: usize = 3;

/// A schedule, each occurrence of which is a process of its own and reaches an address of its own.
struct Schedule {
    name: &'static str,
    every_seconds: i64,
    cron: &'static str,
    channel: &'static str,
    /// The key of the address, and what stands before the occurrence in it.
    key: &'static str,
    before: &'static str,
    /// The further keys of the notification.
    more: fn() -> Value,
}

const SCHEDULES: &[Schedule] = &[
    Schedule {
        name: "each-second",
        every_seconds: 1,
        cron: "* * * * * *",
        channel: "phone",
        key: "phone-number",
        before: "+38591",
        more: || json!({}),
    },
    Schedule {
        name: "each-fifth",
        every_seconds: 5,
        cron: "*/5 * * * * *",
        channel: "sns",
        key: "topic-arn",
        before: "arn:aws:sns:us-east-1:000000000000:t-s",
        more: || json!({"payload": {"order": "{{ scheduled_at }}"}}),
    },
];

/// Makes schedules that last for so long, and answers the requests that must come of them, each once: as if somebody
/// had sent them.
pub(crate) fn make(api: &Api, lasting: Duration) -> Result<Vec<Sent>> {
    let from = now_micros() / 1_000_000 + BEGIN_AFTER_SECONDS;
    let until = from + i64::try_from(lasting.as_secs())?;
    let mut expected = Vec::new();
    for schedule in SCHEDULES {
        let id = api.create("/v1/schedules", &schedule.body(from, until))?;
        let is_occurrence = |at: &i64| at % schedule.every_seconds == 0;
        expected.extend((from..until).filter(is_occurrence).map(|at| schedule.occurrence(id, at)));
    }
    Ok(expected)
}

impl Schedule {
    fn body(&self, from: i64, until: i64) -> Value {
        let mut notification = (self.more)();
        notification["channel"] = self.channel.into();
        notification["in"] = 0.into();
        notification["max-attempts"] = MAX_ATTEMPTS.into();
        notification[self.key] = format!("{}{{{{ occurrence }}}}", self.before).into();
        let process = format!("{}-{{{{ occurrence }}}}", self.name);
        json!({
            "name": self.name, "lines": [{"cron": self.cron}], "from": from, "until": until, "missed": "all",
            "request": {"process-id": process, "notifications": [notification]},
        })
    }

    fn occurrence(&self, id: i64, at: i64) -> Sent {
        let wanted = Wanted {
            channel: self.channel,
            address: format!("{}{at}", self.before),
            at,
            max_attempts: MAX_ATTEMPTS,
            on_unknown_fail: false,
        };
        Sent {
            message_id: format!("schedule:{id} {at}"),
            process: format!("{}-{at}", self.name),
            asks: Asks::Start(vec![wanted]),
        }
    }
}

impl Api {
    /// Makes something, and answers its number.
    fn create(&self, path: &str, body: &Value) -> Result<i64> {
        let request = ureq::post(format!("{}{path}", self.url)).header("authorization", format!("Bearer {}", self.key));
        let mut answer = request.send_json(body).with_context(|| path.to_owned())?;
        let made: Value = serde_json::from_str(&answer.body_mut().read_to_string()?)?;
        made["id"].as_i64().with_context(|| format!("no id in {made}"))
    }
}
