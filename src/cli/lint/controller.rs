//! The controller's own rules, on what the files hold: one look at a Rollout and at everything it
//! refers to is built from them, and the engine says what is wrong with it.

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Value, json};

use crate::{
    api::{AnalysisTemplateSpec, Rollout, names::API_VERSION},
    engine::{self, Faults},
    model::{
        object::{Kind, ObjectRef, Objects},
        observed::{Current, Observed, TemplateKey},
        share::show,
        spec::{FieldError, Words},
        workload::Workload,
    },
};

use super::{
    super::nearest::nearest,
    Finding, Rule, Severity,
    object::{Object, What},
    schema,
};

static POD_TEMPLATE: LazyLock<Value> = LazyLock::new(schema::of_type::<PodTemplateSpec>);

/// What the controller would say of every Rollout and every template.
pub fn check(objects: &[Object]) -> Vec<Finding> {
    let mut found = vec![];
    for object in objects {
        match &object.what {
            What::Rollout(rollout) => of_rollout(object, rollout, objects, &mut found),
            What::Template(key, spec) => of_template(object, key, spec, &mut found),
            What::Run | What::Service | What::Deployment | What::Route(_) => {}
        }
    }
    found
}

fn of_rollout(object: &Object, rollout: &Rollout, all: &[Object], found: &mut Vec<Finding>) {
    if rollout.spec.workload_ref.is_none() {
        pod_template(object, rollout, found);
    }
    let observed = look(object, rollout, all);
    let faults = engine::faults(&observed);
    for fault in faults.wrong {
        match in_template(&fault.path) {
            None => found.push(object.finding(Rule::Controller, &fault.path, fault.message)),
            Some((key, user, path)) => {
                let Some(template) = seen_by(object, all)
                    .find(|o| matches!(&o.what, What::Template(k, _) if *k == key))
                else {
                    continue;
                };
                let finding = template.finding(Rule::Controller, path, fault.message);
                let mut mine = vec![];
                if let What::Template(key, spec) = &template.what {
                    of_template(template, key, spec, &mut mine);
                }
                // What is wrong whoever uses it is told of the template alone.
                if !mine.iter().any(|m| m.path == finding.path) {
                    let message = format!(
                        "{} (as {} uses it at {user})",
                        finding.message,
                        object.title()
                    );
                    found.push(Finding { message, ..finding });
                }
            }
        }
    }
    for what in faults.missing {
        let hint = meant(object, &what, all).unwrap_or_default();
        let message = format!("{what} is not in these files: it was not looked at{hint}");
        found.push(Finding {
            severity: Severity::Note,
            ..object.finding(Rule::Controller, "spec", message)
        });
    }
    if let (Some(share), Some(course)) = (faults.share.filter(|s| *s > 0), faults.course) {
        let path = format!("{}.trafficRouting", course.path);
        let Words { stable, canary } = course.words;
        let message = format!(
            "the routes give the {canary} weight {}: at rest write weight: 100 for the {stable} and weight: 0 for the {canary} Service",
            show(share)
        );
        found.push(Finding {
            severity: Severity::Warning,
            ..object.finding(Rule::Controller, &path, message)
        });
    }
}

/// A template of the files whose name is near that of the missing one.
fn meant(object: &Object, missing: &str, all: &[Object]) -> Option<String> {
    let (kind, name) = missing.split_once(' ')?;
    let templates = seen_by(object, all).filter(|o| matches!(o.what, What::Template(..)));
    let names: Vec<&str> = templates
        .filter(|o| o.kind == kind)
        .map(|o| o.name.as_str())
        .collect();
    Some(format!("; did you mean {}?", nearest(name, &names)?))
}

/// What the API server's dry run, as the controller asks for it, would say of the pod template.
fn pod_template(object: &Object, rollout: &Rollout, found: &mut Vec<Finding>) {
    let mut template = rollout.spec.template.clone();
    let path = "spec.template";
    let checked = schema::check(&POD_TEMPLATE, &mut template, path);
    for fault in checked.faults {
        // A newer Kubernetes may have more fields; a slip of the pen it has not.
        let severity = if fault.unknown && !fault.message.contains("did you mean") {
            Severity::Warning
        } else {
            Severity::Error
        };
        found.push(Finding {
            severity,
            ..object.finding(Rule::Controller, &fault.path, fault.message)
        });
    }
    let metadata = template.get("metadata").cloned().unwrap_or_default();
    for fault in super::meta::check(&metadata, "spec.template.metadata", false) {
        found.push(object.finding(Rule::Controller, &fault.path, fault.message));
    }
    let none = template.pointer("/spec/containers") == Some(&json!([]));
    if none && checked.mended.is_empty() {
        let message = "empty: name at least one container";
        found.push(object.finding(
            Rule::Controller,
            "spec.template.spec.containers",
            message.into(),
        ));
    }
}

