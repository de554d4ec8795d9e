//! The laws that are checked while a scenario is played: what Serin itself may never do, and what
//! users must never see.

use serde_json::{Value, json};

use crate::{
    api::{
        RolloutStatus,
        names::{BACKENDS, POD_TEMPLATE_HASH, VERDICT, reason},
    },
    engine::{self, traffic::is_route},
    model::{
        object::{
            CONTROLLER_REVISION, ObjectRef, REPLICA_SET, ROLLOUT, SERVICE, Target, annotation,
            annotation_path,
        },
        observed::{Current, Observed},
        plan::Action,
        share::{FULL, need, percent, show},
        spec::Spec,
    },
};

use super::{
    cluster::data_plane::{canary_share, is_loose},
    run::Simulation,
};

impl Simulation {
    /// No weight on a backend without a ready pod.
    pub(super) fn check_void(&mut self) {
        let Some(rollout) = &self.cluster.rollout else {
            return;
        };
        let serving = rollout
            .status
            .as_ref()
            .is_some_and(|s| s.stable_revision.is_some());
        if !self.routed() || !serving || self.void_allowed || self.cluster.wanted() == 0 {
            return;
        }
        let attempt = rollout.status.as_ref().and_then(|s| s.attempt.as_ref());
        let first = attempt.is_some_and(|a| a.reason.as_deref() == Some(reason::DEPLOYED));
        let faults: Vec<String> = self
            .shares()
            .into_iter()
            .filter_map(|(service, share)| {
                // What was there before Serin is no revision; and what a first deploy replaces
                // served nobody.
                let behind = match first {
                    true => self.cluster.selected(&service),
                    false => self.cluster.behind(&service),
                };
                let hash = behind.filter(|h| !h.is_empty())?;
                let void = share > 0 && self.cluster.ready_of(hash, self.now) == 0;
                void.then(|| {
                    format!(
                        "{} of the traffic goes to {service}: revision {hash}, which has no ready pod",
                        show(share)
                    )
                })
            })
            .collect();
        for fault in faults {
            self.timeline.broke(self.now, &fault);
        }
    }

    /// S3 where users come by their own Service: they reach nothing that is not stable, but by somebody else's doing.
    pub(super) fn check_unasked(&mut self) {
        let unasked = self.cluster.gateway.loose && !self.cluster.loosened && self.routed();
        let stranger = self.cluster.stranger(Some(self.now)).filter(|_| unasked);
        if let Some(hash) = stranger {
            let user = &self.cluster.names.services.user;
            let what = format!("S3: users come by Service {user} and reach {hash} unasked");
            self.timeline.broke(self.now, &what);
        }
    }

    /// S1, S2, S3, S4, S6, S29: checked at each write.
    pub(super) fn check_action(&mut self, action: &Action) {
        let status = self.cluster.status();
        self.check_adoption(&status, action);
        match action {
            Action::Scale {
                target, replicas, ..
            } if target.object.kind == REPLICA_SET => {
                self.check_scale(&status, target, *replicas);
                self.check_added(&status, &target.object.name, u64::from(*replicas));
            }
            Action::Patch { target, operations } if is_route(target.object.kind) => {
                self.check_weights(&status, operations);
                self.check_backends(operations);
            }
            Action::Create { object, value } if object.kind == REPLICA_SET => {
                let replicas = value.pointer("/spec/replicas").and_then(Value::as_u64);
                self.check_added(&status, &object.name, replicas.unwrap_or(0));
            }
            Action::Patch { target, operations }
                if self.cluster.names.switched
                    && target.object.name == self.cluster.names.services.stable =>
            {
                self.check_switch(&status, operations);
            }
            Action::Patch { target, operations } if target.object.kind == SERVICE => {
                self.check_turn(&target.object.name, operations);
            }
            Action::Patch { target, operations } if target.object.kind == CONTROLLER_REVISION => {
                self.check_verdict(&status, target, operations);
            }
            Action::Release => self.check_release(),
            _ => {}
        }
    }

    /// What was promoted stays a way back, unless another attempt of it was rolled back or aborted.
    fn check_verdict(&mut self, status: &RolloutStatus, target: &Target, operations: &[Value]) {
        let path = annotation_path(VERDICT);
        let written = operations.iter().find(|o| {
            let of = o.get("path").and_then(Value::as_str);
            of == Some(path.as_str())
        });
        let Some(record) = self.cluster.objects.get(&target.object) else {
            return;
        };
        let good = annotation(record, VERDICT) == Some(reason::PROMOTED);
        let hash = record.pointer("/metadata/labels/pod-template-hash");
        let attempt = status.attempt.as_ref();
        let given_up = attempt.is_some_and(|a| {
            let outcome = a.outcome.as_deref().unwrap_or_default();
            hash.and_then(Value::as_str) == Some(a.hash.as_str())
                && [reason::ROLLED_BACK, reason::ABORTED].contains(&outcome)
        });
        if good && written.is_some() && !given_up {
            let what = format!(
                "{} was promoted, and its record loses that",
                target.object.name
            );
            self.timeline.broke(self.now, &what);
        }
    }

