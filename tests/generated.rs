//! What is generated equals what the code says: CustomResourceDefinitions, the chart's roles, the
//! reference. `UPDATE=1` writes it anew.

#[path = "support/exposed.rs"]
mod exposed;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use serde_json::Value;
use serin::{
    api::crds,
    cli::{arguments, crds::yaml, rbac},
    controller::rollouts::route_kinds,
};

const CRD_MAX: usize = 120 * 1024;

/// Compares a file with what it should be, or writes it.
fn same(path: &str, wanted: &str, faults: &mut Vec<String>) {
    if std::env::var_os("UPDATE").is_some_and(|u| u != "0") {
        let path = Path::new(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        fs::write(path, wanted).expect("the file can be written");
    } else if fs::read_to_string(path).ok().as_deref() != Some(wanted) {
        faults.push(format!("{path} is not what the code says"));
    }
}

fn report(faults: &[String]) {
    let advice = "write it anew with `make generate`";
    assert!(faults.is_empty(), "\n{}\n{advice}", faults.join("\n"));
}

#[test]
fn custom_resource_definitions() {
    let mut faults = vec![];
    for (name, crd) in crds() {
        let text = yaml(name, &crd).expect("yaml");
        if text.len() >= CRD_MAX {
            faults.push(format!("{name}: {} bytes, {CRD_MAX} at most", text.len()));
        }
        for folder in ["crds", "charts/serin/files/crds"] {
            same(&format!("{folder}/{name}"), &text, &mut faults);
        }
        let annotations = crd.metadata.annotations.unwrap_or_default();
        if annotations
            .get("helm.sh/resource-policy")
            .map(String::as_str)
            != Some("keep")
        {
            faults.push(format!(
                "{name}: would go with the chart, and every object with it"
            ));
        }
    }
    for folder in ["crds", "charts/serin/files/crds"] {
        let there = fs::read_dir(folder).map_or(0, Iterator::count);
        if there != crds().len() {
            faults.push(format!("{folder} has {there} files, not {}", crds().len()));
        }
    }
    report(&faults);
}

#[test]
fn roles_of_the_chart() {
    let mut faults = vec![];
    for (name, rules) in [
        ("namespaced", rbac::namespaced(&route_kinds())),
        ("cluster", rbac::cluster()),
        ("lease", rbac::lease()),
        ("view", rbac::view()),
        ("edit", rbac::edit()),
        ("promote", rbac::command(rbac::PROMOTE)),
        ("abort", rbac::command(rbac::ABORT)),
    ] {
        let text = serde_saphyr::to_string(&rules).expect("yaml");
        let text = format!("# Generated from src/cli/rbac.rs.\n{}\n", text.trim_end());
        same(
            &format!("charts/serin/files/rbac-{name}.yaml"),
            &text,
            &mut faults,
        );
    }
    report(&faults);
}

#[test]
fn the_chart_is_of_this_version() {
    let text = fs::read_to_string("charts/serin/Chart.yaml").expect("a chart");
    let chart: Value = serde_saphyr::from_str(&text).expect("yaml");
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

/// The constants of a module in `src/api/names.rs`, with what is said of them, as lines of a table.
fn named(module: &str) -> String {
    let text = fs::read_to_string("src/api/names.rs").expect("names");
    let (_, inside) = text
        .split_once(&format!("pub mod {module} {{"))
        .expect("the module");
    let (inside, _) = inside.split_once("\n}").expect("its end");
    let (mut said, mut rows) = (String::new(), vec![]);
    for line in inside.lines().map(str::trim) {
        if let Some(more) = line.strip_prefix("/// ") {
            said = format!("{said} {more}").trim().to_owned();
        } else if line.starts_with("pub const") {
            let word = line.split('"').nth(1).expect("a text");
            rows.push(format!("| `{word}` | {} |\n", one_line(&said)));
            said.clear();
        }
    }
    rows.sort();
    format!("\n| | |\n|---|---|\n{}", rows.concat())
}

#[test]
fn reference_of_the_reasons() {
    let text = format!(
        "# Reasons\n\nGenerated from `src/api/names.rs`. These words are stable.\n\n\
         ## Conditions\n{}\n## Reasons\n\n\
         Of entries of `status.history`, of Events, and of conditions. A condition may also say where an attempt is: [Troubleshooting](../troubleshooting.md#work-goes-on) lists those words.\n{}",
        named("condition"),
        named("reason"),
    );
    let mut faults = vec![];
    same("docs/reference/reasons.md", &text, &mut faults);
    report(&faults);
}

/// What `--help` says of a command and of those below it, each under a heading.
fn help(command: &mut clap::Command, path: &str, out: &mut String) {
    let text = command.render_help().to_string();
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    let _ = write!(
        out,
        "\n## {path}\n\n```text\n{}\n```\n",
        lines.join("\n").trim_end()
    );
    for below in command.get_subcommands_mut().filter(|c| !c.is_hide_set()) {
        let path = format!("{path} {}", below.get_name());
        help(below, &path, out);
    }
}

#[test]
fn reference_of_the_commands() {
    let mut text = String::from(
        "# Commands\n\nGenerated from `serin --help`. Under the name `kubectl-serin` the same program is \
         `kubectl serin`; [Operate](../guides/operate.md) says how.\n",
    );
    let mut command = arguments("serin");
    command.build();
    help(&mut command, "serin", &mut text);
    let mut faults = vec![];
    same("docs/reference/cli.md", &text, &mut faults);
    report(&faults);
}

#[test]
fn every_metric_is_in_the_reference() {
    let text = fs::read_to_string("docs/reference/metrics.md").expect("the reference");
    let exposed = exposed::exposed();
    let mut names = 0;
    for line in exposed.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a name and a type");
        let name = if kind == "counter" {
            format!("{name}_total")
        } else {
            name.to_owned()
        };
        assert!(
            text.contains(&format!("| `{name}` | {kind} |")),
            "{name} ({kind})"
        );
        names += 1;
    }
    let told = text.lines().filter(|l| l.starts_with("| `serin_")).count();
    assert_eq!(
        names, told,
        "the reference has metrics that are not there, or lacks some"
    );
}

/// Fields that come with Kubernetes' own types or need no word.
const UNSAID: &[&str] = &["apiVersion", "kind", "metadata"];

/// Each field of a schema: its path and what is said of it.
fn fields(schema: &Value, path: &str, out: &mut Vec<(String, Value)>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, field) in properties {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            out.push((path.clone(), field.clone()));
            fields(field, &path, out);
        }
    }
    if schema["items"].is_object() {
        fields(&schema["items"], &format!("{path}[]"), out);
    }
    if schema["additionalProperties"].is_object() {
        fields(&schema["additionalProperties"], &format!("{path}.*"), out);
    }
}

