//! What somebody knows of the pods, the traffic and the decision.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

use crate::{
    api::{
        kinds::{POD, ROLLOUT, ROUTE, SERVICE, SET, SLICE},
        store::{Path, number, text},
        write::owner,
    },
    nature::{
        gateway::{loose, share, written},
        pods::serves,
    },
    world::World,
};

use super::FULL;

/// The label with a revision's hash.
pub const HASH: &str = "/metadata/labels/pod-template-hash";

/// The revision that a Service selects.
pub const SELECTOR: &str = "/spec/selector/pod-template-hash";

/// What was committed last.
#[derive(Clone, Debug, Default)]
pub struct Decided {
    /// The share that the steps allow the canary.
    pub allowed: u32,
    /// Whether an attempt was given up, and stable is on its way back.
    pub gives_up: bool,
    /// The stable revision.
    pub stable: String,
    /// The sequence number.
    pub sequence: u64,
}

impl Decided {
    /// By a Rollout's status.
    pub fn of(rollout: &Value) -> Self {
        let attempt = &rollout["status"]["attempt"];
        let stage = text(attempt, "/stage");
        let index = usize::try_from(number(attempt, "/stepIndex")).unwrap_or(0);
        let steps = attempt["steps"]
            .as_array()
            .into_iter()
            .flatten()
            .take(index + 1);
        let weight = steps
            .filter_map(|s| s["setWeight"].as_u64())
            .last()
            .unwrap_or(0);
        let allowed = match stage {
            "Stepping" => u32::try_from(weight).unwrap_or(0) * (FULL / 100),
            "Promoting" | "Baking" | "Switching" => FULL,
            _ => 0,
        };
        Self {
            allowed,
            gives_up: stage == "RollingBack",
            stable: text(rollout, "/status/stableRevision").to_owned(),
            sequence: number(rollout, "/status/decision/sequence"),
        }
    }
}

/// What somebody knows.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Ready pods by hash.
    pub ready: BTreeMap<String, u64>,
    /// Ready endpoints by hash, of the Service that has the most.
    endpoints: BTreeMap<String, u64>,
    /// Pods wanted by hash.
    pub desired: BTreeMap<String, u64>,
    /// Pods wanted in all: the fewest and the most.
    pub replicas: (u64, u64),
    /// What was committed last.
    pub decided: Decided,
    /// The canary's share as a route says it.
    pub share: Option<u32>,
    /// Whether a route names the user's Service.
    pub loose: bool,
    /// Whether the Rollout is there.
    pub there: bool,
    /// Which revisions each Service selects, in one view or another.
    pub selects: BTreeMap<String, BTreeSet<String>>,
}

impl Seen {
    /// By some objects.
    pub fn of<'a>(objects: impl Iterator<Item = (&'a Path, &'a Arc<Value>)>) -> Self {
        let mut seen = Self::default();
        let mut names = BTreeMap::new();
        let mut slices = vec![];
        for (path, object) in objects {
            match path.kind {
                SET => {
                    let hash = text(object, HASH).to_owned();
                    let desired = number(object, "/spec/replicas");
                    seen.most_ready(&hash, number(object, "/status/readyReplicas").min(desired));
                    seen.desired.insert(hash.clone(), desired);
                    names.insert(path.name.clone(), hash);
                }
                SLICE => slices.push(object),
                SERVICE => {
                    let hash = text(object, SELECTOR).to_owned();
                    seen.selects.insert(path.name.clone(), [hash].into());
                }
                ROUTE => {
                    seen.share = Some(share(written(object)));
                    seen.loose |= loose(object);
                }
                ROLLOUT => {
                    let replicas = number(object, "/spec/replicas");
                    seen.replicas = (replicas, replicas);
                    seen.there = true;
                }
                _ => {}
            }
        }
        for slice in slices {
            let mut ready = BTreeMap::new();
            for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
                let pod = text(endpoint, "/targetRef/name")
                    .rsplit_once('-')
                    .map_or("", |(set, _)| set);
                if endpoint["conditions"]["ready"] == true
                    && let Some(hash) = names.get(pod)
                {
                    *ready.entry(hash.clone()).or_insert(0) += 1;
                }
            }
            for (hash, n) in ready {
                let endpoints = seen.endpoints.entry(hash.clone()).or_insert(0);
                *endpoints = n.max(*endpoints);
                let most = seen.desired.get(&hash).copied().unwrap_or(0);
                seen.most_ready(&hash, n.min(most));
            }
        }
        seen
    }

    fn most_ready(&mut self, hash: &str, n: u64) {
        let ready = self.ready.entry(hash.to_owned()).or_insert(0);
        *ready = n.max(*ready);
    }

    /// Whatever either knows, in favour of whoever acts on it.
    pub fn join(&mut self, other: &Self) {
        for (hash, n) in &other.ready {
            self.most_ready(hash, *n);
        }
        for (hash, n) in &other.desired {
            self.desired.entry(hash.clone()).or_insert(*n);
        }
        for (name, hashes) in &other.selects {
            let views = self.selects.entry(name.clone()).or_default();
            views.extend(hashes.iter().cloned());
        }
        self.loose &= other.loose;
        self.replicas = (
            self.replicas.0.min(other.replicas.0),
            self.replicas.1.max(other.replicas.1),
        );
    }

    /// At most as many endpoints as another look has.
    pub fn fewer_endpoints(&mut self, other: &Self) {
        for (hash, n) in &mut self.endpoints {
            *n = other.endpoints(hash).min(*n);
        }
    }

    /// Ready endpoints of a revision.
    pub fn endpoints(&self, hash: &str) -> u64 {
        self.endpoints.get(hash).copied().unwrap_or(0)
    }
    /// Ready pods of a revision.
    pub fn ready(&self, hash: &str) -> u64 {
        self.ready.get(hash).copied().unwrap_or(0)
    }
}

impl World {
    /// What is true.
    pub fn truth(&self) -> Seen {
        let all = [SET, SLICE, ROLLOUT].into_iter();
        let mut seen = Seen::of(all.flat_map(|kind| self.store.all(kind)));
        let mut ready: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, pod) in self
            .store
            .all(POD)
            .filter(|(_, p)| serves(p) && owner(p).is_some())
        {
            *ready.entry(text(pod, HASH)).or_insert(0) += 1;
        }
        for (hash, n) in ready {
            seen.most_ready(hash, n);
        }
        if let Some(rollout) = self.store.get(&Path::new(ROLLOUT, "app")) {
            seen.decided = Decided::of(rollout);
        }
        seen
    }
}
