//! The world: the API server's objects, nature, the weather, and what was seen of it all.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    api::{
        kinds::{EVENT, KINDS, LEASE, POD, ROLLOUT, ROUTE, SERVICE, SET, SLICE},
        store::{Past, Path, Store, number, text},
        write::{Change, owner},
    },
    dice::Dice,
    laws::{Laws, seen::Seen},
    log::Log,
    nature::{Nature, What, gateway::Force},
    weather::Weather,
};

/// So many writes of the Rollout in a second are a storm.
const PACE: u64 = 60;

/// When it begins.
pub const EPOCH: i64 = 1_800_000_000;

/// Who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A process of Serin's, by its number.
    Serin(usize),
    /// The cluster's own controllers.
    Nature,
    /// People, and their tools.
    People,
}

/// The world.
pub struct World {
    start: Instant,
    /// Objects.
    pub store: Store,
    /// What becomes of requests.
    pub weather: Weather,
    /// What may never be.
    pub laws: Laws,
    /// The cluster's own controllers.
    pub nature: Nature,
    /// What happened.
    pub log: Log,
    /// Counts changes.
    pub changed: watch::Sender<u64>,
    /// The run has something to do.
    pub wake: Arc<Notify>,
    /// Serin's writes so far; Leases and Events are none.
    pub writes: u64,
    /// When it last wrote, in milliseconds.
    pub last_write: u64,
    /// The second in which Serin wrote the Rollout last, and how often.
    pace: (u64, u64),
    /// Processes that have died.
    pub dead: BTreeSet<usize>,
    /// Choices of people and nature.
    pub dice: Dice,
}

/// The world, as all share it.
pub type Shared = Arc<Mutex<World>>;

