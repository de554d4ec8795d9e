//! Judges a history: what may never be, whatever went wrong around it. The laws have the names that
//! docs/reliability.md gives them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::history::{History, Seen};

/// All of the traffic.
const FULL: u64 = 1_000_000;

/// What is known of an app beforehand.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub replicas: u64,
    /// Its role Services.
    pub stable: &'static str,
    pub canary: &'static str,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Judgement {
    /// The laws that were broken, and where.
    pub broken: Vec<String>,
    /// Shares that were raised, Services that turned, pods that were let go, promotions.
    pub judged: u64,
    /// The same by the law that they could have broken.
    occasions: BTreeMap<&'static str, u64>,
    /// What was on its way when it was cancelled, and landed before the cancelling was carried out.
    pub late: u64,
}

impl Judgement {
    fn occasion(&mut self, laws: &[&'static str]) {
        self.judged += 1;
        for law in laws {
            *self.occasions.entry(law).or_default() += 1;
        }
    }
}

#[derive(Default)]
struct State {
    pods: BTreeMap<String, (String, bool)>,
    sets: BTreeMap<String, (String, u64)>,
    services: BTreeMap<String, String>,
    weights: Option<(u64, u64)>,
    decided: Decided,
}

#[derive(Clone, Default)]
struct Decided {
    stage: String,
    attempt: u64,
    hash: String,
    stable: String,
    sequence: u64,
    allowed: u64,
    /// The decision that gave the attempt up.
    given_up: Option<u64>,
    promoted: BTreeSet<u64>,
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn number(object: &Value, pointer: &str) -> u64 {
    object
        .pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap_or_default()
}

/// The decision that an object carries.
fn decision(object: &Value) -> u64 {
    let number = text(object, "/metadata/annotations/serin.dev~1decision");
    number.parse().unwrap_or_default()
}

/// The shares of two weights: the stable one's and the canary's.
fn shares((stable, canary): (u64, u64)) -> (u64, u64) {
    let all = (stable + canary).max(1);
    (stable * FULL / all, canary * FULL / all)
}

/// Pods that a share needs: rounded up, and one for any share at all.
fn need(share: u64, replicas: u64) -> u64 {
    if share == 0 {
        0
    } else {
        (share * replicas).div_ceil(FULL).max(1)
    }
}

/// Judges a history that is in order.
pub fn judge(history: &History, facts: Facts) -> Judgement {
    let mut state = State::default();
    let mut judgement = Judgement::default();
    for seen in &history.seen {
        // Where nobody looked, nothing is judged, but what came of it counts.
        let mut nobody = Judgement::default();
        let judgement = if history.is_whole_at(seen.version) {
            &mut judgement
        } else {
            &mut nobody
        };
        let at = judgement.broken.len();
        match seen.kind {
            "Pod" => state.pod(seen),
            "ReplicaSet" => state.set(seen, facts, judgement),
            "Service" => state.service(seen, facts, judgement),
            "HTTPRoute" if seen.name == "app" => state.route(seen, facts, judgement),
            "Rollout" => state.rollout(seen, judgement),
            _ => {}
        }
        for line in &mut judgement.broken[at..] {
            line.push_str(&format!(" (resourceVersion {})", seen.version));
        }
    }
    judgement
}

impl State {
    fn ready(&self, hash: &str) -> u64 {
        let ready = self.pods.values().filter(|(h, ready)| *ready && h == hash);
        ready.count() as u64
    }

    /// The share of a Service.
    fn share(&self, service: &str, facts: Facts) -> u64 {
        // Without a split everything goes to the one that users are served by.
        let (stable, canary) = shares(self.weights.unwrap_or((1, 0)));
        if service == facts.stable {
            stable
        } else if service == facts.canary {
            canary
        } else {
            0
        }
    }

    fn durable(&self, object: &Value, broken: &mut Vec<String>) {
        let decision = decision(object);
        if decision > self.decided.sequence {
            let committed = self.decided.sequence;
            broken.push(format!(
                "S19: decision {decision} is carried out, {committed} is committed"
            ));
        }
    }

    fn pod(&mut self, seen: &Seen) {
        let Some(pod) = &seen.object else {
            self.pods.remove(&seen.name);
            return;
        };
        let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
        let ready = conditions
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        let leaving = pod.pointer("/metadata/deletionTimestamp").is_some();
        let hash = text(pod, "/metadata/labels/pod-template-hash").to_owned();
        self.pods
            .insert(seen.name.clone(), (hash, ready && !leaving));
    }

