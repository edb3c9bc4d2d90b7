use std::{convert::Infallible, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Query, State},
    http::{Request, StatusCode},
    response::Html,
    routing::get,
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::{
    Arrival, Rule, Simulator,
    providers::{self, BreakConnection},
};

/// Takes connections until the program ends.
pub(crate) async fn serve(listener: TcpListener, simulator: Arc<Simulator>) -> anyhow::Result<()> {
    let router = router(simulator);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let router = router.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let router = router.clone();
            async move {
                let Ok::<_, Infallible>(response) = router.oneshot(request.map(Body::new)).await;
                match response.extensions().get::<BreakConnection>() {
                    Some(BreakConnection) => Err("the connection is to be broken"),
                    None => Ok(response),
                }
            }
        });
        tokio::spawn(async move {
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            // Clients that hang up, and connections that are to be broken, end here.
            connection.await.unwrap_or_default();
        });
    }
}

fn router(simulator: Arc<Simulator>) -> Router {
    Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .merge(providers::router())
        .route("/simulator/arrivals", get(arrivals_list).delete(arrivals_forget))
        .route("/simulator/rules", get(rules_list).put(rules_replace))
        .layer(DefaultBodyLimit::max(1024 * 1024))
        .with_state(simulator)
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: usize,
}

async fn arrivals_list(State(simulator): State<Arc<Simulator>>, Query(query): Query<After>) -> Json<Vec<Arrival>> {
    let arrivals = simulator.arrivals();
    Json(arrivals.iter().skip(query.after).cloned().collect())
}

async fn arrivals_forget(State(simulator): State<Arc<Simulator>>) -> StatusCode {
    simulator.arrivals().clear();
    StatusCode::NO_CONTENT
}

async fn rules_list(State(simulator): State<Arc<Simulator>>) -> Json<Vec<Rule>> {
    Json(simulator.rules().clone())
}

async fn rules_replace(State(simulator): State<Arc<Simulator>>, Json(rules): Json<Vec<Rule>>) -> StatusCode {
    *simulator.rules() = rules;
    StatusCode::NO_CONTENT
}
