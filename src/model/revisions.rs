//! Revisions: what a template became when it was first seen, and the pods that run it.

use jiff::Timestamp;
use serde_json::Value;

use crate::api::{names::reason, rollout::FailFastReason};

use super::{
    object::{ObjectRef, REPLICA_SET, Target},
    observed::Trouble,
};

/// The algorithm that names revisions. It stands in each ControllerRevision; the name alone
/// depends on it, never the question whether a template is new.
pub const HASH_ALGORITHM: &str = "fnv1a64/1";

/// A name for a template: ten characters that make no words.
///
/// FNV-1a over the JSON with sorted keys, then `collision` (0 for the first try).
pub fn hash(template: &Value, collision: u32) -> String {
    const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    let text = format!("{template}#{collision}");
    for byte in text.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let mut name = String::new();
    for _ in 0..10 {
        let at = usize::try_from(state % 27).unwrap_or(0);
        name.push(char::from(SAFE.get(at).copied().unwrap_or(b'x')));
        state /= 27;
    }
    name
}

/// A recorded revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// Its name's variable part, and the label of its pods.
    pub hash: String,
    /// Counts up with each new revision.
    pub number: i64,
    /// The user's pod template as it was written.
    pub template: Value,
    /// What became of it: `Promoted`, or `RolledBack`, `Aborted`, `Superseded`, `Reverted` and why; empty while undecided.
    pub verdict: String,
    /// By whom or by what that came about; none where that is not known.
    pub verdict_by: Option<String>,
    /// When it was promoted last; none where that is not known.
    pub promoted_at: Option<Timestamp>,
    /// The hash of the template's revision, in whose place this one is deployed.
    pub pinned_over: Option<String>,
    /// The ControllerRevision: its uid and resourceVersion.
    pub uid: String,
    /// The ControllerRevision's resourceVersion.
    pub resource_version: String,
    /// Whether the ControllerRevision has annotations.
    pub has_annotations: bool,
    /// Its ReplicaSet, once there is one.
    pub replica_set: Option<ReplicaSetView>,
}

/// What became of a revision, as its record is to tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What: `Promoted`, or `RolledBack`, `Aborted`, `Superseded`, `Reverted` and why.
    pub verdict: String,
    /// By whom or by what; none where that is not known.
    pub by: Option<String>,
}

/// A ReplicaSet, as far as deciding needs it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaSetView {
    /// Name.
    pub name: String,
    /// uid.
    pub uid: String,
    /// resourceVersion.
    pub resource_version: String,
    /// Whether it has annotations.
    pub has_annotations: bool,
    /// The decision that wrote it last.
    pub decision: i64,
    /// Whether its controller has seen the last change of its size.
    pub seen: bool,
    /// Pods wanted.
    pub desired: u32,
    /// Pods that exist.
    pub current: u32,
    /// Pods that are ready.
    pub ready: u32,
    /// Pods that are available.
    pub available: u32,
    /// `minReadySeconds` as it stands.
    pub min_ready: i32,
    /// Why its controller cannot make its pods, as the API server says it.
    pub refused: Option<String>,
}

impl ReplicaSetView {
    /// The ReplicaSet as it was read.
    pub fn target(&self) -> Target {
        Target {
            object: ObjectRef::new(REPLICA_SET, &self.name),
            uid: self.uid.clone(),
            resource_version: self.resource_version.clone(),
        }
    }
    /// Why its pods are not made, where they are those of the revision `hash`.
    pub fn trouble(&self, hash: &str) -> Option<Trouble> {
        let message = self.refused.as_deref()?;
        // Each time it is another pod that is refused.
        let message = message
            .split_once("is forbidden: ")
            .map_or(message, |(_, why)| why);
        Some(Trouble {
            hash: hash.to_owned(),
            what: format!("ReplicaSet {}", self.name),
            reason: FailFastReason::FailedCreate,
            message: message.to_owned(),
        })
    }
}

impl Revision {
    /// Whether it was promoted, and nothing was held against it since.
    pub fn good(&self) -> bool {
        self.verdict == reason::PROMOTED
    }
    /// Outcome and reason where it was given up for what it is, and not for another template.
    pub fn given_up(&self) -> Option<(&str, &str)> {
        let (outcome, why) = self.verdict.split_once(": ")?;
        [reason::ROLLED_BACK, reason::ABORTED]
            .contains(&outcome)
            .then_some((outcome, why))
    }
    /// Whether its record tells it.
    pub fn tells(&self, judged: &Judged) -> bool {
        self.verdict == judged.verdict && (judged.by.is_none() || judged.by == self.verdict_by)
    }
    /// Its place among the ways back from the stable revision, which has this number: an undo leads to the
    /// greatest first. None where it leads nowhere: it is not good, or newer and may be what was gone back from.
    /// Those of which it is not known when they were promoted come before the others.
    pub fn way_back(&self, stable: i64) -> Option<(Option<Timestamp>, i64)> {
        (self.good() && self.number < stable).then_some((self.promoted_at, self.number))
    }
    /// Pods that count as available: none while a change of size is unseen, never more than wanted.
    pub fn available(&self) -> u32 {
        self.replica_set.as_ref().map_or(0, |r| {
            if r.seen {
                r.available.min(r.desired)
            } else {
                0
            }
        })
    }
    /// Pods that are known not to be available: none while a change of size is unseen.
    pub fn sick(&self) -> u32 {
        self.replica_set.as_ref().map_or(0, |r| {
            if r.seen {
                r.desired.saturating_sub(r.available)
            } else {
                0
            }
        })
    }
    /// Pods wanted.
    pub fn desired(&self) -> u32 {
        self.replica_set.as_ref().map_or(0, |r| r.desired)
    }
    /// Pods that exist.
    pub fn current(&self) -> u32 {
        self.replica_set.as_ref().map_or(0, |r| r.current)
    }
    /// Pods that are ready, never more than wanted.
    pub fn ready(&self) -> u32 {
        self.replica_set
            .as_ref()
            .map_or(0, |r| r.ready.min(r.desired))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_name_does_not_depend_on_the_order_of_fields() {
        let a: serde_json::Value =
            serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).expect("json");
        let b: serde_json::Value =
            serde_json::from_str(r#"{"b":{"d":3,"c":2},"a":1}"#).expect("json");
        assert_eq!(super::hash(&a, 0), super::hash(&b, 0));
        assert_ne!(super::hash(&a, 0), super::hash(&a, 1));
        assert_ne!(super::hash(&a, 0), super::hash(&json!({"a": 2}), 0));
        assert_eq!(super::hash(&a, 0).len(), 10);
    }
}
