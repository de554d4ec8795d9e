//! Which runs are created, ended and deleted.

use super::*;
use crate::{
    api::{AnalysisRunStatus, strategy::Analysis},
    engine::analysis::{due, realize},
    model::{
        desired::{Desired, DesiredRun, Part},
        object::ANALYSIS_RUN,
        plan::{Action, Intent},
    },
};

fn desired_run(name: &str, part: Part) -> DesiredRun {
    let analysis: Analysis = serde_json::from_value(json!({
        "templates": [{"templateName": "success-rate"}, {"templateName": "cluster-errors", "clusterScope": true}],
        "args": [{"name": "service", "value": "check\"out"}],
    }))
    .expect("an analysis");
    DesiredRun {
        name: name.into(),
        revision: "c4n4ry".into(),
        stable: "st4ble".into(),
        attempt: 3,
        part,
        start: t(0) + Duration::from_millis(1),
        analysis,
    }
}

fn world(runs: Vec<AnalysisRun>) -> Observed {
    let query = "up{s=\"{{args.service}}\",h=\"{{canary.hash}}\",n=\"{{namespace}}\"}[{{window}}] > {{args.limit}}";
    let success_rate = json!({
        "args": [{"name": "service"}, {"name": "limit", "value": "5", "type": "number"}],
        "metrics": [metric(json!({"window": "1m", "provider": {"prometheus": {"query": query}}}))],
    });
    let errors = json!({
        "args": [{"name": "service", "value": "never used"}],
        "metrics": [metric(json!({"name": "errors", "provider": {"ref": "thanos", "prometheus": {"query": "up{h!='{{stable.hash}}'}"}}}))],
    });
    let templates = [("success-rate", success_rate), ("cluster-errors", errors)];
    let mut observed = observed(json!({"steps": []}), &templates);
    observed.runs = runs;
    observed
}

fn wanting(runs: Vec<DesiredRun>) -> Desired {
    Desired {
        runs,
        ..Desired::default()
    }
}

/// A run that exists: its name, attempt and phase.
fn there(name: &str, attempt: i64, phase: &str) -> AnalysisRun {
    let mut run = run("0", vec![metric(json!({}))]);
    run.metadata.name = Some(name.into());
    run.metadata.uid = Some(format!("uid of {name}"));
    run.metadata.resource_version = Some("7".into());
    run.spec.attempt = attempt;
    run.status = (!phase.is_empty()).then(|| AnalysisRunStatus {
        phase: Some(phase.into()),
        ..AnalysisRunStatus::default()
    });
    run
}

/// What is done, in words.
fn told(intents: &[Intent]) -> Vec<String> {
    let one = |action: &Action| match action {
        Action::Create { object, .. } => format!("create {}", object.name),
        Action::Patch { target, operations } => {
            let operations = Value::from(operations.clone());
            assert_eq!(
                operations,
                json!([{"op": "add", "path": "/spec/terminate", "value": true}])
            );
            assert_eq!(target.resource_version, "7");
            assert_eq!(target.uid, format!("uid of {}", target.object.name));
            format!("terminate {}", target.object.name)
        }
        Action::Delete { target } => {
            assert_eq!(
                (target.object.kind, target.resource_version.as_str()),
                (ANALYSIS_RUN, "7")
            );
            format!("delete {}", target.object.name)
        }
        other => unreachable!("not ours to do: {other:?}"),
    };
    for intent in intents {
        let deletes = matches!(intent.actions[..], [Action::Delete { .. }]);
        assert_eq!(
            intent.hazard.is_some(),
            deletes,
            "deleting alone is hazardous"
        );
    }
    intents.iter().flat_map(|i| &i.actions).map(one).collect()
}

