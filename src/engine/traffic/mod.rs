//! Traffic: what the routes say, what is in force, and how the desired split gets there.

mod backends;
pub mod gateway_api;
mod guards;
mod in_force;
pub mod repair;
pub mod router;
mod service_switch;

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::{
    api::{
        names::{DECISION, MANAGER, reason},
        traffic::TrafficRouting,
    },
    model::{
        desired::{Desired, Lowering},
        object::{
            Kind, ObjectRef, Objects, SERVICE, Target, annotate, annotation_number, has_annotations,
        },
        observed::Observed,
        plan::{Action, Intent, Numbers, switched},
        share::{percent, show, toward},
        spec::{RoleServices, Spec},
        traffic::{InForce, RouteFault, Written},
    },
};

pub use guards::Held;
pub use in_force::{accept, behind, forget, in_force};
use router::{Backends, Entry, Router};
use service_switch::ServiceSwitch;

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

/// Whether objects of this kind are routes.
pub fn is_route(kind: Kind) -> bool {
    kinds().contains(&kind)
}

/// The router that is named; `path` is where the strategy stands.
pub fn router_for(
    routing: &TrafficRouting,
    services: &RoleServices,
    path: &str,
) -> Option<Box<dyn Router>> {
    let backends = Backends {
        user: services.user.clone(),
        stable: services.stable.clone(),
        canary: services.canary.clone(),
        path: path.to_owned(),
    };
    let all = routers(routing, &backends);
    all.into_iter().find_map(|entry| entry.router)
}

/// The objects that the spec's router must see.
pub fn references(spec: &Spec) -> Vec<ObjectRef> {
    let router =
        spec.course.routing.as_ref().and_then(|routing| {
            router_for(routing, spec.course.services.as_ref()?, spec.course.path)
        });
    router.map(|r| r.references()).unwrap_or_default()
}

/// How the traffic is shifted, where it is: by the router that the spec names, else by the stable
/// Service's selector.
fn router(spec: &Spec, observed: &Observed) -> Option<Box<dyn Router>> {
    let services = spec.course.services.as_ref()?;
    match &spec.course.routing {
        Some(routing) => router_for(routing, services, spec.course.path),
        None => Some(Box::new(ServiceSwitch::new(&services.stable, observed))),
    }
}

/// The objects that the router reads and writes.
fn objects<'a>(spec: &Spec, observed: &'a Observed) -> Cow<'a, Objects> {
    let switch = spec.course.services.as_ref().filter(|_| spec.switched());
    let Some(services) = switch else {
        return Cow::Borrowed(&observed.routes);
    };
    let live = observed.services.get_key_value(&services.stable);
    Cow::Owned(
        live.map(|(name, value)| (ObjectRef::new(SERVICE, name), value.clone()))
            .into_iter()
            .collect(),
    )
}

/// Everything for which the routes cannot be used.
pub fn faults(spec: &Spec, observed: &Observed) -> Vec<RouteFault> {
    router(spec, observed).map_or_else(Vec::new, |r| r.faults(&objects(spec, observed)))
}

