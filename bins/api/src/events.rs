use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::StatusCode,
    response::{
        Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use store::Happening;
use tokio::{
    sync::{Notify, broadcast, watch},
    time::timeout,
};

use crate::{
    Api,
    auth::MayRead,
    problem::{Advice, Problem},
    view::time,
};

/// How often to look what has happened, as long as somebody wants to know.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How many may watch at once.
const MAX_WATCHERS: usize = 100;

/// What a slow watcher may be behind by.
const MAX_BEHIND: usize = 2_000;

/// How long the first look may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happened, for everybody who watches.
pub(crate) struct Events {
    sender: broadcast::Sender<Arc<Told>>,
    somebody_watches: Notify,
    /// Whether what happens from now on is seen.
    is_looking: watch::Sender<bool>,
}

/// An event as it is told.
#[derive(Debug)]
struct Told {
    kind: &'static str,
    data: Value,
}

impl Default for Events {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(MAX_BEHIND);
        Self { sender, somebody_watches: Notify::new(), is_looking: watch::Sender::new(false) }
    }
}

/// Looks what has happened as long as somebody watches, until the program stops.
pub(crate) async fn look(api: Arc<Api>) {
    let events = &api.events;
    let mut seen: Option<HashSet<(&'static str, i64, String)>> = None;
    while !api.lifecycle.stop.is_cancelled() {
        if events.sender.receiver_count() == 0 {
            events.is_looking.send_replace(false);
            seen = None;
            tokio::select! {
                () = events.somebody_watches.notified() => {}
                () = api.lifecycle.stop.cancelled() => return,
            }
        }
        match api.store.happenings().await {
            Ok(happenings) => {
                let mut now = HashSet::new();
                for happening in happenings {
                    let (key, told) = told(happening);
                    // Without listeners it is told to nobody.
                    if seen.as_ref().is_some_and(|seen| !seen.contains(&key)) {
                        events.sender.send(Arc::new(told)).unwrap_or_default();
                    }
                    now.insert(key);
                }
                seen = Some(now);
                events.is_looking.send_replace(true);
            }
            Err(error) => tracing::warn!(event = "events_late", %error, "what happens now is told later"),
        }
        api.lifecycle.pause(LOOK_INTERVAL).await;
    }
}

fn told(happening: Happening) -> ((&'static str, i64, String), Told) {
    match happening {
        Happening::Request { id, at, process, action, outcome } => {
            let data = json!({"id": id, "at": time(at), "process-id": process, "action": action, "outcome": outcome});
            (("request", id, String::new()), Told { kind: "request", data })
        }
        Happening::Notification { id, at, process, channel, state, reason } => {
            let data = json!({
                "id": id, "at": time(at), "process-id": process, "channel": channel, "state": state, "reason": reason,
            });
            // One that was tried again by hand comes to its end more than once.
            (("notification", id, at.to_string()), Told { kind: "notification", data })
        }
        // What it was and is stays with the audit, which not everybody may see.
        Happening::Audit(entry) => {
            let data = json!({
                "id": entry.id, "at": time(entry.at), "actor": entry.actor, "action": entry.action,
                "object": entry.object,
            });
            (("change", entry.id, String::new()), Told { kind: "change", data })
        }
    }
}

/// What happens, as it happens
///
/// Server-sent events, at most a second late: `request` (one was recorded), `notification` (one came to its end:
/// `delivered`, that is accepted by the provider, `failed` or `cancelled`), `change` (somebody did something), and `missed`
/// (so many events were lost, since this connection was too slow or too much happened). It is no record: what happened
/// while nobody was connected is in the lists.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    responses(
        (status = 200, description = "Events, each with a JSON object", body = String, content_type = "text/event-stream"),
        (status = 503, description = "Too many watch already", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn events(
    MayRead(_): MayRead,
    State(api): State<Arc<Api>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let busy = |detail: &str| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "no events for now", detail)
            .advising(Advice::RetryAfter(10))
    };
    if api.events.sender.receiver_count() >= MAX_WATCHERS {
        return Err(busy("too many watch already"));
    }
    let receiver = api.events.sender.subscribe();
    api.events.somebody_watches.notify_one();
    let mut is_looking = api.events.is_looking.subscribe();
    let looked = timeout(PATIENCE, is_looking.wait_for(|is| *is)).await;
    looked.map_err(|_| busy("the database is away")).and_then(|looked| looked.map_err(|_| busy("it is stopping")))?;
    let stop = api.lifecycle.stop.clone();
    let stream = stream::unfold((receiver, stop), async |(mut receiver, stop)| {
        let received = tokio::select! {
            received = receiver.recv() => received,
            () = stop.cancelled() => return None,
        };
        let event = match received {
            Ok(told) => Event::default().event(told.kind).data(told.data.to_string()),
            Err(broadcast::error::RecvError::Lagged(count)) => {
                Event::default().event("missed").data(json!({"count": count}).to_string())
            }
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((Ok(event), (receiver, stop)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}
