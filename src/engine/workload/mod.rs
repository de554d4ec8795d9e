//! Workload: revisions, their ReplicaSets and the role Services, as they should be.

pub mod adoption;
pub mod left;
pub mod replica_sets;
pub mod revisions;
pub mod services;

use crate::{
    api::RolloutStatus,
    model::{
        desired::Desired,
        observed::Observed,
        plan::{Intent, Numbers},
        spec::Spec,
        traffic::InForce,
    },
};

/// What to do about revisions, pods and Services.
pub fn realize(
    spec: &Spec,
    desired: &Desired,
    observed: &Observed,
    status: &RolloutStatus,
    force: Option<&InForce>,
    numbers: Numbers,
) -> Vec<Intent> {
    let mut intents = revisions::realize(desired, observed);
    intents.extend(services::realize(spec, desired, observed, force, numbers));
    // Before pods go: these may be how users come.
    intents.extend(left::realize(spec, desired, observed, status, numbers));
    intents.extend(replica_sets::realize(
        spec, desired, observed, status, force, numbers,
    ));
    intents
}
