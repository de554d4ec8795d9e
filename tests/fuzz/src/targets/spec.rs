//! Every field of a Rollout's spec.

use serde_json::Value;
use serin::{api::Rollout, model::spec::Spec};

use super::{decide, look, moment};

/// A first byte names the instant; then a merge patch of the spec. What is wrong is named by its field.
pub fn target(data: &[u8]) {
    let [at, rest @ ..] = data else { return };
    let Ok(patch) = serde_json::from_slice::<Value>(rest) else {
        return;
    };
    let mut moment = moment(*at);
    let Ok(mut rollout) = serde_json::to_value(&moment.rollout) else {
        return;
    };
    json_patch::merge(&mut rollout["spec"], &patch);
    let Ok(rollout) = serde_json::from_value::<Rollout>(rollout) else {
        return;
    };
    let (spec, faults) = Spec::examine(&rollout);
    assert!(spec.is_some() || !faults.is_empty(), "wrong without a word");
    for fault in &faults {
        let told = fault.to_string();
        assert!(told.contains("spec") && told.len() < 2048, "{told:.200}");
    }
    let generation = rollout.metadata.generation.map(|g| g + 1);
    moment.rollout = rollout;
    moment.rollout.metadata.generation = generation;
    if let Some((observed, now)) = look(moment) {
        decide(observed, now);
    }
}
