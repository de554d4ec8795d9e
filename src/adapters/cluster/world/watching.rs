//! What watching needs beside the mirrors: what is listed, what an error says, how long to wait.

use std::time::Duration;

use kube::{
    Client, Resource,
    api::{ApiResource, DynamicObject},
    client::Body,
    core::{DynamicResourceScope, Status},
    runtime::watcher,
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::lean::Lean;

/// The wait after the first failure of a watch.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait after a failure of a watch.
const LONGEST: Duration = Duration::from_secs(30);

/// An object as it comes from the API server.
pub trait Listed:
    Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>
    + Into<DynamicObject>
    + DeserializeOwned
    + Clone
    + std::fmt::Debug
    + Send
    + 'static
{
}

impl Listed for Lean {}
impl Listed for DynamicObject {}

/// So long a list may say nothing before its end, and a watch before its beginning; then it is taken
/// for one that never ends.
pub const PATIENCE: Duration = if cfg!(test) {
    Duration::from_millis(200)
} else {
    Duration::from_secs(60)
};

/// A client whose requests are answered within [`PATIENCE`], or fail. The library bounds how long a
/// watch may be silent, but not how long it may take to begin: a request that an API server or a
/// proxy never answers would hold up its kind for ever.
pub fn patient(client: &Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let inner = client.clone();
    let bounded = tower::service_fn(move |request: http::Request<Body>| {
        let inner = inner.clone();
        async move {
            let answer = timeout(PATIENCE, inner.send(request)).await;
            answer.unwrap_or_else(|late| Err(kube::Error::Service(Box::new(late))))
        }
    });
    Client::new(bounded, namespace)
}

/// How long to wait after so many failures in a row: 0.5 s to 30 s, not the same for every kind.
pub fn pause(failures: u32, kind: &str) -> Duration {
    let doubled = FIRST
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(LONGEST);
    let spread = kind
        .bytes()
        .fold(0_u32, |sum, b| (sum * 31 + u32::from(b)) % 256);
    doubled.mul_f64(1.0 - f64::from(spread) / 1024.0)
}

/// The API server's answer, where an error is one.
fn answer(error: &watcher::Error) -> Option<&Status> {
    let source = std::error::Error::source(error)?;
    match source.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => Some(status),
        Some(_) => None,
        None => source.downcast_ref::<Status>(),
    }
}

/// Whether the API server cannot stream a list: it calls the parameter invalid then.
pub fn refused(error: &watcher::Error) -> bool {
    answer(error).is_some_and(|s| matches!(s.code, 400 | 422))
}

/// An error in the API server's own words, where it has any.
pub fn said(error: &watcher::Error) -> String {
    answer(error).map_or_else(
        || error.to_string(),
        |s| format!("{} {}", s.code, s.message),
    )
}
