//! The Deployment that a Rollout refers to, and its ReplicaSets, as far as deciding needs them.

mod objects;

use serde_json::Value;

use crate::api::{Rollout, names::ADOPTED_BY};

use super::{object::annotation, observed::Current, revisions::Revision};

pub use objects::{controller, count, set_hash, set_name, template, uid};

/// Where the Deployment controller counts up with each rollout.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The Deployment that a Rollout refers to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    /// It, whole; none where it is not there, or is being deleted.
    pub deployment: Option<Value>,
    /// Its ReplicaSets, and the Rollout's, whole and read live. Empty where nobody needs them.
    pub sets: Vec<Value>,
}

impl Workload {
    /// That there is a Deployment, or none. One that is being deleted has nothing to give and keeps nothing.
    pub fn of(deployment: Option<Value>) -> Self {
        let deleted = |d: &Value| d.pointer("/metadata/deletionTimestamp").is_some();
        Self {
            deployment: deployment.filter(|d| !deleted(d)),
            sets: vec![],
        }
    }

    /// Whether its ReplicaSets must be looked at: before a revision is stable, while they are handed back, and
    /// where the Deployment has pods that are not the Rollout's.
    pub fn wants_sets(&self, rollout: &Rollout, revisions: &[Revision]) -> bool {
        let Some(deployment) = &self.deployment else {
            return false;
        };
        let own = count(deployment, "/status/replicas") > 0;
        let deleted = rollout.metadata.deletion_timestamp.is_some();
        deleted || own || !known(rollout, revisions) || !self.rests(rollout)
    }

    /// Keeps of some ReplicaSets those that the Deployment or the Rollout controls.
    pub fn keep_sets(&mut self, rollout: &Rollout, sets: impl IntoIterator<Item = Value>) {
        let deployment = self.deployment.as_ref().and_then(uid);
        let owners = [deployment, rollout.metadata.uid.as_deref()];
        let kept = |set: &Value| controller(set).is_some_and(|uid| owners.contains(&Some(uid)));
        let sets: Vec<Value> = sets.into_iter().filter(kept).collect();
        self.sets = sets;
    }

    /// Whose Deployment it is, by the mark on it.
    pub fn adopted_by(&self) -> Option<&str> {
        annotation(self.deployment.as_ref()?, ADOPTED_BY)
    }

    /// Whether the Deployment carries the Rollout's mark.
    pub fn marked(&self, rollout: &Rollout) -> bool {
        self.adopted_by().is_some() && self.adopted_by() == rollout.metadata.name.as_deref()
    }

    /// Whether the Deployment is paused.
    pub fn paused(&self) -> bool {
        let paused = self.deployment.as_ref().map(|d| d.pointer("/spec/paused"));
        paused.flatten().and_then(Value::as_bool) == Some(true)
    }

    /// Whether its controller has seen the last change of it.
    pub fn seen(&self) -> bool {
        self.deployment.as_ref().is_some_and(|d| {
            count(d, "/status/observedGeneration") >= count(d, "/metadata/generation")
        })
    }

    /// Whether it carries the mark, and its controller knows that it is paused.
    pub fn rests(&self, rollout: &Rollout) -> bool {
        self.marked(rollout) && self.paused() && self.seen()
    }

    /// The ReplicaSets that the Deployment controls.
    pub fn theirs(&self) -> impl Iterator<Item = &Value> {
        let uid = self.deployment.as_ref().and_then(uid);
        self.sets.iter().filter(move |s| controller(s) == uid)
    }

    /// The ReplicaSets that the Rollout controls.
    pub fn ours<'a>(&'a self, rollout: &'a Rollout) -> impl Iterator<Item = &'a Value> {
        let uid = rollout.metadata.uid.as_deref();
        let ours = move |s: &&Value| uid.is_some() && controller(s) == uid;
        self.sets.iter().filter(ours)
    }

    /// The one ReplicaSet that runs it; where no pods are wanted, the newest.
    pub fn active(&self) -> Option<&Value> {
        let mut running = self.sets.iter().filter(|s| count(s, "/spec/replicas") > 0);
        let Some(first) = running.next() else {
            let number = |s: &&Value| annotation(s, REVISION).and_then(|n| n.parse::<u64>().ok());
            return self.sets.iter().max_by_key(number);
        };
        running.next().is_none().then_some(first)
    }

    /// Which revision the template describes, where no dry run tells it: none before the Deployment is adopted,
    /// and what runs then is the first.
    pub fn current(&self, rollout: &Rollout, revisions: &[Revision]) -> Option<Current> {
        if known(rollout, revisions) {
            return None;
        }
        let ours = |active: &&Value| controller(active) == rollout.metadata.uid.as_deref();
        let adopted = self.rests(rollout) && self.theirs().next().is_none();
        let active = self.active().filter(ours).filter(|_| adopted);
        let first = active.and_then(set_hash);
        Some(first.map_or(Current::Unknown, |hash| {
            let recorded = revisions.iter().any(|r| r.hash == hash);
            match recorded {
                true => Current::Recorded(hash.to_owned()),
                false => Current::New(hash.to_owned()),
            }
        }))
    }

    /// Puts into a Rollout what its Deployment says, so that it reads like any other. Nothing of that is ever written.
    pub fn fill(&self, rollout: &mut Rollout, revisions: &[Revision]) {
        let Some(deployment) = &self.deployment else {
            remember(rollout, revisions);
            return;
        };
        // What runs is the first revision, whatever the Deployment says by now.
        let first = self.active().filter(|_| !known(rollout, revisions));
        let spec = &mut rollout.spec;
        spec.template = template(first.unwrap_or(deployment)).into_owned();
        let selector = deployment.pointer("/spec/selector").cloned();
        spec.selector = serde_json::from_value(selector.unwrap_or_default()).unwrap_or_default();
        let number = |path: &str| deployment.pointer(path).and_then(Value::as_i64);
        let int = |path: &str| number(path).and_then(|n| i32::try_from(n).ok());
        spec.replicas = int("/spec/replicas").unwrap_or(1);
        spec.min_ready_seconds = spec.min_ready_seconds.or(int("/spec/minReadySeconds"));
    }
}

/// The Deployment is not there: what it said last stands in, so that what is in flight finds its way back.
fn remember(rollout: &mut Rollout, revisions: &[Revision]) {
    let status = rollout.status.as_ref();
    let of = |hash: Option<&String>| revisions.iter().find(|r| hash == Some(&r.hash));
    let stable = of(status.and_then(|s| s.stable_revision.as_ref()));
    let current = of(status.and_then(|s| s.current_revision.as_ref()));
    let template = current.or(stable).map(|r| r.template.clone());
    let replicas = stable.map_or(0, Revision::desired);
    rollout.spec.template = template.unwrap_or_default();
    rollout.spec.replicas = i32::try_from(replicas).unwrap_or(i32::MAX);
}

/// Whether a revision is or was stable: from then on the Deployment's template counts.
pub fn known(rollout: &Rollout, revisions: &[Revision]) -> bool {
    let status = rollout.status.as_ref();
    status.is_some_and(|s| s.stable_revision.is_some()) || revisions.iter().any(Revision::good)
}
