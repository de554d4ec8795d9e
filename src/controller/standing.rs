//! What stands, read from the status of the Rollouts that are ours: gauges and alerts.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    adapters::{
        cluster::world::{mirror::Entry, views::OwnRollout},
        notify::alertmanager::Alert,
        telemetry::standing::{RolloutGauges, VerdictGauges},
    },
    api::analysis::MetricResult,
    model::glance::Share,
};

use super::context::Context;

/// The gauges of each of our Rollouts.
pub fn gauges(cx: &Context) -> Vec<RolloutGauges> {
    let mut running = running(cx);
    let share = |percent: i32| f64::from(percent) / 100.0;
    let one = |entry: &Entry<OwnRollout>| {
        let (key, glance) = (&entry.key, &entry.value.glance);
        let (namespace, rollout) = (key.namespace.to_string(), key.name.to_string());
        let runs = running.remove(&(namespace.clone(), rollout.clone()));
        let found = |s: &Share| Some((s.track.to_string(), share(s.found?)));
        let desired = |s: &Share| (s.track.to_string(), share(s.desired));
        RolloutGauges {
            namespace,
            rollout,
            phase: glance.phase.as_deref().unwrap_or("Unknown").to_owned(),
            rolled_back: glance.rolled_back().is_some(),
            stalled: glance.stalled.as_ref().map(|(why, _)| why.to_string()),
            paused_since: glance.paused.map(|t| t.as_duration().as_secs_f64()),
            weights: glance.shares.iter().filter_map(found).collect(),
            desired_weights: glance.shares.iter().map(desired).collect(),
            verdicts: runs.map(|r| verdicts(&r)).unwrap_or_default(),
        }
    };
    ours(cx).iter().map(|e| e.as_ref()).map(one).collect()
}

/// What the analyses that run have measured so far, by namespace and name of their Rollout.
fn running(cx: &Context) -> BTreeMap<(String, String), Vec<MetricResult>> {
    let mut all: BTreeMap<_, Vec<MetricResult>> = BTreeMap::new();
    for entry in cx.cluster.world().runs.all() {
        let (namespace, run) = (&entry.key.namespace, &entry.value);
        let status = (!run.ended).then(|| run.read().ok()?.status).flatten();
        if let Some(status) = status {
            let rollout = (namespace.to_string(), run.rollout.to_string());
            let results = all.entry(rollout).or_default();
            results.extend(status.metric_results);
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
    let one = |entry: &Arc<Entry<OwnRollout>>| {
        let since = entry.value.glance.rolled_back()?;
        let status = entry.value.read().ok()?.status.unwrap_or_default();
        let left = status.attempt.map(|a| a.hash);
        Some(Alert {
            namespace: entry.key.namespace.to_string(),
            rollout: entry.key.name.to_string(),
            revision: left.or(status.current_revision).unwrap_or_default(),
            description: status.message.unwrap_or_default(),
            since,
        })
    };
    ours(cx).iter().filter_map(one).collect()
}

fn ours(cx: &Context) -> Vec<Arc<Entry<OwnRollout>>> {
    let mut all = cx.cluster.world().rollouts.all();
    all.retain(|e| cx.ours(e.value.glance.controller.as_deref()));
    all
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