    /// S19: who lets go of a Rollout that is deleted writes nothing else: it would land when there may be
    /// another of that name.
    pub(super) fn check_parting(&mut self, actions: &[Action]) {
        let rollout = self.cluster.rollout.as_ref();
        let deleted = rollout.is_some_and(|r| r.metadata.deletion_timestamp.is_some());
        if !deleted || !actions.contains(&Action::Release) {
            return;
        }
        let others = actions.iter().filter_map(Action::target);
        let mut others = others.filter(|t| t.object.kind != ROLLOUT);
        if let Some(other) = others.next() {
            let what = format!("S19: the finalizer goes, {} is written", other.object.name);
            self.timeline.broke(self.now, &what);
        }
    }

    /// S29: no route is bent when the finalizer goes.
    fn check_release(&mut self) {
        let routes = self.cluster.objects.iter();
        let mut routes = routes.filter(|(r, _)| is_route(r.kind));
        let bent = |route: &Value| canary_share(route) > 0 || annotation(route, BACKENDS).is_some();
        if let Some((bent, _)) = routes.find(|(_, route)| bent(route)) {
            let what = format!("S29: the finalizer goes, {} is bent", bent.name);
            self.timeline.broke(self.now, &what);
        }
    }

    /// S3: no pods of a revision that is not stable are added while users come by their own Service.
    fn check_added(&mut self, status: &RolloutStatus, set: &str, wanted: u64) {
        let stable = status.stable_revision.as_ref();
        let there = self.cluster.pods.get(set).map_or(0, |p| p.pods.len());
        let added = u64::try_from(there).is_ok_and(|there| wanted > there);
        let other = stable.is_some_and(|hash| !set.ends_with(&format!("-{hash}")));
        if added && other && self.routed() && self.cluster.loose() {
            let what = format!("S3: {set} grows to {wanted} while users reach every pod");
            self.timeline.broke(self.now, &what);
        }
    }

    /// S1 and S3 where backends are put in or taken out.
    fn check_backends(&mut self, operations: &[Value]) {
        let services = self.cluster.names.services.clone();
        let value = |o: &Value| {
            let path = o.get("path").and_then(Value::as_str)?;
            path.ends_with("/backendRefs")
                .then(|| json!({"spec": {"rules": [{"backendRefs": o.get("value")}]}}))
        };
        let written: Vec<Value> = operations.iter().filter_map(value).collect();
        for rule in written {
            let stable = self.cluster.selected(&services.stable).unwrap_or_default();
            let ready = self.cluster.ready_of(stable, self.now);
            let all = self.cluster.pods.values().map(|p| p.ready(self.now));
            let needed = need(FULL, self.cluster.wanted()).min(all.sum());
            let what = match is_loose(&rule, &services.user) {
                true => (self.cluster.stranger(None))
                    .map(|hash| format!("S3: users are sent to every pod, also of {hash}")),
                false if canary_share(&rule) > 0 => {
                    Some("S3: the canary is put in with a weight".to_owned())
                }
                false => (ready < needed)
                    .then(|| format!("S1: everything is sent to {ready} pods of {needed}")),
            };
            if let Some(what) = what {
                self.timeline.broke(self.now, &what);
            }
        }
    }

    /// S1 and S3 where the stable Service's selector is the switch.
    fn check_switch(&mut self, status: &RolloutStatus, operations: &[Value]) {
        let Some(hash) = turned(operations) else {
            return;
        };
        if status.stable_revision.as_deref() == Some(hash) {
            return;
        }
        // A first deploy has no steps.
        let first = status.stable_revision.is_none();
        let allowed = engine::strategy::allowed_weight(status);
        let attempt = status.attempt.as_ref().map(|a| a.hash.as_str());
        if !first && (allowed < 100 || attempt != Some(hash)) {
            self.timeline.broke(
                self.now,
                &format!("S3: everything is sent to {hash} where {allowed} is allowed"),
            );
        }
        let ready = self.cluster.ready_of(hash, self.now);
        if ready < self.cluster.wanted() {
            self.timeline.broke(
                self.now,
                &format!("S1: everything is sent to {hash}, which has {ready} ready pods"),
            );
        }
    }

