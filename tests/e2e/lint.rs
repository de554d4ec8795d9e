//! What lint refuses and what the API server refuses are the same: every broken manifest and every
//! good one is sent to a real API server, as a dry run with strict validation.

use std::{fs, path::PathBuf, sync::Arc};

use serde_json::{Value, json};
use serin::{
    api::names::{API_VERSION, GROUP},
    cli::lint::{
        Finding, Rule, Severity, examine,
        source::{Source, documents},
        told,
    },
    sim::{Scenario, run::template},
};
use serin_lab::Lab;

use crate::world::{Result, Setup, World, ensure};

fn yaml(folder: &str) -> Result<Vec<PathBuf>> {
    let mut all = vec![];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        all.extend(
            path.extension()
                .is_some_and(|e| e == "yaml")
                .then_some(path.clone()),
        );
    }
    all.sort();
    Ok(all)
}

/// The texts between the lines `---`, with the numbers of their first and last lines.
fn parts(text: &str) -> Vec<(u64, u64, String)> {
    let mut all = vec![];
    let mut line = 0;
    for part in format!("{text}\n").split("---\n") {
        let lines = u64::try_from(part.lines().count()).unwrap_or_default();
        all.push((line + 1, line + lines, part.to_owned()));
        line += lines + 1;
    }
    all
}

/// The API server's word on a text, as it would be created: the fields that it names, and what it says.
async fn refused(lab: &Lab, namespace: &str, text: &str) -> Result<Option<(Vec<String>, String)>> {
    let said = |field: &str| {
        let mut lines = text.lines();
        lines.find_map(|l| l.strip_prefix(&format!("{field}: ")).map(str::to_owned))
    };
    let kind = said("kind").unwrap_or_default();
    let version = said("apiVersion").unwrap_or_else(|| API_VERSION.to_owned());
    let plural = format!("{}s", kind.to_lowercase());
    let place = if kind == "ClusterAnalysisTemplate" {
        String::new()
    } else {
        format!("namespaces/{namespace}/")
    };
    let uri = format!("/apis/{version}/{place}{plural}?dryRun=All&fieldValidation=Strict");
    let request = http::Request::post(uri)
        .header("content-type", "application/yaml")
        .body(text.as_bytes().to_vec())?;
    match lab.client().request::<Value>(request).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => {
            let mut fields: Vec<String> = status
                .details
                .iter()
                .flat_map(|d| &d.causes)
                .map(|c| c.field.clone())
                .filter(|f| !f.is_empty() && f != "<nil>")
                .collect();
            for part in status.message.split("unknown field \"").skip(1) {
                fields.extend(part.split('"').next().map(str::to_owned));
            }
            Ok(Some((fields, status.message.clone())))
        }
        Err(other) => Err(other.into()),
    }
}

/// Whether two paths are of one field: the same, or one in the other.
fn related(a: &str, b: &str) -> bool {
    let plain = |p: &str| {
        p.replace(['[', ']'], ".")
            .replace("..", ".")
            .trim_matches('.')
            .to_owned()
    };
    let (a, b) = (plain(a), plain(b));
    a == b || a.starts_with(&format!("{b}.")) || b.starts_with(&format!("{a}."))
}

/// What lint says of a text that the API server would say, too.
fn lint(name: &str, text: &str) -> Result<Vec<Finding>> {
    let source = Source {
        name: name.to_owned(),
        text: Ok(text.to_owned()),
    };
    Ok(told(examine(&[source])?).findings)
}

/// Where lint and the API server are of two minds about a file.
async fn compare(
    lab: &Lab,
    namespace: &str,
    name: &str,
    text: &str,
    wrong: &mut Vec<String>,
) -> Result<[usize; 3]> {
    let findings = lint(name, text)?;
    let mut counts = [0; 3];
    for (first, last, part) in parts(text) {
        let ours = part.contains(GROUP) || part.contains("kind: Rollout");
        let unknown = part.contains("kind: Rolout") || part.contains("argoproj.io/");
        if !ours || unknown {
            continue;
        }
        let of_it = findings
            .iter()
            .filter(|f| f.severity == Severity::Error && (first..=last).contains(&f.line));
        let (controller, server): (Vec<_>, Vec<_>) =
            of_it.partition(|f| f.rule == Rule::Controller);
        let answer = refused(lab, namespace, &part).await?;
        let place = format!("{name}:{first}");
        match &answer {
            None if server.is_empty() => counts[usize::from(!controller.is_empty())] += 1,
            None => wrong.push(format!("{place}: accepted, but lint says {server:?}")),
            Some((_, message)) if server.is_empty() => {
                wrong.push(format!(
                    "{place}: lint lets it pass, the API server says {message}"
                ));
            }
            Some((fields, message)) => {
                counts[2] += 1;
                for field in fields {
                    if !server.iter().any(|f| related(&f.path, field)) {
                        let paths: Vec<_> = server.iter().map(|f| &f.path).collect();
                        wrong.push(format!("{place}: {field} is not in {paths:?}: {message}"));
                    }
                }
            }
        }
    }
    Ok(counts)
}

