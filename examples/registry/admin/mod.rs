//! The admin listener: is the process alive, can it serve, what does it count?

mod metrics;
mod wait;

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use registry_core::Registry;
use replication::ReplicatedStore;
use tokio_util::sync::CancellationToken;

pub(crate) use self::metrics::Metrics;

/// How long the stores may take to answer a readiness check.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Admin {
    registry: Registry,
    replicated: Option<ReplicatedStore>,
    metrics: Metrics,
    stop: CancellationToken,
}

/// `/healthz`, `/readyz`, `/metrics` and `/replication/wait`.
pub(crate) fn router(registry: Registry, replicated: Option<ReplicatedStore>, metrics: Metrics, stop: CancellationToken) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .route("/replication/wait", get(wait::wait))
        .with_state(Admin { registry, replicated, metrics, stop })
}

/// 200 when requests can be served, else 503 and why. A server that was asked to stop is not ready, so that a load balancer turns elsewhere first.
async fn ready(State(admin): State<Admin>) -> Response {
    if admin.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    let check = async {
        admin.registry.check().await?;
        // One zone that works is enough.
        admin.replicated.as_ref().map_or(Ok(()), ReplicatedStore::check)
    };
    match tokio::time::timeout(PATIENCE, check).await {
        Ok(Ok(())) => "ready\n".into_response(),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {error}\n")).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: no answer within {PATIENCE:?}\n")).into_response(),
    }
}

async fn render(State(admin): State<Admin>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics.render()).into_response()
}
