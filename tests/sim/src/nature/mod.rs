//! The cluster's own controllers and the data plane: everything that happens by itself.

pub mod gateway;
pub mod metrics;
pub mod pods;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
};

use crate::{
    api::{
        kinds::{KINDS, POD},
        store::Path,
        write::owner,
    },
    dice::Dice,
    people::Act,
    world::{Who, World},
};

use gateway::Force;
use metrics::Said;

/// How a version behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It starts, serves, and its metrics are good.
    Good,
    /// It is good, but takes minutes to start.
    Slow,
    /// Its pods never get ready.
    Broken,
    /// Its pods serve, and its metrics are bad.
    Bad,
    /// Its image is not there.
    NoImage,
    /// Its pods never get ready, and nobody says why.
    Mute,
    /// No node takes its pods.
    Homeless,
}

/// How long things take: at least and at most, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From a pod's making to its readiness.
    pub ready: (u64, u64),
    /// From a route's change to its acceptance.
    pub accept: (u64, u64),
    /// From a route's acceptance to its effect.
    pub effect: (u64, u64),
}

/// Something that is to happen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The ReplicaSet controller looks at a ReplicaSet.
    Sync(String),
    /// A pod becomes ready, or fails to.
    Start(String),
    /// A pod's containers have ended.
    End(String),
    /// The endpoints of all Services are looked at.
    Endpoints,
    /// The gateway accepts a route as it stands.
    Accept(String),
    /// A route is in force as it was accepted.
    Force(String, u64),
    /// The objects of an owner go.
    Collect(String),
    /// People do something.
    People(Act),
    /// The weather does something.
    Weather(crate::storm::Gust),
    /// A process starts.
    Boot(usize),
}

/// What is to happen, and what is in force.
#[derive(Debug)]
pub struct Nature {
    /// Choices.
    pub dice: Dice,
    queue: BinaryHeap<Reverse<(u64, u64, What)>>,
    sequence: u64,
    /// Pods made so far.
    pub pods: u64,
    /// How versions behave, by their names; good where nothing is said.
    pub health: BTreeMap<String, Health>,
    /// How long things take.
    pub times: Times,
    /// What a scenario says, where one is played.
    pub said: Option<Said>,
    /// What the data plane does.
    pub force: Force,
    /// What people do once the attempt has got somewhere.
    pub story: VecDeque<(&'static str, Act)>,
    /// Services that have had a ready pod.
    pub served: BTreeSet<String>,
    /// The most pods that there may be.
    pub quota: Option<u64>,
    /// Services that people turned last.
    pub turned: BTreeSet<String>,
    /// Whether people ever scaled a ReplicaSet.
    pub scaled_by_hand: bool,
    /// Whether nature or people ever took something away.
    pub disturbed: bool,
}

impl Nature {
    /// Nothing yet.
    pub fn new(dice: Dice) -> Self {
        Self {
            dice,
            queue: BinaryHeap::new(),
            sequence: 0,
            pods: 0,
            health: BTreeMap::new(),
            times: Times {
                ready: (500, 4_000),
                accept: (20, 900),
                effect: (0, 900),
            },
            said: None,
            force: Force::default(),
            story: VecDeque::new(),
            served: BTreeSet::new(),
            quota: None,
            turned: BTreeSet::new(),
            scaled_by_hand: false,
            disturbed: false,
        }
    }

    /// Something is to happen between so many milliseconds from now.
    pub fn later(&mut self, now: u64, low: u64, high: u64, what: What) {
        // One look at what changed is enough.
        let once = matches!(what, What::Sync(_) | What::Endpoints);
        if once && self.queue.iter().any(|Reverse((_, _, w))| *w == what) {
            return;
        }
        let at = now + self.dice.range(low, high);
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, what)));
    }

    /// When the next thing happens.
    pub fn next(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((at, ..))| *at)
    }

    /// What is due.
    pub fn take(&mut self, now: u64) -> Option<What> {
        if self.next()? > now {
            return None;
        }
        self.queue.pop().map(|Reverse((.., what))| what)
    }

    /// How versions behave: `v0` as the first, and so on.
    pub fn be_in_health(&mut self, all: &[Health]) {
        let all = all.iter().enumerate();
        self.health = all.map(|(n, health)| (format!("v{n}"), *health)).collect();
    }

    /// How a version behaves, by its image.
    pub fn health(&self, image: &str) -> Health {
        let health = self.health.get(version(image));
        health.copied().unwrap_or(Health::Good)
    }
}

/// The version that an image names.
pub fn version(image: &str) -> &str {
    image.rsplit(':').next().unwrap_or_default()
}

impl World {
    /// Something happens that is nature's doing.
    pub fn happen(&mut self, what: &What) {
        match what {
            What::Sync(name) => self.sync(name),
            What::Start(name) => self.start(name),
            What::End(name) => drop(self.put(Who::Nature, &Path::new(POD, name), None)),
            What::Endpoints => self.endpoints(),
            What::Accept(name) => self.accept(name),
            What::Force(name, generation) => self.force(name, *generation),
            What::Collect(uid) => self.collect_all(uid),
            What::People(_) | What::Weather(_) | What::Boot(_) => {}
        }
    }

    /// Whoever has no owner left goes.
    fn collect_all(&mut self, uid: &str) {
        let theirs: Vec<Path> = (0..KINDS.len())
            .flat_map(|kind| self.store.all(kind))
            .filter(|(_, o)| owner(o).is_some_and(|(_, owner)| owner == uid))
            .map(|(p, _)| p.clone())
            .collect();
        for path in theirs {
            if path.kind == POD {
                self.terminate(&path.name);
            } else {
                self.put(Who::Nature, &path, None);
            }
        }
    }
}