    /// S7 where a route has the weights.
    fn check_turn(&mut self, service: &str, operations: &[Value]) {
        let gets = self.shares().into_iter().find(|(name, _)| name == service);
        let (Some(hash), Some((_, share))) = (turned(operations), gets) else {
            return;
        };
        let (ready, needed) = (
            self.cluster.ready_of(hash, self.now),
            need(share, self.cluster.wanted()),
        );
        // To stable, where its users are served no worse.
        let now = self.cluster.selected(service);
        let served = now.map_or(u32::MAX, |now| self.cluster.ready_of(now, self.now));
        let rescue = service == self.cluster.names.services.stable && ready >= served;
        if self.routed() && ready < needed && !rescue {
            let what = format!(
                "S7: {service} turns to {hash}, which has {ready} ready pods, under {}",
                show(share)
            );
            self.timeline.broke(self.now, &what);
        }
    }

    /// S7: what a Service selects by, the pods have. Checked once it is written.
    pub(super) fn check_selector(&mut self, action: &Action) {
        let Action::Patch { target, operations } = action else {
            return;
        };
        let writes = |o: &Value| {
            let path = o.get("path").and_then(Value::as_str);
            path.is_some_and(|p| p.starts_with("/spec/selector"))
        };
        let service = self.cluster.objects.get(&target.object);
        let written = target.object.kind == SERVICE && operations.iter().any(writes);
        let selector = service.and_then(|s| s.pointer("/spec/selector")?.as_object());
        let (true, Some(selector)) = (written, selector) else {
            return;
        };
        let hash = selector.get(POD_TEMPLATE_HASH);
        let labels = |(r, set): (&ObjectRef, &Value)| {
            let labels = set.pointer("/spec/template/metadata/labels")?;
            let of = r.kind == REPLICA_SET
                && hash.is_some_and(|h| labels.get(POD_TEMPLATE_HASH) == Some(h));
            of.then(|| labels.clone())
        };
        let Some(labels) = self.cluster.objects.iter().find_map(labels) else {
            return;
        };
        if let Some((key, _)) = selector.iter().find(|(k, v)| labels.get(k) != Some(v)) {
            let what = format!(
                "S7: {} selects by {key}, which its pods do not have",
                target.object.name
            );
            self.timeline.broke(self.now, &what);
        }
    }

    pub(super) fn check_scale(&mut self, status: &RolloutStatus, target: &Target, wanted: u32) {
        let replicas = self.cluster.wanted();
        let hash = self
            .cluster
            .pods
            .get(&target.object.name)
            .map(|p| p.hash.clone())
            .unwrap_or_default();
        self.check_left(&hash, wanted);
        if !self.routed() {
            self.check_availability(&hash, wanted);
            return;
        }
        if replicas == 0 {
            return;
        }
        let rollout = self.cluster.rollout.as_ref();
        let canary = rollout.and_then(|r| r.spec.strategy.canary.as_ref());
        let gives = canary.is_some_and(|c| c.dynamic_stable_scale);
        let least = if gives { 1 } else { replicas };
        if status.stable_revision.as_deref() == Some(&hash) && wanted < least {
            let what = format!("S6: stable is scaled to {wanted}, and is to keep {least}");
            self.timeline.broke(self.now, &what);
        }
        // The data plane may lag behind what the Service selects.
        let faults: Vec<String> = self
            .shares()
            .into_iter()
            .filter(|(service, share)| {
                let gets = self.cluster.selected(service) == Some(&hash)
                    || self.cluster.behind(service) == Some(&hash);
                gets && wanted < need(*share, replicas)
            })
            .map(|(service, share)| {
                format!(
                    "S4: {hash} is scaled to {wanted} while {} of the traffic goes there by {service}",
                    show(share)
                )
            })
            .collect();
        for fault in faults {
            self.timeline.broke(self.now, &fault);
        }
    }

    /// S4 where a former strategy turned a Service, by which users may still come.
    fn check_left(&mut self, hash: &str, wanted: u32) {
        let roles = self.cluster.names.services.roles();
        let needed = need(FULL, self.cluster.wanted());
        let ready = self.cluster.ready_of(hash, self.now);
        let objects = self.cluster.objects.keys();
        let left = objects.filter(|o| o.kind == SERVICE && !roles.contains(&&o.name));
        let faults: Vec<String> = left
            .filter(|o| self.cluster.selected(&o.name) == Some(hash))
            .filter(|_| wanted < ready.min(needed))
            .map(|o| {
                format!(
                    "S4: {hash} is scaled to {wanted} while Service {} selects nothing else",
                    o.name
                )
            })
            .collect();
        for fault in faults {
            self.timeline.broke(self.now, &fault);
        }
    }

    /// S12 where pods are the weight: what is ready stays above what may be unavailable.
    fn check_availability(&mut self, hash: &str, wanted: u32) {
        let rollout = self.cluster.filled();
        let Some(spec) = rollout.and_then(|r| Spec::examine(&r).0) else {
            return;
        };
        let ready = self.cluster.ready_of(hash, self.now);
        let all = self.cluster.pods.values();
        let all: u32 = all.map(|p| p.ready(self.now)).sum();
        let left = all - ready.saturating_sub(wanted);
        let least = spec.replicas.saturating_sub(spec.course.max_unavailable);
        if wanted < ready && left < least {
            let what = format!("S12: {hash} is scaled to {wanted}, which leaves {left} ready pods");
            self.timeline.broke(self.now, &what);
        }
    }

