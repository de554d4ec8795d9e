//! Traffic: what the routes say, what is in force, and how the desired split gets there.

pub mod gateway_api;
pub mod repair;
pub mod router;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Value, json};

use crate::{
    api::{
        names::{DECISION, MANAGER},
        status::{RolloutStatus, TrafficStatus},
        traffic::TrafficRouting,
    },
    model::{
        desired::Desired,
        object::{Kind, ObjectRef, Target, annotate, annotation_number, has_annotations},
        observed::Observed,
        plan::{Action, Intent, Numbers},
        progress::after,
        share::{FULL, need, percent, show, toward},
        spec::{RoleServices, Spec},
        traffic::{InForce, RouteFault, Written},
    },
};

use router::{Backends, Entry, Router};

/// Every router there is.
fn routers(routing: &TrafficRouting, backends: &Backends) -> Vec<Entry> {
    // Every field by name, so that the compiler asks for a line here, then for one in the list.
    let TrafficRouting {
        propagation_delay: _,
        gateway_api,
    } = routing;
    vec![
        // One line for each.
        gateway_api::entry(gateway_api.as_ref(), backends),
    ]
}

/// Every kind of route object, for watches and rights.
pub fn kinds() -> Vec<Kind> {
    let all = routers(&TrafficRouting::default(), &Backends::default());
    all.iter().flat_map(|entry| entry.kinds).copied().collect()
}

/// The router that the spec names.
pub fn router_for(routing: &TrafficRouting, services: &RoleServices) -> Option<Box<dyn Router>> {
    let backends = Backends {
        stable: services.stable.clone(),
        canary: services.canary.clone(),
    };
    let all = routers(routing, &backends);
    all.into_iter().find_map(|entry| entry.router)
}

/// The spec's router, where traffic is routed.
pub fn router(spec: &Spec) -> Option<Box<dyn Router>> {
    router_for(spec.routing.as_ref()?, spec.services.as_ref()?)
}

/// Everything for which the routes cannot be used.
pub fn faults(spec: &Spec, observed: &Observed) -> Vec<RouteFault> {
    router(spec).map_or_else(Vec::new, |router| router.faults(&observed.routes))
}

