//! At the real gateway: from an abort to the last answer of the canary.

use std::{sync::Arc, time::Duration};

use kube::{
    Api,
    api::{Patch, PatchParams},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};
use serin::api::{Rollout, RolloutStatus};
use serin_lab::{GATEWAY_NAMESPACE, Lab, Load};

use crate::{
    Result, Sizes,
    serin::{LIMIT, Serin, install},
    table::{Row, load, quantile, spread, time},
};

/// Requests per second: the last answer is known to twice their distance at weight 50.
const RATE: f64 = 400.0;

/// A Rollout of two pods behind the real gateway.
pub struct App {
    lab: Arc<Lab>,
    namespace: String,
    name: String,
    steps: Value,
    api: Api<Rollout>,
}

impl App {
    /// Makes it, with version v1.
    pub async fn create(
        lab: &Arc<Lab>,
        namespace: &str,
        name: String,
        steps: Value,
    ) -> Result<Self> {
        let app = Self {
            lab: Arc::clone(lab),
            namespace: namespace.to_owned(),
            name,
            steps,
            api: Api::namespaced(lab.client(), namespace),
        };
        lab.apply_yaml_in(namespace, &app.manifests()).await?;
        app.until("v1 to be healthy", |s| {
            s.phase.as_deref() == Some("Healthy")
        })
        .await?;
        Ok(app)
    }

    fn manifests(&self) -> String {
        let name = &self.name;
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name},
            "spec": {
                "hostnames": [self.host()],
                "parentRefs": [{"name": "lab", "namespace": GATEWAY_NAMESPACE}],
                "rules": [{"backendRefs": [
                    {"name": format!("{name}-stable"), "port": 80, "weight": 100},
                    {"name": format!("{name}-canary"), "port": 80, "weight": 0},
                ]}],
            },
        });
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        });
        let rollout = json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": name},
            "spec": {
                "replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": self.template("v1"),
                "strategy": {"canary": {
                    "service": name, "steps": self.steps, "abortScaleDownDelay": "2s",
                    "trafficRouting": {"propagationDelay": "1s", "gatewayAPI": {"httpRoutes": [{"name": name}]}},
                }},
            },
        });
        [service, rollout, route]
            .map(|v| v.to_string())
            .join("\n---\n")
    }

    fn template(&self, version: &str) -> Value {
        json!({
            "metadata": {"labels": {"app": self.name}},
            "spec": {"containers": [{
                "name": "app", "image": format!("lab/app:{version}"),
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1},
            }]},
        })
    }

    fn host(&self) -> String {
        format!("{}.{}.test", self.name, self.namespace)
    }

    /// Users who send so many requests a second.
    pub fn users(&self, rate: f64) -> Result<Load> {
        Ok(Load::start(&self.lab.gateway_url(), &self.host(), rate)?)
    }

    /// Asks for another version.
    pub async fn deploy(&self, version: &str) -> Result {
        self.patch(json!({"spec": {"template": self.template(version)}}))
            .await
    }

    /// Asks to give it up; no two with the same word.
    pub async fn abort(&self, word: &str) -> Result {
        self.patch(json!({"metadata": {"annotations": {"serin.dev/abort": word}}}))
            .await
    }

    async fn patch(&self, body: Value) -> Result {
        self.api
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(body))
            .await?;
        Ok(())
    }

    /// Awaits that something holds of the newest template's status.
    pub async fn until(
        &self,
        what: &str,
        holds: impl Fn(&RolloutStatus) -> bool + Send + Sync,
    ) -> Result {
        let condition = |rollout: Option<&Rollout>| {
            let of_now =
                |r: &Rollout, s: &RolloutStatus| s.observed_generation == r.metadata.generation;
            rollout.is_some_and(|r| r.status.as_ref().is_some_and(|s| of_now(r, s) && holds(s)))
        };
        let what = format!("{what} of {}", self.name);
        let found = await_condition(self.api.clone(), &self.name, condition);
        self.lab.within(&what, LIMIT, found).await??;
        Ok(())
    }
}

/// Whether it is at a step, counted from 0.
pub fn at_step(status: &RolloutStatus, step: i32) -> bool {
    let attempt = status.attempt.as_ref();
    attempt.is_some_and(|a| a.stage == "Stepping" && a.step_index == step)
}

/// Whether there is nothing left to be done.
pub fn done(status: &RolloutStatus) -> bool {
    let attempt = status.attempt.as_ref();
    attempt.is_some_and(|a| a.stage == "Done") && status.draining.is_empty()
}

pub async fn figures(lab: &Arc<Lab>, sizes: Sizes) -> Result<Vec<Row>> {
    let kubeconfig = install(lab).await?;
    let namespace = lab.namespace("bench").await?;
    let _serin = Serin::start(lab, &kubeconfig, None, 1)?;
    let steps = json!([{"setWeight": 50}, {"pause": {}}]);
    let app = App::create(lab, &namespace, "app".to_owned(), steps).await?;
    let users = app.users(RATE)?;
    answered_by(lab, &users, "v1").await?;
    let weight = load();
    let mut times = vec![];
    for n in 0..sizes.gateway {
        // A canary that was given up is not tried again: each is a version of its own.
        let version = format!("c{n}");
        app.deploy(&version).await?;
        app.until("the pause", |s| at_step(s, 1)).await?;
        answered_by(lab, &users, &version).await?;
        app.abort(&format!("n{n}")).await?;
        let aborted = users.now();
        app.until("the end", done).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let last = users.snapshot().last_seen_at.get(&version).copied();
        times.push(
            last.unwrap_or_default()
                .saturating_sub(aborted)
                .as_secs_f64(),
        );
    }
    let report = users.stop().await;
    Ok(vec![Row::new(
        "abort to the canary's last answer, real gateway",
        format!(
            "{} / {}",
            time(quantile(&times, 0.5)),
            time(quantile(&times, 0.99))
        ),
        "60 ms / 150 ms (p50 / p99)",
        format!(
            "the annotation's patch answered to the last answer of the canary to users who send {RATE:.0} requests a second; Envoy Gateway, weight 50, 2 pods; {}; {} of {} requests failed",
            spread(&times),
            report.unexplained,
            report.sent
        ),
        &weight,
    )])
}

async fn answered_by(lab: &Lab, users: &Load, version: &str) -> Result {
    let since = users.now();
    lab.until(&format!("an answer by {version}"), LIMIT, || async {
        (users.window(since, true).of(version).all() > 0).then_some(())
    })
    .await?;
    Ok(())
}
