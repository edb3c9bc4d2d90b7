use super::*;

const DUE: i64 = 1_000 * SECOND;

/// One phone call, sent, delivered, and then a stop that comes too late for anything.
struct World {
    sent: Vec<Sent>,
    evidence: Evidence,
    faults: Vec<Fault>,
}

fn world() -> World {
    let wanted = Wanted {
        channel: "phone",
        address: "+1".to_owned(),
        at: DUE / SECOND,
        max_attempts: 2,
        on_unknown_fail: false,
    };
    let sent = |message_id: &str, asks| Sent { message_id: message_id.to_owned(), process: "p".to_owned(), asks };
    let notification = Notification {
        id: 7,
        message_id: "start".to_owned(),
        address: "+1".to_owned(),
        state: "delivered".to_owned(),
        reason: None,
        scheduled_at: DUE,
        finished_at: Some(DUE + 2 * SECOND),
    };
    let evidence = Evidence {
        requests: vec![request(1, "start", "accepted", DUE - SECOND), request(2, "stop", "ignored", DUE + 9 * SECOND)],
        notifications: vec![notification],
        attempts: [(7, vec![attempt(1, "delivered", DUE)])].into(),
        arrivals: [("+1".to_owned(), vec![arrival(DUE + SECOND)])].into(),
        ..Evidence::default()
    };
    World {
        sent: vec![sent("start", Asks::Start(vec![wanted])), sent("stop", Asks::Stop)],
        evidence,
        faults: Vec::new(),
    }
}

fn request(id: i64, message_id: &str, outcome: &str, committed: i64) -> Request {
    let reasons = usize::from(outcome != "accepted");
    Request { id, message_id: message_id.to_owned(), outcome: outcome.to_owned(), reasons, committed }
}

fn attempt(number: i32, outcome: &str, started_at: i64) -> Attempt {
    Attempt {
        notification_id: 7,
        number,
        started_at,
        finished_at: started_at + 2 * SECOND,
        outcome: outcome.to_owned(),
        detail: None,
        late_outcome: None,
    }
}

fn arrival(at: i64) -> Arrival {
    Arrival { at: Some(at), status: Some(201), dropped: false, accepted: true }
}

impl World {
    fn attempts(&mut self) -> &mut Vec<Attempt> {
        self.evidence.attempts.get_mut(&7).unwrap()
    }

    fn arrivals(&mut self) -> &mut Vec<Arrival> {
        self.evidence.arrivals.get_mut("+1").unwrap()
    }

    /// A worker that died after its call, and another that called again.
    fn called_twice(&mut self) {
        *self.attempts() = vec![attempt(1, "unknown", DUE), attempt(2, "delivered", DUE + 3 * SECOND)];
        self.arrivals().push(arrival(DUE + 4 * SECOND));
        self.evidence.notifications[0].finished_at = Some(DUE + 5 * SECOND);
    }

    fn fault(&mut self, target: &str) {
        let fault = Fault {
            kind: Kind::ProgramKilled,
            target: target.to_owned(),
            began: DUE + SECOND,
            ended: DUE + 2 * SECOND,
            recovery: None,
        };
        self.faults.push(fault);
    }
}

fn judged(change: impl FnOnce(&mut World)) -> Verdict {
    let mut world = world();
    change(&mut world);
    reconcile(&world.sent, &world.evidence, &world.faults)
}

/// The finding that a change leads to.
fn finding(change: impl FnOnce(&mut World)) -> String {
    let findings = judged(change).findings;
    assert!(!findings.is_empty(), "nothing was found");
    findings.join("\n")
}

#[test]
fn what_is_as_it_should_be_is_counted() {
    let verdict = judged(|_| ());
    assert_eq!(verdict.findings, Vec::<String>::new());
    let expected = Tally { requests: 2, ignored: 1, accepted: 1, delivered: 1, calls: 1, ..Tally::default() };
    assert_eq!(verdict.tally, expected);
}

#[test]
fn a_request_that_is_lost_or_applied_twice() {
    assert!(finding(|world| drop(world.evidence.requests.remove(0))).contains("LOST: request start of p"));
    let twice = |world: &mut World| world.evidence.requests.insert(1, request(9, "start", "accepted", DUE));
    assert!(finding(twice).contains("APPLIED 2 TIMES"));
    assert!(finding(|world| world.evidence.queue_depth = 1).contains("still in SQS"));
}

#[test]
fn a_request_of_a_group_that_overtook_another() {
    assert!(finding(|world| world.evidence.requests[1].id = 0).contains("OUT OF ORDER"));
}

