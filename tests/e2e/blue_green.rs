//! Blue-green under load: switched by a Service's selector and by a route, forward and back.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use serde_json::json;
use serin_lab::{GATEWAY_NAMESPACE, Lab, Load};

use crate::world::{
    LIMIT, Result, Setup, Strategy, World, ensure, expect_reasons, hash, phase, stage,
};

const BY_ITSELF: &str = "{autoPromotionDelay: 2s, \
    prePromotionAnalysis: {templates: [{templateName: errors}], args: [{name: service, value: app}]}, \
    postPromotionAnalysis: {templates: [{templateName: latency}], args: [{name: service, value: app}]}}";
const BY_HAND: &str = "{autoPromotionEnabled: false, previewReplicaCount: 1}";
const JUDGED_BEFORE: &str = "{prePromotionAnalysis: {templates: [{templateName: errors}], args: [{name: service, value: app}]}}";
const JUDGED_AFTER: &str = "{postPromotionAnalysis: {templates: [{templateName: errors}], args: [{name: service, value: app}]}}";
/// After the switch it waits for a person: a metric that is never there.
const HELD_AFTER: &str = "{postPromotionAnalysis: {templates: [{templateName: nothing}]}}";

async fn world(lab: Arc<Lab>, prefix: &str, routed: bool, asked: &'static str) -> Result<World> {
    let setup = Setup {
        routed,
        strategy: Strategy::BlueGreen(asked),
        ..Setup::default()
    };
    World::new(lab, prefix, setup).await
}

/// People who try the preview, by a route of its own.
async fn testers(w: &World) -> Result<Load> {
    let host = format!("{}-preview.test", w.namespace);
    let route = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: preview}}
spec:
  hostnames: [{host}]
  parentRefs: [{{name: lab, namespace: {GATEWAY_NAMESPACE}}}]
  rules: [{{backendRefs: [{{name: app-preview, port: 80}}]}}]
"
    );
    w.lab.apply_yaml_in(&w.namespace, &route).await?;
    Ok(Load::start(&w.lab.gateway_url(), &host, 20.0)?)
}

/// One pod of `version` stops being ready; awaited until the API server shows it.
async fn one_unready(w: &World, version: &str) -> Result {
    let pods: Api<Pod> = Api::namespaced(w.lab.client(), &w.namespace);
    let image = format!("lab/app:{version}");
    let all = pods.list(&ListParams::default()).await?;
    let pod = all
        .iter()
        .find(|p| {
            let mut containers = p.spec.iter().flat_map(|s| &s.containers);
            containers.any(|c| c.image.as_deref() == Some(&image))
        })
        .ok_or("a pod of the version")?;
    let name = pod.metadata.name.clone().unwrap_or_default();
    let ip = pod.status.as_ref().and_then(|s| s.pod_ip.clone());
    let http = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("http://{}:8080/lab?ready=false", ip.unwrap_or_default());
    http.put(url).send().await?.error_for_status()?;
    let unready = |pod: Option<&Pod>| {
        let conditions = pod
            .and_then(|p| p.status.as_ref()?.conditions.as_ref())
            .into_iter()
            .flatten();
        conditions
            .into_iter()
            .any(|c| c.type_ == "Ready" && c.status == "False")
    };
    let waiting = kube::runtime::wait::await_condition(pods, &name, unready);
    w.lab
        .within("the pod to be unready", LIMIT, waiting)
        .await??;
    Ok(())
}

/// The name of the last step, after the switch.
async fn after_the_switch(w: &World) -> Result<serin::api::RolloutStatus> {
    let status = w
        .until("the step after the switch", |s| {
            s.attempt.as_ref().is_some_and(|a| {
                let at = usize::try_from(a.step_index).unwrap_or(usize::MAX);
                let step = a.steps.get(at).and_then(|s| s.name.as_deref());
                Some(&a.hash) == s.current_revision.as_ref()
                    && stage(s) == "Stepping"
                    && step == Some("post-promotion-analysis")
            })
        })
        .await?;
    Ok(status)
}

async fn by_itself(lab: Arc<Lab>, prefix: &str, routed: bool) -> Result {
    let mut w = world(lab, prefix, routed, BY_ITSELF).await?;
    let testers = testers(&w).await?;
    w.deploy("v2").await?;
    let status = w.done("Healthy").await?;
    ensure(
        status.stable_revision == status.current_revision,
        "the new revision is stable",
    )?;
    expect_reasons(
        &status,
        &[
            "AttemptStarted",
            "Promoting",
            "Promoted",
            "Completed",
            "ScaledDown",
        ],
    )?;
    w.served_only_by("v2", "v1").await?;
    let tried = testers.stop().await;
    ensure(tried.of("v2").all() > 0, "the preview was tried")?;
    w.farewell().await?;
    Ok(())
}

pub async fn blue_green_by_itself(lab: Arc<Lab>) -> Result {
    by_itself(lab, "bg-itself", false).await
}
pub async fn blue_green_by_itself_by_route(lab: Arc<Lab>) -> Result {
    by_itself(lab, "bg-itself-route", true).await
}

