//! The small world: a Rollout, its revisions, Services, route and runs, small enough that every
//! state of it can be visited, and how all of it looks to the real `plan`.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use serin::{
    api::{
        AnalysisRun, AnalysisRunSpec, AnalysisRunStatus, AnalysisTemplateSpec, Rollout,
        RolloutStatus,
        names::{
            DECISION, FINALIZER, PINNED_OVER, POD_TEMPLATE_HASH, RESTARTED_AT, ROLLOUT_LABEL,
            VERDICT, reason::PROMOTED,
        },
    },
    engine::traffic::gateway_api::HTTP_ROUTE,
    model::{
        object::ObjectRef,
        observed::{Current, Observed, TemplateKey},
        revisions::{ReplicaSetView, Revision, asked, hash},
        share::FULL,
        spec::Spec,
    },
    sim::cluster::data_plane::accepted,
};

use crate::flight::Flight;

/// Now, in every state: what lies behind is told by its distance.
pub const NOW: i64 = 1_800_000_000;
/// Time passes in steps of so many seconds; every delay in the cases is one of them.
pub const TICK: i64 = 60;
/// The progress deadline.
pub const DEADLINE: i64 = 2 * TICK;
/// Versions of the template that users write.
pub const WRITTEN: usize = 3;
/// Those, and each of them once more after a restart.
pub const VERSIONS: usize = 2 * WRITTEN;
/// Generation of the route: only whether something speaks of the present one matters.
pub const GENERATION: i64 = 2;
/// The two role Services.
pub const STABLE: usize = 0;
pub const CANARY: usize = 1;

/// Now.
pub fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a time")
}

/// So many seconds from now.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).expect("a time")
}

/// A value that is compared by its text.
#[derive(Clone, Debug)]
pub struct Told<T> {
    pub value: Arc<T>,
    pub text: Arc<str>,
}

impl<T> PartialEq for Told<T> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl<T> Eq for Told<T> {}
impl<T> std::hash::Hash for Told<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// A revision's pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Set {
    pub desired: u8,
    pub ready: u8,
    pub decision: i64,
    /// Whether its controller has seen the last change of its size.
    pub seen: bool,
}

/// A revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rev {
    pub version: usize,
    pub verdict: String,
    /// The version of the template's revision, in whose place this one is deployed.
    pub over: Option<usize>,
    pub set: Option<Set>,
}

/// A role Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Role {
    pub selects: usize,
    pub decision: i64,
    /// Versions to which the data plane may still send what is meant for this Service, as bits.
    pub behind: u8,
}

/// The route: weights of stable and canary as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    pub weights: (u32, u32),
    pub decision: i64,
    pub accepted: bool,
}

/// An AnalysisRun.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    pub name: String,
    pub version: usize,
    pub attempt: i64,
    pub step: String,
    /// Seconds since its start, as far as they matter.
    pub age: i64,
    /// Seconds since its end, as far as they matter.
    pub ended: i64,
    pub phase: &'static str,
}

/// A state of the world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub replicas: u8,
    pub template: usize,
    pub commands: BTreeMap<&'static str, String>,
    pub claimed: bool,
    pub deleting: bool,
    pub gone: bool,
    pub status: Told<RolloutStatus>,
    pub revisions: Vec<Rev>,
    pub roles: [Option<Role>; 2],
    pub route: Option<Route>,
    /// The smallest and the largest share that the data plane may still give the canary Service.
    pub flow: (u32, u32),
    pub runs: Vec<Run>,
    /// Versions that have turned bad for good, as bits.
    pub sick: u8,
    /// Ready pods by version as a view has them that lags behind.
    pub before: Option<[u8; VERSIONS]>,
    /// What the leader has committed and not carried out yet.
    pub flight: Option<Flight>,
    /// What a leader that was deposed still has under way.
    pub late: Option<Flight>,
    /// So many faults and so many acts of users may still happen.
    pub faults: u8,
    pub hands: u8,
}

