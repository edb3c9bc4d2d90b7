use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What of a program works, and why not.
#[derive(Debug, Clone, Default)]
pub struct Health {
    components: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

/// One thing that a program needs in order to do its work.
#[derive(Debug, Clone)]
pub struct Component {
    name: &'static str,
    health: Health,
}

impl Health {
    /// Registers something that is needed; it counts as down until it is said to be up.
    pub fn component(&self, name: &'static str) -> Component {
        let component = Component { name, health: self.clone() };
        component.set(Some("not tried yet".to_owned()));
        component
    }

    /// What is down, and why. A program that has not said yet what it needs, which it does all at once and before it
    /// begins anything, is not up.
    pub fn problems(&self) -> BTreeMap<&'static str, String> {
        let components = self.components.lock().expect("nobody panics while holding this lock");
        if components.is_empty() {
            return [("program", "is starting".to_owned())].into();
        }
        components.iter().filter_map(|(name, problem)| Some((*name, problem.clone()?))).collect()
    }
}

impl Component {
    /// It works. Says so in the log if it did not before.
    pub fn up(&self) {
        if self.set(None).is_some_and(|before| before.is_some()) {
            tracing::info!(event = "component_up", component = self.name, "{} works", self.name);
        }
    }

    /// It does not work, for this reason. Says so in the log if that is news.
    pub fn down(&self, reason: impl ToString) {
        let reason = reason.to_string();
        if self.set(Some(reason.clone())).is_none_or(|before| before.as_ref() != Some(&reason)) {
            tracing::warn!(event = "component_down", component = self.name, reason, "{} does not work", self.name);
        }
    }

    fn set(&self, problem: Option<String>) -> Option<Option<String>> {
        metrics::gauge!("tocsin_component_up", "component" => self.name).set(f64::from(u8::from(problem.is_none())));
        self.health.components.lock().expect("nobody panics while holding this lock").insert(self.name, problem)
    }
}

#[derive(Clone)]
struct Served {
    program: &'static str,
    health: Health,
    metrics: PrometheusHandle,
}

/// Binds the address; the default one gives way to any free port, so that several programs can be started by hand.
pub(crate) async fn bind(address: SocketAddr, is_default: bool) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if is_default && error.kind() == io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::new(address.ip(), 0)).await
        }
        other => other,
    }
}

/// Serves `/health/live`, `/health/ready` and `/metrics` until it is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    program: &'static str,
    health: Health,
    metrics: PrometheusHandle,
) -> io::Result<()> {
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(Duration::from_secs(5));
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    });
    let router = Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(|State(served): State<Served>| async move { served.metrics.render() }))
        .with_state(Served { program, health, metrics });
    axum::serve(listener, router).await
}

async fn live(State(served): State<Served>) -> Json<Value> {
    Json(json!({"status": "live", "program": served.program, "version": env!("CARGO_PKG_VERSION")}))
}

async fn ready(State(served): State<Served>) -> (StatusCode, Json<Value>) {
    let problems = served.health.problems();
    if problems.is_empty() {
        (StatusCode::OK, Json(json!({"status": "ready"})))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready", "problems": problems})))
    }
}

/// What has not answered by then does not work.
const CHECK_PATIENCE: Duration = Duration::from_secs(5);

/// Asks every two seconds whether something works, and keeps its component up to date, until the program stops.
pub async fn watch<E, W>(component: Component, lifecycle: crate::Lifecycle, check: impl Fn() -> W)
where
    E: std::fmt::Display,
    W: Future<Output = Result<(), E>>,
{
    loop {
        match tokio::time::timeout(CHECK_PATIENCE, check()).await {
            Ok(Ok(())) => component.up(),
            Ok(Err(error)) => component.down(error),
            Err(_) => component.down(format!("no answer within {} s", CHECK_PATIENCE.as_secs())),
        }
        if !lifecycle.pause(Duration::from_secs(2)).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_up_when_all_that_it_said_it_needs_is() {
        let health = Health::default();
        assert_eq!(health.problems()["program"], "is starting");
        let (database, broker) = (health.component("database"), health.component("broker"));
        database.up();
        assert_eq!(health.problems(), [("broker", "not tried yet".to_owned())].into());
        broker.up();
        assert!(health.problems().is_empty());
    }
}
