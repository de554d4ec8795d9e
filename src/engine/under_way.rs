//! What a hazardous decision changes may still be under way: its request may have been delayed, and
//! whoever sent it may have been deposed since. The next one about another object waits until it is
//! seen to have landed, or can no longer land.

use serde_json::Value;

use crate::{
    api::{
        names::DECISION,
        status::{Effect, RolloutStatus},
    },
    model::{
        object::{
            ObjectRef, REPLICA_SET, SERVICE, Target, annotate, annotation_number, has_annotations,
        },
        observed::Observed,
        plan::Action,
        revisions::ReplicaSetView,
    },
};

/// What actions change, under the number of their decision. None for what is deleted: a
/// ReplicaSet's deletion is refused where it was taken up again, and a record is made anew.
pub(super) fn effect(actions: &[Action], decision: i64) -> Option<Effect> {
    let target = actions.iter().find_map(|action| match action {
        Action::Patch { target, .. } | Action::Scale { target, .. } => Some(target),
        Action::Create { .. } | Action::Delete { .. } | Action::Claim | Action::Release => None,
    })?;
    Some(Effect {
        kind: target.object.kind.kind.to_owned(),
        name: target.object.name.clone(),
        decision,
    })
}

/// Whether two actions change one object as it was read.
pub(super) fn same_object(a: &Action, b: &Action) -> bool {
    let target = |action: &Action| match action {
        Action::Patch { target, .. } | Action::Scale { target, .. } | Action::Delete { target } => {
            Some(target.object.clone())
        }
        Action::Create { .. } | Action::Claim | Action::Release => None,
    };
    target(a).is_some_and(|object| target(b) == Some(object))
}

/// What makes an earlier decision's change fail if it has not landed, before `next` is done. Nothing
/// where it has, or where both are about one object: there only one of the two can land.
pub(super) fn fence(
    observed: &Observed,
    status: &RolloutStatus,
    next: Option<&Effect>,
) -> Vec<Action> {
    let Some(last) = status.decision.as_ref().and_then(|d| d.effect.as_ref()) else {
        return vec![];
    };
    if next.is_some_and(|n| (&n.kind, &n.name) == (&last.kind, &last.name)) {
        return vec![];
    }
    let late = |value: &&Value| annotation_number(value, DECISION) < last.decision;
    if last.kind == REPLICA_SET.kind {
        let mut sets = observed
            .revisions
            .iter()
            .filter_map(|r| r.replica_set.as_ref());
        let set = sets.find(|s| s.name == last.name && s.decision < last.decision);
        return set
            .map(|s| stamp_set(s, last.decision))
            .into_iter()
            .collect();
    }
    if last.kind == SERVICE.kind {
        let service = observed.services.get(&last.name).filter(late);
        return service
            .map(|s| stamp(Target::of(SERVICE, s), has_annotations(s), last.decision))
            .into_iter()
            .collect();
    }
    let routes = observed.routes.iter();
    routes
        .filter(|(reference, value)| reference.kind.kind == last.kind && late(value))
        .map(|(reference, value)| {
            stamp(
                Target::of(reference.kind, value),
                has_annotations(value),
                last.decision,
            )
        })
        .collect()
}

fn stamp_set(set: &ReplicaSetView, decision: i64) -> Action {
    let target = Target {
        object: ObjectRef::new(REPLICA_SET, &set.name),
        uid: set.uid.clone(),
        resource_version: set.resource_version.clone(),
    };
    stamp(target, set.has_annotations, decision)
}

/// The number alone changes the object, so that a delayed write of what it was read as fails.
fn stamp(target: Target, has_annotations: bool, decision: i64) -> Action {
    Action::Patch {
        target,
        operations: annotate(has_annotations, DECISION, &decision.to_string()),
    }
}