/// A strategy to be searched.
pub struct Case {
    pub name: &'static str,
    pub rollout: Rollout,
    pub hashes: Vec<String>,
    pub templates: Vec<Value>,
    pub analysis: BTreeMap<TemplateKey, AnalysisTemplateSpec>,
    pub spec: Spec,
    /// Names of the role Services.
    pub roles: Option<[String; 2]>,
    pub user: Value,
}

fn template(version: usize) -> Value {
    let image = format!("app:v{}", version % WRITTEN);
    let mut template = json!({
        "metadata": {"labels": {"app": "app"}},
        "spec": {"containers": [{"name": "app", "image": image}]},
    });
    if version >= WRITTEN {
        template["metadata"]["annotations"] = json!({RESTARTED_AT: now().to_string()});
    }
    template
}

impl Case {
    /// A case by its strategy as it is written in a Rollout.
    pub fn new(name: &'static str, strategy: &Value) -> Self {
        let rollout: Rollout = serde_json::from_value(json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "app", "namespace": "default", "uid": "uid", "generation": 1},
            "spec": {
                "replicas": 2, "progressDeadlineSeconds": DEADLINE, "revisionHistoryLimit": 3,
                "selector": {"matchLabels": {"app": "app"}}, "template": template(0), "strategy": strategy,
            },
        }))
        .expect("a Rollout");
        let spec = Spec::resolve(&rollout).expect("a valid one");
        let roles = spec.course.services.as_ref();
        let roles = roles.map(|s| [s.stable.clone(), s.canary.clone()]);
        let templates: Vec<Value> = (0..VERSIONS).map(template).collect();
        let metric = json!({"metrics": [{"name": "m", "interval": "60s", "count": 1,
            "judge": {"threshold": {"pass": "> 0", "fail": "<= 0"}}, "provider": {"prometheus": {"query": "m"}}}]});
        let key = TemplateKey {
            cluster: false,
            name: "check".into(),
        };
        Self {
            name,
            hashes: templates.iter().map(|t| hash(t, 0)).collect(),
            templates,
            analysis: [(key, serde_json::from_value(metric).expect("a template"))].into(),
            spec,
            roles,
            rollout,
            user: json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "app", "namespace": "default", "uid": "user", "resourceVersion": "1"},
                "spec": {"selector": {"app": "app"}, "ports": [{"port": 80, "targetPort": 8080}]},
            }),
        }
    }

    /// The version of a hash.
    pub fn version(&self, hash: &str) -> Option<usize> {
        self.hashes.iter().position(|h| h == hash)
    }

    /// Whether a route splits the traffic.
    pub fn routed(&self) -> bool {
        self.spec.course.routing.is_some()
    }

    /// The number of a role Service by its name.
    pub fn role(&self, name: &str) -> Option<usize> {
        self.roles.as_ref()?.iter().position(|n| n == name)
    }

    /// A world in which nothing has been deployed yet.
    pub fn empty(&self) -> State {
        let status = RolloutStatus::unseen();
        State {
            replicas: 2,
            template: 0,
            commands: BTreeMap::new(),
            claimed: false,
            deleting: false,
            gone: false,
            status: Told {
                text: serde_json::to_string(&status).unwrap_or_default().into(),
                value: Arc::new(status),
            },
            revisions: vec![],
            roles: [None, None],
            route: self.routed().then_some(Route {
                weights: (100, 0),
                decision: 0,
                accepted: true,
            }),
            flow: (0, 0),
            runs: vec![],
            sick: 0,
            before: None,
            flight: None,
            late: None,
            faults: 0,
            hands: 0,
        }
    }

    /// The route's JSON; the second backend is the canary's.
    pub fn route(&self, route: &Route) -> Value {
        let roles = self.roles.clone().unwrap_or_default();
        let status = accepted(GENERATION - i64::from(!route.accepted));
        let backend =
            |i: usize, weight: u32| json!({"name": roles[i], "port": 80, "weight": weight});
        json!({
            "apiVersion": HTTP_ROUTE.api_version(), "kind": HTTP_ROUTE.kind,
            "metadata": {"name": "app", "namespace": "default", "uid": "route", "resourceVersion": "1",
                "generation": GENERATION, "annotations": {DECISION: route.decision.to_string(), "theirs": "kept"}},
            "spec": {"parentRefs": [{"name": "gateway"}], "rules": [{"timeouts": {"request": "10s"},
                "backendRefs": [backend(STABLE, route.weights.0), backend(CANARY, route.weights.1)]}]},
            "status": status,
        })
    }

    /// A role Service's JSON.
    pub fn service(&self, index: usize, role: &Role) -> Value {
        let name = self.roles.as_ref().map(|r| r[index].clone());
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "default", "uid": format!("role-{index}"), "resourceVersion": "1",
                "labels": {ROLLOUT_LABEL: "app"}, "annotations": {DECISION: role.decision.to_string()},
                "ownerReferences": [{"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "name": "app",
                    "uid": "uid", "controller": true}]},
            "spec": {"selector": {"app": "app", POD_TEMPLATE_HASH: self.hashes[role.selects]},
                "ports": [{"port": 80, "targetPort": 8080}], "type": "ClusterIP"},
        })
    }

    /// The Rollout as it stands.
    pub fn rollout(&self, state: &State) -> Rollout {
        let mut rollout = self.rollout.clone();
        rollout.spec.replicas = i32::from(state.replicas);
        rollout
            .spec
            .template
            .clone_from(&self.templates[state.template]);
        rollout.status = Some((*state.status.value).clone());
        let meta = &mut rollout.metadata;
        meta.resource_version = Some("1".into());
        meta.finalizers = state.claimed.then(|| vec![FINALIZER.to_owned()]);
        meta.deletion_timestamp = state.deleting.then(|| Time(now()));
        let given = state.commands.iter();
        let given = given.map(|(verb, token)| (format!("serin.dev/{verb}"), token.clone()));
        meta.annotations = Some(given.collect());
        rollout
    }

    /// One look at all of it; pods as they were before where `stale`.
    pub fn observe(&self, state: &State, stale: bool) -> Observed {
        let pods = if stale { state.before } else { None };
        let pods = pods.unwrap_or_else(|| state.ready());
        let revisions: Vec<Revision> = (1..)
            .zip(&state.revisions)
            .map(|(number, rev)| self.revision(number, rev, &pods))
            .collect();
        let rollout = self.rollout(state);
        let hash = hash(&asked(&rollout, &revisions), 0);
        let recorded = revisions.iter().any(|r| r.hash == hash);
        let mut services: BTreeMap<String, Value> = [("app".to_owned(), self.user.clone())].into();
        let mut endpoints = BTreeMap::new();
        for (index, name) in self.roles.iter().flatten().enumerate() {
            if let Some(role) = &state.roles[index] {
                services.insert(name.clone(), self.service(index, role));
                let ready = (
                    self.hashes[role.selects].clone(),
                    u32::from(pods[role.selects]),
                );
                endpoints.insert(name.clone(), BTreeMap::from([ready]));
            }
        }
        let route = state.route.as_ref().map(|r| {
            let reference = ObjectRef::new(HTTP_ROUTE, "app");
            (reference, self.route(r))
        });
        Observed {
            rollout,
            current: if recorded {
                Current::Recorded(hash)
            } else {
                Current::New(hash)
            },
            revisions,
            services,
            endpoints,
            routes: route.into_iter().collect(),
            runs: state.runs.iter().map(|r| self.run(r)).collect(),
            templates: self.analysis.clone(),
            workload: None,
            troubles: vec![],
            refused: None,
            live: !stale,
        }
    }

    fn revision(&self, number: i64, rev: &Rev, pods: &[u8; VERSIONS]) -> Revision {
        let hash = &self.hashes[rev.version];
        let view = rev.set.as_ref().map(|set| {
            let ready = u32::from(pods[rev.version].min(set.desired));
            ReplicaSetView {
                name: format!("app-{hash}"),
                uid: format!("set-{hash}"),
                resource_version: "1".into(),
                has_annotations: true,
                decision: set.decision,
                seen: set.seen,
                desired: u32::from(set.desired),
                current: u32::from(set.desired),
                ready,
                available: ready,
                min_ready: 0,
                refused: None,
            }
        });
        Revision {
            hash: hash.clone(),
            number,
            template: self.templates[rev.version].clone(),
            verdict: rev.verdict.clone(),
            // Told, never read: who or what decided is left out of a status.
            verdict_by: None,
            // In no order that is known.
            promoted_at: (rev.verdict == PROMOTED).then(now),
            pinned_over: rev.over.map(|v| self.hashes[v].clone()),
            uid: format!("rev-{hash}"),
            resource_version: "1".into(),
            has_annotations: true,
            replica_set: view,
        }
    }

    /// A ControllerRevision's JSON, as far as patches touch it.
    pub fn record(&self, rev: &Rev) -> Value {
        let mut record = json!({"metadata": {"annotations": {VERDICT: rev.verdict}}});
        if let Some(over) = rev.over {
            record["metadata"]["annotations"][PINNED_OVER] = json!(self.hashes[over]);
        }
        record
    }

    fn run(&self, run: &Run) -> AnalysisRun {
        let spec = AnalysisRunSpec {
            rollout: "app".into(),
            revision: self.hashes[run.version].clone(),
            attempt: run.attempt,
            step: run.step.clone(),
            start: Some(Time(at(-run.age))),
            args: vec![],
            metrics: vec![],
            terminate: run.phase == "Terminated",
        };
        let mut object = AnalysisRun::new(&run.name, spec);
        object.metadata.uid = Some(format!("run-{}", run.name));
        object.metadata.resource_version = Some("1".into());
        object.status = Some(AnalysisRunStatus {
            phase: Some(run.phase.into()),
            completed_at: (run.phase != "Running").then(|| Time(at(-run.ended))),
            ..AnalysisRunStatus::default()
        });
        object
    }
}

