//! Tools that wait, scale and watch as they do with a Deployment: Helm, kubectl, a
//! HorizontalPodAutoscaler, Prometheus.

use std::{path::PathBuf, sync::Arc};

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{Api, runtime::wait::await_condition};
use serde_json::json;
use serin::api::RolloutStatus;
use serin_lab::Lab;

use crate::{
    app::SERVICE,
    dashboard,
    world::{LIMIT, Result, Setup, World, ensure, expect_reasons, hash, phase, reasons},
};

/// Pods are the weight: nothing but a Service and a Rollout is needed.
fn small() -> Setup {
    Setup {
        replicas: 2,
        steps: "[{setWeight: 50}, {pause: {duration: 1s}}]",
        routed: false,
        ..Setup::default()
    }
}

/// A chart of a Service and a Rollout.
fn chart(w: &World, version: &str) -> Result<PathBuf> {
    let dir = w.lab.run_dir().join(format!("chart-{}", w.namespace));
    std::fs::create_dir_all(dir.join("templates"))?;
    std::fs::write(
        dir.join("Chart.yaml"),
        "apiVersion: v2\nname: app\nversion: 0.1.0\n",
    )?;
    let rollout = json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "app"}, "spec": w.spec(version),
    });
    std::fs::write(dir.join("templates/rollout.yaml"), rollout.to_string())?;
    std::fs::write(dir.join("templates/service.yaml"), SERVICE)?;
    Ok(dir)
}

async fn upgrade(w: &World, version: &str, flags: &[&str]) -> Result<String> {
    let dir = chart(w, version)?.display().to_string();
    let fixed = ["upgrade", "--install", "app", &dir, "-n", &w.namespace];
    Ok(w.lab.helm(&[&fixed, flags].concat()).await?)
}

/// What the status says now is that what the spec asks for is stable.
fn promoted(status: &RolloutStatus) -> Result {
    let stable = status.stable_revision == status.current_revision;
    ensure(
        phase(status) == "Healthy" && stable && !hash(status).is_empty(),
        format!("it is not done: {status:?}"),
    )
}

/// `helm upgrade --install --wait` comes back when the release is promoted and not before; not either
/// where nobody has looked at the Rollout yet.
pub async fn helm_waits_for_the_promotion(lab: Arc<Lab>) -> Result {
    let mut w = World::bare(lab, "helm-wait", small()).await?;
    let early = upgrade(&w, "v1", &["--wait", "--timeout", "2s"]).await;
    ensure(
        early.is_err(),
        "Helm is content with a Rollout that no controller has looked at",
    )?;
    w.start_serin()?;
    upgrade(&w, "v1", &["--wait", "--timeout", "1h"]).await?;
    let first = w.status().await?;
    promoted(&first)?;
    upgrade(&w, "v2", &["--wait", "--timeout", "1h"]).await?;
    let second = w.status().await?;
    promoted(&second)?;
    ensure(
        hash(&first) != hash(&second),
        "the second release is another revision",
    )?;
    expect_reasons(
        &second,
        &["Deployed", "AttemptStarted", "Promoted", "Completed"],
    )
}

/// `helm upgrade --rollback-on-failure` fails as soon as Serin has rolled back, long before its timeout,
/// and its own rollback then finds a Rollout that serves.
pub async fn helm_rolls_a_bad_release_back(lab: Arc<Lab>) -> Result {
    let mut w = World::bare(lab, "helm-bad", small()).await?;
    w.start_serin()?;
    upgrade(&w, "v1", &["--wait", "--timeout", "1h"]).await?;
    let good = w.status().await?;
    let flags = ["--rollback-on-failure", "--wait", "--timeout", "1h"];
    let failed = upgrade(&w, "no-image", &flags).await;
    let said = match failed {
        Ok(said) => return Err(format!("Helm is content with a bad release: {said}").into()),
        Err(e) => e.to_string(),
    };
    ensure(
        said.contains("rolled back") && !said.contains("deadline"),
        format!("Helm does not say that it rolled back: {said}"),
    )?;
    // First Serin gave the revision up, then the old template came back: had it come back earlier, it
    // would be told as Reverted.
    let status = w.status().await?;
    promoted(&status)?;
    ensure(
        status.stable_revision == good.stable_revision,
        "the good release is not stable any more",
    )?;
    expect_reasons(&status, &["Deployed", "AttemptStarted", "RolledBack"])?;
    ensure(
        !reasons(&status).contains(&"Reverted"),
        format!("Helm was faster than Serin: {:?}", reasons(&status)),
    )
}

