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

/// What the route's rules are, and what Serin remembers on it.
async fn rules(w: &World) -> Result<(Value, Option<String>)> {
    let route = w.routes().get("app").await?;
    let remembered = route.metadata.annotations.clone().unwrap_or_default();
    let rules = route.data["spec"]["rules"].clone();
    Ok((rules, remembered.get("serin.dev/backends").cloned()))
}

/// A route that names the user's Service alone: the role Services stand in it while a rollout is in flight, and
/// it is as it was after a promotion and after an abort; nobody is turned away on the way in or out.
pub async fn managed_backends(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        lent: true,
        ..Setup::default()
    };
    let mut w = World::new(lab, "lent", setup).await?;
    let before = rules(&w).await?;
    ensure(before.1.is_none(), "nothing is remembered at rest")?;
    for (version, command, end) in [("v2", "promote", "Healthy"), ("v3", "abort", "Degraded")] {
        w.deploy(version).await?;
        let status = w.step(3).await?;
        w.served_by(version).await?;
        let (rules_now, remembered) = rules(&w).await?;
        let refs = rules_now[0]["backendRefs"].as_array().cloned();
        let names: Vec<_> = refs.iter().flatten().map(|r| r["name"].clone()).collect();
        ensure(names == ["app-stable", "app-canary"], format!("{names:?}"))?;
        ensure(remembered.is_some(), "what stood there is remembered")?;
        w.annotate(&[(command, &format!("{}@wait/1", hash(&status)))])
            .await?;
        w.done(end).await?;
        w.lab
            .until("the route to be as it was", LIMIT, || async {
                rules(&w).await.ok().filter(|now| *now == before)
            })
            .await?;
        w.served_by("v2").await?;
    }
    let report = w.farewell().await?;
    println!("{} requests", report.sent);
    Ok(())
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
