//! Recording: from readings to verdicts, from verdicts to counts, from counts to an end.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        AnalysisRun, AnalysisRunStatus, Metric,
        analysis::{Measurement, MetricResult, Tolerance},
    },
    model::{
        desired::Part,
        measurement::{Query, Reading, RunPhase, Verdict},
    },
};

use super::{
    judges::{Judgement, clip, judge},
    schedule,
};

/// As many measurements are kept of each metric.
const KEPT: usize = 10;
/// The longest message, in characters.
const LONGEST: usize = 300;

/// The run's status after the readings. A run that has ended keeps its status; one that is
/// terminated takes no more readings. A reading that was not due is dropped: it is one whose window
/// overlaps a change, that belongs to a complete metric, or that was recorded before.
pub(super) fn record(
    run: &AnalysisRun,
    readings: &[(Query, Reading)],
    steady_since: Option<Timestamp>,
    now: Timestamp,
) -> AnalysisRunStatus {
    let mut status = run.status.clone().unwrap_or_default();
    if schedule::ended(Some(&status)) {
        return status;
    }
    if run.spec.terminate {
        let message = "ended before it was complete: no longer wanted";
        end(&mut status, RunPhase::Terminated, message.to_owned(), now);
        return status;
    }
    if run.spec.metrics.is_empty() {
        let message = "nothing was measured: the run has no metrics";
        end(&mut status, RunPhase::Inconclusive, message.to_owned(), now);
        return status;
    }
    let mut results = results(run, &status);
    for (query, reading) in readings {
        let metric = run.spec.metrics.get(query.metric);
        let (Some(metric), Some(result)) = (metric, results.get_mut(query.metric)) else {
            continue;
        };
        let at = schedule::not_before(run, metric, Some(result), steady_since);
        let Some(scheduled) = at.filter(|at| *at <= query.at && query.at <= now) else {
            continue;
        };
        if RunPhase::parse(&result.phase) != RunPhase::Running {
            continue;
        }
        count(result, &judge(metric, reading), query.at);
        result.next_at = schedule::next(metric, scheduled, query.at, now).map(Time);
        conclude(metric, result, Part::is_step(&run.spec.step));
        status.phase = Some(RunPhase::Running.as_str().to_owned());
        status.started_at.get_or_insert(Time(query.at));
    }
    if status.phase.is_some() {
        status.metric_results = results;
        finish(&mut status, now);
    }
    status
}

/// A result for each metric, in their order.
fn results(run: &AnalysisRun, status: &AnalysisRunStatus) -> Vec<MetricResult> {
    let metrics = run.spec.metrics.iter().enumerate();
    let fresh = |metric: &Metric| MetricResult {
        name: metric.name.clone(),
        phase: RunPhase::Running.as_str().to_owned(),
        ..MetricResult::default()
    };
    metrics
        .map(|(i, m)| {
            schedule::result(Some(status), i, m)
                .cloned()
                .unwrap_or_else(|| fresh(m))
        })
        .collect()
}

/// Counts one measurement. `in_a_row` counts only verdicts that are neither pass nor fail. No data and errors
/// count as one kind: in turn, they would give no verdict for ever.
fn count(result: &mut MetricResult, judgement: &Judgement, at: Timestamp) {
    let verdict = judgement.verdict;
    let counter = match verdict {
        Verdict::Pass => &mut result.passed,
        Verdict::Fail => &mut result.failed,
        Verdict::Inconclusive => &mut result.inconclusive,
        Verdict::NoData => &mut result.no_data,
        Verdict::Error => &mut result.errors,
    };
    *counter = counter.saturating_add(1);
    let last = result.measurements.last().map(|m| m.verdict.as_str());
    result.in_a_row = match verdict {
        Verdict::Pass | Verdict::Fail => 0,
        _ if last.is_some_and(|l| alike(l, verdict.as_str())) => result.in_a_row.saturating_add(1),
        Verdict::Inconclusive | Verdict::NoData | Verdict::Error => 1,
    };
    result.measurements.push(Measurement {
        at: Time(at),
        value: judgement.value.clone(),
        verdict: verdict.as_str().to_owned(),
        message: (verdict != Verdict::Pass).then(|| judgement.why.clone()),
    });
    let surplus = result.measurements.len().saturating_sub(KEPT);
    result.measurements.drain(..surplus);
}

