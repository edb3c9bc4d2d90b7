use std::fmt::Write;

use crate::reconcile::Case;

/// All that is known of a notification, for people, with times in seconds after it was due.
pub(crate) fn story(case: &Case<'_>) -> String {
    let due = case.wanted.at * 1_000_000;
    let after = |at: i64| format!("{:+.3} s", (at - due) as f64 / 1e6);
    let mut text = format!(
        "  {} to {} of process {}, due at {} ({} attempts at most{})",
        case.wanted.channel,
        case.wanted.address,
        case.process,
        case.wanted.at,
        case.wanted.max_attempts,
        if case.wanted.on_unknown_fail { ", on-unknown fail" } else { "" }
    );
    // A String takes all that is written to it.
    let mut add = |line: String| write!(text, "\n    {line}").unwrap_or_default();
    if let Some(stopped) = case.stopped {
        add(format!("{} its process's stop was committed", after(stopped)));
    }
    for arrival in case.arrivals {
        let at = arrival.at.map_or_else(|| "at some time".to_owned(), after);
        let answer = arrival.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        let accepted = if arrival.accepted { "accepted it" } else { "did not accept it" };
        add(format!("{at} the provider got it, {accepted}, and gave {answer}"));
    }
    match case.told {
        None => add("the database does not know it".to_owned()),
        Some(told) => {
            let reason = told.reason.as_deref().unwrap_or("no reason");
            add(format!("the database: notification {} is {}, {reason}", told.id, told.state));
        }
    }
    for attempt in case.attempts {
        let late = attempt.late_outcome.as_ref().map(|late| format!(", later {late}")).unwrap_or_default();
        add(format!(
            "{} to {} attempt {}: {}{late}, {}",
            after(attempt.started_at),
            after(attempt.finished_at),
            attempt.number,
            attempt.outcome,
            attempt.detail.as_deref().unwrap_or_default()
        ));
    }
    text
}