#[test]
fn a_run_is_a_snapshot() {
    let desired = wanting(vec![desired_run("checkout-run", Part::Step(2))]);
    let intents = realize(&desired, &world(vec![]));
    let Some(Action::Create { object, value }) = intents.first().and_then(|i| i.actions.first())
    else {
        unreachable!("one is created: {intents:?}");
    };
    assert_eq!(
        (object.kind, object.name.as_str()),
        (ANALYSIS_RUN, "checkout-run")
    );
    let judge = json!({"threshold": {"pass": ">= 0.99", "fail": "< 0.95"}});
    let query = r#"up{s="check\"out",h="c4n4ry",n="shop"}[1m] > 5"#;
    let wanted = json!({
        "apiVersion": "serin.dev/v1alpha1",
        "kind": "AnalysisRun",
        "metadata": {
            "name": "checkout-run",
            "namespace": "shop",
            "labels": {"serin.dev/rollout": "checkout", "pod-template-hash": "c4n4ry"},
            "ownerReferences": [{
                "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "name": "checkout",
                "uid": "uid-1", "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "rollout": "checkout",
            "revision": "c4n4ry",
            "attempt": 3,
            "step": "2",
            // Cut to whole seconds it would lie before the start.
            "start": Time(t(1)),
            "args": [{"name": "limit", "value": "5"}, {"name": "service", "value": "check\"out"}],
            "metrics": [
                {
                    "name": "success-rate", "window": "1m", "failureLimit": 0, "judge": judge,
                    "provider": {"ref": "default", "prometheus": {"query": query}},
                },
                {
                    "name": "errors", "failureLimit": 0, "judge": judge,
                    "provider": {"ref": "thanos", "prometheus": {"query": "up{h!='st4ble'}"}},
                },
            ],
        },
    });
    assert_eq!(*value, wanted);
    let run: AnalysisRun = serde_json::from_value(value.clone()).expect("a run");
    assert_eq!(
        due(&run, Some(t(-9)), t(61)).queries[0].text,
        query,
        "asked as it stands"
    );
}

#[test]
fn what_is_wanted_is_created_once() {
    let background = desired_run("a", Part::Background);
    let desired = wanting(vec![background.clone(), desired_run("b", Part::Step(0))]);
    assert_eq!(
        told(&realize(&desired, &world(vec![]))),
        ["create a", "create b"]
    );
    let with_a = world(vec![there("a", 3, "Running")]);
    assert_eq!(told(&realize(&desired, &with_a)), ["create b"]);
    let both = world(vec![there("a", 3, "Successful"), there("b", 3, "")]);
    assert_eq!(
        told(&realize(&desired, &both)),
        [""; 0],
        "at rest nothing is done"
    );
    let intents = realize(&wanting(vec![background]), &world(vec![]));
    let Action::Create { value, .. } = &intents[0].actions[0] else {
        unreachable!("one is created");
    };
    assert_eq!(value["spec"]["step"], "background");
}

#[test]
fn what_cannot_be_prepared_is_not_created() {
    let desired = wanting(vec![desired_run("a", Part::Step(0))]);
    let mut observed = world(vec![]);
    observed.templates.pop_first();
    assert_eq!(realize(&desired, &observed), [], "a template is missing");
    let mut no_value = desired_run("a", Part::Step(0));
    no_value.analysis.args.clear();
    assert_eq!(
        realize(&wanting(vec![no_value]), &world(vec![])),
        [],
        "an argument has no value"
    );
}

#[test]
fn what_is_no_longer_wanted_is_ended() {
    let mut terminated = there("terminated", 1, "Running");
    terminated.spec.terminate = true;
    let mut foreign = there("foreign", 1, "Running");
    foreign.spec.rollout = "cart".into();
    let mut earlier = there("earlier", 1, "Running");
    earlier.metadata.owner_references = serde_json::from_value(json!([{
        "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "name": "checkout",
        "uid": "uid-0", "controller": true,
    }]))
    .expect("an owner");
    let runs = vec![
        there("new", 1, ""),
        there("running", 1, "Running"),
        there("passed", 1, "Successful"),
        there("failed", 1, "Failed"),
        there("unclear", 1, "Inconclusive"),
        there("ended", 1, "Terminated"),
        there("wanted", 1, "Running"),
        terminated,
        foreign,
        earlier,
    ];
    let desired = wanting(vec![desired_run("wanted", Part::Step(0))]);
    assert_eq!(
        told(&realize(&desired, &world(runs))),
        ["terminate new", "terminate running"]
    );
}

#[test]
fn old_runs_are_deleted_one_at_a_time() {
    // Three ended runs of each attempt.
    let of = |attempts: std::ops::RangeInclusive<i64>| {
        let three =
            |attempt| (0..3).map(move |i| there(&format!("{attempt}-{i}"), attempt, "Failed"));
        attempts.flat_map(three).collect::<Vec<_>>()
    };
    let none = wanting(vec![]);
    assert_eq!(
        realize(&none, &world(of(1..=6))),
        [],
        "18 are no more than are kept"
    );
    let mut runs = of(1..=7);
    runs.reverse();
    assert_eq!(
        told(&realize(&none, &world(runs.clone()))),
        ["delete 1-0"],
        "21 are one too many"
    );
    let wanted = wanting(vec![desired_run("1-0", Part::Step(0))]);
    assert_eq!(
        told(&realize(&wanted, &world(runs.clone()))),
        ["delete 1-1"],
        "not what is wanted"
    );
    runs.retain(|r| r.spec.attempt > 2);
    runs.extend((0..30).map(|i| there(&format!("7-more-{i}"), 7, "Failed")));
    assert_eq!(
        realize(&none, &world(runs)),
        [],
        "the newest five attempts are kept"
    );
    let mut runs = of(2..=7);
    runs.extend((0..30).map(|i| there(&format!("7-more-{i}"), 7, "Failed")));
    assert_eq!(
        told(&realize(&none, &world(runs))),
        ["delete 2-0"],
        "a sixth attempt is not"
    );
    let mut going_on = of(1..=7);
    going_on.iter_mut().for_each(|r| r.status = None);
    let told = told(&realize(&none, &world(going_on)));
    assert!(
        told.iter().all(|t| t.starts_with("terminate")),
        "what goes on is not deleted"
    );
}
