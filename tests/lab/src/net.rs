//! HTTP as simple as it gets: one request on one connection, nothing retried, nothing followed.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The bodies that are sent.
pub(crate) type Body = Full<Bytes>;

/// What went wrong, in a word and in a sentence.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: &'static str,
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn new(kind: &'static str, detail: impl std::fmt::Display) -> Self {
        Self {
            kind,
            detail: detail.to_string(),
        }
    }
}

/// Opens a connection to `host:port`.
pub(crate) async fn connect(address: &str) -> Result<SendRequest<Body>, Fault> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|e| Fault::new("connect", e))?;
    stream
        .set_nodelay(true)
        .map_err(|e| Fault::new("connect", e))?;
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|e| Fault::new("connect", e))?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Sends one request on a connection of its own; gives the answer with its body.
pub(crate) async fn once(address: &str, request: Request<Body>) -> Result<Response<Bytes>, Fault> {
    let mut sender = connect(address).await?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|e| Fault::new("request", e))?;
    collect(answer).await
}

/// Reads the body to its end.
pub(crate) async fn collect(answer: Response<Incoming>) -> Result<Response<Bytes>, Fault> {
    let (head, body) = answer.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|e| Fault::new("body", e))?
        .to_bytes();
    Ok(Response::from_parts(head, body))
}

/// `host:port` of a URL.
pub(crate) fn address_of(url: &Uri) -> Option<String> {
    Some(format!("{}:{}", url.host()?, url.port_u16().unwrap_or(80)))
}

/// A GET for `host` with further headers.
pub(crate) fn get(
    path: &str,
    host: &str,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Request<Body>, Fault> {
    let mut request = Request::get(path)
        .header(http::header::HOST, host)
        .body(Body::default())
        .map_err(|e| Fault::new("request", e))?;
    for (name, value) in headers {
        request.headers_mut().insert(name, value.clone());
    }
    Ok(request)
}

/// The status that a URL answers with.
pub(crate) async fn get_status(url: &str, limit: Duration) -> Result<u16, Fault> {
    let url: Uri = url.parse().map_err(|e| Fault::new("url", e))?;
    let address = address_of(&url).ok_or_else(|| Fault::new("url", "no host"))?;
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    let request = get(path, &address, &[])?;
    match tokio::time::timeout(limit, once(&address, request)).await {
        Ok(answer) => answer.map(|a| a.status().as_u16()),
        Err(_) => Err(Fault::new("timeout", format!("no answer in {limit:?}"))),
    }
}
