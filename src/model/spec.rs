//! Spec: a Rollout parsed, defaulted and proven valid, or every fault of it by field path.

use std::{fmt, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::api::{
    Rollout,
    names::POD_TEMPLATE_HASH,
    strategy::{Analysis, BackgroundAnalysis, Canary, Step},
    traffic::TrafficRouting,
    units::HumanDuration,
};

use super::observed::{References, TemplateKey};

/// What is wrong with a field, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field.
    pub path: String,
    /// What was found and what would be right.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// A valid Rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Number of pods.
    pub replicas: u32,
    /// Which pods belong to it.
    pub selector: LabelSelector,
    /// Seconds for which a pod must be ready to count.
    pub min_ready_seconds: i32,
    /// Within which an attempt must make progress.
    pub progress_deadline: Duration,
    /// Whether to roll back when the deadline passes.
    pub progress_deadline_abort: bool,
    /// How many old revisions are kept.
    pub history_limit: usize,
    /// Whether everything stands still.
    pub paused: bool,
    /// The role Services, where there are any.
    pub services: Option<RoleServices>,
    /// How traffic is routed, where it is.
    pub routing: Option<TrafficRouting>,
    /// How long an accepted weight takes to be in force.
    pub propagation_delay: Duration,
    /// Pods above `replicas`, where pods are the weight.
    pub max_surge: u32,
    /// Pods below `replicas`, where pods are the weight.
    pub max_unavailable: u32,
    /// How long the old revision keeps its size after a promotion.
    pub scale_down_delay: Duration,
    /// How long the canary keeps its size after an abort.
    pub abort_scale_down_delay: Duration,
    /// The steps.
    pub steps: Vec<Step>,
    /// The analysis in the background.
    pub analysis: Option<BackgroundAnalysis>,
    /// What the attempt in flight still measures, by the path where it stands: its steps are a
    /// snapshot, so the spec may no longer name it.
    pub in_flight: Vec<(String, Analysis)>,
}

/// Names of the role Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleServices {
    /// The user's.
    pub user: String,
    /// The stable one.
    pub stable: String,
    /// The canary one.
    pub canary: String,
    /// Whether the role Services belong to somebody else.
    pub shared: bool,
}

struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError {
            path: path.into(),
            message: message.into(),
        });
    }
    fn duration(&mut self, path: &str, value: Option<&HumanDuration>, default: u64) -> Duration {
        match value.map(HumanDuration::parse) {
            None => Duration::from_secs(default),
            Some(Ok(d)) => d,
            Some(Err(message)) => {
                let found = value.map(|v| v.0.as_str()).unwrap_or_default();
                self.add(path, format!("{found:?}: {message}"));
                Duration::from_secs(default)
            }
        }
    }
}

impl Spec {
    /// Checks and defaults a Rollout, or tells everything that is wrong with it.
    pub fn resolve(rollout: &Rollout) -> Result<Self, Vec<FieldError>> {
        match Self::examine(rollout) {
            (Some(spec), faults) if faults.is_empty() => Ok(spec),
            (_, faults) => Err(faults),
        }
    }

