//! Tests of analysis, and what they are made of.

mod check;
mod evidence;
mod record;
mod runs;
mod schedule;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::{
    api::{AnalysisRun, AnalysisRunSpec, AnalysisTemplateSpec, Metric, Rollout},
    model::{
        measurement::{Query, Reading},
        observed::{Current, Observed, TemplateKey},
    },
};

/// Seconds after the beginning of all tests.
fn t(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
}

fn metric(fields: Value) -> Metric {
    let mut all = json!({
        "name": "success-rate",
        "judge": {"threshold": {"pass": ">= 0.99", "fail": "< 0.95"}},
        "provider": {"prometheus": {"query": "up"}},
    });
    json_patch::merge(&mut all, &fields);
    serde_json::from_value(all).expect("a metric")
}

fn run(step: &str, metrics: Vec<Metric>) -> AnalysisRun {
    let spec = AnalysisRunSpec {
        rollout: "checkout".into(),
        revision: "c4n4ry".into(),
        attempt: 1,
        step: step.into(),
        start: Some(Time(t(0))),
        metrics,
        ..AnalysisRunSpec::default()
    };
    AnalysisRun::new("checkout-run", spec)
}

/// An answer for a metric, asked for at a time.
fn answer(metric: usize, at: Timestamp, reading: Reading) -> (Query, Reading) {
    let query = Query {
        metric,
        provider: "default".into(),
        text: "up".into(),
        at,
        freshness: Duration::from_secs(300),
    };
    (query, reading)
}

fn pass() -> Reading {
    Reading::Value(0.999)
}
fn fail() -> Reading {
    Reading::Value(0.902)
}
fn between() -> Reading {
    Reading::Value(0.97)
}
fn no_data() -> Reading {
    Reading::NoData("the result is empty".into())
}
fn error() -> Reading {
    Reading::Error("the server did not answer within 10s".into())
}

/// Records one answer for the run's first metric, and keeps the status.
fn take(run: &mut AnalysisRun, at: Timestamp, reading: Reading) {
    run.status = Some(super::record(
        run,
        &[answer(0, at, reading)],
        Some(t(-1000)),
        at,
    ));
}

fn phase(run: &AnalysisRun) -> &str {
    run.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default()
}

fn rollout(canary: Value) -> Rollout {
    serde_json::from_value(json!({
        "apiVersion": "serin.dev/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "checkout", "namespace": "shop", "uid": "uid-1"},
        "spec": {
            "selector": {"matchLabels": {"app": "checkout"}},
            "template": {"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": []}},
            "strategy": {"canary": canary},
        },
    }))
    .expect("a rollout")
}

fn observed(canary: Value, templates: &[(&str, Value)]) -> Observed {
    let template = |(name, spec): &(&str, Value)| {
        let key = TemplateKey {
            cluster: name.starts_with("cluster-"),
            name: (*name).to_owned(),
        };
        let spec: AnalysisTemplateSpec = serde_json::from_value(spec.clone()).expect("a template");
        (key, spec)
    };
    Observed {
        rollout: rollout(canary),
        current: Current::New("c4n4ry".into()),
        revisions: vec![],
        services: [].into(),
        endpoints: [].into(),
        routes: [].into(),
        runs: vec![],
        templates: templates.iter().map(template).collect(),
        workload: None,
        troubles: vec![],
        refused: None,
        live: false,
    }
}
