//! Measuring: a question, an answer, a verdict.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use crate::api::analysis::AnalysisRunStatus;

/// A question to a metric provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Index of the metric in its run.
    pub metric: usize,
    /// Name of the provider, as the administrator set it up.
    pub provider: String,
    /// The query, filled in.
    pub text: String,
    /// The time for which to ask.
    pub at: Timestamp,
    /// How old a sample may be; older is no data.
    pub freshness: Duration,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// A finite number.
    Value(f64),
    /// No sample, a stale one, or one that is not a finite number: why.
    NoData(String),
    /// No answer, or none that can be understood: why. Never holds an address or a secret.
    Error(String),
}

/// What a measurement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Good.
    Pass,
    /// Bad.
    Fail,
    /// Neither.
    Inconclusive,
    /// There was nothing to judge.
    NoData,
    /// It could not be measured.
    Error,
}

impl Verdict {
    /// Its word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
            Self::NoData => "noData",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a run ended, or that it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunPhase {
    /// It goes on.
    Running,
    /// Every metric passed.
    Successful,
    /// A metric failed.
    Failed,
    /// It cannot say; a person must.
    Inconclusive,
    /// It was ended before it could say.
    Terminated,
}

impl RunPhase {
    /// Its word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Successful => "Successful",
            Self::Failed => "Failed",
            Self::Inconclusive => "Inconclusive",
            Self::Terminated => "Terminated",
        }
    }
    /// That of a run; one without a status is still running.
    pub fn of(status: Option<&AnalysisRunStatus>) -> Self {
        let phase = status.and_then(|s| s.phase.as_deref());
        phase.map_or(Self::Running, Self::parse)
    }
    /// Reads the API's word. What is unknown is still running: it is never a pass.
    pub fn parse(word: &str) -> Self {
        match word {
            "Successful" => Self::Successful,
            "Failed" => Self::Failed,
            "Inconclusive" => Self::Inconclusive,
            "Terminated" => Self::Terminated,
            _ => Self::Running,
        }
    }
}