/// What the routes say.
pub fn look(spec: &Spec, observed: &Observed) -> Option<Written> {
    let router = router(spec)?;
    let routes = &observed.routes;
    let lacking = router.lacking(routes);
    let known: Vec<&Value> = router
        .references()
        .iter()
        .filter_map(|r| routes.get(r))
        .collect();
    let generation = |v: &Value| {
        v.pointer("/metadata/generation")
            .and_then(Value::as_i64)
            .unwrap_or(0)
    };
    let name = |v: &Value| {
        v.pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let generations: Vec<String> = known
        .iter()
        .map(|v| format!("{}={}", name(v), generation(v)))
        .collect();
    Some(Written {
        share: router.read(routes),
        accepted: lacking.is_none() && !known.is_empty(),
        lacking,
        generations: generations.join(","),
        decision: known
            .iter()
            .map(|v| annotation_number(v, DECISION))
            .min()
            .unwrap_or(0),
        foreign_writer: known.iter().find_map(|v| foreign_writer(v)),
    })
}

/// The field manager that wrote the route's rules last, Serin apart.
fn foreign_writer(route: &Value) -> Option<String> {
    let fields = route.pointer("/metadata/managedFields")?.as_array()?;
    fields
        .iter()
        .filter(|f| f.pointer("/fieldsV1/f:spec/f:rules").is_some())
        .filter(|f| f.get("manager").and_then(Value::as_str) != Some(MANAGER))
        .max_by_key(|f| {
            f.get("time")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        })
        .and_then(|f| f.get("manager")?.as_str().map(str::to_owned))
}

/// Notes in the status what the routes' controllers have accepted.
pub fn accept(status: &mut RolloutStatus, written: &Written, delay: Duration, now: Timestamp) {
    let (Ok(share), true) = (&written.share, written.accepted) else {
        return;
    };
    let share = int(*share);
    let old = status.traffic.clone();
    if old
        .as_ref()
        .is_some_and(|t| t.share == share && t.generations.as_ref() == Some(&written.generations))
    {
        return;
    }
    let highest = old.as_ref().map_or(share, |t| {
        let settled = now >= after(t.since.0, delay);
        share.max(t.share).max(if settled { 0 } else { t.highest })
    });
    status.traffic = Some(TrafficStatus {
        share,
        since: MicroTime(now),
        highest,
        generations: Some(written.generations.clone()),
        written: old.as_ref().and_then(|t| t.written),
        written_by: old.as_ref().map_or(0, |t| t.written_by),
        repairs: old.as_ref().map_or(0, |t| t.repairs),
        repaired_at: old.and_then(|t| t.repaired_at),
    });
}

/// What the data plane may be serving.
pub fn in_force(
    status: &RolloutStatus,
    written: &Written,
    delay: Duration,
    now: Timestamp,
) -> InForce {
    let written_high = match &written.share {
        Ok(w) | Err(RouteFault::Disagree(w)) => Some(*w),
        Err(_) => None,
    };
    let Some(accepted) = &status.traffic else {
        return InForce {
            low: 0,
            high: written_high.unwrap_or(FULL),
            settled: None,
            settles_at: None,
        };
    };
    let (share, highest) = (parts(accepted.share), parts(accepted.highest));
    let stands = written.accepted
        && written.share == Ok(share)
        && accepted.generations.as_ref() == Some(&written.generations);
    let settles_at = after(accepted.since.0, delay);
    if stands && now >= settles_at {
        return InForce {
            low: share,
            high: share,
            settled: Some(share),
            settles_at: None,
        };
    }
    InForce {
        low: if stands {
            0
        } else {
            written_high.unwrap_or(0).min(share)
        },
        high: written_high.unwrap_or(FULL).max(share).max(highest),
        settled: None,
        settles_at: stands.then_some(settles_at),
    }
}

fn parts(share: i32) -> u32 {
    u32::try_from(share).unwrap_or(0).min(FULL)
}

fn int(share: u32) -> i32 {
    i32::try_from(share).unwrap_or(i32::MAX)
}

/// What a traffic decision came to.
#[derive(Debug, Default)]
pub struct Realized {
    /// What to do.
    pub intents: Vec<Intent>,
    /// Why the weight does not go where it should, in a sentence.
    pub held: Option<Held>,
}

/// Why the weight does not go where it should.
#[derive(Debug, PartialEq, Eq)]
pub enum Held {
    /// There are not enough pods yet.
    Capacity(String),
    /// The cached view does not allow it; a live one might.
    LookCloser,
    /// Stable would serve worse than what serves now.
    Rescue(String),
}

/// Moves the written split to the desired one, if the guards allow it.
pub fn realize(
    spec: &Spec,
    desired: &Desired,
    observed: &Observed,
    written: &Written,
    force: &InForce,
    numbers: Numbers,
) -> Realized {
    let (Some(router), Some(weight)) = (router(spec), desired.weight) else {
        return Realized::default();
    };
    let wanted = percent(weight);
    let (current, disagree) = match &written.share {
        Ok(w) => (*w, false),
        Err(RouteFault::Disagree(w)) => (*w, true),
        Err(_) => return Realized::default(),
    };
    if current == wanted && !disagree {
        return at_rest(router.as_ref(), desired, observed, written, force, numbers);
    }
    let held = if wanted > current {
        raise_guard(spec, desired, observed, written, wanted, numbers.fence)
    } else {
        lower_guard(spec, desired, observed, current, wanted)
    };
    if held.is_some() {
        return Realized {
            intents: vec![],
            held,
        };
    }
    let canary = spec.services.as_ref().map(|services| {
        observed
            .selected(&services.canary)
            .map_or(0, |hash| observed.ready_endpoints(&services.canary, hash))
    });
    // A trace needs somebody who serves it: where nobody does, nothing is left at once.
    let next = if disagree || (wanted == 0 && canary == Some(0)) {
        Some(wanted)
    } else {
        toward(current, wanted, force.settled, desired.retreat)
    };
    let Some(next) = next else {
        return Realized::default();
    };
    let Ok(patches) = router.write(&observed.routes, next) else {
        return Realized::default();
    };
    let mut intent = Intent::hazardous(
        patch(observed, patches, numbers.next),
        Some(crate::api::names::reason::WEIGHT_CHANGED),
        format!("weight {} to {}", show(current), show(next)),
    );
    if let Some(hazard) = &mut intent.hazard {
        hazard.share = Some(next);
    }
    Realized {
        intents: vec![intent],
        held: None,
    }
}

/// The split stands as it should.
fn at_rest(
    router: &dyn Router,
    desired: &Desired,
    observed: &Observed,
    written: &Written,
    force: &InForce,
    numbers: Numbers,
) -> Realized {
    let intents = if written.decision < numbers.fence {
        // The number alone makes a delayed write of a cancelled decision fail.
        let stamps = router
            .references()
            .into_iter()
            .map(|r| (r, vec![]))
            .collect();
        patch(observed, stamps, numbers.fence)
    } else if force.settled_at(0) && !desired.claim {
        disown(router, observed)
    } else {
        vec![]
    };
    Realized {
        intents: intents.into_iter().map(Intent::harmless).collect(),
        held: None,
    }
}

/// Gives up the ownership of the routes' fields that the API server keeps for each field manager.
/// At rest the route is its applier's alone, so that a plain server-side apply meets no conflict.
fn disown(router: &dyn Router, observed: &Observed) -> Vec<Action> {
    let mut actions = vec![];
    for reference in router.references() {
        let Some(object) = observed.routes.get(&reference) else {
            continue;
        };
        let fields = object
            .pointer("/metadata/managedFields")
            .and_then(Value::as_array);
        let ours = |f: &Value| {
            f.get("manager").and_then(Value::as_str) == Some(MANAGER)
                && f.pointer("/fieldsV1/f:spec").is_some()
        };
        let at: Vec<usize> = fields
            .into_iter()
            .flatten()
            .enumerate()
            .filter(|(_, f)| ours(f))
            .map(|(i, _)| i)
            .collect();
        if at.is_empty() {
            continue;
        }
        // From the back, so that the places of the others stay as they are.
        let operations = at
            .into_iter()
            .rev()
            .map(|i| json!({"op": "remove", "path": format!("/metadata/managedFields/{i}")}))
            .collect();
        actions.push(Action::Patch {
            target: Target::of(reference.kind, object),
            operations,
        });
    }
    actions
}

fn patch(observed: &Observed, patches: Vec<(ObjectRef, Vec<Value>)>, number: i64) -> Vec<Action> {
    patches
        .into_iter()
        .filter_map(|(reference, mut operations)| {
            let object = observed.routes.get(&reference)?;
            operations.extend(annotate(
                has_annotations(object),
                DECISION,
                &number.to_string(),
            ));
            Some(Action::Patch {
                target: Target::of(reference.kind, object),
                operations,
            })
        })
        .collect()
}

/// S1: no weight to a void. Absolute, so a cached view is good enough.
fn raise_guard(
    spec: &Spec,
    desired: &Desired,
    observed: &Observed,
    written: &Written,
    wanted: u32,
    fence: i64,
) -> Option<Held> {
    let hold = |why: String| Some(Held::Capacity(why));
    let (Some(services), Some(roles)) = (&spec.services, &desired.roles) else {
        return hold("the role Services to be known".into());
    };
    let claimed = observed
        .rollout
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|f| f == crate::api::names::FINALIZER);
    if !claimed {
        return hold("the finalizer to be set".into());
    }
    if written.decision < fence {
        return hold("earlier decisions to be fenced off".into());
    }
    if observed.selected(&services.canary) != Some(roles.canary.as_str()) {
        return hold(format!(
            "Service {:?} to select revision {}",
            services.canary, roles.canary
        ));
    }
    let needed = need(wanted, spec.replicas);
    let available = observed
        .revision(&roles.canary)
        .map_or(0, |r| r.available());
    let endpoints = observed.ready_endpoints(&services.canary, &roles.canary);
    if available < needed {
        return hold(format!(
            "{needed} available canary pods, {available} so far"
        ));
    }
    if endpoints < needed {
        return hold(format!(
            "{needed} ready endpoints of Service {:?}, {endpoints} so far",
            services.canary
        ));
    }
    None
}