async fn by_hand(lab: Arc<Lab>, prefix: &str, routed: bool) -> Result {
    let mut w = world(lab, prefix, routed, BY_HAND).await?;
    w.deploy("v2").await?;
    let status = w
        .until("one pod in preview, and a person awaited", |s| {
            let preview = s.tracks.iter().find(|t| t.name == "preview");
            let pods = preview.map(|t| (t.replicas.desired, t.replicas.available));
            s.phase.as_deref() == Some("Paused") && pods == Some((1, 1))
        })
        .await?;
    w.served_only_by("v1", "v2").await?;
    w.annotate(&[("promote", &format!("{}@promotion/1", hash(&status)))])
        .await?;
    w.done("Healthy").await?;
    w.served_only_by("v2", "v1").await?;
    w.farewell().await?;
    Ok(())
}

pub async fn blue_green_by_hand(lab: Arc<Lab>) -> Result {
    by_hand(lab, "bg-hand", false).await
}
pub async fn blue_green_by_hand_by_route(lab: Arc<Lab>) -> Result {
    by_hand(lab, "bg-hand-route", true).await
}

/// What fails in preview is seen by testers alone.
pub async fn blue_green_fails_before(lab: Arc<Lab>) -> Result {
    let mut w = world(lab, "bg-before", false, JUDGED_BEFORE).await?;
    let testers = testers(&w).await?;
    w.deploy("errors").await?;
    let status = w.done("Degraded").await?;
    expect_reasons(&status, &["AttemptStarted", "RolledBack"])?;
    let tried = testers.stop().await;
    ensure(tried.of("errors").all() > 0, "the preview was tried")?;
    let report = w.farewell().await?;
    ensure(report.of("errors").all() == 0, "no user was served by it")
}

async fn fails_after(lab: Arc<Lab>, prefix: &str, routed: bool) -> Result {
    let mut w = world(lab, prefix, routed, JUDGED_AFTER).await?;
    w.deploy("errors").await?;
    after_the_switch(&w).await?;
    let status = w.done("Degraded").await?;
    expect_reasons(&status, &["AttemptStarted", "RolledBack", "ScaledDown"])?;
    w.served_only_by("v1", "errors").await?;
    w.farewell().await?;
    Ok(())
}

pub async fn blue_green_fails_after(lab: Arc<Lab>) -> Result {
    fails_after(lab, "bg-after", false).await
}
pub async fn blue_green_fails_after_by_route(lab: Arc<Lab>) -> Result {
    fails_after(lab, "bg-after-route", true).await
}

/// Aborted while one new pod is not ready: just then the way back must be open.
async fn abort(lab: Arc<Lab>, prefix: &str, routed: bool, switched: bool) -> Result {
    let asked = if switched {
        HELD_AFTER
    } else {
        "{autoPromotionEnabled: false}"
    };
    let mut w = world(lab, prefix, routed, asked).await?;
    w.deploy("v2").await?;
    if switched {
        after_the_switch(&w).await?;
        w.served_only_by("v2", "v1").await?;
    } else {
        w.step(1).await?;
    }
    one_unready(&w, "v2").await?;
    w.annotate(&[("abort", "now")]).await?;
    let status = w.done("Degraded").await?;
    expect_reasons(&status, &["AttemptStarted", "Aborted", "ScaledDown"])?;
    ensure(
        !status.history.iter().any(|h| h.reason == "AbortHeld"),
        "nothing held the abort",
    )?;
    w.served_only_by("v1", "v2").await?;
    w.farewell().await?;
    Ok(())
}

pub async fn blue_green_abort_before(lab: Arc<Lab>) -> Result {
    abort(lab, "bg-abort-before", false, false).await
}
pub async fn blue_green_abort_after(lab: Arc<Lab>) -> Result {
    abort(lab, "bg-abort-after", false, true).await
}
pub async fn blue_green_abort_before_by_route(lab: Arc<Lab>) -> Result {
    abort(lab, "bg-abort-before-route", true, false).await
}
pub async fn blue_green_abort_after_by_route(lab: Arc<Lab>) -> Result {
    abort(lab, "bg-abort-after-route", true, true).await
}

/// A newer template while the last one is judged after the switch.
async fn supersede(lab: Arc<Lab>, prefix: &str, routed: bool) -> Result {
    let mut w = world(lab, prefix, routed, HELD_AFTER).await?;
    w.deploy("v2").await?;
    after_the_switch(&w).await?;
    w.served_only_by("v2", "v1").await?;
    w.deploy("v3").await?;
    let status = after_the_switch(&w).await?;
    expect_reasons(&status, &["AttemptStarted", "Superseded", "AttemptStarted"])?;
    w.served_only_by("v3", "v2").await?;
    w.annotate(&[("promote-full", &format!("{}/1", hash(&status)))])
        .await?;
    w.done("Healthy").await?;
    w.farewell().await?;
    Ok(())
}

pub async fn blue_green_supersede(lab: Arc<Lab>) -> Result {
    supersede(lab, "bg-supersede", false).await
}
pub async fn blue_green_supersede_by_route(lab: Arc<Lab>) -> Result {
    supersede(lab, "bg-supersede-route", true).await
}

