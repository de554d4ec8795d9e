//! Every state of a Rollout that whoever watches the API server sees while a scenario is played.

#![allow(dead_code, reason = "each test looks at what it needs")]

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use jiff::{SignedDuration, Timestamp};
use serin::{
    api::Rollout,
    model::observed::Observed,
    sim::{Scenario, Simulation, cluster::Cluster},
};

/// A state of a Rollout, and what is true of the cluster then.
pub struct Sight {
    /// When.
    pub at: Timestamp,
    /// The object as the API server gives it.
    pub rollout: Rollout,
    /// All that the controller sees then.
    pub observed: Observed,
    /// The canary's share of the traffic as it is served, in millionths.
    pub served: u32,
    /// Ready pods of the version that the template names, or an undo.
    pub ready: usize,
}

fn image(rollout: &Rollout) -> String {
    let image = rollout.spec.template.pointer("/spec/containers/0/image");
    image
        .and_then(|i| i.as_str())
        .unwrap_or_default()
        .to_owned()
}

fn sight(cluster: &Cluster, at: Timestamp) -> Option<Sight> {
    let rollout = cluster.rollout.clone()?;
    let version = image(&cluster.filled()?)
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .to_owned();
    let undo = rollout.status.as_ref().and_then(|s| s.undo.as_ref());
    let sets = cluster.pods.values().filter(|s| match undo {
        Some(undo) => s.hash == undo.revision,
        None => s.version == version,
    });
    let ready = sets.map(|s| s.ready(at) as usize).sum();
    Some(Sight {
        at,
        observed: cluster.observe(at)?,
        served: cluster.share(),
        rollout,
        ready,
    })
}

/// Plays a scenario and gives every state of its Rollout.
pub fn play(scenario: &Scenario) -> (Vec<Sight>, Simulation) {
    let seen = Arc::new(Mutex::new(vec![]));
    let sink = Arc::clone(&seen);
    let until = SignedDuration::try_from(scenario.until.parse().expect("until")).expect("a span");
    let played = Simulation::new(scenario)
        .expect("a scenario")
        .watch(move |cluster, at| sink.lock().expect("one thread").extend(sight(cluster, at)))
        .play(until);
    let seen = std::mem::take(&mut *seen.lock().expect("one thread"));
    (seen, played)
}

/// The scenarios by name, but for those in which somebody writes the status by hand: what it tells
/// then is not Serin's word.
pub fn scenarios() -> Vec<(String, Scenario)> {
    let mut files: Vec<PathBuf> = fs::read_dir("tests/scenarios")
        .expect("the folder of scenarios")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a scenario");
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        (name, serde_saphyr::from_str(&text).expect("a scenario"))
    };
    let by_hand = |(_, s): &(String, Scenario)| s.events.iter().any(|e| e.status.is_some());
    files.iter().map(read).filter(|s| !by_hand(s)).collect()
}
