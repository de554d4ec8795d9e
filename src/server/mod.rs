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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use reqwest::Method;

    use super::*;

    #[tokio::test]
    async fn the_port_reads_and_never_writes() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let lacking = Arc::new(AtomicBool::new(true));
        let looks = Arc::clone(&lacking);
        let shown = Shown {
            registry: Arc::default(),
            lacking: Arc::new(move || looks.load(Ordering::SeqCst).then(|| "a list".to_owned())),
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(serve(listener, shown, std::future::pending()));
        let http = reqwest::Client::builder().no_proxy().build().expect("http");
        let code = async |method: &Method, path: &str| {
            let url = format!("http://127.0.0.1:{port}{path}");
            let answer = http.request(method.clone(), url).send().await;
            answer.expect("an answer").status().as_u16()
        };
        assert_eq!(code(&Method::GET, "/readyz").await, 503);
        lacking.store(false, Ordering::SeqCst);
        for path in ["/metrics", "/healthz", "/readyz"] {
            assert_eq!(code(&Method::GET, path).await, 200, "{path}");
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                assert_eq!(code(&method, path).await, 405, "{method} {path}");
            }
        }
        for path in ["/", "/debug/pprof", "/metrics/../healthz/x", "/api"] {
            assert_eq!(code(&Method::GET, path).await, 404, "{path}");
        }
    }
}
