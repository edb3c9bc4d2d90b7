use std::{collections::BTreeMap, time::Duration};

use domain::{Action, CHANNELS, Channel, NewNotification, ProcessName, provider::Reaction};
use jiff::Timestamp;

use crate::{
    json::Json,
    request::{Members, Reader, Reason, join, printable},
};

/// The most answers that are given for one channel.
pub const MAX_ANSWERS: usize = 100;

/// The most times that one answer is given.
pub const MAX_TIMES: u64 = 1_000;

/// The longest wait that an answer asks for: a day, as nobody is believed who asks for more.
pub const MAX_RETRY_AFTER_SECONDS: u64 = domain::MAX_RETRY_AFTER.as_secs();

/// A start that is to be played on a virtual clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulationRequest {
    /// The process that it names.
    pub process: ProcessName,
    /// What it asks for.
    pub notifications: Vec<NewNotification>,
    /// When it is sent.
    pub now: Option<Timestamp>,
    /// What the provider of each channel does, in this order and so often.
    pub reactions: BTreeMap<&'static str, Vec<(Reaction, u32)>>,
    /// When the process is stopped.
    pub stop_at: Option<Timestamp>,
}

/// Reads what is to be simulated: a request as [`crate::parse_request`] reads it, and what goes with it.
///
/// What stands beside the request is ours, so a key that is unknown there is an error.
pub fn parse_simulation(body: &[u8]) -> Result<SimulationRequest, Vec<Reason>> {
    let mut reader = Reader::default();
    let simulation = reader.body(body).and_then(|members| reader.simulation(members));
    match simulation {
        Some(simulation) if reader.reasons.is_empty() => Ok(simulation),
        _ => Err(reader.finish()),
    }
}

impl Reader {
    fn simulation(&mut self, mut members: Members) -> Option<SimulationRequest> {
        let start = self.start(&mut members);
        let now = self.optional_time(&mut members, "now");
        let stop_at = self.optional_time(&mut members, "stop-at");
        let reactions = self.providers(&mut members);
        self.refuse_others("", &members, &["request", "now", "providers", "stop-at"]);
        if let (Some(Some(now)), Some(Some(stop_at))) = (now, stop_at)
            && stop_at < now
        {
            self.wrong("stop-at", "must not be before now");
        }
        let (process, notifications) = start?;
        Some(SimulationRequest { process, notifications, now: now?, reactions: reactions?, stop_at: stop_at? })
    }

    fn start(&mut self, members: &mut Members) -> Option<(ProcessName, Vec<NewNotification>)> {
        let members = match self.take(members, "", "request") {
            Some(Json::Object(members)) => members,
            Some(other) => {
                self.wrong("request", format!("must be an object, is {}", other.kind()));
                return None;
            }
            None => {
                self.wrong("request", "is required");
                return None;
            }
        };
        let mut process = None;
        let request = self.request("request", members, &mut process)?;
        match request.action {
            Action::Start(notifications) => Some((request.process, notifications)),
            Action::Stop => {
                self.wrong("request.action", "must be \"start\": when it is stopped, stop-at says");
                None
            }
        }
    }

    /// `None` if it is wrong, `Some(None)` if it is not there.
    fn optional_time(&mut self, members: &mut Members, key: &str) -> Option<Option<Timestamp>> {
        if members.iter().any(|(name, _)| name == key) { self.time(members, "", key).map(Some) } else { Some(None) }
    }

