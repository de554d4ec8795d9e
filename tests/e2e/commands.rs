//! What people say: abort, undo, restart, promote, pause, resume, retry.

use std::sync::Arc;

use serde_json::json;
use serin::api::RolloutStatus;
use serin_lab::Lab;

use crate::world::{Result, Setup, World, ensure, expect_reasons, hash, phase};

fn outcomes(status: &RolloutStatus) -> Vec<String> {
    status
        .commands
        .iter()
        .map(|c| format!("{} {}", c.name, c.outcome))
        .collect()
}

/// Abort takes anything, works twice with the same plain value, and retry is a way on.
pub async fn abort(lab: Arc<Lab>) -> Result {
    let mut w = World::new(lab, "abort", Setup::default()).await?;
    w.deploy("v2").await?;
    w.step(3).await?;
    w.served_by("v2").await?;
    w.annotate(&[("abort", "now")]).await?;
    let status = w.done("Degraded").await?;
    expect_reasons(&status, &["AttemptStarted", "Aborted"])?;
    w.served_only_by("v1", "v2").await?;
    w.annotate(&[("retry", &format!("{}/1", hash(&status)))])
        .await?;
    w.until("a second attempt", |s| {
        s.attempt.as_ref().is_some_and(|a| a.number == 3)
    })
    .await?;
    w.step(1).await?;
    w.annotate(&[("abort", "now")]).await?;
    let status = w.done("Degraded").await?;
    ensure(
        outcomes(&status) == ["retry Done", "abort Done"],
        format!("{:?}", outcomes(&status)),
    )?;
    w.farewell().await?;
    Ok(())
}

/// Back to what was good before, without steps; the template that stands in the repository is applied again and is not
/// deployed; another one ends it.
pub async fn undo(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: "[{setWeight: 50}, {pause: {duration: 2s}}]",
        ..Setup::default()
    };
    let mut w = World::new(lab, "undo", setup).await?;
    w.patch(json!({"spec": {"rollbackWindow": {"revisions": 1}}}))
        .await?;
    let first = w.status().await?.stable_revision;
    w.deploy("v2").await?;
    let second = w.done("Healthy").await?;
    ensure(
        second.previous_revision == first,
        "the way back is the first revision",
    )?;
    w.annotate(&[("undo", "*/1")]).await?;
    let status = w
        .until("the first revision to be back", |s| {
            s.stable_revision == first && phase(s) == "Healthy"
        })
        .await?;
    ensure(outcomes(&status) == ["undo Done"], "it is done")?;
    expect_reasons(&status, &["Undone", "AttemptStarted", "Promoted"])?;
    ensure(
        status.attempt.is_some_and(|a| a.steps.is_empty()),
        "without steps, by rollbackWindow",
    )?;
    let undo = status.undo.map(|u| (Some(u.revision), Some(u.over)));
    ensure(
        undo == Some((first.clone(), second.stable_revision)),
        format!("{undo:?}"),
    )?;
    // As a GitOps tool does it.
    w.apply_app("v2", 100, 0).await?;
    w.patch(json!({"spec": {"minReadySeconds": 2}})).await?;
    let status = w
        .until("that to be seen", |s| phase(s) == "Healthy")
        .await?;
    ensure(
        status.stable_revision == first && status.undo.is_some(),
        "what Git says is not deployed",
    )?;
    w.served_only_by("v1", "v2").await?;
    w.deploy("v3").await?;
    let status = w.done("Healthy").await?;
    expect_reasons(&status, &["UndoEnded", "AttemptStarted", "Promoted"])?;
    ensure(status.undo.is_none(), "another template has ended it")?;
    w.served_by("v3").await?;
    let report = w.farewell().await?;
    println!("{} requests", report.sent);
    Ok(())
}

