//! One look at the virtual cluster.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::{
        AnalysisRun, Rollout,
        names::{DECISION, PINNED_OVER, POD_TEMPLATE_HASH, PROMOTED_AT, VERDICT, VERDICT_BY},
    },
    engine::traffic::is_route,
    model::{
        object::{
            ANALYSIS_RUN, CONTROLLER_REVISION, Kind, ObjectRef, REPLICA_SET, SERVICE, annotation,
            annotation_number, has_annotations, labels, relabel,
        },
        observed::{Current, Observed, Trouble},
        revisions::{ReplicaSetView, Revision, asked, hash},
        spec::strays,
        workload::set_name,
    },
};

use super::{
    Cluster, number,
    pods::{PodSet, count},
    text,
};

impl Cluster {
    /// One look at everything.
    pub fn observe(&self, now: Timestamp) -> Option<Observed> {
        let mut rollout = self.rollout.clone()?;
        let name = rollout.metadata.name.clone().unwrap_or_default();
        let of = |kind: Kind| self.objects.iter().filter(move |(r, _)| r.kind == kind);
        let mut revisions: Vec<Revision> = of(CONTROLLER_REVISION)
            .filter(|(_, v)| text(v, "/metadata/labels/serin.dev~1rollout") == name)
            .map(|(_, v)| self.revision(&rollout, v, now))
            .collect();
        revisions.sort_by_key(|r| r.number);
        let workload = self.workload(&rollout, &revisions);
        if let Some(workload) = &workload {
            workload.fill(&mut rollout, &revisions);
        }
        let services: BTreeMap<String, Value> = of(SERVICE)
            .map(|(r, v)| (r.name.clone(), v.clone()))
            .collect();
        let endpoints = services
            .iter()
            .filter(|(n, s)| {
                let roles = &self.names.services;
                text(s, "/metadata/labels/serin.dev~1rollout") == name
                    || **n == roles.stable
                    || **n == roles.canary
                    || **n == roles.user
            })
            .map(|(n, s)| {
                let selected = s
                    .pointer("/spec/selector")
                    .and_then(|l| l.get(POD_TEMPLATE_HASH)?.as_str());
                // The user's selects the pods of all revisions.
                let all = selected.is_none() && *n == self.names.services.user;
                let by_hash = self
                    .pods
                    .values()
                    .filter(|p| all || Some(p.hash.as_str()) == selected);
                (
                    n.clone(),
                    by_hash.map(|p| (p.hash.clone(), p.ready(now))).collect(),
                )
            })
            .collect();
        let mut runs: Vec<AnalysisRun> = of(ANALYSIS_RUN)
            .filter_map(|(_, v)| serde_json::from_value(v.clone()).ok())
            .collect();
        runs.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        Some(Observed {
            current: workload
                .as_ref()
                .and_then(|w| w.current(&rollout, &revisions))
                .unwrap_or_else(|| current(&rollout, &revisions)),
            endpoints,
            routes: self
                .objects
                .iter()
                .filter(|(r, _)| is_route(r.kind))
                .map(|(r, v)| (r.clone(), v.clone()))
                .collect(),
            troubles: self.troubles(&revisions),
            refused: None,
            templates: self.templates.clone(),
            workload,
            rollout,
            revisions,
            services,
            runs,
            live: true,
        })
    }

    fn troubles(&self, revisions: &[Revision]) -> Vec<Trouble> {
        let of = |set: &PodSet| -> Vec<Trouble> {
            set.pods
                .iter()
                .filter_map(|p| {
                    let (reason, message) = p.trouble.clone()?;
                    Some(Trouble {
                        hash: set.hash.clone(),
                        what: format!("pod {}", p.name),
                        reason,
                        message,
                    })
                })
                .collect()
        };
        let refused = |r: &Revision| r.replica_set.as_ref()?.trouble(&r.hash);
        let refused = revisions.iter().filter_map(refused);
        self.pods.values().flat_map(of).chain(refused).collect()
    }

    fn revision(&self, rollout: &Rollout, value: &Value, now: Timestamp) -> Revision {
        let name = set_name(rollout, text(value, "/metadata/labels/pod-template-hash"));
        let name = name.as_str();
        // One without its labels is not seen.
        let labelled = |set: &&Value| relabel(set, labels(value)).is_empty();
        let set = self
            .objects
            .get(&ObjectRef::new(REPLICA_SET, name))
            .filter(labelled)
            .map(|s| {
                let pods = self.pods.get(name).cloned().unwrap_or_default();
                let min_ready = i32::try_from(number(s, "/spec/minReadySeconds")).unwrap_or(0);
                ReplicaSetView {
                    name: name.to_owned(),
                    uid: text(s, "/metadata/uid").to_owned(),
                    resource_version: text(s, "/metadata/resourceVersion").to_owned(),
                    has_annotations: has_annotations(s),
                    decision: annotation_number(s, DECISION),
                    seen: true,
                    desired: number(s, "/spec/replicas"),
                    current: count(pods.pods.len()),
                    ready: pods.ready(now),
                    available: pods.available(now, i64::from(min_ready)),
                    refused: pods.refused,
                    min_ready,
                }
            });
        Revision {
            hash: text(value, "/metadata/labels/pod-template-hash").to_owned(),
            number: value.get("revision").and_then(Value::as_i64).unwrap_or(0),
            template: value.pointer("/data/template").cloned().unwrap_or_default(),
            verdict: annotation(value, VERDICT).unwrap_or_default().to_owned(),
            verdict_by: annotation(value, VERDICT_BY).map(str::to_owned),
            promoted_at: annotation(value, PROMOTED_AT).and_then(|t| t.parse().ok()),
            pinned_over: annotation(value, PINNED_OVER).map(str::to_owned),
            uid: text(value, "/metadata/uid").to_owned(),
            resource_version: text(value, "/metadata/resourceVersion").to_owned(),
            has_annotations: has_annotations(value),
            replica_set: set,
        }
    }
}

fn current(rollout: &Rollout, revisions: &[Revision]) -> Current {
    let template = asked(rollout, revisions);
    if let Some(same) = revisions.iter().rev().find(|r| r.template == *template) {
        return Current::Recorded(same.hash.clone());
    }
    let stray = strays(rollout).into_iter().next();
    stray.map_or_else(
        || Current::New(hash(&template, 0)),
        |fault| Current::Refused(fault.to_string()),
    )
}
