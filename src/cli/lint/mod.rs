//! `serin lint`: everything that is wrong with manifests, told without a cluster, by the rules that
//! the API server and the controller go by: the schema and the CEL rules of the
//! CustomResourceDefinitions, and the engine's own checks on what the files hold.

pub mod cel;
mod controller;
mod meta;
mod object;
mod report;
pub mod schema;
pub mod source;

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::PathBuf,
    sync::LazyLock,
    thread,
};

use clap::{Args, ValueEnum};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::{
    api::{
        crds,
        names::{API_VERSION, GROUP},
    },
    model::{
        object::{DEPLOYMENT, SERVICE},
        observed::TemplateKey,
    },
};

use super::nearest::nearest;
use object::{Object, What, finding};
use source::{Document, Source};

/// With more faults of its structure than this, nothing else is asked of an object.
const FAULTS_MAX: usize = 1000;
/// Evaluating deep values and rules takes more stack than a thread has.
const STACK: usize = 256 * 1024 * 1024;

/// Schema and rules by kind.
static KINDS: LazyLock<BTreeMap<String, (Value, cel::Rules)>> = LazyLock::new(|| {
    let of = |crd: &CustomResourceDefinition| {
        let schema = schema::of_kind(crd);
        let rules = cel::Rules::new(&schema);
        (crd.spec.names.kind.clone(), (schema, rules))
    };
    crds().iter().map(|(_, crd)| of(crd)).collect()
});

static METADATA: LazyLock<Value> = LazyLock::new(schema::of_type::<ObjectMeta>);

/// What to look at, and how to tell it.
#[derive(Debug, Args)]
pub struct Options {
    /// Files or folders with manifests; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How the findings are told
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// A warning fails, too
    #[arg(long)]
    strict: bool,
}

/// How findings are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A line for each
    Text,
    /// One JSON document
    Json,
}

/// Why the command fails.
#[derive(Debug, Error)]
pub enum LintError {
    /// Something is wrong.
    #[error("{0}")]
    Faults(String),
    /// No thread could be started, or it died.
    #[error("cannot look at them")]
    Thread(#[source] io::Error),
    /// Nobody reads what we print.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot be applied, or cannot be carried out.
    Error,
    /// It can be carried out, and is hardly what was meant.
    Warning,
    /// Something could not be looked at.
    Note,
}

/// Whose rule found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The text cannot be read.
    Syntax,
    /// The schema; the API server refuses it.
    Schema,
    /// A CEL rule; the API server refuses it.
    Cel,
    /// The controller's; the API server accepts it, and the Rollout is not carried out.
    Controller,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Whose rule found it.
    pub rule: Rule,
    /// The file.
    pub file: String,
    /// The line of the field, or of what is nearest to it; 0 where the file cannot be read.
    pub line: u64,
    /// The line on which the object begins.
    pub document_line: u64,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Path of the field.
    pub path: String,
    /// What was found and what would be right.
    pub message: String,
}

/// What came of a look at manifests.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Examined {
    /// What was found, by file and line.
    pub findings: Vec<Finding>,
    /// How many objects were looked at.
    pub objects: usize,
    /// How many documents were of other kinds.
    pub ignored: usize,
}

impl Examined {
    /// How many findings are as bad as that.
    pub fn count(&self, severity: Severity) -> usize {
        let of = |f: &&Finding| f.severity == severity;
        self.findings.iter().filter(of).count()
    }

    /// A line for each finding, and one that sums up.
    pub fn text(&self) -> String {
        report::text(self)
    }
}

/// The command.
pub fn run(options: &Options) -> Result<(), LintError> {
    let examined = told(examine(&source::read(&options.files))?);
    let (errors, warnings) = (
        examined.count(Severity::Error),
        examined.count(Severity::Warning),
    );
    let failed = errors > 0 || (options.strict && warnings > 0);
    let text = match options.output {
        // What sums up is the error then.
        Output::Text if failed => report::lines(&examined),
        Output::Text => examined.text(),
        Output::Json => report::json(&examined),
    };
    io::stdout().write_all(text.as_bytes())?;
    if failed {
        return Err(LintError::Faults(report::sum(&examined)));
    }
    Ok(())
}

/// Looks at manifests. Where several rules find the same fault, each tells it; [`told`] leaves one.
pub fn examine(sources: &[Source]) -> Result<Examined, LintError> {
    thread::scope(|scope| {
        thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, || all(sources))
            .map_err(LintError::Thread)?
            .join()
            .map_err(|_| LintError::Thread(io::Error::other("it panicked")))
    })
}

