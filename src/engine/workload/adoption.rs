//! A Deployment that is adopted in place. It is paused first: from then on its controller makes nothing and shrinks
//! nothing. Then its ReplicaSets get another owner, and their pods never notice. The way back is the same.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    api::{
        RolloutStatus,
        names::{ADOPTED_BY, DECISION, ROLLOUT_LABEL, reason},
    },
    model::{
        object::{
            DEPLOYMENT, REPLICA_SET, Target, annotate, annotation, has_annotations, labels,
            relabel, unannotate,
        },
        observed::Observed,
        plan::{Action, Intent},
        progress::{Stage, note_once},
        spec::Spec,
        workload::{Workload, count, known, set_hash, template, uid},
    },
};

use super::revisions;

/// A step of an adoption.
#[derive(Debug, Default)]
pub struct Step {
    /// What is awaited.
    pub waits: String,
    /// Whether that is what blocks the Rollout itself.
    pub blocked: bool,
    /// What is to be told.
    pub tells: Option<String>,
    /// What is done. Each is refused where the object changed meanwhile, and harms nothing if it is the last.
    pub actions: Vec<Action>,
}

impl Step {
    fn wait(waits: impl Into<String>) -> Self {
        Self {
            waits: waits.into(),
            ..Self::default()
        }
    }
    fn act(waits: impl Into<String>, actions: Vec<Action>) -> Self {
        Self {
            actions,
            ..Self::wait(waits)
        }
    }
}

/// The Deployment and what is known of it; none where the Rollout has a template of its own.
fn look(observed: &Observed) -> Option<(&str, &Workload)> {
    let named = observed.rollout.spec.workload_ref.as_ref()?;
    Some((named.name.as_str(), observed.workload.as_ref()?))
}

/// The next step on the way from a Deployment to the first revision; none once that is done. It does not begin before
/// the Rollout could be carried out.
pub fn adopt(observed: &Observed, blocked: Option<String>) -> Option<Step> {
    let (name, workload) = look(observed)?;
    let rollout = &observed.rollout;
    if observed.deleting() || known(rollout, &observed.revisions) {
        return None;
    }
    let Some(deployment) = &workload.deployment else {
        return Some(Step::wait(format!("{} to exist", missed(name))));
    };
    if let Some(other) = foreign(observed, workload) {
        return Some(Step::wait(taken(name, other)));
    }
    if !workload.marked(rollout) {
        if let Some(why) = unfit(name, workload, deployment) {
            return Some(Step::wait(why));
        }
        if let Some(blocked) = blocked {
            return Some(Step {
                blocked: true,
                ..Step::wait(blocked)
            });
        }
    }
    if !observed.claimed() {
        return Some(Step::act("the finalizer to be set", vec![Action::Claim]));
    }
    if !workload.marked(rollout) || !workload.paused() {
        let waits = format!("Deployment {name:?} to be paused");
        let tells = format!(
            "Deployment {name} is adopted: it stays paused, its pods stay as they are, and a change of its template is a new revision"
        );
        return Some(Step {
            tells: Some(tells),
            ..Step::act(waits, vec![pause(observed, deployment)])
        });
    }
    if !workload.seen() {
        let waits = format!("the Deployment controller to see that Deployment {name:?} is paused");
        return Some(Step::wait(waits));
    }
    let take = |set| take(observed, deployment, set, None);
    let actions: Vec<Action> = workload.theirs().map(take).collect();
    let waits = || format!("the ReplicaSets of Deployment {name:?} to be taken over");
    if !actions.is_empty() {
        return Some(Step::act(waits(), actions));
    }
    match workload.active() {
        Some(_) => None,
        // Somebody made it otherwise between two steps.
        None => Some(Step::wait(format!(
            "one ReplicaSet of Deployment {name:?} to have its pods: scale the others to 0"
        ))),
    }
}

/// Whether the Deployment is not there.
pub fn lost(observed: &Observed) -> bool {
    observed
        .workload
        .as_ref()
        .is_some_and(|w| w.deployment.is_none())
}

/// The generation of the Deployment that is looked at.
pub fn generation(observed: &Observed) -> Option<i64> {
    let deployment = observed.workload.as_ref()?.deployment.as_ref()?;
    Some(count(deployment, "/metadata/generation"))
}

/// The owners of a ReplicaSet that is made. A Deployment that is adopted is one of them, as of those that it made.
pub fn owners(observed: &Observed) -> Value {
    let rollout = revisions::owner(observed);
    let mut owners: Vec<Value> = rollout.as_array().cloned().unwrap_or_default();
    let workload = observed.workload.as_ref();
    let deployment = workload.and_then(|w| w.deployment.as_ref());
    owners.extend(deployment.map(|d| owner(d, false)));
    owners.into()
}

/// The Deployment, where it is not there.
pub fn missing(observed: &Observed) -> Option<String> {
    let (name, workload) = look(observed)?;
    let gone = workload.deployment.is_none() && !observed.deleting();
    gone.then(|| missed(name))
}

