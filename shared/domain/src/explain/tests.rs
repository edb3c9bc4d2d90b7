use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// Due at 0, and now is 100 s later.
fn story(state: State) -> Story {
    Story {
        now: at(100),
        process: "pizzeria".to_owned(),
        run: 1,
        newest_run: 1,
        channel: "phone".to_owned(),
        state,
        reason: None,
        scheduled_at: at(0),
        due_at: at(0),
        wake_at: (!state.is_final()).then(|| at(160)),
        expires_at: at(86_400),
        claimed_at: None,
        claimed_by: None,
        finished_at: state.is_final().then(|| at(50)),
        max_attempts: 10,
        on_unknown: OnUnknown::Retry,
        returns: 0,
        stop_requested: false,
        calls: Vec::new(),
        pause: None,
        stop: None,
        interventions: Vec::new(),
    }
}

fn call(seconds: i64, outcome: Outcome, detail: &str) -> Call {
    Call {
        number: 1,
        worker: None,
        started_at: at(seconds),
        finished_at: at(seconds + 1),
        outcome,
        detail: Some(detail.to_owned()),
        provider_id: (outcome == Outcome::Delivered).then(|| "CA17".to_owned()),
        late_outcome: None,
    }
}

fn pause() -> Option<Held> {
    Some(Held {
        channel: "phone".to_owned(),
        by: "maria".to_owned(),
        since: at(-60),
        reason: Some("a drill".to_owned()),
    })
}

fn did(seconds: i64, kind: InterventionKind) -> Intervention {
    Intervention { at: at(seconds), actor: "key 1a2b3c4d (maria)".to_owned(), kind }
}

#[track_caller]
fn says(story: &Story, answer: Answer, sentence: &str) {
    let (said, words) = explain(story);
    // The date stands in every time, and tells a reader of this test nothing.
    assert_eq!((said, words.replace("2027-01-15T", "").as_str()), (answer, sentence));
}

#[test]
fn waiting_for_its_time() {
    let future = Story { due_at: at(200), scheduled_at: at(200), ..story(State::Scheduled) };
    says(&future, Answer::NotYet, "Not sent yet: it is scheduled for 08:03:20Z, 100 s from now.");
    let held = Story { pause: pause(), ..future.clone() };
    says(
        &held,
        Answer::NotYet,
        "Not sent yet: it is scheduled for 08:03:20Z, 100 s from now, and channel phone is paused by maria since \
         07:59:00Z (a drill).",
    );
    let restarted = Story { newest_run: 3, ..future };
    says(
        &restarted,
        Answer::NotYet,
        "Not sent yet: it is scheduled for 08:03:20Z, 100 s from now; its process was started again since (run 3), which \
         does not end what run 1 had begun.",
    );
}

#[test]
fn due_and_not_taken() {
    let due = story(State::Scheduled);
    says(&due, Answer::NotYet, "Not sent yet: it is due since 08:00:00Z, and no activator has taken it.");
    let held = Story { pause: pause(), ..due.clone() };
    says(
        &held,
        Answer::NotYet,
        "Not sent yet: it is due since 08:00:00Z, and channel phone is paused by maria since 07:59:00Z (a drill).",
    );
    let returned = Story { returns: 2, reason: Some("NO_ROUTE".to_owned()), ..due };
    says(
        &returned,
        Answer::NotYet,
        "Not sent yet: the broker gave its message back (NO_ROUTE), and it is published again at 08:02:40Z.",
    );
}

#[test]
fn waiting_in_the_queue() {
    let queued = story(State::Queued);
    says(
        &queued,
        Answer::NotYet,
        "Not sent yet: it was handed to the broker, and waits in queue notify.phone for a worker since 08:00:00Z.",
    );
    let all = Held { channel: "all".to_owned(), reason: None, ..pause().unwrap() };
    says(
        &Story { pause: Some(all), ..queued.clone() },
        Answer::NotYet,
        "Not sent yet: it was handed to the broker, and every channel is paused by maria since 07:59:00Z.",
    );
    says(
        &Story { due_at: at(101), ..queued.clone() },
        Answer::NotYet,
        "Not sent yet: it was handed to the broker ahead of its time, 08:01:41Z.",
    );
    says(
        &Story { expires_at: at(60), ..queued },
        Answer::NotYet,
        "Not sent yet: its max-age was over at 08:01:00Z, so it fails as soon as a worker sees it.",
    );
}

