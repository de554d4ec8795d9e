//! The laws of a Deployment that is adopted, checked at each write: S30 it is paused and marked, and nothing else of it
//! changes; S31 its ReplicaSets change their owner only while it rests; S32 it is resumed, and let go of, only once it has
//! them again.

use serde_json::Value;

use crate::{
    api::{RolloutStatus, names::ADOPTED_BY},
    model::{
        object::{DEPLOYMENT, ObjectRef, REPLICA_SET, Target, annotation_path},
        plan::Action,
        workload::{controller, count, uid},
    },
};

use super::run::Simulation;

impl Simulation {
    /// S30 to S32. A size that is written beside an owner keeps the laws of any other.
    pub(super) fn check_adoption(&mut self, status: &RolloutStatus, action: &Action) {
        let found = match action {
            Action::Patch { target, operations } if target.object.kind == DEPLOYMENT => {
                self.check_deployment(operations)
            }
            Action::Patch { target, operations } if target.object.kind == REPLICA_SET => {
                self.check_owners(status, target, operations)
            }
            Action::Release => self
                .adopted_set()
                .map(|set| format!("S32: the finalizer goes, and {set} is still the Rollout's")),
            _ => None,
        };
        if let Some(what) = found {
            self.timeline.broke(self.now, &what);
        }
    }

    /// A ReplicaSet that the Rollout controls and a Deployment waits for.
    fn adopted_set(&self) -> Option<String> {
        let deployment = self.deployment()?;
        let own = self.cluster.rollout.as_ref()?.metadata.uid.as_deref();
        let sets = self.cluster.objects.iter();
        let mut sets = sets.filter(|(r, v)| r.kind == REPLICA_SET && controller(v) == own);
        let named = |v: &Value| v.to_string().contains(uid(deployment).unwrap_or("none"));
        sets.find(|(_, v)| named(v)).map(|(r, _)| r.name.clone())
    }

    fn deployment(&self) -> Option<&Value> {
        let named = self.cluster.rollout.as_ref()?.spec.workload_ref.as_ref()?;
        let reference = ObjectRef::new(DEPLOYMENT, &named.name);
        self.cluster.objects.get(&reference)
    }

    fn check_deployment(&self, operations: &[Value]) -> Option<String> {
        let path = |o: &Value| o.get("path").and_then(Value::as_str).map(str::to_owned);
        let mark = annotation_path(ADOPTED_BY);
        let ours = [mark.as_str(), "/metadata/annotations", "/spec/paused"];
        let strange = operations
            .iter()
            .filter_map(path)
            .find(|p| !ours.contains(&p.as_str()));
        if let Some(path) = strange {
            return Some(format!("S30: {path} of the Deployment is written"));
        }
        let resumes = |o: &Value| {
            path(o).as_deref() == Some("/spec/paused") && o.get("op") == Some(&"remove".into())
        };
        let resumed = operations.iter().any(resumes);
        let set = self.adopted_set().filter(|_| resumed)?;
        Some(format!(
            "S32: the Deployment is resumed, and {set} is still the Rollout's"
        ))
    }

    fn check_owners(
        &mut self,
        status: &RolloutStatus,
        target: &Target,
        operations: &[Value],
    ) -> Option<String> {
        let value = |path: &str| {
            let of = |o: &&Value| o.get("path").and_then(Value::as_str) == Some(path);
            operations.iter().find(of)?.get("value")
        };
        value("/metadata/ownerReferences")?;
        if let Some(size) = value("/spec/replicas").and_then(Value::as_u64) {
            let size = u32::try_from(size).unwrap_or(0);
            self.check_scale(status, target, size);
        }
        let rests = self.deployment().is_some_and(|d| {
            let paused = d.pointer("/spec/paused") == Some(&true.into());
            paused && count(d, "/status/observedGeneration") == count(d, "/metadata/generation")
        });
        let name = &target.object.name;
        (!rests).then(|| format!("S31: {name} changes its owner while the Deployment is at work"))
    }
}
