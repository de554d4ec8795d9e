//! What watches see of the fleet, and when.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures::StreamExt;
use kube::{
    Api, Client,
    api::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};
use serin::api::Rollout;
use tokio::sync::watch;

use crate::{
    Result,
    fleet::{NAMESPACE, name, routes},
    serin::LIMIT,
};

/// A Rollout as it was seen last.
#[derive(Clone, Default, PartialEq)]
pub struct Look {
    /// The tag of the image that is asked for.
    pub version: String,
    pub phase: String,
    pub stage: String,
    pub step: i32,
    /// Whether the newest template is the one that is decided on.
    pub current: bool,
    /// Whether its image is that of `stable`.
    pub promoted: bool,
    /// Whether an old revision keeps pods.
    pub draining: bool,
    /// Whether everything was told as an Event, and that is recorded.
    pub told: bool,
}

impl Look {
    /// Deployed or promoted to the end.
    pub fn healthy_at(&self, version: &str) -> bool {
        self.version == version && self.healthy()
    }
    fn healthy(&self) -> bool {
        self.current && self.promoted && self.phase == "Healthy" && self.stage == "Done"
    }
    pub fn at_step(&self, step: i32) -> bool {
        self.current && self.stage == "Stepping" && self.step == step
    }
    /// At rest, with nothing left to be done or told.
    pub fn quiet(&self) -> bool {
        self.current && self.stage == "Done" && !self.draining && self.told
    }
}

#[derive(Default)]
struct Known {
    rollouts: BTreeMap<String, Vec<(Instant, Look)>>,
    weights: BTreeMap<String, Vec<(Instant, i64)>>,
}

/// What watches see.
pub struct Seen {
    known: Arc<Mutex<Known>>,
    changed: watch::Receiver<()>,
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn push<T: PartialEq>(list: &mut Vec<(Instant, T)>, value: T) {
    if list.last().is_none_or(|(_, last)| *last != value) {
        list.push((Instant::now(), value));
    }
}

impl Seen {
    pub fn start(client: &Client) -> Self {
        let known = Arc::<Mutex<Known>>::default();
        let (tell, changed) = watch::channel(());
        let (rollouts, weights, told) = (Arc::clone(&known), Arc::clone(&known), tell.clone());
        let api = Api::<Rollout>::namespaced(client.clone(), NAMESPACE);
        tokio::spawn(async move {
            let events = watcher(api, watcher::Config::default());
            let mut events = std::pin::pin!(events.default_backoff().applied_objects());
            while let Some(event) = events.next().await {
                let Ok(rollout) = event else { continue };
                let (name, look) = look(rollout);
                push(lock(&rollouts).rollouts.entry(name).or_default(), look);
                told.send_replace(());
            }
        });
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), NAMESPACE, &routes());
        tokio::spawn(async move {
            let events = watcher(api, watcher::Config::default());
            let mut events = std::pin::pin!(events.default_backoff().applied_objects());
            while let Some(event) = events.next().await {
                let Ok(route) = event else { continue };
                let refs = route.data.pointer("/spec/rules/0/backendRefs/1/weight");
                let weight = refs.and_then(serde_json::Value::as_i64).unwrap_or(0);
                let name = route.metadata.name.unwrap_or_default();
                push(lock(&weights).weights.entry(name).or_default(), weight);
                tell.send_replace(());
            }
        });
        Self { known, changed }
    }

    /// Waits until `holds` of each of these Rollouts, as they stand now.
    pub async fn all(
        &self,
        what: &str,
        numbers: std::ops::Range<usize>,
        holds: impl Fn(&Look) -> bool,
    ) -> Result {
        let names: Vec<String> = numbers.map(name).collect();
        // Where it was found wanting last: it is looked at first.
        let mut first = 0;
        let done = |known: &Known, first: &mut usize| {
            while let Some(name) = names.get(*first) {
                let last = known.rollouts.get(name).and_then(|l| l.last());
                if !last.is_some_and(|(_, look)| holds(look)) {
                    return false;
                }
                *first += 1;
            }
            true
        };
        let mut changed = self.changed.clone();
        let waiting = async {
            while !done(&lock(&self.known), &mut first) {
                drop(changed.changed().await);
            }
        };
        if tokio::time::timeout(LIMIT, waiting).await.is_err() {
            let stuck = names.get(first).cloned().unwrap_or_default();
            return Err(format!("{what} did not come, {stuck} is not so").into());
        }
        Ok(())
    }

    /// When a Rollout was first seen so after `since`; none where it was not.
    pub fn rollout_at(
        &self,
        n: usize,
        since: Instant,
        holds: impl Fn(&Look) -> bool,
    ) -> Option<Instant> {
        let known = lock(&self.known);
        let mut all = known.rollouts.get(&name(n))?.iter();
        all.find(|(at, look)| *at >= since && holds(look))
            .map(|(at, _)| *at)
    }

    /// Waits until a route's canary has this weight at most, and tells when that was first seen after
    /// `since`.
    pub async fn weight(&self, n: usize, since: Instant, most: i64) -> Result<Instant> {
        let mut changed = self.changed.clone();
        let waiting = async {
            loop {
                let found = {
                    let known = lock(&self.known);
                    let all = known.weights.get(&name(n)).into_iter().flatten();
                    all.filter(|(at, weight)| *at >= since && *weight <= most)
                        .map(|(at, _)| *at)
                        .next()
                };
                match found {
                    Some(at) => return at,
                    None => drop(changed.changed().await),
                }
            }
        };
        let found = tokio::time::timeout(LIMIT, waiting).await;
        found.map_err(|_| format!("the route of {} keeps its weight", name(n)).into())
    }
}

fn look(rollout: Rollout) -> (String, Look) {
    let name = rollout.metadata.name.unwrap_or_default();
    let generation = rollout.metadata.generation;
    let image = rollout
        .spec
        .template
        .pointer("/spec/containers/0/image")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    let version = image.rsplit(':').next().unwrap_or_default().to_owned();
    let Some(status) = rollout.status else {
        return (name, Look::default());
    };
    let attempt = status.attempt.as_ref();
    let look = Look {
        version,
        phase: status.phase.clone().unwrap_or_default(),
        stage: attempt.map_or(String::new(), |a| a.stage.clone()),
        step: attempt.map_or(0, |a| a.step_index),
        current: status.observed_generation == generation,
        promoted: status.stable_revision.is_some()
            && status.stable_revision == status.current_revision,
        told: {
            let last = status.history.iter().map(|h| h.number).max();
            status.decision.as_ref().map_or(0, |d| d.told) >= last.unwrap_or(0)
        },
        draining: !status.draining.is_empty() || status.tracks.iter().any(|t| t.name == "canary"),
    };
    (name, look)
}
