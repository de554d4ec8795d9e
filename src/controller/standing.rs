//! What stands, read from the status of the Rollouts that are ours: gauges and alerts.

use crate::{
    adapters::{notify::alertmanager::Alert, telemetry::standing::RolloutGauges},
    api::{
        Rollout, RolloutStatus,
        names::{condition, reason},
    },
};

use super::context::Context;

/// The gauges of each of our Rollouts.
pub fn gauges(cx: &Context) -> Vec<RolloutGauges> {
    ours(cx, |namespace, rollout, status| {
        let share = |t: &crate::api::status::Track| {
            let weight = t.weight.as_ref()?;
            let percent = weight.accepted.or(weight.measured)?;
            Some((t.name.clone(), f64::from(percent) / 100.0))
        };
        Some(RolloutGauges {
            namespace,
            rollout,
            phase: status.phase.clone().unwrap_or_else(|| "Unknown".to_owned()),
            rolled_back: rolled_back(status).is_some(),
            weights: status.tracks.iter().filter_map(share).collect(),
        })
    })
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

fn ours<T>(cx: &Context, read: impl Fn(String, String, &RolloutStatus) -> Option<T>) -> Vec<T> {
    let all = cx.cluster.world().rollouts.all();
    let one = |rollout: &Rollout, namespace: &str, name: &str| {
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
