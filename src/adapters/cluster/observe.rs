//! Observe: one look at a Rollout and everything it refers to.

use std::{collections::BTreeMap, sync::Arc};

use kube::api::DynamicObject;
use serde_json::Value;
use thiserror::Error;

use crate::{
    api::{AnalysisRun, Rollout},
    model::{
        object::{DEPLOYMENT, Objects, REPLICA_SET, SERVICE},
        observed::{Observed, References, TemplateKey, Trouble},
        revisions::{ReplicaSetView, Revision},
        spec::Spec,
    },
};

use super::{
    Cluster,
    adopted::adopted,
    current,
    rest::RestError,
    world::{
        mirror::{Entry, Key},
        pods,
        text::TextError,
        views::{self, OwnRollout},
    },
    written::Made,
};

/// Why there is nothing to decide from.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// Something has not been listed yet, so its absence means nothing.
    #[error("not listed yet: {0}")]
    NotReady(String),
    /// The cache does not show our last write yet.
    #[error("{0}: the cache does not show the last write yet")]
    Stale(String),
    /// A live read failed.
    #[error("cannot read what is needed")]
    Live(#[from] RestError),
    /// What was kept of an object is no such object.
    #[error("cannot read what was kept")]
    Kept(#[from] TextError),
}

impl ObserveError {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotReady(_) => "notReady",
            Self::Stale(_) => "stale",
            Self::Live(e) => e.kind(),
            Self::Kept(_) => "kept",
        }
    }
}

/// What there is of a Rollout's pods.
pub(super) struct Pods {
    pub(super) sets: BTreeMap<String, ReplicaSetView>,
    endpoints: BTreeMap<String, BTreeMap<String, u32>>,
}

impl Cluster {
    /// A Rollout as the cache has it; none once it is gone.
    pub fn rollout(&self, key: &Key) -> Option<Arc<Entry<OwnRollout>>> {
        self.world.rollouts.get(key)
    }

    /// An AnalysisRun as the cache has it; none once it is gone.
    pub fn run(&self, key: &Key) -> Result<Option<AnalysisRun>, ObserveError> {
        let Some(entry) = self.world.runs.get(key) else {
            return Ok(None);
        };
        self.fresh("AnalysisRun", &entry)?;
        Ok(Some(entry.value.read()?))
    }

    /// The Rollout that an AnalysisRun belongs to, as the cache has it; none where it is gone.
    pub fn owner_of(&self, key: &Key, run: &AnalysisRun) -> Result<Option<Rollout>, ObserveError> {
        let owner = Key::new(key.namespace.clone(), run.spec.rollout.as_str());
        let owners = run.metadata.owner_references.iter().flatten();
        let found = self.rollout(&owner);
        let found = found.filter(|entry| owners.into_iter().any(|o| o.uid == entry.uid));
        Ok(found.map(|entry| entry.value.read()).transpose()?)
    }

    /// One look through the cache; none once the Rollout is gone.
    pub async fn observe(&self, key: &Key) -> Result<Option<Observed>, ObserveError> {
        self.look(key, false).await
    }

    /// One look for which pods, endpoints and routes are read live.
    pub async fn observe_live(&self, key: &Key) -> Result<Option<Observed>, ObserveError> {
        self.look(key, true).await
    }

