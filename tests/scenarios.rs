//! Every scenario under `tests/scenarios` on the virtual cluster: what must come of it comes of it,
//! no law is broken on the way, and the timeline is the one that was reviewed.
//! `UPDATE=1 cargo test --test scenarios` rewrites the timelines.

#![allow(clippy::panic, reason = "a test that cannot read its data says so")]

use std::{fs, path::PathBuf};

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

fn play(path: &PathBuf) -> (Scenario, Simulation) {
    let text = fs::read_to_string(path).expect("a scenario");
    let scenario: Scenario =
        serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let until = SignedDuration::try_from(scenario.until.parse().expect("until")).expect("a span");
    let simulation = Simulation::new(&scenario)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .play(until);
    (scenario, simulation)
}

/// What is not as the scenario wants it.
fn faults(scenario: &Scenario, played: &Simulation) -> Vec<String> {
    let mut faults = played.timeline.broken.clone();
    let expect = &scenario.expect;
    let mut wants = |what: &str, wanted: String, found: String| {
        if wanted != found {
            faults.push(format!("{what}: wanted {wanted}, found {found}"));
        }
    };
    wants(
        "gone",
        expect.gone.to_string(),
        played.cluster.rollout.is_none().to_string(),
    );
    if let Some(weights) = &expect.weights {
        wants(
            "weights",
            format!("{weights:?}"),
            format!("{:?}", played.cluster.gateway.served),
        );
    }
    for (name, values) in &expect.objects {
        let object = played.cluster.named(name);
        let object = object.and_then(|r| played.cluster.objects.get(&r));
        for (pointer, value) in values {
            let found = object.and_then(|o| o.pointer(pointer));
            let wanted = match value.is_null() {
                true => "nothing".into(),
                false => played.cluster.with_hashes(&value.to_string()),
            };
            wants(
                &format!("{name} {pointer}"),
                wanted,
                found.map_or_else(|| "nothing".into(), ToString::to_string),
            );
        }
    }
    if let Some(runs) = &expect.runs {
        let of = played.cluster.objects.iter();
        let phases: Vec<&str> = of
            .filter(|(r, _)| r.kind.kind == "AnalysisRun")
            .map(|(_, v)| v.pointer("/status/phase"))
            .map(|p| p.and_then(|p| p.as_str()).unwrap_or_default())
            .collect();
        wants("runs", format!("{runs:?}"), format!("{phases:?}"));
    }
    let timeline = &played.timeline;
    for (what, most, found) in [
        ("writes", expect.most_writes, timeline.writes),
        ("rounds", expect.most_rounds, timeline.rounds),
    ] {
        if let Some(most) = most.filter(|most| found > *most) {
            wants(what, format!("at most {most}"), found.to_string());
        }
    }
    for (version, pods) in &expect.pods {
        let found: usize = played
            .cluster
            .pods
            .values()
            .filter(|p| p.version == *version)
            .map(|p| p.pods.len())
            .sum();
        wants(
            &format!("pods of {version}"),
            pods.to_string(),
            found.to_string(),
        );
    }
    if let Some(rollout) = &played.cluster.rollout {
        let status = rollout.status.clone().unwrap_or_default();
        if let Some(phase) = &expect.phase {
            wants(
                "phase",
                phase.clone(),
                status.phase.clone().unwrap_or_default(),
            );
        }
        if let Some(stable) = &expect.stable {
            let hash = status.stable_revision.clone().unwrap_or_default();
            wants("stable", stable.clone(), played.cluster.version_of(&hash));
        }
        if let Some(message) = &expect.message {
            let found = status.message.clone().unwrap_or_default();
            wants(
                "message",
                message.clone(),
                if found.contains(message) {
                    message.clone()
                } else {
                    found
                },
            );
        }
        if let Some(commands) = &expect.commands {
            let found: Vec<String> = status
                .commands
                .iter()
                .map(|c| format!("{} {}", c.name, c.outcome))
                .collect();
            wants("commands", format!("{commands:?}"), format!("{found:?}"));
        }
        let size = serde_json::to_string(&status).expect("json").len();
        if size > 32 * 1024 {
            faults.push(format!("the status has {size} bytes"));
        }
    }
    let reasons: Vec<&str> = played
        .timeline
        .history
        .iter()
        .map(|h| h.reason.as_str())
        .collect();
    let mut rest = reasons.iter();
    for reason in &expect.reasons {
        if !rest.any(|r| r == reason) {
            faults.push(format!(
                "reasons: {reason} is not in {reasons:?}, or not in this order"
            ));
            break;
        }
    }
    for never in expect
        .never
        .iter()
        .filter(|n| reasons.contains(&n.as_str()))
    {
        faults.push(format!("reasons: {never} must not be"));
    }
    faults
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
        let faults = faults(&scenario, &played);
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
