//! Every YAML in the docs and under `docs/examples`: it can be read, it has no unknown field, every
//! Rollout can be carried out and every template can be run.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use serin::{
    api::{
        AnalysisTemplate, AnalysisTemplateSpec, ClusterAnalysisTemplate, Rollout,
        names::API_VERSION,
    },
    engine::analysis::{self, TemplateFault},
    model::{
        object::Objects,
        observed::{Current, Observed, TemplateKey},
        spec::Spec,
    },
    sim::Scenario,
};

/// A piece of YAML and where it stands.
struct Piece {
    place: String,
    text: String,
}

fn walk(dir: &Path, end: &str, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder can be read") {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            walk(&path, end, out);
        } else if name.ends_with(end) {
            out.push(path);
        }
    }
    out.sort();
}

/// The blocks of a Markdown file that are YAML.
fn blocks(path: &Path, out: &mut Vec<Piece>) {
    let text = fs::read_to_string(path).expect("a file can be read");
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match &mut open {
            Some((start, inside)) if line.trim() == "```" => {
                let place = format!("{}:{}", path.display(), *start + 1);
                out.push(Piece {
                    place,
                    text: std::mem::take(inside),
                });
                open = None;
            }
            Some((_, inside)) => inside.push_str(&format!("{line}\n")),
            None if line.trim() == "```yaml" => open = Some((number, String::new())),
            None => {}
        }
    }
    assert!(open.is_none(), "{}: a block is not closed", path.display());
}

fn pieces() -> Vec<Piece> {
    let (mut files, mut pieces) = (vec![], vec![]);
    walk(Path::new("docs/examples"), ".yaml", &mut files);
    for file in files {
        let text = fs::read_to_string(&file).expect("a file can be read");
        pieces.push(Piece {
            place: file.display().to_string(),
            text,
        });
    }
    let mut files = vec![];
    walk(Path::new("."), ".md", &mut files);
    for file in files {
        blocks(&file, &mut pieces);
    }
    pieces
}

/// The documents of a piece; a line of `---` stands between two.
fn documents(piece: &Piece) -> Result<Vec<Value>, String> {
    let parts = format!("\n{}", piece.text);
    let parts = parts.split("\n---\n").filter(|p| !p.trim().is_empty());
    parts
        .map(|p| serde_saphyr::from_str(p).map_err(|e| format!("{}: {e}", piece.place)))
        .collect()
}

/// Paths of what is written and was not understood: what is not there after reading and writing.
fn unknown(written: &Value, understood: &Value, path: &str, out: &mut Vec<String>) {
    match (written, understood) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                let path = format!("{path}.{key}");
                match b.get(key) {
                    Some(other) => unknown(value, other, &path, out),
                    // A default that is written out is not written again.
                    None if value == &json!(false) => {}
                    None => out.push(path),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for (i, (one, other)) in a.iter().zip(b).enumerate() {
                unknown(one, other, &format!("{path}[{i}]"), out);
            }
        }
        _ => {}
    }
}

/// Reads one of Serin's objects; what is not understood is a fault.
fn strict<T>(value: &Value, faults: &mut Vec<String>) -> Option<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    match serde_json::from_value::<T>(value.clone()) {
        Err(e) => {
            faults.push(e.to_string());
            None
        }
        Ok(object) => {
            let again = serde_json::to_value(&object).expect("json");
            let mut paths = vec![];
            unknown(&value["spec"], &again["spec"], "spec", &mut paths);
            faults.extend(paths.iter().map(|p| format!("{p}: unknown field")));
            Some(object)
        }
    }
}

fn look(rollout: &Rollout, templates: &BTreeMap<TemplateKey, AnalysisTemplateSpec>) -> Observed {
    Observed {
        rollout: rollout.clone(),
        current: Current::New("xxxxxxxxxx".into()),
        revisions: vec![],
        services: BTreeMap::new(),
        endpoints: BTreeMap::new(),
        routes: Objects::new(),
        runs: vec![],
        templates: templates.clone(),
        troubles: vec![],
        live: false,
    }
}

