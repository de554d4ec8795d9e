//! Every scenario under `tests/scenarios` on the virtual cluster: what must come of it comes of it,
//! no law is broken on the way, and the timeline is the one that was reviewed.
//! `UPDATE=1 cargo test --test scenarios` rewrites the timelines.

#![allow(clippy::panic, reason = "a test that cannot read its data says so")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::SignedDuration;
use serin::sim::{Scenario, Simulation};

fn scenarios() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir("tests/scenarios")
        .expect("the folder of scenarios")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    all.sort();
    all
}

fn play(path: &Path) -> (Scenario, Simulation) {
    let scenario = Scenario::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let until = SignedDuration::try_from(scenario.until.parse().expect("until")).expect("a span");
    let simulation = Simulation::new(&scenario)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .play(until);
    (scenario, simulation)
}

#[test]
fn every_scenario_goes_as_it_should() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = vec![];
    let all = scenarios();
    assert!(!all.is_empty(), "no scenarios were found");
    for path in &all {
        let (scenario, played) = play(path);
        let golden = path.with_extension("timeline");
        let text = format!("# {}\n{}", scenario.about, played.timeline.text());
        let mut faults = played.timeline.broken.clone();
        faults.extend(scenario.expect.faults(&played.end()));
        if !faults.is_empty() {
            wrong.push(format!(
                "{}:\n  {}\n{text}",
                path.display(),
                faults.join("\n  ")
            ));
            continue;
        }
        if update {
            fs::write(&golden, &text).expect("the timeline is written");
        }
        let reviewed = fs::read_to_string(&golden).unwrap_or_default();
        if reviewed != text {
            wrong.push(format!(
                "{}: the timeline is another one; UPDATE=1 accepts it:\n{text}",
                golden.display()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} scenarios:\n{}",
        wrong.len(),
        all.len(),
        wrong.join("\n")
    );
}

#[test]
fn the_same_scenario_gives_the_same_timeline() {
    for path in scenarios() {
        let (first, second) = (play(&path).1.timeline.text(), play(&path).1.timeline.text());
        assert_eq!(first, second, "{}", path.display());
    }
}
