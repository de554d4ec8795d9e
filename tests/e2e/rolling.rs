//! Rolling updates under load, forward and back: pods come and go while users are sent to them.

use std::sync::Arc;

use serin_lab::Lab;

use crate::world::{Result, Setup, Strategy, World, ensure, expect_reasons, hash, stage};

const BY_ITSELF: &str = "{maxSurge: 1, maxUnavailable: 0, \
    postPromotionAnalysis: {templates: [{templateName: errors}], args: [{name: service, value: app}]}}";
/// Once all pods are new it waits for a person: a metric that is never there.
const HELD: &str = "{maxSurge: 1, maxUnavailable: 0, postPromotionAnalysis: {templates: [{templateName: nothing}]}}";

async fn world(lab: Arc<Lab>, prefix: &str, asked: &'static str) -> Result<World> {
    let setup = Setup {
        routed: false,
        strategy: Strategy::Rolling(asked),
        ..Setup::default()
    };
    World::new(lab, prefix, setup).await
}

/// Awaits that all pods are of the newest template and judged.
async fn replaced(w: &World) -> Result<serin::api::RolloutStatus> {
    w.step(1).await
}

/// A good one replaces the pods, is judged, and is promoted.
pub async fn rolling_by_itself(lab: Arc<Lab>) -> Result {
    let mut w = world(lab, "roll-itself", BY_ITSELF).await?;
    w.deploy("v2").await?;
    let status = w.done("Healthy").await?;
    expect_reasons(
        &status,
        &["AttemptStarted", "Promoting", "Promoted", "Completed"],
    )?;
    w.served_by("v2").await?;
    w.farewell().await?;
    Ok(())
}

/// One with errors is judged once it serves, and the old pods come back.
pub async fn rolling_fails_after(lab: Arc<Lab>) -> Result {
    let mut w = world(lab, "roll-after", BY_ITSELF).await?;
    w.deploy("errors").await?;
    let status = w.done("Degraded").await?;
    expect_reasons(&status, &["AttemptStarted", "RolledBack"])?;
    ensure(
        status.stable_revision != status.current_revision,
        "the old revision is stable",
    )?;
    w.served_by("v1").await?;
    w.farewell().await?;
    Ok(())
}

/// Aborted when all pods are new.
pub async fn rolling_aborted(lab: Arc<Lab>) -> Result {
    let mut w = world(lab, "roll-abort", HELD).await?;
    w.deploy("v2").await?;
    let status = replaced(&w).await?;
    w.annotate(&[("abort", &format!("{}/1", hash(&status)))])
        .await?;
    let status = w.done("Degraded").await?;
    expect_reasons(&status, &["AttemptStarted", "Aborted"])?;
    w.served_by("v1").await?;
    w.farewell().await?;
    Ok(())
}

/// A newer template while the last one is judged.
pub async fn rolling_superseded(lab: Arc<Lab>) -> Result {
    let mut w = world(lab, "roll-supersede", HELD).await?;
    w.deploy("v2").await?;
    replaced(&w).await?;
    w.deploy("v3").await?;
    let status = replaced(&w).await?;
    expect_reasons(&status, &["AttemptStarted", "Superseded", "AttemptStarted"])?;
    w.annotate(&[("promote-full", &format!("{}/1", hash(&status)))])
        .await?;
    w.done("Healthy").await?;
    w.served_by("v3").await?;
    w.farewell().await?;
    Ok(())
}

/// The controller is killed while pods are replaced, while it judges, and on the way back.
pub async fn rolling_killed(lab: Arc<Lab>) -> Result {
    let mut w = world(lab, "roll-killed", HELD).await?;
    for (n, wanted) in ["replacing", "judging", "RollingBack"]
        .into_iter()
        .enumerate()
    {
        w.deploy(&format!("v{}", n + 2)).await?;
        let status = match wanted {
            "replacing" => w.step(0).await?,
            _ => replaced(&w).await?,
        };
        let (attempt, hash) = (status.attempt.as_ref().map(|a| a.number), hash(&status));
        if wanted == "RollingBack" {
            w.annotate(&[("abort", &format!("{hash}/1"))]).await?;
            w.until("the way back", |s| {
                s.attempt.as_ref().is_some_and(|a| a.hash == hash)
                    && ["RollingBack", "Done"].contains(&stage(s))
            })
            .await?;
        }
        w.kill_serin().await?;
        w.start_serin()?;
        let end = if wanted == "RollingBack" {
            "Degraded"
        } else {
            replaced(&w).await?;
            w.annotate(&[("promote-full", &format!("{hash}/1"))])
                .await?;
            "Healthy"
        };
        let status = w.done(end).await?;
        ensure(
            status.attempt.as_ref().map(|a| a.number) == attempt,
            format!("killed while {wanted}: it is still the same attempt"),
        )?;
    }
    w.farewell().await?;
    Ok(())
}
