//! What a write comes to: the object as it will stand, or why not.

use serde_json::{Value, json};

use super::{
    kinds::{KINDS, REVISION, ROLLOUT, ROUTE, SERVICE, SET},
    store::{Path, Store, keep_identity, text},
};

/// A write that is fit to be done.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object will stand like this.
    Put(Value),
    /// It will be gone.
    Remove,
    /// It will be gone, since nothing holds it any more; this is the answer.
    LetGo(Value),
    /// Nothing is written; this is the answer.
    Answer(Value),
}

/// Why a write is not done.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// In a word.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
}

impl Refusal {
    /// One.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
        }
    }
    /// There is no such object.
    pub fn not_found(path: &Path) -> Self {
        let kind = KINDS[path.kind].of;
        Self::new(
            404,
            "NotFound",
            format!("{}.{} {:?} not found", kind.plural, kind.group, path.name),
        )
    }
    /// There is no such path.
    pub fn no_such_path() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }
    /// The object of that name is another one.
    fn other_uid() -> Self {
        Self::new(409, "Conflict", "Precondition failed: UID in precondition")
    }
    /// As the API server says it.
    pub fn status(&self) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code})
    }
}

/// What is asked of an object.
#[derive(Clone, Debug)]
pub enum Edit {
    /// PUT.
    Replace(Value),
    /// PATCH by JSON patch.
    Json(Value),
    /// PATCH by merge patch.
    Merge(Value),
}

/// A write's terms.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Of the status subresource.
    pub status: bool,
    /// Nothing is to be stored.
    pub dry: bool,
    /// Field manager.
    pub manager: String,
    /// The body has characters bare that the API server writes as escapes.
    pub bare: bool,
}

/// POST.
pub fn create(
    store: &Store,
    path: &Path,
    mut object: Value,
    terms: &Terms,
    now: &str,
) -> Result<Change, Refusal> {
    let kind = &KINDS[path.kind];
    if object["kind"] != kind.of.kind || object["apiVersion"] != kind.of.api_version() {
        return Err(Refusal::new(
            400,
            "BadRequest",
            "the kind in the body is not the path's",
        ));
    }
    default(path, &mut object);
    let made_up =
        terms.dry && path.name.is_empty() && object["metadata"]["generateName"].is_string();
    if path.name.is_empty() && !made_up {
        return Err(Refusal::new(
            422,
            "Invalid",
            "metadata.name: Required value: name or generateName is required",
        ));
    }
    if store.get(path).is_some() {
        let message = format!(
            "{}.{} {:?} already exists",
            kind.of.plural, kind.of.group, path.name
        );
        return Err(Refusal::new(409, "AlreadyExists", message));
    }
    if made_up {
        let name = format!("{}dry", text(&object, "/metadata/generateName"));
        object["metadata"]["name"] = json!(name);
    }
    object["metadata"]["namespace"] = json!(path.namespace);
    if let Some(meta) = object["metadata"].as_object_mut() {
        for field in ["resourceVersion", "uid", "generation", "deletionTimestamp"] {
            meta.remove(field);
        }
    }
    if kind.status
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    complete(path, &mut object);
    manage(path, None, &mut object, &terms.manager, now);
    tidy(&mut object);
    if terms.dry {
        // As it would be, but for a version.
        object["metadata"]["uid"] = json!("dry-uid");
        object["metadata"]["creationTimestamp"] = json!(now);
        if kind.generation {
            object["metadata"]["generation"] = json!(1);
        }
        return Ok(Change::Answer(object));
    }
    Ok(Change::Put(object))
}

/// PUT or PATCH of what is not there: some kinds are made by a PUT.
fn put_new(
    store: &Store,
    path: &Path,
    edit: Edit,
    terms: &Terms,
    now: &str,
) -> Result<Change, Refusal> {
    match edit {
        Edit::Replace(new) if KINDS[path.kind].made_by_put() && !terms.status => {
            let meta = &new["metadata"];
            if !meta["uid"].is_null() {
                return Err(Refusal::other_uid());
            }
            create(store, path, new, terms, now)
        }
        Edit::Replace(_) | Edit::Json(_) | Edit::Merge(_) => Err(Refusal::not_found(path)),
    }
}

