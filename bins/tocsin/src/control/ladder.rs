use std::str::FromStr;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use domain::{CHANNELS, Channel, FieldKind};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

/// A time as somebody types it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum When {
    /// So many seconds from now.
    In(i64),
    /// RFC 3339.
    At(Timestamp),
}

const TIMES: &str = "now, +90s, +2m, +1h30m, or RFC 3339 such as 2026-11-21T18:00:00+01:00";

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time: {TIMES}");
        match text.strip_prefix('+') {
            _ if text == "now" => Ok(Self::In(0)),
            Some(distance) => {
                let distance: SignedDuration = distance.parse().map_err(|_| wrong())?;
                if distance.is_negative() { Err(wrong()) } else { Ok(Self::In(distance.as_secs())) }
            }
            None => text.parse().map(Self::At).map_err(|_| wrong()),
        }
    }
}

impl When {
    /// In seconds since 1970.
    pub(crate) fn seconds(&self, now: Timestamp) -> i64 {
        match self {
            Self::In(distance) => now.as_second().saturating_add(*distance),
            Self::At(at) => at.as_second(),
        }
    }

    /// In RFC 3339.
    pub(crate) fn text(&self, now: Timestamp) -> String {
        Timestamp::from_second(self.seconds(now)).unwrap_or(Timestamp::MAX).to_string()
    }
}

/// One notification as somebody types it: `phone:+3851111111@+2m`, `console@now`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rung {
    channel: &'static Channel,
    address: Option<String>,
    when: When,
    set: Vec<(String, String)>,
}

impl FromStr for Rung {
    type Err = String;

    // The time is always there: an address with a time that is misspelt must not be taken for an address, and be sent to
    // at once.
    fn from_str(text: &str) -> Result<Self, String> {
        let (target, when) =
            text.rsplit_once('@').ok_or_else(|| format!("must be CHANNEL:ADDRESS@WHEN, and WHEN {TIMES}"))?;
        let when = when.parse().map_err(|error| format!("{error}; it must be CHANNEL:ADDRESS@WHEN"))?;
        let (name, address) = match target.split_once(':') {
            Some((name, address)) => (name, Some(address.to_owned())),
            None => (target, None),
        };
        let channel = Channel::named(name).ok_or_else(|| {
            let known: Vec<_> = CHANNELS.iter().map(|channel| channel.name).collect();
            format!("{name:?} is no channel: {}", known.join(", "))
        })?;
        match (&channel.address, &address) {
            (Some(field), None) => Err(format!("{name} needs an address: {name}:ADDRESS@WHEN; {}", field.help)),
            (None, Some(_)) => Err(format!("{name} has no addresses: {name}@WHEN")),
            _ => Ok(Self { channel, address, when, set: Vec::new() }),
        }
    }
}

/// A value of `--set`: JSON where the key takes some, else the text.
pub(crate) fn value(channel: Option<&Channel>, key: &str, text: &str) -> Value {
    let is_number = ["max-attempts", "max-age"].contains(&key);
    let of_channel = channel.and_then(|channel| channel.options.iter().find(|field| field.key == key));
    let is_json = of_channel.is_some_and(|field| match field.kind {
        FieldKind::Json | FieldKind::Attributes => true,
        FieldKind::EmailAddresses => text.starts_with('['),
        FieldKind::Payload => text.starts_with(['{', '[']),
        _ => false,
    });
    let json = if is_number || is_json { serde_json::from_str(text).ok() } else { None };
    json.unwrap_or_else(|| text.into())
}

/// `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

/// Notifications, each with its `--set`s behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ladder {
    rungs: Vec<Rung>,
}

impl Ladder {
    /// The start request.
    pub(crate) fn request(&self, process: &str, now: Timestamp) -> Value {
        let notifications: Vec<_> = self.rungs.iter().map(|rung| rung.json("at", rung.when.seconds(now))).collect();
        json!({"process-id": process, "action": "start", "notifications": notifications})
    }

    /// The request of a schedule, whose times are counted from the occurrence.
    pub(crate) fn template(&self, process: &str) -> Result<Value, String> {
        let rung = |rung: &Rung| match rung.when {
            When::In(distance) => Ok(rung.json("in", distance)),
            When::At(at) => {
                Err(format!("--notify …@{at}: a schedule counts from each occurrence; WHEN must be now, or as +2m"))
            }
        };
        let notifications = self.rungs.iter().map(rung).collect::<Result<Vec<_>, String>>()?;
        Ok(json!({"process-id": process, "notifications": notifications}))
    }
}

