//! What watching needs beside the mirrors: what is listed, what an error says, how long to wait.

use std::time::Duration;

use kube::{
    Resource,
    api::{ApiResource, DynamicObject},
    core::{DynamicResourceScope, Status},
    runtime::watcher,
};
use serde::de::DeserializeOwned;

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

/// So long a streamed list may say nothing before its end; then it is taken for one that never ends.
pub const PATIENCE: Duration = if cfg!(test) {
    Duration::from_millis(200)
} else {
    Duration::from_secs(60)
};

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
