//! Playing a scenario: observe, plan, commit, act, tell, until nothing is left to happen.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    api::{AnalysisRun, AnalysisTemplateSpec, Rollout, RolloutStatus, units::HumanDuration},
    engine::{self, analysis},
    model::{
        object::{ANALYSIS_RUN, ObjectRef, SERVICE},
        observed::TemplateKey,
        plan::{Action, Plan, Requeue},
        share::rounded,
    },
};

use super::{
    cluster::{Cluster, Conflict},
    expect::End,
    moment::Moment,
    scenario::{Event, Scenario},
    timeline::{Timeline, after},
    world::answer,
};

/// More rounds than this at one instant mean that it does not come to rest.
const ROUNDS_AT_ONCE: usize = 60;

/// Hears of every change.
type Watcher = Box<dyn FnMut(&Cluster, Timestamp) + Send>;
/// Is given every instant at which something changed.
type Recorder = Box<dyn FnMut(Moment) + Send>;

/// A scenario being played.
pub struct Simulation {
    /// The virtual cluster.
    pub cluster: Cluster,
    /// What happened.
    pub timeline: Timeline,
    pub(super) now: Timestamp,
    pub(super) begin: Timestamp,
    pub(super) events: Vec<Event>,
    pub(super) answers: BTreeMap<String, String>,
    pub(super) kill: bool,
    /// So many writes are refused.
    pub(super) refuse: u32,
    /// So many times somebody else writes an object just before Serin does.
    pub(super) contend: u32,
    pub(super) void_allowed: bool,
    pub(super) due: Option<Timestamp>,
    /// When the next question of a run is due.
    pub(super) asked: Option<Timestamp>,
    pub(super) watcher: Option<Watcher>,
    pub(super) recorder: Option<Recorder>,
}

pub(super) fn span(d: Option<&HumanDuration>, default_ms: i64) -> SignedDuration {
    d.and_then(|d| SignedDuration::try_from(d.parse().ok()?).ok())
        .unwrap_or_else(|| SignedDuration::from_millis(default_ms))
}