/// Lint never passes what the API server refuses, and names the same fields; what only the
/// controller knows, the API server accepts.
pub async fn lint_agrees_with_the_api_server(lab: Arc<Lab>) -> Result {
    let world = World::bare(lab, "lint", Setup::default()).await?;
    let namespace = world.namespace.clone();
    let mut wrong = vec![];
    let [mut good, mut of_controller, mut of_server] = [0; 3];
    for path in yaml("tests/lint/broken")?
        .into_iter()
        .chain(yaml("docs/examples")?)
    {
        let text = fs::read_to_string(&path)?;
        let name = path.display().to_string();
        let counts = compare(&world.lab, &namespace, &name, &text, &mut wrong).await?;
        good += counts[0];
        of_controller += counts[1];
        of_server += counts[2];
    }
    for path in yaml("tests/scenarios")? {
        let scenario: Scenario = serde_saphyr::from_str(&fs::read_to_string(&path)?)?;
        let mut spec = scenario.given.spec.clone();
        if let Some(spec) = spec.as_object_mut() {
            spec.insert("template".into(), template(&scenario.given.version));
            spec.insert("selector".into(), json!({"matchLabels": {"app": "app"}}));
        }
        let rollout = json!({"apiVersion": API_VERSION, "kind": "Rollout", "metadata": {"name": "app"}, "spec": spec});
        let text = serde_saphyr::to_string(&rollout)?;
        let name = path.display().to_string();
        good += compare(&world.lab, &namespace, &name, &text, &mut wrong).await?[0];
    }
    ensure(wrong.is_empty(), format!("\n{}", wrong.join("\n")))?;
    println!(
        "accepted by both: {good}, the controller's alone: {of_controller}, refused by both: {of_server}"
    );
    ensure(
        good > 20 && of_controller > 10 && of_server > 20,
        "hardly anything was compared",
    )?;
    ensure(
        documents("x", "a: [")
            .iter()
            .all(std::result::Result::is_err),
        "what is no YAML is refused",
    )
}

/// One of everything, all of it right.
fn everything() -> [Value; 4] {
    let metric = json!({"name": "m", "interval": "30s", "window": "30s", "initialDelay": "1s", "count": 3, "failureLimit": 1,
        "noData": {"limit": 3, "then": "pause"}, "inconclusive": {"limit": 1}, "error": {"then": "abort"},
        "judge": {"threshold": {"pass": ">= 0.99", "fail": "< 0.95"}},
        "provider": {"ref": "default", "prometheus": {"query": "up"}}});
    let analysis = json!({"templates": [{"templateName": "t", "clusterScope": true}], "args": [{"name": "a", "value": "x"}]});
    let mut background = analysis.clone();
    background["startingStep"] = 1.into();
    let metadata = json!({"name": "app", "labels": {"a": "b"}, "annotations": {"c/d": "e"}});
    let rollout = json!({"apiVersion": API_VERSION, "kind": "Rollout", "metadata": metadata, "spec": {
        "replicas": 3, "selector": {"matchLabels": {"app": "app"}, "matchExpressions": [{"key": "app", "operator": "In", "values": ["app"]}]},
        "template": template("v1"), "minReadySeconds": 1, "progressDeadlineSeconds": 60, "progressDeadlineAbort": true,
        "revisionHistoryLimit": 3, "paused": false, "controllerName": "serin.dev/controller",
        "strategy": {"canary": {"service": "app", "stableService": "s", "canaryService": "c", "shared": true,
            "trafficRouting": {"propagationDelay": "1s", "gatewayAPI": {"httpRoutes": [{"name": "r", "rule": "x"}]}},
            "maxSurge": "25%", "maxUnavailable": 1, "scaleDownDelay": "30s", "abortScaleDownDelay": "30s",
            "analysis": background, "steps": [{"name": "n", "setWeight": 10, "timeout": "1h"}, {"setCanaryScale": {"replicas": 1}}, {"setCanaryScale": {"weight": 10}}, {"setCanaryScale": {"matchTrafficWeight": true}}, {"pause": {"duration": "1m"}}, {"analysis": analysis}]}}}});
    let template = json!({"apiVersion": API_VERSION, "kind": "AnalysisTemplate", "metadata": metadata, "spec": {
        "args": [{"name": "a", "value": "1", "type": "number"}], "metrics": [metric]}});
    let run = json!({"apiVersion": API_VERSION, "kind": "AnalysisRun", "metadata": metadata, "spec": {
        "rollout": "app", "revision": "x", "attempt": 1, "step": "0", "start": "2026-01-01T00:00:00Z", "terminate": false,
        "args": [{"name": "a", "value": "x"}], "metrics": [metric]}});
    let strategy = json!({"rolling": {"maxSurge": "25%", "maxUnavailable": 1, "analysis": analysis, "postPromotionAnalysis": analysis}});
    let mut rolling = rollout.clone();
    rolling["spec"]["strategy"] = strategy;
    [rollout, rolling, template, run]
}