/// `kubectl wait` for the condition and for the phase: both wait through a pause that a person ends.
pub async fn kubectl_waits(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: "[{setWeight: 50}, {pause: {}}]",
        ..small()
    };
    let w = World::new(lab, "kubectl-wait", setup).await?;
    let wait = |what: &'static str| {
        let (lab, namespace) = (w.lab.clone(), w.namespace.clone());
        tokio::spawn(async move {
            let fixed = ["-n", &namespace, "wait", "rollout/app", "--timeout=1h"];
            lab.kubectl(&[&fixed[..], &[what]].concat()).await
        })
    };
    w.deploy("v2").await?;
    // The condition still speaks of the old generation, which kubectl heeds.
    let ready = wait("--for=condition=Ready");
    let paused = w.step(1).await?;
    ensure(phase(&paused) == "Paused", "it waits for a person")?;
    let healthy = wait("--for=jsonpath={.status.phase}=Healthy");
    let token = format!("{}/1", hash(&paused));
    ensure(
        !ready.is_finished() && !healthy.is_finished(),
        "a pause is not what was awaited",
    )?;
    w.annotate(&[("promote", &token)]).await?;
    ready.await??;
    promoted(&w.status().await?)?;
    healthy.await??;
    promoted(&w.status().await?)
}

/// At rest a Rollout is scaled by kubectl and by a HorizontalPodAutoscaler, without a new attempt.
pub async fn scaled_at_rest(lab: Arc<Lab>) -> Result {
    let w = World::new(lab, "scale", small()).await?;
    let before = w.status().await?;
    let namespace = w.namespace.clone();
    let pods = |n: i32| {
        move |s: &RolloutStatus| {
            phase(s) == "Healthy" && s.available_replicas == n && s.replicas == n
        }
    };
    let args = ["-n", &namespace, "scale", "rollout", "app", "--replicas=3"];
    w.lab.kubectl(&args).await?;
    w.until("three pods", pods(3)).await?;
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "app"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "name": "app"},
            "minReplicas": 4, "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 50}}}],
        },
    });
    w.lab
        .apply_yaml_in(&namespace, &autoscaler.to_string())
        .await?;
    let after = w.until("four pods", pods(4)).await?;
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(w.lab.client(), &namespace);
    let able = |a: Option<&HorizontalPodAutoscaler>| {
        let status = a.and_then(|a| a.status.as_ref());
        let mut conditions = status
            .and_then(|s| s.conditions.as_ref())
            .into_iter()
            .flatten();
        conditions.any(|c| c.type_ == "AbleToScale" && c.status == "True")
            && status.is_some_and(|s| s.current_replicas == Some(4))
    };
    let waiting = await_condition(autoscalers, "app", able);
    w.lab
        .within("the autoscaler to read the scale", LIMIT, waiting)
        .await??;
    let number = |s: &RolloutStatus| s.attempt.as_ref().map(|a| a.number);
    ensure(
        number(&before) == number(&after) && before.stable_revision == after.stable_revision,
        "a change of scale is no release",
    )
}

/// Prometheus understands every alert and every panel, and the alerts pass their own tests.
pub async fn alerts_and_dashboard(lab: Arc<Lab>) -> Result {
    lab.promtool(&["check", "rules", "--lint-fatal", dashboard::RULES])
        .await?;
    lab.promtool(&["test", "rules", "tests/prometheus/rules-test.yaml"])
        .await?;
    let panels = dashboard::dashboard();
    ensure(panels.len() > 20, "panels were found")?;
    for panel in panels.iter().chain(&dashboard::rules()) {
        lab.query(&panel.text)
            .await
            .map_err(|e| format!("{}: {e}", panel.place))?;
    }
    let nonsense = lab.query("sum by (serin_leader").await;
    ensure(nonsense.is_err(), "what is no query is refused")
}

/// A real controller's metrics make a real Prometheus fire and end its alert, and fill the dashboard.
pub async fn an_alert_fires_and_ends(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: "[{setWeight: 50}, {pause: {}}]",
        ..small()
    };
    let w = World::new(lab, "alerts", setup).await?;
    let port = w.serin.as_ref().map_or(0, |s| s.port);
    w.lab.scrape(&w.namespace, &format!("127.0.0.1:{port}"))?;
    let text = std::fs::read_to_string(dashboard::RULES)?;
    w.lab.rules("serin", &text).await?;
    let fires = format!(
        r#"ALERTS{{alertname="RolloutRolledBack",alertstate="firing",namespace="{}",rollout="app"}}"#,
        w.namespace
    );
    let has = |query: String, wanted: bool| {
        let lab = w.lab.clone();
        async move {
            let what = format!("{query} to be there: {wanted}");
            let look = || async {
                let found = lab.query(&query).await.ok()?;
                (found.is_empty() != wanted).then_some(())
            };
            lab.until(&what, LIMIT, look).await
        }
    };
    w.deploy("no-image").await?;
    w.done("Degraded").await?;
    has(fires.clone(), true).await?;
    let panel = |title: &str| {
        let place = format!("panel {title:?}");
        let all = dashboard::dashboard();
        all.into_iter().find(|p| p.place == place).map(|p| p.text)
    };
    for title in [
        "Phases",
        "Stalled",
        "Accepted",
        "Rollbacks",
        "Leader",
        "API requests",
    ] {
        let text = panel(title).ok_or(format!("there is no panel {title}"))?;
        has(text, true).await?;
    }
    w.deploy("v2").await?;
    w.step(1).await?;
    has(fires, false).await?;
    let paused = panel("Paused").ok_or("there is no panel Paused")?;
    has(paused, true).await?;
    Ok(())
}
