//! What a metric provider is.

use std::{fmt, future::Future, pin::Pin};

use crate::model::measurement::{Query, Reading};

/// A future answer.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Reading> + Send + 'a>>;

/// Somebody who can answer a question about a metric. An answer never holds an address or a secret:
/// it is shown to whoever may read an AnalysisRun.
pub trait Provider: fmt::Debug + Send + Sync {
    /// Asks. It always answers, in bounded time.
    fn query<'a>(&'a self, query: &'a Query) -> Answer<'a>;
}