fn missed(name: &str) -> String {
    format!("Deployment {name:?} (spec.workloadRef)")
}

/// Whose Deployment it is, where that is another Rollout.
fn foreign<'a>(observed: &Observed, workload: &'a Workload) -> Option<&'a str> {
    let own = observed.rollout.metadata.name.as_deref();
    workload.adopted_by().filter(|by| Some(*by) != own)
}

fn taken(name: &str, other: &str) -> String {
    format!(
        "Rollout {other:?} to hand Deployment {name:?} back: delete that Rollout; where it is gone, take the annotation {ADOPTED_BY} off the Deployment"
    )
}

/// Why a Deployment is not adopted as it stands: only what is complete has one ReplicaSet that runs all of it.
fn unfit(name: &str, workload: &Workload, deployment: &Value) -> Option<String> {
    if workload.paused() {
        return Some(format!(
            "Deployment {name:?} to be resumed, which somebody has paused: kubectl rollout resume deployment/{name}"
        ));
    }
    let wanted = deployment.pointer("/spec/replicas");
    let wanted = wanted.and_then(Value::as_i64).unwrap_or(1);
    let [total, updated, available] = ["replicas", "updatedReplicas", "availableReplicas"]
        .map(|field| count(deployment, &format!("/status/{field}")));
    let complete = workload.seen() && [total, updated, available] == [wanted; 3];
    let runs = workload
        .active()
        .is_some_and(|s| template(s) == template(deployment));
    if complete && runs {
        return None;
    }
    Some(format!(
        "Deployment {name:?} to be complete: of {wanted} pods that it wants, {updated} are of its template, {available} are available, and there are {total} (kubectl rollout status deployment/{name})"
    ))
}

/// What keeps an adopted Deployment as it is: paused, marked, and without ReplicaSets of its own.
pub fn keep(
    spec: &Spec,
    observed: &Observed,
    status: &mut RolloutStatus,
    now: Timestamp,
) -> Vec<Intent> {
    let Some((name, workload)) = look(observed) else {
        return vec![];
    };
    let (Some(deployment), false) = (&workload.deployment, observed.deleting()) else {
        return vec![];
    };
    // Without the finalizer nothing would be handed back.
    if !observed.claimed() || foreign(observed, workload).is_some() {
        return vec![];
    }
    if !workload.marked(&observed.rollout) || !workload.paused() {
        if !workload.paused() {
            let message = format!(
                "Deployment {name} is not paused, by somebody's doing: it is paused again, since its pods are this Rollout's. Delete the Rollout to hand them back"
            );
            note_once(status, now, "Warning", reason::DEPLOYMENT_RESUMED, &message);
        }
        return vec![Intent::harmless(pause(observed, deployment))];
    }
    if !workload.seen() {
        return vec![];
    }
    let stable = status.stable_revision.as_deref();
    let able = stable.and_then(|hash| observed.revision(hash));
    let able = able.is_some_and(|r| r.available() >= spec.replicas);
    let strays = workload.theirs().filter_map(|set| {
        let pods = count(set, "/spec/replicas");
        if pods == 0 {
            return Some(Intent::harmless(take(observed, deployment, set, None)));
        }
        // What it made while it was not paused. It goes once stable needs nobody's help.
        able.then(|| {
            let target = Target::of(REPLICA_SET, set);
            let what = format!(
                "scale {} from {pods} to 0, which Deployment {name} made while it was not paused",
                target.object.name
            );
            let action = take(observed, deployment, set, Some(0));
            Intent::hazardous(vec![action], Some(reason::SCALED_DOWN), what)
        })
    });
    strays.collect()
}

