//! An object as it is listed and watched, read without what nobody here looks at.
//!
//! `managedFields` are half of an object, and most of its tree. The library's own dynamic object reads them,
//! and puts every other field aside before it reads it; with lists of thousands that is what a
//! start takes in memory and time.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::{
    Resource,
    api::{ApiResource, DynamicObject, ObjectMeta},
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// An object without its `managedFields`, and without what says its kind.
#[derive(Clone, Debug)]
pub struct Lean(DynamicObject);

impl From<Lean> for DynamicObject {
    fn from(lean: Lean) -> Self {
        lean.0
    }
}

/// All of the metadata but `managedFields`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    generate_name: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    name: Option<String>,
    namespace: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    resource_version: Option<String>,
    self_link: Option<String>,
    uid: Option<String>,
}

impl From<Meta> for ObjectMeta {
    fn from(meta: Meta) -> Self {
        Self {
            annotations: meta.annotations,
            creation_timestamp: meta.creation_timestamp,
            deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
            deletion_timestamp: meta.deletion_timestamp,
            finalizers: meta.finalizers,
            generate_name: meta.generate_name,
            generation: meta.generation,
            labels: meta.labels,
            managed_fields: None,
            name: meta.name,
            namespace: meta.namespace,
            owner_references: meta.owner_references,
            resource_version: meta.resource_version,
            self_link: meta.self_link,
            uid: meta.uid,
        }
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Lean;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Lean, A::Error> {
        let (mut metadata, mut data) = (Meta::default(), Map::new());
        while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
            match &*name {
                "metadata" => metadata = fields.next_value()?,
                "apiVersion" | "kind" => {
                    fields.next_value::<IgnoredAny>()?;
                }
                _ => {
                    data.insert(name.into_owned(), fields.next_value()?);
                }
            }
        }
        Ok(Lean(DynamicObject {
            types: None,
            metadata: metadata.into(),
            data: Value::Object(data),
        }))
    }
}

impl<'de> Deserialize<'de> for Lean {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

impl Resource for Lean {
    type DynamicType = ApiResource;
    type Scope = <DynamicObject as Resource>::Scope;

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::kind(kind)
    }
    fn group(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::group(kind)
    }
    fn version(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::version(kind)
    }
    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::plural(kind)
    }
    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_the_library_s_object_but_for_what_is_left_out() {
        let text = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "annotations": {"a": "\u{e9}\n"}, "creationTimestamp": "2026-01-01T00:00:00Z",
                "deletionGracePeriodSeconds": 3, "deletionTimestamp": "2026-01-01T00:00:01Z",
                "finalizers": ["f"], "generateName": "n-", "generation": 7, "labels": {"l": "m"},
                "managedFields": [{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {}}}],
                "name": "n", "namespace": "ns", "resourceVersion": "8", "selfLink": "s", "uid": "u",
                "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "p", "controller": true}],
            },
            "spec": {"a": [1, 2.5, null]}, "status": {}, "we\"ird": 1,
        })
        .to_string();
        let mut wanted: DynamicObject = serde_json::from_str(&text).expect("an object");
        (wanted.types, wanted.metadata.managed_fields) = (None, None);
        let lean: Lean = serde_json::from_str(&text).expect("an object");
        assert_eq!(DynamicObject::from(lean), wanted);
        assert_eq!(
            serde_json::to_value(&wanted.metadata)
                .expect("json")
                .as_object()
                .map(Map::len),
            Some(14),
            "every field is filled in"
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[]", "1", r#"{"metadata": {"name": 1}}"#] {
            assert!(serde_json::from_str::<Lean>(text).is_err(), "{text}");
        }
    }
}
