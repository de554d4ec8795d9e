//! What should happen: pure, total, without a clock.

pub mod analysis;

use jiff::Timestamp;

use crate::model::{
    observed::{Observed, References},
    plan::Plan,
    spec::Spec,
};

/// Decides. Total: it never fails, never waits, never looks at a clock.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let _ = now;
    Plan {
        status: observed.rollout.status.clone().unwrap_or_default(),
        actions: vec![],
        requeue: crate::model::plan::Requeue::OnChange(std::time::Duration::from_secs(300)),
        look_closer: false,
    }
}

/// What must be looked at for a Rollout, beside its own revisions, pods and runs.
pub fn references(spec: &Spec) -> References {
    spec.references()
}
