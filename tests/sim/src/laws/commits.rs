//! The laws of decisions: what a status may say after another.

use serde_json::Value;
use serin::sim::expect::STATUS_MAX;

use crate::{
    api::{
        kinds::{REVISION, RUN},
        store::{Past, Path, number, text},
    },
    world::World,
};

use super::{FULL, seen::Seen, writes::need};

/// A Rollout was written.
pub fn rollout(world: &World, past: &Past, seen: &Seen, truth: &Seen, broken: &mut Vec<String>) {
    let Some(old) = &past.old else {
        broken.push("S26: a Rollout is made".into());
        return;
    };
    let Some(new) = &past.new else {
        released(world, broken);
        return;
    };
    if old["spec"] != new["spec"] {
        broken.push("S26: the spec of a Rollout is written".into());
    }
    if old["status"] == new["status"] {
        if held(old) && !held(new) {
            released(world, broken);
        }
        return;
    }
    if new["status"].to_string().len() > STATUS_MAX {
        broken.push("S28: a status of more than 32 KiB".into());
    }
    attempt(world, old, new, seen, truth, broken);
    stable(world, old, new, seen, truth, broken);
}

fn held(rollout: &Value) -> bool {
    let finalizers = rollout["metadata"]["finalizers"].as_array();
    finalizers.is_some_and(|f| f.iter().any(|f| f == "serin.dev/route"))
}

/// S29: the finalizer goes when nothing is bent.
fn released(world: &World, broken: &mut Vec<String>) {
    let (_, high) = world.nature.force.flow;
    if world.share().is_some() && high > 0 && !world.bent_by_somebody() && world.laws.case.routed {
        broken.push(format!(
            "S29: the finalizer is taken off, and a share of {high} may go to the canary"
        ));
    }
}

fn gave_up(rollout: &Value) -> bool {
    let outcome = text(rollout, "/status/attempt/outcome");
    !outcome.is_empty() && outcome != "Promoted"
}

/// The promotions by hand that are remembered.
fn by_hand(rollout: &Value) -> Vec<&Value> {
    let commands = rollout["status"]["commands"]
        .as_array()
        .into_iter()
        .flatten();
    let promoted = |c: &&Value| {
        text(c, "/name").starts_with("promote")
            && matches!(text(c, "/outcome"), "Done" | "Removing")
    };
    commands.filter(promoted).collect()
}

