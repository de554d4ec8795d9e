//! Spec: a Rollout parsed, defaulted and proven valid, or every fault of it by field path. Each
//! strategy is a file, which makes a course of what is written.

mod blue_green;
mod canary;
mod fields;
mod former;
mod rolling;
mod surge;

use std::{collections::BTreeSet, fmt, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use crate::api::{
    Rollout,
    names::POD_TEMPLATE_HASH,
    rollout::FailFastReason,
    strategy::{Analysis, BackgroundAnalysis, Bake, Step, Strategy},
    traffic::{GatewayApi, Manage, TrafficRouting},
    units::HumanDuration,
};

use super::observed::{References, TemplateKey};
pub use former::shifting;

/// What ends an attempt at once where nothing is said: what does not pass by waiting.
const FAIL_FAST: &[FailFastReason] = &[
    FailFastReason::CrashLoopBackOff,
    FailFastReason::ImagePullBackOff,
    FailFastReason::InvalidImageName,
    FailFastReason::ErrImageNeverPull,
    FailFastReason::CreateContainerConfigError,
];

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
    /// What ends an attempt at once.
    pub fail_fast: Vec<FailFastReason>,
    /// How many old revisions are kept.
    pub history_limit: usize,
    /// So many of the last good revisions are gone back to without steps.
    pub rollback_window: usize,
    /// Whether everything stands still.
    pub paused: bool,
    /// How long an accepted weight takes to be in force.
    pub propagation_delay: Duration,
    /// The Deployment whose template it is.
    pub deployment: Option<String>,
    /// What the strategy makes of it.
    pub course: Course,
    /// Whether the Services and routes of the course are no longer those that are written: what was shifted by
    /// them is not back yet.
    pub former: bool,
    /// Services that were turned to the pods of one revision by a strategy that no longer names them.
    pub left: Vec<String>,
    /// What the attempt in flight has left to measure, by the path where it stands. Its steps are a snapshot,
    /// so the spec may no longer name it. None where nothing is in flight.
    left_to_measure: Option<Vec<(String, Analysis)>>,
}

/// What a strategy makes of what is written: one way for all from the old revision to the new one.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// Where the strategy stands.
    pub path: &'static str,
    /// What the two roles are called.
    pub words: Words,
    /// The role Services, where traffic is shifted between them. Otherwise pods are the weight.
    pub services: Option<RoleServices>,
    /// How traffic is routed. Where there are role Services and no routing, the stable Service's
    /// selector is the switch.
    pub routing: Option<TrafficRouting>,
    /// Pods above `replicas`, where pods are the weight.
    pub max_surge: u32,
    /// Pods below `replicas`, where pods are the weight.
    pub max_unavailable: u32,
    /// Pods that the new revision has in the steps although it gets no traffic.
    pub idle_pods: u32,
    /// The fewest pods that the new revision has once it gets traffic, where that is routed.
    pub min_pods: u32,
    /// Whether the old revision has only the pods that its share of the traffic needs.
    pub dynamic_stable: bool,
    /// How long the old revision keeps its size after a promotion.
    pub scale_down_delay: Duration,
    /// How long the new revision keeps its size after an abort.
    pub abort_scale_down_delay: Duration,
    /// How many old revisions keep their size for these delays; none where there is no limit.
    pub scale_down_delay_revision_limit: Option<usize>,
    /// The steps.
    pub steps: Vec<Step>,
    /// The analysis in the background.
    pub analysis: Option<BackgroundAnalysis>,
    /// How long the new revision must prove good once it is promoted.
    pub bake: Option<Bake>,
    /// Everything that analyses name, with the path of each reference.
    pub analyses: Vec<(String, Analysis)>,
}

/// What the two roles are called, in tracks and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// Who serves.
    pub stable: &'static str,
    /// Who is to serve.
    pub canary: &'static str,
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
    /// The fields that name the stable and the canary one.
    pub fields: (&'static str, &'static str),
    /// Whether the role Services belong to somebody else.
    pub shared: bool,
}

