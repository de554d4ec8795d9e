//! Everything that the controller exposes, with each series there once.

use std::{sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serin::{
    adapters::telemetry::{
        metrics::{Metrics, encode},
        standing::{RolloutGauges, VerdictGauges},
    },
    api::{
        names::reason,
        status::{HistoryEntry, RolloutStatus},
    },
};

/// As a scrape reads it.
pub fn exposed() -> String {
    let metrics = Metrics::default();
    metrics.request("get", "Rollout", 200);
    drop(metrics.reconciling("rollout"));
    metrics.reconciled("rollout", "ok", Duration::ZERO);
    let entry = HistoryEntry {
        number: 1,
        at: Time(jiff::Timestamp::UNIX_EPOCH),
        type_: "Warning".into(),
        reason: reason::ROLLED_BACK.into(),
        message: String::new(),
    };
    metrics.told("ns", &RolloutStatus::default(), &[entry]);
    let shown = RolloutGauges {
        stalled: Some("RolledBack".into()),
        paused_since: Some(0.0),
        weights: vec![("stable".into(), 1.0)],
        desired_weights: vec![("stable".into(), 1.0)],
        verdicts: vec![VerdictGauges::default()],
        ..RolloutGauges::default()
    };
    let registry = metrics.registry(Arc::new(move || vec![shown.clone()]));
    encode(&registry).expect("text")
}
