//! The laws of writes to ReplicaSets, Services and routes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    api::{
        kinds::{EVENT, KINDS, LEASE, REVISION, ROLLOUT, ROUTE, RUN, SERVICE, SET},
        store::{Past, Path, number, text},
        write::owner,
    },
    nature::gateway::{loose, share, written},
    world::World,
};

use super::{
    FULL,
    seen::{HASH, SELECTOR, Seen},
};

/// Pods that a share needs: rounded up, and one for any share at all.
pub fn need(share: u32, replicas: u64) -> u64 {
    match share {
        0 => 0,
        _ => (u64::from(share) * replicas)
            .div_ceil(u64::from(FULL))
            .max(1),
    }
}

/// Which revision a role Service selects.
fn selects(world: &World, role: usize) -> Option<String> {
    let name = &world.laws.case.roles.as_ref()?[role];
    let service = world.store.get(&Path::new(SERVICE, name.as_str()))?;
    Some(text(service, SELECTOR).to_owned())
}

/// Whether somebody turned a role Service to a revision, and whoever writes has not heard of it.
fn turned_unseen(world: &World, role: usize, hash: &str, seen: &Seen) -> bool {
    let Some(name) = world.laws.case.roles.as_ref().map(|r| &r[role]) else {
        return false;
    };
    let views = seen.selects.get(name);
    world.nature.turned.contains(name) && views.is_none_or(|v| v.iter().any(|h| h != hash))
}

/// S26: what Serin makes, changes and deletes is its own.
fn owned(past: &Past, broken: &mut Vec<String>) {
    let object = past.old.as_ref().or(past.new.as_ref());
    if !matches!(object.and_then(|o| owner(o)), Some(("Rollout", _))) {
        broken.push(format!("S26: {} is written and is no Rollout's", past.path));
    }
}

/// S19: nothing is carried out that is not durable.
fn durable(past: &Past, truth: &Seen, broken: &mut Vec<String>) {
    let Some(new) = past
        .new
        .as_ref()
        .filter(|_| truth.there && truth.decided.sequence > 0)
    else {
        return;
    };
    let old = past.old.as_ref().map_or(0, |o| decision(o));
    if decision(new) > truth.decided.sequence && decision(new) != old {
        broken.push(format!(
            "S19: {} carries decision {}, {} is committed",
            past.path,
            decision(new),
            truth.decided.sequence
        ));
    }
}

/// Pods that nobody could count: of ReplicaSets that were made late and of which whoever writes has not
/// heard, and of a Rollout that was deleted and that garbage collection is about to take.
fn unheard(world: &World, hash: &str, seen: &Seen, truth: &Seen) -> u64 {
    let rollout = world.store.get(&Path::new(ROLLOUT, "app"));
    let uid = rollout.map_or("", |r| text(r, "/metadata/uid"));
    let sets = world.store.all(SET).map(|(_, s)| s);
    let others = sets.filter(|s| {
        let of = text(s, HASH);
        let late = !seen.desired.contains_key(of) && decision(s) < truth.decided.sequence;
        of != hash && (late || owner(s).is_some_and(|(_, of)| of != uid))
    });
    others.map(|s| number(s, "/spec/replicas")).sum()
}

/// The decision that an object carries.
fn decision(object: &Value) -> u64 {
    let number = text(object, "/metadata/annotations/serin.dev~1decision");
    number.parse().unwrap_or(0)
}