/// What is told: a fault that several rules found, once, by the one that refuses it first.
pub fn told(mut examined: Examined) -> Examined {
    examined.findings.sort_by_key(|f| f.rule);
    let mut told: BTreeMap<(String, u64, String), Vec<Finding>> = BTreeMap::new();
    for new in examined.findings {
        let place = |path: &str| (new.file.clone(), new.document_line, path.to_owned());
        let parent = new.path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let here = told.get(&place(&new.path)).into_iter().flatten();
        let above = told.get(&place(parent)).into_iter().flatten();
        let again = here
            .chain(above.filter(|old| about(old, &new.path)))
            .any(|old| *old == new || (old.rule != new.rule && old.severity <= new.severity));
        if !again {
            told.entry(place(&new.path)).or_default().push(new);
        }
    }
    let mut findings: Vec<Finding> = told.into_values().flatten().collect();
    findings.sort_by(|a, b| {
        (&a.file, a.line, &a.path, a.rule, &a.message)
            .cmp(&(&b.file, b.line, &b.path, b.rule, &b.message))
    });
    examined.findings = findings;
    examined
}

/// Whether a CEL rule on an object is about this field of it: its message names the field.
fn about(finding: &Finding, path: &str) -> bool {
    let Some((parent, field)) = path.rsplit_once('.') else {
        return false;
    };
    let mut words = finding.message.split(|c: char| !c.is_alphanumeric());
    finding.rule == Rule::Cel && finding.path == parent && words.any(|w| w == field)
}

fn all(sources: &[Source]) -> Examined {
    let mut work = Work::default();
    for source in sources {
        match &source.text {
            Err(why) => work.unreadable(&source.name, 0, why),
            Ok(text) => {
                for document in source::documents(&source.name, text) {
                    match document {
                        Err(fault) => work.unreadable(&source.name, fault.line, &fault.message),
                        Ok(document) => work.document(&document),
                    }
                }
            }
        }
    }
    let of_controller = controller::check(&work.objects);
    let mended = &work.mended;
    let of_controller = of_controller.into_iter().filter(|f| {
        let place = (f.file.clone(), f.document_line);
        f.severity != Severity::Error || !mended.get(&place).is_some_and(|m| follows(&f.path, m))
    });
    work.examined.findings.extend(of_controller);
    work.examined
}

/// Whether a fault at `path` follows from a field that was mended: the field itself, what is in it,
/// and the object whose field it is.
fn follows(path: &str, mended: &[String]) -> bool {
    mended.iter().any(|m| {
        let inside = |outer: &str, inner: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        inside(m, path) || m.rsplit_once('.').is_some_and(|(parent, _)| parent == path)
    })
}

#[derive(Default)]
struct Work {
    examined: Examined,
    objects: Vec<Object>,
    /// What was mended, by file and line of the document.
    mended: BTreeMap<(String, u64), Vec<String>>,
}

impl Work {
    fn unreadable(&mut self, file: &str, line: u64, message: &str) {
        self.examined.findings.push(Finding {
            severity: Severity::Error,
            rule: Rule::Syntax,
            file: file.to_owned(),
            line,
            document_line: line,
            kind: String::new(),
            name: String::new(),
            path: String::new(),
            message: message.to_owned(),
        });
    }

    fn document(&mut self, document: &Document) {
        let text = |field: &str| document.value.get(field).and_then(Value::as_str);
        let group = text("apiVersion").unwrap_or_default();
        let kind = text("kind").unwrap_or_default();
        let known = KINDS.contains_key(kind);
        if known && (group.is_empty() || group == API_VERSION) {
            if group.is_empty() {
                let message = format!("missing: write apiVersion: {API_VERSION}");
                self.add(finding(document, Rule::Schema, "apiVersion", message));
            }
            self.ours(document, kind);
        } else if group.split('/').next() == Some(GROUP) {
            self.strange(document, group, kind);
        } else if group == SERVICE.api_version() && kind == SERVICE.kind {
            self.keep(document, document.value.clone(), What::Service);
        } else if let Some(route) = controller::route_kinds()
            .into_iter()
            .find(|k| k.kind == kind && group.split('/').next() == Some(k.group))
        {
            self.keep(document, document.value.clone(), What::Route(route));
        } else {
            if group == DEPLOYMENT.api_version() && kind == DEPLOYMENT.kind {
                // What a Rollout may refer to; it is not looked at by itself.
                self.keep(document, document.value.clone(), What::Deployment);
            }
            if known {
                let message =
                    format!("{group:?}: it was not looked at: Serin's {kind} is of {API_VERSION}");
                self.add(Finding {
                    severity: Severity::Note,
                    ..finding(document, Rule::Schema, "apiVersion", message)
                });
            }
            self.examined.ignored += 1;
            return;
        }
        self.examined.objects += 1;
    }

