//! Checking: an analysis with its templates made ready to run, or everything that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{
        AnalysisTemplateSpec, Metric,
        strategy::{Analysis, Argument},
    },
    model::{
        observed::{Observed, TemplateKey},
        spec::{FieldError, Spec, template_keys},
    },
};

use super::{
    TemplateFault,
    metrics::{self, DEFAULT_PROVIDER},
    template::{
        Values,
        arguments::{self, Fault},
        fill,
    },
};

/// The longest query, filled in, in characters: what an AnalysisRun holds.
const LONGEST_QUERY: usize = 8192;
/// All queries of a run together, in bytes, so that the run is no object that is too large.
const LONGEST_QUERIES: usize = 256 * 1024;
/// As many arguments are told in an AnalysisRun.
const MOST_ARGS: usize = 64;

/// What an analysis is prepared for.
pub(super) struct Purpose<'a> {
    /// The analysis' path in the Rollout, for faults.
    pub(super) path: &'a str,
    /// Whether it runs at a step, not in the background.
    pub(super) step: bool,
    /// Hash of the revision that is judged.
    pub(super) canary: &'a str,
    /// Hash of the stable revision.
    pub(super) stable: &'a str,
    /// The Rollout's namespace.
    pub(super) namespace: &'a str,
}

/// An analysis that is ready to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Prepared {
    /// The metrics of all templates, queries filled in, providers named.
    pub(super) metrics: Vec<Metric>,
    /// The values that were filled in.
    pub(super) args: Vec<Argument>,
}

/// Everything that is wrong with what is to be measured.
pub(super) fn check(spec: &Spec, observed: &Observed) -> Vec<TemplateFault> {
    let mut all: Vec<TemplateFault> = vec![];
    // What goes on beside the steps.
    let beside = [".analysis", ".bake.analysis"];
    let beside = beside.map(|field| {
        let of = |path: &str| format!("{path}{field}");
        [of(spec.course.path), of("status.attempt")]
    });
    for (path, analysis) in spec.to_measure() {
        let purpose = Purpose {
            path,
            step: !beside.as_flattened().contains(path),
            canary: "xxxxxxxxxx",
            stable: "xxxxxxxxxx",
            namespace: observed
                .rollout
                .metadata
                .namespace
                .as_deref()
                .unwrap_or_default(),
        };
        for fault in prepare(analysis, &purpose, &observed.templates)
            .err()
            .unwrap_or_default()
        {
            if !all.contains(&fault) {
                all.push(fault);
            }
        }
    }
    all
}

/// Makes an analysis ready to run, or tells everything that is wrong with it.
pub(super) fn prepare(
    analysis: &Analysis,
    purpose: &Purpose<'_>,
    templates: &BTreeMap<TemplateKey, AnalysisTemplateSpec>,
) -> Result<Prepared, Vec<TemplateFault>> {
    let mut work = Work {
        purpose,
        ready: Prepared::default(),
        faults: vec![],
    };
    let mut names = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut missing = false;
    if analysis.templates.is_empty() {
        work.wrong("templates", "empty: name at least one template");
    }
    for (i, key) in template_keys(analysis).into_iter().enumerate() {
        let title = title(&key);
        match templates.get(&key) {
            _ if !seen.insert(key.clone()) => {
                work.wrong(&format!("templates[{i}]"), format!("{title}: named twice"));
            }
            Some(template) => {
                names.extend(template.args.iter().map(|a| a.name.as_str()));
                work.template(&title, template, &analysis.args);
            }
            None => {
                missing = true;
                work.faults.push(TemplateFault::Missing(title));
            }
        }
    }
    // A template that is missing may declare what the others do not.
    if !missing {
        for (path, fault) in arguments::strays(&analysis.args, &names) {
            work.wrong(&path, fault);
        }
    }
    let length: usize = work.ready.metrics.iter().map(|m| query(m).len()).sum();
    if length > LONGEST_QUERIES {
        work.wrong(
            "templates",
            format!("their queries have {length} bytes, at most {LONGEST_QUERIES} together"),
        );
    }
    if work.faults.is_empty() {
        work.ready.args.truncate(MOST_ARGS);
        Ok(work.ready)
    } else {
        Err(work.faults)
    }
}