fn attempt(
    world: &World,
    old: &Value,
    new: &Value,
    seen: &Seen,
    truth: &Seen,
    broken: &mut Vec<String>,
) {
    let number_of = |r: &Value| number(r, "/status/attempt/number");
    if number_of(new) < number_of(old) && !old["status"]["attempt"].is_null() {
        broken.push(format!(
            "S15: attempt {} follows on {}",
            number_of(new),
            number_of(old)
        ));
    }
    if number_of(new) != number_of(old) || old["status"]["attempt"].is_null() {
        return;
    }
    if gave_up(old) && !gave_up(new) {
        broken.push("S18: what was given up goes on".into());
    }
    let promoted = text(old, "/status/attempt/outcome") == "Promoted";
    if promoted && gave_up(new) && old["status"]["bake"].is_null() {
        broken.push("S15: what was promoted is given up".into());
    }
    let index = |r: &Value| usize::try_from(number(r, "/status/attempt/stepIndex")).unwrap_or(0);
    let done = text(new, "/status/attempt/stage") == "Done";
    let promoted = text(new, "/status/attempt/outcome") == "Promoted";
    if index(new) <= index(old) || by_hand(old) != by_hand(new) || done || promoted || gave_up(new)
    {
        return;
    }
    if text(old, "/status/attempt/stage") != "Stepping" {
        return;
    }
    let asked = old["status"]["commands"] != new["status"]["commands"];
    let by_spec = text(old, "/status/pause/message").contains("spec.paused");
    // What an analysis could not say, another run of the step may: S16 asks for it. Another in the background, too.
    let ends = match text(old, "/status/pause/reason") {
        "Analysis" => true,
        "BackgroundAnalysis" => vouched(world),
        _ => by_spec,
    };
    let paused = new["spec"]["paused"] == true || (!ends && !old["status"]["pause"].is_null());
    if paused && !asked {
        broken.push("S21: a step is passed in a pause".into());
    }
    if truth.replicas.1 == 0 && seen.replicas.1 == 0 {
        broken.push("S13: a step is passed where no pods are wanted".into());
    }
    let steps = old["status"]["attempt"]["steps"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for (at, step) in steps.iter().enumerate().take(index(new)).skip(index(old)) {
        passed(world, at, step, new, seen, truth, broken);
    }
}

/// Whether every metric of a run in the background has passed last.
fn vouched(world: &World) -> bool {
    let passes = |m: &Value| {
        let all = m["measurements"].as_array();
        all.and_then(|all| all.last())
            .is_some_and(|l| l["verdict"] == "pass")
    };
    let mut runs = world.store.all(RUN).map(|(_, run)| run);
    runs.any(|run| {
        let results = run["status"]["metricResults"].as_array();
        run["spec"]["step"] == "background"
            && results.is_some_and(|r| !r.is_empty() && r.iter().all(passes))
    })
}

fn passed(
    world: &World,
    at: usize,
    step: &Value,
    new: &Value,
    seen: &Seen,
    truth: &Seen,
    broken: &mut Vec<String>,
) {
    let hash = text(new, "/status/attempt/hash");
    if let Some(weight) = step["setWeight"].as_u64()
        && world.laws.case.routed
    {
        let wanted = u32::try_from(weight).unwrap_or(0) * (FULL / 100);
        let found = world.share();
        // As it was seen, or as it is.
        if found.is_some_and(|f| f != wanted) && seen.share != Some(wanted) {
            broken.push(format!(
                "S3: setWeight {weight} is passed at a share of {found:?}"
            ));
        }
        let needed = need(wanted, seen.replicas.0.min(truth.replicas.0));
        let ready = seen.ready(hash).max(truth.ready(hash));
        if ready < needed {
            broken.push(format!(
                "S5: setWeight {weight} is passed with {ready} pods of {needed}"
            ));
        }
    }
    if step["pause"].is_object() && step["pause"]["duration"].is_null() {
        broken.push("S21: a step that waits for a person is passed".into());
    }
    if step["analysis"].is_object() {
        let mut runs = runs(world, new, at.to_string());
        let proven = runs.any(|run| text(run, "/status/phase") == "Successful");
        if !proven {
            broken.push(format!(
                "S16: the analysis of step {at} is passed without evidence"
            ));
        }
    }
}

/// The runs of an attempt for a step, or in the background.
fn runs<'a>(world: &'a World, rollout: &'a Value, step: String) -> impl Iterator<Item = &'a Value> {
    let attempt = &rollout["status"]["attempt"];
    let all = world.store.all(RUN).map(|(_, run)| &**run);
    all.filter(move |run| {
        text(run, "/spec/revision") == text(attempt, "/hash")
            && run["spec"]["attempt"] == attempt["number"]
            && text(run, "/spec/step") == step
    })
}

/// Whether a revision comes back without steps, since it was promoted a short while ago: by a first
/// deploy, which nothing judges, or by an attempt that this law judged.
fn returns(world: &World, rollout: &Value, hash: &str) -> bool {
    let steps = rollout["status"]["attempt"]["steps"].as_array();
    let window = rollout["spec"]["rollbackWindow"].is_object();
    let record = world.store.get(&Path::new(REVISION, format!("app-{hash}")));
    let promoted = |r: &Value| r["metadata"]["annotations"]["serin.dev/promoted-at"].is_string();
    window && steps.is_none_or(Vec::is_empty) && record.is_some_and(|r| promoted(r))
}

/// Whether a revision is the stable one with fresh pods: what judged that one judged it.
fn restarts(world: &World, rollout: &Value, stable: &str, hash: &str) -> bool {
    let steps = rollout["status"]["attempt"]["steps"].as_array();
    let template = |hash: &str| {
        let record = world
            .store
            .get(&Path::new(REVISION, format!("app-{hash}")))?;
        let mut template = record["data"]["template"].clone();
        let metadata = template["metadata"].as_object_mut()?;
        // The people here write no annotation.
        metadata.remove("annotations");
        Some(template)
    };
    steps.is_none_or(Vec::is_empty) && template(hash) == template(stable)
}

fn stable(
    world: &World,
    old: &Value,
    new: &Value,
    seen: &Seen,
    truth: &Seen,
    broken: &mut Vec<String>,
) {
    let of = |r: &Value| text(r, "/status/stableRevision").to_owned();
    let (before, after) = (of(old), of(new));
    if before.is_empty() || before == after {
        return;
    }
    // A bake that failed leads where it says.
    if gave_up(new) && text(old, "/status/bake/from") == after {
        return;
    }
    if text(new, "/status/attempt/hash") != after || gave_up(new) {
        broken.push(format!(
            "S15: {after} becomes stable, which is not the attempt's"
        ));
    }
    let wanted = seen.replicas.0.min(truth.replicas.0);
    let ready = seen.ready(&after).max(truth.ready(&after));
    if (wanted == 0 && truth.replicas.1 == 0) || ready < wanted {
        broken.push(format!(
            "S13: {after} is promoted with {ready} of {wanted} pods"
        ));
    }
    let found = world.share();
    if world.laws.case.routed && found != Some(FULL) && seen.share != Some(FULL) {
        broken.push(format!("S3: {after} is promoted at a share of {found:?}"));
    }
    // Whoever promotes by hand takes it upon himself.
    let bad = world.health_of(&after) == Some(crate::nature::Health::Bad);
    let again = returns(world, new, &after) || restarts(world, new, &before, &after);
    let judged = world.laws.case.judged && !again;
    if bad && judged && by_hand(new).is_empty() {
        broken.push(format!("S16: {after} is promoted, and its metrics are bad"));
    }
    let background = !new["status"]["attempt"]["analysis"].is_null();
    if background && runs(world, new, "background".into()).next().is_none() {
        broken.push(format!("S16: {after} is promoted, and nothing judged it"));
    }
}
