//! Many Rollouts in one namespace, each with its Service and its route.

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use serin::api::{AnalysisTemplate, Rollout};

use crate::Result;

/// From this Rollout on, Services have no address: the more there are, the longer the API server
/// takes to find a free one, and it does so one at a time.
pub const HEADLESS_FROM: usize = 3_000;

/// The namespace of the fleet.
pub const NAMESPACE: &str = "fleet";

/// The resource of routes.
pub fn routes() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(
        "gateway.networking.k8s.io",
        "v1",
        "HTTPRoute",
    ))
}

/// What the Rollouts are like.
#[derive(Clone)]
pub struct Fleet {
    pub client: Client,
    pub replicas: u32,
    pub steps: Value,
    /// Whether the analysis in the background runs, every 10 s.
    pub analysis: bool,
}

/// The name of a Rollout.
pub fn name(n: usize) -> String {
    format!("app-{n:05}")
}

impl Fleet {
    pub fn rollouts(&self) -> Api<Rollout> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// The namespace, and the template of the analysis.
    pub async fn prepare(&self) -> Result {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
        Api::all(self.client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        let template: AnalysisTemplate = serde_json::from_value(json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate",
            "metadata": {"name": "good"},
            "spec": {"args": [{"name": "app"}], "metrics": [{
                "name": "good", "interval": "10s", "failureLimit": 0,
                "judge": {"threshold": {"pass": ">= 0.95", "fail": "< 0.9"}},
                "provider": {"prometheus": {"query": "good{app=\"{{args.app}}\"}"}},
            }]},
        }))?;
        Api::<AnalysisTemplate>::namespaced(self.client.clone(), NAMESPACE)
            .create(&PostParams::default(), &template)
            .await?;
        Ok(())
    }

    /// Makes Rollouts with these numbers, at version v1.
    pub async fn create(&self, numbers: std::ops::Range<usize>) -> Result {
        stream::iter(numbers.map(|n| self.create_one(n)))
            .buffer_unordered(16)
            .try_collect()
            .await
    }

    async fn create_one(&self, n: usize) -> Result {
        let name = name(n);
        let (services, rollouts) = (
            Api::<Service>::namespaced(self.client.clone(), NAMESPACE),
            self.rollouts(),
        );
        let routes =
            Api::<DynamicObject>::namespaced_with(self.client.clone(), NAMESPACE, &routes());
        let mut service = json!({
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        });
        if n >= HEADLESS_FROM {
            service["spec"]["clusterIP"] = json!("None");
        }
        let service: Service = serde_json::from_value(service)?;
        let route: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": name},
            "spec": {
                "hostnames": [format!("{name}.test")], "parentRefs": [{"name": "gateway"}],
                "rules": [{"backendRefs": [
                    {"name": format!("{name}-stable"), "port": 80, "weight": 100},
                    {"name": format!("{name}-canary"), "port": 80, "weight": 0},
                ]}],
            },
        }))?;
        let post = PostParams::default();
        services.create(&post, &service).await?;
        routes.create(&post, &route).await?;
        rollouts.create(&post, &self.rollout(&name)?).await?;
        Ok(())
    }

    fn rollout(&self, name: &str) -> Result<Rollout> {
        let mut canary = json!({
            "service": name, "steps": self.steps, "scaleDownDelay": "1s", "abortScaleDownDelay": "1s",
            "trafficRouting": {"propagationDelay": "0s", "gatewayAPI": {"httpRoutes": [{"name": name}]}},
        });
        if self.analysis {
            canary["analysis"] = json!({
                "templates": [{"templateName": "good"}], "args": [{"name": "app", "value": name}],
            });
        }
        Ok(serde_json::from_value(json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": name},
            "spec": {
                "replicas": self.replicas, "selector": {"matchLabels": {"app": name}},
                "template": template(name, "v1"), "strategy": {"canary": canary},
            },
        }))?)
    }

    /// Asks for another version.
    pub async fn deploy(&self, n: usize, version: &str) -> Result {
        self.patch(
            n,
            json!({"spec": {"template": template(&name(n), version)}}),
        )
        .await
    }

    /// Asks to give up what is in flight.
    pub async fn abort(&self, n: usize) -> Result {
        self.patch(
            n,
            json!({"metadata": {"annotations": {"serin.dev/abort": "now"}}}),
        )
        .await
    }

    async fn patch(&self, n: usize, patch: Value) -> Result {
        self.rollouts()
            .patch(&name(n), &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }
}

fn template(name: &str, version: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{
            "name": "app", "image": format!("example.com/app:{version}"),
            "ports": [{"name": "http", "containerPort": 8080}],
            "env": [{"name": "LOG", "value": "info"}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}},
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        }]},
    })
}
