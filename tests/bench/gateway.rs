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

fn manifests(namespace: &str) -> String {
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "app"},
        "spec": {
            "hostnames": [format!("{namespace}.test")],
            "parentRefs": [{"name": "lab", "namespace": GATEWAY_NAMESPACE}],
            "rules": [{"backendRefs": [
                {"name": "app-stable", "port": 80, "weight": 100},
                {"name": "app-canary", "port": 80, "weight": 0},
            ]}],
        },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"},
        "spec": {"selector": {"app": "app"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    });
    let rollout = json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "app"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "app"}}, "template": template("v1"),
            "strategy": {"canary": {
                "service": "app", "steps": [{"setWeight": 50}, {"pause": {}}], "abortScaleDownDelay": "2s",
                "trafficRouting": {"propagationDelay": "1s", "gatewayAPI": {"httpRoutes": [{"name": "app"}]}},
            }},
        },
    });
    [service, rollout, route]
        .map(|v| v.to_string())
        .join("\n---\n")
}

fn template(version: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "app"}},
        "spec": {"containers": [{
            "name": "app", "image": format!("lab/app:{version}"),
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1},
        }]},
    })
}

async fn until(
    lab: &Lab,
    api: &Api<Rollout>,
    what: &str,
    holds: impl Fn(&RolloutStatus) -> bool + Send + Sync,
) -> Result {
    let condition = |rollout: Option<&Rollout>| {
        let of_now =
            |r: &Rollout, s: &RolloutStatus| s.observed_generation == r.metadata.generation;
        rollout.is_some_and(|r| r.status.as_ref().is_some_and(|s| of_now(r, s) && holds(s)))
    };
    lab.within(what, LIMIT, await_condition(api.clone(), "app", condition))
        .await??;
    Ok(())
}

fn at_pause(status: &RolloutStatus) -> bool {
    let attempt = status.attempt.as_ref();
    attempt.is_some_and(|a| a.stage == "Stepping" && a.step_index == 1)
}

fn done(status: &RolloutStatus) -> bool {
    let attempt = status.attempt.as_ref();
    attempt.is_some_and(|a| a.stage == "Done") && status.draining.is_empty()
}

pub async fn figures(lab: &Arc<Lab>, sizes: Sizes) -> Result<Vec<Row>> {
    let kubeconfig = install(lab).await?;
    let namespace = lab.namespace("bench").await?;
    let _serin = Serin::start(lab, &kubeconfig, None, 1)?;
    lab.apply_yaml_in(&namespace, &manifests(&namespace))
        .await?;
    let api: Api<Rollout> = Api::namespaced(lab.client(), &namespace);
    until(lab, &api, "v1 to be healthy", |s| {
        s.phase.as_deref() == Some("Healthy")
    })
    .await?;
    let users = Load::start(&lab.gateway_url(), &format!("{namespace}.test"), RATE)?;
    answered_by(lab, &users, "v1").await?;
    let weight = load();
    let mut times = vec![];
    for n in 0..sizes.gateway {
        // A canary that was given up is not tried again: each is a version of its own.
        let version = format!("c{n}");
        let patch = |body: Value| {
            let api = api.clone();
            async move {
                api.patch("app", &PatchParams::default(), &Patch::Merge(body))
                    .await
            }
        };
        patch(json!({"spec": {"template": template(&version)}})).await?;
        until(lab, &api, "the pause", at_pause).await?;
        answered_by(lab, &users, &version).await?;
        patch(json!({"metadata": {"annotations": {"serin.dev/abort": format!("n{n}")}}})).await?;
        let aborted = users.now();
        until(lab, &api, "the end", done).await?;
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