    fn check_weights(&mut self, status: &RolloutStatus, operations: &[Value]) {
        let weights: Vec<u32> = operations
            .iter()
            .filter(|o| {
                o.get("path")
                    .and_then(Value::as_str)
                    .is_some_and(|p| p.ends_with("/weight"))
            })
            .filter_map(|o| u32::try_from(o.get("value")?.as_u64()?).ok())
            .collect();
        let [stable, canary] = weights.as_slice() else {
            return;
        };
        let total = stable + canary;
        if total != 100 && total != FULL {
            self.timeline
                .broke(self.now, "S2: the weights do not sum up");
        }
        let allowed = engine::strategy::allowed_weight(status);
        let share = if total == 100 {
            percent(*canary)
        } else {
            *canary
        };
        let routes = self.cluster.objects.iter();
        let mut routes = routes.filter(|(r, _)| is_route(r.kind));
        let raised = routes.any(|(_, route)| canary_share(route) < share);
        let needed = need(share, self.cluster.wanted());
        let service = &self.cluster.names.services.canary;
        let ready = self.cluster.selected(service);
        let ready = ready.map_or(0, |hash| self.cluster.ready_of(hash, self.now));
        if raised && ready < needed {
            let what = format!("S1: {} is sent to {ready} ready pods", show(share));
            self.timeline.broke(self.now, &what);
        }
        // A trace is how an edge is left and reached, in a retreat as well.
        let trace = allowed == 0 && share + 1 == FULL;
        if raised && share > percent(allowed).max(1) && !trace {
            self.timeline.broke(
                self.now,
                &format!(
                    "S3: weight {} is written where {allowed} is allowed",
                    show(share)
                ),
            );
        }
    }

    /// Nothing looks finished while the template in force is another one.
    pub(super) fn check_finished(&mut self, observed: &Observed, status: &RolloutStatus) {
        let current = match &observed.current {
            // An undo may ask for another one.
            Current::Recorded(_) => engine::strategy::wanted_hash(observed, status),
            Current::New(_) | Current::Refused(_) | Current::Unknown => None,
        };
        if status.phase.as_deref() == Some("Healthy") && status.stable_revision != current {
            self.timeline.broke(
                self.now,
                "it looks finished before the template in force is stable",
            );
        }
    }

    /// S16: nothing becomes stable whose analysis in the background never was.
    pub(super) fn check_judged(&mut self, observed: &Observed, status: &RolloutStatus) {
        let before = observed.rollout.status.as_ref();
        let before = before.and_then(|b| b.stable_revision.as_ref());
        let promoted = before.is_some() && before != status.stable_revision.as_ref();
        let attempt = status.attempt.as_ref().filter(|a| a.analysis.is_some());
        let Some(attempt) = attempt.filter(|_| promoted) else {
            return;
        };
        let judged = observed.runs.iter().any(|run| {
            let of = (&run.spec.revision, run.spec.attempt);
            of == (&attempt.hash, attempt.number) && run.spec.step == "background"
        });
        if !judged {
            let what = format!("S16: {} is promoted, and nothing judged it", attempt.hash);
            self.timeline.broke(self.now, &what);
        }
    }

    pub(super) fn routed(&self) -> bool {
        let Some(rollout) = &self.cluster.rollout else {
            return false;
        };
        let canary = rollout.spec.strategy.canary.as_ref();
        rollout.spec.strategy.blue_green.is_some()
            || canary.is_some_and(|c| c.traffic_routing.is_some())
    }

    /// What each role Service gets. A switch sends everything to the stable one; where users come by their own,
    /// neither gets anything.
    fn shares(&self) -> [(String, u32); 2] {
        let whole = if self.cluster.gateway.loose { 0 } else { FULL };
        let share = match self.cluster.names.switched {
            true => 0,
            false => self.cluster.gateway.share,
        };
        let services = &self.cluster.names.services;
        [
            (services.stable.clone(), whole - share.min(whole)),
            (services.canary.clone(), share.min(whole)),
        ]
    }
}

/// The revision that a patch of a Service lets it select.
fn turned(operations: &[Value]) -> Option<&str> {
    let selector = "/spec/selector";
    operations.iter().find_map(|o| {
        let path = o.get("path")?.as_str()?;
        let value = o.get("value")?;
        if path == selector {
            return value.get(POD_TEMPLATE_HASH)?.as_str();
        }
        (path == "/spec/selector/pod-template-hash")
            .then(|| value.as_str())
            .flatten()
    })
}
