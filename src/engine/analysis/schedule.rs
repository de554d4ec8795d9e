//! When a metric is measured.
//!
//! One rule, for asking and for believing alike: a measurement is due not before the run's start
//! plus delay plus window, not before its turn, and not before a whole window has passed without
//! a change of the split. So no window reaches back before the step or across a change of weights.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::{AnalysisRun, AnalysisRunStatus, Metric, analysis::MetricResult},
    model::{
        measurement::{Query, RunPhase},
        progress::after,
    },
};

use super::{
    Due,
    metrics::{DEFAULT_PROVIDER, timing},
};

/// The least age at which a sample is stale.
const FRESH: Duration = Duration::from_secs(300);

/// Which questions are due, and when the next one is.
pub(super) fn due(run: &AnalysisRun, steady_since: Option<Timestamp>, now: Timestamp) -> Due {
    let mut due = Due::default();
    if run.spec.terminate || ended(run.status.as_ref()) {
        return due;
    }
    for (index, metric) in run.spec.metrics.iter().enumerate() {
        let result = result(run.status.as_ref(), index, metric);
        if result.is_some_and(|r| RunPhase::parse(&r.phase) != RunPhase::Running) {
            continue;
        }
        let Some(at) = not_before(run, metric, result, steady_since) else {
            continue;
        };
        let next = if at <= now {
            due.queries.push(query(index, metric, now));
            next(metric, at, now, now)
        } else {
            Some(at)
        };
        due.next = due.next.into_iter().chain(next).min();
    }
    due
}

fn query(index: usize, metric: &Metric, at: Timestamp) -> Query {
    let provider = metric.provider.ref_.as_deref().unwrap_or(DEFAULT_PROVIDER);
    let prometheus = metric.provider.prometheus.as_ref();
    Query {
        metric: index,
        provider: provider.to_owned(),
        text: prometheus.map(|p| p.query.clone()).unwrap_or_default(),
        at,
        freshness: timing(metric).map_or(FRESH, |t| t.window.max(FRESH)),
    }
}

/// The first moment at which the metric may be measured; none while the split is changing, or where
/// the run does not say since when it may look.
pub(super) fn not_before(
    run: &AnalysisRun,
    metric: &Metric,
    result: Option<&MetricResult>,
    steady_since: Option<Timestamp>,
) -> Option<Timestamp> {
    let timing = timing(metric)?;
    let created = run.metadata.creation_timestamp.as_ref();
    let start = run.spec.start.as_ref().or(created)?.0;
    let first = after(after(start, timing.window), timing.delay);
    let steady = after(steady_since?, timing.window);
    let turn = result.and_then(|r| r.next_at.as_ref()).map(|t| t.0);
    Some(first.max(steady).max(turn.unwrap_or(first)))
}

/// When the metric's turn comes again, after it was due at `scheduled` and asked for `at`. A small
/// delay does not shift the turns; a large one (more than a tenth of the interval) does, so that
/// after a standstill the turns do not come fast after each other.
pub(super) fn next(
    metric: &Metric,
    scheduled: Timestamp,
    at: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let interval = timing(metric)?.interval;
    let prompt = at <= after(scheduled, interval / 10);
    let base = if prompt { scheduled } else { at };
    Some(after(base, interval).max(now))
}

/// What was measured of a metric so far. Results stand in the order of the metrics.
pub(super) fn result<'a>(
    status: Option<&'a AnalysisRunStatus>,
    index: usize,
    metric: &Metric,
) -> Option<&'a MetricResult> {
    let result = status?.metric_results.get(index)?;
    (result.name == metric.name).then_some(result)
}

/// Whether a run has ended.
pub fn ended(status: Option<&AnalysisRunStatus>) -> bool {
    RunPhase::of(status) != RunPhase::Running
}
