//! The gateway: it accepts routes, and puts them in force a little later.

use serde_json::{Value, json};
use serin::model::share::rounded;

use crate::{
    api::{
        kinds::{ROLLOUT, ROUTE, SERVICE, SLICE},
        store::{Path, number, text},
    },
    laws::FULL,
    world::{Who, World},
};

use super::What;

/// What the data plane does with a route's requests.
#[derive(Clone, Debug, Default)]
pub struct Force {
    /// Weights of the stable and of the canary backend that are in force.
    pub weights: (u64, u64),
    /// The lowest and the highest share of the canary, in millionths, of what is written, accepted,
    /// or in force.
    pub flow: (u32, u32),
}

/// The canary's share of two weights, in millionths, rounded up where it is not all.
pub fn share(weights: (u64, u64)) -> u32 {
    let total = (weights.0 + weights.1).max(1);
    let share = (weights.1 * 1_000_000).div_ceil(total);
    let most = 1_000_000 - u64::from(weights.0 > 0);
    u32::try_from(share.min(most)).unwrap_or(0)
}

/// Whether a route names the user's Service in the place of the role Services, so that users reach every pod.
pub fn loose(route: &Value) -> bool {
    text(route, "/spec/rules/0/backendRefs/0/name") == "app"
}

/// The weights that are written in a route. Where it names the user's Service, stable alone has pods.
pub fn written(route: &Value) -> (u64, u64) {
    if loose(route) {
        return (100, 0);
    }
    let weight = |i: usize| {
        let pointer = format!("/spec/rules/0/backendRefs/{i}/weight");
        route.pointer(&pointer).and_then(Value::as_u64).unwrap_or(1)
    };
    (weight(0), weight(1))
}

impl World {
    /// The gateway's controller says that it has seen a route.
    pub(super) fn accept(&mut self, name: &str) {
        let path = Path::new(ROUTE, name);
        let Some(route) = self.store.get(&path).cloned() else {
            return;
        };
        let generation = number(&route, "/metadata/generation");
        let condition = |kind: &str| {
            json!({"type": kind, "status": "True", "reason": kind, "message": "",
            "lastTransitionTime": "2027-01-01T00:00:00Z", "observedGeneration": generation})
        };
        self.edit(Who::Nature, &path, |route| {
            route["status"] = json!({"parents": [{"controllerName": "example.net/gateway", "parentRef": {"name": "gateway"},
                "conditions": [condition("Accepted"), condition("ResolvedRefs")]}]});
        });
        let (low, high) = self.nature.times.effect;
        self.later(low, high, What::Force(name.to_owned(), generation));
    }

    /// A route is in force as it was accepted; one that changed since then will be.
    pub(super) fn force(&mut self, name: &str, generation: u64) {
        let path = Path::new(ROUTE, name);
        if let Some(route) = self.store.get(&path)
            && number(route, "/metadata/generation") == generation
        {
            self.nature.force.weights = written(route);
            self.note_share(share(self.nature.force.weights));
            let at = self.now();
            let (stable, canary) = self.nature.force.weights;
            self.log.note(at, &format!("in force: {stable}/{canary}"));
        }
        self.serve();
    }

    /// The canary's share that is in force is told where a scenario is played.
    pub fn note_share(&mut self, share: u32) {
        if let Some(said) = &mut self.nature.said
            && said.served.last() != Some(&rounded(share))
        {
            said.served.push(rounded(share));
        }
    }

    /// Whether what is in force is served by somebody. Where nobody took a pod away but Serin, and
    /// no version is sick, it always is, once something was deployed.
    pub fn serve(&mut self) {
        self.note_served();
        let force = share(self.nature.force.weights);
        if let Some(written) = self.share() {
            self.nature.force.flow = (written.min(force), written.max(force));
        }
        if let Some(void) = self.void() {
            self.broke(&format!(
                "S1: traffic goes to {void}, which has no ready pod"
            ));
        }
    }

    /// The canary's share that is written in the route, in millionths; none where there is no route.
    pub fn share(&self) -> Option<u32> {
        let (_, route) = self.store.all(ROUTE).next()?;
        Some(share(written(route)))
    }

    /// Whether users come by their own Service, as the route is written.
    pub fn loose(&self) -> bool {
        self.store.all(ROUTE).any(|(_, route)| loose(route))
    }

    /// The canary's share of the traffic, in millionths, as the data plane has it.
    pub fn served(&self) -> u32 {
        let case = &self.laws.case;
        if let (Some([active, _]), false) = (&case.roles, case.routed) {
            let rollout = self.store.get(&Path::new(ROLLOUT, "app"));
            let stable = rollout.map_or("", |r| text(r, "/status/stableRevision"));
            let service = self.store.get(&Path::new(SERVICE, active.as_str()));
            let behind = service.map_or("", |s| text(s, "/spec/selector/pod-template-hash"));
            let turned = !stable.is_empty() && !behind.is_empty() && stable != behind;
            return if turned { FULL } else { 0 };
        }
        self.share().map_or(0, |_| share(self.nature.force.weights))
    }

    /// Whether somebody else wrote the route's weights last: it may not have been seen.
    pub fn bent_by_somebody(&self) -> bool {
        let route = self.store.all(ROUTE).next();
        route.is_some_and(|(_, r)| text(r, "/metadata/managedFields/0/manager") == "somebody")
    }

    /// A Service that gets requests and has nobody to answer them.
    fn void(&self) -> Option<String> {
        if self.nature.disturbed {
            return None;
        }
        let rollout = self.store.get(&Path::new(ROLLOUT, "app"))?;
        let deployed = !text(rollout, "/status/stableRevision").is_empty();
        if !deployed || number(rollout, "/spec/replicas") == 0 {
            return None;
        }
        let roles = &self.laws.case.roles;
        let Some([stable, canary]) = roles else {
            return None;
        };
        let (to_stable, to_canary) = match self.laws.case.routed {
            true => (
                self.nature.force.weights.0 > 0,
                self.nature.force.weights.1 > 0,
            ),
            false => (true, false),
        };
        let parts = [(stable, to_stable), (canary, to_canary)];
        let empty = |name: &&String| {
            self.nature.served.contains(*name) && self.endpoints_of(name) == Some(0)
        };
        parts
            .into_iter()
            .filter(|(_, gets)| *gets)
            .map(|(name, _)| name)
            .find(empty)
            .cloned()
    }

    /// Ready endpoints of a Service; none where it has no slice.
    fn endpoints_of(&self, name: &str) -> Option<usize> {
        let slice = self.store.get(&Path::new(SLICE, format!("{name}-slice")))?;
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        Some(
            endpoints
                .filter(|e| e["conditions"]["ready"] == true)
                .count(),
        )
    }

    /// Remembers which Services have had a ready pod.
    fn note_served(&mut self) {
        for name in self.laws.case.roles.clone().into_iter().flatten() {
            if self.endpoints_of(&name).is_some_and(|n| n > 0) {
                self.nature.served.insert(name);
            } else if self.store.get(&Path::new(SERVICE, name.as_str())).is_none() {
                self.nature.served.remove(&name);
            }
        }
    }
}
