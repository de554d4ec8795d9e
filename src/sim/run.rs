//! Playing a scenario: observe, plan, commit, act, tell, until nothing is left to happen.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    api::{AnalysisRun, AnalysisTemplateSpec, Rollout, RolloutStatus, units::HumanDuration},
    engine::{self, analysis, traffic::gateway_api::HTTP_ROUTE},
    model::{
        object::{ANALYSIS_RUN, ObjectRef, SERVICE, Target},
        observed::TemplateKey,
        plan::{Plan, Requeue},
        share::rounded,
    },
};

use super::{
    cluster::Cluster,
    names::with_version,
    scenario::{Event, Scenario},
    timeline::{Timeline, after},
    world::answer,
};

/// More rounds than this at one instant mean that it does not come to rest.
const ROUNDS_AT_ONCE: usize = 60;

/// Hears of every change.
type Watcher = Box<dyn FnMut(&Cluster, Timestamp) + Send>;

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
    pub(super) void_allowed: bool,
    pub(super) due: Option<Timestamp>,
    /// When the next question of a run is due.
    pub(super) asked: Option<Timestamp>,
    watcher: Option<Watcher>,
}

fn span(d: Option<&HumanDuration>, default_ms: i64) -> SignedDuration {
    d.and_then(|d| SignedDuration::try_from(d.parse().ok()?).ok())
        .unwrap_or_else(|| SignedDuration::from_millis(default_ms))
}

