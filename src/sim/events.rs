//! What happens in a scenario from outside: users, others who write, and the world.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    api::{RolloutStatus, rollout::FailFastReason},
    engine::traffic,
    model::object::{
        ANALYSIS_RUN, CONTROLLER_REVISION, DEPLOYMENT, Kind, ObjectRef, REPLICA_SET, SERVICE,
    },
};

use super::{
    cluster::Cluster,
    expect::with_hashes,
    run::{Simulation, span},
    scenario::Event,
    timeline::after,
};

impl Simulation {
    /// What the scenario says happens now. Whether anything did.
    pub(super) fn happen(&mut self) -> bool {
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
            self.cluster.name_version(version, now);
        }
        if let Some(patch) = &event.spec {
            self.timeline
                .event(now, &format!("the spec is changed: {patch}"));
            self.cluster.edit(|r| {
                let mut spec = serde_json::to_value(&r.spec).unwrap_or_default();
                json_patch::merge(&mut spec, patch);
                if let Ok(spec) = serde_json::from_value(spec) {
                    r.spec = spec;
                }
            });
        }
        for (name, value) in &event.annotate {
            let status = self.cluster.status();
            let canary = status.attempt.map(|a| a.hash).unwrap_or_default();
            let value = value
                .replace("$canary", &canary)
                .replace("$stable", &status.stable_revision.unwrap_or_default());
            let value = with_hashes(&value, &self.cluster.revisions());
            self.timeline
                .event(now, &format!("somebody annotates {name}={value}"));
            self.cluster.edit(|r| {
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
            for (reference, route) in self.cluster.names.routes(weights) {
                let mut new = match self.cluster.objects.get(&reference) {
                    Some(live) => live.clone(),
                    None => route.clone(),
                };
                if let (Some(spec), Some(slot)) = (route.get("spec"), new.get_mut("spec")) {
                    slot.clone_from(spec);
                }
                self.cluster.put(reference.kind, new, now);
            }
        }
        self.pods(event);
        self.others(event);
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
        if let Some(accept) = &event.accept_after {
            self.timeline
                .event(now, &format!("the gateway accepts after {accept}"));
            self.cluster.accept_after = span(Some(accept), 0);
        }
        if event.kill_controller {
            self.kill = true;
        }
        if event.lose_status {
            self.timeline.event(now, "the status is lost");
            self.cluster
                .edit(|r| r.status = Some(RolloutStatus::unseen()));
        }
        for fault in &event.faults {
            let words = serde_json::to_string(fault).unwrap_or_default();
            self.timeline.not_played(now, words);
        }
        if event.delete {
            self.timeline.event(now, "the Rollout is deleted");
            self.cluster.delete(now);
        }
    }

    /// What becomes of pods.
    fn pods(&mut self, event: &Event) {
        let now = self.now;
        if let Some(version) = &event.crash {
            self.timeline
                .event(now, &format!("pods of {version} crash"));
            for pod in self.cluster.pods_of(version) {
                let why = "back-off restarting failed container".to_owned();
                pod.trouble = Some((FailFastReason::CrashLoopBackOff, why));
            }
        }
        if let Some(most) = event.quota {
            self.timeline
                .event(now, &format!("there may be {most} pods"));
            self.cluster.allow_pods(most, now);
        }
        if let Some(version) = &event.unready {
            self.timeline
                .event(now, &format!("one pod of {version} stops being ready"));
            let pods = self.cluster.pods_of(version);
            // One that is ready, where there is one.
            if let Some(pod) =
                pods.max_by_key(|p| (p.ready(now), std::cmp::Reverse(p.name.clone())))
            {
                pod.ready_at = None;
            }
        }
        if let Some(version) = &event.ready {
            self.timeline
                .event(now, &format!("all pods of {version} are ready again"));
            for pod in self.cluster.pods_of(version) {
                pod.trouble = None;
                pod.ready_at.get_or_insert(now);
            }
        }
    }

    /// What others write, and what keeps Serin from writing.
    fn others(&mut self, event: &Event) {
        let now = self.now;
        for (name, patch) in &event.edit {
            self.timeline
                .event(now, &format!("somebody changes {name}: {patch}"));
            if !self.cluster.patch_by_somebody(name, patch, now) {
                self.timeline.broke(now, &format!("there is no {name}"));
            }
        }
        if let Some(patch) = &event.status {
            self.timeline
                .event(now, &format!("somebody changes the status: {patch}"));
            let mut kept = true;
            self.cluster.edit(|r| {
                let mut status = serde_json::to_value(&r.status).unwrap_or_default();
                json_patch::merge(&mut status, patch);
                match serde_json::from_value(status) {
                    Ok(status) => r.status = Some(status),
                    Err(_) => kept = false,
                }
            });
            if !kept {
                self.timeline.broke(now, "no status can look like this");
            }
        }
        if let Some(times) = event.refuse {
            self.timeline
                .event(now, &format!("the next {times} writes are refused"));
            self.refuse = times;
        }
        if let Some(times) = event.contend {
            self.timeline.event(
                now,
                &format!("somebody else is faster at the next {times} writes"),
            );
            self.contend = times;
        }
    }
}

impl Cluster {
    /// Somebody else changes an object by a merge patch, or deletes it by `null`. Whether it is there.
    fn patch_by_somebody(&mut self, name: &str, patch: &Value, now: Timestamp) -> bool {
        if let Some(("AnalysisTemplate", name)) = name.split_once('/') {
            // They stand as they were given, or not at all.
            let given = self.templates.len();
            self.templates
                .retain(|key, _| key.cluster || key.name != name);
            return patch.is_null() && self.templates.len() < given;
        }
        let Some(reference) = self.named(name) else {
            return false;
        };
        let Some(mut object) = self.objects.get(&reference).cloned() else {
            return false;
        };
        if patch.is_null() {
            self.objects.remove(&reference);
            if reference.kind == REPLICA_SET {
                self.pods.remove(&reference.name);
            }
            return true;
        }
        json_patch::merge(&mut object, patch);
        let loose = self.loose();
        self.put(reference.kind, object, now);
        if reference.kind == DEPLOYMENT {
            self.sync_deployments(now);
        }
        self.loosened |= !loose && self.loose();
        true
    }

