//! What is kept of pods: those behind a Service, and those that cannot start.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    api::{
        names::{POD_TEMPLATE_HASH, ROLLOUT_LABEL},
        rollout::FailFastReason,
    },
    model::observed::Trouble,
};

use super::{
    mirror::{Entry, Key, Malformed},
    views::{entry, label, owner, word},
};

/// The longest message of a pod's trouble.
const MESSAGE_MAX: usize = 300;

/// What the API server keeps of a ReplicaSet's name and a dash before it adds the rest of a pod's name.
const BASE_MAX: usize = 58;

/// An EndpointSlice of a role Service.
#[derive(Debug)]
pub struct Slice {
    /// Name of the Rollout.
    pub rollout: String,
    /// Names of the pods that are ready and stay.
    pub pods: Vec<String>,
}

/// A pod that cannot start.
#[derive(Debug)]
pub struct StuckPod {
    /// uid of its ReplicaSet.
    pub owner: String,
    /// What is wrong.
    pub trouble: Trouble,
}

/// An EndpointSlice, found under its Service's namespace and name.
pub fn slice(object: DynamicObject) -> Result<Option<Entry<Slice>>, Malformed> {
    let Some(service) = label(&object, "kubernetes.io/service-name") else {
        return Ok(None);
    };
    let rollout = label(&object, ROLLOUT_LABEL).unwrap_or_default();
    let namespace = Key::of(&object).namespace;
    let pods = ready_pods(&object.data);
    Ok(Some(entry(
        &object,
        vec![word("slice", &namespace, &service)],
        Slice { rollout, pods },
    )))
}

/// The pods behind an EndpointSlice that are ready and stay. What is not said counts as the API
/// defines it: ready, serving as ready, not terminating.
pub fn ready_pods(slice: &Value) -> Vec<String> {
    let condition = |endpoint: &Value, name: &str, default: bool| {
        endpoint
            .pointer(&format!("/conditions/{name}"))
            .and_then(Value::as_bool)
            .unwrap_or(default)
    };
    let endpoints = slice
        .get("endpoints")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let serves = |e: &&Value| {
        let ready = condition(e, "ready", true);
        ready && condition(e, "serving", ready) && !condition(e, "terminating", false)
    };
    let pod = |e: &Value| {
        let target = e.get("targetRef")?;
        (target.get("kind")?.as_str()? == "Pod").then_some(target.get("name")?.as_str()?.to_owned())
    };
    endpoints.filter(serves).filter_map(pod).collect()
}

/// A pod that cannot start, found under its ReplicaSet's uid. Others are not kept.
pub fn stuck_pod(object: DynamicObject) -> Result<Option<Entry<StuckPod>>, Malformed> {
    let (Some(owner), Some(hash)) = (owner(&object), label(&object, POD_TEMPLATE_HASH)) else {
        return Ok(None);
    };
    let homeless = || {
        let why = condition(&object.data, ("PodScheduled", "False", "Unschedulable"))?;
        Some((FailFastReason::Unschedulable, why))
    };
    let Some((reason, message)) = stuck(&object.data).or_else(homeless) else {
        return Ok(None);
    };
    let pod = object.metadata.name.as_deref().unwrap_or_default();
    let trouble = Trouble {
        hash,
        what: format!("pod {pod}"),
        reason,
        message: brief(&message),
    };
    let index = vec![owner.uid.as_str().into()];
    Ok(Some(entry(
        &object,
        index,
        StuckPod {
            owner: owner.uid,
            trouble,
        },
    )))
}

/// What a condition of an object says, where it has this type, status and reason.
pub(super) fn condition(
    object: &Value,
    (type_, status, reason): (&str, &str, &str),
) -> Option<String> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let wanted = [("type", type_), ("status", status), ("reason", reason)];
    let is = |c: &&Value| {
        let holds = |(field, value): &(&str, &str)| c.get(field).is_some_and(|v| v == value);
        wanted.iter().all(holds)
    };
    let found = conditions.iter().find(is)?;
    Some(brief(
        found
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default(),
    ))
}

/// A message in the length that is kept.
fn brief(message: &str) -> String {
    message.chars().take(MESSAGE_MAX).collect()
}

/// Why a pod's containers do not start, as the kubelet says it.
fn stuck(pod: &Value) -> Option<(FailFastReason, String)> {
    let list = |name: &str| {
        pod.pointer(&format!("/status/{name}"))
            .and_then(Value::as_array)
    };
    let mut all = list("initContainerStatuses")
        .into_iter()
        .chain(list("containerStatuses"))
        .flatten();
    all.find_map(|container| {
        let text = |path: &str| Some(container.pointer(path)?.as_str()?.to_owned());
        // Whatever else it waits for passes.
        let reason = container.pointer("/state/waiting/reason")?;
        let reason = FailFastReason::deserialize(reason).ok()?;
        let ended = || {
            let code = container
                .pointer("/lastState/terminated/exitCode")?
                .as_i64()?;
            let why = text("/lastState/terminated/reason").unwrap_or_else(|| "Error".to_owned());
            let said = text("/lastState/terminated/message").unwrap_or_default();
            Some(
                format!("{why}, exit code {code} {}", said.trim())
                    .trim()
                    .to_owned(),
            )
        };
        // "back-off 10s restarting failed container" says less than how it ended.
        let waiting = text("/state/waiting/message").filter(|m| !m.is_empty());
        let message = match (waiting, ended()) {
            (Some(waiting), Some(ended)) => format!("{waiting} ({ended})"),
            (waiting, ended) => waiting.or(ended).unwrap_or_default(),
        };
        Some((reason, message))
    })
}

