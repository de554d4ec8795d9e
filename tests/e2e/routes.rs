//! Routes of other kinds than HTTP, and of several kinds at once.

use std::sync::Arc;

use serde_json::{Value, json};
use serin_lab::Lab;

use crate::world::{LIMIT, Result, Setup, World, ensure, hash};

/// Connections through a TCPRoute are split, all of them promoted, and taken back by an abort; none
/// is cut or refused.
pub async fn tcp_route(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        routes: &["TCPRoute"],
        ..Setup::default()
    };
    let mut w = World::new(lab, "tcp", setup).await?;
    w.deploy("v2").await?;
    let status = w.step(3).await?;
    // In force: so says the step before.
    let since = w.load().now();
    let window = w
        .lab
        .until("answers at half", LIMIT, || async {
            let window = w.load().window(since, true);
            (window.answers() >= 100).then_some(window)
        })
        .await?;
    let share = window.share("v2").unwrap_or_default();
    println!("{share:.2} of {} connections at 50 %", window.answers());
    // By chance once in a million runs.
    ensure(
        (0.25..=0.75).contains(&share),
        format!("a share of {share}"),
    )?;
    w.annotate(&[("promote", &format!("{}@wait/1", hash(&status)))])
        .await?;
    w.done("Healthy").await?;
    w.served_by("v2").await?;

    w.deploy("v3").await?;
    let status = w.step(3).await?;
    w.served_by("v3").await?;
    w.annotate(&[("abort", &format!("{}@wait/1", hash(&status)))])
        .await?;
    w.done("Degraded").await?;
    let report = w.farewell().await?;
    println!("{} connections", report.sent);
    ensure(
        ["v1", "v2", "v3"].iter().all(|v| report.of(v).all() > 0),
        "all versions served",
    )
}

/// The weights of a kind's route `app`, and whether its newest generation was accepted.
async fn weights(w: &World, kind: &str) -> Result<(Value, bool)> {
    let route = serde_json::to_value(w.routes_of(kind).get("app").await?)?;
    let refs = route.pointer("/spec/rules/0/backendRefs");
    let weights = refs.and_then(Value::as_array).into_iter().flatten();
    let conditions = route.pointer("/status/parents/0/conditions");
    let conditions = conditions.and_then(Value::as_array);
    let accepted = conditions.into_iter().flatten().all(|c| {
        c["status"] == "True" && c["observedGeneration"] == route["metadata"]["generation"]
    });
    let accepted = accepted && conditions.is_some_and(|c| !c.is_empty());
    Ok((weights.map(|r| r["weight"].clone()).collect(), accepted))
}

/// A GRPCRoute and a TLSRoute beside an HTTPRoute: they have one weight, and a step is passed only where
/// the gateway has accepted all of them.
pub async fn routes_of_several_kinds(lab: Arc<Lab>) -> Result {
    let kinds: &[&str] = &["HTTPRoute", "GRPCRoute", "TLSRoute"];
    let setup = Setup {
        routes: kinds,
        ..Setup::default()
    };
    let mut w = World::new(lab, "kinds", setup).await?;
    w.deploy("v2").await?;
    let status = w.step(3).await?;
    for kind in kinds {
        let found = weights(&w, kind).await?;
        ensure(
            found == (json!([50, 50]), true),
            format!("{kind} at half: {found:?}"),
        )?;
    }
    w.annotate(&[("promote", &format!("{}@wait/1", hash(&status)))])
        .await?;
    w.done("Healthy").await?;
    for kind in kinds {
        let found = weights(&w, kind).await?;
        ensure(
            found == (json!([100, 0]), true),
            format!("{kind} at rest: {found:?}"),
        )?;
    }
    w.farewell().await?;
    Ok(())
}
