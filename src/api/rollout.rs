//! Kind Rollout.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    status::RolloutStatus,
    strategy::{Strategy, is_false},
};

/// A workload whose new revisions take over step by step, judged by metrics, and are rolled back
/// by themselves when they are bad.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "serin.dev",
    version = "v1alpha1",
    kind = "Rollout",
    doc = "A workload whose new revisions take over step by step, judged by metrics, and are rolled back by themselves when they are bad.",
    namespaced,
    derive = "PartialEq",
    status = "RolloutStatus",
    shortname = "ro",
    category = "all",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Healthy, Progressing, Paused or Degraded"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.step", description = "The step in progress, of all"),
    printcolumn(name = "Weight", type_ = "string", json_path = ".status.weight", description = "The canary's share of the traffic, in percent"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.currentRevision", description = "Hash of the revision that is asked for"),
    printcolumn(name = "Stable", type_ = "string", json_path = ".status.stableRevision", description = "Hash of the stable revision", priority = 1),
    printcolumn(name = "Available", type_ = "integer", json_path = ".status.availableReplicas", description = "Available pods of all revisions", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", description = "What it is doing and what it waits for"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 52").message("a Rollout's name has at most 52 characters: its revisions add a hash to it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.template) != has(self.workloadRef)")
    .message("set exactly one of template and workloadRef"))]
#[x_kube(validation = Rule::new("has(self.selector) != has(self.workloadRef)")
    .message("template needs selector; with workloadRef it is the Deployment's: take it out"))]
#[x_kube(validation = Rule::new("has(self.workloadRef) == has(oldSelf.workloadRef)")
    .message("a Rollout does not change between template and workloadRef: delete it, which hands its pods back, and apply another"))]
pub struct RolloutSpec {
    /// Number of pods. Default: 1. With `workloadRef` it has no effect: the number is the Deployment's, and an autoscaler
    /// goes on scaling that.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100000))]
    pub replicas: i32,
    /// Which pods belong to it. It must match the template's labels and cannot be changed. With `workloadRef` it is the
    /// Deployment's.
    #[x_kube(validation = Rule::new("self == oldSelf").message("selector cannot be changed"))]
    #[serde(default, skip_serializing_if = "selects_nothing")]
    pub selector: LabelSelector,
    /// The pod template. A change that differs after the API server's defaulting is a new revision. Set either this or
    /// `workloadRef`.
    #[schemars(schema_with = "super::any_object")]
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub template: Value,
    /// The Deployment that is adopted: its template is that of the Rollout from then on. Set either this or `template`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_ref: Option<WorkloadRef>,
    /// How a new revision takes over.
    pub strategy: Strategy,
    /// Seconds for which a pod must be ready to count as available. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub min_ready_seconds: Option<i32>,
    /// Seconds within which an attempt must make progress. Pauses and analyses do not count, nor does
    /// the time in which no pods are wanted. Default: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8640000))]
    pub progress_deadline_seconds: Option<i32>,
    /// Whether to roll back when the progress deadline passes. Default: false, and the Rollout is
    /// `Stalled` with reason `ProgressDeadlineExceeded` until it makes progress again.
    #[serde(default, skip_serializing_if = "is_false")]
    pub progress_deadline_abort: bool,
    /// What ends an attempt at once, in place of its progress deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_fast: Option<FailFast>,
    /// How many old revisions are kept, scaled to 0. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub revision_history_limit: Option<i32>,
    /// A way back without steps to what was good a short while ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_window: Option<RollbackWindow>,
    /// Stops every step until it is false again; an abort still works. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub paused: bool,
    /// Which controller looks after this Rollout. Default: `serin.dev/controller`. It cannot be
    /// taken away from a controller while an attempt is in flight without leaving it where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub controller_name: Option<String>,
}

/// Which earlier revisions are gone back to without the strategy's steps and analyses: by their template,
/// or by an `undo`. All traffic goes back at once, and only once their pods are there.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RollbackWindow {
    /// The last so many revisions that were promoted and are older than the stable one; at most 100. Forward again, to a
    /// newer one, takes the steps.
    #[schemars(range(min = 1, max = 100))]
    pub revisions: i32,
}

/// What ends an attempt at once, in place of its progress deadline: pods of the new revision that cannot come up.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FailFast {
    /// Why pods cannot come up, in the words of Kubernetes. Any of these ends the attempt: CrashLoopBackOff,
    /// ImagePullBackOff, InvalidImageName, ErrImageNeverPull, CreateContainerConfigError (a ConfigMap, a Secret or a key is not
    /// there), FailedCreate (the API server refuses pods: a quota, admission), Unschedulable (no node takes a pod). Default: the first
    /// five. Whatever is not named is told and waited for, since it may pass.
    #[schemars(length(max = 16))]
    pub reasons: Vec<FailFastReason>,
}

/// Why pods cannot come up.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailFastReason {
    /// A container ends again and again.
    CrashLoopBackOff,
    /// An image cannot be pulled.
    ImagePullBackOff,
    /// An image's name is none.
    InvalidImageName,
    /// An image is not there and may not be pulled.
    ErrImageNeverPull,
    /// A container's ConfigMap, Secret or key is not there.
    CreateContainerConfigError,
    /// The API server refuses a pod: a quota, admission.
    FailedCreate,
    /// No node has room for a pod, or none suits it.
    Unschedulable,
}

/// A Deployment that is adopted in place: it is paused, its ReplicaSets become the Rollout's, and no pod is restarted. A
/// change of its template is a new revision. When the Rollout is deleted, all of it is handed back.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("workloadRef cannot be changed: delete the Rollout, and apply another"))]
pub struct WorkloadRef {
    /// `apps/v1`.
    #[x_kube(validation = Rule::new("self == 'apps/v1'").message("must be apps/v1"))]
    pub api_version: String,
    /// `Deployment`.
    #[x_kube(validation = Rule::new("self == 'Deployment'").message("must be Deployment"))]
    pub kind: String,
    /// Name of the Deployment, in the Rollout's namespace.
    #[schemars(length(min = 1, max = 242))]
    pub name: String,
}

fn one() -> i32 {
    1
}

/// Whether a selector is none.
fn selects_nothing(selector: &LabelSelector) -> bool {
    *selector == LabelSelector::default()
}