    async fn look(&self, key: &Key, live: bool) -> Result<Option<Observed>, ObserveError> {
        let Some(entry) = self.world.rollouts.get(key) else {
            return Ok(None);
        };
        self.fresh("Rollout", &entry)?;
        let mut rollout = entry.value.read()?;
        let references = (self.references)(&rollout);
        self.ready_for(&key.namespace, &references)?;

        let mut pods = if live {
            self.pods_live(key, &entry.uid, &rollout).await?
        } else {
            self.pods_cached(key, &entry.uid, &rollout).await?
        };
        let mut revisions = self.revisions(&entry.uid, &pods)?;
        let workload = match &references.deployment {
            Some(name) => Some(self.workload(key, name, &rollout, &revisions, live).await?),
            None => None,
        };
        if let Some(workload) = &workload {
            adopted(workload, &entry.uid, &mut pods, &mut revisions);
            workload.fill(&mut rollout, &revisions);
        }
        let adopts = workload.as_ref();
        let current =
            current::current(&self.rest, &self.memo, &rollout, &revisions, adopts).await?;
        let mut runs = vec![];
        for run in self.world.runs.find(&entry.uid) {
            self.fresh("AnalysisRun", &run)?;
            runs.push(run.value.read()?);
        }
        let services = self.services(&key.namespace, &references)?;
        self.all_made(&entry, &references, &pods, &revisions, &services, &runs)?;
        Ok(Some(Observed {
            current,
            services,
            endpoints: pods.endpoints,
            routes: if live {
                self.routes_live(&key.namespace, &references).await?
            } else {
                self.routes(&key.namespace, &references)?
            },
            runs,
            templates: self.templates(&key.namespace, &references),
            workload,
            troubles: self.troubles(&pods.sets),
            refused: None,
            rollout,
            revisions,
            live,
        }))
    }

    /// Refuses a cached object that is older than our last write to it.
    pub(super) fn fresh<T>(&self, kind: &str, entry: &Entry<T>) -> Result<(), ObserveError> {
        if self.written.stale(&entry.uid, &entry.version) {
            return Err(ObserveError::Stale(format!("{kind} {}", entry.key)));
        }
        Ok(())
    }

    /// Refuses a look that lacks an object which we have made. A Service that is not referred to is
    /// in no look.
    fn all_made(
        &self,
        rollout: &Entry<OwnRollout>,
        references: &References,
        pods: &Pods,
        revisions: &[Revision],
        services: &BTreeMap<String, Value>,
        runs: &[AnalysisRun],
    ) -> Result<(), ObserveError> {
        let seen = || {
            let sets = pods.sets.values().map(|s| s.uid.as_str());
            let revisions = revisions.iter().map(|r| r.uid.as_str());
            let services = services.values();
            let services = services.filter_map(|s| s.pointer("/metadata/uid")?.as_str());
            let runs = runs.iter().filter_map(|r| r.metadata.uid.as_deref());
            sets.chain(revisions).chain(services).chain(runs).collect()
        };
        let looked_up =
            |made: &Made| made.kind != SERVICE.kind || references.services.contains(&made.name);
        match self.written.lacking(&rollout.uid, seen, looked_up) {
            Some(made) => Err(ObserveError::Stale(made)),
            None => Ok(()),
        }
    }

    fn ready_for(&self, namespace: &str, references: &References) -> Result<(), ObserveError> {
        let mut lacking = self.world.lacking_in(namespace);
        if references.templates.iter().any(|t| t.cluster) && !self.world.cluster_templates.shows("")
        {
            lacking.push("ClusterAnalysisTemplate");
        }
        if references.deployment.is_some() && !self.world.deployments.shows(namespace) {
            lacking.push(DEPLOYMENT.kind);
        }
        for reference in &references.routes {
            let kept = self.world.routes.get(&reference.kind);
            if kept.is_none_or(|k| !k.shows(namespace)) {
                lacking.push(reference.kind.kind);
            }
        }
        if lacking.is_empty() {
            Ok(())
        } else {
            Err(ObserveError::NotReady(lacking.join(", ")))
        }
    }

    async fn pods_cached(
        &self,
        key: &Key,
        uid: &str,
        rollout: &Rollout,
    ) -> Result<Pods, ObserveError> {
        let mut sets = BTreeMap::new();
        for set in self
            .world
            .sets
            .find(uid)
            .iter()
            .filter(|s| s.value.owner == uid)
        {
            self.fresh("ReplicaSet", set)?;
            sets.insert(set.value.hash.clone(), set.value.view.clone());
        }
        let mut endpoints = BTreeMap::new();
        for service in ways(rollout).into_iter().filter(|w| !w.lent) {
            let pods: Vec<String> = if service.shared {
                self.slices_live(&key.namespace, &service.name).await?
            } else {
                let slices =
                    self.world
                        .slices
                        .find(&views::word("slice", &key.namespace, &service.name));
                slices.iter().flat_map(|s| s.value.pods.clone()).collect()
            };
            endpoints.insert(service.name, count(&pods, &sets));
        }
        Ok(Pods { sets, endpoints })
    }

