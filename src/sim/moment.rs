//! Everything about a simulation at an instant: so that it can go on from there later, in another
//! version of Serin.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    api::{AnalysisTemplateSpec, Rollout},
    model::observed::TemplateKey,
};

use super::{
    cluster::{Cluster, data_plane::DataPlane, pods::PodSet},
    run::Simulation,
    scenario::{Event, Version},
    timeline::Timeline,
};

/// A simulation as it stands.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// When the scenario began.
    pub begin: Timestamp,
    /// What time it is.
    pub now: Timestamp,
    /// The Rollout.
    pub rollout: Rollout,
    /// Every other object.
    pub objects: Vec<Value>,
    /// Analysis templates by name.
    pub templates: BTreeMap<String, AnalysisTemplateSpec>,
    /// Pods by ReplicaSet.
    pub pods: BTreeMap<String, PodSet>,
    /// The gateway.
    pub gateway: DataPlane,
    /// How versions behave.
    pub versions: BTreeMap<String, Version>,
    /// From creation to readiness, from a route's change to its acceptance, and to its effect.
    pub delays: (SignedDuration, SignedDuration, SignedDuration),
    /// The last resourceVersion.
    pub version: u64,
    /// What has not happened yet.
    pub events: Vec<Event>,
    /// What metrics answer.
    pub answers: BTreeMap<String, String>,
    /// The controller is to die after its next commit.
    pub kill: bool,
    /// So many writes are to be refused, and so many to come second.
    pub refuse: (u32, u32),
    /// Weight without pods is the world's doing.
    pub void_allowed: bool,
    /// There may be so many pods.
    #[serde(default)]
    pub quota: Option<u32>,
}

impl Simulation {
    /// This instant; none where the Rollout is gone.
    pub fn moment(&self) -> Option<Moment> {
        let cluster = &self.cluster;
        let object = |(reference, value): (&crate::model::object::ObjectRef, &Value)| {
            let mut value = value.clone();
            value["kind"] = json!(reference.kind.kind);
            value
        };
        let template = |(key, spec): (&TemplateKey, &AnalysisTemplateSpec)| {
            (!key.cluster).then(|| (key.name.clone(), spec.clone()))
        };
        Some(Moment {
            begin: self.begin,
            now: self.now,
            rollout: cluster.rollout.clone()?,
            objects: cluster.objects.iter().map(object).collect(),
            templates: cluster.templates.iter().filter_map(template).collect(),
            pods: cluster.pods.clone(),
            gateway: cluster.gateway.clone(),
            versions: cluster.versions.clone(),
            delays: (
                cluster.ready_after,
                cluster.accept_after,
                cluster.effect_after,
            ),
            version: cluster.version(),
            events: self.events.clone(),
            answers: self.answers.clone(),
            kill: self.kill,
            refuse: (self.refuse, self.contend),
            void_allowed: self.void_allowed,
            quota: cluster.quota,
        })
    }

    /// Goes on from an instant: the controller has just been started. An error names an object of a
    /// kind that is not simulated.
    pub fn resume(moment: Moment) -> Result<Self, String> {
        let mut cluster = Cluster::new(moment.rollout);
        for object in moment.objects {
            cluster.restore(object)?;
        }
        let key = |name| TemplateKey {
            cluster: false,
            name,
        };
        let templates = moment.templates.into_iter();
        cluster.templates = templates.map(|(name, spec)| (key(name), spec)).collect();
        cluster.pods = moment.pods;
        cluster.gateway = moment.gateway;
        cluster.versions = moment.versions;
        cluster.quota = moment.quota;
        (
            cluster.ready_after,
            cluster.accept_after,
            cluster.effect_after,
        ) = moment.delays;
        cluster.go_on_from(moment.version);
        Ok(Self {
            cluster,
            timeline: Timeline::default(),
            now: moment.now,
            begin: moment.begin,
            events: moment.events,
            answers: moment.answers,
            kill: moment.kill,
            refuse: moment.refuse.0,
            contend: moment.refuse.1,
            void_allowed: moment.void_allowed,
            due: None,
            asked: None,
            watcher: None,
            recorder: None,
        })
    }

    /// Gives `recorder` every instant at which something was written or happened.
    #[must_use]
    pub fn record(mut self, recorder: impl FnMut(Moment) + Send + 'static) -> Self {
        self.recorder = Some(Box::new(recorder));
        self
    }
}