fn schema_of(crd: &impl serde::Serialize) -> (String, Value) {
    let crd = serde_json::to_value(crd).expect("json");
    let kind = crd["spec"]["names"]["kind"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    (
        kind,
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone(),
    )
}

#[test]
fn every_field_is_explained() {
    let mut faults = vec![];
    for (_, crd) in crds() {
        let (kind, schema) = schema_of(&crd);
        let mut all = vec![];
        fields(&schema, "", &mut all);
        assert!(all.len() > 10, "{kind} has {} fields", all.len());
        for (path, field) in all {
            let said = field["description"].as_str().unwrap_or_default();
            if said.is_empty() && !UNSAID.contains(&path.as_str()) {
                faults.push(format!("{kind}: nothing is said of {path}"));
            }
            if said.contains("Auto-generated") {
                faults.push(format!("{kind}: {path} says {said:?}"));
            }
        }
        if schema["description"]
            .as_str()
            .is_none_or(|d| d.contains("Auto-generated"))
        {
            faults.push(format!("nothing is said of {kind}"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// What a field may be, in a few words.
fn type_of(field: &Value) -> String {
    if let Some(words) = field["enum"].as_array() {
        let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
        return words.join(" \\| ");
    }
    if field["x-kubernetes-int-or-string"] == true {
        return "integer or string".to_owned();
    }
    let mut name = match field["type"].as_str() {
        Some("array") => format!("list of {}s", type_of(&field["items"])),
        Some("object") if field["additionalProperties"].is_object() => "map".to_owned(),
        Some(name) => name.to_owned(),
        None => "any".to_owned(),
    };
    if field["format"] == "date-time" {
        name = "time".to_owned();
    }
    if let (Some(min), Some(max)) = (field["minimum"].as_f64(), field["maximum"].as_f64()) {
        let _ = write!(name, ", {min} to {max}");
    }
    name
}

#[test]
fn reference_of_the_fields() {
    let mut text = String::from(
        "# Fields\n\nGenerated from the CustomResourceDefinitions. `kubectl explain` says the same.\n\
         A field in **bold** must be given. `[]` stands for each element of a list.\n",
    );
    for (_, crd) in crds() {
        let (kind, schema) = schema_of(&crd);
        let about = schema["description"].as_str().unwrap_or_default();
        let _ = write!(text, "\n## {kind}\n\n{}\n", one_line(about));
        for part in ["spec", "status"] {
            let part_schema = &schema["properties"][part];
            if part_schema.is_null() {
                continue;
            }
            let _ = write!(
                text,
                "\n### {kind}: {part}\n\n| Field | Type | |\n|---|---|---|\n"
            );
            table(part_schema, "", &mut text);
        }
    }
    let mut faults = vec![];
    same("docs/reference/fields.md", &text, &mut faults);
    report(&faults);
}

/// The lines of a table for each field of a schema.
fn table(schema: &Value, path: &str, out: &mut String) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let here = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let said = one_line(field["description"].as_str().unwrap_or_default());
        let cell = if required.contains(&Value::from(name.as_str())) {
            format!("**`{here}`**")
        } else {
            format!("`{here}`")
        };
        let _ = writeln!(out, "| {cell} | {} | {said} |", type_of(field));
        table(field, &here, out);
        table(&field["items"], &format!("{here}[]"), out);
    }
}

/// Text for one cell of a table. What is code stays as it is.
fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let line = words.join(" ").replace('|', "\\|");
    let parts = line.split('`').enumerate();
    let escaped: Vec<_> = parts
        .map(|(i, part)| {
            if i % 2 == 0 {
                part.replace('<', "&lt;")
            } else {
                part.to_owned()
            }
        })
        .collect();
    escaped.join("`")
}

/// What the comments in a values file say of each key, by its path, in the order of the file.
fn comments(text: &str) -> Vec<(String, String)> {
    let (mut out, mut path, mut said) = (vec![], Vec::<String>::new(), String::new());
    for line in text.lines() {
        let inside = line.trim_start();
        if let Some(more) = inside.strip_prefix('#') {
            said = format!("{said} {}", more.trim()).trim().to_owned();
        } else if let Some((key, _)) = inside.split_once(':')
            && !inside.starts_with('-')
        {
            path.truncate((line.len() - inside.len()) / 2);
            path.push(key.to_owned());
            out.push((path.join("."), std::mem::take(&mut said)));
        } else {
            said.clear();
        }
    }
    out
}

/// The default of each value that is set as a whole: where the schema names no further fields.
fn defaults(value: &Value, schema: &Value, path: &str, out: &mut BTreeMap<String, Value>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let here = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let schema = &schema["properties"][key];
        if schema["properties"].is_object() {
            defaults(value, schema, &here, out);
        } else {
            out.insert(here, value.clone());
        }
    }
}

#[test]
fn values_of_the_chart() {
    let text = fs::read_to_string("charts/serin/values.yaml").expect("values");
    let values: Value = serde_saphyr::from_str(&text).expect("yaml");
    let schema = fs::read_to_string("charts/serin/values.schema.json").expect("a schema");
    let schema: Value = serde_json::from_str(&schema).expect("json");
    let (mut found, mut faults) = (BTreeMap::new(), vec![]);
    defaults(&values, &schema, "", &mut found);
    assert!(found.len() > 40, "{} values", found.len());
    let mut table =
        String::from("\nGenerated from `values.yaml`.\n\n| Value | Default | |\n|---|---|---|\n");
    for (path, about) in comments(&text) {
        let Some(default) = found.remove(&path) else {
            continue;
        };
        if about.is_empty() {
            faults.push(format!(
                "charts/serin/values.yaml: nothing is said of {path}"
            ));
        }
        let about = one_line(&about);
        let _ = writeln!(table, "| `{path}` | `{default}` | {about} |");
    }
    assert!(found.is_empty(), "not found as lines: {found:?}");
    let path = "charts/serin/README.md";
    let readme = fs::read_to_string(path).expect("a README");
    let (head, _) = readme.split_once("\n## Values\n").expect("the values");
    same(path, &format!("{head}\n## Values\n{table}"), &mut faults);
    report(&faults);
}

/// The words of the reasons, as they stand in `src/api/names.rs`.
fn reasons() -> BTreeSet<String> {
    let table = named("reason");
    let words = table.lines().filter_map(|l| l.split('`').nth(1));
    words.map(ToOwned::to_owned).collect()
}

#[test]
fn every_reason_has_its_entry_in_troubleshooting() {
    let text = fs::read_to_string("docs/troubleshooting.md").expect("troubleshooting");
    let (_, text) = text.split_once("\n## Reasons\n").expect("the reasons");
    let text = text.split("\n## ").next().unwrap_or_default();
    let reasons = reasons();
    assert!(reasons.len() > 20, "{} reasons", reasons.len());
    let mut faults = vec![];
    let mut entries = BTreeSet::new();
    for entry in text.split("\n### ").skip(1) {
        let (name, said) = entry.split_once('\n').unwrap_or((entry, ""));
        entries.insert(name.to_owned());
        for part in ["Meaning: ", "See: ", "Do: "] {
            if !said
                .lines()
                .any(|l| l.starts_with(part) && l.len() > part.len() + 10)
            {
                faults.push(format!(
                    "docs/troubleshooting.md: {name} has no line {part:?}"
                ));
            }
        }
    }
    let lacking = reasons
        .difference(&entries)
        .map(|r| format!("reason {r} has no entry in docs/troubleshooting.md"));
    let stale = entries
        .difference(&reasons)
        .map(|e| format!("docs/troubleshooting.md has an entry {e}, and there is no such reason"));
    faults.extend(lacking.chain(stale));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
