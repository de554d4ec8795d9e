//! Revisions: what a template became when it was first seen, and the pods that run it.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::{
    Rollout,
    names::{RESTARTED_AT, reason},
    rollout::FailFastReason,
};

use super::{
    object::{ObjectRef, REPLICA_SET, Target, annotation},
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

/// The template that is asked for: the one that is written, and when its pods were last to be replaced by
/// fresh ones. It is no part of the spec, so that no tool finds it there and takes it away.
pub fn asked<'a>(rollout: &'a Rollout, revisions: &[Revision]) -> Cow<'a, Value> {
    let written = &rollout.spec.template;
    let Some(at) = restarted_at(rollout, revisions) else {
        return Cow::Borrowed(written);
    };
    // Another one that is recorded is not what was restarted: who goes back to it by an undo, and then by the
    // spec, has it already.
    let word = word(at);
    let made = revisions.iter().find(|r| told(r) == Some(&word));
    let other = |r: &Revision| r.template == *written && made.is_some_and(|m| !r.restarts(m));
    match revisions.iter().any(other) {
        true => Cow::Borrowed(written),
        false => Cow::Owned(restarted(written, at)),
    }
}

/// A time as it stands in a template.
fn word(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// What a revision's template tells of a restart.
fn told(revision: &Revision) -> Option<&str> {
    annotation(&revision.template, RESTARTED_AT)
}

/// When a restart was last asked for. A status that is lost has forgotten it, and the newest record that
/// tells of one has not.
pub fn restarted_at(rollout: &Rollout, revisions: &[Revision]) -> Option<Timestamp> {
    let status = rollout.status.as_ref();
    if let Some(at) = status.and_then(|s| s.restarted_at.as_ref()) {
        return Some(at.0);
    }
    let known = status.is_some_and(|s| s.attempt.is_some() || s.stable_revision.is_some());
    let mut newest = revisions.iter().rev().filter(|_| !known);
    newest.find_map(|r| told(r)?.parse().ok())
}

/// The map in a field, made where there is none.
fn map<'a>(parent: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    let value = parent.as_object_mut()?.entry(field).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

/// A template whose pods are others than before that time.
fn restarted(template: &Value, at: Timestamp) -> Value {
    let mut template = template.clone();
    map(&mut template, "metadata");
    let metadata = template.get_mut("metadata");
    if let Some(annotations) = metadata.and_then(|m| map(m, "annotations")) {
        annotations.insert(RESTARTED_AT.to_owned(), word(at).into());
    }
    template
}

/// A template as it would be without any restart.
fn unrestarted(template: &Value) -> Value {
    let mut template = template.clone();
    let metadata = template.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(metadata) = metadata {
        let annotations = metadata.get_mut("annotations");
        if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
            annotations.remove(RESTARTED_AT);
        }
        let empty = |v: &Value| v.is_null() || v.as_object().is_some_and(Map::is_empty);
        if metadata.get("annotations").is_some_and(empty) {
            metadata.remove("annotations");
        }
    }
    template
}

/// A recorded revision.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// Whether its pods are fresh by a restart.
    pub fn restarted(&self) -> bool {
        told(self).is_some()
    }
    /// Whether it is the other one after a restart, or before one: nothing else differs.
    pub fn restarts(&self, other: &Self) -> bool {
        self.hash != other.hash
            && (self.restarted() || other.restarted())
            && unrestarted(&self.template) == unrestarted(&other.template)
    }
    /// Its place among the ways back from the stable revision: an undo leads to the greatest first. None where it
    /// leads nowhere: it is not good, or newer and may be what was gone back from, or the same but for a restart.
    /// Those of which it is not known when they were promoted come before the others.
    pub fn way_back(&self, stable: Option<&Self>) -> Option<(Option<Timestamp>, i64)> {
        let older = |s: &Self| self.number < s.number && !self.restarts(s);
        (self.good() && stable.is_some_and(older)).then_some((self.promoted_at, self.number))
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
    use super::*;

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

    /// A restart adds one annotation, whatever stood there, and leaves no trace when it is taken off again.
    #[test]
    fn a_restart_is_an_annotation() {
        let at = "2026-01-01T00:00:01.9Z".parse().expect("a time");
        let annotated = |annotations: &Value| json!({"metadata": {"labels": {"app": "app"}, "annotations": annotations}, "spec": {}});
        let bare = json!({"metadata": {"labels": {"app": "app"}}, "spec": {}});
        let told = json!({"serin.dev/restarted-at": "2026-01-01T00:00:01Z"});
        for written in [&bare, &annotated(&Value::Null), &annotated(&json!({}))] {
            assert_eq!(restarted(written, at), annotated(&told));
            assert_eq!(unrestarted(written), bare);
        }
        assert_eq!(unrestarted(&annotated(&told)), bare);
        let theirs = annotated(&json!({"theirs": "x"}));
        let both = json!({"theirs": "x", "serin.dev/restarted-at": "2026-01-01T00:00:01Z"});
        assert_eq!(restarted(&theirs, at), annotated(&both));
        let later = "2026-01-02T00:00:00Z".parse().expect("a time");
        let again = restarted(&restarted(&theirs, at), later);
        assert_ne!(again, restarted(&theirs, at));
        assert_eq!(unrestarted(&again), theirs);
    }

    fn recorded(hash: &str, template: &Value) -> Revision {
        Revision {
            hash: hash.to_owned(),
            number: 1,
            template: template.clone(),
            ..Revision::default()
        }
    }

    /// What was restarted is asked for with its time, and so is what is new; what was recorded before is not.
    #[test]
    fn a_restart_is_of_one_revision() {
        let at = "2026-01-01T00:00:01Z".parse().expect("a time");
        let template =
            |image: &str| json!({"metadata": {}, "spec": {"containers": [{"image": image}]}});
        let rollout = |image: &str, status: Value| -> Rollout {
            serde_json::from_value(json!({"metadata": {"name": "app"}, "status": status,
                "spec": {"selector": {}, "template": template(image), "strategy": {}}}))
            .expect("a Rollout")
        };
        let known = json!({"stableRevision": "b", "restartedAt": at});
        let (a, b) = (recorded("a", &template("a")), recorded("b", &template("b")));
        let fresh = recorded("fresh", &restarted(&template("b"), at));
        let before = [a.clone(), b.clone()];
        assert_eq!(
            *asked(&rollout("b", known.clone()), &before),
            fresh.template
        );
        let after = [a, b, fresh];
        for (image, restarts) in [("a", false), ("b", true), ("c", true)] {
            let rollout = rollout(image, known.clone());
            let wanted = match restarts {
                true => restarted(&template(image), at),
                false => template(image),
            };
            assert_eq!(*asked(&rollout, &after), wanted, "{image}");
        }
        // A lost status has forgotten it; one that never knew of any has not.
        let lost = rollout("b", Value::Null);
        assert_eq!(restarted_at(&lost, &after), Some(at));
        let never = rollout("b", json!({"stableRevision": "b"}));
        assert_eq!(restarted_at(&never, &after), None);
    }
}
