use std::{collections::BTreeMap, str::FromStr};

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    client::{Body, Client},
    ladder::{Ladder, When},
    orders,
    screen::{Cell, Table, exact, plain, print},
};
use crate::Problem;

/// What the process is called where somebody types only a ladder.
const PROCESS: &str = "simulated";

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    tocsin simulate --file order.json --provider 'phone: 503 twice' --provider 'email: timeout' --stop-at +3m\n  \
    tocsin simulate --notify phone:+3851111111@now --notify email:boss@example.org@+5m --provider 'phone: 429 3 times \
    retry-after 30, 400'\n\n\
    Nothing is sent, and nothing is kept. A provider accepts whatever comes after its list.")]
pub(crate) struct Simulate {
    #[command(flatten)]
    ladder: Ladder,
    /// A start request as JSON instead; - is standard input
    #[arg(long, conflicts_with_all = ["notify", "set"], required_unless_present = "notify")]
    file: Option<String>,
    /// How a channel's provider answers: 'CHANNEL: ANSWER [once, twice or N times] [retry-after SECONDS], …'; an ANSWER is
    /// an HTTP status such as 503, or timeout, refused or accepted
    #[arg(long, value_name = "ANSWERS")]
    provider: Vec<Answers>,
    /// When somebody stops the process
    #[arg(long, value_name = "WHEN")]
    stop_at: Option<When>,
    /// Print the API's answer as it is
    #[arg(long)]
    json: bool,
}

/// The answers of one channel's provider, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answers {
    channel: String,
    answers: Vec<Value>,
}

impl FromStr for Answers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (channel, answers) = text.split_once(':').ok_or("must be CHANNEL: ANSWER, such as 'phone: 503 twice'")?;
        let answers = answers.split(',').map(answer).collect::<Result<_, _>>()?;
        Ok(Self { channel: channel.trim().to_owned(), answers })
    }
}

fn answer(text: &str) -> Result<Value, String> {
    let wrong = || format!("{text:?} must be an answer such as 503 twice, 429 3 times retry-after 30, or timeout");
    let mut words = text.split_whitespace();
    let answer = words.next().ok_or_else(wrong)?;
    let mut read = json!({"answer": answer, "times": 1});
    while let Some(word) = words.next() {
        match word {
            "once" => read["times"] = 1.into(),
            "twice" => read["times"] = 2.into(),
            "retry-after" => read["retry-after"] = words.next().and_then(number).ok_or_else(wrong)?.into(),
            _ => {
                read["times"] = number(word).ok_or_else(wrong)?.into();
                if words.next() != Some("times") {
                    return Err(wrong());
                }
            }
        }
    }
    Ok(read)
}

fn number(text: &str) -> Option<u32> {
    text.trim_end_matches('s').parse().ok()
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Simulated {
    begins_at: String,
    ends_at: String,
    timeline: Vec<Moment>,
    notifications: Vec<Outcome>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Moment {
    at: String,
    after_seconds: f64,
    notification: Option<i64>,
    channel: Option<String>,
    sentence: String,
}

#[derive(Deserialize)]
struct Outcome {
    channel: String,
    state: String,
    sentence: String,
}

pub(crate) async fn run(simulate: &Simulate, client: &Client) -> Result<(), Problem> {
    let now = client.time().await?;
    let request = match &simulate.file {
        Some(file) => orders::text(file)?,
        None => simulate.ladder.request(PROCESS, now).to_string(),
    };
    let mut providers: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for one in &simulate.provider {
        providers.entry(&one.channel).or_default().extend(&one.answers);
    }
    let mut circumstances = json!({"now": now.to_string(), "providers": providers});
    if let Some(stop_at) = &simulate.stop_at {
        circumstances["stop-at"] = stop_at.text(now).into();
    }
    // The request stands there as it came: the API takes more than a strict reader, such as a comma too much.
    let body = format!("{{\"request\": {request}, {}", circumstances.to_string().trim_start_matches('{'));
    let answer = client.send(Method::POST, &["simulate"], Body::Text(body)).await?;
    print(&if simulate.json { format!("{}\n", answer.text) } else { answer.read::<Simulated>()?.screen() });
    Ok(())
}

impl Simulated {
    fn screen(&self) -> String {
        let (begin, end) = (exact(&self.begins_at), exact(&self.ends_at));
        let mut timeline = Table::new(&["AT", "AFTER", "NO", "CHANNEL", "WHAT"]);
        for moment in &self.timeline {
            timeline.row([
                exact(&moment.at).into(),
                after(moment.after_seconds).into(),
                moment.notification.map_or_else(|| "".into(), Cell::from),
                moment.channel.as_deref().unwrap_or_default().into(),
                moment.sentence.as_str().into(),
            ]);
        }
        let mut ends = Table::new(&["NO", "CHANNEL", "STATE", "WHY"]);
        for (number, one) in (0..).zip(&self.notifications) {
            ends.row([
                number.into(),
                one.channel.as_str().into(),
                Cell::state(&one.state),
                plain(&one.sentence).into(),
            ]);
        }
        let title = format!("simulated from {begin} to {end}; nothing was sent\n\n");
        title + &timeline.text(0) + "\nin the end\n" + &ends.text(0)
    }
}

/// As people say it: `+2m 05s`.
fn after(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("+{s:.0}s"),
        s if s < 3_600.0 => format!("+{:.0}m {:02.0}s", (s / 60.0).floor(), s % 60.0),
        s => format!("+{:.0}h {:02.0}m", (s / 3_600.0).floor(), (s % 3_600.0 / 60.0).floor()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_people_type_them() {
        let read: Answers = "phone: 503 twice, 429 3 times retry-after 30s,timeout".parse().unwrap();
        let expected = [
            json!({"answer": "503", "times": 2}),
            json!({"answer": "429", "times": 3, "retry-after": 30}),
            json!({"answer": "timeout", "times": 1}),
        ];
        assert_eq!((read.channel.as_str(), read.answers.as_slice()), ("phone", expected.as_slice()));
        for bad in ["phone", "phone:", "phone: 503 often", "phone: 503 3", "phone: 429 retry-after soon", "phone: 1,,2"]
        {
            assert!(bad.parse::<Answers>().is_err(), "{bad}");
        }
    }

    #[test]
    fn how_long_after_the_beginning() {
        let words = [0.4, 59.0, 125.0, 3_725.0].map(after);
        assert_eq!(words, ["+0s", "+59s", "+2m 05s", "+1h 02m"]);
    }
}
