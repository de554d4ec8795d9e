//! ReplicaSets: made, scaled, and deleted with their revision when it is old.

use serde_json::{Value, json};

use crate::{
    api::names::{DECISION, POD_TEMPLATE_HASH, ROLLOUT_LABEL},
    model::{
        desired::Desired,
        object::{ObjectRef, REPLICA_SET},
        observed::Observed,
        plan::{Action, Intent, Numbers},
        revisions::{ReplicaSetView, Revision},
        share::{FULL, need},
        spec::Spec,
        traffic::InForce,
    },
};

use super::revisions;

/// What to do about ReplicaSets.
pub fn realize(
    spec: &Spec,
    desired: &Desired,
    observed: &Observed,
    force: Option<&InForce>,
    numbers: Numbers,
) -> Vec<Intent> {
    let mut intents = vec![];
    // What was cancelled may still shrink those that are counted on: nothing else shrinks before
    // they are fenced off.
    let fenced = desired.replicas.iter().all(|(hash, wanted)| {
        let set = observed.revision(hash).and_then(|r| r.replica_set.as_ref());
        set.is_none_or(|s| s.decision >= numbers.fence || *wanted < s.desired)
    });
    for (hash, wanted) in &desired.replicas {
        let Some(revision) = observed.revision(hash) else {
            continue;
        };
        match &revision.replica_set {
            None if *wanted > 0 => {
                let action = create(spec, observed, revision, *wanted, numbers.fence);
                intents.push(Intent::harmless(action));
            }
            None => {}
            Some(set) if *wanted < set.desired && !fenced => {}
            Some(set) => {
                intents.extend(resize(
                    spec, observed, revision, set, *wanted, force, numbers,
                ));
            }
        }
    }
    for set in observed
        .revisions
        .iter()
        .filter_map(|r| r.replica_set.as_ref())
    {
        if set.desired > 0 && set.min_ready != spec.min_ready_seconds {
            intents.push(Intent::harmless(Action::Patch {
                target: set.target(),
                operations: vec![json!({"op": "add", "path": "/spec/minReadySeconds",
                    "value": spec.min_ready_seconds})],
            }));
        }
    }
    intents.extend(prune(spec, desired, observed));
    intents
}

/// The ReplicaSet of a revision. Its pods carry the template's labels and `pod-template-hash`.
pub fn object(
    spec: &Spec,
    observed: &Observed,
    hash: &str,
    template: &Value,
    replicas: u32,
) -> Value {
    let meta = &observed.rollout.metadata;
    let mut template = template.clone();
    if let Some(map) = template.as_object_mut() {
        let metadata = map.entry("metadata").or_insert_with(|| json!({}));
        if let Some(labels) = metadata
            .as_object_mut()
            .map(|m| m.entry("labels").or_insert_with(|| json!({})))
            && let Some(labels) = labels.as_object_mut()
        {
            labels.insert(POD_TEMPLATE_HASH.into(), json!(hash));
        }
    }
    let mut labels = template
        .pointer("/metadata/labels")
        .cloned()
        .unwrap_or_else(|| json!({}));
    if let Some(labels) = labels.as_object_mut() {
        labels.insert(ROLLOUT_LABEL.into(), json!(meta.name));
    }
    let mut selector = serde_json::to_value(&spec.selector).unwrap_or_default();
    if let Some(map) = selector.as_object_mut() {
        let match_labels = map.entry("matchLabels").or_insert_with(|| json!({}));
        if let Some(match_labels) = match_labels.as_object_mut() {
            match_labels.insert(POD_TEMPLATE_HASH.into(), json!(hash));
        }
    }
    json!({
        "apiVersion": REPLICA_SET.api_version(), "kind": REPLICA_SET.kind,
        "metadata": {
            "name": revisions::name(observed, hash), "namespace": meta.namespace,
            "labels": labels, "ownerReferences": revisions::owner(observed),
        },
        "spec": {
            "replicas": replicas, "minReadySeconds": spec.min_ready_seconds,
            "selector": selector, "template": template,
        },
    })
}

