//! The Deployment that a Rollout adopts, and its controller: what it makes and scales, and what a pause keeps it from.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    api::{
        Rollout,
        names::{POD_TEMPLATE_HASH, ROLLOUT_LABEL},
    },
    model::{
        object::{DEPLOYMENT, ObjectRef, REPLICA_SET},
        revisions::{Revision, hash},
        workload::{Workload, controller, count, template, uid},
    },
};

use super::{
    Cluster,
    names::with_version,
    pods::{self, PodSet},
    text,
};

/// So long the controller takes to see a change, in milliseconds.
const SEES_AFTER: i64 = 100;

impl Cluster {
    /// A Deployment `app` that is complete, changed by a merge patch.
    pub(in super::super) fn deploy(&mut self, pods: Value, change: &Value, now: Timestamp) {
        let mut deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "app", "namespace": "default", "uid": "uid-deployment"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "app"}}, "template": pods},
        });
        json_patch::merge(&mut deployment, change);
        let set = self.set_of(&deployment, &hash(&deployment, 0));
        self.put(DEPLOYMENT, deployment, now);
        let name = text(&set, "/metadata/name").to_owned();
        self.put(REPLICA_SET, set, now);
        let pods = self.pods.get_mut(&name).into_iter();
        for pod in pods.flat_map(|set: &mut PodSet| &mut set.pods) {
            pod.ready_at = Some(now);
        }
        self.sync_deployments(now);
    }

    /// The ReplicaSet of a Deployment's template.
    fn set_of(&self, deployment: &Value, hash: &str) -> Value {
        let (name, mut pods) = (
            text(deployment, "/metadata/name"),
            template(deployment).into_owned(),
        );
        if let Some(labels) = pods
            .pointer_mut("/metadata/labels")
            .and_then(Value::as_object_mut)
        {
            labels.insert(POD_TEMPLATE_HASH.into(), json!(hash));
        }
        let labels = pods.pointer("/metadata/labels").cloned();
        let number = self
            .objects
            .keys()
            .filter(|o| o.kind == REPLICA_SET)
            .count()
            + 1;
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": format!("{name}-{hash}"), "namespace": "default", "labels": labels,
                "annotations": {"deployment.kubernetes.io/revision": number.to_string()},
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid(deployment),
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "replicas": deployment.pointer("/spec/replicas"), "template": pods,
                "selector": {"matchLabels": {"app": "app", POD_TEMPLATE_HASH: hash}},
            },
        })
    }

    /// What a Rollout refers to, with the ReplicaSets where they are needed.
    pub(super) fn workload(&self, rollout: &Rollout, revisions: &[Revision]) -> Option<Workload> {
        let named = rollout.spec.workload_ref.as_ref()?;
        let reference = ObjectRef::new(DEPLOYMENT, &named.name);
        let mut workload = Workload::of(self.objects.get(&reference).cloned());
        if workload.wants_sets(rollout, revisions) {
            let sets = self.objects.iter().filter(|(r, _)| r.kind == REPLICA_SET);
            workload.keep_sets(rollout, sets.map(|(_, set)| set.clone()));
        }
        Some(workload)
    }

    /// Pods that the Rollout wants, or its Deployment.
    pub fn wanted(&self) -> u32 {
        let adopts = |r: &Rollout| r.spec.workload_ref.is_some();
        let replicas = match &self.rollout {
            Some(rollout) if !adopts(rollout) => rollout.spec.replicas,
            _ => self.filled().map_or(0, |r| r.spec.replicas),
        };
        u32::try_from(replicas).unwrap_or(0)
    }

    /// The Rollout as its Deployment has it.
    pub fn filled(&self) -> Option<Rollout> {
        let mut rollout = self.rollout.clone()?;
        if let Some(workload) = self.workload(&rollout, &[]) {
            workload.fill(&mut rollout, &[]);
        }
        Some(rollout)
    }

    /// The template names another version, wherever it stands.
    pub(in super::super) fn name_version(&mut self, version: &str, now: Timestamp) {
        let named = self
            .rollout
            .as_ref()
            .and_then(|r| r.spec.workload_ref.clone());
        let Some(named) = named else {
            self.edit(|r| r.spec.template = with_version(&r.spec.template, version));
            return;
        };
        let reference = ObjectRef::new(DEPLOYMENT, named.name);
        if let Some(mut deployment) = self.objects.get(&reference).cloned() {
            let pods = with_version(&template(&deployment), version);
            json_patch::merge(&mut deployment, &json!({"spec": {"template": pods}}));
            self.put(DEPLOYMENT, deployment, now);
        }
    }

    /// When the Deployment controller sees something.
    pub(super) fn next_deployment(&self) -> Option<Timestamp> {
        self.deployment_seen
    }

    /// The Deployment controller, and what collects the ReplicaSets of a Deployment that is gone.
    pub(in super::super) fn sync_deployments(&mut self, now: Timestamp) {
        let of = |kind| move |r: &&ObjectRef| r.kind == kind;
        let all: Vec<ObjectRef> = self
            .objects
            .keys()
            .filter(of(DEPLOYMENT))
            .cloned()
            .collect();
        for reference in &all {
            self.sync_deployment(reference, now);
        }
        let uids: Vec<String> = all
            .iter()
            .filter_map(|r| Some(uid(self.objects.get(r)?)?.to_owned()))
            .collect();
        let sets: Vec<ObjectRef> = self
            .objects
            .keys()
            .filter(of(REPLICA_SET))
            .cloned()
            .collect();
        for set in sets {
            self.collect(&set, &uids);
        }
    }

    fn sync_deployment(&mut self, reference: &ObjectRef, now: Timestamp) {
        let Some(deployment) = self.objects.get(reference).cloned() else {
            return;
        };
        let generation = count(&deployment, "/metadata/generation");
        let mut seen = count(&deployment, "/status/observedGeneration");
        if seen < generation {
            let paused = deployment.pointer("/spec/paused") == Some(&json!(true));
            let delay =
                SignedDuration::from_millis(if paused && seen > 0 { SEES_AFTER } else { 0 });
            let at = now.saturating_add(delay).unwrap_or(now);
            let due = *self.deployment_seen.get_or_insert(at);
            if due <= now {
                self.deployment_seen = None;
                seen = generation;
                self.scale_deployment(&deployment, paused, now);
            }
        }
        let owned = self
            .objects
            .values()
            .filter(|v| controller(v).is_some() && controller(v) == uid(&deployment));
        let (mut replicas, mut updated, mut available) = (0, 0, 0);
        for set in owned {
            let pods = self
                .pods
                .get(text(set, "/metadata/name"))
                .cloned()
                .unwrap_or_default();
            let made = pods::count(pods.pods.len());
            replicas += made;
            available += pods.ready(now);
            updated += if template(set) == template(&deployment) {
                made
            } else {
                0
            };
        }
        let status = json!({
            "observedGeneration": seen, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available,
        });
        if deployment.get("status") != Some(&status) {
            let mut new = deployment;
            json_patch::merge(&mut new, &json!({"status": status}));
            self.put(DEPLOYMENT, new, now);
        }
    }

    /// A Deployment that is paused still scales what it has; one that is not has its template run.
    fn scale_deployment(&mut self, deployment: &Value, paused: bool, now: Timestamp) {
        let owned = |v: &&Value| controller(v).is_some() && controller(v) == uid(deployment);
        let owned: Vec<Value> = self.objects.values().filter(owned).cloned().collect();
        let wanted = count(deployment, "/spec/replicas");
        let runs = |set: &Value| template(set) == template(deployment);
        if !paused && !owned.iter().any(runs) {
            let number = u32::try_from(self.pods.len()).unwrap_or(0);
            let made = self.set_of(deployment, &hash(deployment, number));
            self.put(REPLICA_SET, made, now);
        }
        let alone = owned.len() == 1;
        for mut set in owned {
            let size = match paused {
                true if alone => wanted,
                true => continue,
                false if runs(&set) => wanted,
                false => 0,
            };
            if count(&set, "/spec/replicas") != size {
                json_patch::merge(&mut set, &json!({"spec": {"replicas": size}}));
                self.put(REPLICA_SET, set, now);
            }
        }
    }

    /// An owner that is gone is no owner any more; what has none left goes. Of a Rollout's own objects nothing does.
    fn collect(&mut self, reference: &ObjectRef, deployments: &[String]) {
        let Some(set) = self.objects.get_mut(reference) else {
            return;
        };
        let ours = set
            .pointer("/metadata/labels")
            .is_some_and(|l| l.get(ROLLOUT_LABEL).is_some());
        let owners = set
            .pointer_mut("/metadata/ownerReferences")
            .and_then(Value::as_array_mut);
        let Some(owners) = owners else { return };
        let before = owners.len();
        owners.retain(|o| {
            let uid = o.get("uid").and_then(Value::as_str).unwrap_or_default();
            o.get("kind") != Some(&json!("Deployment")) || deployments.iter().any(|d| d == uid)
        });
        if owners.is_empty() && before > 0 && !ours {
            self.objects.remove(reference);
            self.pods.remove(&reference.name);
        }
    }
}
