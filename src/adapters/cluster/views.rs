//! What is kept of each kind of object: no more than deciding needs.

use std::{collections::BTreeMap, sync::Arc};

use kube::api::DynamicObject;
use serde_json::Value;

use crate::{
    api::{
        AnalysisRun, AnalysisTemplateSpec, Rollout,
        names::{DECISION, POD_TEMPLATE_HASH, ROLLOUT_LABEL},
    },
    model::{
        object::{Kind, ROLLOUT},
        observed::{References, TROUBLES, TemplateKey, Trouble},
        revisions::{ReplicaSetView, Revision},
    },
};

use super::mirror::{Entry, Key, Malformed};

/// The longest message of a pod's trouble.
const MESSAGE_MAX: usize = 300;

/// A ReplicaSet of a Rollout.
#[derive(Debug)]
pub struct OwnedSet {
    /// uid of the Rollout.
    pub owner: String,
    /// Name of the Rollout.
    pub rollout: String,
    /// Hash of its revision.
    pub hash: String,
    /// Itself.
    pub view: ReplicaSetView,
}

/// A ControllerRevision of a Rollout.
#[derive(Debug)]
pub struct OwnedRevision {
    /// Name of the Rollout.
    pub rollout: String,
    /// Itself, without its ReplicaSet.
    pub revision: Revision,
}

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

/// Who controls an object: kind, name and uid.
struct Owner {
    kind: String,
    api_version: String,
    name: String,
    uid: String,
}

fn owner(object: &DynamicObject) -> Option<Owner> {
    let owners = object.metadata.owner_references.as_ref()?;
    let owner = owners.iter().find(|o| o.controller == Some(true))?;
    Some(Owner {
        kind: owner.kind.clone(),
        api_version: owner.api_version.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    })
}

/// The Rollout that controls an object.
fn rollout_of(object: &DynamicObject) -> Option<Owner> {
    let group = |v: &str| v.split_once('/').map_or("", |(g, _)| g).to_owned();
    owner(object).filter(|o| o.kind == ROLLOUT.kind && group(&o.api_version) == ROLLOUT.group)
}

fn entry<T>(object: &DynamicObject, index: Vec<String>, value: T) -> Entry<T> {
    Entry {
        key: Key::of(object),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        version: object.metadata.resource_version.clone().unwrap_or_default(),
        index,
        value,
    }
}

fn malformed(object: &DynamicObject, error: &serde_json::Error) -> Malformed {
    Malformed {
        key: Key::of(object),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or(0),
        message: error.to_string(),
    }
}

fn typed<T: serde::de::DeserializeOwned>(object: &DynamicObject) -> Result<T, Malformed> {
    serde_json::to_value(object)
        .and_then(serde_json::from_value)
        .map_err(|e| malformed(object, &e))
}

fn label(object: &DynamicObject, name: &str) -> Option<String> {
    object.metadata.labels.as_ref()?.get(name).cloned()
}

fn number(value: &Value, path: &str) -> u32 {
    value
        .pointer(path)
        .and_then(Value::as_i64)
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(0)
}

/// The word under which the Rollouts are found that name an object.
pub fn word(kind: &str, namespace: &str, name: &str) -> String {
    format!("{kind} {namespace}/{name}")
}

/// The words under which a Rollout with these references is found.
fn words(namespace: &str, references: &References) -> Vec<String> {
    let services = references
        .services
        .iter()
        .map(|name| word("Service", namespace, name));
    let routes = references
        .routes
        .iter()
        .map(|r| word(r.kind.kind, namespace, &r.name));
    let templates = references
        .templates
        .iter()
        .map(|t| template_word(namespace, t));
    services.chain(routes).chain(templates).collect()
}

/// The word under which the Rollouts are found that name a template.
pub fn template_word(namespace: &str, template: &TemplateKey) -> String {
    if template.cluster {
        word("ClusterAnalysisTemplate", "", &template.name)
    } else {
        word("AnalysisTemplate", namespace, &template.name)
    }
}

/// A Rollout, found under what it refers to.
pub fn rollout(
    mut object: DynamicObject,
    references: &dyn Fn(&Rollout) -> References,
) -> Result<Option<Entry<Arc<Rollout>>>, Malformed> {
    object.metadata.managed_fields = None;
    let rollout: Rollout = typed(&object)?;
    let namespace = Key::of(&object).namespace;
    let index = words(&namespace, &references(&rollout));
    Ok(Some(entry(&object, index, Arc::new(rollout))))
}

/// An AnalysisRun, found under its Rollout's uid.
pub fn run(mut object: DynamicObject) -> Result<Option<Entry<Arc<AnalysisRun>>>, Malformed> {
    object.metadata.managed_fields = None;
    let Some(owner) = rollout_of(&object) else {
        return Ok(None);
    };
    let run: AnalysisRun = typed(&object)?;
    Ok(Some(entry(&object, vec![owner.uid], Arc::new(run))))
}

