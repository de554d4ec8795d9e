//! Services that a former strategy turned to the pods of one revision. Users may still come by them,
//! so they follow stable; where pods are the weight, they select the pods of all revisions again.

use serde_json::{Value, json};

use crate::{
    api::{
        RolloutStatus,
        names::{POD_TEMPLATE_HASH, reason},
    },
    model::{
        desired::Desired,
        observed::Observed,
        plan::{Intent, Numbers, switched},
        revisions::Revision,
        share::FULL,
        spec::Spec,
    },
};

use super::services::{no_worse, suffices, turn};

/// So many names a status keeps.
const MOST: usize = 16;

/// The Services that select one revision's pods because of this Rollout, or will.
pub fn turned(spec: &Spec, observed: &Observed) -> Vec<String> {
    let roles = spec.course.services.iter().flat_map(|s| s.roles());
    // One that is gone may come back as it was.
    let given_back = |name: &str| {
        free(spec, name)
            && observed.services.contains_key(name)
            && observed.selected(name).is_none()
    };
    let left = spec.left.iter().filter(|name| !given_back(name));
    roles.chain(left).take(MOST).cloned().collect()
}

/// The fewest pods that a revision keeps for the Services that were left and select it: those that
/// serve, as far as so many are wanted.
pub fn kept(spec: &Spec, observed: &Observed, revision: &Revision) -> u32 {
    let mut bound = observed.bound(&spec.left);
    if !bound.any(|(_, hash)| hash == revision.hash) {
        return 0;
    }
    let unseen = revision.replica_set.as_ref().filter(|s| !s.seen);
    let serving = unseen.map_or(revision.ready(), |s| s.desired);
    serving.min(spec.replicas)
}

/// Lets go of what was left, or lets it follow stable.
pub fn realize(
    spec: &Spec,
    desired: &Desired,
    observed: &Observed,
    status: &RolloutStatus,
    numbers: Numbers,
) -> Vec<Intent> {
    let key = format!("/spec/selector/{POD_TEMPLATE_HASH}");
    let stable = status.stable_revision.as_deref();
    let open = open(desired, observed, stable);
    let go_on = |(name, hash): (&str, &str)| {
        let live = observed.services.get(name)?;
        if open && free(spec, name) && selects_more(live) {
            let what = format!(
                "let Service {name} select the pods of all revisions, which no strategy turns any more"
            );
            let remove = json!({"op": "remove", "path": key});
            return Some(turn(
                live,
                remove,
                numbers,
                (reason::SERVICE_RELEASED, what),
            ));
        }
        let stable = stable.filter(|stable| *stable != hash)?;
        follows(spec, observed, status, (name, hash), stable).then(|| {
            let replace = json!({"op": "replace", "path": key, "value": stable});
            turn(live, replace, numbers, switched(name, stable))
        })
    };
    observed.bound(&spec.left).filter_map(go_on).collect()
}

/// Whether no strategy turns a Service any more: pods are the weight, or it is only read.
fn free(spec: &Spec, name: &str) -> bool {
    let services = spec.course.services.as_ref();
    services.is_none_or(|s| s.user == name)
}

/// Whether the pods of every revision that has some may get traffic: they are stable's, or no more
/// than make up the share of the one in flight. Before anything was stable, all may.
fn open(desired: &Desired, observed: &Observed, stable: Option<&str>) -> bool {
    let share = |hash: &str| {
        let share = desired.share.as_ref().filter(|(of, _)| of == hash);
        share.map_or(0, |(_, pods)| *pods)
    };
    let may = |r: &Revision| {
        stable == Some(r.hash.as_str()) || r.desired().max(r.current()) <= share(&r.hash)
    };
    stable.is_none() || observed.revisions.iter().all(may)
}

/// Whether a Service turns from a revision to stable: that suffices, or serves no worse, or the
/// revision was given up.
fn follows(
    spec: &Spec,
    observed: &Observed,
    status: &RolloutStatus,
    (service, hash): (&str, &str),
    stable: &str,
) -> bool {
    let able = observed.revision(stable).map_or(0, Revision::available);
    let attempt = status.attempt.as_ref();
    let given_up = attempt.is_some_and(|a| a.hash == hash && a.outcome.is_some());
    let no_worse = no_worse(observed, service, stable);
    suffices(spec, observed, stable, FULL) || no_worse || given_up && able > 0
}

/// Whether anything is left of the selector without the revision. An empty one would select nothing.
fn selects_more(service: &Value) -> bool {
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    selector.is_some_and(|s| s.len() > 1)
}