    /// Everything that is wrong with a Rollout, and what can be made of it all the same: a default
    /// stands in for each wrong field. None where it names no strategy.
    pub fn examine(rollout: &Rollout) -> (Option<Self>, Vec<FieldError>) {
        let spec = &rollout.spec;
        let mut faults = Faults(vec![]);
        if spec.replicas < 0 {
            faults.add(
                "spec.replicas",
                format!("{}: must be 0 or more", spec.replicas),
            );
        }
        check_selector(&spec.selector, &spec.template, &mut faults);
        let Some(canary) = &spec.strategy.canary else {
            faults.add("spec.strategy", "empty: set exactly one strategy: canary");
            return (None, faults.0);
        };
        let base = "spec.strategy.canary";
        let replicas = u32::try_from(spec.replicas).unwrap_or(0);
        let routing = canary.traffic_routing.clone();
        check_routing(canary, &mut faults);
        check_steps(&canary.steps, &mut faults);
        let (max_surge, max_unavailable) = surge(canary, replicas, &mut faults);
        let propagation = routing.as_ref().and_then(|r| r.propagation_delay.as_ref());
        let resolved = Self {
            replicas,
            selector: spec.selector.clone(),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0).max(0),
            progress_deadline: Duration::from_secs(
                u64::try_from(spec.progress_deadline_seconds.unwrap_or(600)).unwrap_or(600),
            ),
            progress_deadline_abort: spec.progress_deadline_abort,
            history_limit: usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(10),
            paused: spec.paused,
            services: canary
                .service
                .as_ref()
                .map(|user| role_services(user, canary)),
            propagation_delay: faults.duration(
                &format!("{base}.trafficRouting.propagationDelay"),
                propagation,
                5,
            ),
            max_surge,
            max_unavailable,
            scale_down_delay: faults.duration(
                &format!("{base}.scaleDownDelay"),
                canary.scale_down_delay.as_ref(),
                30,
            ),
            abort_scale_down_delay: faults.duration(
                &format!("{base}.abortScaleDownDelay"),
                canary.abort_scale_down_delay.as_ref(),
                30,
            ),
            steps: canary.steps.clone(),
            analysis: canary.analysis.clone(),
            in_flight: in_flight(rollout),
            routing,
        };
        (Some(resolved), faults.0)
    }

    /// Whether traffic is routed; otherwise the pods are the weight.
    pub fn routed(&self) -> bool {
        self.routing.is_some()
    }

    /// Everything that analyses name, with the path of each reference.
    pub fn analyses(&self) -> Vec<(String, Analysis)> {
        let mut all = vec![];
        for (i, step) in self.steps.iter().enumerate() {
            if let Some(analysis) = &step.analysis {
                all.push((
                    format!("spec.strategy.canary.steps[{i}].analysis"),
                    analysis.clone(),
                ));
            }
        }
        if let Some(background) = &self.analysis {
            all.push((
                "spec.strategy.canary.analysis".to_owned(),
                background.analysis(),
            ));
        }
        all
    }

    /// The Services and templates to look at.
    pub fn references(&self) -> References {
        let services = self
            .services
            .iter()
            .flat_map(|s| [s.user.clone(), s.stable.clone(), s.canary.clone()])
            .collect();
        let templates = self
            .analyses()
            .into_iter()
            .flat_map(|(_, a)| template_keys(&a))
            .collect();
        References {
            services,
            templates,
            routes: vec![],
        }
    }
}

/// What the attempt in flight measures, from its snapshot.
fn in_flight(rollout: &Rollout) -> Vec<(String, Analysis)> {
    let attempt = rollout.status.as_ref().and_then(|s| s.attempt.as_ref());
    let Some(attempt) = attempt.filter(|a| a.outcome.is_none()) else {
        return vec![];
    };
    let steps = attempt.steps.iter().enumerate();
    let steps = steps.filter_map(|(i, s)| {
        Some((
            format!("status.attempt.steps[{i}].analysis"),
            s.analysis.clone()?,
        ))
    });
    let background = attempt.analysis.as_ref();
    steps
        .chain(background.map(|b| ("status.attempt.analysis".to_owned(), b.analysis())))
        .collect()
}

/// The templates that an analysis names.
pub fn template_keys(analysis: &Analysis) -> Vec<TemplateKey> {
    analysis
        .templates
        .iter()
        .map(|t| TemplateKey {
            cluster: t.cluster_scope,
            name: t.template_name.clone(),
        })
        .collect()
}

fn role_services(user: &str, canary: &Canary) -> RoleServices {
    RoleServices {
        user: user.to_owned(),
        stable: canary
            .stable_service
            .clone()
            .unwrap_or_else(|| format!("{user}-stable")),
        canary: canary
            .canary_service
            .clone()
            .unwrap_or_else(|| format!("{user}-canary")),
        shared: canary.shared,
    }
}

fn check_selector(selector: &LabelSelector, template: &Value, faults: &mut Faults) {
    let empty = selector.match_labels.as_ref().is_none_or(|m| m.is_empty())
        && selector
            .match_expressions
            .as_ref()
            .is_none_or(|m| m.is_empty());
    if empty {
        faults.add(
            "spec.selector",
            "empty: it must select the template's pods and no others",
        );
    }
    let labels = template.pointer("/metadata/labels");
    for (key, value) in selector.match_labels.iter().flatten() {
        let found = labels.and_then(|l| l.get(key)).and_then(Value::as_str);
        if found != Some(value) {
            faults.add(
                "spec.selector.matchLabels",
                format!(
                    "{key}: {value} does not match spec.template.metadata.labels, found {}",
                    found.unwrap_or("no such label")
                ),
            );
        }
    }
    if labels.and_then(|l| l.get(POD_TEMPLATE_HASH)).is_some() {
        faults.add(
            format!("spec.template.metadata.labels[{POD_TEMPLATE_HASH}]"),
            "this label is set by the controller: take it out",
        );
    }
}