/// Fresh pods of the same template take over without steps, with no user turned away; what is applied again is what
/// is there, and another template goes by its steps.
pub async fn restart(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: "[{setWeight: 50}, {pause: {}}]",
        ..Setup::default()
    };
    let mut w = World::new(lab, "restart", setup).await?;
    let first = w.status().await?.stable_revision;
    w.annotate(&[("restart", "*/1")]).await?;
    let status = w
        .until("fresh pods to be stable", |s| {
            s.stable_revision != first && phase(s) == "Healthy"
        })
        .await?;
    ensure(outcomes(&status) == ["restart Done"], "it is done")?;
    expect_reasons(&status, &["Restarted", "AttemptStarted", "Promoted"])?;
    ensure(
        status.attempt.is_some_and(|a| a.steps.is_empty()),
        "without steps",
    )?;
    let fresh = status.stable_revision;
    w.apply_app("v1", 100, 0).await?;
    w.patch(json!({"spec": {"minReadySeconds": 2}})).await?;
    let status = w
        .until("that to be seen", |s| phase(s) == "Healthy")
        .await?;
    ensure(
        status.stable_revision == fresh,
        "the template is that of the fresh pods",
    )?;
    w.deploy("v2").await?;
    let status = w.step(1).await?;
    w.served_by("v2").await?;
    w.annotate(&[("promote", &format!("{}/1", hash(&status)))])
        .await?;
    let status = w.done("Healthy").await?;
    ensure(
        status.stable_revision != fresh,
        "another template is another",
    )?;
    let report = w.farewell().await?;
    println!("{} requests", report.sent);
    Ok(())
}

/// The same token fires once, a stale one does nothing, a value that names nothing is refused with
/// the command to give instead.
pub async fn promote_tokens(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: "[{setWeight: 20}, {name: a, pause: {}}, {name: b, pause: {}}]",
        ..Setup::default()
    };
    let mut w = World::new(lab, "tokens", setup).await?;
    w.deploy("v2").await?;
    let status = w.step(1).await?;
    let canary = hash(&status);
    w.annotate(&[("promote", "true")]).await?;
    let status = w.until("an answer", |s| s.commands.len() == 1).await?;
    let told = status.commands[0].message.clone().unwrap_or_default();
    ensure(
        told.contains(&format!("serin.dev/promote={canary}/")),
        format!("no command to paste in {told:?}"),
    )?;
    w.annotate(&[("promote", "zzzz/1")]).await?;
    w.until("an answer", |s| s.commands.len() == 2).await?;
    w.annotate(&[("promote", &format!("{canary}@a/1"))]).await?;
    w.step(2).await?;
    // It stays in Git and is applied again with a change beside it; nothing comes of it.
    w.annotate(&[("promote", &format!("{canary}@a/1")), ("resume", "zzzz/2")])
        .await?;
    let status = w.until("an answer", |s| s.commands.len() == 4).await?;
    ensure(
        outcomes(&status)
            == [
                "promote Refused",
                "promote Stale",
                "promote Done",
                "resume Stale",
            ],
        format!("{:?}", outcomes(&status)),
    )?;
    ensure(
        status.attempt.as_ref().is_some_and(|a| a.step_index == 2),
        "the token fired once",
    )?;
    w.annotate(&[("promote", &format!("{}@b/1", &canary[..6]))])
        .await?;
    w.done("Healthy").await?;
    w.farewell().await?;
    Ok(())
}

pub async fn abort_and_promote_at_once(lab: Arc<Lab>) -> Result {
    let mut w = World::new(lab, "both", Setup::default()).await?;
    w.deploy("v2").await?;
    let status = w.step(3).await?;
    let token = format!("{}/1", hash(&status));
    w.annotate(&[("abort", &token), ("promote", &token)])
        .await?;
    let status = w.done("Degraded").await?;
    ensure(
        outcomes(&status) == ["abort Done", "promote Superseded"],
        format!("{:?}", outcomes(&status)),
    )?;
    w.farewell().await?;
    Ok(())
}

pub async fn pause_and_resume(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: "[{setWeight: 20}, {pause: {duration: 2s}}, {setWeight: 50}, {pause: {}}]",
        ..Setup::default()
    };
    let mut w = World::new(lab, "pause", setup).await?;
    w.deploy("v2").await?;
    w.until("the attempt", |s| {
        s.attempt.as_ref().is_some_and(|a| a.number == 2)
    })
    .await?;
    w.annotate(&[("pause", "now")]).await?;
    let status = w.until("the pause", |s| s.pause.is_some()).await?;
    let at = status.attempt.as_ref().map(|a| a.step_index);
    // Longer than the step's own pause, as the app's users see it: nobody gets more of the canary.
    let seen = w.load().now();
    w.lab
        .until(
            "users to be served for a while",
            crate::world::LIMIT,
            || async { (w.load().window(seen, true).answers() > 200).then_some(()) },
        )
        .await?;
    let status = w.status().await?;
    ensure(
        status.attempt.as_ref().map(|a| a.step_index) == at,
        "paused means paused",
    )?;
    w.annotate(&[("resume", &format!("{}/1", hash(&status)))])
        .await?;
    let status = w.step(3).await?;
    expect_reasons(&status, &["Paused", "Resumed"])?;
    w.farewell().await?;
    Ok(())
}