/// A template's kind and name, as messages say it.
fn title(key: &TemplateKey) -> String {
    let kind = if key.cluster {
        "ClusterAnalysisTemplate"
    } else {
        "AnalysisTemplate"
    };
    format!("{kind} {}", key.name)
}

fn query(metric: &Metric) -> &str {
    metric.provider.prometheus.as_ref().map_or("", |p| &p.query)
}

struct Work<'a> {
    purpose: &'a Purpose<'a>,
    ready: Prepared,
    faults: Vec<TemplateFault>,
}

impl Work<'_> {
    /// Something is wrong in the Rollout, at a path below the analysis.
    fn wrong(&mut self, path: &str, message: impl Into<String>) {
        self.faults.push(TemplateFault::Wrong(FieldError {
            path: format!("{}.{path}", self.purpose.path),
            message: message.into(),
        }));
    }

    /// Something is wrong in a template, at a path of the template.
    fn wrong_in(&mut self, title: &str, path: &str, message: impl Into<String>) {
        let title = match title.split_once(' ') {
            Some((kind, name)) => format!("{kind} {name:?}"),
            None => title.to_owned(),
        };
        self.faults.push(TemplateFault::Wrong(FieldError {
            path: format!("{}: {title}: {path}", self.purpose.path),
            message: message.into(),
        }));
    }

    fn template(&mut self, title: &str, template: &AnalysisTemplateSpec, given: &[Argument]) {
        let (args, faults) = arguments::resolve(&template.args, given);
        for fault in faults {
            match fault {
                Fault::Given(path, why) => self.wrong(&path, format!("{title}: {why}")),
                Fault::Declared(path, why) => self.wrong_in(title, &path, why),
            }
        }
        for (name, value) in &args {
            let arg = Argument {
                name: name.clone(),
                value: value.text.clone().unwrap_or_default(),
            };
            if !self.ready.args.contains(&arg) {
                self.ready.args.push(arg);
            }
        }
        if template.metrics.is_empty() {
            self.wrong_in(title, "spec.metrics", "empty: name at least one metric");
        }
        let mut values = Values {
            args,
            window: None,
            canary: self.purpose.canary.to_owned(),
            stable: self.purpose.stable.to_owned(),
            namespace: self.purpose.namespace.to_owned(),
        };
        for (i, metric) in template.metrics.iter().enumerate() {
            self.metric(title, &format!("spec.metrics[{i}]"), metric, &mut values);
        }
    }

    fn metric(&mut self, title: &str, path: &str, metric: &Metric, values: &mut Values) {
        for (field, fault) in metrics::faults(metric, self.purpose.step) {
            self.wrong_in(title, &format!("{path}.{field}"), fault);
        }
        if self.ready.metrics.iter().any(|m| m.name == metric.name) {
            self.wrong_in(
                title,
                &format!("{path}.name"),
                format!(
                    "{:?}: another metric of this analysis has this name",
                    metric.name
                ),
            );
        }
        let mut metric = metric.clone();
        let provider = metric.provider.ref_.take();
        metric.provider.ref_ = Some(provider.unwrap_or_else(|| DEFAULT_PROVIDER.to_owned()));
        // A window that cannot be read was told already; the query need not be blamed for it.
        values.window = metric
            .window
            .as_ref()
            .map(|w| w.parse().unwrap_or(metrics::SHORTEST));
        if let Some(prometheus) = &mut metric.provider.prometheus {
            let path = format!("{path}.provider.prometheus.query");
            match fill(&prometheus.query, values) {
                Ok(text) if text.trim().is_empty() => self.wrong_in(title, &path, "empty"),
                Ok(text) if text.chars().count() > LONGEST_QUERY => {
                    let fault = format!("filled in, it has more than {LONGEST_QUERY} characters");
                    self.wrong_in(title, &path, fault);
                }
                Ok(text) => prometheus.query = text,
                Err(faults) => {
                    for fault in faults {
                        self.wrong_in(title, &path, fault);
                    }
                }
            }
        }
        self.ready.metrics.push(metric);
    }
}