impl RoleServices {
    /// Names by default `<service>-<word>`.
    fn new(
        user: &str,
        words: Words,
        named: [&Option<String>; 2],
        fields: (&'static str, &'static str),
        shared: bool,
    ) -> Self {
        let [stable, canary] = named;
        let name = |named: &Option<String>, word| {
            named.clone().unwrap_or_else(|| format!("{user}-{word}"))
        };
        Self {
            user: user.to_owned(),
            stable: name(stable, words.stable),
            canary: name(canary, words.canary),
            fields,
            shared,
        }
    }

    /// The two that are turned.
    pub fn roles(&self) -> [&String; 2] {
        [&self.stable, &self.canary]
    }

    fn check(&self, base: &str, faults: &mut Faults) {
        if self.stable == self.canary {
            faults.add(
                format!("{base}.{}", self.fields.1),
                format!("{:?}: must differ from {}", self.canary, self.fields.0),
            );
        }
        for (field, name) in [(self.fields.0, &self.stable), (self.fields.1, &self.canary)] {
            if *name == self.user {
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
}

/// The strategy's course; none where there is not exactly one.
fn course(strategy: &Strategy, replicas: u32, faults: &mut Faults) -> Option<Course> {
    // Every field by name, so that the compiler asks for a line here.
    let Strategy {
        blue_green,
        canary,
        rolling,
    } = strategy;
    let written = [
        blue_green.as_ref().map(|_| "blueGreen"),
        canary.as_ref().map(|_| "canary"),
        rolling.as_ref().map(|_| "rolling"),
    ];
    let written: Vec<&str> = written.into_iter().flatten().collect();
    if written.len() != 1 {
        let found = match written.is_empty() {
            true => "empty".to_owned(),
            false => written.join(" and "),
        };
        faults.add(
            "spec.strategy",
            format!("{found}: set exactly one strategy: blueGreen, canary or rolling"),
        );
        return None;
    }
    let blue_green = blue_green
        .as_ref()
        .map(|s| blue_green::course(s, replicas, faults));
    let canary = canary.as_ref().map(|s| canary::course(s, replicas, faults));
    let rolling = rolling
        .as_ref()
        .map(|s| rolling::course(s, replicas, faults));
    blue_green.or(canary).or(rolling)
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
    /// Checks and defaults a Rollout, or tells everything that is wrong with it. One that is being
    /// deleted only gives back what it has shifted: there a default stands in for each wrong field.
    pub fn resolve(rollout: &Rollout) -> Result<Self, Vec<FieldError>> {
        let deleted = rollout.metadata.deletion_timestamp.is_some();
        match Self::examine(rollout) {
            (Some(spec), faults) if faults.is_empty() || deleted => Ok(spec),
            (_, faults) => Err(faults),
        }
    }

    /// Everything that is wrong with a Rollout, and what can be made of it all the same: a default
    /// stands in for each wrong field. None where it does not name exactly one strategy.
    pub fn examine(rollout: &Rollout) -> (Option<Self>, Vec<FieldError>) {
        let spec = &rollout.spec;
        let mut faults = Faults(vec![]);
        if spec.replicas < 0 {
            faults.add(
                "spec.replicas",
                format!("{}: must be 0 or more", spec.replicas),
            );
        }
        if spec.workload_ref.is_none() {
            check_selector(&spec.selector, &mut faults);
        }
        let replicas = u32::try_from(spec.replicas).unwrap_or(0);
        let Some(mut course) = course(&spec.strategy, replicas, &mut faults) else {
            return (None, faults.0);
        };
        let before = former::shifted_by(rollout, replicas);
        let former = before.filter(|before| former::differ(before, &course));
        let is_former = former.is_some();
        if let Some(former) = former {
            let delay = course.routing.and_then(|r| r.propagation_delay);
            course.routing = former.routing.map(|r| TrafficRouting {
                propagation_delay: delay.or(r.propagation_delay.clone()),
                ..r
            });
            (course.path, course.words) = (former.path, former.words);
            course.services = former.services;
        }
        let propagation = course.routing.as_ref();
        let resolved = Self {
            replicas,
            selector: spec.selector.clone(),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0).max(0),
            progress_deadline: Duration::from_secs(
                u64::try_from(spec.progress_deadline_seconds.unwrap_or(600)).unwrap_or(600),
            ),
            progress_deadline_abort: spec.progress_deadline_abort,
            fail_fast: spec
                .fail_fast
                .as_ref()
                .map_or_else(|| FAIL_FAST.to_vec(), |f| f.reasons.clone()),
            history_limit: usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(10),
            rollback_window: rollback_window(rollout, &mut faults),
            paused: spec.paused,
            deployment: spec.workload_ref.as_ref().map(|w| w.name.clone()),
            propagation_delay: faults.duration(
                &format!("{}.trafficRouting.propagationDelay", course.path),
                propagation.and_then(|r| r.propagation_delay.as_ref()),
                5,
            ),
            left_to_measure: former::left_to_measure(rollout, &course.analyses),
            former: is_former,
            left: former::left(rollout, course.services.as_ref()),
            course,
        };
        (Some(resolved), faults.0)
    }

    /// What is to be measured, by the path where it stands: what the attempt in flight has left, else all
    /// that is named, for the next one.
    pub fn to_measure(&self) -> &[(String, Analysis)] {
        let left = self.left_to_measure.as_ref();
        left.unwrap_or(&self.course.analyses)
    }

    /// Whether traffic is shifted between role Services; otherwise the pods are the weight.
    pub fn shifted(&self) -> bool {
        self.course.services.is_some()
    }

    /// Whether the stable Service's selector is the switch, which knows only all or nothing.
    pub fn switched(&self) -> bool {
        self.shifted() && self.course.routing.is_none()
    }

    /// Whether routes name the user's Service at rest, so that its endpoints count, too.
    pub fn manages_backends(&self) -> bool {
        let routing = self.course.routing.as_ref();
        let Some(all) = routing.and_then(|r| r.gateway_api.as_ref()) else {
            return false;
        };
        // Every field by name, so that the compiler asks for a line here.
        let GatewayApi {
            http_routes,
            grpc_routes,
            tcp_routes,
            tls_routes,
        } = all;
        let all = [http_routes, grpc_routes, tcp_routes, tls_routes];
        let mut all = all.into_iter().flatten();
        all.any(|route| route.manage == Manage::Backends)
    }

    /// The Services and templates to look at.
    pub fn references(&self) -> References {
        let services = self
            .course
            .services
            .iter()
            .flat_map(|s| [s.user.clone(), s.stable.clone(), s.canary.clone()])
            .chain(self.left.iter().cloned())
            .collect();
        let analyses = self.course.analyses.iter();
        let analyses = analyses.chain(self.left_to_measure.iter().flatten());
        // What is left to measure may be named, too.
        let templates: BTreeSet<_> = analyses.flat_map(|(_, a)| template_keys(a)).collect();
        References {
            services,
            templates: templates.into_iter().collect(),
            routes: vec![],
            deployment: self.deployment.clone(),
        }
    }
}

fn rollback_window(rollout: &Rollout, faults: &mut Faults) -> usize {
    let revisions = rollout.spec.rollback_window.as_ref().map(|w| w.revisions);
    if let Some(found) = revisions.filter(|n| *n < 1) {
        faults.add(
            "spec.rollbackWindow.revisions",
            format!("{found}: must be 1 or more; leave rollbackWindow out for none"),
        );
    }
    revisions.map_or(0, |n| usize::try_from(n).unwrap_or(0))
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

fn check_selector(selector: &LabelSelector, faults: &mut Faults) {
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
}

/// For which labels no pods can be made of a template. What is in flight goes on without it.
pub fn strays(rollout: &Rollout) -> Vec<FieldError> {
    let (selector, template) = (&rollout.spec.selector, &rollout.spec.template);
    let mut faults = Faults(vec![]);
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
    faults.0
}