    async fn pods_live(
        &self,
        key: &Key,
        uid: &str,
        rollout: &Rollout,
    ) -> Result<Pods, ObserveError> {
        let selector = format!("{}={}", crate::api::names::ROLLOUT_LABEL, key.name);
        let known = || {
            let known = self.world.sets.find(uid);
            let ours = known.iter().filter(|s| s.value.owner == uid);
            ours.map(|s| s.value.view.clone()).collect::<Vec<_>>()
        };
        let before = known();
        let mut sets = BTreeMap::new();
        for value in self
            .rest
            .list(REPLICA_SET, &key.namespace, &selector)
            .await?
        {
            let object = serde_json::from_value::<DynamicObject>(value).ok();
            let read = object.and_then(|o| views::replica_set(o).ok().flatten());
            if let Some(set) = read.filter(|s| s.value.owner == uid) {
                sets.insert(set.value.hash, set.value.view);
            }
        }
        let mut endpoints = BTreeMap::new();
        for service in ways(rollout) {
            let pods = self.slices_live(&key.namespace, &service.name).await?;
            endpoints.insert(service.name, count(&pods, &sets));
        }
        overtake(&mut sets, &before, &known());
        Ok(Pods { sets, endpoints })
    }

    async fn slices_live(&self, namespace: &str, service: &str) -> Result<Vec<String>, RestError> {
        let selector = format!("kubernetes.io/service-name={service}");
        let slices = self
            .rest
            .list(super::world::stores::ENDPOINT_SLICE, namespace, &selector)
            .await?;
        Ok(slices.iter().flat_map(pods::ready_pods).collect())
    }

    /// The recorded revisions with their ReplicaSets, oldest first.
    fn revisions(&self, uid: &str, pods: &Pods) -> Result<Vec<Revision>, ObserveError> {
        let mut revisions = vec![];
        for entry in self.world.revisions.find(uid) {
            self.fresh("ControllerRevision", &entry)?;
            let mut revision = entry.value.revision.clone();
            revision.template = entry.value.template.read()?;
            revision.replica_set = pods.sets.get(&revision.hash).cloned();
            revisions.push(revision);
        }
        revisions.sort_by(|a, b| (a.number, &a.hash).cmp(&(b.number, &b.hash)));
        Ok(revisions)
    }

    fn services(
        &self,
        namespace: &str,
        references: &References,
    ) -> Result<BTreeMap<String, Value>, ObserveError> {
        let mut services = BTreeMap::new();
        for name in &references.services {
            if let Some(service) = self.world.services.get(&Key::new(namespace, name.as_str())) {
                self.fresh("Service", &service)?;
                services.insert(name.clone(), service.value.read()?);
            }
        }
        Ok(services)
    }

    fn routes(&self, namespace: &str, references: &References) -> Result<Objects, ObserveError> {
        let mut routes = Objects::new();
        for reference in &references.routes {
            let kept = self.world.routes.get(&reference.kind);
            let route =
                kept.and_then(|k| k.mirror.get(&Key::new(namespace, reference.name.as_str())));
            if let Some(route) = route {
                self.fresh(reference.kind.kind, &route)?;
                routes.insert(reference.clone(), route.value.read()?);
            }
        }
        Ok(routes)
    }

    async fn routes_live(
        &self,
        namespace: &str,
        references: &References,
    ) -> Result<Objects, RestError> {
        let mut routes = Objects::new();
        for reference in &references.routes {
            let found = self.rest.find(reference.kind, namespace, &reference.name);
            if let Some(route) = found.await? {
                routes.insert(reference.clone(), route);
            }
        }
        Ok(routes)
    }

