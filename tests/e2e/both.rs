//! The same scenarios in the lab and on the virtual cluster: they must come to the same decisions in
//! the same order.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, future::try_join_all};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use serin::{
    api::status::HistoryEntry,
    sim::{Scenario, Simulation, holds},
};
use serin_lab::Lab;
use tokio::sync::watch;

use crate::world::{LIMIT, Result, Setup, World, ensure};

pub async fn the_same_on_both(lab: Arc<Lab>) -> Result {
    let mut paths: Vec<_> =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios"))?
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
            .collect();
    paths.sort();
    let mut played = 0;
    let mut all = vec![];
    for path in paths {
        let scenario: Scenario = serde_saphyr::from_str(&std::fs::read_to_string(&path)?)?;
        if scenario.lab {
            played += 1;
            let name = path
                .file_stem()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            all.push(compare(lab.clone(), name, scenario));
        }
    }
    ensure(played >= 4, format!("only {played} scenarios are for both"))?;
    try_join_all(all).await?;
    Ok(())
}

async fn compare(lab: Arc<Lab>, name: String, scenario: Scenario) -> Result {
    let until = jiff::SignedDuration::try_from(scenario.until.parse()?)?;
    let virtually = Simulation::new(&scenario)?.play(until);
    let versions = virtually
        .cluster
        .pods
        .values()
        .map(|p| (p.hash.clone(), p.version.clone()))
        .collect();
    let virtually = told(&virtually.timeline.history, &versions);
    let (history, versions) = play(lab, &name, &scenario).await?;
    let really = told(&history, &versions);
    ensure(
        virtually == really,
        format!(
            "{name}:\nvirtually:\n  {}\nreally:\n  {}",
            virtually.join("\n  "),
            really.join("\n  ")
        ),
    )
}

/// What the history says, with versions for hashes; of an analysis only that it spoke, since values
/// differ. Old pods go beside what else happens, so that they stand last.
fn told(history: &[HistoryEntry], versions: &BTreeMap<String, String>) -> Vec<String> {
    let (mut gone, mut all): (Vec<String>, Vec<String>) = history
        .iter()
        .map(|h| {
            let mut message = h.message.clone();
            for (hash, version) in versions {
                message = message.replace(hash, version);
            }
            if let Some(at) = message.find("analysis app-") {
                message.truncate(at);
            }
            format!("{}: {message}", h.reason)
        })
        .partition(|line| line.starts_with("ScaledDown"));
    gone.sort();
    all.extend(gone);
    all
}

/// Plays a scenario in the lab; gives its whole history and the versions behind the hashes.
async fn play(
    lab: Arc<Lab>,
    name: &str,
    scenario: &Scenario,
) -> Result<(Vec<HistoryEntry>, BTreeMap<String, String>)> {
    let mut w = World::bare(lab, name, Setup::default()).await?;
    w.start_serin()?;
    w.lab
        .apply_yaml_in(&w.namespace, crate::world::SERVICE)
        .await?;
    w.lab
        .apply_yaml_in(&w.namespace, &w.route_yaml(100, 0))
        .await?;
    for (template, spec) in &scenario.given.templates {
        let object = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate",
            "metadata": {"name": template}, "spec": spec});
        w.lab
            .apply_yaml_in(&w.namespace, &object.to_string())
            .await?;
    }
    let mut spec = scenario.given.spec.clone();
    spec["selector"] = json!({"matchLabels": {"app": "app"}});
    spec["template"] = w.template(&scenario.given.version);
    let rollout = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "app"}, "spec": spec});
    w.lab
        .apply_yaml_in(&w.namespace, &rollout.to_string())
        .await?;
    let (history, following) = follow(&w);
    let mut first = true;
    for event in &scenario.events {
        let when = event
            .when
            .clone()
            .ok_or("in the lab an event has a `when`")?;
        let status = w.until(&when, |s| holds(s, &when)).await?;
        if first {
            w.first_answer().await?;
            w.start_load()?;
            first = false;
        }
        if let Some(version) = &event.version {
            w.deploy(version).await?;
        }
        let canary = status.attempt.map(|a| a.hash).unwrap_or_default();
        let pairs: Vec<(String, String)> = event
            .annotate
            .iter()
            .map(|(k, v)| (k.replace("serin.dev/", ""), v.replace("$canary", &canary)))
            .collect();
        if !pairs.is_empty() {
            w.annotate(
                &pairs
                    .iter()
                    .map(|(k, v)| (k.as_str(), v.as_str()))
                    .collect::<Vec<_>>(),
            )
            .await?;
        }
    }
    let end = w
        .done(scenario.expect.phase.as_deref().unwrap_or("Healthy"))
        .await?;
    let last = end.history.last().map_or(0, |h| h.number);
    let mut seen = history.clone();
    w.lab
        .within(
            "the whole history",
            LIMIT,
            seen.wait_for(|h| h.last_key_value().is_some_and(|(n, _)| *n >= last)),
        )
        .await??;
    following.abort();
    w.farewell().await?;
    let revisions: Api<ControllerRevision> = Api::namespaced(w.lab.client(), &w.namespace);
    let versions = revisions
        .list(&kube::api::ListParams::default())
        .await?
        .items
        .into_iter()
        .filter_map(|r| {
            let hash = r.metadata.name?.strip_prefix("app-")?.to_owned();
            let data = serde_json::to_value(r.data?).ok()?;
            let image = data
                .pointer("/template/spec/containers/0/image")
                .and_then(Value::as_str)?
                .to_owned();
            Some((hash, image.rsplit(':').next()?.to_owned()))
        })
        .collect();
    let history = history.borrow().values().cloned().collect();
    Ok((history, versions))
}

type History = BTreeMap<i64, HistoryEntry>;

/// Collects every entry of the history, also those that the status forgets.
fn follow(w: &World) -> (watch::Receiver<History>, tokio::task::JoinHandle<()>) {
    let (tell, told) = watch::channel(History::new());
    let changes = watcher(w.rollouts(), watcher::Config::default())
        .default_backoff()
        .applied_objects();
    let task = tokio::spawn(async move {
        let mut changes = std::pin::pin!(changes);
        while let Some(change) = changes.next().await {
            let Some(status) = change.ok().and_then(|r| r.status) else {
                continue;
            };
            tell.send_modify(|all| all.extend(status.history.into_iter().map(|h| (h.number, h))));
        }
    });
    (told, task)
}
