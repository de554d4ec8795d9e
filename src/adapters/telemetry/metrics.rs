//! Metrics in OpenMetrics text, every label bounded.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::api::{
    names::reason,
    status::{HistoryEntry, RolloutStatus},
};

use super::standing::{Standing, StandingOf};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Completion {
    namespace: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rollback {
    namespace: String,
    trigger: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconcile {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Busy {
    controller: &'static str,
}

/// A look at an object that is in progress until this is dropped.
#[derive(Debug)]
pub struct InProgress(Gauge);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiRequest {
    verb: &'static str,
    kind: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// The metrics that count as things happen.
#[derive(Clone, Debug)]
pub struct Metrics {
    completions: Family<Completion, Counter>,
    rollbacks: Family<Rollback, Counter>,
    reconciles: Family<Reconcile, Histogram, fn() -> Histogram>,
    busy: Family<Busy, Gauge>,
    requests: Family<ApiRequest, Counter>,
    leader: Gauge,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            completions: Family::default(),
            rollbacks: Family::default(),
            reconciles: Family::new_with_constructor(seconds),
            busy: Family::default(),
            requests: Family::default(),
            leader: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Everything that is exposed: these, and what stands, read at each scrape.
    pub fn registry(&self, standing: StandingOf) -> Registry {
        let mut registry = Registry::with_prefix("serin");
        registry.register(
            "rollout_completions",
            "Attempts that ended, by result",
            self.completions.clone(),
        );
        registry.register(
            "rollout_rollbacks",
            "Revisions that were rolled back, by what made them be",
            self.rollbacks.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "How long a look at an object took, with what followed from it",
            self.reconciles.clone(),
        );
        registry.register(
            "reconciles_in_progress",
            "Looks at objects that are in progress",
            self.busy.clone(),
        );
        registry.register(
            "api_requests",
            "Requests to the API server apart from watches; code 0 is no answer",
            self.requests.clone(),
        );
        registry.register("leader", "Whether this process leads", self.leader.clone());
        let build = Family::<Build, Gauge>::default();
        build
            .get_or_create(&Build {
                version: env!("CARGO_PKG_VERSION"),
            })
            .set(1);
        registry.register("build_info", "Always 1", build);
        registry.register_collector(Box::new(Standing(standing)));
        registry
    }

    /// Counts a request to the API server.
    pub fn request(&self, verb: &'static str, kind: &'static str, code: u16) {
        self.requests
            .get_or_create(&ApiRequest { verb, kind, code })
            .inc();
    }

    /// A look at an object begins; it is in progress until the answer is dropped.
    #[must_use]
    pub fn reconciling(&self, controller: &'static str) -> InProgress {
        let gauge = self.busy.get_or_create_owned(&Busy { controller });
        gauge.inc();
        InProgress(gauge)
    }

    /// Counts a look at an object. `result` is `ok` or an error's kind.
    pub fn reconciled(&self, controller: &'static str, result: &'static str, took: Duration) {
        self.reconciles
            .get_or_create(&Reconcile { controller, result })
            .observe(took.as_secs_f64());
    }

    /// Says whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Forgets what was counted in a namespace that has no Rollout any more: namespaces come and go, and
    /// each would be shown for ever.
    pub fn forget(&self, namespace: &str) {
        for result in RESULTS {
            let namespace = namespace.to_owned();
            self.completions.remove(&Completion { namespace, result });
        }
        for trigger in TRIGGERS {
            let namespace = namespace.to_owned();
            self.rollbacks.remove(&Rollback { namespace, trigger });
        }
    }

    /// Counts what was told just now of a Rollout with this status.
    pub fn told(&self, namespace: &str, status: &RolloutStatus, entries: &[HistoryEntry]) {
        for entry in entries {
            let Some(result) = result(&entry.reason) else {
                continue;
            };
            let namespace = namespace.to_owned();
            if matches!(result, "rolledBack" | "aborted") {
                let why = status.attempt.as_ref().and_then(|a| a.reason.as_deref());
                let trigger = if result == "aborted" {
                    "manual"
                } else {
                    trigger(why.unwrap_or_default())
                };
                let rollback = Rollback {
                    namespace: namespace.clone(),
                    trigger,
                };
                self.rollbacks.get_or_create(&rollback).inc();
            }
            self.completions
                .get_or_create(&Completion { namespace, result })
                .inc();
        }
    }
}

/// Every answer of [`result`].
const RESULTS: [&str; 6] = [
    "deployed",
    "promoted",
    "rolledBack",
    "aborted",
    "superseded",
    "reverted",
];

/// How an attempt ended, if that is what an entry of the history tells.
fn result(told: &str) -> Option<&'static str> {
    Some(match told {
        reason::DEPLOYED => "deployed",
        reason::COMPLETED => "promoted",
        reason::ROLLED_BACK => "rolledBack",
        reason::ABORTED => "aborted",
        reason::SUPERSEDED => "superseded",
        reason::REVERTED => "reverted",
        _ => return None,
    })
}

/// Every answer of [`trigger`].
const TRIGGERS: [&str; 6] = [
    "analysis",
    "deadline",
    "crashloop",
    "imagepull",
    "manual",
    "other",
];

/// What made a revision be rolled back, in one of six words.
fn trigger(why: &str) -> &'static str {
    let why = why.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|w| why.contains(w));
    if says(&["analysis", "metric"]) {
        "analysis"
    } else if says(&["deadline"]) {
        "deadline"
    } else if says(&["crashloop"]) {
        "crashloop"
    } else if says(&["image"]) {
        "imagepull"
    } else if says(&["command", "abort", "manual"]) {
        "manual"
    } else {
        "other"
    }
}

/// The metrics as OpenMetrics text.
pub fn encode(registry: &Registry) -> Result<String, fmt::Error> {
    let mut out = String::new();
    text::encode(&mut out, registry)?;
    Ok(out)
}

/// Content type of [`encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        adapters::telemetry::standing::{RolloutGauges, VerdictGauges},
        api::{names::reason, status::Attempt},
    };

    #[test]
    fn names_and_labels_are_those_of_the_docs() {
        let metrics = Metrics::default();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
        let entry = |reason: &str| HistoryEntry {
            number: 1,
            at: time.clone(),
            type_: "Warning".into(),
            reason: reason.into(),
            message: String::new(),
        };
        let attempt = Attempt {
            number: 1,
            hash: "abc".into(),
            stage: "RollingBack".into(),
            outcome: None,
            reason: Some("AnalysisFailed".into()),
            message: None,
            step_index: 0,
            step_started_at: None,
            step_resumed_at: None,
            step_try: 0,
            background_try: 0,
            decided_by: None,
            superseded: vec![],
            started_at: time.clone(),
            progress_at: k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(time.0),
            stage_since: None,
            progress_mark: 0,
            steps: vec![],
            analysis: None,
            bake: None,
        };
        let status = RolloutStatus {
            attempt: Some(attempt),
            ..RolloutStatus::default()
        };
        metrics.told(
            "ns",
            &status,
            &[entry(reason::ROLLED_BACK), entry(reason::STEP_STARTED)],
        );
        metrics.request("patch", "Rollout", 409);
        drop(metrics.reconciling("rollout"));
        metrics.reconciled("rollout", "ok", Duration::from_millis(3));
        metrics.leads(true);
        let registry = metrics.registry(Arc::new(|| {
            vec![RolloutGauges {
                namespace: "ns".into(),
                rollout: "web".into(),
                phase: "Degraded".into(),
                rolled_back: true,
                stalled: Some(reason::ROLLED_BACK.into()),
                paused_since: Some(12.5),
                weights: vec![("stable".into(), 0.9), ("canary".into(), 0.1)],
                desired_weights: vec![("canary".into(), 0.2)],
                verdicts: vec![VerdictGauges {
                    verdict: "error",
                    measurements: 4,
                    in_a_row: 2,
                }],
            }]
        }));
        let text = encode(&registry).expect("encodes");
        for line in [
            r#"serin_rollout_completions_total{namespace="ns",result="rolledBack"} 1"#,
            r#"serin_rollout_rollbacks_total{namespace="ns",trigger="analysis"} 1"#,
            r#"serin_reconcile_duration_seconds_count{controller="rollout",result="ok"} 1"#,
            r#"serin_api_requests_total{verb="patch",kind="Rollout",code="409"} 1"#,
            "serin_leader 1",
            r#"serin_rollout_rolled_back{namespace="ns",rollout="web"} 1"#,
            r#"serin_rollout_phase{namespace="ns",rollout="web",phase="Degraded"} 1"#,
            r#"serin_rollout_weight_ratio{namespace="ns",rollout="web",track="canary"} 0.1"#,
            r#"serin_rollout_stalled{namespace="ns",rollout="web",reason="RolledBack"} 1"#,
            r#"serin_rollout_paused_timestamp_seconds{namespace="ns",rollout="web"} 12.5"#,
            r#"serin_rollout_desired_weight_ratio{namespace="ns",rollout="web",track="canary"} 0.2"#,
            r#"serin_rollout_analysis_measurements{namespace="ns",rollout="web",verdict="error"} 4"#,
            r#"serin_rollout_analysis_in_a_row{namespace="ns",rollout="web",verdict="error"} 2"#,
            r#"serin_reconciles_in_progress{controller="rollout"} 0"#,
            "serin_build_info{version=",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));

        for namespace in ["other", "ns"] {
            metrics.forget(namespace);
            let text = encode(&registry).expect("encodes");
            let counted = |name: &str| text.contains(&format!("{name}_total{{namespace=\"ns\""));
            let names = ["serin_rollout_completions", "serin_rollout_rollbacks"];
            assert_eq!(names.map(counted), [namespace == "other"; 2]);
        }
    }

    #[test]
    fn a_trigger_is_one_of_six_words() {
        let words = [
            "AnalysisFailed",
            "ProgressDeadlineExceeded",
            "CrashLoopBackOff",
            "ImagePullBackOff",
            "Command",
            "",
        ];
        let triggers = words.map(trigger);
        assert_eq!(triggers, TRIGGERS);
        let told = [
            reason::DEPLOYED,
            reason::COMPLETED,
            reason::ROLLED_BACK,
            reason::ABORTED,
            reason::SUPERSEDED,
            reason::REVERTED,
        ];
        assert_eq!(told.map(result), RESULTS.map(Some));
    }
}