    fn templates(
        &self,
        namespace: &str,
        references: &References,
    ) -> BTreeMap<TemplateKey, crate::api::AnalysisTemplateSpec> {
        let find = |key: &TemplateKey| {
            let entry = if key.cluster {
                self.world
                    .cluster_templates
                    .mirror
                    .get(&Key::new("", key.name.as_str()))
            } else {
                self.world
                    .templates
                    .get(&Key::new(namespace, key.name.as_str()))
            };
            Some((key.clone(), entry?.value.clone()))
        };
        references.templates.iter().filter_map(find).collect()
    }

    fn troubles(&self, sets: &BTreeMap<String, ReplicaSetView>) -> Vec<Trouble> {
        let of = |(hash, set): (&String, &ReplicaSetView)| {
            let pods = self.world.pods.find(&set.uid);
            let stuck = pods.into_iter().map(|p| p.value.trouble.clone());
            stuck.chain(set.trouble(hash)).collect::<Vec<_>>()
        };
        sets.iter().flat_map(of).collect()
    }
}

/// Brings ReplicaSets that were read one after the other with much else up to what watches told
/// meanwhile: those that changed since, and those that were known before and are gone.
fn overtake(
    sets: &mut BTreeMap<String, ReplicaSetView>,
    before: &[ReplicaSetView],
    now: &[ReplicaSetView],
) {
    sets.retain(|_, set| {
        let same = |s: &&ReplicaSetView| s.uid == set.uid;
        let (was, is) = (before.iter().find(same), now.iter().find(same));
        let gone = was.is_some() && is.is_none();
        if let Some(newer) = is.filter(|n| version(n) > version(set)) {
            *set = newer.clone();
        }
        !gone
    });
}

/// Which of two states of one object is the newer.
fn version(set: &ReplicaSetView) -> Option<u64> {
    set.resource_version.parse().ok()
}

/// A Service by which users come.
struct Way {
    name: String,
    /// It belongs to somebody else, so its EndpointSlices do not carry our label.
    shared: bool,
    /// Routes name it at rest, in the place of the role Services. Its EndpointSlices count where all is read live.
    lent: bool,
}

fn ways(rollout: &Rollout) -> Vec<Way> {
    let Ok(spec) = Spec::resolve(rollout) else {
        return vec![];
    };
    let lent = spec.manages_backends();
    let Some(services) = spec.course.services else {
        return vec![];
    };
    let way = |(name, lent)| Way {
        name,
        shared: services.shared,
        lent,
    };
    let user = lent.then_some((services.user, true));
    let roles = [(services.stable, false), (services.canary, false)];
    roles.into_iter().chain(user).map(way).collect()
}

fn count(pods: &[String], sets: &BTreeMap<String, ReplicaSetView>) -> BTreeMap<String, u32> {
    let names = sets
        .iter()
        .map(|(hash, set)| (set.name.as_str(), hash.as_str()))
        .collect();
    pods::by_hash(pods.iter().map(String::as_str), &names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_watches_told_meanwhile_overtakes_what_was_read_first() {
        let set = |uid: &str, version: &str, ready| ReplicaSetView {
            uid: uid.to_owned(),
            resource_version: version.to_owned(),
            ready,
            ..ReplicaSetView::default()
        };
        let read = [set("a", "9", 3), set("b", "7", 2), set("c", "8", 1)];
        let mut sets: BTreeMap<String, ReplicaSetView> =
            read.into_iter().map(|s| (s.uid.clone(), s)).collect();
        // The cache lagged behind a, is ahead of it by now, b is gone, and of c it was never told.
        let before = [set("a", "8", 3), set("b", "7", 2)];
        overtake(&mut sets, &before, &[set("a", "10", 0)]);
        assert_eq!(sets.len(), 2);
        assert_eq!((sets["a"].ready, sets["c"].ready), (0, 1));
        // A cache that still lags says nothing.
        overtake(&mut sets, &before, &[set("a", "8", 3)]);
        assert_eq!(sets["a"].ready, 0);
    }
}
