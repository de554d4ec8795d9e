//! A Deployment on its way to a Rollout, and back.

use serde_json::{Value, json};
use serin::{
    engine::plan,
    model::{
        object::{DEPLOYMENT, REPLICA_SET},
        observed::Observed,
        plan::{Action, Plan},
    },
};

use super::{Sight, moment, patches};

/// Its ReplicaSets are still its own, and it rests.
fn to_be_taken(sight: &Sight) -> bool {
    let rollout = &sight.rollout;
    let workload = sight.observed.workload.as_ref();
    workload.is_some_and(|w| w.rests(rollout) && w.theirs().next().is_some())
}

/// It is deleted, and the ReplicaSets are still its own.
fn to_be_given(sight: &Sight) -> bool {
    let workload = sight.observed.workload.as_ref();
    let ours = workload.is_some_and(|w| w.ours(&sight.rollout).next().is_some());
    sight.observed.deleting() && ours
}

fn set(observed: &mut Observed) -> &mut Value {
    let workload = observed.workload.as_mut().expect("a Deployment");
    workload.sets.first_mut().expect("a ReplicaSet")
}

/// What is written to the field of an object.
fn written(plan: &Plan, field: &str) -> Option<Value> {
    let of = |a: &Action| match a {
        Action::Patch { operations, .. } => {
            let mut all = operations.iter();
            let found = all.find(|o| o["path"] == field)?;
            Some(found["value"].clone())
        }
        _ => None,
    };
    plan.actions.iter().find_map(of)
}

#[test]
fn an_owner_that_is_neither_of_the_two_stays_one() {
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": "theirs"});
    for (scenario, is) in [
        ("adopt", to_be_taken as fn(&Sight) -> bool),
        ("adopt-deleted", to_be_given),
    ] {
        let (mut observed, at) = moment(scenario, is);
        let owners = &mut set(&mut observed)["metadata"]["ownerReferences"];
        owners.as_array_mut().expect("owners").push(other.clone());
        let before = owners.clone();
        let owners = written(&plan(&observed, at), "/metadata/ownerReferences");
        let owners = owners.expect("they are written");
        let owners = owners.as_array().expect("owners");
        assert!(owners.contains(&other), "{owners:?}");
        let controls = |o: &&Value| o["controller"] == true;
        let names = |v: &[Value]| -> Vec<Value> {
            v.iter()
                .filter(controls)
                .map(|o| o["kind"].clone())
                .collect()
        };
        let before = before.as_array().expect("owners").clone();
        assert_eq!((names(owners).len(), names(&before).len()), (1, 1));
        assert_ne!(names(owners), names(&before));
    }
}

/// What a cache has of it may be old: it is handed back, and let go of, by a live look alone.
#[test]
fn nothing_is_handed_back_by_a_cache() {
    let (mut observed, at) = moment("adopt-deleted", to_be_given);
    assert!(!patches(&plan(&observed, at)).is_empty());
    observed.live = false;
    let decided = plan(&observed, at);
    assert!(decided.look_closer);
    assert_eq!(patches(&decided), [], "{:?}", decided.actions);
}

/// The pods of what is made meanwhile outlive the Rollout, too, if it goes without handing them back.
#[test]
fn the_deployment_is_a_second_owner_of_what_is_made() {
    let made = |decided: &Plan| {
        let mut all = decided.actions.iter();
        all.find_map(|a| match a {
            Action::Create { object, value } if object.kind == REPLICA_SET => Some(value.clone()),
            _ => None,
        })
    };
    let (observed, at) = moment("adopt-promote", |s| {
        made(&plan(&s.observed, s.at)).is_some()
    });
    let set = made(&plan(&observed, at)).expect("it");
    let owners = set.pointer("/metadata/ownerReferences").expect("owners");
    assert_eq!(owners[0]["kind"], "Rollout");
    assert_eq!(owners[1]["kind"], "Deployment");
    assert_eq!(
        (&owners[0]["controller"], &owners[1]["controller"]),
        (&json!(true), &json!(false))
    );
    let name = set.pointer("/metadata/name").and_then(Value::as_str);
    assert!(name.is_some_and(|n| n.starts_with("app-")));
}

/// One that is made anew under its name has another uid, no mark, and pods of its own. It is adopted again; its pods go once
/// those of stable are all there, and no sooner.
#[test]
fn one_that_is_made_anew_is_adopted_again() {
    let (mut observed, at) = moment("adopt-resumed", |s| {
        let workload = s.observed.workload.as_ref();
        let stray = workload.and_then(|w| w.theirs().next());
        workload.is_some_and(|w| w.rests(&s.rollout))
            && stray.is_some_and(|s| s["spec"]["replicas"] == 3)
            && s.rollout
                .status
                .as_ref()
                .is_some_and(|s| s.stable_revision.is_some())
    });
    assert_eq!(
        written(&plan(&observed, at), "/spec/replicas"),
        Some(json!(0))
    );
    let stable = observed.revisions.first_mut().expect("a revision");
    stable.replica_set.as_mut().expect("its pods").available = 2;
    assert_eq!(written(&plan(&observed, at), "/spec/replicas"), None);

    let deployment = observed
        .workload
        .as_mut()
        .and_then(|w| w.deployment.as_mut());
    let deployment = deployment.expect("it");
    deployment["spec"]["paused"] = json!(false);
    deployment["metadata"]["annotations"] = Value::Null;
    let decided = plan(&observed, at);
    let paused = decided.actions.iter().any(|a| match a {
        Action::Patch { target, operations } => {
            target.object.kind == DEPLOYMENT
                && operations
                    .iter()
                    .any(|o| o["path"] == "/spec/paused" && o["value"] == true)
        }
        _ => false,
    });
    assert!(paused, "{:?}", decided.actions);
}

/// Pods that nobody asked for go after the traffic, whatever becomes of them.
#[test]
fn pods_of_its_own_do_not_hold_up_an_abort() {
    let (mut observed, at) = moment("adopt-resumed-in-mid-flight", |s| {
        let workload = s.observed.workload.as_ref();
        workload.is_some_and(|w| w.rests(&s.rollout) && w.theirs().next().is_some())
            && s.rollout
                .status
                .as_ref()
                .is_some_and(|s| s.stable_revision.is_some())
    });
    let before = plan(&observed, at);
    let first = |p: &Plan| {
        p.actions
            .get(p.hazardous.start)
            .and_then(Action::target)
            .map(|t| t.object.kind.kind)
    };
    assert_eq!(first(&before), Some("ReplicaSet"));
    let annotations = observed
        .rollout
        .metadata
        .annotations
        .get_or_insert_default();
    annotations.insert("serin.dev/abort".into(), "yes".into());
    assert_eq!(first(&plan(&observed, at)), Some("HTTPRoute"));
}