/// The objects that may be meant by an object: those of its namespace, or of none that is named;
/// those of its own file first.
fn seen_by<'a>(object: &'a Object, all: &'a [Object]) -> impl Iterator<Item = &'a Object> {
    let near = move |o: &&Object| {
        let (a, b) = (o.namespace(), object.namespace());
        let cluster = matches!(&o.what, What::Template(key, _) if key.cluster);
        cluster || a.is_empty() || b.is_empty() || a == b
    };
    let here = all.iter().filter(|o| o.file == object.file);
    let there = all.iter().filter(|o| o.file != object.file);
    here.chain(there).filter(near)
}

/// One look at a Rollout, from the files.
fn look(object: &Object, rollout: &Rollout, all: &[Object]) -> Observed {
    let mut observed = nothing_but(rollout.clone());
    let named = rollout.spec.workload_ref.as_ref().map(|w| &w.name);
    for other in seen_by(object, all) {
        let name = other.name.clone();
        let value = || other.value.clone();
        match &other.what {
            What::Service => {
                observed.services.entry(name).or_insert_with(value);
            }
            What::Route(kind) => {
                let reference = ObjectRef::new(*kind, name);
                observed.routes.entry(reference).or_insert_with(value);
            }
            What::Template(key, spec) => {
                let spec = || spec.clone();
                observed.templates.entry(key.clone()).or_insert_with(spec);
            }
            What::Deployment if named == Some(&name) && observed.workload.is_none() => {
                observed.workload = Some(Workload::of(Some(value())));
            }
            What::Rollout(_) | What::Run | What::Deployment => {}
        }
    }
    if named.is_some() {
        let workload = observed.workload.get_or_insert_default();
        workload.fill(&mut observed.rollout, &[]);
    }
    observed
}

fn nothing_but(rollout: Rollout) -> Observed {
    Observed {
        rollout,
        current: Current::New("xxxxxxxxxx".into()),
        revisions: vec![],
        services: BTreeMap::new(),
        endpoints: BTreeMap::new(),
        routes: Objects::new(),
        runs: vec![],
        templates: BTreeMap::new(),
        workload: None,
        troubles: vec![],
        refused: None,
        live: false,
    }
}

/// What is wrong with a template whoever uses it: a Rollout that gives a value to each argument that
/// has none uses it in the background.
fn of_template(
    object: &Object,
    key: &TemplateKey,
    spec: &AnalysisTemplateSpec,
    found: &mut Vec<Finding>,
) {
    let value = |kind: Option<&str>| match kind {
        Some("duration") => "1m",
        Some("number") => "1",
        _ => "x",
    };
    let args: Vec<Value> = spec
        .args
        .iter()
        .filter(|a| a.value.is_none())
        .map(|a| json!({"name": a.name, "value": value(a.type_.as_deref())}))
        .collect();
    let rollout = json!({
        "apiVersion": API_VERSION, "kind": "Rollout", "metadata": {"name": "x", "namespace": "x"},
        "spec": {
            "selector": {"matchLabels": {"x": "x"}},
            "template": {"metadata": {"labels": {"x": "x"}}},
            "strategy": {"canary": {"analysis": {
                "templates": [{"templateName": key.name, "clusterScope": key.cluster}], "args": args,
            }}},
        },
    });
    let Ok(rollout) = serde_json::from_value::<Rollout>(rollout) else {
        return;
    };
    let mut observed = nothing_but(rollout);
    observed.templates.insert(key.clone(), spec.clone());
    let Faults { wrong, .. } = engine::faults(&observed);
    for FieldError { path, message } in wrong {
        if let Some((_, _, path)) = in_template(&path) {
            found.push(object.finding(Rule::Controller, path, message));
        }
    }
}

/// A path that leads into a template, taken apart: which template, who uses it, the path in it.
fn in_template(path: &str) -> Option<(TemplateKey, &str, &str)> {
    let (user, rest) = path.split_once(": ")?;
    let (title, path) = rest.split_once(": ")?;
    let (kind, name) = title.split_once(' ')?;
    let key = TemplateKey {
        cluster: kind == "ClusterAnalysisTemplate",
        name: name.trim_matches('"').to_owned(),
    };
    Some((key, user, path))
}

/// The kinds of route objects that there are.
pub fn route_kinds() -> Vec<Kind> {
    engine::traffic::kinds()
}
