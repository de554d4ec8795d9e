//! Analysis: which runs there must be, and what an AnalysisRun does next.

mod check;
mod judges;
mod metrics;
mod record;
mod runs;
mod schedule;
mod steady;
mod template;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

pub use schedule::ended;
pub use steady::steady_since;

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

/// What keeps what is to be measured from being measured.
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
    /// Questions to ask now, at most one for each metric.
    pub queries: Vec<Query>,
    /// When the next question is due, those in `queries` taken as asked; none when the run has ended
    /// or waits for a change.
    pub next: Option<Timestamp>,
}

/// Everything that is wrong with what is to be measured: templates that do not exist, and by field
/// path what is wrong in the Rollout's analyses and in the templates.
pub fn check(spec: &Spec, observed: &Observed) -> Vec<TemplateFault> {
    check::check(spec, observed)
}

/// Creates the runs that are wanted and are not there; ends those of this Rollout that go on and
/// are no longer wanted; deletes at most one old run. A run whose templates are missing or wrong is
/// not created: [`check`] tells why.
pub fn realize(desired: &Desired, observed: &Observed) -> Vec<Intent> {
    runs::realize(desired, observed)
}

/// Which questions are due. `steady_since` is the time since which the split of the traffic has not
/// changed; none while it is changing, and then nothing is due.
///
/// A metric is measured first at the run's start plus its window plus its initial delay, then every
/// interval, and never before a whole window has passed without a change of the split. After a
/// standstill one measurement is due, not all that were missed. A run that is terminated has no
/// questions left: [`record`] without readings ends it.
pub fn due(run: &AnalysisRun, steady_since: Option<Timestamp>, now: Timestamp) -> Due {
    schedule::due(run, steady_since, now)
}

/// The run's status after `readings` were taken: judged, counted, and ended where it has ended.
/// Readings whose window overlaps a change of the split are dropped, and so is what was not due.
///
/// The run fails at once when a metric fails, else it is inconclusive at once when a metric is; it
/// is successful when every metric is, for which each needs at least one measurement that passed.
/// A run that is terminated ends as Terminated, with or without readings. A run that has ended
/// keeps its status. What changes nothing gives back the same status.
pub fn record(
    run: &AnalysisRun,
    readings: &[(Query, Reading)],
    steady_since: Option<Timestamp>,
    now: Timestamp,
) -> AnalysisRunStatus {
    record::record(run, readings, steady_since, now)
}
