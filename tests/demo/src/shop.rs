//! The app of the demo: what its owners write, and how they ship.

use kube::{
    Api,
    api::{Patch, PatchParams},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};
use serin::api::{AnalysisRun, Rollout, RolloutStatus};
use serin_lab::{GATEWAY_NAMESPACE, Lab, Load};
use std::time::Duration;

use crate::{LIMIT, Result};

pub(crate) struct Shop<'a> {
    lab: &'a Lab,
}

fn template(version: &str) -> Value {
    let errors = if version == "v3" { "0.1" } else { "0" };
    json!({
        "metadata": {
            "labels": {"app": "shop"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
        },
        "spec": {"containers": [{
            "name": "shop", "image": format!("lab/app:{version}"),
            // Pods that go while users are sent to them must serve on until nobody is.
            "env": [{"name": "SERVICE", "value": "shop"}, {"name": "ERROR_RATE", "value": errors}, {"name": "DRAIN", "value": "5s"}],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1},
        }]},
    })
}

/// How new versions take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    Canary,
    BlueGreen,
    Rolling,
}

impl Strategy {
    /// From `STRATEGY`: `canary`, which is the default, `bluegreen` or `rolling`.
    pub(crate) fn from_env() -> Result<Self> {
        let asked = std::env::var_os("STRATEGY").unwrap_or_default();
        match &*asked.to_string_lossy() {
            "" | "canary" => Ok(Self::Canary),
            "bluegreen" | "blueGreen" | "blue-green" => Ok(Self::BlueGreen),
            "rolling" => Ok(Self::Rolling),
            other => Err(format!("STRATEGY={other}: must be canary, bluegreen or rolling").into()),
        }
    }

    /// What the track of the new version is called.
    pub(crate) fn track(self) -> &'static str {
        match self {
            Self::Canary | Self::Rolling => "canary",
            Self::BlueGreen => "preview",
        }
    }

    fn backends(self) -> &'static str {
        match self {
            Self::Canary => {
                "
    - {name: shop-stable, port: 80, weight: 100}
    - {name: shop-canary, port: 80, weight: 0}"
            }
            Self::BlueGreen => "\n    - {name: shop-active, port: 80}",
            Self::Rolling => "\n    - {name: shop, port: 80}",
        }
    }

    fn spec(self, pause: &str) -> Value {
        let analysis = json!({
            "templates": [{"templateName": "success-rate"}],
            "args": [{"name": "service", "value": "shop"}],
        });
        let delays = match self {
            Self::Rolling => json!({}),
            Self::Canary | Self::BlueGreen => {
                json!({"service": "shop", "scaleDownDelay": "5s", "abortScaleDownDelay": "5s"})
            }
        };
        let (name, mut strategy) = match self {
            Self::Canary => {
                let mut analysis = analysis;
                analysis["startingStep"] = json!(1);
                (
                    "canary",
                    json!({
                        "trafficRouting": {"propagationDelay": "1s", "gatewayAPI": {"httpRoutes": [{"name": "shop"}]}},
                        "analysis": analysis,
                        "steps": [
                            {"name": "first", "setWeight": 10}, {"pause": {"duration": pause}},
                            {"name": "half", "setWeight": 50}, {"name": "ask", "pause": {}},
                        ],
                    }),
                )
            }
            Self::BlueGreen => (
                "blueGreen",
                json!({
                    "autoPromotionEnabled": false,
                    "postPromotionAnalysis": analysis,
                }),
            ),
            Self::Rolling => (
                "rolling",
                json!({"maxSurge": 1, "maxUnavailable": 0, "postPromotionAnalysis": analysis}),
            ),
        };
        for (field, value) in delays.as_object().into_iter().flatten() {
            strategy[field] = value.clone();
        }
        json!({name: strategy})
    }
}