impl Rung {
    /// `key` has its time, in seconds.
    fn json(&self, key: &str, seconds: i64) -> Value {
        let mut members = Map::new();
        members.insert("channel".to_owned(), self.channel.name.into());
        members.insert(key.to_owned(), seconds.into());
        if let (Some(field), Some(address)) = (&self.channel.address, &self.address) {
            members.insert(field.key.to_owned(), address.as_str().into());
        }
        for (key, text) in &self.set {
            members.insert(key.clone(), value(Some(self.channel), key, text));
        }
        Value::Object(members)
    }
}

// By hand, as derived arguments know nothing of the order in which two options stand.
impl clap::Args for Ladder {
    fn augment_args(command: Command) -> Command {
        let notify = Arg::new("notify")
            .long("notify")
            .value_name("CHANNEL:ADDRESS@WHEN")
            .action(ArgAction::Append)
            .value_parser(Rung::from_str)
            .help("Whom to notify when; as often as needed")
            .long_help(format!(
                "Whom to notify when; as often as needed, in any order. WHEN is {TIMES}. console has no addresses: \
                 console@now"
            ));
        let set =
            Arg::new("set").long("set").value_name("KEY=VALUE").action(ArgAction::Append).value_parser(pair).help(
                "Another key of the notification before it, such as subject='A new order'; before the first: of all",
            );
        command.arg(notify).arg(set)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Ladder {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let positions = |name: &str| matches.indices_of(name).into_iter().flatten();
        let rungs = matches.get_many::<Rung>("notify").into_iter().flatten().cloned();
        let mut rungs: Vec<(usize, Rung)> = positions("notify").zip(rungs).collect();
        let pairs = matches.get_many::<(String, String)>("set").into_iter().flatten().cloned();
        for (position, pair) in positions("set").zip(pairs) {
            match rungs.iter_mut().rev().find(|(start, _)| *start < position) {
                Some((_, rung)) => rung.set.push(pair),
                None => rungs.iter_mut().for_each(|(_, rung)| rung.set.push(pair.clone())),
            }
        }
        Ok(Self { rungs: rungs.into_iter().map(|(_, rung)| rung).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;

    fn read(arguments: &[&str]) -> Result<Value, clap::Error> {
        let command = Ladder::augment_args(Command::new("x").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments)?;
        let now = Timestamp::from_second(1_000).unwrap();
        Ok(Ladder::from_arg_matches(&matches)?.request("p", now)["notifications"].take())
    }

    #[test]
    fn a_set_belongs_to_the_notification_before_it() {
        let ladder = read(&[
            "--set",
            "max-age=60",
            "--notify",
            "phone:+3851111111@+2m",
            "--set",
            "max-attempts=3",
            "--notify",
            "email:me@example.org@1970-01-01T02:00:00+01:00",
            "--set",
            "subject=a=b",
            "--notify",
            "console@now",
            "--set",
            "message=7",
        ]);
        let expected = json!([
            {"channel": "phone", "at": 1_120, "phone-number": "+3851111111", "max-age": 60, "max-attempts": 3},
            {"channel": "email", "at": 3_600, "email": "me@example.org", "max-age": 60, "subject": "a=b"},
            {"channel": "console", "at": 1_000, "max-age": 60, "message": "7"},
        ]);
        assert_eq!(ladder.unwrap(), expected);
        let webhook = read(&["--notify", "webhook:https://x.example/a@b?c:d@+1h30m", "--set", "payload={\"a\": 1}"]);
        let expected = json!([
            {"channel": "webhook", "at": 6_400, "url": "https://x.example/a@b?c:d", "payload": {"a": 1}},
        ]);
        assert_eq!(webhook.unwrap(), expected);
    }

    #[test]
    fn a_schedules_times_are_counted_from_its_occurrence() {
        let ladder = |when: &str| Ladder { rungs: vec![format!("phone:+385@{when}").parse().unwrap()] };
        let template = ladder("+1h30m").template("p").unwrap();
        let expected = json!([{"channel": "phone", "in": 5_400, "phone-number": "+385"}]);
        assert_eq!((&template["notifications"], &template["process-id"]), (&expected, &json!("p")));
        let error = ladder("2026-11-21T18:00:00Z").template("p").unwrap_err();
        assert!(error.contains("counts from each occurrence"), "{error}");
    }

    #[test]
    fn what_is_misspelt_is_said() {
        for (text, words) in [
            ("email:me@example.org", "\"example.org\" is no time"),
            ("phone:+385", "must be CHANNEL:ADDRESS@WHEN"),
            ("phone:+385@+2mm", "is no time: now, +90s"),
            ("phone:+385@+-2m", "is no time"),
            ("phone:+385@2026-11-21T18:00:00", "is no time"),
            ("pigeon:x@now", "\"pigeon\" is no channel: phone, sms"),
            ("phone@now", "phone needs an address"),
            ("console:x@now", "console has no addresses"),
        ] {
            let error = read(&["--notify", text]).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(read(&["--notify", "console@now", "--set", "x"]).is_err());
    }
}