impl Simulation {
    /// Sets a scenario up.
    pub fn new(scenario: &Scenario) -> Result<Self, String> {
        let given = &scenario.given;
        let mut spec = given.spec.clone();
        let adopts = spec.get("workloadRef").is_some();
        if let Some(spec) = spec.as_object_mut().filter(|_| !adopts) {
            spec.entry("template")
                .or_insert_with(|| template(&given.version));
            spec.entry("selector")
                .or_insert_with(|| json!({"matchLabels": {"app": "app"}}));
        }
        let rollout: Rollout = serde_json::from_value(json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "app", "annotations": given.annotations},
            "spec": spec,
        }))
        .map_err(|e| format!("given.spec: {e}"))?;
        let mut templates = BTreeMap::new();
        for (name, template) in &given.templates {
            let key = TemplateKey {
                cluster: false,
                name: name.clone(),
            };
            let spec = serde_json::from_value(template.clone())
                .map_err(|e| format!("template {name}: {e}"))?;
            templates.insert(key, spec);
        }
        Self::with(scenario, rollout, templates)
    }

    /// Sets a scenario up with another Rollout and other templates than it gives.
    pub fn with(
        scenario: &Scenario,
        mut rollout: Rollout,
        templates: BTreeMap<TemplateKey, AnalysisTemplateSpec>,
    ) -> Result<Self, String> {
        let begin: Timestamp = "2026-01-01T00:00:00Z".parse().map_err(|e| format!("{e}"))?;
        let meta = &mut rollout.metadata;
        meta.uid.get_or_insert_with(|| "uid-rollout".to_owned());
        meta.namespace.get_or_insert_with(|| "default".to_owned());
        (meta.generation, meta.resource_version) = (Some(1), Some("1".to_owned()));
        rollout.status = Some(RolloutStatus::unseen());
        let labels = match &rollout.spec.selector.match_labels {
            Some(labels) => json!(labels),
            None => json!({"app": "app"}),
        };
        let mut cluster = Cluster::new(rollout);
        cluster.ready_after = span(scenario.world.pod_ready_after.as_ref(), 2000);
        cluster.accept_after = span(scenario.world.accept_after.as_ref(), 100);
        cluster.effect_after = span(scenario.world.effect_after.as_ref(), 200);
        cluster.versions.clone_from(&scenario.world.versions);
        cluster.templates = templates;
        let names = cluster.names.clone();
        let services = &names.services;
        let roles = [&services.stable, &services.canary].into_iter();
        let shared = roles.filter(|_| services.shared);
        for name in [&services.user].into_iter().chain(shared) {
            let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}});
            cluster.put(SERVICE, service, begin);
        }
        if let Some(change) = &scenario.given.adopt {
            cluster.deploy(template(&scenario.given.version), change, begin);
        }
        let routes = scenario.given.route.iter().flat_map(|w| names.given(*w));
        for (reference, route) in routes {
            cluster.put(reference.kind, route, begin);
        }
        Ok(Self {
            cluster,
            timeline: Timeline::default(),
            now: begin,
            begin,
            events: scenario.events.clone(),
            answers: BTreeMap::new(),
            kill: false,
            refuse: 0,
            contend: 0,
            void_allowed: scenario.expect.void_allowed,
            due: None,
            asked: None,
            watcher: None,
            recorder: None,
        })
    }

    /// Shows the cluster to `watcher` at the beginning and after every write and event.
    #[must_use]
    pub fn watch(mut self, watcher: impl FnMut(&Cluster, Timestamp) + Send + 'static) -> Self {
        self.watcher = Some(Box::new(watcher));
        self.show();
        self
    }

    pub(super) fn show(&mut self) {
        if let Some(watcher) = &mut self.watcher {
            watcher(&self.cluster, self.now);
        }
        if let Some(mut recorder) = self.recorder.take() {
            self.moment().into_iter().for_each(&mut recorder);
            self.recorder = Some(recorder);
        }
    }

    /// Plays it to the end.
    pub fn play(mut self, until: SignedDuration) -> Self {
        let end = after(self.begin, until);
        loop {
            self.cluster.advance(self.now);
            self.happen();
            self.settle();
            self.check_void();
            self.check_unasked();
            let next = [
                self.cluster.next(self.now),
                self.next_event(),
                self.due,
                self.asked,
            ]
            .into_iter()
            .flatten();
            match next.filter(|t| *t > self.now).min() {
                Some(next) if next <= end => self.now = next,
                _ => break,
            }
        }
        self.timeline.writes = self.cluster.writes;
        self
    }

    /// What came of it.
    pub fn end(&self) -> End<'_> {
        let cluster = &self.cluster;
        let mut pods = BTreeMap::new();
        for set in cluster.pods.values() {
            *pods.entry(set.version.clone()).or_insert(0) += set.pods.len();
        }
        End {
            rollout: cluster.rollout.as_ref(),
            objects: &cluster.objects,
            revisions: cluster.revisions(),
            pods,
            served: Some(cluster.gateway.served.clone()),
            history: self.timeline.history.clone(),
            counts: Some((self.timeline.writes, self.timeline.rounds)),
        }
    }

    fn next_event(&self) -> Option<Timestamp> {
        self.events
            .iter()
            .filter_map(|e| e.at.as_ref())
            .map(|at| after(self.begin, span(Some(at), 0)))
            .filter(|t| *t > self.now)
            .min()
    }

    /// Decides until there is nothing more to decide at this instant.
    fn settle(&mut self) {
        for round in 0.. {
            if round > ROUNDS_AT_ONCE {
                self.timeline.broke(self.now, "it does not come to rest");
                return;
            }
            let measured = self.measure();
            let again = self.reconcile();
            self.cluster.advance(self.now);
            if let Some(rollout) = &self.cluster.rollout {
                self.timeline
                    .look(self.now, rollout, rounded(self.cluster.share()));
            }
            let happened = self.happen();
            if !again && !measured && !happened {
                return;
            }
        }
    }

    /// One round. Whether something came of it.
    fn reconcile(&mut self) -> bool {
        let Some(observed) = self.cluster.observe(self.now) else {
            return false;
        };
        self.timeline.rounds += 1;
        let plan: Plan = engine::plan(&observed, self.now);
        self.due = match plan.requeue {
            Requeue::Now => None,
            Requeue::At(t) => Some(t),
            Requeue::OnChange(d) => Some(after(
                self.now,
                SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX),
            )),
        };
        self.check_finished(&observed, &plan.status);
        self.check_judged(&observed, &plan.status);
        let seen = observed.rollout.metadata.resource_version.clone();
        let changed = match self.cluster.commit(seen.as_deref(), &plan.status) {
            Ok(changed) => changed,
            Err(_) => return true,
        };
        self.show();
        if self.kill && !plan.actions.is_empty() {
            // It dies here: what was committed is not carried out. The next one starts from what is there.
            self.kill = false;
            self.timeline
                .event(self.now, "the controller dies before it acts");
            return true;
        }
        self.check_parting(&plan.actions);
        let mut acted = false;
        for action in &plan.actions {
            self.check_action(action);
            acted = true;
            if let Err(conflict) = self.carry_out(action) {
                self.timeline
                    .event(self.now, &format!("refused: {}", conflict.0));
                break;
            }
            self.check_selector(action);
            self.show();
        }
        changed || acted || plan.requeue == Requeue::Now
    }

    /// Carries an action out, unless the scenario has it refused.
    fn carry_out(&mut self, action: &Action) -> Result<(), Conflict> {
        if self.refuse > 0 {
            self.refuse -= 1;
            return Err(Conflict("the API server is overloaded".into()));
        }
        if let (1.., Action::Scale { target, .. } | Action::Patch { target, .. }) =
            (self.contend, action)
        {
            self.contend -= 1;
            self.cluster.touch(&target.object, self.now);
        }
        self.cluster.act(action, self.now)
    }

    /// The AnalysisRuns' own loop. Whether something was measured.
    fn measure(&mut self) -> bool {
        let runs: Vec<AnalysisRun> = self
            .cluster
            .objects
            .iter()
            .filter(|(r, _)| r.kind == ANALYSIS_RUN)
            .filter_map(|(_, v)| serde_json::from_value(v.clone()).ok())
            .collect();
        let mut measured = false;
        self.asked = None;
        for run in runs {
            let steady = self
                .cluster
                .rollout
                .as_ref()
                .and_then(|r| analysis::steady_since(&run, r));
            let due = analysis::due(&run, steady, self.now);
            self.asked = [self.asked, due.next]
                .into_iter()
                .flatten()
                .filter(|t| *t > self.now)
                .min();
            let readings: Vec<_> = due
                .queries
                .into_iter()
                .map(|q| {
                    let metric = run
                        .spec
                        .metrics
                        .get(q.metric)
                        .map(|m| m.name.clone())
                        .unwrap_or_default();
                    let version = self.cluster.version_of(&run.spec.revision);
                    let behaviour = self
                        .cluster
                        .versions
                        .get(&version)
                        .cloned()
                        .unwrap_or_default();
                    // Where pods are the weight, a pod that is ready serves.
                    let judged = &run.spec.revision;
                    let stable = self.cluster.status().stable_revision;
                    let served = match self.routed() {
                        true => self.cluster.share() > 0 || stable.as_ref() == Some(judged),
                        false => self.cluster.ready_of(judged, self.now) > 0,
                    };
                    let reading = answer(&metric, &self.answers, &behaviour, served);
                    (q, reading)
                })
                .collect();
            let new = analysis::record(&run, &readings, steady, self.now);
            if run.status.as_ref() != Some(&new) {
                measured = true;
                let name = run.metadata.name.clone().unwrap_or_default();
                if let Some(value) = self
                    .cluster
                    .objects
                    .get_mut(&ObjectRef::new(ANALYSIS_RUN, name))
                    .and_then(Value::as_object_mut)
                {
                    value.insert(
                        "status".into(),
                        serde_json::to_value(&new).unwrap_or_default(),
                    );
                }
            }
        }
        measured
    }
}

/// A pod template whose image names a version.
pub fn template(version: &str) -> Value {
    json!({"metadata": {"labels": {"app": "app"}},
        "spec": {"containers": [{"name": "app", "image": format!("lab/app:{version}")}]}})
}
