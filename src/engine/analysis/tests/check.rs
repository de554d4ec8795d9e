//! What is wrong with analyses, and where.

use super::*;
use crate::{
    engine::analysis::{TemplateFault, check},
    model::spec::Spec,
};

/// The faults, a line each.
fn faults(canary: Value, templates: &[(&str, Value)]) -> Vec<String> {
    let observed = observed(canary, templates);
    let spec = Spec::resolve(&observed.rollout).expect("a valid Rollout");
    let line = |fault| match fault {
        TemplateFault::Missing(what) => format!("missing: {what}"),
        TemplateFault::Wrong(fault) => fault.to_string(),
    };
    check(&spec, &observed).into_iter().map(line).collect()
}

/// A canary with the analysis as its third step.
fn at_step(analysis: Value) -> Value {
    json!({"steps": [{"setWeight": 10}, {"pause": {"duration": "1s"}}, {"analysis": analysis}]})
}

fn one_metric(fields: &Value) -> Value {
    json!({"metrics": [metric(fields.clone())]})
}

const STEP: &str = "spec.strategy.canary.steps[2].analysis";

#[test]
fn what_the_issue_writes_is_right() {
    let query = "sum(rate(http_requests_total{service=\"{{args.service}}\",pod_template_hash=\"{{canary.hash}}\",code!~\"5..\"}[{{window}}]))\n/ sum(rate(http_requests_total{service=\"{{args.service}}\",pod_template_hash=\"{{canary.hash}}\"}[{{window}}]))\n";
    let success_rate = json!({
        "args": [{"name": "service"}],
        "metrics": [{
            "name": "success-rate",
            "interval": "30s", "window": "30s", "count": 3, "failureLimit": 0,
            "noData": {"limit": 3, "then": "pause"},
            "judge": {"threshold": {"pass": ">= 0.99", "fail": "< 0.95"}},
            "provider": {"ref": "default", "prometheus": {"query": query}},
        }],
    });
    let canary = json!({
        "analysis": {
            "templates": [{"templateName": "success-rate"}],
            "startingStep": 1,
            "args": [{"name": "service", "value": "checkout"}],
        },
        "steps": [{"setWeight": 10}, {"analysis": {"templates": [{"templateName": "latency"}]}}],
    });
    let latency = one_metric(&json!({}));
    let all = [("success-rate", success_rate.clone()), ("latency", latency)];
    assert_eq!(faults(canary.clone(), &all), [""; 0]);
    assert_eq!(
        faults(canary, &[("success-rate", success_rate)]),
        ["missing: AnalysisTemplate latency"]
    );
}

#[test]
fn what_is_missing_is_told_once() {
    let two = json!({
        "analysis": {"templates": [{"templateName": "latency"}]},
        "steps": [
            {"analysis": {"templates": [{"templateName": "latency"}], "args": [{"name": "x", "value": "1"}]}},
            {"analysis": {"templates": [{"templateName": "cluster-latency", "clusterScope": true}]}},
        ],
    });
    assert_eq!(
        faults(two, &[]),
        [
            "missing: AnalysisTemplate latency",
            "missing: ClusterAnalysisTemplate cluster-latency"
        ],
        "and an argument may be that of the missing template"
    );
}

