//! What is kept of each kind of object: no more than deciding needs.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    api::{
        AnalysisRun, AnalysisTemplateSpec, Rollout,
        names::{DECISION, PINNED_OVER, POD_TEMPLATE_HASH, PROMOTED_AT, VERDICT, VERDICT_BY},
    },
    model::{
        glance::Glance,
        object::{Kind, ROLLOUT},
        observed::{References, TemplateKey},
        revisions::{ReplicaSetView, Revision},
    },
};

use super::{
    mirror::{Entry, Key, Malformed},
    text::{Text, TextError},
};

/// Where `kubectl apply` keeps what was applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A Rollout.
#[derive(Debug)]
pub struct OwnRollout {
    /// What is shown of it.
    pub glance: Glance,
    /// Itself.
    text: Text,
}

impl OwnRollout {
    /// The whole object.
    pub fn read(&self) -> Result<Rollout, TextError> {
        self.text.read()
    }
}

/// An AnalysisRun of a Rollout.
#[derive(Debug)]
pub struct OwnedRun {
    /// Name of the Rollout.
    pub rollout: Box<str>,
    /// Whether it has ended.
    pub ended: bool,
    /// Itself.
    text: Text,
}

impl OwnedRun {
    /// The whole object.
    pub fn read(&self) -> Result<AnalysisRun, TextError> {
        self.text.read()
    }
}

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
    /// Itself, without its ReplicaSet and its template.
    pub revision: Revision,
    /// Its template.
    pub template: Text,
}

/// Who controls an object: kind, name and uid.
pub(super) struct Owner {
    kind: String,
    api_version: String,
    name: String,
    pub(super) uid: String,
}