    fn set(&mut self, seen: &Seen, facts: Facts, judgement: &mut Judgement) {
        let old = self.sets.get(&seen.name).cloned();
        let (hash, to) = match &seen.object {
            Some(set) => {
                self.durable(set, &mut judgement.broken);
                let hash = text(set, "/metadata/labels/pod-template-hash").to_owned();
                (hash, number(set, "/spec/replicas"))
            }
            None => (old.clone().unwrap_or_default().0, 0),
        };
        let from = old.map_or(0, |(_, n)| n);
        if seen.object.is_some() {
            self.sets.insert(seen.name.clone(), (hash.clone(), to));
        } else {
            self.sets.remove(&seen.name);
        }
        if to >= from {
            return;
        }
        judgement.occasion(&["S4"]);
        if hash == self.decided.hash {
            judgement.occasion(&["S6"]);
        }
        if hash == self.decided.stable && to < facts.replicas {
            let wanted = facts.replicas;
            judgement.broken.push(format!(
                "S6: stable {hash} goes from {from} to {to} pods of {wanted}"
            ));
        }
        for (service, selected) in &self.services {
            let share = self.share(service, facts);
            if *selected == hash && to < need(share, facts.replicas) {
                judgement.broken.push(format!(
                    "S4: {hash} goes to {to} pods while {service} has a share of {share}"
                ));
            }
        }
    }

    fn service(&mut self, seen: &Seen, facts: Facts, judgement: &mut Judgement) {
        let Some(service) = &seen.object else { return };
        self.durable(service, &mut judgement.broken);
        let to = text(service, "/spec/selector/pod-template-hash").to_owned();
        let from = self.services.insert(seen.name.clone(), to.clone());
        let Some(from) = from.filter(|f| *f != to && !f.is_empty()) else {
            return;
        };
        let share = self.share(&seen.name, facts);
        let (needed, ready) = (need(share, facts.replicas), self.ready(&to));
        if needed > 0 {
            judgement.occasion(&["S7"]);
        }
        if ready < needed {
            judgement.broken.push(format!(
                "S7: {} turns from {from} to {to} under a share of {share}: {ready} pods of {needed} are ready",
                seen.name
            ));
        }
        // Without a split this is what raises the share of the new one from nothing to everything.
        if self.weights.is_none() && seen.name == facts.stable && to != self.decided.stable {
            self.raised(service, FULL, judgement);
        }
    }

    fn route(&mut self, seen: &Seen, facts: Facts, judgement: &mut Judgement) {
        let Some(route) = &seen.object else { return };
        self.durable(route, &mut judgement.broken);
        let backends = route.pointer("/spec/rules/0/backendRefs");
        let backends = backends.and_then(Value::as_array);
        let weight = |name: &str| {
            let mut all = backends.into_iter().flatten();
            all.find(|b| b["name"] == name)?["weight"].as_u64()
        };
        let (Some(stable), Some(canary)) = (weight(facts.stable), weight(facts.canary)) else {
            return;
        };
        let sum = stable + canary;
        if sum != 100 && sum != FULL {
            judgement
                .broken
                .push(format!("S2: {stable} and {canary} do not sum up"));
        }
        let before = self.weights.replace((stable, canary));
        let Some(before) = before.filter(|b| *b != (stable, canary)) else {
            return;
        };
        let (was, now) = (shares(before), shares((stable, canary)));
        for (name, was, is) in [(facts.stable, was.0, now.0), (facts.canary, was.1, now.1)] {
            if is <= was {
                continue;
            }
            judgement.occasion(&["S1"]);
            let hash = self.services.get(name).cloned().unwrap_or_default();
            let (needed, ready) = (need(is, facts.replicas), self.ready(&hash));
            if ready < needed {
                judgement.broken.push(format!(
                    "S1: a share of {is} to {name}: {ready} pods of {needed} are ready"
                ));
            }
        }
        if now.1 > was.1 {
            self.raised(route, now.1, judgement);
        }
    }

    /// The canary's share was raised by a write to an object.
    fn raised(&self, object: &Value, share: u64, judgement: &mut Judgement) {
        judgement.occasion(&["S18"]);
        if share > 1 && share + 1 != FULL {
            judgement.occasion(&["S3"]);
        }
        let decided = &self.decided;
        let by = decision(object);
        if let Some(given_up) = decided.given_up {
            // What was sent before, may land until the object is touched by what came after.
            if by < given_up {
                judgement.late += 1;
            } else {
                judgement.broken.push(format!(
                    "S18: share {share} by decision {by}, the attempt was given up by {given_up}"
                ));
            }
        } else if share > decided.allowed.max(1) && !(decided.allowed == 0 && share + 1 == FULL) {
            judgement.broken.push(format!(
                "S3: share {share} where {} is allowed in {}",
                decided.allowed, decided.stage
            ));
        }
    }

