//! What is kept of the past, and what stands in the way of something new.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use serin::api::AnalysisRun;
use serin_lab::Lab;

use crate::world::{LIMIT, Result, Setup, World, ensure, hash};

/// The steps, with a run in the background for each attempt.
fn measured() -> Setup {
    Setup {
        steps: "[{setWeight: 50}, {pause: {duration: 1s}}]",
        background: true,
        ..Setup::default()
    }
}

fn api<K>(w: &World) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(w.lab.client(), &w.namespace)
}

async fn names<K>(w: &World) -> Result<Vec<String>>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let all = api::<K>(w).list(&ListParams::default()).await?;
    Ok(all.iter().map(ResourceExt::name_any).collect())
}

/// Adds a run of an attempt that has ended long ago.
async fn ended_run(w: &World, like: &AnalysisRun, name: &str, attempt: i64) -> Result {
    let mut run = AnalysisRun {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: like.metadata.labels.clone(),
            owner_references: like.metadata.owner_references.clone(),
            ..ObjectMeta::default()
        },
        spec: like.spec.clone(),
        status: None,
    };
    run.spec.attempt = attempt;
    let runs = api::<AnalysisRun>(w);
    runs.create(&PostParams::default(), &run).await?;
    let status = json!({"status": {"phase": "Successful"}});
    runs.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await?;
    Ok(())
}

/// With `revisionHistoryLimit: 1` one old revision is kept, with its ReplicaSet; of many runs that have ended the
/// oldest go.
pub async fn history_is_trimmed(lab: Arc<Lab>) -> Result {
    let mut w = World::new(lab, "history", measured()).await?;
    w.patch(json!({"spec": {"revisionHistoryLimit": 1}}))
        .await?;
    let mut hashes = vec![];
    for version in ["v2", "v3"] {
        w.deploy(version).await?;
        hashes.push(hash(&w.done("Healthy").await?));
    }
    let [second, third] = hashes.as_slice() else {
        return Err("two revisions were deployed".into());
    };
    let like = api::<AnalysisRun>(&w)
        .get(&format!("app-{second}-2-background"))
        .await?;
    for n in 0..20 {
        ended_run(&w, &like, &format!("old-{n}"), 1).await?;
    }
    for attempt in [5, 6] {
        ended_run(&w, &like, &format!("newer-{attempt}"), attempt).await?;
    }
    w.deploy("v1").await?;
    let last = hash(&w.done("Healthy").await?);
    let of = |list: &[String], hash: &str| list.iter().any(|n| n.contains(hash));
    w.lab
        .until("what is old to go", LIMIT, || async {
            let revisions = names::<ControllerRevision>(&w).await.ok()?;
            let runs = names::<AnalysisRun>(&w).await.ok()?;
            (!of(&revisions, second) && runs.len() == 20).then_some(())
        })
        .await?;
    for (what, list) in [
        ("revisions", names::<ControllerRevision>(&w).await?),
        ("ReplicaSets", names::<ReplicaSet>(&w).await?),
    ] {
        ensure(
            list.len() == 2 && of(&list, third) && of(&list, &last),
            format!("{what}: {list:?}"),
        )?;
    }
    let runs = names::<AnalysisRun>(&w).await?;
    for newest in ["newer-6", second, third, &last] {
        ensure(of(&runs, newest), format!("{newest} is not in {runs:?}"))?;
    }
    w.farewell().await?;
    Ok(())
}

/// Where somebody else's object has the name of an AnalysisRun that is to be made, it is neither taken over nor
/// deleted: the attempt waits, and goes on when it is gone.
pub async fn a_foreign_run_is_waited_for(lab: Arc<Lab>) -> Result {
    let mut w = World::new(lab, "foreign-run", measured()).await?;
    w.deploy("v2").await?;
    let second = hash(&w.done("Healthy").await?);
    let runs = api::<AnalysisRun>(&w);
    let known = runs.get(&format!("app-{second}-2-background")).await?;
    let first = w.status().await?;
    let first = first.history.iter().find_map(|h| {
        let words: Vec<&str> = h.message.split(' ').collect();
        (h.reason == "Deployed").then(|| words.get(1).map(ToString::to_string))?
    });
    let first = first.ok_or("the first deploy is not in the history")?;
    let name = format!("app-{first}-3-background");
    let foreign = AnalysisRun {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        spec: known.spec,
        status: None,
    };
    runs.create(&PostParams::default(), &foreign).await?;
    w.deploy("v1").await?;
    let account = format!("system:serviceaccount:{}:serin", w.namespace);
    w.lab
        .until("a look at the foreign run", LIMIT, || async {
            let all = w.lab.audit().ok()?;
            let looks = |e: &serin_lab::AuditEntry| {
                e.user == account && e.verb == "get" && e.resource == "analysisruns"
            };
            all.iter().any(looks).then_some(())
        })
        .await?;
    let status = w.status().await?;
    ensure(
        status.attempt.as_ref().is_some_and(|a| a.outcome.is_none()),
        "the attempt waits",
    )?;
    let there = runs.get(&name).await?;
    ensure(
        there.metadata.owner_references.is_none() && there.status.is_none(),
        "the foreign run is left alone",
    )?;
    runs.delete(&name, &DeleteParams::default()).await?;
    w.done("Healthy").await?;
    ensure(
        runs.get(&name).await?.metadata.owner_references.is_some(),
        "now it is Serin's",
    )?;
    w.farewell().await?;
    Ok(())
}
