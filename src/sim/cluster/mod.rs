//! The virtual cluster: objects with resourceVersions, the six actions, and a look at all of it.

pub mod data_plane;
mod deployments;
pub mod names;
mod observe;
pub mod pods;
mod shares;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::{
    api::{
        AnalysisTemplateSpec, Rollout, RolloutStatus,
        names::{DECISION, FINALIZER, POD_TEMPLATE_HASH},
        rollout::FailFastReason,
    },
    engine::traffic::is_route,
    model::{
        object::{
            Kind, ObjectRef, Objects, REPLICA_SET, ROLLOUT, SERVICE, Target, annotate, labels,
            relabel,
        },
        observed::TemplateKey,
        plan::Action,
        spec::Spec,
    },
};

use super::scenario::Version;
use data_plane::{DataPlane, accepted, canary_share};
use names::Names;
use pods::{Pod, PodSet};

/// Why a write was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict(pub String);

/// The virtual cluster.
pub struct Cluster {
    /// Every object but the Rollout.
    pub objects: Objects,
    /// The Rollout; none once it is gone.
    pub rollout: Option<Rollout>,
    /// Analysis templates.
    pub templates: BTreeMap<TemplateKey, AnalysisTemplateSpec>,
    /// Pods by ReplicaSet.
    pub pods: BTreeMap<String, PodSet>,
    /// The gateway.
    pub gateway: DataPlane,
    /// What the Rollout calls its Services and routes.
    pub names: Names,
    /// How versions behave.
    pub versions: BTreeMap<String, Version>,
    /// From creation to readiness.
    pub ready_after: SignedDuration,
    /// From a route's change to its acceptance.
    pub accept_after: SignedDuration,
    /// From a route's change to its effect.
    pub effect_after: SignedDuration,
    /// Successful writes so far.
    pub writes: u64,
    /// There may be so many pods; none where there may be any number.
    pub quota: Option<u32>,
    /// Whether it was somebody else who sent users to their own Service last.
    pub loosened: bool,
    /// When the Deployment controller sees a change.
    deployment_seen: Option<Timestamp>,
    version: u64,
    now: Timestamp,
}

