//! From one version of Serin to another and back: instants of rollouts that other versions left
//! behind, from which this one goes on to the end that they came to.
//!
//! `RECORD=name cargo test --no-default-features --test upgrade` has this version record its own in
//! `tests/upgrade/name.json`, as is done with each release. What is there before the first release is a
//! commit's, from before the engine was searched for its faults.

#![allow(clippy::panic, reason = "a test that cannot read its data says so")]

#[path = "support/sights.rs"]
mod sights;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serin::{
    api::RolloutStatus,
    model::object::CONTROLLER_REVISION,
    sim::{Scenario, Simulation, moment::Moment},
};

const FOLDER: &str = "tests/upgrade";
/// What is left behind goes on for so long.
const ON: SignedDuration = SignedDuration::from_hours(1);
/// So many instants of a scenario are recorded at most, the rarest first.
const OF_A_SCENARIO: usize = 2;

/// An instant, and the end that comes of it.
#[derive(Clone, Deserialize, Serialize)]
struct Left {
    /// The scenario.
    scenario: String,
    /// What is new about it.
    state: String,
    /// The instant.
    moment: Moment,
    /// The end.
    end: End,
}

/// How it ended.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
struct End {
    phase: String,
    stable: String,
    /// The canary's share in millionths.
    share: u32,
    /// Every revision that there is.
    revisions: BTreeSet<String>,
    /// Pods by version.
    pods: BTreeMap<String, usize>,
    /// What became of commands.
    commands: Vec<String>,
    /// The attempts that were decided, one after the other.
    verdicts: Vec<String>,
}

fn end(played: &Simulation) -> End {
    let cluster = &played.cluster;
    let status = cluster.status();
    let stable = status.stable_revision.clone().unwrap_or_default();
    let revisions = cluster.objects.keys();
    let mut pods = BTreeMap::new();
    for set in cluster.pods.values().filter(|s| !s.pods.is_empty()) {
        *pods.entry(set.version.clone()).or_default() += set.pods.len();
    }
    let verdict = ["Promoted", "RolledBack", "Aborted", "Superseded"];
    let history = status.history.iter();
    End {
        phase: status.phase.clone().unwrap_or_default(),
        stable: cluster.version_of(&stable),
        share: cluster.share(),
        revisions: revisions
            .filter(|r| r.kind == CONTROLLER_REVISION)
            .map(|r| r.name.clone())
            .collect(),
        pods,
        commands: (status.commands.iter())
            .map(|c| format!("{} {}", c.name, c.outcome))
            .collect(),
        verdicts: history
            .filter(|h| verdict.contains(&h.reason.as_str()))
            .map(|h| h.reason.clone())
            .collect(),
    }
}

fn go_on(moment: Moment) -> Simulation {
    let passed = moment.now.duration_since(moment.begin);
    Simulation::resume(moment)
        .unwrap_or_else(|e| panic!("{e}"))
        .play(passed.saturating_add(ON))
}

/// What makes an instant unlike others: the strategy, where the attempt is, what it waits for, and what
/// has been written of it.
fn state(moment: &Moment) -> String {
    let spec = serde_json::to_value(&moment.rollout.spec.strategy).unwrap_or_default();
    let strategy: Vec<&String> = spec
        .as_object()
        .into_iter()
        .flat_map(|s| s.keys())
        .collect();
    let routed = spec.to_string().contains("trafficRouting");
    let status: RolloutStatus = moment.rollout.status.clone().unwrap_or_default();
    let attempt = status.attempt.as_ref();
    let at = attempt.map_or("no attempt".into(), |a| a.stage.clone());
    let words: String = (status.waiting.iter())
        .flat_map(|w| w.for_.chars().filter(char::is_ascii_alphabetic))
        .take(16)
        .collect();
    let unwritten = status.decision.map_or(0, |d| d.sequence)
        - (moment.objects.iter())
            .filter_map(|o| o.pointer("/metadata/annotations/serin.dev~1decision"))
            .filter_map(|d| d.as_str()?.parse::<i64>().ok())
            .max()
            .unwrap_or(0);
    format!(
        "{strategy:?}{} {at} {words} {}",
        if routed { " routed" } else { "" },
        if unwritten > 0 {
            "committed"
        } else {
            "written"
        },
    )
}

/// Instants of a scenario, one of each state.
fn instants(name: &str, scenario: &Scenario) -> Vec<(String, Moment)> {
    let seen = Arc::new(Mutex::new(vec![]));
    let sink = Arc::clone(&seen);
    let until = SignedDuration::try_from(scenario.until.parse().expect("until")).expect("a span");
    let mut states = BTreeSet::new();
    Simulation::new(scenario)
        .unwrap_or_else(|e| panic!("{name}: {e}"))
        .record(move |moment| {
            let state = state(&moment);
            if states.insert(state.clone()) {
                sink.lock().expect("one thread").push((state, moment));
            }
        })
        .play(until);
    std::mem::take(&mut *seen.lock().expect("one thread"))
}

fn record(file: &Path) {
    let all: Vec<(String, Vec<(String, Moment)>)> = (sights::scenarios().iter())
        .map(|(name, scenario)| (name.clone(), instants(name, scenario)))
        .collect();
    let mut states = BTreeSet::new();
    let mut left = vec![];
    for (scenario, instants) in all {
        let new: Vec<_> = (instants.into_iter())
            .filter(|(state, _)| !states.contains(state))
            .collect();
        for (state, moment) in new.into_iter().rev().take(OF_A_SCENARIO) {
            let played = go_on(moment.clone());
            // What would break a law by itself, or never ends, shows nothing.
            let ends = played.cluster.rollout.is_some();
            if ends && played.timeline.broken.is_empty() && states.insert(state.clone()) {
                left.push(Left {
                    scenario: scenario.clone(),
                    state,
                    moment,
                    end: end(&played),
                });
            }
        }
    }
    let lines: Vec<String> = (left.iter())
        .map(|l| serde_json::to_string(l).expect("json"))
        .collect();
    fs::create_dir_all(FOLDER).expect("the folder");
    fs::write(file, format!("[\n{}\n]\n", lines.join(",\n"))).expect("the file is written");
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(FOLDER)
        .expect("the folder of what was left behind")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    files
}

#[test]
fn what_another_version_left_behind_comes_to_the_same_end() {
    if let Some(name) = option_env!("RECORD") {
        record(&Path::new(FOLDER).join(format!("{name}.json")));
    }
    let mut wrong = vec![];
    let files = files();
    assert!(!files.is_empty(), "nothing was left behind");
    for file in files {
        let text = fs::read_to_string(&file).expect("a file");
        let all: Vec<Left> =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert!(
            all.len() >= 40,
            "{}: {} instants",
            file.display(),
            all.len()
        );
        for left in all {
            let before = left.moment.rollout.status.clone().unwrap_or_default();
            let played = go_on(left.moment);
            let mut faults = played.timeline.broken.clone();
            let end = end(&played);
            if end != left.end {
                let how = played.timeline.text();
                faults.push(format!("wanted {:?}\n    found {end:?}\n{how}", left.end));
            }
            let number = |s: &RolloutStatus| s.decision.as_ref().map_or(0, |d| d.sequence);
            if number(&played.cluster.status()) < number(&before) {
                faults.push("its decisions are counted anew".into());
            }
            if !faults.is_empty() {
                let about = format!("{}: {}, {}", file.display(), left.scenario, left.state);
                wrong.push(format!("{about}:\n    {}", faults.join("\n    ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
