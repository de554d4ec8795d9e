//! Role Services: cloned from the user's, each selecting the pods of one revision.

use serde_json::{Value, json};

use crate::{
    api::names::{DECISION, POD_TEMPLATE_HASH, ROLLOUT_LABEL},
    model::{
        desired::Desired,
        object::{
            ObjectRef, SERVICE, Target, annotate, annotation_number, has_annotations, relabel,
        },
        observed::Observed,
        plan::{Action, Intent, Numbers, switched},
        revisions::Revision,
        share::{FULL, need},
        spec::{FieldError, RoleServices, Spec},
        traffic::InForce,
    },
};

use super::revisions;

/// What keeps the role Services from being used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceFault {
    /// The user's Service does not exist yet.
    Missing(String),
    /// Something is wrong with what is written.
    Wrong(FieldError),
}

/// What keeps the role Services from being used.
pub fn check(spec: &Spec, observed: &Observed) -> Vec<ServiceFault> {
    let Some(services) = &spec.course.services else {
        return vec![];
    };
    let mut faults = vec![];
    match observed.services.get(&services.user) {
        _ if services.shared => {}
        None => faults.push(ServiceFault::Missing(format!(
            "Service {:?} ({}.service)",
            services.user, spec.course.path
        ))),
        Some(user) => faults.extend(strays(spec, observed, user).map(ServiceFault::Wrong)),
    }
    for (field, name) in [
        (services.fields.0, &services.stable),
        (services.fields.1, &services.canary),
    ] {
        match observed.services.get(name) {
            None if services.shared => {
                faults.push(ServiceFault::Missing(format!(
                    "Service {name:?} ({}.{field})",
                    spec.course.path
                )));
            }
            Some(found) if !services.shared && !owned(observed, found) => {
                faults.push(ServiceFault::Wrong(FieldError {
                    path: format!("{}.{field}", spec.course.path),
                    message: format!(
                        "Service {name:?} exists and belongs to somebody else: give it another name, delete it, \
                         or set shared: true to let both write its selector"
                    ),
                }));
            }
            _ => {}
        }
    }
    faults
}

/// The user's Service must select the template's pods: its clones select by the same labels.
fn strays(spec: &Spec, observed: &Observed, user: &Value) -> Option<FieldError> {
    let path = spec.course.path;
    let services = spec.course.services.as_ref()?;
    // What Serin put there itself is no fault of the user's.
    let ours = |key: &str| key == POD_TEMPLATE_HASH && spec.left.contains(&services.user);
    let template = &observed.rollout.spec.template;
    if template.is_null() {
        // Its Deployment is awaited.
        return None;
    }
    let labels = template.pointer("/metadata/labels");
    let selector = user.pointer("/spec/selector").and_then(Value::as_object)?;
    let (key, wanted) = selector
        .iter()
        .find(|(key, wanted)| labels.and_then(|l| l.get(*key)) != Some(*wanted) && !ours(key))?;
    let found = labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    Some(FieldError {
        path: format!("{path}.service"),
        message: format!(
            "Service {:?} selects {key}={}, but spec.template.metadata.labels has {}: it would select no pod",
            user.pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default(),
            wanted.as_str().unwrap_or_default(),
            found.map_or_else(|| "no such label".to_owned(), |f| format!("{key}={f}")),
        ),
    })
}

fn owned(observed: &Observed, object: &Value) -> bool {
    let uid = observed.rollout.metadata.uid.as_deref();
    object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|o| uid.is_some() && o.get("uid").and_then(Value::as_str) == uid)
}

