//! What stands, read from the status of the Rollouts that are ours: gauges and alerts.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    adapters::{
        notify::alertmanager::Alert,
        telemetry::standing::{RolloutGauges, VerdictGauges},
    },
    api::{
        AnalysisRunStatus, Rollout, RolloutStatus,
        analysis::MetricResult,
        names::{condition, reason},
        status::Track,
    },
};

use super::context::Context;

/// The gauges of each of our Rollouts.
pub fn gauges(cx: &Context) -> Vec<RolloutGauges> {
    let mut running = running(cx);
    ours(cx, |namespace, rollout, status| {
        let runs = running.remove(&(namespace.clone(), rollout.clone()));
        let share = |percent: i32| f64::from(percent) / 100.0;
        let accepted = |t: &Track| {
            let weight = t.weight.as_ref()?;
            let percent = weight.accepted.or(weight.measured)?;
            Some((t.name.clone(), share(percent)))
        };
        let desired = |t: &Track| Some((t.name.clone(), share(t.weight.as_ref()?.desired)));
        let stands = |name: &str| {
            let stands = |c: &&Condition| c.type_ == name && c.status == "True";
            status.conditions.iter().find(stands)
        };
        let paused = stands(condition::PAUSED);
        Some(RolloutGauges {
            namespace,
            rollout,
            phase: status.phase.clone().unwrap_or_else(|| "Unknown".to_owned()),
            rolled_back: rolled_back(status).is_some(),
            stalled: stands(condition::STALLED).map(|c| c.reason.clone()),
            paused_since: paused.map(|c| c.last_transition_time.0.as_duration().as_secs_f64()),
            weights: status.tracks.iter().filter_map(accepted).collect(),
            desired_weights: status.tracks.iter().filter_map(desired).collect(),
            verdicts: runs.map(|r| verdicts(&r)).unwrap_or_default(),
        })
    })
}

/// What the analyses that run have measured so far, by namespace and name of their Rollout.
fn running(cx: &Context) -> BTreeMap<(String, String), Vec<MetricResult>> {
    let mut all: BTreeMap<_, Vec<MetricResult>> = BTreeMap::new();
    let ended = |s: &AnalysisRunStatus| s.completed_at.is_some();
    for entry in cx.cluster.world().runs.all() {
        let run = &entry.value;
        if let Some(status) = run.status.as_ref().filter(|s| !ended(s)) {
            let rollout = (entry.key.namespace.clone(), run.spec.rollout.clone());
            let results = all.entry(rollout).or_default();
            results.extend(status.metric_results.iter().cloned());
        }
    }
    all
}

/// Sums what was measured up, for each verdict there is.
fn verdicts(results: &[MetricResult]) -> Vec<VerdictGauges> {
    type Counted = (&'static str, fn(&MetricResult) -> i32);
    let counted: [Counted; 5] = [
        ("pass", |m| m.passed),
        ("fail", |m| m.failed),
        ("inconclusive", |m| m.inconclusive),
        ("noData", |m| m.no_data),
        ("error", |m| m.errors),
    ];
    let number = |n: i32| u32::try_from(n).unwrap_or(0);
    let one = |(verdict, count): Counted| {
        let last = |m: &&MetricResult| m.measurements.last().is_some_and(|l| l.verdict == verdict);
        let rows = results.iter().filter(last).map(|m| number(m.in_a_row));
        VerdictGauges {
            verdict,
            measurements: results.iter().map(|m| number(count(m))).sum(),
            in_a_row: rows.max().unwrap_or(0),
        }
    };
    counted.map(one).into()
}

/// An alert for each of our Rollouts that Serin rolled back and that stands so.
pub fn alerts(cx: &Context) -> Vec<Alert> {
    ours(cx, |namespace, rollout, status| {
        let since = rolled_back(status)?;
        let left = status.attempt.as_ref().map(|a| a.hash.clone());
        Some(Alert {
            namespace,
            rollout,
            revision: left
                .or_else(|| status.current_revision.clone())
                .unwrap_or_default(),
            description: status.message.clone().unwrap_or_default(),
            since,
        })
    })
}

fn ours<T>(
    cx: &Context,
    mut read: impl FnMut(String, String, &RolloutStatus) -> Option<T>,
) -> Vec<T> {
    let all = cx.cluster.world().rollouts.all();
    let mut one = |rollout: &Rollout, namespace: &str, name: &str| {
        let none = RolloutStatus::default();
        let status = rollout.status.as_ref().unwrap_or(&none);
        cx.ours(rollout)
            .then(|| read(namespace.to_owned(), name.to_owned(), status))
            .flatten()
    };
    all.iter()
        .filter_map(|e| one(&e.value, &e.key.namespace, &e.key.name))
        .collect()
}

/// Since when a Rollout stands rolled back by Serin.
fn rolled_back(status: &RolloutStatus) -> Option<jiff::Timestamp> {
    let stalled = status
        .conditions
        .iter()
        .find(|c| c.type_ == condition::STALLED)?;
    let stands = stalled.status == "True" && stalled.reason == reason::ROLLED_BACK;
    stands.then_some(stalled.last_transition_time.0)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::analysis::Measurement;

    #[test]
    fn verdicts_are_summed_up_and_rows_are_those_that_last() {
        let metric = |errors: i32, passed: i32, last: &str, in_a_row: i32| MetricResult {
            errors,
            passed,
            in_a_row,
            measurements: vec![Measurement {
                at: Time(jiff::Timestamp::UNIX_EPOCH),
                value: None,
                verdict: last.into(),
                message: None,
            }],
            ..MetricResult::default()
        };
        let all = verdicts(&[
            metric(3, 0, "error", 3),
            metric(2, 5, "error", 1),
            metric(4, 1, "pass", 1),
        ]);
        let of = |verdict: &str| {
            let found = all.iter().find(|v| v.verdict == verdict);
            found.map(|v| (v.measurements, v.in_a_row))
        };
        assert_eq!(of("error"), Some((9, 3)));
        assert_eq!(of("pass"), Some((6, 1)));
        assert_eq!(of("noData"), Some((0, 0)));
    }
}