impl State {
    /// Ready pods by version.
    pub fn ready(&self) -> [u8; VERSIONS] {
        let mut ready = [0; VERSIONS];
        for rev in &self.revisions {
            ready[rev.version] = rev.set.as_ref().map_or(0, |s| s.ready.min(s.desired));
        }
        ready
    }

    /// Pods wanted by version.
    pub fn desired(&self) -> [u8; VERSIONS] {
        let mut desired = [0; VERSIONS];
        for rev in &self.revisions {
            desired[rev.version] = rev.set.as_ref().map_or(0, |s| s.desired);
        }
        desired
    }

    /// The pods of a version.
    pub fn set(&self, version: usize) -> Option<&Set> {
        let rev = self.revisions.iter().find(|r| r.version == version)?;
        rev.set.as_ref()
    }

    /// The same, to be changed.
    pub fn set_mut(&mut self, version: usize) -> Option<&mut Set> {
        let rev = self.revisions.iter_mut().find(|r| r.version == version)?;
        rev.set.as_mut()
    }

    /// Whether a version has turned bad.
    pub fn is_sick(&self, version: usize) -> bool {
        self.sick & (1 << version) != 0
    }

    /// The canary's share that is written, in millionths, rounded up.
    pub fn share(&self) -> u32 {
        self.route.as_ref().map_or(0, |r| share(r.weights))
    }
}

/// The canary's share of two weights, in millionths, rounded up where it is not all.
pub fn share(weights: (u32, u32)) -> u32 {
    let (stable, canary) = (u64::from(weights.0), u64::from(weights.1));
    let total = (stable + canary).max(1);
    let share = (canary * u64::from(FULL)).div_ceil(total);
    let most = FULL - u32::from(stable > 0);
    u32::try_from(share).unwrap_or(most).min(most)
}
