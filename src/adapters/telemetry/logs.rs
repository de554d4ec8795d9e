//! Logs, as text for people or as JSON for machines.

use thiserror::Error;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Why there are no logs.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("the log filter {0:?} cannot be read")]
    Filter(String, #[source] tracing_subscriber::filter::ParseError),
    /// Logs were set up before.
    #[error("logs are set up already")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

impl LogError {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Filter(..) => "filter",
            Self::Twice(_) => "twice",
        }
    }
}

/// Sets logs up, on standard error. `filter` is as in `RUST_LOG`: `info,serin=debug`.
pub fn init(format: Format, filter: &str) -> Result<(), LogError> {
    let chosen = EnvFilter::try_new(filter).map_err(|e| LogError::Filter(filter.to_owned(), e))?;
    let registry = tracing_subscriber::registry().with(chosen);
    let done = match format {
        Format::Text => registry
            .with(
                fmt::layer()
                    .with_ansi(false)
                    .with_target(false)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
        Format::Json => registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
    done.map_err(LogError::Twice)
}