pub(super) fn owner(object: &DynamicObject) -> Option<Owner> {
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

pub(super) fn entry<T>(object: &DynamicObject, index: Vec<Arc<str>>, value: T) -> Entry<T> {
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

/// Takes a part of an object out of it, typed.
fn part<T: DeserializeOwned>(object: &mut DynamicObject, name: &str) -> Result<T, Malformed> {
    let part = object.data.get_mut(name).map(Value::take);
    serde_json::from_value(part.unwrap_or_default()).map_err(|e| malformed(object, &e))
}

pub(super) fn label(object: &DynamicObject, name: &str) -> Option<String> {
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
pub fn word(kind: &str, namespace: &str, name: &str) -> Arc<str> {
    format!("{kind} {namespace}/{name}").into()
}

/// The words under which a Rollout with these references is found.
fn words(namespace: &str, references: &References) -> Vec<Arc<str>> {
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
    let deployment = references.deployment.iter();
    let deployment = deployment.map(|name| word("Deployment", namespace, name));
    let all = services.chain(routes).chain(templates);
    all.chain(deployment).collect()
}

/// The word under which the Rollouts are found that name a template.
pub fn template_word(namespace: &str, template: &TemplateKey) -> Arc<str> {
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
) -> Result<Option<Entry<OwnRollout>>, Malformed> {
    object.metadata.managed_fields = None;
    let annotations = object.metadata.annotations.as_mut();
    if let Some(applied) = annotations.and_then(|a| a.get_mut(LAST_APPLIED)) {
        // As large as the object, and kubectl's alone.
        *applied = String::new();
    }
    let rollout = Rollout {
        spec: part(&mut object, "spec")?,
        status: part(&mut object, "status")?,
        metadata: object.metadata.clone(),
    };
    let namespace = Key::of(&object).namespace;
    let index = words(&namespace, &references(&rollout));
    let kept = OwnRollout {
        glance: Glance::of(&rollout),
        text: Text::of(&rollout).map_err(|e| malformed(&object, &e))?,
    };
    Ok(Some(entry(&object, index, kept)))
}

/// An AnalysisRun, found under its Rollout's uid.
pub fn run(mut object: DynamicObject) -> Result<Option<Entry<OwnedRun>>, Malformed> {
    object.metadata.managed_fields = None;
    let Some(owner) = rollout_of(&object) else {
        return Ok(None);
    };
    let run = AnalysisRun {
        spec: part(&mut object, "spec")?,
        status: part(&mut object, "status")?,
        metadata: object.metadata.clone(),
    };
    let status = run.status.as_ref();
    let kept = OwnedRun {
        rollout: run.spec.rollout.as_str().into(),
        ended: status.is_some_and(|s| s.completed_at.is_some()),
        text: Text::of(&run).map_err(|e| malformed(&object, &e))?,
    };
    Ok(Some(entry(&object, vec![owner.uid.into()], kept)))
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
        // What stood there before its size changed is about another one.
        refused: super::pods::condition(data, ("ReplicaFailure", "True", "FailedCreate"))
            .filter(|_| observed >= generation),
    };
    let index = vec![owner.uid.as_str().into(), view.uid.as_str().into()];
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
    let annotation = |name: &str| meta.annotations.as_ref()?.get(name);
    let template = object.data.pointer("/data/template");
    let template =
        Text::of(template.unwrap_or(&Value::Null)).map_err(|e| malformed(&object, &e))?;
    let revision = Revision {
        hash: hash.to_owned(),
        number: object
            .data
            .get("revision")
            .and_then(Value::as_i64)
            .unwrap_or(0),
        template: Value::Null,
        verdict: annotation(VERDICT).cloned().unwrap_or_default(),
        verdict_by: annotation(VERDICT_BY).cloned(),
        promoted_at: annotation(PROMOTED_AT).and_then(|t| t.parse().ok()),
        pinned_over: annotation(PINNED_OVER).cloned(),
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        has_annotations: meta.annotations.is_some(),
        replica_set: None,
    };
    let index = vec![owner.uid.into()];
    Ok(Some(entry(
        &object,
        index,
        OwnedRevision {
            rollout: owner.name,
            revision,
            template,
        },
    )))
}

/// A whole object, apart from who wrote which of its fields.
pub fn whole(mut object: DynamicObject, kind: Kind) -> Result<Option<Entry<Text>>, Malformed> {
    object.metadata.managed_fields = None;
    raw(object, kind)
}

/// A whole object.
pub fn raw(mut object: DynamicObject, kind: Kind) -> Result<Option<Entry<Text>>, Malformed> {
    let metadata = serde_json::to_value(&object.metadata).map_err(|e| malformed(&object, &e))?;
    let mut value = object.data.take();
    if let Some(map) = value.as_object_mut() {
        map.insert("metadata".to_owned(), metadata);
        // A list's items do not say what they are.
        map.insert("apiVersion".to_owned(), kind.api_version().into());
        map.insert("kind".to_owned(), kind.kind.into());
    }
    let text = Text::of(&value).map_err(|e| malformed(&object, &e))?;
    Ok(Some(entry(&object, vec![], text)))
}

/// A template of either scope.
pub fn template(object: DynamicObject) -> Result<Option<Entry<AnalysisTemplateSpec>>, Malformed> {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    let spec = serde_json::from_value(spec).map_err(|e| malformed(&object, &e))?;
    Ok(Some(entry(&object, vec![], spec)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn a_rollout_is_read_as_it_was_but_for_what_kubectl_keeps() {
        let written = json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"namespace": "ns", "name": "web", "uid": "u", "resourceVersion": "7", "generation": 3,
                "annotations": {"a": "b", LAST_APPLIED: "{...}"}, "finalizers": ["serin.dev/routes"]},
            "spec": {"replicas": 2, "controllerName": "ours", "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
                "strategy": {"canary": {"service": "web", "steps": [{"setWeight": 10}, {"pause": {}}, {"pause": {"duration": "30s"}}]}}},
            "status": {"phase": "Paused", "observedGeneration": 3, "weight": "10",
                "tracks": [{"name": "canary", "hash": "abc", "service": "web-canary",
                    "replicas": {"desired": 1, "current": 1, "available": 1}, "weight": {"desired": 10, "accepted": 10}}],
                "conditions": [{"type": "Paused", "status": "True", "reason": "Paused", "message": "m",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        });
        let none = |_: &Rollout| References::default();
        let kept = rollout(object(written.clone()), &none)
            .expect("reads")
            .expect("is kept");
        let mut wanted: Rollout = serde_json::from_value(written).expect("a Rollout");
        let annotations = wanted.metadata.annotations.as_mut().expect("annotations");
        annotations.insert(LAST_APPLIED.into(), String::new());
        assert_eq!(kept.value.read().expect("a Rollout"), wanted);
        let glance = &kept.value.glance;
        assert_eq!(glance.controller.as_deref(), Some("ours"));
        assert_eq!(glance.phase.as_deref(), Some("Paused"));
        assert!(glance.paused.is_some() && glance.stalled.is_none());
        assert_eq!((glance.shares.len(), glance.shares[0].found), (1, Some(10)));
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
