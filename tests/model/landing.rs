//! An action reaches the world: it is carried out as the API server would, or refused.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use serin::{
    api::names::{DECISION, POD_TEMPLATE_HASH},
    model::{
        object::{ObjectRef, annotation_number},
        plan::Action,
    },
};

use crate::{
    flight::{Effect, Seen, object},
    laws,
    world::{Case, NOW, Rev, Role, Route, Run, Set, State, share},
};

/// Carries an action out. What it breaks; or none where it is refused. Whoever decided on it, and
/// whoever has something under way, learns what Serin wrote.
pub fn land(
    case: &Case,
    state: &mut State,
    effect: &Effect,
    seen: &mut Seen,
) -> Option<Vec<String>> {
    let action = &*effect.action.value;
    if effect.stale || state.gone {
        return None;
    }
    let mut broken = vec![];
    let before = state.clone();
    let done = match action {
        Action::Create { object, value } => create(case, state, object, value),
        Action::Patch { target, operations } => {
            patch(case, state, &target.object, operations, &mut broken)
        }
        Action::Scale {
            target,
            replicas,
            decision,
            ..
        } => scale(case, state, &target.object.name, *replicas, *decision),
        Action::Delete { target } => delete(case, state, &target.object, &mut broken),
        Action::Claim => {
            state.claimed = true;
            true
        }
        Action::Release => {
            state.claimed = false;
            state.gone |= state.deleting;
            true
        }
    };
    if !done {
        return None;
    }
    let (kind, name) = object(action);
    touch(state, kind, name);
    laws::landed(case, &before, state, action, seen, &mut broken);
    let mut others = [state.flight.take(), state.late.take()];
    for other in others.iter_mut().flatten() {
        other.seen.learn(case, &before, state);
    }
    [state.flight, state.late] = others;
    seen.learn(case, &before, state);
    for (version, to) in laws::resized(&before, state) {
        seen.desired[version] = to;
    }
    Some(broken)
}

/// An object has changed: what is under way for it will be refused.
pub fn touch(state: &mut State, kind: &str, name: &str) {
    for flight in [&mut state.flight, &mut state.late].into_iter().flatten() {
        flight.touch(kind, name);
    }
}

fn version_in(case: &Case, name: &str) -> Option<usize> {
    case.version(name.strip_prefix("app-")?)
}

fn create(case: &Case, state: &mut State, object: &ObjectRef, value: &Value) -> bool {
    let text = |path: &str| value.pointer(path).and_then(Value::as_str);
    let number = annotation_number(value, DECISION);
    match object.kind.kind {
        "ControllerRevision" => {
            let Some(version) = version_in(case, &object.name) else {
                return false;
            };
            if !state.revisions.iter().any(|r| r.version == version) {
                state.revisions.push(Rev {
                    version,
                    verdict: String::new(),
                    over: None,
                    set: None,
                });
            }
        }
        "ReplicaSet" => {
            let version = version_in(case, &object.name);
            let rev = state
                .revisions
                .iter_mut()
                .find(|r| Some(r.version) == version);
            let Some(rev) = rev else { return false };
            let desired = value.pointer("/spec/replicas").and_then(Value::as_u64);
            rev.set.get_or_insert(Set {
                desired: desired.and_then(|n| u8::try_from(n).ok()).unwrap_or(0),
                ready: 0,
                decision: number,
                seen: false,
            });
        }
        "Service" => {
            let Some(index) = case.role(&object.name) else {
                return false;
            };
            let hash = value
                .pointer("/spec/selector")
                .and_then(|s| s.get(POD_TEMPLATE_HASH));
            let Some(selects) = hash.and_then(|h| case.version(h.as_str()?)) else {
                return false;
            };
            state.roles[index].get_or_insert(Role {
                selects,
                decision: number,
                behind: 1 << selects,
            });
        }
        _ => {
            if state.runs.iter().any(|r| r.name == object.name) {
                return true;
            }
            let start = text("/spec/start").and_then(|t| t.parse::<Timestamp>().ok());
            state.runs.push(Run {
                name: object.name.clone(),
                version: case
                    .version(text("/spec/revision").unwrap_or_default())
                    .unwrap_or(0),
                attempt: value
                    .pointer("/spec/attempt")
                    .and_then(Value::as_i64)
                    .unwrap_or(0),
                step: text("/spec/step").unwrap_or_default().to_owned(),
                age: start.map_or(0, |t| NOW - t.as_second()),
                ended: 0,
                phase: "Running",
            });
        }
    }
    true
}

/// Applies a patch to an object's JSON; none where it does not fit.
fn applied(mut value: Value, operations: &[Value]) -> Option<Value> {
    let patch: json_patch::Patch =
        serde_json::from_value(Value::Array(operations.to_vec())).ok()?;
    json_patch::patch(&mut value, &patch).ok()?;
    Some(value)
}