/// A ReplicaSet was made, scaled or deleted.
pub fn set(world: &World, past: &Past, seen: &Seen, truth: &Seen, broken: &mut Vec<String>) {
    owned(past, broken);
    durable(past, truth, broken);
    let hash = past
        .old
        .as_ref()
        .or(past.new.as_ref())
        .map(|o| text(o, HASH).to_owned());
    let hash = hash.unwrap_or_default();
    let replicas = |o: &Value| number(o, "/spec/replicas");
    let from = past.old.as_ref().map_or(0, |o| replicas(o));
    let to = past.new.as_ref().map_or(0, |o| replicas(o));
    if let (Some(old), Some(new)) = (&past.old, &past.new)
        && old["spec"]["template"] != new["spec"]["template"]
    {
        broken.push(format!("S24: the template of {} is changed", past.path));
    }
    if past.new.is_none() && world.laws.case.roles.is_some() && seen.decided.stable == hash {
        broken.push(format!("S6: {} is stable and is deleted", past.path));
    }
    let strange = !seen.decided.stable.is_empty() && seen.decided.stable != hash;
    if to > from && strange && world.laws.case.routed && seen.loose && world.loose() {
        broken.push(format!(
            "S3: {hash} grows to {to} while users reach every pod"
        ));
    }
    // Whoever wants fewer pods meanwhile gets fewer.
    let wanted = seen.replicas.0.min(truth.replicas.0);
    let held = |h: &str| seen.ready(h).max(truth.ready(h));
    if to < from {
        if wanted == 0 {
            return;
        }
        if world.laws.case.roles.is_none() {
            let hashes: BTreeSet<&String> = seen.ready.keys().chain(truth.ready.keys()).collect();
            // Before: what was there, and known to be. After: whatever may be there.
            let before: u64 = hashes
                .iter()
                .map(|h| seen.ready(h).min(truth.ready(h)))
                .sum();
            let left = |h: &&String| {
                if **h == hash {
                    held(h).min(to)
                } else {
                    held(h)
                }
            };
            let after: u64 = hashes.iter().map(left).sum();
            let floor = wanted.saturating_sub(world.laws.case.max_unavailable);
            if after < floor && before >= floor {
                broken.push(format!(
                    "S12: {after} pods are left of {wanted} when {hash} goes to {to}"
                ));
            }
            return;
        }
        let gives = world.laws.case.gives_up_stable;
        if seen.decided.stable == hash && to < if gives { 1 } else { wanted } {
            broken.push(format!(
                "S6: stable {hash} is scaled from {from} to {to} of {wanted}"
            ));
        }
        let (low, high) = world.nature.force.flow;
        let shares = if world.laws.case.routed {
            [FULL - low, high]
        } else {
            [FULL, 0]
        };
        for (role, share) in shares.into_iter().enumerate() {
            let needed = need(share, wanted);
            let gets = selects(world, role).as_deref() == Some(&hash)
                && !turned_unseen(world, role, &hash, seen);
            if gets && to < needed && held(&hash) > to && !rerouted_unheard(world, seen) {
                broken.push(format!("S4: {hash} is scaled to {to} where it may get a share of {share} ({needed} pods)"));
            }
        }
    } else if to > from && world.laws.case.roles.is_none() {
        let sum: u64 = truth.desired.values().sum();
        let all = sum.saturating_sub(unheard(world, &hash, seen, truth));
        let before = all + from - to;
        let most = truth.replicas.1.max(seen.replicas.1) + world.laws.case.max_surge;
        // What is about to be made cannot be fenced off, and the way back waits for no earlier write.
        let number = past.new.as_ref().map_or(0, |s| decision(s));
        let late = past.old.is_none() && number < truth.decided.sequence;
        let excused = late || truth.decided.gives_up || world.nature.scaled_by_hand;
        if all > most && before <= most && !excused {
            broken.push(format!(
                "S12: {all} pods are wanted, at most {most} are allowed"
            ));
        }
    }
}

/// Whether somebody else wrote or deleted the route, and the process was not told of it yet.
fn rerouted_unheard(world: &World, seen: &Seen) -> bool {
    let somebody = world.share().is_none() || world.bent_by_somebody();
    somebody && seen.share != world.share()
}

/// A role Service was made, turned or deleted.
pub fn service(world: &World, past: &Past, seen: &Seen, truth: &Seen, broken: &mut Vec<String>) {
    if !world.laws.case.shared {
        owned(past, broken);
    }
    durable(past, truth, broken);
    let (Some(old), Some(new)) = (&past.old, &past.new) else {
        return;
    };
    let (from, to) = (text(old, SELECTOR), text(new, SELECTOR));
    if to.is_empty() && from != to {
        broken.push(format!("S7: {} selects no revision", past.path));
    }
    if let Some(key) = lacked(world, old, new) {
        broken.push(format!(
            "S7: {} selects by {key}, which its pods do not have",
            past.path
        ));
    }
    if from == to || seen.replicas.0 == 0 || truth.replicas.0 == 0 {
        return;
    }
    let Some([stable, canary]) = &world.laws.case.roles else {
        return;
    };
    let (low, high) = world.nature.force.flow;
    let share = match (
        past.path.name == *stable,
        past.path.name == *canary,
        world.laws.case.routed,
    ) {
        (true, _, true) => FULL - low,
        (true, _, false) => FULL,
        (_, true, true) => high,
        _ => 0,
    };
    let needed = need(share, seen.replicas.0.min(truth.replicas.0));
    let ready = seen.ready(to).max(truth.ready(to));
    let was = serves_now(from, seen, truth);
    // To stable, where its users are served no worse.
    let rescue = past.path.name == *stable && ready.min(needed) >= was.min(needed);
    let excused = world.bent_by_somebody() || rerouted_unheard(world, seen);
    if ready < needed && !rescue && !excused {
        broken.push(format!(
            "S7: {} turns from {from} to {to} under a share of {share}: {ready} pods of {needed} are ready",
            past.path
        ));
    }
}

/// By what a Service selects since it was written that the pods of its revision lack.
fn lacked(world: &World, old: &Value, new: &Value) -> Option<String> {
    let (was, is) = (&old["spec"]["selector"], &new["spec"]["selector"]);
    let mut sets = world.store.all(SET).map(|(_, s)| s);
    let set = sets.find(|s| was != is && text(s, HASH) == text(new, SELECTOR))?;
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    let mut keys = is.as_object()?.iter();
    let lacked = keys.find(|(key, wanted)| labels[key.as_str()] != **wanted)?;
    Some(lacked.0.clone())
}