fn check_routing(canary: &Canary, faults: &mut Faults) {
    let base = "spec.strategy.canary";
    if canary.traffic_routing.is_some() && canary.service.is_none() {
        faults.add(
            format!("{base}.service"),
            "missing: trafficRouting needs the Service from which the role Services are cloned",
        );
    }
    if let Some(user) = &canary.service {
        let names = role_services(user, canary);
        if names.stable == names.canary {
            faults.add(
                format!("{base}.canaryService"),
                format!("{:?}: must differ from stableService", names.canary),
            );
        }
        for (field, name) in [
            ("stableService", &names.stable),
            ("canaryService", &names.canary),
        ] {
            if name == user {
                faults.add(
                    format!("{base}.{field}"),
                    format!("{name:?}: must differ from service, which is only read"),
                );
            }
            if name.len() > 63 {
                faults.add(
                    format!("{base}.{field}"),
                    format!("{name:?}: a Service's name has at most 63 characters; set {field}"),
                );
            }
        }
    }
    let Some(analysis) = &canary.analysis else {
        return;
    };
    let starting = analysis.starting_step.unwrap_or(0);
    if usize::try_from(starting).is_ok_and(|s| s > canary.steps.len()) {
        faults.add(
            format!("{base}.analysis.startingStep"),
            format!("{starting}: there are {} steps", canary.steps.len()),
        );
    }
}

fn check_steps(steps: &[Step], faults: &mut Faults) {
    let mut names = std::collections::BTreeSet::new();
    for (i, step) in steps.iter().enumerate() {
        let path = format!("spec.strategy.canary.steps[{i}]");
        let kinds = [
            step.set_weight.is_some(),
            step.pause.is_some(),
            step.analysis.is_some(),
        ];
        if kinds.iter().filter(|k| **k).count() != 1 {
            faults.add(
                path.clone(),
                "a step is exactly one of setWeight, pause and analysis",
            );
        }
        if let Some(weight) = step.set_weight
            && !(0..=100).contains(&weight)
        {
            faults.add(
                format!("{path}.setWeight"),
                format!("{weight}: must be 0 to 100"),
            );
        }
        if let Some(duration) = step.pause.as_ref().and_then(|p| p.duration.as_ref()) {
            faults.duration(&format!("{path}.pause.duration"), Some(duration), 0);
        }
        if let Some(name) = &step.name {
            if name.parse::<usize>().is_ok() {
                faults.add(
                    format!("{path}.name"),
                    format!("{name:?}: a name is not a number"),
                );
            }
            if !names.insert(name) {
                faults.add(
                    format!("{path}.name"),
                    format!("{name:?}: another step has this name"),
                );
            }
        }
    }
}

fn surge(canary: &Canary, replicas: u32, faults: &mut Faults) -> (u32, u32) {
    let base = "spec.strategy.canary";
    let mut amount = |field: &str, value: &Option<IntOrString>, up: bool| -> u32 {
        let percent = |p: u32| {
            let exact = u64::from(p) * u64::from(replicas);
            u32::try_from(if up { exact.div_ceil(100) } else { exact / 100 }).unwrap_or(u32::MAX)
        };
        match value {
            None => percent(25),
            Some(IntOrString::Int(n)) if *n >= 0 => u32::try_from(*n).unwrap_or(0),
            Some(IntOrString::Int(n)) => {
                faults.add(
                    format!("{base}.{field}"),
                    format!("{n}: must be 0 or more, or a percentage"),
                );
                0
            }
            Some(IntOrString::String(s)) => {
                match s
                    .strip_suffix('%')
                    .and_then(|p| p.parse::<u32>().ok())
                    .filter(|p| *p <= 1000)
                {
                    Some(p) => percent(p),
                    None => {
                        faults.add(
                            format!("{base}.{field}"),
                            format!("{s:?}: must be a number or a percentage such as \"25%\""),
                        );
                        0
                    }
                }
            }
        }
    };
    let up = amount("maxSurge", &canary.max_surge, true);
    let down = amount("maxUnavailable", &canary.max_unavailable, false);
    // With neither, nothing could ever move.
    (up, if up == 0 && down == 0 { 1 } else { down })
}
