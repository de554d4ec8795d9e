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
        object::{Kind, SERVICE, Target, annotation_number, has_annotations},
        observed::Observed,
        plan::Action,
        revisions::ReplicaSetView,
    },
};

/// What actions change, under the number of their decision. None for what is deleted: a
/// ReplicaSet's deletion is refused where it was taken up again, and a record is made anew.
pub(super) fn effect(actions: &[Action], decision: i64) -> Option<Effect> {
    let written = |a: &&Action| !matches!(a, Action::Delete { .. });
    let target = actions.iter().filter(written).find_map(Action::target)?;
    Some(Effect {
        kind: target.object.kind.kind.to_owned(),
        name: target.object.name.clone(),
        decision,
    })
}

/// Whether two actions change one object as it was read.
pub(super) fn same_object(a: &Action, b: &Action) -> bool {
    let object = |action: &Action| action.target().map(|t| t.object.clone());
    object(a).is_some_and(|o| object(b) == Some(o))
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
    let sets = observed.revisions.iter();
    let sets = sets.filter_map(|r| r.replica_set.as_ref()).map(of_set);
    let services = observed.services.values().map(|v| of_value(SERVICE, v));
    let routes = observed.routes.iter();
    let routes = routes.map(|(reference, value)| of_value(reference.kind, value));
    // The first of several routes stands for all of them.
    let routed = observed.routes.keys().any(|r| r.kind.kind == last.kind);
    let theirs =
        |t: &Target| t.object.kind.kind == last.kind && (routed || t.object.name == last.name);
    sets.chain(services)
        .chain(routes)
        .filter(|(target, number, _)| theirs(target) && *number < last.decision)
        .map(|(target, _, annotated)| Action::stamp(target, annotated, last.decision))
        .collect()
}

/// Whether one of these actions is about the pods of stable.
pub(super) fn touches(actions: &[Action], observed: &Observed, status: &RolloutStatus) -> bool {
    let stable = status.stable_revision.as_deref();
    let stable = stable.and_then(|hash| observed.revision(hash)?.replica_set.as_ref());
    let own = |t: &Target| stable.is_some_and(|s| t.object == s.target().object);
    actions.iter().filter_map(Action::target).any(own)
}

/// An object as it was read, the number that it carries, and whether it has annotations.
type Numbered = (Target, i64, bool);

fn of_set(set: &ReplicaSetView) -> Numbered {
    (set.target(), set.decision, set.has_annotations)
}

fn of_value(kind: Kind, value: &Value) -> Numbered {
    let number = annotation_number(value, DECISION);
    (Target::of(kind, value), number, has_annotations(value))
}