/// The object as an edit would have it, before anything else is looked at.
fn edited(path: &Path, old: &Value, edit: Edit) -> Result<Value, Refusal> {
    match edit {
        Edit::Replace(new) => {
            if other_uid(&new, old) {
                return Err(Refusal::other_uid());
            }
            if new["metadata"]["resourceVersion"].is_null() && !KINDS[path.kind].unconditional() {
                return Err(Refusal::new(
                    422,
                    "Invalid",
                    "metadata.resourceVersion: Invalid value: 0: must be specified for an update",
                ));
            }
            Ok(new)
        }
        Edit::Json(patch) => {
            let failed = |_| {
                Refusal::new(
                    422,
                    "Invalid",
                    "the server rejected our request due to an error in our request",
                )
            };
            let patch: json_patch::Patch = serde_json::from_value(patch)
                .map_err(|e| Refusal::new(400, "BadRequest", e.to_string()))?;
            let mut new = old.clone();
            json_patch::patch(&mut new, &patch).map_err(failed)?;
            Ok(new)
        }
        Edit::Merge(patch) => {
            let mut new = old.clone();
            json_patch::merge(&mut new, &patch);
            Ok(new)
        }
    }
}

/// PUT or PATCH.
pub fn update(
    store: &Store,
    path: &Path,
    edit: Edit,
    terms: &Terms,
    now: &str,
) -> Result<Change, Refusal> {
    if terms.status && !KINDS[path.kind].status {
        return Err(Refusal::no_such_path());
    }
    let Some(old) = store.get(path) else {
        return put_new(store, path, edit, terms, now);
    };
    let replaces = matches!(edit, Edit::Replace(_));
    let mut new = edited(path, old, edit)?;
    tidy(&mut new);
    let conflict = |what: &str| {
        Refusal::new(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {path}: {what}"),
        )
    };
    let (before, after) = (&old["metadata"], &new["metadata"]);
    if !after["resourceVersion"].is_null() && after["resourceVersion"] != before["resourceVersion"]
    {
        return Err(conflict(
            "the object has been modified; please apply your changes to the latest version and try again",
        ));
    }
    // A patch of a status takes the metadata as they are, where the kind comes from a definition.
    let as_it_is = terms.status && KINDS[path.kind].custom();
    if !replaces && !as_it_is && other_uid(&new, old) {
        return Err(Refusal::new(
            422,
            "Invalid",
            "metadata.uid: Invalid value: field is immutable",
        ));
    }
    if KINDS[path.kind].status {
        if terms.status {
            let (status, metadata) = (new["status"].take(), new["metadata"].take());
            new = (**old).clone();
            new["status"] = status;
            // Whose kind comes from a definition keeps its metadata.
            if !KINDS[path.kind].custom() {
                new["metadata"] = metadata;
            }
        } else {
            new["status"] = old["status"].clone();
        }
        if new["status"].is_null()
            && let Some(fields) = new.as_object_mut()
        {
            fields.remove("status");
        }
    }
    // What goes gets no new finalizers.
    if !before["deletionTimestamp"].is_null() {
        let held = before["finalizers"].as_array().cloned().unwrap_or_default();
        let wanted = new["metadata"]["finalizers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if wanted.iter().any(|f| !held.contains(f)) {
            return Err(Refusal::new(
                422,
                "Invalid",
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted",
            ));
        }
        new["metadata"]["deletionTimestamp"] = before["deletionTimestamp"].clone();
        if wanted.is_empty() {
            validate(path, &new)?;
            keep_identity(&mut new, old);
            return Ok(Change::LetGo(new));
        }
    }
    complete(path, &mut new);
    validate(path, &new)?;
    // The bytes of the data are compared: a patch has the API server write them itself.
    let bare = replaces && terms.bare;
    if path.kind == REVISION && (new["data"] != old["data"] || bare != store.bare.contains(path)) {
        return Err(Refusal::new(
            422,
            "Invalid",
            "data: Forbidden: field is immutable",
        ));
    }
    manage(path, Some(old), &mut new, &terms.manager, now);
    Ok(Change::Put(new))
}

