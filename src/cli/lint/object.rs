//! Objects: documents whose kind lint knows.

use serde_json::Value;

use crate::{
    api::{AnalysisTemplateSpec, Rollout},
    model::{object::Kind, observed::TemplateKey},
};

use super::{Finding, Rule, Severity, source::Document};

/// What an object is.
#[derive(Clone, Debug)]
pub enum What {
    /// A Rollout.
    Rollout(Box<Rollout>),
    /// An AnalysisTemplate or a ClusterAnalysisTemplate.
    Template(TemplateKey, AnalysisTemplateSpec),
    /// An AnalysisRun.
    Run,
    /// A Service.
    Service,
    /// A Deployment.
    Deployment,
    /// A route object of a router.
    Route(Kind),
}

/// An object of a file.
#[derive(Clone, Debug)]
pub struct Object {
    /// The name of its file.
    pub file: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// As it stands in the file.
    pub value: Value,
    /// What it is.
    pub what: What,
    document: Document,
}

impl Object {
    /// The object that a document holds.
    pub fn new(document: &Document, value: Value, what: What) -> Self {
        let (kind, name) = kind_and_name(&document.value);
        Self {
            file: document.file.clone(),
            kind,
            name,
            value,
            what,
            document: document.clone(),
        }
    }

    /// Its namespace; empty where it names none.
    pub fn namespace(&self) -> &str {
        let namespace = self.value.pointer("/metadata/namespace");
        namespace.and_then(Value::as_str).unwrap_or_default()
    }

    /// Its kind and name, as messages say it.
    pub fn title(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    /// An error of it.
    pub fn finding(&self, rule: Rule, path: &str, message: String) -> Finding {
        finding(&self.document, rule, path, message)
    }
}

fn kind_and_name(value: &Value) -> (String, String) {
    let text = |path: &str| {
        let text = value.pointer(path).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let name = text("/metadata/name");
    if name.is_empty() {
        return (text("/kind"), text("/metadata/generateName"));
    }
    (text("/kind"), name)
}

/// An error of a document.
pub fn finding(document: &Document, rule: Rule, path: &str, message: String) -> Finding {
    let (kind, name) = kind_and_name(&document.value);
    Finding {
        severity: Severity::Error,
        rule,
        file: document.file.clone(),
        line: document.lines.of(path),
        document_line: document.line,
        kind,
        name,
        path: path.to_owned(),
        message,
    }
}
