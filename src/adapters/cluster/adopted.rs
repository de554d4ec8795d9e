//! The Deployment that a Rollout refers to, as it is seen.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{api::DynamicObject, core::Selector};
use serde_json::Value;

use crate::{
    api::Rollout,
    model::{
        object::{DEPLOYMENT, REPLICA_SET},
        revisions::Revision,
        workload::Workload,
    },
};

use super::{
    Cluster,
    observe::{ObserveError, Pods},
    world::{mirror::Key, views},
};

impl Cluster {
    /// The Deployment that a Rollout refers to. Its ReplicaSets do not carry our label, so they are read live, and
    /// seldom.
    pub(super) async fn workload(
        &self,
        key: &Key,
        name: &str,
        rollout: &Rollout,
        revisions: &[Revision],
        live: bool,
    ) -> Result<Workload, ObserveError> {
        let deployment = match live {
            true => self.rest.find(DEPLOYMENT, &key.namespace, name).await?,
            false => {
                let at = Key::new(key.namespace.clone(), name);
                let kept = self.world.deployments.mirror.get(&at);
                let read = kept.map(|kept| {
                    self.fresh(DEPLOYMENT.kind, &kept)?;
                    Ok::<Value, ObserveError>(kept.value.read()?)
                });
                read.transpose()?
            }
        };
        let mut workload = Workload::of(deployment);
        if workload.wants_sets(rollout, revisions) {
            let selector = workload.deployment.as_ref();
            let selector = selector.and_then(|d| d.pointer("/spec/selector").cloned());
            let selector: LabelSelector =
                serde_json::from_value(selector.unwrap_or_default()).unwrap_or_default();
            let selector = Selector::try_from(selector).map(|s| s.to_string());
            let selector = selector.unwrap_or_default();
            let sets = self
                .rest
                .list(REPLICA_SET, &key.namespace, &selector)
                .await?;
            workload.keep_sets(rollout, sets);
        }
        Ok(workload)
    }
}

/// What is read of a Deployment's ReplicaSets overtakes what is kept of those that are the Rollout's: one that was
/// taken over a moment ago may not be told of yet.
pub(super) fn adopted(workload: &Workload, uid: &str, pods: &mut Pods, revisions: &mut [Revision]) {
    for set in &workload.sets {
        let object = serde_json::from_value::<DynamicObject>(set.clone()).ok();
        let read = object.and_then(|o| views::replica_set(o).ok().flatten());
        if let Some(set) = read.filter(|s| s.value.owner == uid) {
            pods.sets.insert(set.value.hash, set.value.view);
        }
    }
    for revision in revisions {
        revision.replica_set = pods.sets.get(&revision.hash).cloned();
    }
}
