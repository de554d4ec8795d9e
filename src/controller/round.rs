//! A round and its fate: one that fails, hangs or panics harms no other.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use kube::runtime::controller::Action;
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    adapters::cluster::{
        act::ActError, commit::CommitError, observe::ObserveError, world::mirror::Key,
    },
    model::plan::Requeue,
};

use super::context::{Context, backoff, spread};

/// The longest that a round may take.
const LIMIT: Duration = Duration::from_secs(60);
/// So many conflicts in a row are more than somebody who was faster.
const AGAIN: u32 = 6;
/// To look again at once is to look again after this: what was written must get back to the cache.
const SOON: Duration = Duration::from_millis(10);

/// Why a round ended early. Traffic stays where it is.
#[derive(Debug, Error)]
pub enum RoundError {
    /// There was nothing to decide from.
    #[error("cannot observe")]
    Observe(#[from] ObserveError),
    /// The decision is not durable.
    #[error("cannot commit")]
    Commit(#[from] CommitError),
    /// The decision was not carried out.
    #[error("cannot act")]
    Act(#[from] ActError),
    /// Our own fault: it panicked.
    #[error("the round panicked: {0}")]
    Panicked(String),
    /// It took too long.
    #[error("the round took longer than {} s", LIMIT.as_secs())]
    TooLong,
}

impl RoundError {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Observe(e) => e.kind(),
            Self::Commit(e) => e.kind(),
            Self::Act(e) => e.kind(),
            Self::Panicked(_) => "panic",
            Self::TooLong => "tooLong",
        }
    }
    fn is_conflict(&self) -> bool {
        match self {
            Self::Commit(e) => e.is_conflict(),
            Self::Act(e) => e.is_conflict(),
            _ => false,
        }
    }
    /// Whether, as the `count`th failure in a row, it means that what is cached may not be what stands.
    fn puts_the_cache_in_doubt(&self, count: u32) -> bool {
        let unknown = match self {
            Self::Act(e) => e.outcome_is_unknown(),
            // It may have been left in the midst of a request.
            Self::TooLong | Self::Panicked(_) => true,
            Self::Observe(_) | Self::Commit(_) => false,
        };
        // Once is life; again and again, somebody fights us, or what is cached is behind.
        unknown || self.is_conflict() && count >= AGAIN
    }
    /// The error and its causes, in one line.
    fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause: &dyn std::error::Error = self;
        while let Some(source) = cause.source() {
            text = format!("{text}: {source}");
            cause = source;
        }
        text
    }
}

/// Does a round of `controller` for the object `key`, and times it.
pub async fn guarded(
    cx: &Context,
    controller: &'static str,
    key: &Key,
    round: impl Future<Output = Result<Requeue, RoundError>>,
) -> Result<Action, RoundError> {
    let _in_progress = cx.metrics.reconciling(controller);
    let began = Instant::now();
    let result = match tokio::time::timeout(LIMIT, AssertUnwindSafe(round).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(RoundError::Panicked(words(panic.as_ref()))),
        Err(_) => Err(RoundError::TooLong),
    };
    let outcome = result.as_ref().map_or_else(RoundError::kind, |_| "ok");
    cx.metrics.reconciled(controller, outcome, began.elapsed());
    let requeue = result?;
    cx.failures.clear(controller, key);
    Ok(Action::requeue(wait(cx, key, requeue)))
}

/// What a panic said.
pub fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

/// How long to wait for the next look. Never for ever: a change may be missed.
fn wait(cx: &Context, key: &Key, requeue: Requeue) -> Duration {
    match requeue {
        Requeue::Now => SOON,
        Requeue::At(at) => {
            let left = cx.clock.now().duration_until(at);
            Duration::try_from(left).unwrap_or_default().max(SOON)
        }
        // Not all at the same time.
        Requeue::OnChange(longest) => longest.mul_f64(1.0 - 0.2 * spread(key, 0)).max(SOON),
    }
}

/// When to try again after a failure.
pub fn after_failure(
    cx: &Context,
    controller: &'static str,
    key: &Key,
    error: &RoundError,
) -> Action {
    let count = cx.failures.add(controller, key);
    let ms = Duration::from_millis;
    if error.puts_the_cache_in_doubt(count) {
        cx.failures.doubt(controller, key);
    }
    let wait = match error {
        RoundError::Observe(ObserveError::Stale(_)) => {
            tracing::debug!(controller, object = %key, error = error.chain(), "not yet");
            backoff(ms(5), ms(1_000), count, key)
        }
        RoundError::Observe(ObserveError::NotReady(_)) => {
            tracing::info!(controller, object = %key, error = error.chain(), "not yet");
            backoff(ms(250), ms(5_000), count, key)
        }
        _ if error.is_conflict() => {
            let error = error.chain();
            if count >= AGAIN {
                tracing::warn!(controller, object = %key, error, count, "somebody is always faster");
            } else {
                tracing::debug!(controller, object = %key, error, "somebody was faster");
            }
            backoff(ms(150), ms(5_000), count.saturating_sub(4).max(1), key)
        }
        _ => {
            tracing::warn!(controller, object = %key, error = error.chain(), count, "round failed");
            backoff(ms(500), ms(30_000), count, key)
        }
    };
    Action::requeue(wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::cluster::rest::RestError;

    #[test]
    fn what_may_have_been_done_all_the_same_puts_the_cache_in_doubt() {
        let request = || "PATCH ReplicaSet web-1".to_owned();
        let source = || Box::new(kube::core::Status::default());
        let act = |e: RestError| RoundError::Act(ActError::Request(e));
        let timeout = act(RestError::Timeout { request: request() });
        let failed = act(RestError::Failed {
            request: request(),
            source: source(),
        });
        let refused = act(RestError::Refused {
            request: request(),
            source: source(),
        });
        let conflict = act(RestError::Conflict {
            request: request(),
            source: source(),
        });
        for (error, at_once, at_last) in [
            (timeout, true, true),
            (failed, true, true),
            (refused, false, false),
            (conflict, false, true),
        ] {
            assert_eq!(error.puts_the_cache_in_doubt(1), at_once, "{error:?}");
            assert_eq!(error.puts_the_cache_in_doubt(AGAIN), at_last, "{error:?}");
        }
        // What was under way when it was left, nobody knows.
        assert!(RoundError::TooLong.puts_the_cache_in_doubt(1));
        assert!(RoundError::Panicked(String::new()).puts_the_cache_in_doubt(1));
    }
}
