//! What is read of Deployments and ReplicaSets.

use std::borrow::Cow;

use serde_json::Value;

use crate::api::{Rollout, names::POD_TEMPLATE_HASH};

/// The name of a revision's ReplicaSet: after the Deployment, where one is adopted, as its own are.
pub fn set_name(rollout: &Rollout, hash: &str) -> String {
    let deployment = rollout.spec.workload_ref.as_ref().map(|w| &w.name);
    let name = deployment.or(rollout.metadata.name.as_ref());
    format!("{}-{hash}", name.map_or("", String::as_str))
}

/// The hash of a ReplicaSet's pods.
pub fn set_hash(set: &Value) -> Option<&str> {
    let labels = set.pointer("/metadata/labels")?;
    labels.get(POD_TEMPLATE_HASH)?.as_str()
}

/// An object's uid.
pub fn uid(object: &Value) -> Option<&str> {
    object.pointer("/metadata/uid")?.as_str()
}

/// The uid of who controls an object.
pub fn controller(object: &Value) -> Option<&str> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let controls = |o: &&Value| o.get("controller").and_then(Value::as_bool) == Some(true);
    owners.iter().find(controls)?.get("uid")?.as_str()
}

/// A number in an object; 0 where there is none.
pub fn count(object: &Value, path: &str) -> i64 {
    object.pointer(path).and_then(Value::as_i64).unwrap_or(0)
}

/// The pod template of a Deployment or a ReplicaSet, without what tells the two apart.
pub fn template(object: &Value) -> Cow<'_, Value> {
    let Some(template) = object.pointer("/spec/template") else {
        return Cow::Owned(Value::Null);
    };
    let metadata = template.get("metadata");
    let extra = metadata.is_some_and(|m| {
        let hashed = m
            .get("labels")
            .is_some_and(|l| l.get(POD_TEMPLATE_HASH).is_some());
        hashed || m.get("creationTimestamp").is_some()
    });
    if !extra {
        return Cow::Borrowed(template);
    }
    let mut template = template.clone();
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        // Older API servers write it out.
        metadata.remove("creationTimestamp");
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove(POD_TEMPLATE_HASH);
        }
    }
    Cow::Owned(template)
}
