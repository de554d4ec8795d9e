//! One HTTP server: metrics and probes.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::adapters::telemetry::metrics::{CONTENT_TYPE, encode};

/// What the server shows.
#[derive(Clone)]
pub struct Shown {
    /// The metrics.
    pub registry: Arc<Registry>,
    /// What readiness still lacks; none when ready.
    pub lacking: Arc<dyn Fn() -> Option<String> + Send + Sync>,
}

/// The server's paths.
pub fn router(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(shown)
}

/// Serves until `stop`.
pub async fn serve(
    listener: TcpListener,
    shown: Shown,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(shown))
        .with_graceful_shutdown(stop)
        .await
}

async fn metrics(State(shown): State<Shown>) -> Response {
    match encode(&shown.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(shown): State<Shown>) -> Response {
    match (shown.lacking)() {
        None => "ok\n".into_response(),
        Some(what) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for {what}\n"),
        )
            .into_response(),
    }
}