/// It is made with the fence's number: no decision that was cancelled before can mean it.
fn create(
    spec: &Spec,
    observed: &Observed,
    revision: &Revision,
    replicas: u32,
    fence: i64,
) -> Action {
    let mut value = object(spec, observed, &revision.hash, &revision.template, replicas);
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("annotations".into(), json!({DECISION: fence.to_string()}));
    }
    Action::Create {
        object: ObjectRef::new(REPLICA_SET, revisions::name(observed, &revision.hash)),
        value,
    }
}

fn resize(
    spec: &Spec,
    observed: &Observed,
    revision: &Revision,
    set: &ReplicaSetView,
    wanted: u32,
    force: Option<&InForce>,
    numbers: Numbers,
) -> Option<Intent> {
    let scale = |decision: i64| Action::Scale {
        target: set.target(),
        replicas: wanted,
        decision,
        has_annotations: set.has_annotations,
    };
    match wanted.cmp(&set.desired) {
        std::cmp::Ordering::Greater => {
            Some(Intent::harmless(scale(numbers.fence.max(set.decision))))
        }
        std::cmp::Ordering::Equal if set.decision < numbers.fence => {
            let stamp = Action::stamp(set.target(), set.has_annotations, numbers.fence);
            Some(Intent::harmless(stamp))
        }
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Less => {
            // Pods that are not ready serve nobody.
            let now = if set.seen && revision.ready() == 0 {
                0
            } else {
                set.desired
            };
            let floor = floor(spec, observed, &revision.hash, now, force);
            (wanted >= floor).then(|| {
                Intent::hazardous(
                    vec![scale(numbers.next)],
                    Some(crate::api::names::reason::SCALED_DOWN),
                    format!("scale {} from {} to {wanted}", set.name, set.desired),
                )
            })
        }
    }
}

/// S4: the fewest pods that a revision needs for what the data plane may still send it. Where the
/// user wants no pods at all, none are kept.
fn floor(spec: &Spec, observed: &Observed, hash: &str, now: u32, force: Option<&InForce>) -> u32 {
    let Some(services) = &spec.course.services else {
        return 0;
    };
    if spec.replicas == 0 {
        return 0;
    }
    // While a change of the split is not in force, a Service that turned just before it may still be
    // followed to the pods that it selected then.
    let settled = force.is_some_and(|f| f.settled.is_some());
    if !settled && now > 0 && observed.selected(&services.stable) != Some(hash) {
        return now;
    }
    let (low, high) = force.map_or((0, FULL), |f| (f.low, f.high));
    // A switch sends everything to the stable Service, whomever that selects.
    let low = if spec.switched() { 0 } else { low };
    [
        (&services.stable, FULL - low.min(FULL)),
        (&services.canary, high),
    ]
    .into_iter()
    .filter(|(service, _)| observed.selected(service) == Some(hash))
    .map(|(_, weight)| need(weight, spec.replicas))
    .max()
    .unwrap_or(0)
}

/// Deletes the oldest revision beyond the limit, if it has no pods and no role.
fn prune(spec: &Spec, desired: &Desired, observed: &Observed) -> Option<Intent> {
    let idle = |r: &&Revision| {
        r.desired() == 0
            && r.current() == 0
            && !desired.keep.contains(&r.hash)
            && desired.replicas.get(&r.hash).copied().unwrap_or(0) == 0
            && !spec.course.services.iter().any(|s| {
                [&s.stable, &s.canary]
                    .into_iter()
                    .any(|n| observed.selected(n) == Some(&r.hash))
            })
    };
    let old: Vec<&Revision> = observed.revisions.iter().filter(idle).collect();
    (old.len() > spec.history_limit)
        .then(|| old.into_iter().min_by_key(|r| r.number))
        .flatten()
        .map(|r| revisions::delete(observed, r))
}
