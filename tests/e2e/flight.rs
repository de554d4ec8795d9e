//! The ways of an attempt: promoted, rolled back, superseded, reverted, deleted.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, PostParams, PropagationPolicy},
    runtime::{conditions::is_deleted, wait::await_condition},
};
use serde_json::json;
use serin_lab::Lab;

use crate::world::{LIMIT, Result, Setup, World, ensure, expect_reasons, hash, phase, stage};

async fn promote_in(lab: Arc<Lab>, prefix: &str, apart: bool) -> Result {
    let mut w = World::new(
        lab,
        prefix,
        Setup {
            apart,
            ..Setup::default()
        },
    )
    .await?;
    w.deploy("v2").await?;
    let status = w.step(1).await?;
    ensure(
        status.weight.as_deref() == Some("20"),
        format!("weight {:?} at step 1", status.weight),
    )?;
    w.served_by("v2").await?;
    let status = w.step(3).await?;
    ensure(
        status.phase.as_deref() == Some("Paused"),
        "a pause without an end is Paused",
    )?;
    w.annotate(&[("promote", &format!("{}@wait/1", hash(&status)))])
        .await?;
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
    let report = w.farewell().await?;
    ensure(
        report.of("v1").all() > 0 && report.of("v2").all() > 0,
        "both versions served",
    )
}

pub async fn promote(lab: Arc<Lab>) -> Result {
    promote_in(lab, "promote", false).await
}

pub async fn promote_with_a_cluster_for_each_backend(lab: Arc<Lab>) -> Result {
    promote_in(lab, "promote-apart", true).await
}

/// A version that cannot run is rolled back before anybody saw it, with the pod's own words.
async fn cannot_run(lab: Arc<Lab>, version: &str, words: &str) -> Result {
    let mut w = World::new(lab, version, Setup::default()).await?;
    w.deploy(version).await?;
    let status = w.done("Degraded").await?;
    let message = status.message.clone().unwrap_or_default();
    ensure(
        message.contains(words),
        format!("{words} is not in {message:?}"),
    )?;
    expect_reasons(&status, &["AttemptStarted", "RolledBack"])?;
    let report = w.farewell().await?;
    ensure(report.of(version).all() == 0, "nobody was served by it")
}

pub async fn crash_loop(lab: Arc<Lab>) -> Result {
    cannot_run(lab, "crash", "CrashLoopBackOff").await
}

pub async fn missing_image(lab: Arc<Lab>) -> Result {
    cannot_run(lab, "no-image", "ImagePullBackOff").await
}

/// Pods must have a limit, and the app's have none, so that the API server refuses them.
const LIMITS: &str = "apiVersion: v1
kind: LimitRange
metadata: {name: limits}
spec: {limits: [{type: Pod, max: {memory: 1Gi}}]}
";

/// Awaits that the API server refuses pods. Nothing tells when a LimitRange counts, so it is asked.
async fn refusing(w: &World) -> Result {
    let pods: Api<Pod> = Api::namespaced(w.lab.client(), &w.namespace);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "probe"}, "spec": {"containers": [{"name": "a", "image": "b"}]}}))?;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let asking = async {
        while pods.create(&dry, &pod).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    w.lab.within("pods to be refused", LIMIT, asking).await?;
    Ok(())
}

/// Pods that the API server refuses are told and waited for, unless `failFast` names that.
pub async fn pods_refused(lab: Arc<Lab>) -> Result {
    let mut w = World::new(lab, "refused", Setup::default()).await?;
    w.lab.apply_yaml_in(&w.namespace, LIMITS).await?;
    refusing(&w).await?;
    w.deploy("v2").await?;
    let words = "maximum memory usage per Pod is 1Gi";
    w.until("the refusal to be told", |s| {
        let told = s.waiting.as_ref().is_some_and(|w| w.for_.contains(words));
        told && phase(s) == "Progressing"
    })
    .await?;
    w.patch(json!({"spec": {"failFast": {"reasons": ["FailedCreate"]}}}))
        .await?;
    let status = w.done("Degraded").await?;
    let message = status.message.clone().unwrap_or_default();
    ensure(message.contains(words), format!("{message:?}"))?;
    expect_reasons(&status, &["AttemptStarted", "RolledBack"])?;
    let report = w.farewell().await?;
    ensure(report.of("v2").all() == 0, "nobody was served by it")
}

pub async fn never_ready(lab: Arc<Lab>) -> Result {
    let mut w = World::new(
        lab,
        "never-ready",
        Setup {
            deadline: 10,
            ..Setup::default()
        },
    )
    .await?;
    w.deploy("never-ready").await?;
    let status = w.done("Degraded").await?;
    let message = status.message.clone().unwrap_or_default();
    ensure(
        message.contains("no progress"),
        format!("the deadline is not in {message:?}"),
    )?;
    w.farewell().await?;
    Ok(())
}

