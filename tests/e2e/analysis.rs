//! Judged by a real Prometheus.

use std::sync::Arc;

use serin_lab::Lab;

use crate::world::{LIMIT, Result, Setup, World, ensure, expect_reasons, hash};

/// Errors under traffic: rolled back by itself, people alerted, and no failure but the app's own.
pub async fn errors(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        background: true,
        steps: "[{setWeight: 20}, {pause: {duration: 60s}}, {setWeight: 50}]",
        ..Setup::default()
    };
    let mut w = World::new(lab, "errors", setup).await?;
    w.deploy("errors").await?;
    let status = w.done("Degraded").await?;
    let message = status.message.clone().unwrap_or_default();
    ensure(
        message.contains("success-rate"),
        format!("the metric is not in {message:?}"),
    )?;
    expect_reasons(&status, &["AttemptStarted", "RolledBack"])?;
    let condition = |name: &str| {
        status
            .conditions
            .iter()
            .find(|c| c.type_ == name)
            .map(|c| c.status.clone())
    };
    ensure(
        condition("Stalled").as_deref() == Some("True"),
        "Stalled is true",
    )?;
    ensure(
        condition("Ready").as_deref() == Some("False"),
        "Ready is false",
    )?;
    let namespace = w.namespace.clone();
    let ours = |a: &serin_lab::Alert| {
        a.labels
            .get("alertname")
            .is_some_and(|n| n == "RolloutRolledBack")
            && a.labels.get("namespace") == Some(&namespace)
    };
    w.lab
        .until("the alert", LIMIT, || async {
            w.lab.alerts().await.ok()?.iter().any(ours).then_some(())
        })
        .await?;
    // An Event says it too.
    let events = w
        .lab
        .kubectl(&[
            "-n",
            &w.namespace,
            "get",
            "events.events.k8s.io",
            "-o",
            "jsonpath={.items[*].reason}",
        ])
        .await?;
    ensure(
        events.contains("RolledBack"),
        format!("no Event says RolledBack: {events}"),
    )?;
    // The old template again is the way on, and the alert is resolved.
    w.deploy("v1").await?;
    w.done("Healthy").await?;
    w.lab
        .until("the alert to be resolved", LIMIT, || async {
            (!w.lab.alerts().await.ok()?.iter().any(ours)).then_some(())
        })
        .await?;
    let report = w.farewell().await?;
    ensure(
        report.of("errors").injected > 0,
        "users saw the app's own errors",
    )
}

pub async fn latency(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: "[{setWeight: 20}, {analysis: {templates: [{templateName: latency}], args: [{name: service, value: app}]}}, {setWeight: 50}]",
        ..Setup::default()
    };
    let mut w = World::new(lab, "latency", setup).await?;
    w.deploy("slow").await?;
    let status = w.done("Degraded").await?;
    let message = status.message.clone().unwrap_or_default();
    ensure(
        message.contains("latency"),
        format!("the metric is not in {message:?}"),
    )?;
    expect_reasons(&status, &["AttemptStarted", "RolledBack"])?;
    // A quick one passes the same step.
    w.deploy("v2").await?;
    w.done("Healthy").await?;
    w.farewell().await?;
    Ok(())
}

/// Without Prometheus nothing passes: it pauses, and goes on once somebody says so and it can measure.
pub async fn prometheus_down(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: "[{setWeight: 20}, {analysis: {templates: [{templateName: latency}], args: [{name: service, value: app}]}}, {setWeight: 50}, {pause: {}}]",
        ..Setup::default()
    };
    let mut w = World::bare(lab, "prom-down", setup).await?;
    // A provider that nobody answers for, beside the one that the other tests use.
    w.provider = "http://127.0.0.1:9".into();
    w.start_serin()?;
    w.apply_app("v1", 100, 0).await?;
    w.done("Healthy").await?;
    w.first_answer().await?;
    w.start_load()?;
    w.deploy("v2").await?;
    let status = w.until("a pause", |s| s.pause.is_some()).await?;
    ensure(
        status.attempt.as_ref().is_some_and(|a| a.step_index == 1),
        "it pauses at the analysis",
    )?;
    ensure(
        !status.history.iter().any(|h| h.reason == "Promoted"),
        "nothing passes without data",
    )?;
    let (hash, provider) = (hash(&status), w.lab.prometheus_url());
    w.stop_serin().await?;
    w.provider = provider;
    w.start_serin()?;
    w.annotate(&[("resume", &format!("{hash}/1"))]).await?;
    let status = w.step(3).await?;
    expect_reasons(&status, &["Paused", "Resumed"])?;
    w.farewell().await?;
    Ok(())
}