#[test]
fn waiting_for_another_try() {
    let again = |outcome, detail| Story {
        due_at: at(130),
        calls: vec![call(1, Outcome::Temporary, "HTTP 503"), call(90, outcome, detail)],
        ..story(State::Retrying)
    };
    says(
        &again(Outcome::Temporary, "HTTP 503"),
        Answer::NotYet,
        "Not sent yet: call 2 failed at 08:01:31Z (HTTP 503), and the next call is made at 08:02:10Z, 30 s from now.",
    );
    says(
        &again(Outcome::Unknown, "HTTP 500"),
        Answer::NotYet,
        "Not sent yet: nobody can tell whether call 2, begun at 08:01:30Z, was carried out (HTTP 500), and the next call \
         is made at 08:02:10Z, 30 s from now.",
    );
    says(
        &again(Outcome::RateLimited, "HTTP 429"),
        Answer::NotYet,
        "Not sent yet: the provider asked for fewer calls at 08:01:31Z (HTTP 429), and the next call is made at \
         08:02:10Z, 30 s from now.",
    );
    says(
        &again(Outcome::ChannelDown, "HTTP 401"),
        Answer::NotYet,
        "Not sent yet: the provider refused the whole channel, or was away, at 08:01:31Z (HTTP 401), and the next call \
         is made at 08:02:10Z, 30 s from now.",
    );
    says(
        &Story { due_at: at(95), ..again(Outcome::Temporary, "HTTP 503") },
        Answer::NotYet,
        "Not sent yet: call 2 failed at 08:01:31Z (HTTP 503), and waits in queue notify.phone for a worker since \
         08:01:35Z.",
    );
    says(
        &Story { pause: pause(), ..again(Outcome::Temporary, "HTTP 503") },
        Answer::NotYet,
        "Not sent yet: call 2 failed at 08:01:31Z (HTTP 503), and channel phone is paused by maria since 07:59:00Z (a \
         drill).",
    );
    let released = Story { due_at: at(110), ..story(State::Retrying) };
    says(
        &released,
        Answer::NotYet,
        "Not sent yet: a worker gave it back without having called, and the next call is made at 08:01:50Z, 10 s from \
         now.",
    );
    let by_hand =
        Story { interventions: vec![did(95, InterventionKind::Retry)], ..again(Outcome::Permanent, "no such number") };
    says(
        &by_hand,
        Answer::NotYet,
        "Not sent yet: key 1a2b3c4d (maria) had it tried again at 08:01:35Z, and the next call is made at 08:02:10Z, 30 s \
         from now.",
    );
}

#[test]
fn in_a_workers_hands() {
    let sending = Story {
        claimed_at: Some(at(99)),
        claimed_by: Some("notifier-phone@host:1-ab#3".to_owned()),
        ..story(State::Sending)
    };
    let limit = "if it does not say what came of the call until 08:02:40Z, the call counts as unknown";
    let start = "Being sent: notifier-phone@host:1-ab#3 has it in hand since 08:01:39Z";
    says(&sending, Answer::BeingSent, &format!("{start}; {limit}."));
    let stopped =
        Story { stop_requested: true, stop: Some(StopRequest { request: 7, at: at(100) }), ..sending.clone() };
    says(
        &stopped,
        Answer::BeingSent,
        &format!("{start}; {limit}; request 7 stopped the process at 08:01:40Z, so a failed call is not tried again."),
    );
    let dead = Story { wake_at: Some(at(100)), ..sending };
    says(
        &dead,
        Answer::BeingSent,
        &format!("{start}; its worker has not said in time what came of the call, which will count as unknown."),
    );
}

#[test]
fn accepted_is_never_called_more_than_that() {
    let end = "what became of it at the other end is not known by this";
    let delivered = |calls| Story { calls, ..story(State::Delivered) };
    says(
        &delivered(vec![call(0, Outcome::Delivered, "accepted")]),
        Answer::Accepted,
        &format!("Accepted by the provider at 08:00:01Z, as CA17; {end}."),
    );
    says(
        &delivered(vec![call(1, Outcome::Temporary, "HTTP 503"), call(12, Outcome::Delivered, "")]),
        Answer::Accepted,
        &format!(
            "Accepted by the provider at 08:00:13Z, as CA17, called 12 s after its time, after a first call that failed \
             (HTTP 503); {end}."
        ),
    );
    says(
        &delivered(vec![call(1, Outcome::Unknown, "time-out"), call(5, Outcome::Delivered, "")]),
        Answer::Accepted,
        &format!(
            "Accepted by the provider at 08:00:06Z, as CA17, called 5000 ms after its time, after a first call that may \
             have been carried out too (time-out); {end}."
        ),
    );
    let calls = [(1, Outcome::Unknown), (2, Outcome::Temporary), (3, Outcome::Delivered)];
    says(
        &delivered(calls.map(|(at, outcome)| call(at, outcome, "")).to_vec()),
        Answer::Accepted,
        &format!(
            "Accepted by the provider at 08:00:04Z, as CA17, called 3000 ms after its time, after 2 other calls, of which \
             1 may have been carried out too; {end}."
        ),
    );
}