/// Whether two verdicts that are neither pass nor fail count in one row.
fn alike(one: &str, other: &str) -> bool {
    let nothing = |verdict| verdict == "noData" || verdict == "error";
    one == other || nothing(one) && nothing(other)
}

/// Ends a metric whose last measurement ends it.
///
/// It fails when more measurements failed than are tolerated. It is successful when enough of them
/// passed or failed and at least one passed; where all of them failed, as tolerated, it fails too.
/// Too many in a row of another kind end it as its tolerance says. So without a pass nothing is
/// ever successful.
fn conclude(metric: &Metric, result: &mut MetricResult, step: bool) {
    let Some(last) = result.measurements.last() else {
        return;
    };
    let why = last.message.clone().unwrap_or_default();
    let judged = result.passed.saturating_add(result.failed);
    let complete = metric
        .count
        .or(step.then_some(1))
        .is_some_and(|count| judged >= count.max(1));
    let (kind, tolerance) = match last.verdict.as_str() {
        "noData" => ("no data ", &metric.no_data),
        "error" => ("an error ", &metric.error),
        "inconclusive" => ("", &metric.inconclusive),
        _ => ("", &None),
    };
    let (limit, abort) = limit(tolerance.as_ref());
    let name = &metric.name;
    let row = result.in_a_row;
    let of_row = result.measurements.iter().rev();
    let mut of_row = of_row.take(usize::try_from(row).unwrap_or(0));
    let mixed = of_row.any(|m| m.verdict != last.verdict);
    let (phase, message) = if result.failed > metric.failure_limit {
        let times = match metric.failure_limit {
            0 => String::new(),
            limit => format!("; {} failed, {limit} tolerated", result.failed),
        };
        (
            RunPhase::Failed,
            format!("metric {name:?} failed: {why}{times}"),
        )
    } else if row > limit {
        let (phase, word) = if abort {
            (RunPhase::Failed, "failed")
        } else {
            (RunPhase::Inconclusive, "inconclusive")
        };
        let row = if row == 1 {
            "once".to_owned()
        } else {
            format!("{row} times in a row")
        };
        let kind = if mixed { "no data or an error " } else { kind };
        let message = format!("metric {name:?} {word}: {kind}{row}, {limit} tolerated: {why}");
        (phase, message)
    } else if complete && result.passed < 1 {
        let message =
            format!("metric {name:?} failed: {why}; none of {judged} measurements passed");
        (RunPhase::Failed, message)
    } else if complete {
        let passed = result.passed;
        let message = format!("metric {name:?} passed: {passed} of {judged} measurements");
        (RunPhase::Successful, message)
    } else {
        return;
    };
    result.phase = phase.as_str().to_owned();
    result.message = Some(clip(&message, LONGEST));
    result.next_at = None;
}

/// As many are tolerated in a row, and whether the next one aborts.
fn limit(tolerance: Option<&Tolerance>) -> (i32, bool) {
    let limit = tolerance.and_then(|t| t.limit).unwrap_or(3);
    let then = tolerance.and_then(|t| t.then.as_deref());
    (limit.max(0), then == Some("abort"))
}

/// Ends a run that one metric ends, or that is complete.
fn finish(status: &mut AnalysisRunStatus, now: Timestamp) {
    let phase = |r: &MetricResult| RunPhase::parse(&r.phase);
    let first = |wanted: RunPhase| {
        let mut those = status.metric_results.iter().filter(|r| phase(r) == wanted);
        let message = those.next()?.message.clone().unwrap_or_default();
        Some(match those.count() {
            0 => message,
            more => format!("{} (and {more} more)", clip(&message, LONGEST - 20)),
        })
    };
    if let Some(message) = first(RunPhase::Failed) {
        end(status, RunPhase::Failed, message, now);
    } else if let Some(message) = first(RunPhase::Inconclusive) {
        end(status, RunPhase::Inconclusive, message, now);
    } else if status
        .metric_results
        .iter()
        .all(|r| phase(r) == RunPhase::Successful)
        && let Some(message) = first(RunPhase::Successful)
    {
        end(status, RunPhase::Successful, message, now);
    }
}

fn end(status: &mut AnalysisRunStatus, phase: RunPhase, message: String, now: Timestamp) {
    status.phase = Some(phase.as_str().to_owned());
    status.message = Some(clip(&message, LONGEST));
    status.completed_at = Some(Time(now));
    for result in &mut status.metric_results {
        result.next_at = None;
    }
}
