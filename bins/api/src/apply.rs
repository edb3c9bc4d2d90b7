use domain::{Action, Organisation};
use serde_json::json;
use store::{Disposition, Error, ReceivedRequest, RejectedRequest, RequestResult, Store, cut_waves};

/// The most notifications that are made in one statement, so that it stays quick.
const MAX_NOTIFICATIONS: usize = 5_000;

/// Reads a body as the bridge does.
pub(crate) fn read(message_id: String, body: Vec<u8>) -> ReceivedRequest {
    let parsed = wire::parse_request(&body)
        .map_err(|rejection| RejectedRequest { process: rejection.process, reasons: json!(rejection.reasons) });
    ReceivedRequest { message_id, body, parsed }
}

/// What came of requests, in their order.
pub(crate) struct Applied {
    /// `None` for what was not carried out, and of which nothing is recorded.
    pub(crate) results: Vec<Option<RequestResult>>,
    /// Why not.
    pub(crate) error: Option<Error>,
}

/// Records requests and carries them out, those of one process in their order. Where the database refuses the data of
/// one, that one is rejected; where it can't answer, that one and what comes after it is left.
pub(crate) async fn apply(store: &Store, source: &str, mut requests: Vec<ReceivedRequest>) -> Applied {
    let organisation = Organisation::default();
    let mut applied = Applied { results: vec![None; requests.len()], error: None };
    let process = |request: &ReceivedRequest| Some(request.parsed.as_ref().ok()?.process.as_str().to_owned());
    let processes: Vec<_> = requests.iter().map(process).collect();
    // A process is a group of its own; what names none waits for nobody.
    let waves = cut_waves(processes.iter().map(|process| (process.as_deref().unwrap_or_default(), process.as_deref())));
    for wave in waves {
        let mut todo = bounded(wave, &requests);
        while let Some(mut part) = todo.pop() {
            let batch: Vec<_> = part.iter().map(|n| requests[*n].clone()).collect();
            match store.requests_apply(source, &organisation, &batch).await {
                Ok(results) => part.iter().zip(results).for_each(|(n, result)| applied.results[*n] = Some(result)),
                Err(error) if part.len() > 1 && error.disposition() != Disposition::Wait => {
                    let second = part.split_off(part.len() / 2);
                    todo.extend([second, part]);
                }
                Err(error) if error.disposition() == Disposition::BadData && requests[part[0]].parsed.is_ok() => {
                    requests[part[0]] = requests[part[0]].clone().rejected_by(&error);
                    todo.push(part);
                }
                Err(error) => applied.error = Some(error),
            }
        }
        if applied.error.is_some() {
            break;
        }
    }
    if let Some(due_at) = applied.results.iter().flatten().filter_map(|result| result.due_soon_at).min() {
        // The activator's poll makes up for a hint that is lost.
        if let Err(error) = store.hint_due(due_at).await {
            tracing::debug!(%error, "no hint");
        }
    }
    applied
}

/// Parts of a wave that are each quick to apply, the last of them first.
fn bounded(wave: Vec<usize>, requests: &[ReceivedRequest]) -> Vec<Vec<usize>> {
    let mut parts = vec![Vec::new()];
    let mut notifications = 0;
    for n in wave {
        let more = match &requests[n].parsed {
            Ok(domain::Request { action: Action::Start(notifications), .. }) => notifications.len(),
            Ok(_) | Err(_) => 0,
        };
        notifications += more;
        if notifications > MAX_NOTIFICATIONS {
            notifications = more;
            parts.push(Vec::new());
        }
        parts.last_mut().expect("there is always one").push(n);
    }
    parts.reverse();
    parts
}
