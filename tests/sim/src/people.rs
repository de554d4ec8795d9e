//! People: what they ask for, and what they break.

use serde_json::{Value, json};

use crate::{
    api::{
        kinds::{POD, ROLLOUT, ROUTE, SERVICE, SET},
        store::{Path, number, text},
        write::Change,
    },
    cases::template,
    nature::pods::serves,
    world::{Who, World},
};

/// Something that people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// A version is released.
    Release(usize),
    /// More pods are wanted, or fewer.
    Replicas(u64),
    /// An autoscaler wants another number of pods; where none are wanted it rests.
    Autoscale(u64),
    /// There may be no more than so many pods in the namespace.
    Quota(u64),
    /// There may be any number.
    NoQuota,
    /// A command is given, to whatever is in flight.
    Command(&'static str),
    /// A command is given, in one of the ways in which people write it, right or wrong.
    Say(&'static str),
    /// `spec.paused`.
    Pause(bool),
    /// Somebody writes other weights.
    Weights(u64, u64),
    /// A pod is killed.
    KillPod,
    /// A ReplicaSet is deleted.
    DeleteSet,
    /// A ReplicaSet is scaled by hand.
    ScaleSet(u64),
    /// A role Service is deleted.
    DeleteRole(usize),
    /// A role Service is made to select another revision.
    TurnRole(usize),
    /// The route is deleted, and comes back as it was written.
    DeleteRoute,
    /// It comes back.
    CreateRoute,
    /// A tool writes the route's weights as they stand in a repository.
    Revert,
    /// The status is lost.
    LoseStatus,
    /// The Rollout is deleted.
    Delete,
    /// It comes back.
    Create,
}

/// Somebody else wrote a route's rules.
pub fn signed(route: &mut Value) {
    route["metadata"]["managedFields"] = json!([{"manager": "somebody", "operation": "Update",
        "time": "2027-01-15T08:00:00Z", "fieldsV1": {"f:spec": {"f:rules": {}}}}]);
}

fn rollout() -> Path {
    Path::new(ROLLOUT, "app")
}

impl World {
    /// The cluster as a team sets it up, with one of the ways to judge.
    pub fn set_up(&mut self, replicas: u64, deadline_aborts: bool, check: usize) {
        use crate::{api::kinds::TEMPLATE, cases::Case};
        self.put(
            Who::People,
            &Path::new(SERVICE, "app"),
            Some(Case::service()),
        );
        self.put(
            Who::People,
            &Path::new(TEMPLATE, "check"),
            Some(Case::check(check)),
        );
        if let Some(route) = self.laws.case.route() {
            self.nature.force.weights = (100, 0);
            self.put(Who::People, &Path::new(ROUTE, "app"), Some(route));
        }
        let rollout = self.laws.case.rollout(replicas, deadline_aborts);
        self.create_rollout(rollout);
    }

    /// The Rollout is made.
    pub fn create_rollout(&mut self, value: Value) {
        let terms = crate::api::write::Terms::default();
        let stamp = self.stamp();
        if let Ok(Change::Put(new)) =
            crate::api::write::create(&self.store, &rollout(), value, &terms, &stamp)
        {
            self.put(Who::People, &rollout(), Some(new));
        }
    }

    /// People do something.
    pub fn act(&mut self, act: Act) {
        let now = self.now();
        self.log.note(now, &format!("people: {act:?}"));
        let quiet = matches!(
            act,
            Act::Release(_)
                | Act::Command(_)
                | Act::Say(_)
                | Act::Pause(_)
                | Act::Create
                | Act::CreateRoute
                | Act::Quota(_)
                | Act::NoQuota
        );
        let more = |n: u64| n > 0 && self.replicas() > 0;
        let grows = matches!(act, Act::Replicas(n) | Act::Autoscale(n) if more(n));
        self.nature.disturbed |= !quiet && !grows;
        self.nature.scaled_by_hand |= matches!(act, Act::ScaleSet(_));
        match act {
            Act::Release(version) => self.edit(Who::People, &rollout(), |r| {
                r["spec"]["template"] = template(version);
            }),
            Act::Replicas(n) => self.resize(n),
            Act::Autoscale(n) => {
                if self.replicas() > 0 {
                    self.weather.strike("autoscaled");
                    self.resize(n);
                }
            }
            Act::Quota(n) => {
                self.weather.strike("quota");
                self.nature.quota = Some(n);
            }
            Act::NoQuota => self.nature.quota = None,
            Act::Command(verb) => self.command(verb, format!("*/{now}")),
            Act::Say(verb) => {
                let token = self.token();
                self.log.note(now, &format!("people: {verb}: {token}"));
                self.command(verb, token);
            }
            Act::Pause(paused) => self.edit(Who::People, &rollout(), |r| {
                r["spec"]["paused"] = json!(paused)
            }),
            Act::Weights(stable, canary) => self.weights(stable, canary),
            Act::Revert => self.weights(100, 0),
            Act::KillPod => self.kill_pod(),
            Act::DeleteSet => {
                if let Some(path) = self.some_set() {
                    self.put(Who::People, &path, None);
                }
            }
            Act::ScaleSet(n) => {
                if let Some(path) = self.some_set() {
                    self.edit(Who::People, &path, |s| s["spec"]["replicas"] = json!(n));
                }
            }
            Act::DeleteRole(role) => {
                if let Some(path) = self.role(role) {
                    self.put(Who::People, &path, None);
                }
            }
            Act::TurnRole(role) => self.turn(role),
            Act::DeleteRoute => drop(self.put(Who::People, &Path::new(ROUTE, "app"), None)),
            Act::CreateRoute => {
                let path = Path::new(ROUTE, "app");
                if self.store.get(&path).is_none()
                    && let Some(route) = self.laws.case.route()
                {
                    self.put(Who::People, &path, Some(route));
                }
            }
            Act::LoseStatus => self.edit(Who::People, &rollout(), |r| {
                r["status"] = json!({"observedGeneration": -1});
            }),
            Act::Delete => self.delete_rollout(),
            Act::Create => {
                if self.store.get(&rollout()).is_none() {
                    let new = self.laws.case.rollout(2, true);
                    self.create_rollout(new);
                }
            }
        }
    }

    fn command(&mut self, verb: &str, token: String) {
        self.edit(Who::People, &rollout(), |r| {
            r["metadata"]["annotations"][format!("serin.dev/{verb}")] = json!(token);
        });
    }

    /// What a command is asked of: what is in flight, this step, a revision that is not in flight, or
    /// something that is none.
    fn token(&mut self) -> String {
        let now = self.now();
        let rollout = self.store.get(&rollout());
        let at = |pointer: &str| rollout.map_or("", |r| text(r, pointer)).to_owned();
        let (hash, stable) = (at("/status/attempt/hash"), at("/status/stableRevision"));
        let step = rollout.map_or(0, |r| number(r, "/status/attempt/stepIndex"));
        match self.dice.below(12) {
            0..=2 => format!("{hash}/{now}"),
            3..=4 => format!("{hash}@{step}/{now}"),
            5 => format!("*@{step}/{now}"),
            6 => format!("{stable}/{now}"),
            7 => "now".to_owned(),
            8 => format!("@{step}/"),
            // The same again, where it stood before.
            9 => "*/again".to_owned(),
            _ => format!("*/{now}"),
        }
    }

    /// Pods that are wanted.
    pub fn replicas(&self) -> u64 {
        self.store
            .get(&rollout())
            .map_or(0, |r| number(r, "/spec/replicas"))
    }

    fn resize(&mut self, replicas: u64) {
        self.edit(Who::People, &rollout(), |r| {
            r["spec"]["replicas"] = json!(replicas)
        });
    }

    fn weights(&mut self, stable: u64, canary: u64) {
        self.edit(Who::People, &Path::new(ROUTE, "app"), |r| {
            for (i, weight) in [stable, canary].into_iter().enumerate() {
                r["spec"]["rules"][0]["backendRefs"][i]["weight"] = json!(weight);
            }
            signed(r);
        });
    }

    fn kill_pod(&mut self) {
        let pods: Vec<String> = self
            .store
            .all(POD)
            .filter(|(_, p)| serves(p))
            .map(|(p, _)| p.name.clone())
            .collect();
        if !pods.is_empty() {
            let at = usize::try_from(self.dice.below(pods.len() as u64)).unwrap_or(0);
            self.terminate(&pods[at]);
        }
    }

    fn some_set(&mut self) -> Option<Path> {
        let sets: Vec<Path> = self.store.all(SET).map(|(p, _)| p.clone()).collect();
        let at = usize::try_from(self.dice.below(sets.len() as u64)).unwrap_or(0);
        sets.get(at).cloned()
    }

    fn role(&self, role: usize) -> Option<Path> {
        let roles = self.laws.case.roles.as_ref()?;
        let path = Path::new(SERVICE, roles[role].as_str());
        self.store.get(&path).map(|_| path)
    }

    fn turn(&mut self, role: usize) {
        let set = self.some_set().and_then(|p| self.store.get(&p).cloned());
        let hash = set.map(|s| text(&s, crate::laws::seen::HASH).to_owned());
        if let (Some(path), Some(hash)) = (self.role(role), hash) {
            self.nature.turned.insert(path.name.clone());
            self.edit(Who::People, &path, |s| {
                s["spec"]["selector"]["pod-template-hash"] = json!(hash)
            });
        }
    }

    /// The Rollout is deleted.
    pub fn delete_rollout(&mut self) {
        let stamp = self.stamp();
        match crate::api::write::delete(&self.store, &rollout(), &json!({}), &stamp) {
            Ok(Change::Remove) => drop(self.put(Who::People, &rollout(), None)),
            Ok(Change::Put(new)) => drop(self.put(Who::People, &rollout(), Some(new))),
            Ok(Change::LetGo(_) | Change::Answer(_)) | Err(_) => {}
        }
    }
}
