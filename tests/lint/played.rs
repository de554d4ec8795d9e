//! What would happen: timelines that are reviewed, and the same as the scenarios'.

use std::{fs, path::Path};

use jiff::SignedDuration;
use serde_json::Value;
use serin::{
    cli::{
        lint::source::Source,
        simulate::{Played, SimulateError, play},
    },
    sim::{Scenario, Simulation},
};

use crate::{good::manifests, words::same};

fn source(name: &str, text: String) -> [Source; 1] {
    let (name, text) = (name.to_owned(), Ok(text));
    [Source { name, text }]
}

fn file(path: &str) -> [Source; 1] {
    source(path, fs::read_to_string(path).expect("a file"))
}

fn played(path: &str, rollout: Option<&str>, scenario: &str) -> Played {
    play(&file(path), rollout, scenario).expect("it is played")
}

#[test]
fn days_go_as_they_were_reviewed() {
    let mut wrong = vec![];
    for (golden, example, scenario) in [
        ("gateway-good", "canary-gateway-api", "good"),
        ("gateway-bad", "canary-gateway-api", "bad"),
        ("pods-good", "canary-pods", "good"),
        ("pods-bad-unnoticed", "canary-pods", "bad"),
        ("cluster-template-bad", "cluster-analysis-template", "bad"),
        (
            "gateway-crash",
            "canary-gateway-api",
            "tests/scenarios/crash-mid-flight.yaml",
        ),
    ] {
        let played = played(&format!("docs/examples/{example}.yaml"), None, scenario);
        let broken = &played.simulation.timeline.broken;
        assert!(broken.is_empty(), "{golden}: {broken:?}");
        assert!(played.unfinished.is_none(), "{golden} goes on");
        let path = format!("tests/lint/simulate/{golden}.txt");
        same(Path::new(&path), &played.text(), &mut wrong);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_good_day_promotes_and_a_bad_day_rolls_back() {
    let end = |scenario| {
        let played = played("docs/examples/canary-gateway-api.yaml", None, scenario);
        let json: Value = serde_json::from_str(&played.json()).expect("json");
        (
            json["phase"].clone(),
            json["stableVersion"].clone(),
            json["weights"].clone(),
        )
    };
    assert_eq!(
        end("good"),
        (
            "Healthy".into(),
            "next".into(),
            [0, 10, 50, 100, 0].as_slice().into()
        )
    );
    assert_eq!(
        end("bad"),
        (
            "Degraded".into(),
            "1.0.0".into(),
            [0, 10, 0].as_slice().into()
        )
    );
}

#[test]
fn a_scenario_with_its_own_rollout_from_a_file_goes_the_same() {
    let mut count = 0;
    for entry in fs::read_dir("tests/scenarios").expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("template-missing") {
            continue; // They name a template that is in no file, which is refused.
        }
        let text = fs::read_to_string(&path).expect("a scenario");
        let scenario: Scenario = serde_saphyr::from_str(&text).expect("a scenario");
        if scenario.given.spec.get("workloadRef").is_some() {
            continue; // It is played as one that has the template itself.
        }
        let until = scenario.until.parse().expect("until");
        let until = SignedDuration::try_from(until).expect("a span");
        let wanted = Simulation::new(&scenario).expect("a scenario").play(until);
        let texts: Vec<String> = manifests(&scenario).iter().map(Value::to_string).collect();
        let path = path.display().to_string();
        let played = play(&source("f.yaml", texts.join("\n---\n")), None, &path);
        let played = played.unwrap_or_else(|e| panic!("{path}: {e}"));
        let found = played.simulation.timeline.text();
        assert_eq!(found, wanted.timeline.text(), "{path}");
        count += 1;
    }
    assert!(count > 20, "{count} scenarios");
}

/// One that adopts a Deployment is played with its template, and not without.
#[test]
fn one_that_adopts_is_played_with_the_template_of_its_deployment() {
    let text = fs::read_to_string("docs/examples/adopt.yaml").expect("a file");
    let good = play(&source("f.yaml", text.clone()), None, "good").expect("it is played");
    let status = good.simulation.cluster.status();
    assert_eq!(
        status.phase.as_deref(),
        Some("Healthy"),
        "{:?}",
        status.message
    );
    let alone = text.split("---\n").last().expect("a Rollout").to_owned();
    let refused = play(&source("f.yaml", alone), None, "good");
    let refused = refused.err().expect("it cannot be").to_string();
    assert!(
        refused.contains("Deployment \"checkout\" is not in these files"),
        "{refused}"
    );
}

#[test]
fn a_pause_for_days_is_played_to_its_end() {
    let text = fs::read_to_string("docs/examples/canary-pods.yaml").expect("a file");
    let text = text.replace("duration: 10m", "duration: 3d");
    let played = play(&source("f.yaml", text), None, "good").expect("it is played");
    assert!(played.unfinished.is_none());
    assert!(
        played
            .text()
            .contains("At the end: Healthy, version \"next\" is stable")
    );
}

#[test]
fn what_cannot_be_played_is_said() {
    let said = |sources: &[Source], rollout, scenario| match play(sources, rollout, scenario) {
        Ok(_) => panic!("it was played"),
        Err(e) => (matches!(e, SimulateError::Broken(_)), e.to_string()),
    };
    let examples = ["canary-pods", "canary-gateway-api"]
        .map(|e| fs::read_to_string(format!("docs/examples/{e}.yaml")).expect("a file"));
    let both = source("f.yaml", examples.join("---\n"));
    for (sources, rollout, scenario, wanted) in [
        (
            both.clone(),
            None,
            "good",
            "say which with --rollout: worker, checkout",
        ),
        (
            both.clone(),
            Some("cart"),
            "good",
            "no such Rollout in these files, but worker, checkout",
        ),
        (
            both,
            Some("worker"),
            "nowhere.yaml",
            "scenario nowhere.yaml: cannot be read",
        ),
        (
            source("f", "a: 1".into()),
            None,
            "good",
            "there is no Rollout in these files",
        ),
        (
            file("tests/scenarios/abort.yaml"),
            None,
            "good",
            "there is no Rollout in these files",
        ),
        (
            file("docs/examples/canary-pods.yaml"),
            None,
            "Cargo.toml",
            "scenario Cargo.toml: ",
        ),
    ] {
        let (broken, message) = said(&sources, rollout, scenario);
        assert!(message.contains(wanted) && !broken, "{message}");
    }
    let alone = examples[1]
        .split("---\n")
        .find(|d| d.contains("kind: Rollout"));
    let alone = source("f.yaml", alone.expect("a Rollout").to_owned());
    let (_, message) = said(&alone, None, "good");
    assert!(
        message.contains("is not in these files: add the file"),
        "{message}"
    );
    let (broken, message) = said(&file("tests/lint/broken/ranges.yaml"), None, "good");
    assert!(broken && message.contains("spec.replicas: -1"), "{message}");
}
