use serde_json::{Value, json};

/// A channel, as a sender of requests knows it. The checker keeps a list of its own, as it judges the pipeline's.
#[derive(Debug)]
pub(crate) struct Channel {
    /// Its name in a request.
    pub(crate) name: &'static str,
    /// The program that serves it.
    pub(crate) program: &'static str,
    /// What all its addresses look like to the simulated provider; none if it has no provider.
    pub(crate) everybody: Option<&'static str>,
}

pub(crate) const CHANNELS: &[Channel] = &[
    Channel { name: "phone", program: "notifier-phone", everybody: Some("+3859*") },
    Channel { name: "sms", program: "notifier-sms", everybody: Some("+4479*") },
    Channel { name: "email", program: "notifier-email", everybody: Some("*@example.org") },
    Channel { name: "pubnub", program: "notifier-pubnub", everybody: Some("ch-*") },
    Channel { name: "sns", program: "notifier-sns", everybody: Some("arn:aws:sns:us-east-1:000000000000:t-*") },
    Channel { name: "webhook", program: "notifier-webhook", everybody: Some("/webhook/*") },
    Channel { name: "console", program: "notifier-console", everybody: None },
];

/// How the provider always treats an address, whatever else it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Takes what comes.
    Good,
    /// Takes its time.
    Slow,
    /// Refuses for good.
    Refuses,
    /// Is never available.
    Unavailable,
    /// Accepts, and breaks the connection without an answer.
    HangsUp,
}

impl Habit {
    const SPECIAL: [Self; 4] = [Self::Slow, Self::Refuses, Self::Unavailable, Self::HangsUp];

    /// The digit by which addresses with this habit are known.
    fn digit(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Slow => 6,
            Self::Refuses => 7,
            Self::Unavailable => 8,
            Self::HangsUp => 9,
        }
    }

    /// The habit that goes with a throw of a ten-sided die, so that six in ten are good.
    pub(crate) fn of_die(die: u8) -> Self {
        Self::SPECIAL.into_iter().find(|habit| habit.digit() == die).unwrap_or(Self::Good)
    }
}

impl Channel {
    /// The address that nobody else has, and the notification that reaches it.
    pub(crate) fn notification(&self, number: usize, habit: Habit, simulator: &str) -> (String, Value) {
        let digit = habit.digit();
        let address = match self.name {
            "phone" => format!("+3859{number:07}{digit}"),
            "sms" => format!("+4479{number:07}{digit}"),
            "email" => format!("{number}-{digit}@example.org"),
            "pubnub" => format!("ch-{number}-{digit}"),
            "sns" => format!("arn:aws:sns:us-east-1:000000000000:t-{number}-{digit}"),
            "webhook" => format!("/webhook/{number}-{digit}"),
            _ => format!("line-{number}"),
        };
        let keys = match self.name {
            "phone" => json!({"phone-number": address}),
            "sms" => json!({"phone-number": address, "message": "a new order"}),
            "email" => json!({"email": address, "subject": "A new order", "body": "Nobody has confirmed it."}),
            "pubnub" => json!({"pubnub-channel": address}),
            "sns" => json!({"topic-arn": address, "payload": {"order": number}}),
            "webhook" => json!({"url": format!("{simulator}{address}"), "payload": {"order": number}}),
            _ => json!({"message": address}),
        };
        let mut notification = keys;
        notification["channel"] = self.name.into();
        (address, notification)
    }

    /// The rules by which the simulated provider has its habits.
    pub(crate) fn habits(&self) -> Vec<Value> {
        let Some(everybody) = self.everybody else { return Vec::new() };
        let rule = |habit: Habit| {
            let digit = habit.digit();
            let address = match everybody.split_once('@') {
                Some((_, domain)) => format!("*-{digit}@{domain}"),
                None if self.name == "phone" || self.name == "sms" => format!("{everybody}{digit}"),
                None => format!("{everybody}-{digit}"),
            };
            let mut rule = match (habit, self.name) {
                (Habit::Slow, _) => json!({"delay_ms": 400}),
                (Habit::Refuses, "email") => json!({"status": 550}),
                (Habit::Refuses, "phone" | "sms") => json!({"status": 400, "code": 21211}),
                (Habit::Refuses, _) => json!({"status": 400}),
                (Habit::Unavailable, "email") => json!({"status": 451}),
                (Habit::Unavailable, _) => json!({"status": 503}),
                (Habit::HangsUp | Habit::Good, _) => json!({"drop": true}),
            };
            rule["address"] = address.into();
            rule
        };
        Habit::SPECIAL.into_iter().map(rule).collect()
    }
}