/// What the routes say.
pub fn look(spec: &Spec, observed: &Observed) -> Option<Written> {
    let router = router(spec, observed)?;
    let routes = &*objects(spec, observed);
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
    let loose = !router.bind(routes).is_empty();
    Some(Written {
        share: router.read(routes),
        highest: router.highest(routes),
        accepted: lacking.is_none() && !known.is_empty(),
        lacking,
        generations: generations.join(","),
        decision: known
            .iter()
            .map(|v| annotation_number(v, DECISION))
            .min()
            .unwrap_or(0),
        foreign_writer: known.iter().find_map(|v| foreign_writer(v)),
        loose,
        strayed: loose && observed.others(),
        bound: !router.unbind(routes).is_empty(),
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

/// What a traffic decision came to.
#[derive(Debug, Default)]
pub struct Realized {
    /// What to do.
    pub intents: Vec<Intent>,
    /// Why the weight does not go where it should, in a sentence.
    pub held: Option<Held>,
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
    let Some(router) = router(spec, observed) else {
        return Realized::default();
    };
    let objects = &*objects(spec, observed);
    // Before any weight is written: where users come by their own Service, there is no split.
    if written.loose && desired.bind {
        return bind(router.as_ref(), spec, desired, observed, objects, numbers);
    }
    let Some(weight) = desired.weight else {
        return Realized::default();
    };
    if written.bound && !desired.claim && straight(written, force) && !observed.others() {
        return unbind(router.as_ref(), spec, desired, observed, objects, numbers);
    }
    let wanted = percent(weight);
    let (current, disagree) = match (&written.share, written.highest) {
        (Ok(w), _) => (*w, false),
        (Err(RouteFault::Disagree(w)), _) => (*w, true),
        // One rule that cannot be read does not keep users of the others on the canary.
        (Err(_), Some(highest)) if wanted == 0 && highest > 0 => (highest, true),
        (Err(_), _) => return Realized::default(),
    };
    // Where rules disagree, some may be below what is wanted: what cannot be raised all goes to stable.
    let borne = !disagree || guards::raise(spec, desired, observed, wanted).is_none();
    let wanted = if borne { wanted } else { 0 };
    if current == wanted && !disagree {
        return at_rest(router.as_ref(), desired, objects, written, force, numbers);
    }
    if wanted > current && written.decision < numbers.fence {
        // Nothing is raised before what was cancelled can no longer land, and nobody else sees to that.
        let intents = stamps(router.as_ref(), objects, numbers.fence);
        return Realized {
            intents: intents.into_iter().map(Intent::harmless).collect(),
            held: Some(Held::Capacity("earlier decisions to be fenced off".into())),
        };
    }
    let held = if wanted > current {
        guards::raise(spec, desired, observed, wanted)
    } else {
        guards::lower(spec, desired, observed, current, wanted)
    };
    let gradual = desired.lowering == Lowering::Gradual && observed.live && !disagree;
    let least = guards::least(spec, observed).filter(|least| gradual && *least < current);
    let (wanted, held) = match (held, least) {
        // Stable takes back what its pods bear by now.
        (Some(_), Some(least)) => (least, None),
        (held, _) => (wanted, held),
    };
    if held.is_some() {
        return Realized {
            intents: vec![],
            held,
        };
    }
    let canary = spec.course.services.as_ref().map(|services| {
        observed
            .selected(&services.canary)
            .map_or(0, |hash| observed.ready_endpoints(&services.canary, hash))
    });
    // A trace needs somebody who serves it: where nobody does, nothing is left at once.
    let next = if disagree || !router.splits() || (wanted == 0 && canary == Some(0)) {
        Some(wanted)
    } else {
        toward(current, wanted, force.settled, desired.lowering.retreats())
    };
    let Some(next) = next else {
        return Realized::default();
    };
    let patches = if next == 0 {
        router.straighten(objects)
    } else if let Ok(patches) = router.write(objects, next) {
        patches
    } else {
        return Realized::default();
    };
    let (why, what) = told(spec, desired, current, next);
    let mut intent = Intent::hazardous(patch(objects, patches, numbers.next), Some(why), what);
    if let Some(hazard) = &mut intent.hazard {
        hazard.share = Some(next);
    }
    Realized {
        intents: vec![intent],
        held: None,
    }
}

/// Puts the role Services into the place of the user's, everything to stable.
fn bind(
    router: &dyn Router,
    spec: &Spec,
    desired: &Desired,
    observed: &Observed,
    objects: &Objects,
    numbers: Numbers,
) -> Realized {
    unless(guards::bind(spec, desired, observed), || {
        let services = spec.course.services.as_ref()?;
        let what = format!(
            "let the routes send to Services {} and {} in the place of {}, everything to {}",
            services.stable, services.canary, services.user, services.stable
        );
        let actions = patch(objects, router.bind(objects), numbers.next);
        let mut intent = Intent::hazardous(actions, Some(reason::ROUTE_BOUND), what);
        if let Some(hazard) = &mut intent.hazard {
            (hazard.share, hazard.binds) = (Some(0), true);
        }
        Some(intent)
    })
}

/// Whether all that can be read gives the canary nothing, and that is in force as far as it can be known.
fn straight(written: &Written, force: &InForce) -> bool {
    let unread = matches!(
        written.share,
        Err(RouteFault::Missing(_) | RouteFault::Unfit { .. })
    );
    force.settled_at(0) || unread && written.highest.unwrap_or(0) == 0
}

/// Puts the user's Service back: whoever comes by it meets stable alone.
fn unbind(
    router: &dyn Router,
    spec: &Spec,
    desired: &Desired,
    observed: &Observed,
    objects: &Objects,
    numbers: Numbers,
) -> Realized {
    unless(guards::unbind(spec, desired, observed), || {
        let services = spec.course.services.as_ref()?;
        let what = format!("let the routes send to Service {} again", services.user);
        let actions = patch(objects, router.unbind(objects), numbers.next);
        let intent = Intent::hazardous(actions, Some(reason::ROUTE_RELEASED), what);
        Some(intent)
    })
}

/// What is done unless a guard holds it.
fn unless(held: Option<Held>, intent: impl FnOnce() -> Option<Intent>) -> Realized {
    let intents = match held {
        None => intent().into_iter().collect(),
        Some(_) => vec![],
    };
    Realized { intents, held }
}

/// A change of the split, for the history.
fn told(spec: &Spec, desired: &Desired, from: u32, to: u32) -> (&'static str, String) {
    match (&spec.course.services, &desired.roles) {
        (Some(services), Some(roles)) if spec.switched() => {
            let hash = if to == 0 {
                &roles.stable
            } else {
                &roles.canary
            };
            switched(&services.stable, hash)
        }
        _ => (
            reason::WEIGHT_CHANGED,
            format!("weight {} to {}", show(from), show(to)),
        ),
    }
}

/// The split stands as it should.
fn at_rest(
    router: &dyn Router,
    desired: &Desired,
    objects: &Objects,
    written: &Written,
    force: &InForce,
    numbers: Numbers,
) -> Realized {
    let intents = if written.decision < numbers.fence {
        stamps(router, objects, numbers.fence)
    } else if force.settled_at(0) && !desired.claim && !written.bound {
        disown(router, objects)
    } else {
        vec![]
    };
    Realized {
        intents: intents.into_iter().map(Intent::harmless).collect(),
        held: None,
    }
}

/// The number alone makes a delayed write of a cancelled decision fail.
fn stamps(router: &dyn Router, objects: &Objects, fence: i64) -> Vec<Action> {
    let all = router.references().into_iter().map(|r| (r, vec![]));
    patch(objects, all.collect(), fence)
}

/// Gives up the ownership of the routes' fields that the API server keeps for each field manager.
/// At rest the route is its applier's alone, so that a plain server-side apply meets no conflict.
fn disown(router: &dyn Router, objects: &Objects) -> Vec<Action> {
    let mut actions = vec![];
    for reference in router.references() {
        let Some(object) = objects.get(&reference) else {
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

fn patch(objects: &Objects, patches: Vec<(ObjectRef, Vec<Value>)>, number: i64) -> Vec<Action> {
    patches
        .into_iter()
        .filter_map(|(reference, mut operations)| {
            let object = objects.get(&reference)?;
            // The operations may have made the map of annotations.
            let path = |o: &Value| o.get("path")?.as_str().map(str::to_owned);
            let made = operations.iter().filter_map(path);
            let annotated =
                has_annotations(object) || made.into_iter().any(|p| p == "/metadata/annotations");
            operations.extend(annotate(annotated, DECISION, &number.to_string()));
            Some(Action::Patch {
                target: Target::of(reference.kind, object),
                operations,
            })
        })
        .collect()
}