#[test]
fn a_bad_request_that_was_accepted_and_a_good_one_that_was_rejected() {
    assert!(finding(|world| world.sent[0].asks = Asks::Nonsense("no JSON")).contains("was accepted"));
    assert!(finding(|world| world.evidence.requests[0].outcome = "rejected".to_owned()).contains("was rejected"));
}

#[test]
fn a_start_or_a_stop_that_was_wrongly_ignored_or_accepted() {
    let early_stop = |world: &mut World| world.evidence.requests[1].committed = DUE + SECOND;
    assert!(finding(early_stop).contains("WRONGLY IGNORED"));
    let again = |outcome: &'static str, committed: i64| {
        move |world: &mut World| {
            world.sent[1].asks = Asks::Start(Vec::new());
            world.evidence.requests[1] = request(2, "stop", outcome, committed);
        }
    };
    assert!(finding(again("ignored", DUE + 9 * SECOND)).contains("WRONGLY IGNORED"));
    assert!(finding(again("accepted", DUE - 9 * SECOND)).contains("WRONGLY ACCEPTED"));
}

#[test]
fn a_notification_that_is_lost_or_not_finished_or_there_though_nobody_asked() {
    assert!(finding(|world| world.evidence.notifications.clear()).contains("LOST\n"));
    let pending = |world: &mut World| {
        world.evidence.notifications[0].state = "retrying".to_owned();
        world.evidence.notifications[0].finished_at = None;
    };
    assert!(finding(pending).contains("PENDING"));
    let doubled = |world: &mut World| world.evidence.notifications[0].address = "+2".to_owned();
    assert!(finding(doubled).contains("NOBODY ASKED FOR these notifications"));
    let stranger = |world: &mut World| drop(world.evidence.arrivals.insert("+9".to_owned(), vec![arrival(DUE)]));
    assert!(finding(stranger).contains("NOBODY ASKED FOR these calls"));
}

#[test]
fn a_call_that_nobody_knows_of_and_one_that_was_never_made() {
    let twice = |world: &mut World| world.arrivals().push(arrival(DUE + 2 * SECOND));
    assert!(finding(twice).contains("NOT MARKED UNKNOWN"));
    assert!(finding(twice).contains("NOT IN THE HISTORY"));
    assert!(finding(|world| world.evidence.arrivals.clear()).contains("NOT BY A CALL"));
}

#[test]
fn an_extra_call_takes_a_fault_that_can_be_its_cause() {
    let verdict = judged(|world| {
        world.called_twice();
        world.fault("notifier-phone-1");
    });
    assert_eq!(verdict.findings, Vec::<String>::new());
    assert_eq!((verdict.tally.extra_calls, verdict.tally.extra_calls_marked), (1, 1));
    assert!(finding(World::called_twice).contains("WITHOUT A FAULT"));
    let elsewhere = |world: &mut World| {
        world.called_twice();
        world.fault("RabbitMQ");
    };
    assert!(finding(elsewhere).contains("WITHOUT A FAULT"));
}

#[test]
fn a_call_before_its_time_or_after_a_stop() {
    assert!(finding(|world| world.arrivals()[0].at = Some(DUE - 1)).contains("EARLY"));
    let retried_at_once = |world: &mut World| {
        *world.attempts() = vec![attempt(1, "temporary", DUE), attempt(2, "delivered", DUE + 3 * SECOND)];
    };
    assert!(finding(retried_at_once).contains("EARLY"));
    let stopped = |world: &mut World| world.evidence.requests[1] = request(2, "stop", "accepted", DUE - SECOND / 2);
    let verdict = judged(stopped);
    assert_eq!(verdict.tally.calls_after_stop, 1);
    assert!(finding(stopped).contains("CALLED AFTER A STOP"));
}

#[test]
fn an_end_that_nothing_explains() {
    let failed = |world: &mut World| {
        world.evidence.notifications[0].state = "failed".to_owned();
        *world.attempts() = vec![attempt(1, "temporary", DUE)];
        world.arrivals()[0].accepted = false;
    };
    assert!(finding(failed).contains("FAILED TOO SOON"));
    let too_often = |world: &mut World| {
        let again = |number| attempt(number, "temporary", DUE + i64::from(number) * 20 * SECOND);
        *world.attempts() = vec![again(0), again(1), again(2)];
    };
    assert!(finding(too_often).contains("MORE ATTEMPTS"));
    let cancelled = |world: &mut World| {
        world.sent.pop();
        world.evidence.requests.pop();
        world.evidence.notifications[0].state = "cancelled".to_owned();
    };
    assert!(finding(cancelled).contains("CANCELLED WITHOUT A STOP"));
}