/// What to do about the role Services.
pub fn realize(
    spec: &Spec,
    desired: &Desired,
    observed: &Observed,
    force: Option<&InForce>,
    numbers: Numbers,
) -> Vec<Intent> {
    let (Some(services), Some(roles)) = (&spec.course.services, &desired.roles) else {
        return vec![];
    };
    if !check(spec, observed).is_empty() {
        return vec![];
    }
    // What the data plane may still send to each of the two, in millionths.
    let (stable, canary) = force.map_or((FULL, FULL), |f| (FULL - f.low.min(FULL), f.high));
    // Where its selector is the switch, it is the weight's to turn.
    let switch = spec.switched() && desired.weight.is_some();
    let turned = observed.selected(&services.stable).filter(|_| switch);
    [
        (&services.canary, roles.canary.as_str(), canary),
        (
            &services.stable,
            turned.unwrap_or(&roles.stable),
            if spec.switched() { FULL } else { stable },
        ),
    ]
    .into_iter()
    .filter_map(|(name, hash, weight)| {
        let numbers = Numbers {
            // The weight's own writes carry the fence, too.
            fence: if switch && *name == services.stable {
                0
            } else {
                numbers.fence
            },
            ..numbers
        };
        one(spec, services, observed, name, hash, weight, numbers)
    })
    .collect()
}

fn one(
    spec: &Spec,
    services: &RoleServices,
    observed: &Observed,
    name: &str,
    hash: &str,
    weight: u32,
    numbers: Numbers,
) -> Option<Intent> {
    let user = observed.services.get(&services.user);
    let Some(live) = observed.services.get(name) else {
        let object = ObjectRef::new(SERVICE, name);
        return Some(Intent::harmless(Action::Create {
            value: clone_of(observed, user?, name, hash),
            object,
        }));
    };
    let target = Target::of(SERVICE, live);
    if observed.selected(name) != Some(hash) {
        let status = observed.rollout.status.as_ref();
        let stable = name == services.stable
            && status.and_then(|s| s.stable_revision.as_deref()) == Some(hash);
        if !(suffices(spec, observed, hash, weight) || stable && no_worse(observed, name, hash)) {
            // It stays as it is; what was cancelled cannot turn it any more.
            let behind = annotation_number(live, DECISION) < numbers.fence;
            let stamp = || Action::stamp(target, has_annotations(live), numbers.fence);
            return behind.then(stamp).map(Intent::harmless);
        }
        let user = if services.shared { None } else { Some(user?) };
        let selector = selector(observed, user, Some(live), hash);
        let operation = json!({"op": "add", "path": "/spec/selector", "value": selector});
        return Some(turn(live, operation, numbers, switched(name, hash)));
    }
    let mut operations = vec![];
    if !services.shared {
        operations = drift(observed, user?, live, hash);
    }
    if annotation_number(live, DECISION) < numbers.fence {
        operations.extend(annotate(
            has_annotations(live),
            DECISION,
            &numbers.fence.to_string(),
        ));
    }
    (!operations.is_empty()).then(|| Intent::harmless(Action::Patch { target, operations }))
}

/// Whether users of a Service are served once it selects a revision, and no worse than now.
pub(super) fn no_worse(observed: &Observed, service: &str, hash: &str) -> bool {
    let able = observed.revision(hash).map_or(0, |r| r.available());
    observed.selected(service).is_some_and(|now| {
        let ready = observed.revision(now).map_or(0, |r| r.ready());
        able > 0 && able >= ready.max(observed.ready_endpoints(service, now))
    })
}

/// S7: a Service turns to other pods only where nothing is sent to it, where those pods suffice, or where none are
/// wanted. To stable it turns where that is no worse, too.
pub(super) fn suffices(spec: &Spec, observed: &Observed, hash: &str, weight: u32) -> bool {
    let ready = observed.revision(hash).map_or(0, |r| r.available());
    weight == 0 || spec.replicas == 0 || ready >= need(weight, spec.replicas)
}