    fn rollout(&mut self, seen: &Seen, judgement: &mut Judgement) {
        let Some(rollout) = &seen.object else { return };
        let attempt = &rollout["status"]["attempt"];
        let before = self.decided.clone();
        let stage = text(attempt, "/stage").to_owned();
        let index = usize::try_from(number(attempt, "/stepIndex")).unwrap_or(0);
        let steps = attempt["steps"].as_array().into_iter().flatten();
        let weight = steps
            .take(index + 1)
            .filter_map(|s| s["setWeight"].as_u64())
            .last();
        let allowed = match stage.as_str() {
            "Stepping" => weight.unwrap_or(0) * (FULL / 100),
            "Promoting" | "Baking" | "Switching" => FULL,
            _ => 0,
        };
        let mut now = Decided {
            attempt: number(attempt, "/number"),
            hash: text(attempt, "/hash").to_owned(),
            stable: text(rollout, "/status/stableRevision").to_owned(),
            sequence: number(rollout, "/status/decision/sequence"),
            promoted: before.promoted,
            given_up: None,
            stage,
            allowed,
        };
        if now.sequence < before.sequence || now.attempt < before.attempt {
            judgement.broken.push(format!(
                "S19: from decision {} and attempt {} back to {} and {}",
                before.sequence, before.attempt, now.sequence, now.attempt
            ));
        }
        let outcome = text(attempt, "/outcome");
        if now.stage == "RollingBack" || (now.stage == "Done" && outcome != "Promoted") {
            let same = before.given_up.filter(|_| before.attempt == now.attempt);
            now.given_up = same.or(Some(now.sequence));
        } else if before.given_up.is_some() && before.attempt == now.attempt {
            judgement.broken.push(format!(
                "S18: attempt {} was given up, and is {} again",
                now.attempt, now.stage
            ));
        }
        if now.stable != before.stable && !before.stable.is_empty() {
            judgement.occasion(&["S15"]);
            if now.stable != before.hash || !now.promoted.insert(before.attempt) {
                judgement.broken.push(format!(
                    "S15: {} becomes stable in attempt {} about {}",
                    now.stable, before.attempt, before.hash
                ));
            }
        }
        self.decided = now;
    }
}

/// The judge's own test: a history in which each law was broken on purpose must be found out.
/// Gives the laws that were not, of those that could have been broken.
pub fn blind_to(history: &History, facts: Facts) -> Vec<&'static str> {
    let occasions = judge(history, facts).occasions;
    let found = |law: &str, history: &History| {
        let broken = judge(history, facts).broken;
        broken.iter().any(|line| line.starts_with(law))
    };
    let with = |law: &'static str, kind: &str, spoil: &dyn Fn(&mut Seen)| {
        if !matches!(law, "S2" | "S19") && !occasions.contains_key(law) {
            return None;
        }
        let mut spoilt = history.clone();
        let of = spoilt.seen.iter_mut().filter(|s| s.kind == kind);
        of.for_each(spoil);
        (!found(law, &spoilt)).then_some(law)
    };
    let field = |seen: &mut Seen, pointer: &str, value: Value| {
        if let Some(found) = seen.object.as_mut().and_then(|o| o.pointer_mut(pointer)) {
            *found = value;
        }
    };
    let routed = history.seen.iter().any(|s| {
        let backends = s
            .object
            .as_ref()
            .and_then(|o| o.pointer("/spec/rules/0/backendRefs/1"));
        s.kind == "HTTPRoute" && s.name == "app" && backends.is_some()
    });
    let void = if routed { "S1" } else { "S7" };
    let weights = |s: &mut Seen| field(s, "/spec/rules/0/backendRefs/1/weight", 7.into());
    let all = [
        with(void, "Pod", &|s| {
            field(s, "/status/conditions", Value::Array(vec![]));
        }),
        // Everything is allowed only where the stage says so.
        with("S3", "Rollout", &|s| {
            field(s, "/status/attempt/stage", "Starting".into());
        }),
        with("S18", "Rollout", &|s| {
            field(s, "/status/attempt/stage", "RollingBack".into());
            field(s, "/status/decision/sequence", 0.into());
        }),
        with("S19", "Rollout", &|s| {
            field(s, "/status/decision/sequence", 0.into());
        }),
        with("S6", "Rollout", &|s| {
            let rollout = s.object.as_ref();
            let hash = rollout.map(|o| o["status"]["attempt"]["hash"].clone());
            // The one in flight is called stable: it is scaled down when it is given up.
            field(s, "/status/stableRevision", hash.unwrap_or_default());
        }),
        with("S15", "Rollout", &|s| {
            field(s, "/status/attempt/hash", "another".into());
        }),
        if routed {
            with("S2", "HTTPRoute", &weights)
        } else {
            None
        },
    ];
    all.into_iter().flatten().collect()
}
