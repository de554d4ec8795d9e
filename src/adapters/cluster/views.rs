//! What is kept of each kind of object: no more than deciding needs.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    api::{
        AnalysisRun, AnalysisTemplateSpec, Rollout,
        names::{DECISION, POD_TEMPLATE_HASH},
    },
    model::{
        object::{Kind, ROLLOUT},
        observed::{References, TemplateKey},
        revisions::{ReplicaSetView, Revision},
    },
};

use super::mirror::{Entry, Key, Malformed};

/// A whole object as JSON text: it takes a fraction of what it takes as a tree, and a look reads it
/// about as fast as it would copy the tree.
#[derive(Debug)]
pub struct Text(Box<str>);

impl Text {
    fn of(value: &Value) -> Self {
        Self(value.to_string().into_boxed_str())
    }
    /// The object.
    pub fn read(&self) -> Value {
        // It was written by us, from a value.
        serde_json::from_str(&self.0).unwrap_or_default()
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

pub(super) fn entry<T>(object: &DynamicObject, index: Vec<String>, value: T) -> Entry<T> {
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
    let rollout = Rollout {
        spec: part(&mut object, "spec")?,
        status: part(&mut object, "status")?,
        metadata: object.metadata.clone(),
    };
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
    let run = AnalysisRun {
        spec: part(&mut object, "spec")?,
        status: part(&mut object, "status")?,
        metadata: object.metadata.clone(),
    };
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
    let template = object.data.pointer("/data/template");
    let template = Text::of(template.unwrap_or(&Value::Null));
    let revision = Revision {
        hash: hash.to_owned(),
        number: object
            .data
            .get("revision")
            .and_then(Value::as_i64)
            .unwrap_or(0),
        template: Value::Null,
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
    Ok(Some(entry(&object, vec![], Text::of(&value))))
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
