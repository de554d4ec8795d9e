//! The gateway: it accepts a route's weights after a while, and they take effect a while later.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::share::rounded;

/// What the gateway was told, and when it acts on it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct DataPlane {
    /// Changes that have not been accepted yet: when, and the generation.
    accepting: Vec<(Timestamp, i64)>,
    /// Changes that have not taken effect yet: when, and the canary's share in millionths.
    applying: Vec<(Timestamp, u32)>,
    /// Turns of role Services that have not taken effect yet: when, the Service, and the revision.
    turning: Vec<(Timestamp, String, String)>,
    /// The canary's share that it serves, in millionths.
    pub share: u32,
    /// Changes of who is named that have not taken effect yet: when, and whether it is the user's Service.
    #[serde(default)]
    loosening: Vec<(Timestamp, bool)>,
    /// Whether it serves by the user's Service: whatever pods there are.
    #[serde(default)]
    pub loose: bool,
    /// The revisions to which it sends what the role Services get, by Service.
    pub behind: BTreeMap<String, String>,
    /// What it served in percent, one after the other.
    pub served: Vec<u32>,
}

impl DataPlane {
    /// A route changed.
    pub fn tell(
        &mut self,
        now: Timestamp,
        generation: i64,
        (share, loose): (u32, bool),
        accept: SignedDuration,
        effect: SignedDuration,
    ) {
        let at = |d| now.saturating_add(d).unwrap_or(Timestamp::MAX);
        self.accepting.push((at(accept), generation));
        self.applying.push((at(effect), share));
        self.loosening.push((at(effect), loose));
    }

    /// A role Service selects another revision.
    pub fn turn(&mut self, now: Timestamp, service: &str, hash: &str, effect: SignedDuration) {
        let at = now.saturating_add(effect).unwrap_or(Timestamp::MAX);
        self.turning.push((at, service.to_owned(), hash.to_owned()));
    }

    /// Lets time pass. The generation that was accepted, if any was.
    pub fn advance(&mut self, now: Timestamp) -> Option<i64> {
        // Effects come in the order in which they were told, also where the delay changed meanwhile.
        let mut last = self.share;
        self.applying.retain(|(at, share)| {
            if *at <= now {
                last = *share;
            }
            *at > now
        });
        self.share = last;
        let mut told = self.loosening.iter().rev();
        let last = told.find(|(at, _)| *at <= now);
        self.loose = last.map_or(self.loose, |(_, loose)| *loose);
        self.loosening.retain(|(at, _)| *at > now);
        for (_, service, hash) in self.turning.iter().filter(|(at, ..)| *at <= now) {
            self.behind.insert(service.clone(), hash.clone());
        }
        self.turning.retain(|(at, ..)| *at > now);
        let accepted = self
            .accepting
            .iter()
            .filter(|(at, _)| *at <= now)
            .map(|(_, g)| *g)
            .max();
        self.accepting.retain(|(at, _)| *at > now);
        accepted
    }

    /// Notes what it serves, in millionths.
    pub fn note(&mut self, share: u32) {
        if self.served.last() != Some(&rounded(share)) {
            self.served.push(rounded(share));
        }
    }

    /// When the next change is accepted or takes effect.
    pub fn next(&self) -> Option<Timestamp> {
        let accepting = self.accepting.iter().map(|(at, _)| *at);
        accepting
            .chain(self.applying.iter().map(|(at, _)| *at))
            .chain(self.turning.iter().map(|(at, ..)| *at))
            .min()
    }
}

/// The status that the gateway writes when it has accepted a generation.
pub fn accepted(generation: i64) -> Value {
    let condition = |type_: &str| {
        json!({
            "type": type_, "status": "True", "reason": type_, "message": "", "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    json!({"parents": [{
        "controllerName": "sim.serin.dev/gateway",
        "parentRef": {"name": "gateway"},
        "conditions": [condition("Accepted"), condition("ResolvedRefs")],
    }]})
}

/// Whether a route of the simulator sends anybody to the user's Service.
pub fn is_loose(route: &Value, user: &str) -> bool {
    let rules = route.pointer("/spec/rules").and_then(Value::as_array);
    let rules = rules.into_iter().flatten();
    let refs = rules.flat_map(|r| r.get("backendRefs").and_then(Value::as_array));
    refs.flatten().any(|r| {
        let weight = r.get("weight").and_then(Value::as_u64);
        r.get("name").and_then(Value::as_str) == Some(user) && weight != Some(0)
    })
}

/// The canary's share in a route of the simulator, in millionths: the second backend is the canary's.
pub fn canary_share(route: &Value) -> u32 {
    let weight = |i: usize| {
        route
            .pointer(&format!("/spec/rules/0/backendRefs/{i}/weight"))
            .and_then(Value::as_u64)
            .unwrap_or(0)
    };
    let (stable, canary) = (weight(0), weight(1));
    let parts = (canary * 1_000_000).checked_div(stable + canary);
    parts.and_then(|p| u32::try_from(p).ok()).unwrap_or(0)
}