    fn providers(&mut self, members: &mut Members) -> Option<BTreeMap<&'static str, Vec<(Reaction, u32)>>> {
        let mut channels = match self.take(members, "", "providers") {
            None => return Some(BTreeMap::new()),
            Some(Json::Object(channels)) => channels,
            Some(other) => {
                self.wrong("providers", format!("must be an object of channels, is {}", other.kind()));
                return None;
            }
        };
        let mut reactions = BTreeMap::new();
        for channel in CHANNELS {
            let path = join("providers", channel.name);
            match self.take(&mut channels, "providers", channel.name) {
                None => {}
                Some(Json::Array(answers)) if answers.len() <= MAX_ANSWERS => {
                    let answers = answers.into_iter().enumerate();
                    let read: Vec<_> =
                        answers.filter_map(|(n, one)| self.answer(&format!("{path}[{n}]"), channel, one)).collect();
                    reactions.insert(channel.name, read);
                }
                Some(Json::Array(answers)) => {
                    self.wrong(path, format!("must have at most {MAX_ANSWERS} answers, has {}", answers.len()));
                }
                Some(other) => self.wrong(path, format!("must be an array of answers, is {}", other.kind())),
            }
        }
        let known: Vec<_> = CHANNELS.iter().map(|channel| channel.name).collect();
        self.refuse_others("providers", &channels, &known);
        Some(reactions)
    }

    fn answer(&mut self, path: &str, channel: &Channel, answer: Json) -> Option<(Reaction, u32)> {
        let Json::Object(mut members) = answer else {
            self.wrong(path, format!("must be an object, is {}", answer.kind()));
            return None;
        };
        let word = self.required_string(&mut members, path, "answer");
        let times = self.whole_number(&mut members, path, "times", MAX_TIMES);
        let wait = self.whole_number(&mut members, path, "retry-after", MAX_RETRY_AFTER_SECONDS);
        self.refuse_others(path, &members, &["answer", "times", "retry-after"]);
        let (word, times, wait) = (word?, times?.unwrap_or(1), wait?.map(Duration::from_secs));
        let field = join(path, "answer");
        let is_status = word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit());
        let reaction = match (word.as_str(), word.parse()) {
            ("accepted", _) => Reaction::Accept,
            ("timeout", _) => Reaction::KeepSilent,
            ("refused", _) => Reaction::BeAway,
            (_, Ok(status)) if is_status => Reaction::Refuse(status, wait),
            _ => {
                let message = "must be a status such as \"503\", or \"timeout\", \"refused\" or \"accepted\"";
                self.wrong(field, message);
                return None;
            }
        };
        if wait.is_some() && !matches!(reaction, Reaction::Refuse(..)) {
            self.wrong(join(path, "retry-after"), "stands only beside a status");
        }
        if let Some(objection) = channel.provider.objection(reaction) {
            self.wrong(field, format!("channel {} {objection}", channel.name));
        }
        Some((reaction, u32::try_from(times).unwrap_or(u32::MAX)))
    }

    fn refuse_others(&mut self, path: &str, members: &Members, known: &[&str]) {
        for (key, _) in members.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let message = format!("is not known here; known are {}", known.join(", "));
            self.wrong(join(path, &printable(key)), message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str =
        r#"{"process-id":"r","action":"start","x":1,"notifications":[{"channel":"console","at":1},]}"#;

    fn reasons(rest: &str) -> Vec<String> {
        let body = format!("{{\"request\": {REQUEST}, {rest}}}");
        parse_simulation(body.as_bytes()).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_request_and_what_goes_with_it() {
        let providers = r#"{"phone": [{"answer": "429", "times": 2, "retry-after": 7}, {"answer": "timeout"}]}"#;
        let body = format!(
            r#"{{"request": {REQUEST}, "now": 5, "stop-at": "1970-01-01T00:01:00Z", "providers": {providers},}}"#
        );
        let simulation = parse_simulation(body.as_bytes()).unwrap();
        assert_eq!((simulation.process.as_str(), simulation.notifications.len()), ("r", 1));
        assert_eq!(simulation.now, Timestamp::from_second(5).ok());
        assert_eq!(simulation.stop_at, Timestamp::from_second(60).ok());
        let wait = Some(Duration::from_secs(7));
        assert_eq!(simulation.reactions["phone"], [(Reaction::Refuse(429, wait), 2), (Reaction::KeepSilent, 1)]);
        let bare = parse_simulation(format!(r#"{{"request": {REQUEST}}}"#).as_bytes()).unwrap();
        assert_eq!((bare.now, bare.stop_at, bare.reactions.len()), (None, None, 0));
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        for (rest, problems) in [
            (r#""nwo": 1"#, vec!["nwo: is not known here; known are request, now, providers, stop-at"]),
            (r#""now": 9, "stop-at": 8"#, vec!["stop-at: must not be before now"]),
            (r#""now": -1, "stop-at": true"#, vec!["now: must be from 0 to", "stop-at: must be whole seconds"]),
            (r#""providers": {"pigeon": []}"#, vec!["providers.pigeon: is not known here"]),
            (r#""providers": {"phone": {}}"#, vec!["providers.phone: must be an array of answers, is an object"]),
            (r#""providers": {"sms": [{"answer": "+50"}]}"#, vec!["providers.sms[0].answer: must be a status"]),
            (
                r#""providers": {"sms": [{"answer": "200"}]}"#,
                vec!["providers.sms[0].answer: channel sms has a provider"],
            ),
            (r#""providers": {"sms": [{"times": 0}]}"#, vec!["answer: is required", "times: must be a whole number"]),
            (
                r#""providers": {"email": [{"answer": "450", "retry-after": 1}]}"#,
                vec!["channel email has a mail server"],
            ),
            (r#""providers": {"console": [{"answer": "503"}]}"#, vec!["channel console has no provider"]),
            (r#""providers": {"sms": [{"answer": "timeout", "retry-after": 1}]}"#, vec!["stands only beside a status"]),
            (r#""providers": {"sms": [{"answer": "503", "after": 1}]}"#, vec!["providers.sms[0].after: is not known"]),
        ] {
            let reasons = reasons(rest);
            assert_eq!(reasons.len(), problems.len(), "{rest}: {reasons:?}");
            for (reason, problem) in reasons.iter().zip(problems) {
                assert!(reason.contains(problem), "{rest}: {reasons:?}");
            }
        }
        let stop = parse_simulation(br#"{"request": {"process-id": "r", "action": "stop"}}"#).unwrap_err();
        assert_eq!(stop[0].field, "request.action");
        let broken =
            br#"{"request": {"process-id": "", "action": "start", "notifications": [{"channel": "phone", "at": 1}]}}"#;
        let broken: Vec<_> = parse_simulation(broken).unwrap_err().into_iter().map(|reason| reason.field).collect();
        assert_eq!(broken, ["request.process-id", "request.notifications[0].phone-number"]);
        assert_eq!(parse_simulation(b"{}").unwrap_err()[0].to_string(), "request: is required");
    }
}
