//! Requests: sent on, or what a fault makes of them.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};

use super::{
    Asked, Fault, Requests, Shared, stream,
    tls::{self, Line},
};

/// What goes back.
pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Broken>>;

/// The connection breaks here.
#[derive(Debug)]
pub(super) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken on purpose")
    }
}

impl std::error::Error for Broken {}

/// Headers of one connection, which are not for the next.
const HOP: [HeaderName; 4] = [
    header::HOST,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
];

pub(super) async fn accept(listener: TcpListener, config: Arc<ServerConfig>, shared: Arc<Shared>) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(connection(socket, config.clone(), shared.clone()));
    }
}

async fn connection(socket: TcpStream, config: Arc<ServerConfig>, shared: Arc<Shared>) {
    drop(socket.set_nodelay(true));
    let held = shared.clone();
    let (clear, line) = tls::ended(socket, config, shared.apart.subscribe(), move || {
        held.strike("cut off");
    });
    let line = Arc::new(line);
    let service = service_fn(move |request| answer(shared.clone(), line.clone(), request));
    drop(
        http1::Builder::new()
            .serve_connection(TokioIo::new(clear), service)
            .await,
    );
}

async fn answer(
    shared: Arc<Shared>,
    line: Arc<Line>,
    request: Request<Incoming>,
) -> Result<Answer, Broken> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let asked = Asked::of(&head.method, &head.uri);
    let broken = || {
        line.reset();
        Broken
    };
    let send = || send(&shared, &head, &body);
    match shared.draw(&asked, false) {
        None => {}
        Some(Fault::Delay(most)) => tokio::time::sleep(shared.some(most)).await,
        Some(Fault::Lost) => return Err(broken()),
        Some(Fault::Unknown) => {
            drain(send().await).await;
            return Err(broken());
        }
        Some(Fault::Late(most)) => {
            let (shared, wait) = (shared.clone(), shared.some(most));
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                drain(self::send(&shared, &head, &body).await).await;
            });
            return Err(broken());
        }
        Some(Fault::Twice) => drain(send().await).await,
        Some(Fault::Refused(code)) => return Ok(refusal(code)),
        Some(Fault::FailedButDone) => {
            drain(send().await).await;
            return Ok(refusal(500));
        }
        Some(Fault::Hangs) => std::future::pending().await,
        Some(Fault::Slow) => return Ok(stream::slow(send().await.map_err(|_| broken())?)),
        Some(Fault::Torn) => {
            line.reset();
            return Ok(stream::torn(send().await.map_err(|_| Broken)?).await);
        }
        Some(Fault::Silent | Fault::Gone | Fault::Reset | Fault::Lag(_)) => {}
    }
    let answer = send().await.map_err(|_| broken())?;
    if asked.requests == Requests::Watches && answer.status().is_success() {
        return Ok(stream::watch(answer, shared.clone(), asked, line));
    }
    Ok(answer.map(|body| body.map_err(|_| Broken).boxed_unsync()))
}

/// Sends a request on as it came, with its own identity.
async fn send(shared: &Shared, head: &Parts, body: &Bytes) -> kube::Result<Response<Body>> {
    let mut request = Request::new(Body::from(body.clone()));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    for name in HOP {
        request.headers_mut().remove(name);
    }
    shared.upstream.send(request).await
}

/// Done, and nobody hears of it.
async fn drain(answer: kube::Result<Response<Body>>) {
    if let Ok(answer) = answer {
        drop(answer.into_body().collect().await);
    }
}

/// The API server's way to say no.
fn refusal(code: u16) -> Answer {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "the hostile proxy says no", "reason": reason, "code": code,
    });
    let body = Full::new(Bytes::from(status.to_string()));
    let mut answer = Response::new(body.map_err(never).boxed_unsync());
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    if matches!(code, 429 | 503) {
        let after = HeaderValue::from(RETRY_AFTER.as_secs());
        answer.headers_mut().insert(header::RETRY_AFTER, after);
    }
    answer
}

const RETRY_AFTER: Duration = Duration::from_secs(2);

pub(super) fn never(never: Infallible) -> Broken {
    match never {}
}
