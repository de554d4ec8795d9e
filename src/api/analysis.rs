//! Kinds AnalysisTemplate, ClusterAnalysisTemplate and AnalysisRun.

#![allow(
    clippy::duplicated_attributes,
    reason = "a column for each printcolumn, all of type string"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    strategy::{Argument, is_false},
    units::HumanDuration,
};

/// What to measure and how to judge it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "serin.dev",
    version = "v1alpha1",
    kind = "AnalysisTemplate",
    doc = "What to measure and how to judge it.",
    namespaced,
    derive = "PartialEq",
    shortname = "at",
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisTemplateSpec {
    /// The arguments that the queries use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub args: Vec<DeclaredArgument>,
    /// The metrics, each with its own judgement. All must pass.
    #[schemars(length(min = 1, max = 16))]
    pub metrics: Vec<Metric>,
}

/// What to measure and how to judge it, for every namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "serin.dev",
    version = "v1alpha1",
    kind = "ClusterAnalysisTemplate",
    doc = "What to measure and how to judge it, for every namespace.",
    derive = "PartialEq",
    shortname = "cat",
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterAnalysisTemplateSpec {
    /// The arguments that the queries use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub args: Vec<DeclaredArgument>,
    /// The metrics, each with its own judgement. All must pass.
    #[schemars(length(min = 1, max = 16))]
    pub metrics: Vec<Metric>,
}

/// An argument of a template.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredArgument {
    /// Its name; `{{args.name}}` in a query.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[A-Za-z_][A-Za-z0-9_-]*$")
    )]
    pub name: String,
    /// Its value where the Rollout gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub value: Option<String>,
    /// string, duration or number. A string may stand only inside a quoted PromQL string, and is
    /// escaped for it; a duration or a number may stand anywhere. Default: string.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["string", "duration", "number"]))]
    pub type_: Option<String>,
}

/// A metric: how it is measured and how it is judged.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Time between two measurements. Default: the window, or 30s without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<HumanDuration>,
    /// The stretch of time that a measurement looks back on: `{{window}}` in the query. Nothing is
    /// measured before the step's start plus the window, so that no measurement reaches back
    /// before the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<HumanDuration>,
    /// Time to wait before the first measurement. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_delay: Option<HumanDuration>,
    /// How many measurements with a pass or a fail make the metric complete. Without it: in the
    /// background until the attempt ends, at a step one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub count: Option<i32>,
    /// How many failed measurements are tolerated. Default: 0, and the first one fails the metric.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10000))]
    pub failure_limit: i32,
    /// What to do about measurements without data. Default: 3 in a row are tolerated, the 4th pauses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_data: Option<Tolerance>,
    /// What to do about measurements that neither pass nor fail. Default: as `noData`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inconclusive: Option<Tolerance>,
    /// What to do about measurements that could not be made. Default: as `noData`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Tolerance>,
    /// How a value is judged.
    pub judge: Judge,
    /// Where the value comes from.
    pub provider: Provider,
}

/// How many measurements of a kind are tolerated in a row, and what the next one does.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Tolerance {
    /// As many in a row are tolerated. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub limit: Option<i32>,
    /// pause or abort. Default: pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["pause", "abort"]))]
    pub then: Option<String>,
}

/// How a value is judged. Set exactly one judge.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.threshold)").message("name a judge: threshold"))]
pub struct Judge {
    /// By limits on the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
}

/// Limits on the value: an operator (`<`, `<=`, `>`, `>=`) and a number.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Threshold {
    /// A value that satisfies it passes, such as `>= 0.99`.
    #[schemars(
        length(min = 2, max = 64),
        regex(pattern = r"^\s*(<=|>=|<|>)\s*[-+0-9.eE]+\s*$")
    )]
    pub pass: String,
    /// A value that satisfies it fails, such as `< 0.95`; what lies between is inconclusive.
    /// Without it, what does not pass fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 2, max = 64),
        regex(pattern = r"^\s*(<=|>=|<|>)\s*[-+0-9.eE]+\s*$")
    )]
    pub fail: Option<String>,
}

/// Where a value comes from. Set exactly one provider beside `ref`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.prometheus)").message("name a provider: prometheus"))]
pub struct Provider {
    /// Name of the provider as the controller's administrator set it up (`--metric-provider NAME=URL`).
    /// A template never names an address. Default: `default`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub ref_: Option<String>,
    /// A query to a server with Prometheus' HTTP API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusQuery>,
}

/// An instant query.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusQuery {
    /// PromQL whose result is one value. `{{args.NAME}}`, `{{window}}`, `{{canary.hash}}`,
    /// `{{stable.hash}}` and `{{namespace}}` are filled in.
    #[schemars(length(min = 1, max = 8192))]
    pub query: String,
}

/// One run of an analysis: a snapshot of what to measure, and what was measured.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "serin.dev",
    version = "v1alpha1",
    kind = "AnalysisRun",
    doc = "One run of an analysis: a snapshot of what to measure, and what was measured.",
    namespaced,
    derive = "PartialEq",
    status = "AnalysisRunStatus",
    shortname = "ar",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".spec.revision"),
    printcolumn(name = "Step", type_ = "string", json_path = ".spec.step"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisRunSpec {
    /// Name of the Rollout that it judges.
    #[schemars(length(max = 63))]
    pub rollout: String,
    /// Hash of the revision that it judges.
    #[schemars(length(max = 63))]
    pub revision: String,
    /// Number of the attempt.
    #[serde(default)]
    pub attempt: i64,
    /// Index of the step, `background` or `bake`.
    #[schemars(length(max = 63))]
    pub step: String,
    /// Measurements may look back to this time, not further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Time>,
    /// The values of the arguments that were filled in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub args: Vec<Argument>,
    /// The metrics, their queries filled in.
    #[schemars(length(max = 256))]
    pub metrics: Vec<Metric>,
    /// Ends the run; what was not complete by then is no pass.
    #[serde(default, skip_serializing_if = "is_false")]
    pub terminate: bool,
}

/// What was measured.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisRunStatus {
    /// Running, Successful, Failed, Inconclusive or Terminated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the first measurement was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Each metric.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metric_results: Vec<MetricResult>,
}

/// What was measured of one metric.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MetricResult {
    /// Name of the metric.
    pub name: String,
    /// Running, Successful, Failed or Inconclusive.
    #[serde(default)]
    pub phase: String,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Measurements that passed.
    #[serde(default)]
    pub passed: i32,
    /// Measurements that failed.
    #[serde(default)]
    pub failed: i32,
    /// Measurements that neither passed nor failed.
    #[serde(default)]
    pub inconclusive: i32,
    /// Measurements without data.
    #[serde(default)]
    pub no_data: i32,
    /// Measurements that could not be made.
    #[serde(default)]
    pub errors: i32,
    /// How many of the last verdict's kind stand in a row. No data and errors count as one kind.
    #[serde(default)]
    pub in_a_row: i32,
    /// When the next measurement is due, not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Time>,
    /// The last measurements, the newest last; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measurements: Vec<Measurement>,
}

/// One measurement.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// When.
    pub at: Time,
    /// The value, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// pass, fail, inconclusive, noData or error.
    pub verdict: String,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
