//! Workload: revisions, their ReplicaSets and the role Services, as they should be.

pub mod replica_sets;
pub mod revisions;
pub mod services;

use crate::model::{
    desired::Desired,
    observed::Observed,
    plan::{Intent, Numbers},
    spec::Spec,
    traffic::InForce,
};

/// What to do about revisions, pods and Services.
pub fn realize(
    spec: &Spec,
    desired: &Desired,
    observed: &Observed,
    force: Option<&InForce>,
    numbers: Numbers,
) -> Vec<Intent> {
    let mut intents = revisions::realize(desired, observed);
    intents.extend(services::realize(spec, desired, observed, force, numbers));
    intents.extend(replica_sets::realize(
        spec, desired, observed, force, numbers,
    ));
    intents
}
