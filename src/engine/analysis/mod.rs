//! Analysis: which runs there must be, and what an AnalysisRun does next.

use jiff::Timestamp;

use crate::{
    api::{AnalysisRun, AnalysisRunStatus},
    model::{
        desired::Desired,
        measurement::{Query, Reading},
        observed::Observed,
        plan::Intent,
        spec::{FieldError, Spec},
    },
};

/// What keeps the analyses that a spec names from being run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateFault {
    /// A template does not exist yet: which.
    Missing(String),
    /// Something is wrong with what is written.
    Wrong(FieldError),
}

/// What an AnalysisRun is to do now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Due {
    /// Questions to ask now.
    pub queries: Vec<Query>,
    /// When the next question is due; none when the run has ended or waits for a change.
    pub next: Option<Timestamp>,
}

/// Everything that is wrong with the analyses that a spec names.
pub fn check(_spec: &Spec, _observed: &Observed) -> Vec<TemplateFault> {
    vec![]
}

/// Creates the runs that are wanted and are not there; ends those of this Rollout that go on and
/// are no longer wanted.
pub fn realize(_desired: &Desired, _observed: &Observed) -> Vec<Intent> {
    vec![]
}

/// Which questions are due. `steady_since` is the time since which the split of the traffic has not
/// changed; none while it is changing.
pub fn due(_run: &AnalysisRun, _steady_since: Option<Timestamp>, _now: Timestamp) -> Due {
    Due::default()
}

/// The run's status after `readings` were taken: judged, counted, and ended where it has ended.
/// Readings whose window overlaps a change of the split are dropped.
pub fn record(
    run: &AnalysisRun,
    _readings: &[(Query, Reading)],
    _steady_since: Option<Timestamp>,
    _now: Timestamp,
) -> AnalysisRunStatus {
    run.status.clone().unwrap_or_default()
}
