//! A Rollout with its parts: revisions, ReplicaSets, pods, AnalysisRuns, role Services.

use std::collections::BTreeMap;

use futures::future::join_all;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams},
    core::Selector,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    api::{Rollout, names::ROLLOUT_LABEL},
    cli::{
        connect::{Door, OperateError},
        output::{plain, tame},
    },
    model::object::{ANALYSIS_RUN, CONTROLLER_REVISION, Kind, REPLICA_SET, ROLLOUT, SERVICE},
};

use super::words;

/// Pod.
pub const POD: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
};

/// A Rollout with its parts, each as its JSON.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The Rollout.
    pub rollout: Rollout,
    /// Its parts, by kind and name.
    pub objects: BTreeMap<(Kind, String), Value>,
    /// Kinds that could not be read, and why.
    pub lacking: BTreeMap<&'static str, String>,
}

/// Where the objects of a kind are.
pub fn api(door: &Door, kind: Kind) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: kind.group.to_owned(),
        version: kind.version.to_owned(),
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    };
    Api::namespaced_with(door.client.clone(), &door.namespace, &resource)
}

/// The label selector of what Serin makes for a Rollout.
pub fn ours(rollout: &Rollout) -> String {
    format!("{ROLLOUT_LABEL}={}", words::name(rollout))
}

/// The kinds of a Rollout's parts, with the label selector that finds them.
pub fn kinds(rollout: &Rollout) -> Vec<(Kind, String)> {
    let ours = ours(rollout);
    let pods = match &rollout.spec.workload_ref {
        None => Selector::try_from(rollout.spec.selector.clone())
            .map(|s| s.to_string())
            .unwrap_or_default(),
        // The Deployment has it, and the status tells.
        Some(_) => {
            let told = rollout.status.as_ref().and_then(|s| s.selector.clone());
            told.unwrap_or_else(|| ours.clone())
        }
    };
    vec![
        (CONTROLLER_REVISION, ours.clone()),
        (REPLICA_SET, ours.clone()),
        (ANALYSIS_RUN, ours.clone()),
        (SERVICE, ours),
        (POD, pods),
    ]
}

/// An object's JSON, with its kind, and without who wrote which field.
pub fn value(kind: Kind, object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".into(), json!(kind.api_version()));
        map.insert("kind".into(), json!(kind.kind));
        if let Some(meta) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.remove("managedFields");
        }
    }
    value
}

impl Parts {
    /// The Rollout, its parts not read yet.
    pub fn of(rollout: Rollout) -> Self {
        Self {
            rollout,
            objects: BTreeMap::new(),
            lacking: BTreeMap::new(),
        }
    }

    /// Reads all of them. A kind that may not be read is lacking; nothing else is hidden by that.
    pub async fn read(door: &Door, rollout: Rollout) -> Result<Self, OperateError> {
        let mut parts = Self::of(rollout);
        let lists = kinds(&parts.rollout)
            .into_iter()
            .map(|(kind, selector)| async move {
                let params = ListParams::default().labels(&selector);
                let what = format!("list {}", kind.plural);
                let api = api(door, kind);
                (kind, door.answer(&what, api.list(&params)).await)
            });
        for (kind, list) in join_all(lists).await {
            match list {
                Ok(list) => {
                    for object in &list.items {
                        parts.put(kind, object);
                    }
                }
                Err(error @ OperateError::Refused(_)) => {
                    parts.lacking.insert(kind.plural, error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(parts)
    }

    /// An object is there, or has changed.
    pub fn put(&mut self, kind: Kind, object: &DynamicObject) {
        let value = value(kind, object);
        if kind == ROLLOUT {
            if let Ok(rollout) = serde_json::from_value(value) {
                self.rollout = rollout;
            }
        } else {
            let name = object.metadata.name.clone().unwrap_or_default();
            self.objects.insert((kind, name), value);
        }
    }

    /// The objects of a kind, by name. One that cannot be read, since a newer Serin wrote it, is left out.
    pub fn each<T: DeserializeOwned>(&self, kind: Kind) -> Vec<T> {
        let all = self.objects.iter().filter(|((k, _), _)| *k == kind);
        all.filter_map(|(_, v)| serde_json::from_value(v.clone()).ok())
            .collect()
    }

    /// The same with all texts made harmless for a terminal.
    pub fn tamed(&self) -> Self {
        Self {
            rollout: tame(&self.rollout),
            objects: self
                .objects
                .iter()
                .map(|(key, value)| (key.clone(), tame(value)))
                .collect(),
            lacking: self
                .lacking
                .iter()
                .map(|(kind, why)| (*kind, plain(why)))
                .collect(),
        }
    }

    /// All of it as one List, the Rollout first.
    pub fn list(&self) -> Value {
        let mut rollout = serde_json::to_value(&self.rollout).unwrap_or_default();
        strip(&mut rollout);
        let parts = self.objects.values().cloned();
        list(std::iter::once(rollout).chain(parts).collect())
    }
}

fn strip(value: &mut Value) {
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
}

/// Objects as one List, as kubectl gives it.
pub fn list(mut items: Vec<Value>) -> Value {
    items.iter_mut().for_each(strip);
    json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
}
