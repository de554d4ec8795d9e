//! What goes wrong around it: the controller dies, the route is changed, the data plane is slow.

use std::{sync::Arc, time::Duration};

use kube::api::{Patch, PatchParams};
use serde_json::json;
use serin_lab::{AuditEntry, Lab};

use crate::world::{LIMIT, Result, Setup, World, ensure, expect_reasons, hash, stage};

/// The controller is killed in a stage; another one goes on where it was, and users notice nothing.
async fn killed_in(lab: Arc<Lab>, wanted: &'static str) -> Result {
    let name = format!("killed-{}", wanted.to_lowercase());
    let mut w = World::new(lab, &name, Setup::default()).await?;
    w.deploy("v2").await?;
    if matches!(
        wanted,
        "Promoting" | "Switching" | "Returning" | "RollingBack"
    ) {
        let status = w.step(3).await?;
        let token = format!("{}/1", hash(&status));
        w.annotate(&[if wanted == "RollingBack" {
            ("abort", token.as_str())
        } else {
            ("promote", token.as_str())
        }])
        .await?;
    }
    // Some stages are passed within a moment; what matters is that the kill comes after them.
    let next = match wanted {
        "Starting" => "Stepping",
        "RollingBack" => "Done",
        _ => wanted,
    };
    let there = |s: &serin::api::RolloutStatus| {
        let second = s.attempt.as_ref().is_some_and(|a| a.number == 2);
        second && [wanted, next].contains(&stage(s))
    };
    let status = w.until(wanted, there).await?;
    let attempt = status.attempt.as_ref().map(|a| a.number);
    w.kill_serin().await?;
    w.start_serin()?;
    let status = if wanted == "RollingBack" {
        w.done("Degraded").await?
    } else {
        if matches!(wanted, "Starting" | "Stepping") {
            let status = w.step(3).await?;
            w.annotate(&[("promote", &format!("{}/1", hash(&status)))])
                .await?;
        }
        w.done("Healthy").await?
    };
    ensure(
        status.attempt.as_ref().map(|a| a.number) == attempt,
        "it is still the same attempt",
    )?;
    let promoted = status
        .history
        .iter()
        .filter(|h| h.reason == "Promoted")
        .count();
    ensure(
        promoted == usize::from(wanted != "RollingBack"),
        format!("promoted {promoted} times"),
    )?;
    w.farewell().await?;
    Ok(())
}

pub async fn killed_in_starting(lab: Arc<Lab>) -> Result {
    killed_in(lab, "Starting").await
}
pub async fn killed_in_stepping(lab: Arc<Lab>) -> Result {
    killed_in(lab, "Stepping").await
}
pub async fn killed_in_promoting(lab: Arc<Lab>) -> Result {
    killed_in(lab, "Promoting").await
}
pub async fn killed_in_switching(lab: Arc<Lab>) -> Result {
    killed_in(lab, "Switching").await
}
pub async fn killed_in_returning(lab: Arc<Lab>) -> Result {
    killed_in(lab, "Returning").await
}
pub async fn killed_in_rolling_back(lab: Arc<Lab>) -> Result {
    killed_in(lab, "RollingBack").await
}

/// SIGTERM hands the lease over: the next controller need not wait for it to run out.
pub async fn handed_over(lab: Arc<Lab>) -> Result {
    let mut w = World::new(lab, "handed-over", Setup::default()).await?;
    w.deploy("v2").await?;
    w.step(1).await?;
    let code = w.stop_serin().await?;
    ensure(code == Some(0), format!("it ends with {code:?}"))?;
    let lease = w
        .lab
        .kubectl(&[
            "-n",
            &w.namespace,
            "get",
            "lease",
            "serin-controller",
            "-o",
            "jsonpath={.spec.holderIdentity}",
        ])
        .await?;
    ensure(
        lease.trim().is_empty(),
        format!("the lease is still held by {lease:?}"),
    )?;
    w.start_serin()?;
    w.step(3).await?;
    w.farewell().await?;
    Ok(())
}

/// A status that is lost, as after a restore from a backup, is rebuilt; nothing is deployed anew.
pub async fn lost_status(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        drains: true, // The attempt begins anew with more pods than its first weight needs.
        ..Setup::default()
    };
    let mut w = World::new(lab, "lost-status", setup).await?;
    w.deploy("v2").await?;
    let before = w.step(3).await?;
    w.stop_serin().await?;
    let lost = json!({"status": null});
    w.rollouts()
        .patch_status("app", &PatchParams::default(), &Patch::Merge(lost))
        .await?;
    w.start_serin()?;
    let status = w.step(3).await?;
    expect_reasons(&status, &["StatusRebuilt", "AttemptStarted"])?;
    ensure(
        status.stable_revision == before.stable_revision,
        "stable is still v1",
    )?;
    w.farewell().await?;
    Ok(())
}