    /// The object that a scenario names, `HTTPRoute/app`; `$v1` stands for the hash of `v1`.
    pub fn named(&self, name: &str) -> Option<ObjectRef> {
        let kinds: [Kind; 5] = [
            SERVICE,
            REPLICA_SET,
            CONTROLLER_REVISION,
            ANALYSIS_RUN,
            DEPLOYMENT,
        ];
        let (kind, name) = name.split_once('/')?;
        let mut kinds = kinds.into_iter().chain(traffic::kinds());
        let kind = kinds.find(|k| k.kind == kind)?;
        let name = with_hashes(name, &self.revisions());
        Some(ObjectRef::new(kind, name))
    }

    /// The versions of revisions, with their hashes.
    pub(super) fn revisions(&self) -> Vec<(String, String)> {
        let sets = self.pods.values();
        sets.map(|set| (set.version.clone(), set.hash.clone()))
            .collect()
    }

    /// Somebody else writes an object.
    pub(super) fn touch(&mut self, reference: &ObjectRef, now: Timestamp) {
        if let Some(mut object) = self.objects.get(reference).cloned() {
            json_patch::merge(
                &mut object,
                &json!({"metadata": {"labels": {"touched": now}}}),
            );
            self.put(reference.kind, object, now);
        }
    }
}

/// Whether the status is as a condition of an event says: `step 1`, `stage Switching`, `phase Paused`.
pub fn holds(status: &RolloutStatus, when: &str) -> bool {
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
