//! Where it must come to rest once the weather is fine and nobody asks for anything.

use serde_json::Value;

use crate::{
    api::{
        kinds::{POD, ROLLOUT, SERVICE, SET},
        store::{Path, number, text},
        write::owner,
    },
    nature::{Health, pods::serves},
    world::World,
};

use super::seen::HASH;

/// How it came to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// As it should.
    Fine,
    /// It waits for a person.
    Person,
    /// It still works.
    Busy,
}

fn stalled(rollout: &Value) -> bool {
    let conditions = rollout["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c["type"] == "Stalled" && c["status"] == "True")
}

impl World {
    /// How it has come to rest.
    pub fn rest(&self) -> Rest {
        let Some(rollout) = self.store.get(&Path::new(ROLLOUT, "app")) else {
            return Rest::Fine;
        };
        match text(rollout, "/status/phase") {
            "Healthy" | "Degraded" => Rest::Fine,
            "Paused" => Rest::Person,
            // Nobody but its team can mend a stable revision that does not start.
            "Progressing" if self.stable_is_broken(rollout) => Rest::Fine,
            _ if stalled(rollout) || number(rollout, "/spec/replicas") == 0 => Rest::Fine,
            _ => Rest::Busy,
        }
    }

    /// What is wrong with how it came to rest.
    pub fn at_rest(&self) -> Vec<String> {
        let mut broken = vec![];
        let Some(rollout) = self.store.get(&Path::new(ROLLOUT, "app")) else {
            self.nothing_left(&mut broken);
            return broken;
        };
        if !rollout["metadata"]["deletionTimestamp"].is_null() {
            broken.push(format!(
                "L10: a deleted Rollout stays: {}",
                text(rollout, "/status/message")
            ));
            return broken;
        }
        let phase = text(rollout, "/status/phase");
        let message = text(rollout, "/status/message");
        let wanted = number(rollout, "/spec/replicas");
        let stable = text(rollout, "/status/stableRevision");
        if self.rest() != Rest::Fine {
            broken.push(format!("L1: it does not come to rest: {phase}: {message}"));
            return broken;
        }
        if rollout["status"]["observedGeneration"] != rollout["metadata"]["generation"] {
            broken.push("L1: it rests, and has not seen the last change of the spec".into());
        }
        let template = text(rollout, "/spec/template/spec/containers/0/image");
        // An undo asks for another revision than the template's.
        let undo = text(rollout, "/status/undo/revision");
        let of_undo = self.image_of(undo);
        let image = of_undo.as_deref().unwrap_or(template);
        if phase == "Healthy" && wanted > 0 {
            let of_stable = self.image_of(stable);
            if of_stable.as_deref() != Some(image) {
                broken.push(format!("L1: Healthy with {of_stable:?}, wanted {image}"));
            }
        }
        // Nothing is finished while something is amiss that a person must mend.
        let missing = self.laws.case.routed && self.share().is_none();
        let sick = self.stable_is_broken(rollout);
        if stable.is_empty() || missing || wanted == 0 || sick || stalled(rollout) {
            return broken;
        }
        self.as_stable(stable, wanted, &mut broken);
        broken
    }

    fn stable_is_broken(&self, rollout: &Value) -> bool {
        let image = self.image_of(text(rollout, "/status/stableRevision"));
        image.is_some_and(|i| self.nature.health(&i) == Health::Broken)
    }

    /// The image of a revision, by its hash.
    pub fn image_of(&self, hash: &str) -> Option<String> {
        let mut sets = self.store.all(SET);
        let (_, set) = sets.find(|(_, s)| text(s, HASH) == hash)?;
        Some(text(set, "/spec/template/spec/containers/0/image").to_owned())
    }

    /// All traffic and all pods are stable's.
    fn as_stable(&self, stable: &str, wanted: u64, broken: &mut Vec<String>) {
        for (path, set) in self.store.all(SET) {
            let replicas = number(set, "/spec/replicas");
            let should = if text(set, HASH) == stable { wanted } else { 0 };
            if replicas != should {
                broken.push(format!(
                    "L1: {} has {replicas} pods at rest, wanted {should}",
                    path.name
                ));
            }
        }
        let ready = self
            .store
            .all(POD)
            .filter(|(_, p)| serves(p) && text(p, HASH) == stable)
            .count();
        if (ready as u64) < wanted {
            broken.push(format!(
                "L1: {ready} pods of stable are ready at rest, wanted {wanted}"
            ));
        }
        if let Some(share) = self.share().filter(|s| *s != 0) {
            broken.push(format!("L4: a share of {share} goes to the canary at rest"));
        }
        for name in self.laws.case.roles.iter().flatten() {
            let service = self.store.get(&Path::new(SERVICE, name.as_str()));
            let selects = service.map(|s| text(s, "/spec/selector/pod-template-hash"));
            let preview = name.ends_with("preview") || name.ends_with("canary");
            if selects != Some(stable) && !(preview && selects.is_some()) {
                broken.push(format!(
                    "L1: {name} selects {selects:?} at rest, stable is {stable}"
                ));
            }
        }
    }

    fn nothing_left(&self, broken: &mut Vec<String>) {
        for kind in [SET, SERVICE] {
            for (path, object) in self.store.all(kind) {
                if owner(object).is_some_and(|(kind, _)| kind == "Rollout") {
                    broken.push(format!("L10: {path} is left of a Rollout that is gone"));
                }
            }
        }
    }

    /// What stands, to be compared with how it stands after another history.
    pub fn end(&self) -> Vec<String> {
        let mut lines = vec![];
        for (path, set) in self.store.all(SET) {
            lines.push(format!("{} x{}", path.name, number(set, "/spec/replicas")));
        }
        for name in self.laws.case.roles.iter().flatten() {
            let service = self.store.get(&Path::new(SERVICE, name.as_str()));
            let selects = service.map(|s| text(s, "/spec/selector/pod-template-hash").to_owned());
            lines.push(format!("{name} selects {}", selects.unwrap_or_default()));
        }
        if let Some(share) = self.share() {
            lines.push(format!("app sends {share} to the canary"));
        }
        if let Some(rollout) = self.store.get(&Path::new(ROLLOUT, "app")) {
            lines.push(format!(
                "{} stable {} attempt {} {}",
                text(rollout, "/status/phase"),
                text(rollout, "/status/stableRevision"),
                number(rollout, "/status/attempt/number"),
                text(rollout, "/status/attempt/outcome"),
            ));
        }
        lines
    }
}
