//! Services that a former strategy turned to the pods of one revision. Users may still come by them,
//! so they follow stable; where pods are the weight, they select the pods of all revisions again.

use serde_json::{Value, json};

use crate::{
    api::{
        RolloutStatus,
        names::{POD_TEMPLATE_HASH, reason},
    },
    model::{
        observed::Observed,
        plan::{Intent, Numbers},
        revisions::Revision,
        share::FULL,
        spec::Spec,
    },
};

use super::services::{suffices, switched, turn};

/// So many names a status keeps.
const MOST: usize = 16;

/// A Service that was left, and still selects one revision's pods.
pub struct Bound<'a> {
    name: &'a str,
    live: &'a Value,
    /// The revision's hash.
    pub hash: &'a str,
}

/// The Services that were left and still select the pods of one of this Rollout's revisions.
pub fn bound<'a>(spec: &'a Spec, observed: &'a Observed) -> impl Iterator<Item = Bound<'a>> {
    spec.left.iter().filter_map(|name| {
        let (live, hash) = (observed.services.get(name)?, observed.selected(name)?);
        observed.revision(hash).map(|_| Bound { name, live, hash })
    })
}

/// The Services that select one revision's pods because of this Rollout, or will.
pub fn turned(spec: &Spec, observed: &Observed) -> Vec<String> {
    let roles = spec.course.services.iter().flat_map(|s| s.roles());
    let left = bound(spec, observed).map(|b| b.name.to_owned());
    roles.cloned().chain(left).take(MOST).collect()
}

/// Lets go of what was left, or lets it follow stable.
pub fn realize(
    spec: &Spec,
    observed: &Observed,
    status: &RolloutStatus,
    numbers: Numbers,
) -> Vec<Intent> {
    let Some(stable) = status.stable_revision.as_deref() else {
        return vec![];
    };
    let key = format!("/spec/selector/{POD_TEMPLATE_HASH}");
    let let_go = |b: Bound<'_>| {
        if open(spec, observed, status, b.name) && selects_more(b.live) {
            let what = format!(
                "let Service {} select the pods of all revisions, which no strategy turns any more",
                b.name
            );
            let remove = json!({"op": "remove", "path": key});
            return Some(turn(
                b.live,
                remove,
                numbers,
                (reason::SERVICE_RELEASED, what),
            ));
        }
        let follows = b.hash != stable && suffices(spec, observed, stable, FULL);
        follows.then(|| {
            let replace = json!({"op": "replace", "path": key, "value": stable});
            turn(b.live, replace, numbers, switched(b.name, stable))
        })
    };
    bound(spec, observed).filter_map(let_go).collect()
}

/// Whether a Service may select the pods of all revisions: pods are the weight, or it is the one that
/// is only read by now; and those that have pods were good, or their share of the pods is being raised.
fn open(spec: &Spec, observed: &Observed, status: &RolloutStatus, name: &str) -> bool {
    let services = spec.course.services.as_ref();
    if services.is_some_and(|s| s.user != name) {
        return false;
    }
    let raised = status.attempt.as_ref();
    let raised = raised.filter(|a| a.outcome.is_none() && services.is_none());
    let may = |r: &Revision| {
        let hash = Some(&r.hash);
        r.good() || status.stable_revision.as_ref() == hash || raised.map(|a| &a.hash) == hash
    };
    let mut revisions = observed.revisions.iter();
    revisions.all(|r| r.desired().max(r.current()) == 0 || may(r))
}

/// Whether anything is left of the selector without the revision. An empty one would select nothing.
fn selects_more(service: &Value) -> bool {
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    selector.is_some_and(|s| s.len() > 1)
}
