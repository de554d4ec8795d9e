//! Act: a committed decision's actions become requests. Each is refused where the object has changed
//! since it was read, and repeating each is harmless.

use serde_json::{Value, json};
use thiserror::Error;

use crate::{
    api::names::{DECISION, FINALIZER},
    model::{
        object::{ObjectRef, ROLLOUT, Target, annotate, labels, relabel},
        plan::Action,
    },
};

use super::{Cluster, commit::Committed, rest::RestError};

/// Why an action was not done.
#[derive(Debug, Error)]
pub enum ActError {
    /// A request failed.
    #[error("cannot carry out a decision")]
    Request(#[from] RestError),
    /// An object with the name of one of ours belongs to somebody else.
    #[error(
        "{kind} {name} exists and is not of this Rollout: delete it; with --cascade=orphan its pods stay and are taken over"
    )]
    Foreign {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// An object that is wanted is still being deleted.
    #[error("{kind} {name} is being deleted")]
    Leaving {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The Rollout in an answer cannot be read.
    #[error("cannot read the Rollout in the answer")]
    Json(#[from] serde_json::Error),
}

impl ActError {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Request(e) => e.kind(),
            Self::Foreign { .. } => "foreign",
            Self::Leaving { .. } => "leaving",
            Self::Json(_) => "json",
        }
    }
    /// Whether nobody knows whether it was done.
    pub fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::Request(e) if e.outcome_is_unknown())
    }
    /// Whether it will not be done before somebody changes something else.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Foreign { .. } | Self::Leaving { .. } => true,
            Self::Request(e) => matches!(e, RestError::Refused { .. }),
            Self::Json(_) => false,
        }
    }
    /// What is refused until somebody does something about it, and why; none where it may pass by itself.
    pub fn refused(&self) -> Option<(String, String)> {
        match self {
            Self::Foreign { kind, name } => Some((format!("{kind} {name}"), self.to_string())),
            Self::Request(RestError::Refused { request, source }) => {
                Some((request.clone(), format!("{request}: {}", source.message)))
            }
            _ => None,
        }
    }
    /// Whether somebody else was faster.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Request(e) if e.is_conflict())
    }
}

impl Cluster {
    /// Carries out the actions of a decision, in order. One that is refused may stay so for long: what is
    /// harmless is tried all the same, such as what fences off the way back. What is hazardous is not,
    /// and nothing is after any other failure.
    pub async fn act(&self, committed: &mut Committed) -> Result<(), ActError> {
        let mut first = Ok(());
        for (index, action) in std::mem::take(&mut committed.actions)
            .into_iter()
            .enumerate()
        {
            // What is let go of is never straightened again.
            let hazard = committed.hazardous.contains(&index) || action == Action::Release;
            if hazard && first.is_err() {
                continue;
            }
            match self.act_on(committed, action).await {
                Err(error) if error.is_refusal() => first = first.and(Err(error)),
                done => done?,
            }
        }
        first
    }

    async fn act_on(&self, committed: &mut Committed, action: Action) -> Result<(), ActError> {
        let meta = &committed.rollout.metadata;
        let namespace = meta.namespace.clone().unwrap_or_default();
        match action {
            Action::Create { object, value } => {
                let uid = meta.uid.clone().unwrap_or_default();
                self.create(&namespace, &uid, &object, value).await
            }
            Action::Patch { target, operations } if target.object.kind == ROLLOUT => {
                // The commit was the last write to it, under the version that was looked at.
                let own = Target::of(ROLLOUT, &json!({"metadata": meta}));
                let target = if own.uid == target.uid { own } else { target };
                self.patch_rollout(committed, &target, operations).await
            }
            Action::Patch { target, operations } => {
                let answer = self
                    .rest
                    .patch_json(&namespace, &target, operations)
                    .await?;
                self.written.note(&answer);
                Ok(())
            }
            Action::Scale {
                target,
                replicas,
                decision,
                has_annotations,
            } => {
                let mut operations =
                    vec![json!({"op": "add", "path": "/spec/replicas", "value": replicas})];
                operations.extend(annotate(has_annotations, DECISION, &decision.to_string()));
                let answer = self
                    .rest
                    .patch_json(&namespace, &target, operations)
                    .await?;
                self.written.note(&answer);
                Ok(())
            }
            Action::Delete { target } => {
                self.rest.delete(&namespace, &target).await?;
                self.written
                    .note_deleted(&target.uid, &target.resource_version);
                Ok(())
            }
            Action::Claim => self.finalizer(committed, true).await,
            Action::Release => self.finalizer(committed, false).await,
        }
    }