fn patch(
    case: &Case,
    state: &mut State,
    object: &ObjectRef,
    operations: &[Value],
    broken: &mut Vec<String>,
) -> bool {
    match object.kind.kind {
        "HTTPRoute" => route(case, state, operations, broken),
        "Service" => service(case, state, &object.name, operations, broken),
        "ReplicaSet" => {
            let decision = operations.iter().find_map(|o| {
                let ours = o.get("path")?.as_str()?.ends_with("/serin.dev~1decision");
                ours.then(|| o.get("value")?.as_str()?.parse::<i64>().ok())?
            });
            let set = version_in(case, &object.name).and_then(|v| state.set_mut(v));
            let (Some(set), Some(decision)) = (set, decision) else {
                return false;
            };
            set.decision = decision;
            true
        }
        "ControllerRevision" => {
            let version = version_in(case, &object.name);
            let Some(at) = state
                .revisions
                .iter()
                .position(|r| Some(r.version) == version)
            else {
                return false;
            };
            let Some(new) = applied(case.record(&state.revisions[at]), operations) else {
                return false;
            };
            let verdict = new.pointer("/metadata/annotations/serin.dev~1verdict");
            verdict
                .and_then(Value::as_str)
                .unwrap_or_default()
                .clone_into(&mut state.revisions[at].verdict);
            let over = new.pointer("/metadata/annotations/serin.dev~1pinned-over");
            state.revisions[at].over = over.and_then(|h| case.version(h.as_str()?));
            true
        }
        "Rollout" => {
            for operation in operations {
                let path = operation.get("path").and_then(Value::as_str);
                let verb = path.and_then(|p| p.rsplit_once("~1")).map(|(_, v)| v);
                state.commands.retain(|v, _| Some(*v) != verb);
            }
            true
        }
        _ => {
            let run = state.runs.iter_mut().find(|r| r.name == object.name);
            let Some(run) = run else { return false };
            if run.phase == "Running" {
                run.phase = "Terminated";
            }
            true
        }
    }
}

fn route(case: &Case, state: &mut State, operations: &[Value], broken: &mut Vec<String>) -> bool {
    let Some(old) = state.route.clone() else {
        return false;
    };
    let live = case.route(&old);
    let Some(new) = applied(live.clone(), operations) else {
        return false;
    };
    let weight = |i: usize| {
        let found = new.pointer(&format!("/spec/rules/0/backendRefs/{i}/weight"));
        found.and_then(|w| u32::try_from(w.as_u64()?).ok())
    };
    let (Some(stable), Some(canary)) = (weight(0), weight(1)) else {
        broken.push("S2: a weight is no number".into());
        return true;
    };
    let written = Route {
        weights: (stable, canary),
        decision: annotation_number(&new, DECISION),
        accepted: old.accepted && (stable, canary) == old.weights,
    };
    // S9: nothing but its weights and our number has changed.
    let mut mine = case.route(&Route {
        accepted: old.accepted,
        ..written.clone()
    });
    if let (Some(slot), Some(status)) = (mine.get_mut("status"), live.get("status")) {
        slot.clone_from(status);
    }
    if mine != new {
        broken.push(format!(
            "S9: a foreign field of the route is changed: {new}"
        ));
    }
    set_route(state, written);
    true
}

/// The route has other weights from now on; the data plane may still serve the old ones.
pub fn set_route(state: &mut State, route: Route) {
    let share = share(route.weights);
    state.flow = (state.flow.0.min(share), state.flow.1.max(share));
    if state
        .route
        .as_ref()
        .is_some_and(|old| old.weights != route.weights)
    {
        // Its generation grows: what was accepted so far was an earlier one.
        let mut status = (*state.status.value).clone();
        if let Some(traffic) = &mut status.traffic {
            traffic.generations = Some("earlier".into());
        }
        state.status.value = Arc::new(status);
    }
    state.route = Some(route);
}

fn service(
    case: &Case,
    state: &mut State,
    name: &str,
    operations: &[Value],
    broken: &mut Vec<String>,
) -> bool {
    let Some(index) = case.role(name) else {
        return false;
    };
    let Some(old) = state.roles[index].clone() else {
        return false;
    };
    let Some(new) = applied(case.service(index, &old), operations) else {
        return false;
    };
    let hash = new
        .pointer("/spec/selector")
        .and_then(|s| s.get(POD_TEMPLATE_HASH)?.as_str());
    let Some(selects) = hash.and_then(|h| case.version(h)) else {
        broken.push(format!("S7: Service {name} selects no revision: {hash:?}"));
        return true;
    };
    let role = Role {
        selects,
        decision: annotation_number(&new, DECISION),
        behind: old.behind | (1 << selects),
    };
    if case.service(index, &role) != new {
        broken.push(format!(
            "S9: another field of Service {name} is changed: {new}"
        ));
    }
    state.roles[index] = Some(role);
    true
}

fn scale(case: &Case, state: &mut State, name: &str, replicas: u32, decision: i64) -> bool {
    let set = version_in(case, name).and_then(|v| state.set_mut(v));
    let Some(set) = set else { return false };
    let desired = u8::try_from(replicas).unwrap_or(u8::MAX);
    set.seen &= desired == set.desired;
    set.desired = desired;
    // Those that are not ready go first.
    set.ready = set.ready.min(set.desired);
    set.decision = decision;
    true
}

fn delete(case: &Case, state: &mut State, object: &ObjectRef, broken: &mut Vec<String>) -> bool {
    if object.kind.kind == "AnalysisRun" {
        state.runs.retain(|r| r.name != object.name);
        return true;
    }
    let Some(version) = version_in(case, &object.name) else {
        return false;
    };
    let Some(at) = state.revisions.iter().position(|r| r.version == version) else {
        return false;
    };
    let used = state.roles.iter().flatten().any(|r| r.selects == version);
    if used || state.set(version).is_some_and(|s| s.desired > 0) {
        broken.push(format!("S26: v{version} is deleted while it is used"));
    }
    if object.kind.kind == "ReplicaSet" {
        state.revisions[at].set = None;
    } else {
        state.revisions.remove(at);
    }
    true
}
