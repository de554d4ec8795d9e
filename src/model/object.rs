//! Objects of the cluster, as far as deciding needs them: their kind, their name, their JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A kind of object that Serin reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version in the group.
    pub version: &'static str,
    /// The kind's name.
    pub kind: &'static str,
    /// Its name in paths.
    pub plural: &'static str,
}

impl Kind {
    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// ControllerRevision.
pub const CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
};
/// ReplicaSet.
pub const REPLICA_SET: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "ReplicaSet",
    plural: "replicasets",
};
/// Deployment.
pub const DEPLOYMENT: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "Deployment",
    plural: "deployments",
};
/// Service.
pub const SERVICE: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
};
/// AnalysisRun.
pub const ANALYSIS_RUN: Kind = Kind {
    group: "serin.dev",
    version: "v1alpha1",
    kind: "AnalysisRun",
    plural: "analysisruns",
};
/// Rollout.
pub const ROLLOUT: Kind = Kind {
    group: "serin.dev",
    version: "v1alpha1",
    kind: "Rollout",
    plural: "rollouts",
};

/// A reference to an object in the Rollout's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl ObjectRef {
    /// A reference by kind and name.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
        }
    }
}

/// An object as it was read: a write that rests on it carries its uid and resourceVersion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which object.
    pub object: ObjectRef,
    /// The uid that it had.
    pub uid: String,
    /// The resourceVersion that it had.
    pub resource_version: String,
}

impl Target {
    /// The target that `value`, an object's JSON, stands for.
    pub fn of(kind: Kind, value: &Value) -> Self {
        let text = |field: &str| {
            value
                .pointer(&format!("/metadata/{field}"))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            object: ObjectRef::new(kind, text("name")),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
        }
    }
}

/// Objects by reference, each as its whole JSON.
pub type Objects = BTreeMap<ObjectRef, Value>;

/// An annotation's value.
pub fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object
        .get("metadata")?
        .get("annotations")?
        .get(name)?
        .as_str()
}

/// The number in an annotation; 0 where there is none.
pub fn annotation_number(object: &Value, name: &str) -> i64 {
    annotation(object, name)
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

/// The JSON pointer of an annotation.
pub fn annotation_path(name: &str) -> String {
    let escaped = name.replace('~', "~0").replace('/', "~1");
    format!("/metadata/annotations/{escaped}")
}

/// The JSON-patch operation that takes an annotation off an object that has it.
pub fn unannotate(name: &str) -> Value {
    json!({"op": "remove", "path": annotation_path(name)})
}

/// JSON-patch operations that set an annotation, whether or not the object has any.
pub fn annotate(has_annotations: bool, name: &str, value: &str) -> Vec<Value> {
    let set = json!({"op": "add", "path": annotation_path(name), "value": value});
    if has_annotations {
        vec![set]
    } else {
        vec![
            json!({"op": "add", "path": "/metadata/annotations", "value": {}}),
            set,
        ]
    }
}

/// An object's labels.
pub fn labels(object: &Value) -> Map<String, Value> {
    let labels = object
        .pointer("/metadata/labels")
        .and_then(Value::as_object);
    labels.cloned().unwrap_or_default()
}

/// JSON-patch operations that give an object these labels, too; none where it has them.
pub fn relabel(object: &Value, wanted: Map<String, Value>) -> Vec<Value> {
    let has = labels(object);
    let mut all = has.clone();
    all.extend(wanted);
    if all == has {
        return vec![];
    }
    vec![json!({"op": "add", "path": "/metadata/labels", "value": all})]
}

/// Whether the object's JSON has an annotations map.
pub fn has_annotations(object: &Value) -> bool {
    object
        .pointer("/metadata/annotations")
        .is_some_and(Value::is_object)
}