/// The last things that are done for a Rollout that is deleted, once its traffic is back: what was adopted is handed
/// back, then it goes. None while its pods are still on their way back.
pub fn let_go(
    spec: &Spec,
    observed: &Observed,
    status: &mut RolloutStatus,
    now: Timestamp,
) -> Option<Vec<Intent>> {
    let release = || Some(vec![Intent::harmless(Action::Release)]);
    let Some((name, workload)) = look(observed) else {
        return release();
    };
    let rollout = &observed.rollout;
    // Where it is gone, nobody takes anything back: the pods go with the Rollout.
    let Some(deployment) = &workload.deployment else {
        return release();
    };
    if !matches!(
        Stage::of(status),
        None | Some(Stage::Done | Stage::Deploying)
    ) {
        return None;
    }
    let serves = |set: &Value| {
        let hash = set_hash(set);
        let services = spec.course.services.iter();
        let mut selected = services.filter_map(|s| observed.selected(&s.stable));
        status.stable_revision.is_none()
            || hash == status.stable_revision.as_deref()
            || selected.any(|s| Some(s) == hash)
    };
    let give = |set: &Value| {
        let pods = count(set, "/spec/replicas");
        if serves(set) || pods == 0 {
            return Intent::harmless(give(observed, deployment, set, None));
        }
        let action = give(observed, deployment, set, Some(0));
        let what = format!(
            "scale {} from {pods} to 0, and hand it back to Deployment {name}",
            Target::of(REPLICA_SET, set).object.name
        );
        Intent::hazardous(vec![action], Some(reason::SCALED_DOWN), what)
    };
    let back: Vec<Intent> = workload.ours(rollout).map(give).collect();
    if !back.is_empty() {
        return Some(back);
    }
    if !workload.marked(rollout) {
        return release();
    }
    let stable = |set: &&Value| set_hash(set) == status.stable_revision.as_deref();
    let stable = match status.stable_revision {
        Some(_) => workload.theirs().find(stable),
        None => workload.active(),
    };
    let same = stable.is_some_and(|set| template(set) == template(deployment));
    let (type_, why, message) = match same {
        true => (
            "Normal",
            reason::HANDED_BACK,
            format!("Deployment {name} has its pods again, and is no longer paused"),
        ),
        false => (
            "Warning",
            reason::LEFT_PAUSED,
            format!(
                "Deployment {name} has its pods again, and stays paused: its template is not what they run. Write the template that shall run, \
                 then kubectl rollout resume deployment/{name}, which deploys it at once"
            ),
        ),
    };
    note_once(status, now, type_, why, &message);
    let mut operations = vec![unannotate(ADOPTED_BY)];
    if same && workload.paused() {
        operations.push(json!({"op": "remove", "path": "/spec/paused"}));
    }
    let target = Target::of(DEPLOYMENT, deployment);
    Some(vec![Intent::harmless(Action::Patch { target, operations })])
}

/// Pauses a Deployment, and says whose it is.
fn pause(observed: &Observed, deployment: &Value) -> Action {
    let name = observed
        .rollout
        .metadata
        .name
        .as_deref()
        .unwrap_or_default();
    let mut operations = annotate(has_annotations(deployment), ADOPTED_BY, name);
    operations.push(json!({"op": "add", "path": "/spec/paused", "value": true}));
    let target = Target::of(DEPLOYMENT, deployment);
    Action::Patch { target, operations }
}

/// Makes the Rollout the owner of a ReplicaSet. The Deployment stays a second one: it keeps the pods where the
/// Rollout goes without handing them back.
fn take(observed: &Observed, deployment: &Value, set: &Value, replicas: Option<u32>) -> Action {
    let own = owners(observed);
    let own = own.as_array().into_iter().flatten().cloned();
    let owners: Vec<Value> = own.chain(others(observed, deployment, set)).collect();
    let mut operations = owned(&owners, replicas);
    let name = json!(observed.rollout.metadata.name);
    operations.extend(relabel(
        set,
        [(ROLLOUT_LABEL.to_owned(), name)].into_iter().collect(),
    ));
    let target = Target::of(REPLICA_SET, set);
    Action::Patch { target, operations }
}

/// Gives a ReplicaSet back to the Deployment, without a trace of the Rollout.
fn give(observed: &Observed, deployment: &Value, set: &Value, replicas: Option<u32>) -> Action {
    let mut owners = vec![owner(deployment, true)];
    owners.extend(others(observed, deployment, set));
    let mut operations = owned(&owners, replicas);
    if labels(set).contains_key(ROLLOUT_LABEL) {
        let path = format!("/metadata/labels/{}", ROLLOUT_LABEL.replace('/', "~1"));
        operations.push(json!({"op": "remove", "path": path}));
    }
    if annotation(set, DECISION).is_some() {
        operations.push(unannotate(DECISION));
    }
    let target = Target::of(REPLICA_SET, set);
    Action::Patch { target, operations }
}

/// The owner reference to a Deployment, as its controller writes it where that `controls`.
fn owner(deployment: &Value, controls: bool) -> Value {
    json!({
        "apiVersion": DEPLOYMENT.api_version(), "kind": DEPLOYMENT.kind,
        "name": Target::of(DEPLOYMENT, deployment).object.name, "uid": uid(deployment),
        "controller": controls, "blockOwnerDeletion": controls,
    })
}

/// The owners of a ReplicaSet that are neither of the two.
fn others(observed: &Observed, deployment: &Value, set: &Value) -> Vec<Value> {
    let both = [uid(deployment), observed.rollout.metadata.uid.as_deref()];
    let owners = set.pointer("/metadata/ownerReferences");
    let owners = owners.and_then(Value::as_array).into_iter().flatten();
    let other = |o: &&Value| !both.contains(&o.get("uid").and_then(Value::as_str));
    owners.filter(other).cloned().collect()
}

fn owned(owners: &[Value], replicas: Option<u32>) -> Vec<Value> {
    let mut operations =
        vec![json!({"op": "add", "path": "/metadata/ownerReferences", "value": owners})];
    if let Some(replicas) = replicas {
        operations.push(json!({"op": "add", "path": "/spec/replicas", "value": replicas}));
    }
    operations
}
