//! Words for a Rollout's parts. Strategies and steps are named by their field, so that one that is
//! new needs no word here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::api::{Rollout, RolloutStatus, status::Attempt, strategy::Step};

/// The name of the command as it was called: `serin`, or `kubectl serin` for the plugin.
pub fn program() -> &'static str {
    let called = std::env::args_os().next().unwrap_or_default();
    let stem = std::path::Path::new(&called).file_stem();
    if stem.is_some_and(|s| s.to_string_lossy().starts_with("kubectl-")) {
        "kubectl serin"
    } else {
        "serin"
    }
}

/// A command to paste, for this Rollout.
pub fn command(program: &str, verb: &str, rollout: &Rollout) -> String {
    let (namespace, name) = (namespace(rollout), name(rollout));
    format!("{program} {verb} {name} -n {namespace}")
}

/// The Rollout's name.
pub fn name(rollout: &Rollout) -> &str {
    rollout.metadata.name.as_deref().unwrap_or_default()
}

/// How many pods it wants; where a Deployment says so, as the status tells of stable.
pub fn wanted(rollout: &Rollout) -> i32 {
    if rollout.spec.workload_ref.is_none() {
        return rollout.spec.replicas;
    }
    let status = rollout.status.as_ref();
    let stable = status.and_then(|s| s.tracks.first());
    stable.map_or(0, |t| t.replicas.desired)
}

/// The Rollout's namespace.
pub fn namespace(rollout: &Rollout) -> &str {
    rollout.metadata.namespace.as_deref().unwrap_or_default()
}

/// The status, or an empty one.
pub fn status(rollout: &Rollout) -> RolloutStatus {
    rollout.status.clone().unwrap_or_default()
}

/// The one field that is set, and what is in it.
fn field(value: &Value) -> Option<(&String, &Value)> {
    value.as_object()?.iter().find(|(_, v)| !v.is_null())
}

/// The strategy and the router, as in `canary, gatewayAPI`.
pub fn strategy(rollout: &Rollout) -> (String, Option<String>) {
    let value = serde_json::to_value(&rollout.spec.strategy).unwrap_or_default();
    let Some((strategy, inside)) = field(&value) else {
        return (String::new(), None);
    };
    let router = inside.get("trafficRouting").and_then(Value::as_object);
    let router = router.and_then(|r| {
        r.iter()
            .find(|(_, v)| v.is_object())
            .map(|(k, _)| k.clone())
    });
    (strategy.clone(), router)
}

/// What a step does, as in `setWeight 20` or `pause 30s`.
pub fn step(step: &Step) -> String {
    let mut value = serde_json::to_value(step).unwrap_or_default();
    let mut take = |field: &str| value.as_object_mut().and_then(|map| map.remove(field));
    let (name, timeout) = (take("name"), take("timeout"));
    let Some((kind, inside)) = field(&value) else {
        return "empty".to_owned();
    };
    let templates = inside.get("templates").and_then(Value::as_array);
    let detail = match (inside, inside.get("duration"), templates) {
        (Value::Number(n), _, _) => n.to_string(),
        (_, Some(duration), _) => duration.as_str().unwrap_or_default().to_owned(),
        (_, _, Some(all)) => {
            let names = all.iter().filter_map(|t| t.get("templateName")?.as_str());
            names.collect::<Vec<_>>().join(", ")
        }
        // One field of an object says it all.
        (Value::Object(_), ..) => {
            field(inside).map_or(String::new(), |(name, value)| match value {
                Value::Bool(_) => name.clone(),
                value => format!("{name} {value}"),
            })
        }
        _ => String::new(),
    };
    let mut what = format!("{kind} {detail}").trim_end().to_owned();
    if let Some(timeout) = timeout.as_ref().and_then(Value::as_str) {
        what.push_str(&format!(", timeout {timeout}"));
    }
    match name.as_ref().and_then(Value::as_str) {
        Some(name) => format!("{name:?}: {what}"),
        None => what,
    }
}

/// The step in progress, as in `2 of 5, "half": setWeight 50`. Steps are counted from 0, as in commands.
pub fn progress(attempt: &Attempt) -> Option<String> {
    let total = attempt.steps.len();
    let index = usize::try_from(attempt.step_index).ok()?;
    if total == 0 {
        return None;
    }
    Some(match attempt.steps.get(index) {
        Some(now) => format!("{index}/{total} {}", step(now)),
        None => format!("{total}/{total} all steps are passed"),
    })
}

/// A verdict is an outcome and its reason, which may be the same word.
pub fn verdict(told: &str) -> &str {
    match told.split_once(": ") {
        Some((outcome, reason)) if outcome == reason => outcome,
        _ => told,
    }
}

/// What a revision is at the moment: its track, and whether it is what is asked for, by an undo or not.
pub fn roles(status: &RolloutStatus, hash: &str) -> Vec<String> {
    let tracks = status.tracks.iter().filter(|t| t.hash == hash);
    let mut roles: Vec<String> = tracks.map(|t| t.name.clone()).collect();
    if status.current_revision.as_deref() == Some(hash) {
        roles.push("current".to_owned());
    }
    if status.undo.as_ref().is_some_and(|u| u.revision == hash) {
        roles.push("undo".to_owned());
    }
    roles
}

/// A point in time, where there is one.
pub fn at(time: Option<&Time>) -> Option<jiff::Timestamp> {
    time.map(|t| t.0)
}