/// The controller is killed in each stage of one attempt after the other; each goes on where it was.
async fn killed(lab: Arc<Lab>, prefix: &str, routed: bool) -> Result {
    let mut w = world(lab, prefix, routed, HELD_AFTER).await?;
    let mut stages = vec!["Starting", "preview", "switch", "post", "Promoting"];
    stages.extend(routed.then_some("Switching"));
    stages.extend(["Returning", "RollingBack"]);
    for (n, wanted) in stages.into_iter().enumerate() {
        let version = format!("v{}", n + 2);
        w.deploy(&version).await?;
        let at_step = |s: &serin::api::RolloutStatus| {
            let attempt = s.attempt.as_ref()?;
            let at = usize::try_from(attempt.step_index).ok()?;
            let name = attempt.steps.get(at)?.name.clone()?;
            (stage(s) == "Stepping" && Some(&attempt.hash) == s.current_revision.as_ref())
                .then_some(name)
        };
        let late = ["Promoting", "Switching", "Returning", "RollingBack"].contains(&wanted);
        if late {
            let status = after_the_switch(&w).await?;
            let token = format!("{}/1", hash(&status));
            let verb = if wanted == "RollingBack" {
                "abort"
            } else {
                "promote-full"
            };
            w.annotate(&[(verb, token.as_str())]).await?;
        }
        // Some stages are passed within one round; what matters is that the kill comes after them.
        let status = w
            .until(wanted, |s| {
                let there =
                    stage(s) == wanted || at_step(s).is_some_and(|name| name.starts_with(wanted));
                let past = stage(s) == if late { "Done" } else { "Stepping" };
                (there || past) && s.current_revision == s.attempt.as_ref().map(|a| a.hash.clone())
            })
            .await?;
        let attempt = status.attempt.as_ref().map(|a| a.number);
        w.kill_serin().await?;
        w.start_serin()?;
        if !late {
            let status = after_the_switch(&w).await?;
            w.annotate(&[("promote-full", &format!("{}/1", hash(&status)))])
                .await?;
        }
        let end = if wanted == "RollingBack" {
            "Degraded"
        } else {
            "Healthy"
        };
        let status = w.done(end).await?;
        ensure(
            status.attempt.as_ref().map(|a| a.number) == attempt,
            format!("killed in {wanted}: it is still the same attempt"),
        )?;
    }
    w.farewell().await?;
    Ok(())
}

pub async fn blue_green_killed(lab: Arc<Lab>) -> Result {
    killed(lab, "bg-killed", false).await
}
pub async fn blue_green_killed_by_route(lab: Arc<Lab>) -> Result {
    killed(lab, "bg-killed-route", true).await
}

/// Releases come faster than old revisions are scaled down: one keeps its pods, the older one goes at once.
pub async fn blue_green_old_revisions(lab: Arc<Lab>) -> Result {
    let mut w = world(lab, "old", true, "{}").await?;
    let limit = json!({"scaleDownDelay": "10m", "scaleDownDelayRevisionLimit": 1});
    w.patch(json!({"spec": {"strategy": {"blueGreen": limit}}}))
        .await?;
    for (version, before) in [("v2", "v1"), ("v3", "v2")] {
        let old = w.status().await?.stable_revision.unwrap_or_default();
        w.deploy(version).await?;
        let what = format!("{before} alone to keep its pods beside {version}");
        w.until(&what, |s| {
            let kept: Vec<&str> = s.draining.iter().map(|d| d.hash.as_str()).collect();
            phase(s) == "Healthy" && s.stable_revision != Some(old.clone()) && kept == [&old]
        })
        .await?;
        w.served_by(version).await?;
    }
    let status = w
        .until("two revisions to have pods", |s| s.replicas == 6)
        .await?;
    expect_reasons(&status, &["Promoted", "ScaledDown"])?;
    let report = w.farewell().await?;
    println!("{} requests", report.sent);
    Ok(())
}

/// Users come by the active Service also where the strategy no longer names it.
pub async fn blue_green_becomes_rolling(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        routed: false,
        drains: true,
        strategy: Strategy::BlueGreen("{}"),
        ..Setup::default()
    };
    let mut w = World::new(lab, "becomes", setup).await?;
    let rolling = json!({"blueGreen": null, "rolling": {"maxSurge": 1, "maxUnavailable": 0}});
    w.patch(json!({"spec": {"strategy": rolling, "template": w.template("v2")}}))
        .await?;
    let status = w.done("Healthy").await?;
    let wanted = [
        "AttemptStarted",
        "ServiceReleased",
        "ScaledDown",
        "Promoted",
    ];
    expect_reasons(&status, &wanted)?;
    ensure(status.role_services.is_empty(), "no Service is held on to")?;
    w.left_to("v2", "v1").await?;
    w.deploy("v3").await?;
    w.done("Healthy").await?;
    w.left_to("v3", "v2").await?;
    let report = w.farewell().await?;
    println!("{} requests", report.sent);
    Ok(())
}