pub async fn supersede(lab: Arc<Lab>) -> Result {
    let mut w = World::new(
        lab,
        "supersede",
        Setup {
            apart: true,
            ..Setup::default()
        },
    )
    .await?;
    w.deploy("v2").await?;
    w.step(3).await?;
    w.served_by("v2").await?;
    w.deploy("v3").await?;
    let status = w.step(1).await?;
    expect_reasons(&status, &["AttemptStarted", "Superseded", "AttemptStarted"])?;
    w.served_by("v3").await?;
    w.annotate(&[("promote-full", &format!("{}/1", hash(&status)))])
        .await?;
    w.done("Healthy").await?;
    w.served_only_by("v3", "v1").await?;
    w.farewell().await?;
    Ok(())
}

pub async fn revert(lab: Arc<Lab>) -> Result {
    let mut w = World::new(lab, "revert", Setup::default()).await?;
    w.deploy("v2").await?;
    w.step(3).await?;
    w.served_by("v2").await?;
    w.deploy("v1").await?;
    let status = w.done("Healthy").await?;
    expect_reasons(&status, &["AttemptStarted", "Reverted"])?;
    ensure(
        !status.history.iter().any(|h| h.reason == "Promoted"),
        "nothing was promoted",
    )?;
    w.farewell().await?;
    Ok(())
}

/// Deleted in mid-flight while its dependents stay: users notice nothing.
pub async fn delete_orphaning(lab: Arc<Lab>) -> Result {
    let mut w = World::new(lab, "orphan", Setup::default()).await?;
    w.deploy("v2").await?;
    let status = w.step(3).await?;
    w.served_by("v2").await?;
    let uid = w
        .rollouts()
        .get("app")
        .await?
        .metadata
        .uid
        .unwrap_or_default();
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    w.rollouts().delete("app", &orphan).await?;
    let gone = await_condition(w.rollouts(), "app", is_deleted(&uid));
    w.lab
        .within("the Rollout to be gone", LIMIT, gone)
        .await??;
    ensure(stage(&status) == "Stepping", "it was in mid-flight")?;
    w.served_only_by("v1", "v2").await?;
    w.farewell().await?;
    Ok(())
}

/// Deleted in mid-flight with everything: stable carries all weight before the finalizer goes.
pub async fn delete_by_default(lab: Arc<Lab>) -> Result {
    let w = World::new(lab, "delete", Setup::default()).await?;
    w.deploy("v2").await?;
    w.step(3).await?;
    w.served_by("v2").await?;
    let rollout = w.rollouts().get("app").await?;
    ensure(
        rollout
            .metadata
            .finalizers
            .iter()
            .flatten()
            .any(|f| f == "serin.dev/route"),
        "the finalizer stands while the route is bent",
    )?;
    w.rollouts().delete("app", &DeleteParams::default()).await?;
    let uid = rollout.metadata.uid.unwrap_or_default();
    let gone = await_condition(w.rollouts(), "app", is_deleted(&uid));
    w.lab
        .within("the Rollout to be gone", LIMIT, gone)
        .await??;
    let route = w.routes().get("app").await?;
    let weights: Vec<_> = route.data["spec"]["rules"][0]["backendRefs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|b| b["weight"].as_i64())
        .collect();
    ensure(
        weights == [Some(100), Some(0)],
        format!("the route rests at {weights:?}"),
    )
}

pub async fn pods_as_the_weight(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        routed: false,
        drains: true,
        replicas: 4,
        steps: "[{setWeight: 25}, {pause: {duration: 1s}}, {setWeight: 50}, {pause: {}}]",
        ..Setup::default()
    };
    let w = World::new(lab, "pods", setup).await?;
    w.deploy("v2").await?;
    w.step(3).await?;
    let halves = |s: &serin::api::RolloutStatus| {
        let measured = s
            .tracks
            .iter()
            .map(|t| t.weight.as_ref().and_then(|w| w.measured));
        measured.eq([Some(50), Some(50)])
    };
    let status = w.until("half of the pods to be new", halves).await?;
    w.annotate(&[("promote", &format!("{}/1", hash(&status)))])
        .await?;
    let status = w.done("Healthy").await?;
    expect_reasons(&status, &["Promoting", "Promoted", "Completed"])
}

/// Pods of the canary apart from its share of the traffic, under load.
pub async fn canary_scale(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: "[{setCanaryScale: {weight: 100}}, {setWeight: 20}, {name: tried, pause: {}}, \
            {setCanaryScale: {matchTrafficWeight: true}}, {name: small, pause: {}}]",
        drains: true, // Two pods go while the canary serves a fifth.
        ..Setup::default()
    };
    let mut w = World::new(lab, "scale", setup).await?;
    w.deploy("v2").await?;
    let canary = |s: &serin::api::RolloutStatus| {
        let track = s.tracks.iter().find(|t| t.name == "canary")?;
        Some((track.replicas.desired, track.replicas.available))
    };
    w.step(2).await?;
    let status = w
        .until("all pods at a fifth of the traffic", |s| {
            canary(s) == Some((3, 3))
        })
        .await?;
    w.annotate(&[("promote", &format!("{}@tried/1", hash(&status)))])
        .await?;
    w.step(4).await?;
    w.until("as many pods as that needs", |s| canary(s) == Some((1, 1)))
        .await?;
    w.annotate(&[("promote", &format!("{}@small/1", hash(&status)))])
        .await?;
    w.done("Healthy").await?;
    w.farewell().await?;
    Ok(())
}
