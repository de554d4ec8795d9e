//! What is good is found good: every example of the docs, every Rollout of the scenarios.

use std::fs;

use serde_json::{Value, json};
use serin::{
    api::Rollout,
    cli::lint::{Severity, told},
    sim::{Scenario, cluster::names::Names, run::template},
};

use crate::words::{of, raw};

fn yaml(folder: &str) -> Vec<std::path::PathBuf> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    all.sort();
    all
}

#[test]
fn the_examples_are_good() {
    let mut objects = 0;
    for path in yaml("docs/examples") {
        let examined = told(raw(&path));
        assert!(examined.findings.is_empty(), "{}", examined.text());
        objects += examined.objects;
    }
    assert!(objects >= 8, "{objects} objects");
}

/// A scenario's world as manifests.
pub fn manifests(scenario: &Scenario) -> Vec<Value> {
    let mut spec = scenario.given.spec.clone();
    let adopts = spec.get("workloadRef").is_some();
    if let Some(spec) = spec.as_object_mut().filter(|_| !adopts) {
        spec.entry("template")
            .or_insert_with(|| template(&scenario.given.version));
        spec.entry("selector")
            .or_insert_with(|| json!({"matchLabels": {"app": "app"}}));
    }
    let meta = json!({"name": "app", "namespace": "default"});
    let mut all = vec![
        json!({"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": meta, "spec": spec}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": {"app": "app"}}}),
    ];
    if adopts {
        let (selector, pods) = (
            json!({"matchLabels": {"app": "app"}}),
            template(&scenario.given.version),
        );
        all.push(
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
            "spec": {"replicas": 3, "selector": selector, "template": pods}}),
        );
    }
    let rollout: Rollout = serde_json::from_value(all[0].clone()).expect("a Rollout");
    let names = Names::of(&rollout);
    all.extend(names.routes((100, 0)).into_iter().map(|(_, route)| route));
    let services = &names.services;
    for name in [&services.stable, &services.canary] {
        if services.shared {
            all.push(json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name, "namespace": "default"}, "spec": {"selector": {"app": "app"}}}));
        }
    }
    for (name, spec) in &scenario.given.templates {
        all.push(
            json!({"apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate",
            "metadata": {"name": name, "namespace": "default"}, "spec": spec}),
        );
    }
    all
}

/// Scenarios in which something is wrong on purpose that lint finds: a template that is in no file, an
/// argument that nobody gives.
const BAD: [&str; 2] = ["template-missing", "b44_an_argument"];

#[test]
fn the_rollouts_of_the_scenarios_are_good() {
    let (mut played, mut wrong) = (0, String::new());
    for path in yaml("tests/scenarios") {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if BAD.iter().any(|bad| name.starts_with(bad)) {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a scenario");
        let scenario: Scenario = serde_saphyr::from_str(&text).expect("a scenario");
        let text: Vec<String> = manifests(&scenario).iter().map(Value::to_string).collect();
        let examined = told(of(&path.display().to_string(), &text.join("\n---\n")));
        if !examined.findings.is_empty() {
            wrong.push_str(&examined.text());
        }
        assert!(examined.objects >= 3);
        played += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(played > 20, "{played} scenarios");
}

#[test]
fn what_is_not_there_is_a_note() {
    let text = fs::read_to_string("docs/examples/canary-gateway-api.yaml").expect("a file");
    let alone = text
        .split("---\n")
        .find(|d| d.contains("kind: Rollout"))
        .expect("a Rollout");
    let examined = told(of("f.yaml", alone));
    assert_eq!(examined.findings.len(), 4, "{}", examined.text());
    assert_eq!(examined.count(Severity::Note), 4, "{}", examined.text());
}