fn number(value: &Value, path: &str) -> u32 {
    value
        .pointer(path)
        .and_then(Value::as_u64)
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(0)
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

impl Cluster {
    /// An empty cluster with a Rollout.
    pub fn new(rollout: Rollout) -> Self {
        Self {
            objects: Objects::new(),
            names: Names::of(&rollout),
            rollout: Some(rollout),
            templates: BTreeMap::new(),
            pods: BTreeMap::new(),
            gateway: DataPlane::default(),
            versions: BTreeMap::new(),
            ready_after: SignedDuration::from_secs(2),
            accept_after: SignedDuration::from_millis(100),
            effect_after: SignedDuration::from_millis(200),
            writes: 0,
            quota: None,
            loosened: false,
            deployment_seen: None,
            version: 10,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    /// The last resourceVersion.
    pub(super) fn version(&self) -> u64 {
        self.version
    }
    /// The next resourceVersions follow this one.
    pub(super) fn go_on_from(&mut self, version: u64) {
        self.version = version;
    }
    /// Puts an object back as it stood. An error where its kind is not simulated.
    pub(super) fn restore(&mut self, object: Value) -> Result<(), String> {
        let name = format!(
            "{}/{}",
            text(&object, "/kind"),
            text(&object, "/metadata/name")
        );
        let reference = self
            .named(&name)
            .ok_or_else(|| format!("{name} is of a kind that is not simulated"))?;
        self.objects.insert(reference, object);
        Ok(())
    }

    fn fresh(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// Puts an object in as it stands, as somebody else would.
    pub fn put(&mut self, kind: Kind, mut value: Value, now: Timestamp) {
        let name = text(&value, "/metadata/name").to_owned();
        let reference = ObjectRef::new(kind, name);
        let old = self.objects.get(&reference).cloned();
        let version = self.fresh();
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.entry("uid")
                .or_insert_with(|| json!(format!("uid-{version}")));
            meta.insert("resourceVersion".into(), json!(version));
        }
        self.grown(&reference, old.as_ref(), value, now);
    }

    /// Stores a changed object: its generation grows when its spec changed, and the world notices.
    fn grown(
        &mut self,
        reference: &ObjectRef,
        old: Option<&Value>,
        mut value: Value,
        now: Timestamp,
    ) {
        let before = old
            .and_then(|o| o.pointer("/metadata/generation"))
            .and_then(Value::as_i64)
            .unwrap_or(0);
        let changed = old.is_none_or(|o| o.get("spec") != value.get("spec"));
        let generation = before + i64::from(changed);
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.insert("generation".into(), json!(generation));
        }
        if changed && is_route(reference.kind) {
            let told = (canary_share(&value), self.names_user(reference, &value));
            let (accept, effect) = (self.accept_after, self.effect_after);
            self.gateway.tell(now, generation, told, accept, effect);
        }
        let selects = |service| text(service, "/spec/selector/pod-template-hash");
        let hash = selects(&value);
        // One that a former strategy turned is followed, too.
        let turned = self.names.services.roles().contains(&&reference.name)
            || old.is_some_and(|o| selects(o) != hash);
        if reference.kind == SERVICE && turned && changed {
            self.gateway
                .turn(now, &reference.name, hash, self.effect_after);
        }
        self.objects.insert(reference.clone(), value);
        if reference.kind == REPLICA_SET {
            self.size_pods(&reference.name.clone(), now);
            self.retry_pods(now);
        }
    }

    /// Carries one action out, or refuses it as the API server would.
    pub fn act(&mut self, action: &Action, now: Timestamp) -> Result<(), Conflict> {
        match action {
            Action::Create { object, value } => {
                let Some(live) = self.objects.get(object) else {
                    self.writes += 1;
                    self.put(object.kind, value.clone(), now);
                    return Ok(());
                };
                let (target, operations) =
                    (Target::of(object.kind, live), relabel(live, labels(value)));
                match operations.is_empty() {
                    true => Ok(()),
                    false => self.patch(&target, &operations, now),
                }
            }
            Action::Patch { target, operations } if target.object.kind == ROLLOUT => {
                self.patch_rollout(operations)
            }
            Action::Patch { target, operations } => self.patch(target, operations, now),
            Action::Scale {
                target,
                replicas,
                decision,
                has_annotations,
            } => {
                let mut operations =
                    vec![json!({"op": "replace", "path": "/spec/replicas", "value": replicas})];
                operations.extend(annotate(*has_annotations, DECISION, &decision.to_string()));
                self.patch(target, &operations, now)
            }
            Action::Delete { target } => {
                self.guard(target)?;
                self.writes += 1;
                self.objects.remove(&target.object);
                self.pods.remove(&target.object.name);
                Ok(())
            }
            Action::Claim => self.finalizers(|f| f.push(FINALIZER.to_owned())),
            Action::Release => self.finalizers(|f| f.retain(|x| x != FINALIZER)),
        }
    }

    fn finalizers(&mut self, change: impl Fn(&mut Vec<String>)) -> Result<(), Conflict> {
        let version = self.fresh();
        self.writes += 1;
        let Some(rollout) = &mut self.rollout else {
            return Err(Conflict("the Rollout is gone".into()));
        };
        let finalizers = rollout.metadata.finalizers.get_or_insert_default();
        change(finalizers);
        let free = finalizers.is_empty() && rollout.metadata.deletion_timestamp.is_some();
        rollout.metadata.resource_version = Some(version);
        if free {
            self.rollout = None;
        }
        Ok(())
    }

    fn guard(&self, target: &Target) -> Result<Value, Conflict> {
        let live = self
            .objects
            .get(&target.object)
            .ok_or_else(|| Conflict(format!("{} is gone", target.object.name)))?;
        let same = text(live, "/metadata/resourceVersion") == target.resource_version
            && text(live, "/metadata/uid") == target.uid;
        if same {
            Ok(live.clone())
        } else {
            Err(Conflict(format!("{} has changed", target.object.name)))
        }
    }

    fn patch(
        &mut self,
        target: &Target,
        operations: &[Value],
        now: Timestamp,
    ) -> Result<(), Conflict> {
        let old = self.guard(target)?;
        let mut new = old.clone();
        apply(&mut new, operations)?;
        let version = self.fresh();
        if let Some(meta) = new.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.insert("resourceVersion".into(), json!(version));
        }
        self.writes += 1;
        self.grown(&target.object, Some(&old), new, now);
        Ok(())
    }

    fn patch_rollout(&mut self, operations: &[Value]) -> Result<(), Conflict> {
        let version = self.fresh();
        let Some(rollout) = &mut self.rollout else {
            return Err(Conflict("the Rollout is gone".into()));
        };
        let mut value = serde_json::to_value(&*rollout).map_err(|e| Conflict(e.to_string()))?;
        apply(&mut value, operations)?;
        *rollout = serde_json::from_value(value).map_err(|e| Conflict(e.to_string()))?;
        rollout.metadata.resource_version = Some(version);
        self.writes += 1;
        Ok(())
    }

    /// Commits a status if the Rollout is still the one that was looked at.
    pub fn commit(&mut self, seen: Option<&str>, status: &RolloutStatus) -> Result<bool, Conflict> {
        let version = self.fresh();
        let Some(rollout) = &mut self.rollout else {
            return Err(Conflict("the Rollout is gone".into()));
        };
        if rollout.metadata.resource_version.as_deref() != seen {
            return Err(Conflict("the Rollout has changed".into()));
        }
        if rollout.status.as_ref() == Some(status) {
            return Ok(false);
        }
        rollout.status = Some(status.clone());
        rollout.metadata.resource_version = Some(version);
        if Spec::examine(rollout).0.is_some() {
            self.names = Names::of(rollout);
        }
        self.writes += 1;
        Ok(true)
    }

    /// Somebody changes the Rollout. Its generation grows with its spec.
    pub fn edit(&mut self, change: impl FnOnce(&mut Rollout)) {
        let version = self.fresh();
        if let Some(rollout) = &mut self.rollout {
            let before = rollout.spec.clone();
            change(rollout);
            rollout.metadata.resource_version = Some(version);
            if rollout.spec != before {
                rollout.metadata.generation = Some(rollout.metadata.generation.unwrap_or(0) + 1);
                if Spec::examine(rollout).0.is_some() {
                    self.names = Names::of(rollout);
                }
            }
        }
    }

    fn size_pods(&mut self, name: &str, now: Timestamp) {
        let Some(set) = self.objects.get(&ObjectRef::new(REPLICA_SET, name)) else {
            return;
        };
        let wanted = usize::try_from(number(set, "/spec/replicas")).unwrap_or(0);
        let image = text(set, "/spec/template/spec/containers/0/image");
        let version = image.rsplit(':').next().unwrap_or_default().to_owned();
        let hash = text(set, "/spec/template/metadata/labels/pod-template-hash").to_owned();
        let others: usize = self
            .pods
            .iter()
            .filter(|(n, _)| *n != name)
            .map(|(_, p)| p.pods.len())
            .sum();
        let most = self.quota.map_or(usize::MAX, |q| {
            usize::try_from(q).unwrap_or(0).saturating_sub(others)
        });
        let pods = self.pods.entry(name.to_owned()).or_default();
        (pods.hash, pods.version) = (hash, version.clone());
        let behaviour = self.versions.get(&version).cloned().unwrap_or_default();
        pods.refused = (wanted > most.max(pods.pods.len()))
            .then(|| format!("pods \"{name}-\" is forbidden: exceeded quota: pods"));
        while pods.pods.len() < wanted.min(most) {
            pods.made += 1;
            let trouble = if behaviour.no_image {
                let why = format!("Back-off pulling image {image:?}");
                Some((FailFastReason::ImagePullBackOff, why))
            } else if behaviour.crash {
                let why = "back-off restarting failed container".to_owned();
                Some((FailFastReason::CrashLoopBackOff, why))
            } else if behaviour.unschedulable {
                let why = "0/3 nodes are available: 3 Insufficient cpu.".to_owned();
                Some((FailFastReason::Unschedulable, why))
            } else {
                None
            };
            pods.pods.push(Pod {
                name: format!("{name}-{}", pods.made),
                ready_at: (!behaviour.never_ready)
                    .then(|| now.saturating_add(self.ready_after).unwrap_or(now)),
                trouble,
            });
        }
        // As the ReplicaSet controller does: those that are not ready go first.
        pods.pods.sort_by_key(|p| !p.ready(now));
        pods.pods.truncate(wanted);
    }

    /// From now on there may be so many pods.
    pub fn allow_pods(&mut self, most: u32, now: Timestamp) {
        self.quota = Some(most);
        self.retry_pods(now);
    }

    /// ReplicaSets that were refused pods ask again, once for all that was freed.
    fn retry_pods(&mut self, now: Timestamp) {
        let refused = self.pods.iter().filter(|(_, p)| p.refused.is_some());
        let names: Vec<String> = refused.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.size_pods(&name, now);
        }
    }

    /// Lets time pass: acceptance and effect of routes.
    pub fn advance(&mut self, now: Timestamp) {
        self.now = now;
        self.sync_deployments(now);
        let accepted_generation = self.gateway.advance(now);
        self.loosened &= self.loose();
        self.gateway.note(self.share());
        if let Some(generation) = accepted_generation {
            let version = self.fresh();
            for (_, route) in self.objects.iter_mut().filter(|(r, _)| is_route(r.kind)) {
                if let Some(route) = route.as_object_mut() {
                    route.insert("status".into(), accepted(generation));
                }
                if let Some(meta) = route.get_mut("metadata").and_then(Value::as_object_mut) {
                    meta.insert("resourceVersion".into(), json!(version));
                }
            }
        }
    }

    /// Ready pods of a revision.
    pub fn ready_of(&self, hash: &str, now: Timestamp) -> u32 {
        let of = self.pods.values().filter(|p| p.hash == hash);
        of.map(|p| p.ready(now)).sum()
    }

    /// The Rollout's status; an empty one where there is none.
    pub fn status(&self) -> RolloutStatus {
        let status = self.rollout.as_ref().and_then(|r| r.status.clone());
        status.unwrap_or_default()
    }

    /// The pods of a version.
    pub fn pods_of(&mut self, version: &str) -> impl Iterator<Item = &mut Pod> {
        let sets = self.pods.values_mut();
        sets.filter(move |s| s.version == version)
            .flat_map(|s| &mut s.pods)
    }

    /// The revision that a Service selects.
    pub fn selected(&self, service: &str) -> Option<&str> {
        let service = self.objects.get(&ObjectRef::new(SERVICE, service))?;
        let selector = service.pointer("/spec/selector")?;
        selector.get(POD_TEMPLATE_HASH)?.as_str()
    }

    /// The revision to which the data plane sends what a Service gets. It follows a Service that
    /// turned as late as a route.
    pub fn behind(&self, service: &str) -> Option<&str> {
        let followed = self.gateway.behind.get(service).map(String::as_str);
        followed.or_else(|| self.selected(service))
    }

    /// The version behind a hash.
    pub fn version_of(&self, hash: &str) -> String {
        self.pods
            .values()
            .find(|p| p.hash == hash)
            .map(|p| p.version.clone())
            .unwrap_or_default()
    }

    /// The deletion of the Rollout begins.
    pub fn delete(&mut self, now: Timestamp) {
        self.edit(|r| r.metadata.deletion_timestamp = Some(Time(now)));
        if self
            .rollout
            .as_ref()
            .is_some_and(|r| r.metadata.finalizers.iter().flatten().next().is_none())
        {
            self.rollout = None;
        }
    }

    /// When something happens by itself.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let seconds = self
            .rollout
            .as_ref()
            .and_then(|r| r.spec.min_ready_seconds)
            .unwrap_or(0);
        let pods = self
            .pods
            .values()
            .filter_map(|p| p.next(now, i64::from(seconds)));
        let others = self
            .gateway
            .next()
            .into_iter()
            .chain(self.next_deployment());
        pods.chain(others).filter(|t| *t > now).min()
    }
}

fn apply(value: &mut Value, operations: &[Value]) -> Result<(), Conflict> {
    let patch: json_patch::Patch = serde_json::from_value(Value::Array(operations.to_vec()))
        .map_err(|e| Conflict(e.to_string()))?;
    json_patch::patch(value, &patch).map_err(|e| Conflict(e.to_string()))
}