/// The pointers to every field of a value; what is in a pod template is not the API server's business.
fn pointers(value: &Value, here: &str, out: &mut Vec<String>) {
    if !here.is_empty() {
        out.push(here.to_owned());
    }
    if here == "/spec/template" {
        return;
    }
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(k, v)| pointers(v, &format!("{here}/{}", k.replace('/', "~1")), out)),
        Value::Array(all) => all
            .iter()
            .enumerate()
            .for_each(|(i, v)| pointers(v, &format!("{here}/{i}"), out)),
        _ => {}
    }
}

/// A field is taken out.
fn without(object: &Value, pointer: &str) -> Value {
    let mut new = object.clone();
    let (parent, field) = pointer.rsplit_once('/').unwrap_or_default();
    match new.pointer_mut(parent) {
        Some(Value::Object(fields)) => drop(fields.remove(&field.replace("~1", "/"))),
        Some(Value::Array(all)) => drop(all.remove(field.parse().unwrap_or_default())),
        _ => {}
    }
    new
}

/// Each field of each kind is taken out, and set to values of every sort: lint refuses what the API
/// server refuses, no more and no less.
pub async fn lint_agrees_on_every_field(lab: Arc<Lab>) -> Result {
    let world = World::bare(lab, "fields", Setup::default()).await?;
    let values = json!([
        null, true, 0, -1, 101, 3_000_000_000_i64, 1.5, 10_000_000_000_000_000_000_u64, "", "x", "X y", "10s", "91d", "10%",
        ">= 1", "pause", "2026-01-01T00:00:00Z", "é".repeat(63), "x".repeat(254), "x".repeat(9000), [], [null], ["x"], [{}],
        vec![json!({"setWeight": 1}); 65], {}, {"x": null}, {"x": 1}, {"name": "x", "pause": {}}
    ]);
    let (mut wrong, mut all, mut refusals) = (vec![], 0, 0);
    for object in everything() {
        let mut paths = vec![];
        pointers(&object, "", &mut paths);
        paths.retain(|p| p != "/kind" && p != "/apiVersion");
        for path in paths {
            let changed = values.as_array().into_iter().flatten().map(|value| {
                let mut new = object.clone();
                if let Some(slot) = new.pointer_mut(&path) {
                    *slot = value.clone();
                }
                (value.to_string(), new)
            });
            let gone = ("nothing".to_owned(), without(&object, &path));
            for (value, new) in changed.chain([gone]) {
                let kind = new["kind"].as_str().unwrap_or_default();
                // The kind is read from the text.
                let text = format!(
                    "kind: {kind}\napiVersion: {API_VERSION}\nmetadata: {}\nspec: {}\n",
                    new["metadata"], new["spec"]
                );
                let answer = refused(&world.lab, &world.namespace, &text).await?;
                let findings = lint("f.yaml", &text)?;
                let mut errors = findings.iter().filter(|f| f.severity == Severity::Error);
                let refuses = errors.any(|f| f.rule != Rule::Controller);
                all += 1;
                refusals += usize::from(refuses);
                // It lets a list pass where a time must be, which no controller could read.
                let lenient = path == "/spec/start" && value.starts_with('[') && refuses;
                if refuses != answer.is_some() && !lenient {
                    let short: String = value.chars().take(60).collect();
                    wrong.push(format!(
                        "{kind} {path} = {short}: lint {findings:?}, the API server {answer:?}"
                    ));
                }
            }
        }
    }
    println!("{all} objects, {refusals} refused by both");
    wrong.truncate(60);
    ensure(wrong.is_empty(), format!("\n{}", wrong.join("\n")))?;
    ensure(all > 1000 && refusals > 500, format!("only {all} objects"))
}