/// S1 for stable. Where stable cannot bear its share by itself, traffic still goes back to it as
/// long as it serves no worse than what serves now; that is relative, hence needs a live view.
fn lower_guard(
    spec: &Spec,
    desired: &Desired,
    observed: &Observed,
    current: u32,
    wanted: u32,
) -> Option<Held> {
    let Some(services) = &spec.services else {
        return Some(Held::Capacity("the role Services".into()));
    };
    let ready = |service: &str| {
        observed
            .selected(service)
            .map_or(0, |hash| observed.ready_endpoints(service, hash))
    };
    let (stable, canary) = (ready(&services.stable), ready(&services.canary));
    let needed = need(FULL - wanted, spec.replicas);
    if stable >= needed {
        return None;
    }
    if !desired.retreat {
        return Some(Held::Capacity(format!(
            "{needed} ready endpoints of Service {:?}, {stable} so far",
            services.stable
        )));
    }
    if !observed.live {
        return Some(Held::LookCloser);
    }
    let serves = |share: u32| {
        [
            (stable, need(FULL - share, spec.replicas)),
            (canary, need(share, spec.replicas)),
        ]
        .into_iter()
        .filter(|(_, needed)| *needed > 0)
        .map(|(ready, needed)| (u64::from(ready.min(needed)), u64::from(needed)))
        .min_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)))
        .unwrap_or((1, 1))
    };
    let (before, after) = (serves(current), serves(wanted));
    (after.0 * before.1 < before.0 * after.1).then(|| {
        Held::Rescue(format!(
            "stable has {stable} of {needed} pods ready and would serve worse than now: \
             mend stable, or promote the canary with promote-full"
        ))
    })
}