/// Fields of the one metric | path below `spec.metrics[0]` and what is wrong.
const METRICS: &str = r#"
{"judge": {"threshold": {"pass": "0.99"}}} | judge.threshold.pass: "0.99": must be an operator (<, <=, >, >=) and a number, such as ">= 0.99"
{"judge": {"threshold": {"fail": "< x"}}} | judge.threshold.fail: "< x": must be an operator (<, <=, >, >=) and a number, such as ">= 0.99"
{"judge": {"threshold": {"pass": ">= 0.9"}}} | judge.threshold.fail: < 0.95: overlaps pass (>= 0.9): a value cannot both pass and fail
{"judge": {"threshold": {"pass": "<= 1", "fail": ">= 1"}}} | judge.threshold.fail: >= 1: overlaps pass (<= 1): a value cannot both pass and fail
{"judge": {"threshold": {"pass": "> 1", "fail": "> 2"}}} | judge.threshold.fail: > 2: overlaps pass (> 1): a value cannot both pass and fail
{"judge": {"threshold": {"pass": "< 1", "fail": "< 0"}}} | judge.threshold.fail: < 0: overlaps pass (< 1): a value cannot both pass and fail
{"judge": {"threshold": {"pass": "< 1", "fail": "> 1"}}} |
{"judge": {"threshold": {"pass": "<= 1", "fail": "> 1"}}} |
{"judge": {"threshold": {"pass": "< 1", "fail": ">= 1"}}} |
{"judge": {"threshold": {"pass": "> 1", "fail": null}}} |
{"judge": {"threshold": null}} | judge: empty: name a judge: threshold
{"provider": {"prometheus": null}} | provider: empty: name a provider: prometheus
{"provider": {"prometheus": {"query": " "}}} | provider.prometheus.query: empty
{"interval": "30s"} | interval: at a step, interval needs count: how many measurements make the metric complete
{"interval": "30s", "count": 2} |
{"interval": "0s", "count": 2} | interval: "0s": must be 1s or more
{"interval": "30", "count": 2} | interval: "30": must be a duration such as 500ms, 30s, 5m, 1h30m
{"interval": "1s", "count": 2} |
{"interval": "999ms", "count": 2} | interval: "999ms": must be 1s or more
{"window": "0s"} | window: "0s": must be more than 0
{"window": "1ms"} |
{"initialDelay": "0s"} |
{"window": "1x", "provider": {"prometheus": {"query": "up[{{window}}]"}}} | window: "1x": must be a duration such as 500ms, 30s, 5m, 1h30m
{"initialDelay": "91d"} | initialDelay: "91d": at most 90d, found 7862400 s
{"count": 0} | count: 0: must be 1 or more
{"failureLimit": -1} | failureLimit: -1: must be 0 or more
{"noData": {"limit": -1}} | noData.limit: -1: must be 0 or more
{"error": {"then": "stop"}} | error.then: "stop": must be pause or abort
{"provider": {"prometheus": {"query": "up[{{window}}]"}}} | provider.prometheus.query: {{window}}: the metric has no window; give it one, such as window: 30s
{"provider": {"prometheus": {"query": "up{a='{{args.a}}'}"}}} | provider.prometheus.query: {{args.a}}: no such argument; the template declares none: add it under spec.args
"#;

#[test]
fn what_may_be_wrong_with_a_metric() {
    for row in METRICS.trim().lines() {
        let (fields, wanted) = row.split_once(" |").expect("two columns");
        let template = one_metric(&serde_json::from_str(fields).expect("fields"));
        let canary = at_step(json!({"templates": [{"templateName": "latency"}]}));
        let found = faults(canary, &[("latency", template)]);
        let wanted = match wanted.trim() {
            "" => vec![],
            fault => vec![format!(
                "{STEP}: AnalysisTemplate \"latency\": spec.metrics[0].{fault}"
            )],
        };
        assert_eq!(found, wanted, "{fields}");
    }
}

#[test]
fn in_the_background_interval_needs_no_count() {
    let canary = json!({
        "analysis": {"templates": [{"templateName": "cluster-a", "clusterScope": true}]},
        "steps": [{"setWeight": 10}],
    });
    let interval = one_metric(&json!({"interval": "30s"}));
    assert_eq!(faults(canary.clone(), &[("cluster-a", interval)]), [""; 0]);
    assert_eq!(
        faults(
            canary,
            &[("cluster-a", one_metric(&json!({"window": "0s"})))]
        ),
        [
            "spec.strategy.canary.analysis: ClusterAnalysisTemplate \"cluster-a\": spec.metrics[0].window: \"0s\": must be more than 0"
        ]
    );
}

