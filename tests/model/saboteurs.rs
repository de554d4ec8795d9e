//! Minds that were made worse on purpose: the search must find out each of them, else it is blind.

use serde_json::{Value, json};
use serin::{
    engine,
    model::{
        observed::Observed,
        plan::{Action, Plan},
        share::FULL,
    },
    sim::cluster::data_plane::accepted,
};

use crate::world::{Case, GENERATION, STABLE, now};

/// A fault of the mind, and the first law by which it may be found out.
pub struct Saboteur {
    pub name: &'static str,
    pub mind: fn(&Case, &Observed) -> Plan,
    /// So many acts of users and so many faults are enough to show it.
    pub budget: (u8, u8),
    pub laws: &'static [&'static str],
}

/// All of them.
pub const ALL: &[Saboteur] = &[
    Saboteur {
        name: "weight to a void",
        mind: void,
        budget: (1, 0),
        laws: &["S1", "S5", "S7", "S12", "S13"],
    },
    Saboteur {
        name: "pods before weights",
        mind: pods_first,
        budget: (1, 0),
        laws: &["S3", "S4", "S7", "S12", "S15"],
    },
    Saboteur {
        name: "remembered instead of read weight",
        mind: remembered,
        budget: (1, 1),
        laws: &["S1", "S3", "S4", "S15", "L1"],
    },
    Saboteur {
        name: "evidence that outlives its step",
        mind: old_evidence,
        budget: (2, 0),
        laws: &["S16"],
    },
    Saboteur {
        name: "a guard cycle",
        mind: guard_cycle,
        budget: (1, 0),
        laws: &["L1"],
    },
];

fn decide(observed: &Observed) -> Plan {
    engine::plan(observed, now())
}

/// Whatever is wanted counts as ready.
fn void(_: &Case, observed: &Observed) -> Plan {
    let mut seen = observed.clone();
    let replicas = u32::try_from(seen.rollout.spec.replicas).unwrap_or(0);
    for set in seen
        .revisions
        .iter_mut()
        .filter_map(|r| r.replica_set.as_mut())
    {
        (set.ready, set.available) = (set.desired, set.desired);
    }
    for ready in seen.endpoints.values_mut().flat_map(|e| e.values_mut()) {
        *ready = replicas.max(1);
    }
    decide(&seen)
}

/// What is written counts as in force at once, so that pods go before the traffic has left them.
fn pods_first(_: &Case, observed: &Observed) -> Plan {
    let mut seen = observed.clone();
    for route in seen.routes.values_mut() {
        if let Some(route) = route.as_object_mut() {
            route.insert("status".into(), accepted(GENERATION));
        }
    }
    if let Some(routing) = seen
        .rollout
        .spec
        .strategy
        .canary
        .as_mut()
        .and_then(|c| c.traffic_routing.as_mut())
    {
        routing.propagation_delay = serde_json::from_value(json!("0s")).ok();
    }
    let course = &mut seen.rollout.spec.strategy;
    if let Some(blue_green) = &mut course.blue_green {
        if let Some(routing) = &mut blue_green.traffic_routing {
            routing.propagation_delay = serde_json::from_value(json!("0s")).ok();
        }
        blue_green.scale_down_delay = serde_json::from_value(json!("0s")).ok();
    }
    if let Some(canary) = &mut course.canary {
        canary.max_unavailable = serde_json::from_value(json!("100%")).ok();
        canary.scale_down_delay = None;
    }
    if let Some(rolling) = &mut course.rolling {
        rolling.max_unavailable = serde_json::from_value(json!("100%")).ok();
    }
    decide(&seen)
}

/// The route says what was written last, whoever has changed it since.
fn remembered(case: &Case, observed: &Observed) -> Plan {
    let mut seen = observed.clone();
    let status = seen.rollout.status.as_ref();
    let written = status.and_then(|s| u32::try_from(s.traffic.as_ref()?.written?).ok());
    if let Some(written) = written {
        for route in seen.routes.values_mut() {
            for (index, weight) in [(0, FULL - written), (1, written)] {
                let path = format!("/spec/rules/0/backendRefs/{index}/weight");
                if let Some(slot) = route.pointer_mut(&path) {
                    *slot = json!(weight);
                }
            }
        }
        // Where a Service's selector is the switch.
        let hash = status.and_then(|s| {
            if written == 0 {
                s.stable_revision.clone()
            } else {
                Some(s.attempt.as_ref()?.hash.clone())
            }
        });
        let name = case.roles.as_ref().map(|r| r[STABLE].clone());
        let service = name.and_then(|n| seen.services.get_mut(&n));
        if let (true, Some(service), Some(hash)) = (case.spec.switched(), service, hash)
            && let Some(slot) = service.pointer_mut("/spec/selector/pod-template-hash")
        {
            *slot = Value::from(hash);
        }
    }
    decide(&seen)
}

/// A run that passed once counts for every attempt and step.
fn old_evidence(_: &Case, observed: &Observed) -> Plan {
    let mut seen = observed.clone();
    let passed = seen.runs.iter().find(|r| {
        let phase = r.status.as_ref().and_then(|s| s.phase.as_deref());
        phase == Some("Successful")
    });
    let attempt = seen.rollout.status.as_ref().and_then(|s| s.attempt.clone());
    if let (Some(passed), Some(attempt)) = (passed.cloned(), attempt) {
        let name = format!(
            "app-{}-{}-{}",
            attempt.hash, attempt.number, attempt.step_index
        );
        seen.runs
            .retain(|r| r.metadata.name.as_ref() != Some(&name));
        let mut again = passed;
        again.metadata.name = Some(name);
        seen.runs.push(again);
    }
    decide(&seen)
}

/// Pods of a canary wait for its weight, which waits for its pods.
fn guard_cycle(case: &Case, observed: &Observed) -> Plan {
    let mut plan = decide(observed);
    let traffic = plan.status.traffic.as_ref();
    let weight = traffic.and_then(|t| t.written).unwrap_or(0);
    let attempt = plan.status.attempt.as_ref().map(|a| a.hash.clone());
    let stable = plan.status.stable_revision.clone();
    let name = attempt.filter(|a| stable.is_some() && stable.as_ref() != Some(a));
    let name = name.map(|hash| format!("app-{hash}"));
    if weight == 0 && case.roles.is_some() || case.roles.is_none() {
        plan.actions.retain(|action| match action {
            Action::Create { object, .. } => {
                object.kind.kind != "ReplicaSet" || Some(&object.name) != name.as_ref()
            }
            _ => true,
        });
    }
    plan
}