    /// An object of Serin's group that no Serin has.
    fn strange(&mut self, document: &Document, group: &str, kind: &str) {
        if group != API_VERSION {
            let message = format!("{group:?}: must be {API_VERSION}");
            self.add(finding(document, Rule::Schema, "apiVersion", message));
        }
        if KINDS.contains_key(kind) {
            return;
        }
        let names: Vec<&str> = KINDS.keys().map(String::as_str).collect();
        let hint = nearest(kind, &names).map_or_else(
            || format!("there are {}", names.join(", ")),
            |near| format!("did you mean {near}?"),
        );
        let message = format!("{kind:?}: no such kind: {hint}");
        self.add(finding(document, Rule::Schema, "kind", message));
    }

    fn ours(&mut self, document: &Document, kind: &str) {
        let Some((schema, rules)) = KINDS.get(kind) else {
            return;
        };
        let mut value = document.value.clone();
        let mut findings = vec![];
        let mut checked = schema::check(schema, &mut value, "");
        checked
            .faults
            .retain(|f| f.unknown || !f.path.starts_with("status."));
        if let Some(metadata) = value.get_mut("metadata") {
            let more = schema::check(&METADATA, metadata, "metadata");
            checked.faults.extend(more.faults);
            checked.mended.extend(more.mended);
            checked
                .faults
                .extend(meta::check(metadata, "metadata", true));
            named(metadata);
        } else {
            let message = "missing: give the object a name".to_owned();
            findings.push(finding(document, Rule::Schema, "metadata.name", message));
        }
        let of = |rule, path: &str, message| finding(document, rule, path, message);
        let many = checked.faults.len() > FAULTS_MAX;
        if many {
            checked.faults.truncate(FAULTS_MAX);
            let message = format!("more than {FAULTS_MAX} faults: mend these first");
            findings.push(of(Rule::Schema, "", message));
        }
        let faults = checked.faults.into_iter();
        findings.extend(faults.map(|f| of(Rule::Schema, &f.path, f.message)));
        if many {
            self.examined.findings.extend(findings);
            return;
        }
        // The API server drops it, and looks at the rest without it.
        if value
            .as_object_mut()
            .and_then(|o| o.remove("status"))
            .is_some()
        {
            findings.push(Finding {
                severity: Severity::Warning,
                ..of(
                    Rule::Schema,
                    "status",
                    "the controller writes it: take it out".into(),
                )
            });
        }
        for fault in rules.check(&value) {
            if !follows(&fault.path, &checked.mended) {
                findings.push(of(Rule::Cel, &fault.path, fault.message));
            }
        }
        let name = value.pointer("/metadata/name").and_then(Value::as_str);
        let name = name.unwrap_or_default().to_owned();
        match typed(kind, name, &value) {
            Ok(what) => self.keep(document, value, what),
            Err(e) if checked.mended.is_empty() => {
                findings.push(of(Rule::Controller, "spec", format!("cannot be read: {e}")));
            }
            Err(_) => {}
        }
        self.examined.findings.extend(findings);
        let place = (document.file.clone(), document.line);
        self.mended.insert(place, checked.mended);
    }

    fn keep(&mut self, document: &Document, value: Value, what: What) {
        self.objects.push(Object::new(document, value, what));
    }

    fn add(&mut self, finding: Finding) {
        self.examined.findings.push(finding);
    }
}

/// A name for an object that will get one from the API server.
fn named(metadata: &mut Value) {
    let text = |field: &str| metadata.get(field).and_then(Value::as_str);
    let name = match (text("name"), text("generateName")) {
        (Some(name), _) if !name.is_empty() => return,
        (_, Some(prefix)) => format!("{prefix}xxxxx"),
        _ => String::new(),
    };
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert("name".into(), name.into());
    }
}

/// One of Serin's objects as the controller reads it.
fn typed(kind: &str, name: String, value: &Value) -> Result<What, serde_json::Error> {
    let spec = || value.get("spec").cloned().unwrap_or_default();
    let cluster = kind == "ClusterAnalysisTemplate";
    Ok(match kind {
        "Rollout" => What::Rollout(serde_json::from_value(value.clone())?),
        "AnalysisRun" => {
            serde_json::from_value::<crate::api::AnalysisRun>(value.clone())?;
            What::Run
        }
        _ => What::Template(
            TemplateKey { cluster, name },
            serde_json::from_value(spec())?,
        ),
    })
}
