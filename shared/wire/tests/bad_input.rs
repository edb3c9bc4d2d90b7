//! Every body of the corpus is read as it should be, and quickly, whatever is cut off its end.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use domain::{Action, NewNotification, OnUnknown, Request};
use serde_json::{Value, json};
use wire::{Rejection, parse_request};

use crate::corpus::{self, Case, Expected};

/// Slack for a slow machine; each takes some milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn every_body_is_read_as_it_should_be() {
    let cases = corpus::all();
    assert!(cases.len() >= 200, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let begin = Instant::now();
        let read = parse_request(&case.body);
        let time = begin.elapsed();
        wrong.extend(problem(case, read).map(|problem| format!("{}: {problem}", case.name)));
        if time > LIMIT {
            wrong.push(format!("{}: {time:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn no_case_stands_twice() {
    let cases = corpus::all();
    let names: HashSet<_> = cases.iter().map(|case| &case.name).collect();
    let bodies: HashSet<_> = cases.iter().map(|case| &case.body).collect();
    assert_eq!((names.len(), bodies.len()), (cases.len(), cases.len()));
}

/// What SQS carries: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>
#[test]
fn every_case_that_a_queue_carries_is_sent_through_one() {
    for case in corpus::all() {
        let is_refused =
            |c: char| matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
        let fits = (1..=1_048_576).contains(&case.body.len());
        let carried = fits && str::from_utf8(&case.body).is_ok_and(|text| !text.contains(is_refused));
        assert_eq!(carried, case.never_in_sqs.is_none(), "{}: {:?}", case.name, case.never_in_sqs);
    }
}

#[test]
fn a_body_cut_anywhere_is_rejected_with_a_bounded_list_of_reasons() {
    for case in corpus::all().iter().filter(|case| case.body.len() < 1_000) {
        for cut in 0..case.body.trim_ascii_end().len() {
            match parse_request(&case.body[..cut]) {
                Ok(_) => assert!(matches!(case.expected, Expected::Rejected(_)), "{} cut at {cut}", case.name),
                Err(Rejection { reasons, .. }) => assert!((1..=101).contains(&reasons.len()), "{}", case.name),
            }
        }
    }
}

fn problem(case: &Case, read: Result<Request, Rejection>) -> Option<String> {
    match (&case.expected, read) {
        (Expected::Rejected(expected), Err(rejection)) => {
            let same = expected.len() == rejection.reasons.len()
                && expected
                    .iter()
                    .zip(&rejection.reasons)
                    .all(|((field, words), reason)| *field == reason.field && reason.message.contains(words));
            (!same).then(|| format!("{:?}, not {expected:?}", rejection.reasons))
        }
        (Expected::Start(count, first), Ok(Request { action: Action::Start(notifications), .. })) => {
            let read = notification(&notifications[0]);
            let same = *count == notifications.len() && corpus::holds(&read, first);
            (!same).then(|| format!("{} notifications, and first {read}", notifications.len()))
        }
        (Expected::Stop(name), Ok(Request { process, action: Action::Stop })) => {
            (process.as_str() != name).then(|| format!("a stop of {process}"))
        }
        (Expected::Rejected(_), Ok(_)) => Some("accepted".to_owned()),
        (_, Ok(_)) => Some("taken for another action".to_owned()),
        (_, Err(rejection)) => Some(format!("{:?}", rejection.reasons)),
    }
}

fn notification(read: &NewNotification) -> Value {
    let on_unknown = if read.on_unknown == OnUnknown::Fail { "fail" } else { "retry" };
    json!({
        "channel": read.channel.name, "at": read.at.as_second(), "address": read.address, "options": read.options,
        "max-attempts": read.max_attempts, "max-age": read.max_age.as_secs(), "on-unknown": on_unknown,
    })
}
