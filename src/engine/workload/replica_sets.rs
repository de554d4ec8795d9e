//! ReplicaSets: made, scaled, and deleted with their revision when it is old.

use serde_json::{Value, json};

use crate::{
    api::{
        RolloutStatus,
        names::{DECISION, POD_TEMPLATE_HASH, ROLLOUT_LABEL},
    },
    model::{
        desired::Desired,
        object::{ObjectRef, REPLICA_SET},
        observed::Observed,
        plan::{Action, Intent, Numbers},
        progress::Stage,
        revisions::{ReplicaSetView, Revision},
        share::{FULL, need},
        spec::Spec,
        traffic::InForce,
        workload::set_name,
    },
};

use super::{adoption, left, revisions};

/// What to do about ReplicaSets.
pub fn realize(
    spec: &Spec,
    desired: &Desired,
    observed: &Observed,
    status: &RolloutStatus,
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
            // Without its Deployment nobody knows by what a new one would select.
            None if *wanted > 0 && !adoption::lost(observed) => {
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
    intents.extend(prune(spec, desired, observed, status));
    intents
}

/// Whether pods are about to be added to a sum that only a cache knows, and that `maxSurge` limits:
/// where pods are the weight. The way back does not wait for a closer look.
pub fn unsure(spec: &Spec, desired: &Desired, observed: &Observed, status: &RolloutStatus) -> bool {
    if observed.live || spec.shifted() || Stage::of(status) == Some(Stage::RollingBack) {
        return false;
    }
    let now = |hash| observed.revision(hash).map(Revision::desired);
    let mut wanted = desired.replicas.iter();
    wanted.any(|(hash, wanted)| now(hash).is_some_and(|now| *wanted > now))
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
            "name": set_name(&observed.rollout, hash), "namespace": meta.namespace,
            "labels": labels, "ownerReferences": adoption::owners(observed),
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
        object: ObjectRef::new(REPLICA_SET, set_name(&observed.rollout, &revision.hash)),
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
            let floor = floor(spec, observed, &revision.hash, now, force)
                .max(left::kept(spec, observed, revision));
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
    if spec.replicas == 0 {
        return 0;
    }
    let Some(services) = &spec.course.services else {
        return 0;
    };
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

/// Deletes one of the revisions beyond the limit that have no pods and no role: what is no way back
/// before what is one, and the way that an undo takes first last of all.
fn prune(
    spec: &Spec,
    desired: &Desired,
    observed: &Observed,
    status: &RolloutStatus,
) -> Option<Intent> {
    let stable = status.stable_revision.as_deref();
    let stable = stable.and_then(|hash| observed.revision(hash));
    let idle = |r: &&Revision| {
        r.desired() == 0
            && r.current() == 0
            && !desired.keep.contains(&r.hash)
            && !observed.bound(&spec.left).any(|(_, hash)| hash == r.hash)
            && desired.replicas.get(&r.hash).copied().unwrap_or(0) == 0
            && !spec.course.services.iter().any(|s| {
                [&s.stable, &s.canary]
                    .into_iter()
                    .any(|n| observed.selected(n) == Some(&r.hash))
            })
    };
    let old: Vec<&Revision> = observed.revisions.iter().filter(idle).collect();
    (old.len() > spec.history_limit)
        .then(|| {
            old.into_iter()
                .min_by_key(|r| (r.good(), r.way_back(stable), r.number))
        })
        .flatten()
        .map(|r| revisions::delete(observed, r))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        api::Rollout,
        model::{object::Objects, observed::Current, share::percent},
    };

    fn spec(replicas: u32, strategy: &Value) -> (Spec, Rollout) {
        let rollout: Rollout = serde_json::from_value(json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "app"},
            "spec": {"replicas": replicas, "revisionHistoryLimit": 0,
                "selector": {"matchLabels": {"app": "app"}},
                "template": {"metadata": {"labels": {"app": "app"}}}, "strategy": strategy},
        }))
        .expect("a Rollout");
        (Spec::resolve(&rollout).expect("a spec"), rollout)
    }

    fn canary() -> Value {
        json!({"canary": {"service": "app", "steps": [{"setWeight": 50}],
            "trafficRouting": {"gatewayAPI": {"httpRoutes": [{"name": "app"}]}}}})
    }

    fn revision(hash: &str, number: i64, pods: u32) -> Revision {
        Revision {
            hash: hash.into(),
            number,
            replica_set: Some(ReplicaSetView {
                name: format!("app-{hash}"),
                seen: true,
                desired: pods,
                current: pods,
                ready: pods,
                available: pods,
                ..ReplicaSetView::default()
            }),
            ..Revision::default()
        }
    }

    /// The stable Service selects `old`, the canary one `new`; the third has no role.
    fn world(rollout: Rollout, pods: [u32; 3]) -> Observed {
        let [old, new, third] = pods;
        let service = |(name, hash): (&str, &str)| {
            let selector = json!({"spec": {"selector": {"pod-template-hash": hash}}});
            (name.to_owned(), selector)
        };
        let strategy = &rollout.spec.strategy;
        let names = match strategy.blue_green {
            Some(_) => ["app-active", "app-preview"],
            None => ["app-stable", "app-canary"],
        };
        Observed {
            current: Current::Recorded("new".into()),
            revisions: vec![
                revision("third", 1, third),
                revision("old", 2, old),
                revision("new", 3, new),
            ],
            services: [(names[0], "old"), (names[1], "new")].map(service).into(),
            endpoints: BTreeMap::new(),
            routes: Objects::new(),
            runs: vec![],
            templates: BTreeMap::new(),
            workload: None,
            troubles: vec![],
            refused: None,
            live: false,
            rollout,
        }
    }

    fn between(low: u32, high: u32) -> InForce {
        InForce {
            low: percent(low),
            high: percent(high),
            settled: (low == high).then(|| percent(low)),
            settles_at: None,
            gone: false,
        }
    }

    #[test]
    fn as_many_stay_as_what_may_be_sent_to_them_needs() {
        let floors = |replicas, strategy: &Value, force: Option<InForce>| {
            let (spec, rollout) = spec(replicas, strategy);
            let observed = world(rollout, [4, 4, 4]);
            ["old", "new", "third"].map(|hash| floor(&spec, &observed, hash, 4, force.as_ref()))
        };
        let canary = canary();
        assert_eq!(floors(4, &canary, Some(between(50, 50))), [2, 2, 0]);
        assert_eq!(floors(4, &canary, Some(between(0, 0))), [4, 0, 0]);
        assert_eq!(floors(4, &canary, Some(between(100, 100))), [0, 4, 0]);
        // While a change is on its way: the most that each may get, and all that a Service may
        // have selected just before.
        assert_eq!(floors(4, &canary, Some(between(25, 50))), [3, 4, 4]);
        assert_eq!(floors(4, &canary, None), [4, 4, 4]);
        assert_eq!(floors(0, &canary, Some(between(25, 50))), [0, 0, 0]);
        let switch = json!({"blueGreen": {"service": "app"}});
        assert_eq!(floors(4, &switch, Some(between(100, 100))), [4, 4, 0]);
        let pods = json!({"canary": {"steps": [{"setWeight": 50}]}});
        assert_eq!(floors(4, &pods, None), [0, 0, 0]);
        // Those that are not ready serve nobody, but their Service may be sent something.
        let (spec, rollout) = spec(4, &canary);
        let observed = world(rollout, [4, 4, 4]);
        let force = between(25, 50);
        let least = |hash| floor(&spec, &observed, hash, 0, Some(&force));
        assert_eq!([least("new"), least("third")], [2, 0]);
    }

    /// What is wanted of each, and what is done.
    fn done(
        pods: [u32; 3],
        change: impl Fn(&mut Observed),
        wanted: &[(&str, u32)],
        fence: i64,
    ) -> Vec<String> {
        let (spec, rollout) = spec(4, &canary());
        let mut observed = world(rollout, pods);
        change(&mut observed);
        let desired = Desired {
            replicas: wanted.iter().map(|(h, n)| ((*h).to_owned(), *n)).collect(),
            keep: ["old".to_owned()].into(),
            ..Desired::default()
        };
        let numbers = Numbers { next: 9, fence };
        let told = |intent: &Intent| match &intent.actions[..] {
            [
                Action::Scale {
                    target,
                    replicas,
                    decision,
                    ..
                },
            ] => {
                format!("{} to {replicas} by {decision}", target.object.name)
            }
            [Action::Patch { target, .. }] => format!("{} is patched", target.object.name),
            [Action::Delete { target }] => format!("{} is deleted", target.object.name),
            other => format!("{other:?}"),
        };
        let force = between(0, 50);
        let status = RolloutStatus::default();
        let intents = realize(&spec, &desired, &observed, &status, Some(&force), numbers);
        intents.iter().map(told).collect()
    }

    fn set<'a>(observed: &'a mut Observed, hash: &str) -> &'a mut ReplicaSetView {
        let revision = observed.revisions.iter_mut().find(|r| r.hash == hash);
        revision.and_then(|r| r.replica_set.as_mut()).expect("it")
    }

    #[test]
    fn what_grows_grows_and_what_shrinks_is_numbered() {
        let same = |_: &mut Observed| {};
        assert_eq!(
            done([3, 2, 1], same, &[("old", 4)], 0),
            ["app-old to 4 by 0"]
        );
        assert_eq!(done([4, 2, 1], same, &[("old", 4), ("new", 2)], 0), [""; 0]);
        // Those without a role may have been selected just before, unless they serve nobody.
        assert_eq!(done([4, 2, 1], same, &[("third", 0)], 0), [""; 0]);
        let sick = |o: &mut Observed| set(o, "third").ready = 0;
        assert_eq!(
            done([4, 2, 1], sick, &[("third", 0)], 0),
            ["app-third to 0 by 9"]
        );
        // Nobody knows yet what became of the last change of size.
        let unseen = |o: &mut Observed| {
            let set = set(o, "third");
            (set.ready, set.seen) = (0, false);
        };
        assert_eq!(done([4, 2, 1], unseen, &[("third", 0)], 0), [""; 0]);
        let younger = |o: &mut Observed| set(o, "new").min_ready = 5;
        assert_eq!(done([4, 2, 1], younger, &[], 0), ["app-new is patched"]);
        assert_eq!(
            done([4, 0, 1], younger, &[], 0),
            [""; 0],
            "not where there are no pods"
        );
    }

    #[test]
    fn nothing_shrinks_before_what_is_counted_on_is_fenced_off() {
        let wanted = [("old", 4), ("third", 0)];
        let sick = |decision: i64| {
            move |o: &mut Observed| {
                set(o, "third").ready = 0;
                set(o, "old").decision = decision;
            }
        };
        assert_eq!(done([4, 2, 1], sick(4), &wanted, 5), ["app-old is patched"]);
        assert_eq!(
            done([4, 2, 1], sick(5), &wanted, 5),
            ["app-third to 0 by 9"]
        );
        // One that grows takes a number that is no lower than its own.
        let later = |o: &mut Observed| set(o, "old").decision = 7;
        assert_eq!(
            done([3, 2, 1], later, &[("old", 4)], 5),
            ["app-old to 4 by 7"]
        );
        assert_eq!(
            done([3, 2, 1], |_| {}, &[("old", 4)], 5),
            ["app-old to 4 by 5"]
        );
    }

    #[test]
    fn what_is_old_and_idle_is_deleted() {
        let same = |_: &mut Observed| {};
        assert_eq!(done([4, 2, 0], same, &[], 0), ["app-third is deleted"]);
        assert_eq!(done([4, 2, 1], same, &[], 0), [""; 0], "it has pods");
        let going = |o: &mut Observed| set(o, "third").current = 1;
        assert_eq!(
            done([4, 2, 0], going, &[], 0),
            [""; 0],
            "they are on their way out"
        );
        let back = done([4, 2, 0], same, &[("third", 1)], 0);
        assert_eq!(back, ["app-third to 1 by 0"], "it is wanted again");
        assert_eq!(done([0, 2, 1], same, &[], 0), [""; 0], "it is kept");
        assert_eq!(
            done([4, 0, 1], same, &[], 0),
            [""; 0],
            "a Service selects it"
        );
        let kept = |o: &mut Observed| o.revisions.retain(|r| r.hash != "third");
        assert_eq!(done([4, 2, 0], kept, &[], 0), [""; 0]);
    }
}