/// The world, for a moment.
pub fn lock(shared: &Shared) -> MutexGuard<'_, World> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// An empty one.
    pub fn new(seed: u64, laws: Laws, verbose: bool) -> Self {
        let mut dice = Dice::new(seed);
        let weather = Weather::new(Dice::new(dice.below(u64::MAX)));
        let nature = Nature::new(Dice::new(dice.below(u64::MAX)));
        Self {
            start: Instant::now(),
            store: Store::default(),
            weather,
            laws,
            nature,
            log: Log::new(verbose),
            changed: watch::Sender::new(0),
            wake: Arc::default(),
            writes: 0,
            last_write: 0,
            pace: (0, 0),
            dead: BTreeSet::new(),
            dice,
        }
    }

    /// Milliseconds since the beginning.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
    /// A time as the runtime has it.
    pub fn instant(&self, at: u64) -> Instant {
        self.start + Duration::from_millis(at)
    }
    /// The time of day, as objects have it.
    pub fn stamp(&self) -> String {
        Self::stamp_at(self.now())
    }
    /// The same of another time, in milliseconds since the beginning.
    pub fn stamp_at(at: u64) -> String {
        let seconds = i64::try_from(at / 1000).unwrap_or(0);
        Timestamp::from_second(EPOCH + seconds)
            .unwrap_or(Timestamp::MAX)
            .to_string()
    }

    /// Something happens to an object. As it stands then.
    pub fn put(&mut self, who: Who, path: &Path, new: Option<Value>) -> Option<Arc<Value>> {
        let (now, stamp) = (self.now(), self.stamp());
        let Some(past) = self.store.put(path, new, now, &stamp) else {
            return self.store.get(path).cloned();
        };
        self.log.line(now, who, &past);
        if path.kind == SERVICE && who != Who::People {
            self.nature.turned.remove(&path.name);
        }
        if matches!(who, Who::Serin(_)) && !matches!(path.kind, LEASE | EVENT) {
            self.last_write = now;
            self.keep_pace(path, now);
        }
        self.follow(&past);
        // Nobody watches Leases.
        if path.kind != LEASE {
            self.changed.send_modify(|n| *n += 1);
            self.wake.notify_one();
        }
        past.new.or(past.last)
    }

    /// L2: nobody answers writes with writes for ever.
    fn keep_pace(&mut self, path: &Path, now: u64) {
        if path.kind != ROLLOUT {
            return;
        }
        let (second, writes) = self.pace;
        self.pace = match second == now / 1000 {
            true => (second, writes + 1),
            false => (now / 1000, 1),
        };
        if self.pace.1 == PACE {
            self.broke(&format!(
                "L2: the Rollout is written {PACE} times in a second"
            ));
        }
    }

    /// A change of an object by people: as it is, changed.
    pub fn edit(&mut self, who: Who, path: &Path, edit: impl FnOnce(&mut Value)) {
        if let Some(old) = self.store.get(path) {
            let mut new = (**old).clone();
            edit(&mut new);
            self.put(who, path, Some(new));
        }
    }

    /// A write of Serin's arrives.
    pub fn land(&mut self, life: usize, path: &Path, change: Change, seen: &Seen) -> Arc<Value> {
        let who = Who::Serin(life);
        let (new, answer) = match change {
            Change::Answer(value) => return Arc::new(value),
            Change::Put(new) => (Some(new), None),
            Change::Remove => (None, None),
            Change::LetGo(last) => (None, Some(Arc::new(last))),
        };
        let before = self.store.version();
        let after = self.put(who, path, new);
        if self.store.version() != before
            && let Some(past) = self.store.history().last().cloned()
        {
            for law in self.judge(life, &past, seen) {
                self.broke(&law);
            }
        }
        answer.or(after).unwrap_or_default()
    }

    /// A law is broken.
    pub fn broke(&mut self, law: &str) {
        if self.laws.silent {
            return;
        }
        let now = self.now();
        self.log.note(now, &format!("BROKEN {law}"));
        self.laws.broken.push(format!("{now} ms: {law}"));
    }

    /// What follows from a change, sooner or later.
    fn follow(&mut self, past: &Past) {
        let name = past.path.name.clone();
        if let (None, Some(new)) = (&past.old, &past.new) {
            self.orphan(new);
        }
        match past.path.kind {
            SET => {
                self.later(10, 400, What::Sync(name));
                if past.new.is_none() {
                    self.collect(past);
                }
            }
            ROLLOUT => match &past.new {
                None => self.collect(past),
                Some(new) => self.tell(new),
            },
            POD => {
                let set = past.old.as_ref().or(past.new.as_ref());
                if let Some((_, uid)) = set.and_then(|p| owner(p)) {
                    let sets = self.store.all(SET);
                    let of = sets.filter(|(_, s)| text(s, "/metadata/uid") == uid);
                    let names: Vec<String> = of.map(|(p, _)| p.name.clone()).collect();
                    for name in names {
                        self.later(5, 200, What::Sync(name));
                    }
                }
                self.later(5, 150, What::Endpoints);
            }
            SERVICE => self.later(5, 150, What::Endpoints),
            SLICE => self.serve(),
            ROUTE if past.new.is_none() => {
                // Nothing is routed by what is gone.
                self.note_share(0);
                self.nature.force = Force {
                    weights: (100, 0),
                    ..Force::default()
                };
            }
            ROUTE => {
                let generation =
                    |o: &Option<Arc<Value>>| o.as_ref().map(|o| number(o, "/metadata/generation"));
                if generation(&past.old) != generation(&past.new) {
                    let (low, high) = self.nature.times.accept;
                    self.later(low, high, What::Accept(name));
                }
                self.serve();
            }
            _ => {}
        }
    }

    /// Something is to happen between so many milliseconds from now.
    pub fn later(&mut self, low: u64, high: u64, what: What) {
        let now = self.now();
        self.nature.later(now, low, high, what);
        self.wake.notify_one();
    }

    /// What is made for an owner that is no more goes after it.
    fn orphan(&mut self, new: &Value) {
        let Some((_, uid)) = owner(new) else {
            return;
        };
        let uid = uid.to_owned();
        let mut all = (0..KINDS.len()).flat_map(|kind| self.store.all(kind));
        let there = all.any(|(_, o)| text(o, "/metadata/uid") == uid);
        drop(all);
        if !there {
            self.later(50, 1500, What::Collect(uid));
        }
    }

    /// Who depends on what went goes, too.
    fn collect(&mut self, past: &Past) {
        let uid = past
            .old
            .as_ref()
            .map(|o| text(o, "/metadata/uid").to_owned());
        self.later(50, 1500, What::Collect(uid.unwrap_or_default()));
    }

    /// A process dies.
    pub fn kill(&mut self, life: usize) {
        if self.dead.insert(life) {
            let now = self.now();
            self.log.note(now, &format!("serin-{life} dies"));
            self.wake.notify_one();
        }
    }
}