/// A Rollout that measures one template in the background, with a value for each argument.
fn user_of(key: &TemplateKey, template: &AnalysisTemplateSpec) -> Rollout {
    let value = |kind: Option<&str>| match kind {
        Some("duration") => "1m",
        Some("number") => "1",
        _ => "x",
    };
    let args: Vec<Value> = template
        .args
        .iter()
        .map(|a| json!({"name": a.name, "value": value(a.type_.as_deref())}))
        .collect();
    let rollout = json!({
        "apiVersion": API_VERSION, "kind": "Rollout", "metadata": {"name": "app", "namespace": "ns"},
        "spec": {
            "selector": {"matchLabels": {"app": "app"}},
            "template": {"metadata": {"labels": {"app": "app"}}},
            "strategy": {"canary": {"analysis": {
                "templates": [{"templateName": key.name, "clusterScope": key.cluster}], "args": args,
            }}},
        },
    });
    serde_json::from_value(rollout).expect("a rollout")
}

/// What is wrong with a piece.
fn check(piece: &Piece) -> Result<usize, Vec<String>> {
    let documents = documents(piece).map_err(|e| vec![e])?;
    let (mut faults, mut rollouts, mut templates) = (vec![], vec![], BTreeMap::new());
    for document in &documents {
        if document.get("given").is_some() {
            let read = serde_json::from_value::<Scenario>(document.clone());
            faults.extend(read.err().map(|e| e.to_string()));
        }
        if document["apiVersion"] != API_VERSION {
            continue;
        }
        let name = document["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match document["kind"].as_str().unwrap_or_default() {
            "Rollout" => rollouts.extend(strict::<Rollout>(document, &mut faults)),
            "AnalysisTemplate" => {
                let read = strict::<AnalysisTemplate>(document, &mut faults);
                let key = TemplateKey {
                    cluster: false,
                    name,
                };
                templates.extend(read.map(|t| (key, t.spec)));
            }
            "ClusterAnalysisTemplate" => {
                if strict::<ClusterAnalysisTemplate>(document, &mut faults).is_some() {
                    let spec =
                        serde_json::from_value(document["spec"].clone()).expect("a template");
                    templates.insert(
                        TemplateKey {
                            cluster: true,
                            name,
                        },
                        spec,
                    );
                }
            }
            kind => faults.push(format!("{kind}: no such kind")),
        }
    }
    let users: Vec<Rollout> = templates.iter().map(|(k, t)| user_of(k, t)).collect();
    for rollout in rollouts.iter().chain(&users) {
        match Spec::resolve(rollout) {
            Err(wrong) => faults.extend(wrong.iter().map(ToString::to_string)),
            Ok(spec) => {
                for fault in analysis::check(&spec, &look(rollout, &templates)) {
                    faults.push(match fault {
                        TemplateFault::Missing(what) => format!("{what} is not in it"),
                        TemplateFault::Wrong(error) => error.to_string(),
                    });
                }
            }
        }
    }
    if faults.is_empty() {
        Ok(rollouts.len() + templates.len())
    } else {
        Err(faults
            .iter()
            .map(|f| format!("{}: {f}", piece.place))
            .collect())
    }
}

#[test]
fn every_example_can_be_carried_out() {
    let pieces = pieces();
    let (mut objects, mut faults) = (0, vec![]);
    for piece in &pieces {
        match check(piece) {
            Ok(found) => objects += found,
            Err(wrong) => faults.extend(wrong),
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(
        pieces.len() > 8 && objects > 8,
        "{} pieces, {objects} objects",
        pieces.len()
    );
}

#[test]
fn a_wrong_example_is_found() {
    let wrong = |text: &str| {
        let piece = Piece {
            place: "here".into(),
            text: text.to_owned(),
        };
        check(&piece).expect_err("it is wrong").join("\n")
    };
    let rollout = |rest: &str| {
        format!(
            "apiVersion: serin.dev/v1alpha1\nkind: Rollout\nmetadata: {{name: x}}\nspec:\n  \
             selector: {{matchLabels: {{a: b}}}}\n  template: {{metadata: {{labels: {{a: b}}}}}}\n  \
             strategy: {{canary: {{{rest}}}}}\n"
        )
    };
    assert!(wrong(&rollout("step: []")).contains("spec.strategy.canary.step: unknown field"));
    assert!(wrong(&rollout("steps: [{setWeight: 101}]")).contains("must be 0 to 100"));
    let missing = rollout("steps: [{analysis: {templates: [{templateName: gone}]}}]");
    assert!(wrong(&missing).contains("gone is not in it"));
    assert!(wrong("a: [").starts_with("here"));
    assert!(wrong("given: {spec: {}}\nabout: x\nuntil: 1s\nexpect: {what: 1}").contains("what"));
}