/// Whether a write is about another object of the same name.
fn other_uid(new: &Value, old: &Value) -> bool {
    let (new, old) = (&new["metadata"]["uid"], &old["metadata"]["uid"]);
    !new.is_null() && new != old
}

/// What the API server fills in where a status is not told, or not all of it.
fn complete(path: &Path, object: &mut Value) {
    match path.kind {
        ROLLOUT => {
            if !object["status"].is_object() {
                object["status"] = json!({"observedGeneration": -1});
            }
            for field in [
                "replicas",
                "readyReplicas",
                "availableReplicas",
                "updatedReplicas",
            ] {
                if object["status"][field].is_null() {
                    object["status"][field] = json!(0);
                }
            }
        }
        SET if object["status"].is_null() => object["status"] = json!({"replicas": 0}),
        SERVICE if object["status"].is_null() => object["status"] = json!({"loadBalancer": {}}),
        _ => {}
    }
}

/// What is empty in the metadata is not there.
fn tidy(object: &mut Value) {
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.retain(|_, value| match value {
            Value::Null => false,
            Value::Array(all) => !all.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        });
    }
}

/// DELETE.
pub fn delete(store: &Store, path: &Path, options: &Value, now: &str) -> Result<Change, Refusal> {
    let old = store.get(path).ok_or_else(|| Refusal::not_found(path))?;
    for field in ["resourceVersion", "uid"] {
        let wanted = &options["preconditions"][field];
        if !wanted.is_null() && *wanted != old["metadata"][field] {
            return Err(Refusal::new(
                409,
                "Conflict",
                format!("Precondition failed: {field} in precondition: {wanted}"),
            ));
        }
    }
    if old["metadata"]["finalizers"]
        .as_array()
        .is_none_or(Vec::is_empty)
    {
        return Ok(Change::Remove);
    }
    if !old["metadata"]["deletionTimestamp"].is_null() {
        return Ok(Change::Answer((**old).clone()));
    }
    let mut new = (**old).clone();
    new["metadata"]["deletionTimestamp"] = json!(now);
    Ok(Change::Put(new))
}

fn validate(path: &Path, object: &Value) -> Result<(), Refusal> {
    let bad = |message: &str| Err(Refusal::new(422, "Invalid", message));
    match path.kind {
        SET if object["spec"]["replicas"].as_i64().is_none_or(|n| n < 0) => {
            bad("spec.replicas: Invalid value: must be greater than or equal to 0")
        }
        ROUTE => {
            let rules = object["spec"]["rules"].as_array().into_iter().flatten();
            let mut refs = rules.flat_map(|r| r["backendRefs"].as_array().into_iter().flatten());
            let fit =
                |w: &Value| w.is_null() || w.as_i64().is_some_and(|w| (0..=1_000_000).contains(&w));
            match refs.find(|r| !fit(&r["weight"])) {
                Some(_) => bad("spec.rules[0].backendRefs[0].weight: Invalid value"),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// What the API server fills in.
fn default(path: &Path, object: &mut Value) {
    match path.kind {
        SET => {
            let spec = &mut object["spec"]["template"]["spec"];
            for (field, value) in [
                ("restartPolicy", json!("Always")),
                ("dnsPolicy", json!("ClusterFirst")),
                ("terminationGracePeriodSeconds", json!(30)),
            ] {
                if spec[field].is_null() {
                    spec[field] = value;
                }
            }
        }
        SERVICE if object["spec"]["clusterIP"].is_null() => {
            object["spec"]["clusterIP"] = json!("10.0.0.1");
        }
        _ => {}
    }
}

/// Who wrote a route's rules last.
fn manage(path: &Path, old: Option<&Value>, new: &mut Value, manager: &str, now: &str) {
    if path.kind != ROUTE || old.is_some_and(|o| o["spec"] == new["spec"]) {
        return;
    }
    new["metadata"]["managedFields"] = json!([{
        "manager": manager, "operation": "Update", "apiVersion": KINDS[ROUTE].of.api_version(), "time": now,
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:rules": {}}},
    }]);
}

/// The controller of an object: its kind and uid.
pub fn owner(object: &Value) -> Option<(&str, &str)> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|o| o["controller"] == true)?;
    Some((text(owner, "/kind"), text(owner, "/uid")))
}