impl Simulation {
    /// Sets a scenario up.
    pub fn new(scenario: &Scenario) -> Result<Self, String> {
        let given = &scenario.given;
        let mut spec = given.spec.clone();
        if let Some(spec) = spec.as_object_mut() {
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
        let labels = json!(rollout.spec.selector.match_labels);
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
        for route in scenario.given.route.iter().flat_map(|w| names.routes(*w)) {
            cluster.put(HTTP_ROUTE, route, begin);
        }
        Ok(Self {
            cluster,
            timeline: Timeline::default(),
            now: begin,
            begin,
            events: scenario.events.clone(),
            answers: BTreeMap::new(),
            kill: false,
            void_allowed: scenario.expect.void_allowed,
            due: None,
            asked: None,
            watcher: None,
        })
    }

    /// Shows the cluster to `watcher` at the beginning and after every write and event.
    #[must_use]
    pub fn watch(mut self, watcher: impl FnMut(&Cluster, Timestamp) + Send + 'static) -> Self {
        self.watcher = Some(Box::new(watcher));
        self.show();
        self
    }

    fn show(&mut self) {
        if let Some(watcher) = &mut self.watcher {
            watcher(&self.cluster, self.now);
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
        let mut acted = false;
        for action in &plan.actions {
            self.check_action(action);
            acted = true;
            if let Err(conflict) = self.cluster.act(action, self.now) {
                self.timeline
                    .event(self.now, &format!("refused: {}", conflict.0));
                break;
            }
            self.show();
        }
        changed || acted || plan.requeue == Requeue::Now
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
                    let reading = answer(&metric, &self.answers, &behaviour, self.cluster.share());
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

    /// What the scenario says happens now. Whether anything did.
    fn happen(&mut self) -> bool {
        let due: Vec<Event> = {
            let begin = self.begin;
            let (now, status) = (
                self.now,
                self.cluster.rollout.as_ref().and_then(|r| r.status.clone()),
            );
            let is_due = |e: &Event| match (&e.at, &e.when) {
                (Some(at), None) => after(begin, span(Some(at), 0)) <= now,
                (None, Some(when)) => status.as_ref().is_some_and(|s| holds(s, when)),
                (Some(at), Some(when)) => {
                    after(begin, span(Some(at), 0)) <= now
                        && status.as_ref().is_some_and(|s| holds(s, when))
                }
                (None, None) => true,
            };
            // In order: an event waits for those before it.
            let n = self.events.iter().take_while(|e| is_due(e)).count().min(1);
            self.events.drain(..n).collect()
        };
        for event in &due {
            self.one(event);
            self.show();
        }
        !due.is_empty()
    }

    fn one(&mut self, event: &Event) {
        let now = self.now;
        if let Some(version) = &event.version {
            self.timeline
                .event(now, &format!("the template names {version}"));
            self.cluster.edit(true, |r| {
                r.spec.template = with_version(&r.spec.template, version)
            });
        }
        if let Some(patch) = &event.spec {
            self.timeline
                .event(now, &format!("the spec is changed: {patch}"));
            self.cluster.edit(true, |r| {
                let mut spec = serde_json::to_value(&r.spec).unwrap_or_default();
                json_patch::merge(&mut spec, patch);
                if let Ok(spec) = serde_json::from_value(spec) {
                    r.spec = spec;
                }
            });
        }
        for (name, value) in &event.annotate {
            let status = self
                .cluster
                .rollout
                .as_ref()
                .and_then(|r| r.status.clone())
                .unwrap_or_default();
            let canary = status.attempt.map(|a| a.hash).unwrap_or_default();
            let value = value
                .replace("$canary", &canary)
                .replace("$stable", &status.stable_revision.unwrap_or_default());
            self.timeline
                .event(now, &format!("somebody annotates {name}={value}"));
            self.cluster.edit(false, |r| {
                r.metadata
                    .annotations
                    .get_or_insert_default()
                    .insert(name.clone(), value);
            });
        }
        if let Some(weights) = event.route {
            self.timeline.event(
                now,
                &format!("somebody sets the route to {}/{}", weights.0, weights.1),
            );
            for route in self.cluster.names.routes(weights) {
                let reference = Target::of(HTTP_ROUTE, &route).object;
                if let Some(live) = self.cluster.objects.get(&reference).cloned() {
                    let mut new = live;
                    if let (Some(spec), Some(slot)) =
                        (route.get("spec").cloned(), new.get_mut("spec"))
                    {
                        *slot = spec;
                    }
                    self.cluster.put(HTTP_ROUTE, new, now);
                }
            }
        }
        if let Some(version) = &event.crash {
            self.timeline
                .event(now, &format!("pods of {version} crash"));
            for set in self
                .cluster
                .pods
                .values_mut()
                .filter(|s| s.version == *version)
            {
                for pod in &mut set.pods {
                    pod.trouble = Some((
                        "CrashLoopBackOff",
                        "back-off restarting failed container".into(),
                    ));
                }
            }
        }
        if let Some(version) = &event.unready {
            self.timeline
                .event(now, &format!("one pod of {version} stops being ready"));
            let mut sets = self.cluster.pods.values_mut();
            if let Some(pod) = sets
                .find(|s| s.version == *version)
                .and_then(|s| s.pods.first_mut())
            {
                pod.ready_at = None;
            }
        }
        for (metric, says) in &event.metrics {
            self.timeline
                .event(now, &format!("metric {metric} answers {says}"));
            self.answers.insert(metric.clone(), says.clone());
        }
        if let Some(effect) = &event.effect_after {
            self.timeline
                .event(now, &format!("the data plane lags by {effect}"));
            self.cluster.effect_after = span(Some(effect), 0);
        }
        if event.kill_controller {
            self.kill = true;
        }
        if event.lose_status {
            self.timeline.event(now, "the status is lost");
            self.cluster
                .edit(false, |r| r.status = Some(RolloutStatus::unseen()));
        }
        if event.delete {
            self.timeline.event(now, "the Rollout is deleted");
            self.cluster.delete(now);
        }
    }
}

/// Whether the status is as a condition of an event says: `step 1`, `stage Switching`, `phase Paused`.
pub fn holds(status: &crate::api::RolloutStatus, when: &str) -> bool {
    // An attempt for another template than the one in force is on its way out.
    let attempt = status
        .attempt
        .as_ref()
        .filter(|a| Some(&a.hash) == status.current_revision.as_ref());
    match when.split_once(' ') {
        Some(("step", n)) => {
            attempt.is_some_and(|a| a.stage == "Stepping" && a.step_index.to_string() == n)
        }
        Some(("stage", name)) => attempt.is_some_and(|a| a.stage == name),
        Some(("phase", name)) => status.phase.as_deref() == Some(name),
        _ => false,
    }
}

/// A pod template whose image names a version.
pub fn template(version: &str) -> Value {
    json!({"metadata": {"labels": {"app": "app"}},
        "spec": {"containers": [{"name": "app", "image": format!("lab/app:{version}")}]}})
}
