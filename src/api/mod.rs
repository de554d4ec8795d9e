//! What users write: the custom resources, their defaults, and nothing else.

pub mod analysis;
pub mod names;
pub mod rollout;
pub mod status;
pub mod strategy;
pub mod traffic;
pub mod units;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON,
};
use kube::CustomResourceExt;

pub use analysis::{
    AnalysisRun, AnalysisRunSpec, AnalysisRunStatus, AnalysisTemplate, AnalysisTemplateSpec,
    ClusterAnalysisTemplate, Metric,
};
pub use rollout::{Rollout, RolloutSpec};
pub use status::RolloutStatus;

/// Every CustomResourceDefinition that Serin installs, with its file name under `crds/`.
pub fn crds() -> Vec<(&'static str, CustomResourceDefinition)> {
    let mut all = vec![
        ("rollouts.yaml", Rollout::crd()),
        ("analysistemplates.yaml", AnalysisTemplate::crd()),
        (
            "clusteranalysistemplates.yaml",
            ClusterAnalysisTemplate::crd(),
        ),
        ("analysisruns.yaml", AnalysisRun::crd()),
    ];
    for (_, crd) in &mut all {
        crd.metadata.annotations =
            Some([("helm.sh/resource-policy".to_owned(), "keep".to_owned())].into());
        default_status(crd);
    }
    all
}

/// A Rollout that no controller has looked at says so: see [`RolloutStatus::unseen`].
fn default_status(crd: &mut CustomResourceDefinition) {
    if crd.spec.names.kind != "Rollout" {
        return;
    }
    let default = serde_json::json!({"observedGeneration": status::UNSEEN});
    for version in &mut crd.spec.versions {
        let schema = version.schema.as_mut();
        let properties = schema
            .and_then(|s| s.open_api_v3_schema.as_mut())
            .and_then(|s| s.properties.as_mut());
        if let Some(status) = properties.and_then(|p| p.get_mut("status")) {
            status.default = Some(JSON(default.clone()));
        }
    }
}

/// The schema of a field that Serin passes on as it stands: any object, unknown fields kept.
pub(crate) fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
