//! A Deployment that becomes a Rollout's, and its own again.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Event, Pod},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;
use serin_lab::Lab;

use crate::{
    app::SERVICE,
    world::{LIMIT, Result, Setup, World, ensure, expect_reasons, hash, phase},
};

fn deployments(w: &World) -> Api<Deployment> {
    Api::namespaced(w.lab.client(), &w.namespace)
}

/// The uids of the pods of a version.
async fn pods(w: &World, version: &str) -> Result<BTreeSet<String>> {
    let pods: Api<Pod> = Api::namespaced(w.lab.client(), &w.namespace);
    let image = format!("lab/app:{version}");
    let pods = pods.list(&ListParams::default().labels("app=app")).await?;
    let of = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        let leaves = pod.metadata.deletion_timestamp.is_some();
        !leaves && spec.is_some_and(|s| s.containers[0].image.as_deref() == Some(&*image))
    };
    let uid = |pod: Pod| pod.metadata.uid;
    Ok(pods.items.into_iter().filter(of).filter_map(uid).collect())
}

/// Awaits that the Deployment is complete by its own account, with three pods.
async fn complete(w: &World) -> Result {
    w.lab
        .until("the Deployment to be complete", LIMIT, || async {
            let found = deployments(w).get("app").await.ok()?;
            let status = found.status?;
            let all = [
                status.replicas,
                status.updated_replicas,
                status.available_replicas,
            ];
            let seen = status.observed_generation >= found.metadata.generation;
            (all == [Some(3); 3] && seen).then_some(())
        })
        .await?;
    Ok(())
}

async fn image(w: &World, version: &str) -> Result {
    Box::pin(change(w, version)).await
}

async fn change(w: &World, version: &str) -> Result {
    let patch = json!({"spec": {"template": w.template(version)}});
    let changed = deployments(w)
        .patch("app", &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    if w.rollouts().get_opt("app").await?.is_some() {
        w.until("it to be seen", |s| {
            s.workload_observed_generation == changed.metadata.generation
        })
        .await?;
    }
    Ok(())
}

async fn gone(w: &World) -> Result {
    w.rollouts().delete("app", &DeleteParams::default()).await?;
    w.lab
        .until("the Rollout to be gone", LIMIT, || async {
            let found = w.rollouts().get_opt("app").await.ok()?;
            found.is_none().then_some(())
        })
        .await?;
    Ok(())
}

async fn rollout(w: &World) -> Result {
    let mut spec = w.spec("v1");
    let fields = spec.as_object_mut().ok_or("a spec is an object")?;
    for field in ["replicas", "selector", "template"] {
        fields.remove(field);
    }
    fields.insert(
        "workloadRef".into(),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"}),
    );
    let rollout = json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "app"}, "spec": spec,
    });
    w.lab
        .apply_yaml_in(&w.namespace, &rollout.to_string())
        .await?;
    w.until("it to be adopted", |s| phase(s) == "Healthy")
        .await?;
    Ok(())
}

/// A Deployment with a Service and a route that names it, under load.
async fn given(lab: Arc<Lab>) -> Result<World> {
    let setup = Setup {
        lent: true,
        ..Setup::default()
    };
    let mut w = World::bare(lab, "adopt", setup).await?;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "app"}}, "template": w.template("v1")},
    });
    let all = format!("{SERVICE}---\n{}---\n{deployment}\n", w.route_yaml(100, 0));
    w.lab.apply_yaml_in(&w.namespace, &all).await?;
    complete(&w).await?;
    w.first_answer().await?;
    w.start_load()?;
    w.start_serin()?;
    Ok(w)
}

/// It is adopted, and v2 is promoted.
async fn released(w: &World) -> Result {
    let first = pods(w, "v1").await?;
    rollout(w).await?;
    ensure(pods(w, "v1").await? == first, "the pods are the same")?;
    let status = w.status().await?;
    expect_reasons(&status, &["Adopted", "Deployed"])?;
    ensure(
        status.selector.as_deref() == Some("app=app"),
        format!("selector {:?}", status.selector),
    )?;
    image(w, "v2").await?;
    let status = w.step(3).await?;
    w.served_by("v2").await?;
    ensure(pods(w, "v1").await? == first, "stable is as it was")?;
    w.annotate(&[("promote", &format!("{}@wait/1", hash(&status)))])
        .await?;
    w.done("Healthy").await?;
    Ok(())
}

/// v3 is aborted, the template is v2 again, and the Deployment is handed back.
async fn handed_back(w: &World) -> Result {
    let before = pods(w, "v2").await?;
    ensure(before.len() == 3, format!("{} pods of v2", before.len()))?;
    image(w, "v3").await?;
    let status = w.step(3).await?;
    w.annotate(&[("abort", &format!("{}@wait/1", hash(&status)))])
        .await?;
    w.done("Degraded").await?;
    image(w, "v2").await?;
    w.until("v2 to be asked for", |s| phase(s) == "Healthy")
        .await?;
    gone(w).await?;
    complete(w).await?;
    ensure(pods(w, "v2").await? == before, "the pods are the same")?;
    let found = deployments(w).get("app").await?;
    let paused = found.spec.as_ref().and_then(|s| s.paused);
    ensure(paused != Some(true), "it is not paused any more")?;
    let marks = found.metadata.annotations.unwrap_or_default();
    let marked = marks.contains_key("serin.dev/adopted-by");
    ensure(!marked, "no mark is left")
}

/// It is adopted again, and handed back in mid-flight: it stays paused, and says so.
async fn left_paused(w: &World) -> Result {
    let before = pods(w, "v2").await?;
    rollout(w).await?;
    image(w, "v3").await?;
    w.step(3).await?;
    gone(w).await?;
    ensure(pods(w, "v2").await? == before, "the pods are the same")?;
    let found = deployments(w).get("app").await?;
    let paused = found.spec.as_ref().and_then(|s| s.paused);
    let why = "its template is another: it stays paused";
    ensure(paused == Some(true), why)?;
    let events: Api<Event> = Api::namespaced(w.lab.client(), &w.namespace);
    w.lab
        .until("the warning", LIMIT, || async {
            let events = events.list(&ListParams::default()).await.ok()?;
            let mut events = events.items.into_iter();
            let told = |e: &Event| {
                e.reason.as_deref() == Some("LeftPaused") && e.type_.as_deref() == Some("Warning")
            };
            events.find(told)
        })
        .await?;
    image(w, "v2").await?;
    let resume = json!({"spec": {"paused": null}});
    deployments(w)
        .patch("app", &PatchParams::default(), &Patch::Merge(resume))
        .await?;
    complete(w).await?;
    ensure(pods(w, "v2").await? == before, "the pods are the same")
}

/// A Deployment with a Service and a route that names it is adopted, released, aborted, handed back, adopted
/// again and handed back in mid-flight: no pod of what is stable is restarted, and no request fails.
pub async fn adopted(lab: Arc<Lab>) -> Result {
    // Each on the heap: all of them together are much for a stack.
    let mut w = Box::pin(given(lab)).await?;
    Box::pin(released(&w)).await?;
    Box::pin(handed_back(&w)).await?;
    Box::pin(left_paused(&w)).await?;
    let report = w.farewell().await?;
    println!("{} requests", report.sent);
    Ok(())
}