#[test]
fn failed_for_good() {
    let failed = |reason: &str, calls| Story { reason: Some(reason.to_owned()), calls, ..story(State::Failed) };
    let refused = failed("no such number", vec![call(1, Outcome::Permanent, "no such number")]);
    says(&refused, Answer::NotSent, "Not sent: it was refused for good at 08:00:02Z: no such number.");
    let given_up = Story { interventions: vec![did(70, InterventionKind::GiveUp)], ..refused };
    says(
        &given_up,
        Answer::NotSent,
        "Not sent: it was refused for good at 08:00:02Z: no such number; key 1a2b3c4d (maria) gave it up at 08:01:10Z.",
    );
    let calls = vec![call(1, Outcome::Temporary, "HTTP 503"), call(30, Outcome::Temporary, "HTTP 503")];
    says(
        &failed("all 2 attempts failed", calls),
        Answer::NotSent,
        "Not sent: all 2 attempts failed, the last at 08:00:31Z (HTTP 503).",
    );
    let calls = vec![call(1, Outcome::Unknown, "reset"), call(30, Outcome::Temporary, "HTTP 503")];
    says(
        &failed("all 2 attempts failed", calls),
        Answer::Unknown,
        "Nobody can tell whether it was sent: all 2 attempts failed, the last at 08:00:31Z (HTTP 503), of which 1 may \
         have been carried out too.",
    );
    let calls = vec![call(1, Outcome::Unknown, "reset"), call(30, Outcome::Permanent, "gone")];
    says(
        &failed("gone", calls),
        Answer::Unknown,
        "Nobody can tell whether it was sent: it was refused for good at 08:00:31Z: gone, and of the calls before 1 may \
         have been carried out too.",
    );
    let unclear = failed("on-unknown", vec![call(1, Outcome::Unknown, "time-out")]);
    says(
        &Story { on_unknown: OnUnknown::Fail, ..unclear },
        Answer::Unknown,
        "Nobody can tell whether it was sent: the call begun at 08:00:01Z had no clear answer (time-out), and on-unknown \
         is fail, so it is not tried again.",
    );
    let never = failed("max-age was over before it could be sent", vec![]);
    says(
        &Story { expires_at: at(40), ..never.clone() },
        Answer::NotSent,
        "Not sent: its max-age was over at 08:00:40Z before anybody could send it.",
    );
    says(
        &Story { expires_at: at(40), calls: vec![call(1, Outcome::Temporary, "HTTP 503")], ..never },
        Answer::NotSent,
        "Not sent: its max-age was over at 08:00:40Z, after one call in vain, the last at 08:00:01Z (HTTP 503).",
    );
    let late = Call { late_outcome: Some(Outcome::Delivered), ..call(1, Outcome::Unknown, "died") };
    says(
        &failed("all 1 attempts failed", vec![late]),
        Answer::Accepted,
        "Accepted by the provider: the call begun at 08:00:01Z went through, but its worker said so too late, so it counts \
         as failed at 08:00:50Z (all 1 attempts failed).",
    );
}

#[test]
fn cancelled_and_by_whom() {
    let stop = Some(StopRequest { request: 7, at: at(49) });
    let cancelled = Story { stop, ..story(State::Cancelled) };
    says(&cancelled, Answer::NotSent, "Not sent: request 7 stopped its process at 08:00:49Z before it was sent.");
    says(
        &Story { calls: vec![call(1, Outcome::Temporary, "HTTP 503")], ..cancelled.clone() },
        Answer::NotSent,
        "Not sent: request 7 stopped its process at 08:00:49Z before the next try; call 1 before failed (HTTP 503).",
    );
    let sending = Story { stop_requested: true, ..cancelled.clone() };
    says(
        &sending,
        Answer::NotSent,
        "Not sent: request 7 stopped its process at 08:00:49Z when a worker had it in hand, but had not called.",
    );
    says(
        &Story { calls: vec![call(48, Outcome::Temporary, "HTTP 503")], ..sending.clone() },
        Answer::NotSent,
        "Not sent: request 7 stopped its process at 08:00:49Z while it was being sent, and call 1 failed (HTTP 503).",
    );
    says(
        &Story { calls: vec![call(48, Outcome::Unknown, "time-out")], ..sending },
        Answer::Unknown,
        "Nobody can tell whether it was sent: request 7 stopped its process at 08:00:49Z while it was being sent, and call \
         1 may have been carried out too (time-out).",
    );
    let dry_run = Story { calls: vec![call(49, Outcome::DryRun, "would call")], stop: None, ..cancelled.clone() };
    says(
        &dry_run,
        Answer::NotSent,
        "Not sent: dry run, its worker was told to say only what it would send, and called nobody at 08:00:50Z.",
    );
    let nobody = Story { stop: None, ..cancelled };
    says(&nobody, Answer::NotSent, "Not sent: its process was stopped, and it ended at 08:00:50Z before it was sent.");
}

#[test]
fn every_state_has_a_sentence_whatever_its_history() {
    for state in State::ALL {
        for outcome in Outcome::ALL {
            for calls in [0, 1, 3] {
                let story = Story { calls: vec![call(1, outcome, "x"); calls], ..story(state) };
                let (answer, sentence) = explain(&story);
                assert!(sentence.ends_with('.') && sentence.len() > 20, "{sentence}");
                let claims_it = sentence.starts_with("Accepted");
                assert_eq!(claims_it, answer == Answer::Accepted, "{sentence}");
                assert_eq!(claims_it, state == State::Delivered, "{sentence}");
            }
        }
    }
}