/// Ready endpoints by the hash of their pods. A pod is of the ReplicaSet whose name, cut as the API
/// server cuts it, with one more part, is its own. One that stands in several slices, as in a dual-stack
/// Service, is one pod.
pub fn by_hash<'a>(
    pods: impl Iterator<Item = &'a str>,
    sets: &BTreeMap<&str, &str>,
) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    let base = |set: &str| format!("{set}-").chars().take(BASE_MAX).collect::<String>();
    let sets: Vec<(String, &str)> = sets.iter().map(|(s, hash)| (base(s), *hash)).collect();
    for pod in pods.collect::<BTreeSet<_>>() {
        let of = |(base, _): &&(String, &str)| {
            let rest = pod.strip_prefix(base.as_str());
            rest.is_some_and(|rest| !rest.contains('-'))
        };
        if let Some((_, hash)) = sets.iter().find(of) {
            *counts.entry((*hash).to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn a_pod_that_cannot_start_is_kept_with_its_own_words() {
        let pod = |state: Value| {
            object(json!({
                "metadata": {"namespace": "ns", "name": "web-abc-x1", "labels": {"pod-template-hash": "abc"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc", "uid": "rs", "controller": true}]},
                "status": {"containerStatuses": [{"state": {"running": {}}}, state]}
            }))
        };
        let crashed = json!({
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
            "lastState": {"terminated": {"exitCode": 3, "reason": "Error", "message": "no config\n"}}
        });
        let kept = stuck_pod(pod(crashed)).expect("reads").expect("is kept");
        assert_eq!(kept.value.trouble.reason, FailFastReason::CrashLoopBackOff);
        assert_eq!(kept.value.trouble.what, "pod web-abc-x1");
        assert_eq!(
            kept.value.trouble.message,
            "back-off 10s (Error, exit code 3 no config)"
        );
        let creating = json!({"state": {"waiting": {"reason": "ContainerCreating"}}});
        assert!(stuck_pod(pod(creating)).expect("reads").is_none());
    }

    #[test]
    fn a_pod_that_no_node_takes_is_kept() {
        let pod = |reason: &str| {
            object(json!({
                "metadata": {"namespace": "ns", "name": "web-abc-x1", "labels": {"pod-template-hash": "abc"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc", "uid": "rs", "controller": true}]},
                "status": {"conditions": [
                    {"type": "Ready", "status": "False", "reason": "Unschedulable"},
                    {"type": "PodScheduled", "status": "False", "reason": reason, "message": "0/3 nodes are available"},
                ]}
            }))
        };
        let kept = stuck_pod(pod("Unschedulable"))
            .expect("reads")
            .expect("is kept");
        assert_eq!(
            kept.value.trouble.to_string(),
            "pod web-abc-x1: Unschedulable: 0/3 nodes are available"
        );
        // Somebody holds it back on purpose.
        assert!(stuck_pod(pod("SchedulingGated")).expect("reads").is_none());
    }

    #[test]
    fn an_endpoint_counts_while_it_is_ready_and_stays() {
        let endpoint = |name: &str, conditions: Value| json!({"conditions": conditions, "targetRef": {"kind": "Pod", "name": name}});
        let pods = ready_pods(&json!({"endpoints": [
            endpoint("web-abc-1", json!({"ready": true, "serving": true, "terminating": false})),
            endpoint("web-abc-2", json!({"ready": false})),
            endpoint("web-abc-3", json!({"ready": true, "terminating": true})),
            endpoint("web-def-4", json!({})),
            endpoint("web-abc-ghi-5", json!({})),
        ]}));
        let sets = [("web-abc", "abc"), ("web-def", "def")].into();
        let counts = by_hash(pods.iter().map(String::as_str), &sets);
        assert_eq!(
            counts,
            [("abc".to_owned(), 1), ("def".to_owned(), 1)].into()
        );
    }

    #[test]
    fn a_pod_of_two_address_families_counts_once() {
        let (v4, v6) = (["web-abc-1", "web-abc-2"], ["web-abc-2", "web-abc-1"]);
        let sets = [("web-abc", "abc")].into();
        let counts = by_hash(v4.into_iter().chain(v6), &sets);
        assert_eq!(counts, [("abc".to_owned(), 2)].into());
    }

    #[test]
    fn a_pod_of_a_rollout_with_a_long_name_counts() {
        // 46 characters leave room for all of a ReplicaSet's name, 52 are allowed.
        for length in [46, 47, 48, 52] {
            let sets = ["bcdfghjklm", "bczzzzzzzz"]
                .map(|hash| (format!("{}-{hash}", "a".repeat(length)), hash));
            let pods = sets.each_ref().map(|(set, _)| {
                let base: String = format!("{set}-").chars().take(58).collect();
                base + "x7k2p"
            });
            assert!(pods.iter().all(|p| p.len() == 63));
            let names = sets.each_ref().map(|(set, hash)| (set.as_str(), *hash));
            let counts = by_hash(pods.iter().map(String::as_str), &names.into());
            assert_eq!(
                counts,
                sets.map(|(_, hash)| (hash.to_owned(), 1)).into(),
                "{length}"
            );
        }
    }
}