#[test]
fn arguments() {
    let query = "up{a='{{args.service}}'} > {{args.limit}}";
    let template = json!({
        "args": [{"name": "service"}, {"name": "limit", "value": "5", "type": "number"}],
        "metrics": [metric(json!({"provider": {"prometheus": {"query": query}}}))],
    });
    let given = |args: Value| {
        let canary = at_step(json!({"templates": [{"templateName": "latency"}], "args": args}));
        faults(canary, &[("latency", template.clone())])
    };
    let service = json!({"name": "service", "value": "checkout"});
    assert_eq!(given(json!([service])), [""; 0]);
    assert_eq!(
        given(json!([service, {"name": "limit", "value": "0.5"}])),
        [""; 0]
    );
    for (args, fault) in [
        (
            json!([]),
            "args: AnalysisTemplate latency: \"service\" has no value: add {name: service, value: ...}",
        ),
        (
            json!([service, {"name": "servce", "value": "x"}]),
            "args[1].name: \"servce\": no such argument; the template declares limit, service",
        ),
        (
            json!([service, service]),
            "args[1].name: \"service\": given twice",
        ),
        (
            json!([service, {"name": "limit", "value": "5) or vector(1"}]),
            "args[1].value: AnalysisTemplate latency: \"5) or vector(1\": must be a finite decimal number such as 0.5, for the argument has type: number",
        ),
    ] {
        let found = given(args);
        assert_eq!(found.first(), Some(&format!("{STEP}.{fault}")), "{found:?}");
    }
}

#[test]
fn what_is_wrong_with_a_template_as_a_whole() {
    let canary = |names: &[&str]| {
        let templates: Vec<_> = names.iter().map(|n| json!({"templateName": n})).collect();
        at_step(json!({"templates": templates}))
    };
    let good = one_metric(&json!({}));
    let found = faults(
        canary(&["a", "b"]),
        &[("a", good.clone()), ("b", good.clone())],
    );
    assert_eq!(
        found,
        [format!(
            "{STEP}: AnalysisTemplate \"b\": spec.metrics[0].name: \"success-rate\": another metric of this analysis has this name"
        )]
    );
    let found = faults(canary(&["a", "a"]), &[("a", good)]);
    assert_eq!(
        found,
        [format!(
            "{STEP}.templates[1]: AnalysisTemplate a: named twice"
        )]
    );
    assert_eq!(
        faults(canary(&[]), &[]),
        [format!(
            "{STEP}.templates: empty: name at least one template"
        )]
    );
    let args = json!([
        {"name": "a", "type": "int", "value": "1"},
        {"name": "b", "type": "duration", "value": "1"},
        {"name": "c", "value": "1"},
        {"name": "c", "value": "1"},
    ]);
    let found = faults(
        canary(&["a"]),
        &[("a", json!({"args": args, "metrics": []}))],
    );
    let wanted = [
        "spec.args[0].type: \"int\": must be string, duration or number",
        "spec.args[1].value: \"1\": must be a duration such as 30s, 5m or 1h30m, for the argument has type: duration",
        "spec.args[3].name: \"c\": declared twice",
        "spec.metrics: empty: name at least one metric",
    ];
    assert_eq!(
        found,
        wanted.map(|fault| format!("{STEP}: AnalysisTemplate \"a\": {fault}"))
    );
}

#[test]
fn what_no_run_could_hold_is_refused() {
    let canary = |value: &str| {
        at_step(
            json!({"templates": [{"templateName": "a"}], "args": [{"name": "x", "value": value}]}),
        )
    };
    let template = |metrics: usize, times: usize| {
        let query = "up{a=\"{{args.x}}\"}".repeat(times);
        let named = |i| {
            metric(json!({"name": format!("m{i}"), "provider": {"prometheus": {"query": query}}}))
        };
        json!({"args": [{"name": "x"}], "metrics": (0..metrics).map(named).collect::<Vec<_>>()})
    };
    assert_eq!(
        faults(canary(&"x".repeat(1024)), &[("a", template(1, 7))]),
        [""; 0]
    );
    let found = faults(canary(&"\"".repeat(1024)), &[("a", template(1, 4))]);
    assert!(
        found
            .concat()
            .contains("filled in, it has more than 8192 characters"),
        "{found:?}"
    );
    let found = faults(canary(&"x".repeat(1024)), &[("a", template(40, 7))]);
    assert!(
        found.concat().contains("at most 262144 together"),
        "{found:?}"
    );
}
