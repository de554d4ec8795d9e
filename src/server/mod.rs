//! One HTTP server: metrics and probes.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus_client::registry::Registry;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

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

/// So many connections are served at once. Probes and scrapes are few.
const CONNECTIONS: usize = 64;
/// So long a client may take to ask.
const REQUEST: Duration = if cfg!(test) {
    Duration::from_millis(200)
} else {
    Duration::from_secs(5)
};
/// So long a connection lasts: a client may take its answer in byte by byte.
const CONNECTION: Duration = Duration::from_secs(30);

/// Serves until `stop`. Whoever can reach the port can open connections: those are few and short, so
/// that they cost little and a probe gets its turn.
pub async fn serve(listener: TcpListener, shown: Shown, stop: impl Future<Output = ()>) {
    let service = TowerToHyperService::new(router(shown));
    let mut stop = std::pin::pin!(stop);
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            while connections.len() >= CONNECTIONS {
                connections.join_next().await;
            }
            accept(&listener).await
        };
        let stream = tokio::select! {
            biased;
            () = &mut stop => break,
            stream = next => stream,
        };
        connections.spawn(answer(stream, service.clone()));
    }
    while connections.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection to metrics and probes");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Answers one request: connections are cheap, and one that is kept would keep others out.
async fn answer(stream: TcpStream, service: TowerToHyperService<Router>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to metrics and probes"),
        Err(_) => tracing::debug!("a connection to metrics and probes took too long"),
    }
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
    use std::{
        io::{ErrorKind, Read, Write},
        net::TcpStream as Plain,
        sync::atomic::{AtomicBool, Ordering},
    };

    use reqwest::{Client, Method};

    use super::*;

    /// What serves, at which port, and a client of it.
    async fn served(lacking: Arc<AtomicBool>) -> (u16, Client) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shown = Shown {
            registry: Arc::default(),
            lacking: Arc::new(move || lacking.load(Ordering::SeqCst).then(|| "a list".to_owned())),
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(serve(listener, shown, std::future::pending()));
        let http = Client::builder().no_proxy().build().expect("http");
        (port, http)
    }

    async fn code(http: &Client, port: u16, method: &Method, path: &str) -> u16 {
        let url = format!("http://127.0.0.1:{port}{path}");
        let answer = http.request(method.clone(), url).send().await;
        answer.expect("an answer").status().as_u16()
    }

    #[tokio::test]
    async fn the_port_reads_and_never_writes() {
        let lacking = Arc::new(AtomicBool::new(true));
        let (port, http) = served(Arc::clone(&lacking)).await;
        let code = async |method: &Method, path: &str| code(&http, port, method, path).await;
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

    /// More than are served at once, each in the midst of a request that never ends.
    #[tokio::test]
    async fn who_never_ends_a_request_is_hung_up_on_and_keeps_nobody_out() {
        let (port, http) = served(Arc::default()).await;
        let begin = |_| {
            let mut one = Plain::connect(("127.0.0.1", port)).expect("a connection");
            one.write_all(b"GET /healthz HTTP/1.1\r\nx: ")
                .expect("is sent");
            one
        };
        let slow: Vec<Plain> = (0..100).map(begin).collect();
        assert_eq!(code(&http, port, &Method::GET, "/healthz").await, 200);
        let mut first = &slow[0];
        first.set_nonblocking(true).expect("it does not wait");
        let end = first.read(&mut [0; 256]).map_err(|e| e.kind());
        assert_ne!(end, Err(ErrorKind::WouldBlock), "it was waited for");
    }
}