/// A route's weights were written.
pub fn route(world: &World, past: &Past, seen: &Seen, truth: &Seen, broken: &mut Vec<String>) {
    durable(past, truth, broken);
    let (Some(old), Some(new)) = (&past.old, &past.new) else {
        broken.push("S26: a route is made or deleted".into());
        return;
    };
    let roles = world.laws.case.roles.as_ref();
    let roles = roles.filter(|_| world.laws.case.manages_backends());
    let strange = |s: &Seen| {
        let mut ready = s.ready.iter();
        ready.any(|(hash, n)| *n > 0 && *hash != seen.decided.stable)
    };
    if loose(new) && !loose(old) && strange(seen) && strange(truth) {
        broken.push("S3: users are sent to every pod while others than stable's serve".into());
    }
    if rest(old, roles) != rest(new, roles) {
        broken.push("S9: more than the weights of a route is changed".into());
    }
    let (a, b) = (written(old), written(new));
    if a == b {
        return;
    }
    let total = b.0 + b.1;
    if total != 100 && total != u64::from(FULL) {
        broken.push(format!("S2: the weights {b:?} do not sum up"));
    }
    let (from, to) = (share(a), share(b));
    let allowed = seen.decided.allowed;
    let trace = allowed == 0 && (to == 1 || to + 1 == FULL);
    if to > from && to > allowed.max(1) && !trace {
        broken.push(format!("S3: share {to} where {allowed} is allowed"));
    }
    let replicas = seen.replicas.0.min(truth.replicas.0);
    if replicas == 0 {
        return;
    }
    for (role, was, is) in [(0, FULL - from, FULL - to), (1, from, to)] {
        if is <= was {
            continue;
        }
        let Some(hash) = selects(world, role) else {
            continue;
        };
        let ready = seen.ready(&hash).max(truth.ready(&hash));
        let needed = need(is, replicas);
        // Back to stable, traffic may go where it is served no worse.
        let canary = selects(world, 1).map_or(0, |h| serves_now(&h, seen, truth));
        let rescue = role == 0
            && (ready > 0 || canary == 0 || from <= 1)
            && served(world, to, replicas, |h| seen.ready(h).max(truth.ready(h)))
                >= served(world, from, replicas, |h| serves_now(h, seen, truth));
        if ready < needed && !rescue {
            broken.push(format!(
                "S1: a share of {is} to {hash}, which has {ready} ready pods of {needed}"
            ));
        }
    }
}

/// Pods of a revision that serve and are known to. One that is ready serves once it is among the
/// endpoints.
fn serves_now(hash: &str, seen: &Seen, truth: &Seen) -> u64 {
    let of = |s: &Seen| s.ready(hash).min(s.endpoints(hash));
    of(seen).min(of(truth))
}

/// How well requests are served at a share of the canary, in thousandths of what is needed: the
/// worse of the two Services.
fn served(world: &World, share: u32, replicas: u64, ready: impl Fn(&str) -> u64) -> u64 {
    let mut shares: BTreeMap<String, u32> = BTreeMap::new();
    for (role, share) in [(0, FULL - share), (1, share)] {
        // Both may select the same pods; where there is no Service, nobody serves.
        let hash = selects(world, role).unwrap_or_default();
        *shares.entry(hash).or_insert(0) += share;
    }
    let of = |(hash, share): (&String, &u32)| {
        let needed = need(*share, replicas);
        (needed > 0).then(|| ready(hash).min(needed) * 1000 / needed)
    };
    shares.iter().filter_map(of).min().unwrap_or(1000)
}

/// A route without what Serin may change. Where its backends are managed, the role Services stand for the user's.
fn rest(route: &Value, managed: Option<&[String; 2]>) -> Value {
    let mut rest = route.clone();
    for rule in rest["spec"]["rules"].as_array_mut().into_iter().flatten() {
        if let (Some([stable, canary]), Some(refs)) = (managed, rule["backendRefs"].as_array_mut())
            && refs.iter().any(|r| r["name"] == *canary)
            && let Some(at) = refs.iter().position(|r| r["name"] == *stable)
        {
            refs[at]["name"] = "app".into();
            refs.retain(|r| r["name"] != *canary);
        }
        for backend in rule["backendRefs"].as_array_mut().into_iter().flatten() {
            backend["weight"] = Value::Null;
        }
    }
    let meta = &mut rest["metadata"];
    for field in ["managedFields", "resourceVersion", "generation"] {
        meta[field] = Value::Null;
    }
    if let Some(annotations) = meta["annotations"].as_object_mut() {
        annotations.remove("serin.dev/decision");
        if managed.is_some() {
            annotations.remove("serin.dev/backends");
        }
    }
    if meta["annotations"]
        .as_object()
        .is_some_and(serde_json::Map::is_empty)
    {
        meta["annotations"] = Value::Null;
    }
    rest
}

/// S26: what Serin has no business with.
pub fn other(past: &Past, broken: &mut Vec<String>) {
    match past.path.kind {
        EVENT | LEASE => {}
        REVISION | RUN => owned(past, broken),
        ROLLOUT | SET | SERVICE | ROUTE => {}
        kind => broken.push(format!("S26: a {} is written", KINDS[kind].of.kind)),
    }
}
