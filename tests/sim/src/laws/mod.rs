//! What may never be, whatever the weather: checked at every write of Serin's, and at the end.

pub mod commits;
pub mod ends;
pub mod seen;
pub mod writes;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::{
    api::{
        kinds::{Id, ROLLOUT, ROUTE, SERVICE, SET, SLICE},
        store::{Past, Path},
    },
    cases::Case,
    world::World,
};

use seen::{Decided, Seen};

/// All of something, in millionths.
pub const FULL: u32 = 1_000_000;

/// So long a look and what is committed by it may take, in milliseconds.
const LOOK: u64 = 10_000;

/// The laws, and what each of Serin's processes knows.
pub struct Laws {
    /// What is played.
    pub case: Case,
    /// What was broken.
    pub broken: Vec<String>,
    /// Nothing counts as broken any more: what is played is no longer the case.
    pub silent: bool,
    known: BTreeMap<usize, BTreeMap<Path, Arc<Value>>>,
    /// EndpointSlices as they were known before, and until when.
    former: BTreeMap<usize, Vec<(u64, Path, Arc<Value>)>>,
    looked: BTreeMap<usize, Seen>,
    decided: BTreeMap<usize, Decided>,
}

impl Laws {
    /// For a case.
    pub fn new(case: Case) -> Self {
        Self {
            case,
            broken: vec![],
            silent: false,
            known: BTreeMap::new(),
            former: BTreeMap::new(),
            looked: BTreeMap::new(),
            decided: BTreeMap::new(),
        }
    }

    /// A process is told of an object.
    pub fn learn(&mut self, now: u64, life: usize, path: &Path, object: Option<&Arc<Value>>) {
        if !matches!(path.kind, SET | SLICE | ROLLOUT | ROUTE | SERVICE) {
            return;
        }
        let known = self.known.entry(life).or_default();
        let old = match object {
            Some(object) => known.insert(path.clone(), Arc::clone(object)),
            None => known.remove(path),
        };
        if let Some(old) = old.filter(|_| path.kind == SLICE) {
            let former = self.former.entry(life).or_default();
            former.retain(|(until, ..)| until + LOOK > now);
            former.push((now, path.clone(), old));
        }
    }

    /// A process lists a kind anew: what is not told of again it takes for gone.
    pub fn relearn(&mut self, life: usize, kind: Id) {
        if let Some(known) = self.known.get_mut(&life) {
            known.retain(|path, _| path.kind != kind);
        }
    }

    /// What a process knows when it sends a write: as it looked when it decided, and by now.
    pub fn seen(&mut self, now: u64, life: usize, commits: bool) -> Seen {
        let known = self.known.get(&life);
        let seen_now = Seen::of(known.into_iter().flatten());
        if commits {
            // A look takes its time: what it read first may be older than what was told since.
            let mut looked = seen_now.clone();
            let former = self.former.get(&life).into_iter().flatten();
            for (_, path, old) in former.filter(|(until, ..)| until + LOOK > now) {
                let mut then = known.cloned().unwrap_or_default();
                then.insert(path.clone(), Arc::clone(old));
                looked.fewer_endpoints(&Seen::of(then.iter()));
            }
            self.looked.insert(life, looked);
        }
        let mut seen = self.looked.get(&life).cloned().unwrap_or_default();
        seen.join(&seen_now);
        seen.decided = self.decided.get(&life).cloned().unwrap_or_default();
        seen
    }
}

impl World {
    /// What a write of Serin's broke, now that it is done.
    pub fn judge(&mut self, life: usize, past: &Past, seen: &Seen) -> Vec<String> {
        let mut broken = vec![];
        let truth = self.truth();
        match past.path.kind {
            SET => writes::set(self, past, seen, &truth, &mut broken),
            SERVICE => writes::service(self, past, seen, &truth, &mut broken),
            ROUTE => writes::route(self, past, seen, &truth, &mut broken),
            ROLLOUT => {
                commits::rollout(self, past, seen, &truth, &mut broken);
                if let Some(new) = &past.new {
                    self.laws.decided.insert(life, Decided::of(new));
                }
            }
            _ => writes::other(past, &mut broken),
        }
        broken
    }
}