/// Somebody else raises the weight: it is put right.
pub async fn foreign_weight(lab: Arc<Lab>) -> Result {
    let mut w = World::new(
        lab,
        "foreign",
        Setup {
            steps: "[{setWeight: 20}, {pause: {}}]",
            ..Setup::default()
        },
    )
    .await?;
    w.deploy("v2").await?;
    w.step(1).await?;
    let patch = json!([
        {"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 10},
        {"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 90},
    ]);
    let patch: json_patch::Patch = serde_json::from_value(patch)?;
    w.routes()
        .patch("app", &PatchParams::default(), &Patch::Json::<()>(patch))
        .await?;
    let status = w
        .until("the repair", |s| {
            s.history.iter().any(|h| h.reason == "RouteRepaired")
                && s.weight.as_deref() == Some("20")
        })
        .await?;
    ensure(
        status.attempt.as_ref().is_some_and(|a| a.step_index == 1),
        "the step is the same",
    )?;
    w.farewell().await?;
    Ok(())
}

/// Twenty resyncs of a healthy Rollout: the API server's audit log has not one write of ours.
pub async fn resyncs_write_nothing(lab: Arc<Lab>) -> Result {
    let mut w = World::new(lab, "resync", Setup::default()).await?;
    w.deploy("v2").await?;
    let status = w.step(3).await?;
    w.annotate(&[("promote", &format!("{}/1", hash(&status)))])
        .await?;
    w.done("Healthy").await?;
    // The pods of the old revision take a while to go, and are counted as long as they are there.
    let quiet = |s: &serin::api::RolloutStatus| {
        s.replicas == 3
            && s.available_replicas == 3
            && s.decision.as_ref().map(|d| d.told) == s.history.iter().map(|h| h.number).max()
    };
    w.until("the old pods to be gone and everything to be told", quiet)
        .await?;
    let user = format!("system:serviceaccount:{}:serin", w.namespace);
    // A line of the log may follow what a watch tells: only when a request came in tells what was first.
    let namespace = w.namespace.clone();
    let looks = |lab: &Lab| -> Result<Vec<String>> {
        let ours = |e: &AuditEntry| {
            e.user != user && e.verb == "patch" && e.namespace == namespace && e.name == "app"
        };
        let all = lab.audit()?.into_iter();
        let ours = all.filter(|e| ours(e) && e.resource == "rollouts" && e.subresource.is_empty());
        Ok(ours.map(|e| e.received).collect())
    };
    let port = w.serin.as_ref().map_or(0, |s| s.port);
    let rounds = || async {
        let text = reqwest::get(format!("http://127.0.0.1:{port}/metrics"))
            .await
            .ok()?
            .text()
            .await
            .ok()?;
        text.lines()
            .filter(|l| {
                l.starts_with("serin_reconcile_duration_seconds_count") && l.contains("rollout")
            })
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .reduce(|a, b| a + b)
    };
    let before = rounds().await.ok_or("no reconcile count in /metrics")?;
    let looked = looks(&w.lab)?.len();
    // A label that means nothing makes it look again.
    for n in 0..20 {
        let seen = rounds().await.ok_or("no reconcile count in /metrics")?;
        w.patch(json!({"metadata": {"annotations": {"example.com/look": n.to_string()}}}))
            .await?;
        w.lab
            .until("another round", LIMIT, || async {
                (rounds().await? > seen).then_some(())
            })
            .await?;
    }
    let rounds = rounds().await.ok_or("no reconcile count in /metrics")? - before;
    ensure(rounds >= 20.0, format!("{rounds} rounds"))?;
    let from = w
        .lab
        .until("the looks to be in the audit log", LIMIT, || async {
            let all = looks(&w.lab).ok()?;
            (all.len() >= looked + 20).then(|| all.get(looked).cloned())?
        })
        .await?;
    let writes: Vec<AuditEntry> = (w.lab.audit()?.into_iter())
        .filter(|e| e.user == user && e.is_write() && e.resource != "leases")
        .collect();
    let new: Vec<String> = (writes.iter())
        .filter(|e| e.received > from)
        .map(|e| format!("{} {}/{} {}", e.verb, e.resource, e.name, e.code))
        .collect();
    ensure(
        writes.len() > new.len(),
        "the audit log has our earlier writes",
    )?;
    ensure(new.is_empty(), format!("it wrote: {new:?}"))?;
    w.farewell().await?;
    Ok(())
}

/// The data plane lags 20 s behind every acceptance; a propagation delay that says so keeps users
/// from noticing a supersession, a promotion and an abort.
pub async fn slow_data_plane(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        propagation_delay: "25s",
        deadline: 120,
        steps: "[{setWeight: 20}, {pause: {}}]",
        ..Setup::default()
    };
    let mut w = World::new(lab, "slow-plane", setup).await?;
    let held = Duration::from_secs(20);
    w.deploy("v2").await?;
    w.step(1).await?;
    w.lab.hold_data_plane_for(held)?;
    w.deploy("v3").await?;
    let status = w.step(1).await?;
    w.served_by("v3").await?;
    w.lab.hold_data_plane_for(held)?;
    w.annotate(&[("promote", &format!("{}/1", hash(&status)))])
        .await?;
    for next in ["Switching", "Returning"] {
        w.until(next, |s| stage(s) == next).await?;
        w.lab.hold_data_plane_for(held)?;
    }
    w.done("Healthy").await?;
    w.deploy("v4").await?;
    w.step(1).await?;
    w.served_by("v4").await?;
    w.lab.hold_data_plane_for(held)?;
    w.annotate(&[("abort", "now")]).await?;
    w.done("Degraded").await?;
    w.farewell().await?;
    Ok(())
}
