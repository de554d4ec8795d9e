//! ControllerRevisions: what was deployed, and what became of it.

use serde_json::{Value, json};

use crate::{
    api::names::{PINNED_OVER, POD_TEMPLATE_HASH, PROMOTED_AT, ROLLOUT_LABEL, VERDICT, VERDICT_BY},
    model::{
        desired::{Desired, Pin},
        object::{CONTROLLER_REVISION, ObjectRef, ROLLOUT, Target, annotate, unannotate},
        observed::{Current, Observed},
        plan::{Action, Intent},
        revisions::{HASH_ALGORITHM, Revision, asked},
    },
};

/// The name of a revision's objects: its ControllerRevision and its ReplicaSet.
pub fn name(observed: &Observed, hash: &str) -> String {
    format!(
        "{}-{hash}",
        observed
            .rollout
            .metadata
            .name
            .as_deref()
            .unwrap_or_default()
    )
}

/// The owner reference to the Rollout.
pub fn owner(observed: &Observed) -> Value {
    let meta = &observed.rollout.metadata;
    json!([{
        "apiVersion": ROLLOUT.api_version(), "kind": ROLLOUT.kind,
        "name": meta.name, "uid": meta.uid, "controller": true, "blockOwnerDeletion": true,
    }])
}

/// The ControllerRevision as it was read.
fn target(observed: &Observed, revision: &Revision) -> Target {
    Target {
        object: ObjectRef::new(CONTROLLER_REVISION, name(observed, &revision.hash)),
        uid: revision.uid.clone(),
        resource_version: revision.resource_version.clone(),
    }
}

/// Records a new revision, what became of old ones, and which of them stands in for the template's.
pub fn realize(desired: &Desired, observed: &Observed) -> Vec<Intent> {
    let mut intents = vec![];
    if let Current::New(hash) = &observed.current {
        intents.push(Intent::harmless(create(observed, hash)));
    }
    for revision in &observed.revisions {
        let operations = recorded(desired, revision);
        if !operations.is_empty() {
            intents.push(Intent::harmless(Action::Patch {
                target: target(observed, revision),
                operations,
            }));
        }
    }
    intents
}

/// What a revision's record does not tell yet, as operations of one patch.
fn recorded(desired: &Desired, revision: &Revision) -> Vec<Value> {
    let hash = &revision.hash;
    let judged = desired.verdicts.get(hash);
    let judged = judged.filter(|j| !revision.tells(j));
    let verdict = judged.map(|j| j.verdict.clone());
    let by = judged.and_then(|j| j.by.clone());
    let promoted = desired.promoted.as_ref().filter(|(of, _)| of == hash);
    let pinned = match &desired.pin {
        Pin::Kept => revision.pinned_over.as_ref(),
        Pin::On { revision, over } if revision == hash => Some(over),
        Pin::On { .. } | Pin::Nowhere => None,
    };
    let set = [
        (VERDICT, verdict.filter(|v| *v != revision.verdict)),
        (
            VERDICT_BY,
            by.clone()
                .filter(|by| revision.verdict_by.as_ref() != Some(by)),
        ),
        (PROMOTED_AT, promoted.map(|(_, at)| format!("{at:.0}"))),
        (
            PINNED_OVER,
            pinned
                .filter(|over| revision.pinned_over.as_ref() != Some(over))
                .cloned(),
        ),
    ];
    let mut operations = vec![];
    for (name, value) in set {
        if let Some(value) = value {
            let has = revision.has_annotations || !operations.is_empty();
            operations.extend(annotate(has, name, &value));
        }
    }
    let gone = [
        (
            PINNED_OVER,
            pinned.is_none() && revision.pinned_over.is_some(),
        ),
        // By whom the verdict before came about says nothing of this one.
        (
            VERDICT_BY,
            judged.is_some() && by.is_none() && revision.verdict_by.is_some(),
        ),
    ];
    let gone = gone.iter().filter(|(_, gone)| *gone);
    operations.extend(gone.map(|(name, _)| unannotate(name)));
    operations
}

fn create(observed: &Observed, hash: &str) -> Action {
    let meta = &observed.rollout.metadata;
    let number = observed
        .revisions
        .iter()
        .map(|r| r.number)
        .max()
        .unwrap_or(0)
        + 1;
    let object = ObjectRef::new(CONTROLLER_REVISION, name(observed, hash));
    let value = json!({
        "apiVersion": CONTROLLER_REVISION.api_version(), "kind": CONTROLLER_REVISION.kind,
        "metadata": {
            "name": object.name, "namespace": meta.namespace,
            "labels": {ROLLOUT_LABEL: meta.name, POD_TEMPLATE_HASH: hash},
            "ownerReferences": owner(observed),
        },
        "revision": number,
        "data": {
            "template": asked(&observed.rollout, &observed.revisions),
            "inputs": {},
            "hashAlgorithm": HASH_ALGORITHM,
        },
    });
    Action::Create { object, value }
}

/// Deletes one of a revision's two objects: first its ReplicaSet, then its record.
pub fn delete(observed: &Observed, revision: &Revision) -> Intent {
    let action = match &revision.replica_set {
        Some(set) => Action::Delete {
            target: set.target(),
        },
        None => Action::Delete {
            target: target(observed, revision),
        },
    };
    Intent::hazardous(
        vec![action],
        Some(crate::api::names::reason::REVISION_DELETED),
        format!("delete old revision {}", revision.hash),
    )
}