/// A Service, as it was read, selects other pods.
pub(super) fn turn(
    live: &Value,
    selector: Value,
    numbers: Numbers,
    (why, what): (&'static str, String),
) -> Intent {
    let mut operations = vec![selector];
    let number = numbers.next.to_string();
    operations.extend(annotate(has_annotations(live), DECISION, &number));
    let target = Target::of(SERVICE, live);
    let action = Action::Patch { target, operations };
    Intent::hazardous(vec![action], Some(why), what)
}

/// Fields of the user's Service that its clones share. No labels and no annotations: those may tell
/// other tools whom the object belongs to.
const SHARED_FIELDS: &[&str] = &[
    "ports",
    "sessionAffinity",
    "sessionAffinityConfig",
    "ipFamilyPolicy",
    "publishNotReadyAddresses",
    "internalTrafficPolicy",
    "trafficDistribution",
];

/// Of these the ones that the API server does not fill in: a clone loses them with the user's Service.
/// To take off what is filled in again would never end.
const NEVER_FILLED_IN: &[&str] = &[
    "sessionAffinityConfig",
    "publishNotReadyAddresses",
    "trafficDistribution",
];

/// By what a role Service selects a revision's pods: by the hash, and as the user's Service does, as far
/// as the pods of every revision have that. A release may bring a label that the one before lacks:
/// selected by it, stable would have no pod, at once or when the traffic comes back. No user's Service
/// counts where the role Services are not clones.
fn selector(observed: &Observed, user: Option<&Value>, live: Option<&Value>, hash: &str) -> Value {
    let recorded = |r: &Revision| r.template.is_object();
    // What is not recorded may lack anything: what stands has served it.
    let known = live.is_none() || observed.revision(hash).is_some_and(recorded);
    let from = user.filter(|_| known).or(live);
    let mut selector = from
        .and_then(|service| service.pointer("/spec/selector")?.as_object().cloned())
        .unwrap_or_default();
    if user.is_some() {
        let lacks = |r: &Revision, key: &str, wanted: &Value| {
            let labels = r.template.pointer("/metadata/labels");
            recorded(r) && labels.and_then(|l| l.get(key)) != Some(wanted)
        };
        let all = &observed.revisions;
        selector.retain(|key, wanted| !all.iter().any(|r| lacks(r, key, wanted)));
    }
    selector.insert(POD_TEMPLATE_HASH.into(), json!(hash));
    Value::Object(selector)
}

/// What a clone's spec takes over; the selector apart.
fn shared_spec(user: &Value) -> serde_json::Map<String, Value> {
    let mut spec = serde_json::Map::new();
    for field in SHARED_FIELDS {
        if let Some(value) = user.pointer(&format!("/spec/{field}")) {
            let mut value = value.clone();
            for port in value.as_array_mut().into_iter().flatten() {
                if let Some(port) = port.as_object_mut() {
                    port.remove("nodePort");
                }
            }
            spec.insert((*field).to_owned(), value);
        }
    }
    spec
}

fn clone_of(observed: &Observed, user: &Value, name: &str, hash: &str) -> Value {
    let meta = &observed.rollout.metadata;
    let mut spec = shared_spec(user);
    let selector = selector(observed, Some(user), None, hash);
    spec.insert("selector".into(), selector);
    spec.insert("type".into(), json!("ClusterIP"));
    if user.pointer("/spec/clusterIP").and_then(Value::as_str) == Some("None") {
        spec.insert("clusterIP".into(), json!("None"));
    }
    json!({
        "apiVersion": SERVICE.api_version(), "kind": SERVICE.kind,
        "metadata": {
            "name": name, "namespace": meta.namespace,
            "labels": labels(observed),
            "ownerReferences": revisions::owner(observed),
        },
        "spec": spec,
    })
}

/// The labels of a clone. Its EndpointSlices get them, too, and are found by them.
fn labels(observed: &Observed) -> serde_json::Map<String, Value> {
    let name = json!(observed.rollout.metadata.name);
    [(ROLLOUT_LABEL.to_owned(), name)].into_iter().collect()
}

/// Operations that bring a clone up to date with the user's Service, and give it back its labels.
fn drift(observed: &Observed, user: &Value, live: &Value, hash: &str) -> Vec<Value> {
    let path = |field: &str| format!("/spec/{field}");
    let labels = relabel(live, labels(observed));
    let mut shared = shared_spec(user);
    let selector = selector(observed, Some(user), Some(live), hash);
    shared.insert("selector".into(), selector);
    let gone = NEVER_FILLED_IN
        .iter()
        .map(|field| path(field))
        .filter(|path| live.pointer(path).is_some() && user.pointer(path).is_none())
        .map(|path| json!({"op": "remove", "path": path}));
    let changed = shared
        .iter()
        .filter(|(field, value)| live.pointer(&path(field)) != Some(value))
        .map(|(field, value)| json!({"op": "add", "path": path(field), "value": value}));
    labels.into_iter().chain(gone).chain(changed).collect()
}