/// A ReplicaSet of a Rollout, found under its own uid and its Rollout's.
pub fn replica_set(object: DynamicObject) -> Result<Option<Entry<OwnedSet>>, Malformed> {
    let (Some(owner), Some(hash)) = (rollout_of(&object), label(&object, POD_TEMPLATE_HASH)) else {
        return Ok(None);
    };
    let meta = &object.metadata;
    let data = &object.data;
    let generation = meta.generation.unwrap_or(0);
    let observed = data
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let decision = meta
        .annotations
        .as_ref()
        .and_then(|a| a.get(DECISION)?.parse().ok());
    let view = ReplicaSetView {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        has_annotations: meta.annotations.is_some(),
        decision: decision.unwrap_or(0),
        seen: observed >= generation,
        desired: number(data, "/spec/replicas"),
        current: number(data, "/status/replicas"),
        ready: number(data, "/status/readyReplicas"),
        available: number(data, "/status/availableReplicas"),
        min_ready: i32::try_from(number(data, "/spec/minReadySeconds")).unwrap_or(0),
    };
    let index = vec![owner.uid.clone(), view.uid.clone()];
    let set = OwnedSet {
        owner: owner.uid,
        rollout: owner.name,
        hash,
        view,
    };
    Ok(Some(entry(&object, index, set)))
}

/// A ControllerRevision of a Rollout, found under its Rollout's uid.
pub fn revision(object: DynamicObject) -> Result<Option<Entry<OwnedRevision>>, Malformed> {
    let Some(owner) = rollout_of(&object) else {
        return Ok(None);
    };
    let meta = &object.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let Some(hash) = name.strip_prefix(&format!("{}-", owner.name)) else {
        return Ok(None);
    };
    let annotations = meta.annotations.clone();
    let verdict = annotations
        .as_ref()
        .and_then(|a| a.get(crate::api::names::VERDICT).cloned());
    let revision = Revision {
        hash: hash.to_owned(),
        number: object
            .data
            .get("revision")
            .and_then(Value::as_i64)
            .unwrap_or(0),
        template: object
            .data
            .pointer("/data/template")
            .cloned()
            .unwrap_or_default(),
        verdict: verdict.unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        has_annotations: annotations.is_some(),
        replica_set: None,
    };
    let index = vec![owner.uid];
    Ok(Some(entry(
        &object,
        index,
        OwnedRevision {
            rollout: owner.name,
            revision,
        },
    )))
}

/// A whole object, apart from who wrote which of its fields.
pub fn whole(mut object: DynamicObject, kind: Kind) -> Result<Option<Entry<Value>>, Malformed> {
    object.metadata.managed_fields = None;
    raw(object, kind)
}

/// A whole object.
pub fn raw(object: DynamicObject, kind: Kind) -> Result<Option<Entry<Value>>, Malformed> {
    let mut value = serde_json::to_value(&object).map_err(|e| malformed(&object, &e))?;
    // A list's items do not say what they are.
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".to_owned(), kind.api_version().into());
        map.insert("kind".to_owned(), kind.kind.into());
    }
    Ok(Some(entry(&object, vec![], value)))
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
    let Some((reason, message)) = trouble(&object.data) else {
        return Ok(None);
    };
    let pod = object.metadata.name.clone().unwrap_or_default();
    let message = message.chars().take(MESSAGE_MAX).collect();
    let trouble = Trouble {
        hash,
        pod,
        reason,
        message,
    };
    let index = vec![owner.uid.clone()];
    Ok(Some(entry(
        &object,
        index,
        StuckPod {
            owner: owner.uid,
            trouble,
        },
    )))
}

/// Why a pod's containers do not start, as the kubelet says it.
fn trouble(pod: &Value) -> Option<(String, String)> {
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
        let reason = text("/state/waiting/reason").filter(|r| TROUBLES.contains(&r.as_str()))?;
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

/// A template of either scope.
pub fn template(object: DynamicObject) -> Result<Option<Entry<AnalysisTemplateSpec>>, Malformed> {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    let spec = serde_json::from_value(spec).map_err(|e| malformed(&object, &e))?;
    Ok(Some(entry(&object, vec![], spec)))
}

/// Ready endpoints by the hash of their pods. A pod is of the ReplicaSet whose name, with one more
/// part, is its own.
pub fn by_hash<'a>(
    pods: impl Iterator<Item = &'a str>,
    sets: &BTreeMap<&str, &str>,
) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for pod in pods {
        let set = pod.rsplit_once('-').map_or("", |(set, _)| set);
        if let Some(hash) = sets.get(set) {
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
        assert_eq!(kept.value.trouble.reason, "CrashLoopBackOff");
        assert_eq!(
            kept.value.trouble.message,
            "back-off 10s (Error, exit code 3 no config)"
        );
        let creating = json!({"state": {"waiting": {"reason": "ContainerCreating"}}});
        assert!(stuck_pod(pod(creating)).expect("reads").is_none());
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
    fn only_what_a_rollout_controls_is_kept() {
        let set = |controller: bool, group: &str| {
            object(json!({
                "metadata": {"namespace": "ns", "name": "web-abc", "uid": "rs", "generation": 2, "labels": {"pod-template-hash": "abc"},
                    "annotations": {"serin.dev/decision": "7"},
                    "ownerReferences": [{"apiVersion": format!("{group}/v1alpha1"), "kind": "Rollout", "name": "web", "uid": "ro", "controller": controller}]},
                "spec": {"replicas": 3}, "status": {"replicas": 3, "observedGeneration": 1}
            }))
        };
        let kept = replica_set(set(true, "serin.dev"))
            .expect("reads")
            .expect("is kept");
        assert!(
            !kept.value.view.seen,
            "its controller has not seen generation 2"
        );
        assert_eq!((kept.value.view.decision, kept.value.view.desired), (7, 3));
        assert!(
            replica_set(set(false, "serin.dev"))
                .expect("reads")
                .is_none()
        );
        assert!(
            replica_set(set(true, "argoproj.io"))
                .expect("reads")
                .is_none()
        );
    }
}
