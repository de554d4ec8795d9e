//! Plan: the next status, what to do about the world, and when to look again.

use std::{ops::Range, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use crate::api::{
    RolloutStatus,
    names::{DECISION, reason},
};

use super::object::{ObjectRef, Target, annotate};

/// What to do next. The status is committed first; only then is anything done.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The status to commit.
    pub status: RolloutStatus,
    /// What to do once it is committed: any number of harmless actions and at most one hazardous
    /// intent.
    pub actions: Vec<Action>,
    /// Which of the actions are the hazardous intent's.
    pub hazardous: Range<usize>,
    /// When to look again if nothing happens.
    pub requeue: Requeue,
    /// The cached view is not good enough for this decision: look again, live, and plan anew.
    pub look_closer: bool,
}

/// The six ways to touch the world. The cluster and the simulator implement these and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create an object whose name derives from its content: that it exists already is success.
    Create {
        /// Which.
        object: ObjectRef,
        /// Its JSON.
        value: Value,
    },
    /// JSON patch of an object as it was read: refused if it has changed since.
    Patch {
        /// Which, as it was read.
        target: Target,
        /// The operations, the guard on the resourceVersion apart.
        operations: Vec<Value>,
    },
    /// Set a ReplicaSet's size, absolutely: refused if it has changed since it was read.
    Scale {
        /// Which, as it was read.
        target: Target,
        /// The size.
        replicas: u32,
        /// The decision's number, to be written beside it.
        decision: i64,
        /// Whether the ReplicaSet has annotations.
        has_annotations: bool,
    },
    /// Delete an object as it was read.
    Delete {
        /// Which, as it was read.
        target: Target,
    },
    /// Put our finalizer on the Rollout.
    Claim,
    /// Take our finalizer off the Rollout.
    Release,
}

impl Action {
    /// The object that it changes as it was read; none for what is made, and for the finalizer.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Patch { target, .. } | Self::Scale { target, .. } | Self::Delete { target } => {
                Some(target)
            }
            Self::Create { .. } | Self::Claim | Self::Release => None,
        }
    }
    /// Writes a decision's number and nothing else: a delayed write of the object as it was read fails.
    pub fn stamp(target: Target, has_annotations: bool, decision: i64) -> Self {
        Self::Patch {
            target,
            operations: annotate(has_annotations, DECISION, &decision.to_string()),
        }
    }
}

/// An action and whether it is one of the hazardous ones: raising a weight, lowering replicas,
/// pointing a Service or a backend elsewhere, deleting.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// The action or actions: one hazardous intent may concern several routes.
    pub actions: Vec<Action>,
    /// What it does, where it is hazardous.
    pub hazard: Option<Hazard>,
}

/// A hazardous intent, for the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hazard {
    /// In a word; none where it is not worth an entry.
    pub reason: Option<&'static str>,
    /// In a sentence.
    pub what: String,
    /// The share of the traffic that it writes, in millionths.
    pub share: Option<u32>,
    /// The foreign change of the traffic that it puts right, in a sentence.
    pub repair: Option<String>,
    /// Whether it puts backends into routes that only the same routing takes out again.
    pub binds: bool,
}

/// A Service points to a revision: why and what, for the history.
pub fn switched(service: &str, hash: &str) -> (&'static str, String) {
    let what = format!("point Service {service} to revision {hash}");
    (reason::SERVICE_SWITCHED, what)
}

impl Intent {
    /// A harmless action.
    pub fn harmless(action: Action) -> Self {
        Self {
            actions: vec![action],
            hazard: None,
        }
    }
    /// A hazardous one.
    pub fn hazardous(
        actions: Vec<Action>,
        reason: Option<&'static str>,
        what: impl Into<String>,
    ) -> Self {
        Self {
            actions,
            hazard: Some(Hazard {
                reason,
                what: what.into(),
                share: None,
                repair: None,
                binds: false,
            }),
        }
    }
}

/// Numbers of decisions: the next hazardous one, and the fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// The number that the next hazardous decision will have.
    pub next: i64,
    /// What was touched by a cancelled decision carries at least this number.
    pub fence: i64,
}

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Requeue {
    /// At once: the status moved on and may allow the next thing.
    Now,
    /// At a time.
    At(Timestamp),
    /// When something changes, and after this time at the latest, in case a change was missed.
    OnChange(Duration),
}