    async fn create(
        &self,
        namespace: &str,
        uid: &str,
        object: &ObjectRef,
        mut value: Value,
    ) -> Result<(), ActError> {
        let (kind, name) = (object.kind, &object.name);
        if let Some(map) = value.as_object_mut() {
            map.entry("apiVersion")
                .or_insert_with(|| kind.api_version().into());
            map.entry("kind").or_insert_with(|| kind.kind.into());
        }
        let error = match self.rest.create(kind, namespace, name, &value).await {
            Ok(answer) => {
                self.written.note_made(uid, kind.kind, &answer);
                return Ok(());
            }
            Err(error) => error,
        };
        if error.namespace_goes() {
            // What follows, such as letting go of the Rollout, must not wait for it.
            return Ok(());
        }
        if !matches!(error, RestError::Exists { .. }) {
            return Err(error.into());
        }
        let live = self.rest.get(kind, namespace, name).await?;
        if !owned_by(&live, uid) {
            return Err(ActError::Foreign {
                kind: kind.kind,
                name: name.clone(),
            });
        }
        if live.pointer("/metadata/deletionTimestamp").is_some() {
            return Err(ActError::Leaving {
                kind: kind.kind,
                name: name.clone(),
            });
        }
        // Without its labels it is among nothing that is watched, so it was asked for again.
        let operations = relabel(&live, labels(&value));
        let seen = match operations.is_empty() {
            true => live,
            false => {
                let target = Target::of(kind, &live);
                self.rest.patch_json(namespace, &target, operations).await?
            }
        };
        self.written.note_made(uid, kind.kind, &seen);
        Ok(())
    }

    async fn finalizer(&self, committed: &mut Committed, hold: bool) -> Result<(), ActError> {
        let meta = &committed.rollout.metadata;
        let held = meta.finalizers.clone().unwrap_or_default();
        let at = held.iter().position(|f| f == FINALIZER);
        let operations = match (hold, at) {
            (true, Some(_)) | (false, None) => return Ok(()),
            (true, None) if held.is_empty() => {
                vec![json!({"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]})]
            }
            (true, None) => {
                vec![json!({"op": "add", "path": "/metadata/finalizers/-", "value": FINALIZER})]
            }
            (false, Some(at)) => {
                let path = format!("/metadata/finalizers/{at}");
                vec![
                    json!({"op": "test", "path": path, "value": FINALIZER}),
                    json!({"op": "remove", "path": path}),
                ]
            }
        };
        let target = Target::of(ROLLOUT, &json!({"metadata": meta}));
        self.patch_rollout(committed, &target, operations).await
    }

    async fn patch_rollout(
        &self,
        committed: &mut Committed,
        target: &Target,
        operations: Vec<Value>,
    ) -> Result<(), ActError> {
        let namespace = committed
            .rollout
            .metadata
            .namespace
            .clone()
            .unwrap_or_default();
        let answer = self.rest.patch_json(&namespace, target, operations).await?;
        self.written.note(&answer);
        committed.rollout = serde_json::from_value(answer)?;
        Ok(())
    }
}

/// Whether the uid is among an object's owners.
fn owned_by(object: &Value, uid: &str) -> bool {
    let owners = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    owners
        .into_iter()
        .flatten()
        .any(|o| o.get("uid").and_then(Value::as_str) == Some(uid))
}