fn manifests(strategy: Strategy, fast: bool) -> String {
    let (pause, window) = if fast { ("8s", "5s") } else { ("15s", "6s") };
    let rollout = json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "shop"},
        "spec": {
            "replicas": 3, "minReadySeconds": 1,
            "selector": {"matchLabels": {"app": "shop"}},
            "template": template("v1"),
            "strategy": strategy.spec(pause),
        },
    });
    let backends = strategy.backends();
    // At a step an analysis ends after so many measurements; in the background it goes on.
    let count = match strategy {
        Strategy::Canary => "",
        Strategy::BlueGreen | Strategy::Rolling => "\n    count: 3",
    };
    format!(
        r#"apiVersion: v1
kind: Service
metadata: {{name: shop}}
spec: {{selector: {{app: shop}}, ports: [{{name: http, port: 80, targetPort: http}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: shop}}
spec:
  hostnames: [shop.test]
  parentRefs: [{{name: lab, namespace: {GATEWAY_NAMESPACE}}}]
  rules:
  - backendRefs:{backends}
---
apiVersion: serin.dev/v1alpha1
kind: AnalysisTemplate
metadata: {{name: success-rate}}
spec:
  args: [{{name: service}}]
  metrics:
  - name: success-rate
    interval: 2s{count}
    window: {window}
    failureLimit: 0
    noData: {{limit: 10, then: pause}}
    judge: {{threshold: {{pass: ">= 0.99", fail: "< 0.95"}}}}
    provider:
      prometheus:
        query: |
          sum(rate(http_requests_total{{service="{{{{args.service}}}}",pod_template_hash="{{{{canary.hash}}}}",code!~"5.."}}[{{{{window}}}}]))
          / sum(rate(http_requests_total{{service="{{{{args.service}}}}",pod_template_hash="{{{{canary.hash}}}}"}}[{{{{window}}}}]))
---
{rollout}
"#
    )
}

impl<'a> Shop<'a> {
    /// Applies everything that the owners write.
    pub(crate) async fn open(lab: &'a Lab, strategy: Strategy, fast: bool) -> Result<Self> {
        lab.apply_yaml(&manifests(strategy, fast)).await?;
        Ok(Self { lab })
    }

    fn rollouts(&self) -> Api<Rollout> {
        Api::namespaced(self.lab.client(), "default")
    }

    async fn patch(&self, patch: Value) -> Result {
        self.rollouts()
            .patch("shop", &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Ships a version: its template is all that changes.
    pub(crate) async fn ship(&self, version: &str) -> Result {
        self.patch(json!({"spec": {"template": template(version)}}))
            .await
    }

    pub(crate) async fn promote(&self, hash: &str) -> Result {
        self.patch(json!({"metadata": {"annotations": {"serin.dev/promote": format!("{hash}/1")}}}))
            .await
    }

    pub(crate) async fn status(&self) -> Result<RolloutStatus> {
        Ok(self
            .rollouts()
            .get("shop")
            .await?
            .status
            .unwrap_or_default())
    }

    /// Whether a status speaks of what was shipped last.
    pub(crate) async fn is_fresh(&self, status: &RolloutStatus) -> Result<bool> {
        let live = self.rollouts().get("shop").await?;
        Ok(status.observed_generation == live.metadata.generation)
    }

    pub(crate) async fn until(
        &self,
        what: &str,
        holds: impl Fn(&RolloutStatus) -> bool + Send + Sync,
    ) -> Result {
        let condition = |r: Option<&Rollout>| {
            r.is_some_and(|r| {
                r.status
                    .as_ref()
                    .is_some_and(|s| s.observed_generation == r.metadata.generation && holds(s))
            })
        };
        self.lab
            .within(
                what,
                LIMIT,
                await_condition(self.rollouts(), "shop", condition),
            )
            .await??;
        Ok(())
    }

    /// The analysis that was begun last.
    pub(crate) async fn newest_run(&self) -> Option<AnalysisRun> {
        let runs = Api::<AnalysisRun>::namespaced(self.lab.client(), "default");
        let all = runs.list(&kube::api::ListParams::default()).await.ok()?;
        all.items.into_iter().max_by_key(|r| r.spec.attempt)
    }

    /// When the users were last answered by v3, once no weight is left for it.
    pub(crate) async fn zero_at(&self, load: &Load) -> Result<Duration> {
        self.until("the weight to be 0", |s| {
            s.traffic.as_ref().is_none_or(|t| t.share == 0)
        })
        .await?;
        let gone = || async {
            let recent = load.recent(Duration::from_secs(2));
            (recent.share("v3").unwrap_or(0.0) == 0.0).then_some(())
        };
        self.lab
            .until("nobody to be answered by v3", LIMIT, gone)
            .await?;
        Ok(load
            .snapshot()
            .last_seen_at
            .get("v3")
            .copied()
            .unwrap_or_default())
    }

    /// Awaits the first good answer.
    pub(crate) async fn first_answer(&self) -> Result {
        self.lab
            .until("the first good answer", LIMIT, || async {
                let probe = Load::start(&self.lab.gateway_url(), "shop.test", 5.0).ok()?;
                // One look at a few requests; only the last of them counts.
                tokio::time::sleep(Duration::from_millis(700)).await;
                let report = probe.stop().await;
                (report.unexplained == 0 && report.of("v1").ok > 0).then_some(())
            })
            .await?;
        Ok(())
    }
}
