//! One run from beginning to end.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serin::controller::round::words;
use tokio::time::sleep_until;

use crate::{
    cases::cases,
    copies::{self, Copy},
    dice::seed_the_system,
    laws::{Laws, ends::Rest},
    nature::What,
    people::Act,
    storm::{Gust, Storm},
    weather::Fate,
    world::{Shared, World, lock},
};

/// How long nothing may be written until it counts as rest, in milliseconds.
const QUIET: u64 = 200_000;
/// How long it may take to come to rest.
const PATIENCE: u64 = 3_600_000;
/// So long it must be silent at rest.
const SILENCE: u64 = 900_000;
/// So often a person helps.
const HELP: usize = 8;

/// What came of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// What was broken.
    pub broken: Vec<String>,
    /// The log, where it was kept; for this process alone.
    #[serde(skip)]
    pub lines: Vec<String>,
    /// Of the whole log.
    pub hash: u64,
    /// Faults by kind.
    pub struck: BTreeMap<String, u64>,
    /// Serin's writes.
    pub writes: u64,
    /// Simulated milliseconds.
    pub lasted: u64,
    /// What stood at the end, to be compared.
    pub end: Vec<String>,
    /// What was played.
    pub case: String,
    /// When which kind changed before the weather cleared up.
    pub changes: Vec<(u64, usize)>,
}

/// A run in progress.
pub struct Run {
    /// The world that it is in.
    pub world: Shared,
    copies: Vec<Copy>,
    lives: usize,
    elects: bool,
    twin: Option<usize>,
    /// When the weather cleared up.
    cleared: u64,
}

/// Plays a storm, with a plan for certain writes.
pub fn play(seed: u64, storm: &Storm, plan: &BTreeMap<u64, Fate>, verbose: bool) -> Report {
    let (storm, plan) = (storm.clone(), plan.clone());
    alone(seed, async move || whole(seed, &storm, plan, verbose).await).unwrap_or_else(failed)
}

/// Does something in simulated time, on a thread of its own: its libraries ask for random numbers
/// anew.
pub fn alone<T: Send + 'static>(
    seed: u64,
    work: impl AsyncFnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let thread = std::thread::Builder::new()
        .stack_size(16 << 20)
        .spawn(move || {
            seed_the_system(seed);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build();
            Ok(runtime.map_err(|e| e.to_string())?.block_on(work()))
        });
    let joined = thread
        .map_err(|e| e.to_string())
        .and_then(|t| t.join().map_err(|p| words(p.as_ref())));
    joined.flatten()
}

/// A run that could not be.
pub fn failed(why: String) -> Report {
    Report {
        broken: vec![format!("the run itself failed: {why}")],
        ..Report::default()
    }
}

async fn whole(seed: u64, storm: &Storm, plan: BTreeMap<u64, Fate>, verbose: bool) -> Report {
    let all = cases();
    let case = all[storm.case % all.len()].clone();
    let mut world = World::new(seed, Laws::new(case), verbose);
    world.set_up(storm.replicas, storm.deadline_aborts, storm.check);
    world.brew(storm);
    world.weather.plan = plan;
    let mut run = Run::new(world, storm.elects);
    run.cleared = storm.until;
    run.boot();
    if storm.elects {
        run.boot();
    }
    run.until(storm.until).await;
    run.clear_up();
    run.come_to_rest().await;
    if lock(&run.world).laws.broken.is_empty() {
        run.be_silent().await;
    }
    run.report()
}

impl Run {
    /// Of a world, before a process has started in it; each `elects`, as one of several.
    pub fn new(world: World, elects: bool) -> Self {
        Self {
            world: Arc::new(std::sync::Mutex::new(world)),
            copies: vec![],
            lives: 0,
            elects,
            twin: None,
            cleared: 0,
        }
    }

    /// Starts a process.
    pub fn boot(&mut self) {
        let copy = copies::start(&self.world, self.lives, self.elects);
        self.lives += 1;
        self.copies.push(copy);
    }

    fn lives(&self) -> Vec<usize> {
        self.copies.iter().map(|c| c.life).collect()
    }

    /// Lets the world go on until a time.
    pub async fn until(&mut self, end: u64) {
        self.until_or(end, |_| false).await;
    }

    /// Lets the world go on until a time, or until `stop` holds of it.
    pub async fn until_or(&mut self, end: u64, stop: impl Fn(&World) -> bool) {
        loop {
            self.bury();
            let (next, wake) = {
                let mut world = lock(&self.world);
                let now = world.now();
                if now >= end || stop(&world) {
                    return;
                }
                if let Some(what) = world.nature.take(now) {
                    drop(world);
                    self.happen(&what);
                    continue;
                }
                let next = world.nature.next().unwrap_or(end).min(end);
                (world.instant(next), Arc::clone(&world.wake))
            };
            tokio::select! {
                biased;
                () = wake.notified() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Who died is gone, and is started again a little later.
    fn bury(&mut self) {
        let mut world = lock(&self.world);
        let dead = world.dead.clone();
        let died: Vec<usize> = self
            .lives()
            .into_iter()
            .filter(|l| dead.contains(l))
            .collect();
        for &life in &died {
            if self.twin == Some(life) {
                self.twin = None;
            } else {
                world.later(100, 5_000, What::Boot(life));
            }
        }
        drop(world);
        self.copies.retain(|c| !died.contains(&c.life));
    }

    fn happen(&mut self, what: &What) {
        match what {
            What::Boot(_) => self.boot(),
            What::People(act) => lock(&self.world).act(*act),
            What::Weather(gust) => self.gust(*gust),
            other => lock(&self.world).happen(other),
        }
    }

    /// An accident happens.
    pub fn gust(&mut self, gust: Gust) {
        let lives = self.lives();
        lock(&self.world).blow(gust, &lives);
        match gust {
            Gust::Crash => {
                let mut world = lock(&self.world);
                world.weather.strike("crash");
                if let Some(&life) = lives.first() {
                    world.kill(life);
                }
            }
            Gust::Twin(seconds) if self.twin.is_none() => {
                // It takes part in no election: two work at once.
                let copy = copies::start(&self.world, self.lives, false);
                self.twin = Some(copy.life);
                self.lives += 1;
                self.copies.push(copy);
                let mut world = lock(&self.world);
                world.weather.strike("two leaders");
                world.later(seconds * 1000, seconds * 1000, What::Weather(Gust::EndTwin));
            }
            Gust::EndTwin => {
                if let Some(life) = self.twin {
                    lock(&self.world).kill(life);
                }
            }
            Gust::Twin(_)
            | Gust::Cut(_)
            | Gust::Hide(..)
            | Gust::Past(..)
            | Gust::Forbid(..)
            | Gust::Compact => {}
        }
    }

    /// From now on the weather is fine, and what people took away is back.
    fn clear_up(&mut self) {
        let mut world = lock(&self.world);
        let now = world.now();
        world.log.note(now, "the weather clears up");
        world.weather.clear_up();
        world.last_write = now;
        world.act(Act::CreateRoute);
        world.act(Act::NoQuota);
        world.act(Act::Pause(false));
        world.changed.send_modify(|n| *n += 1);
        if let Some(life) = self.twin {
            world.kill(life);
        }
    }

    async fn come_to_rest(&mut self) {
        let end = lock(&self.world).now() + PATIENCE;
        let mut helped = 0;
        loop {
            let (now, quiet, rest) = {
                let world = lock(&self.world);
                (world.now(), world.last_write + QUIET, world.rest())
            };
            if now >= quiet && rest == Rest::Fine {
                break;
            }
            if now >= quiet && rest == Rest::Person && helped < HELP {
                helped += 1;
                let verb = match helped {
                    1 => "resume",
                    n if n < HELP - 1 => "promote",
                    _ => "abort",
                };
                let mut world = lock(&self.world);
                world.last_write = now;
                world.act(Act::Command(verb));
            } else if now >= end || (now >= quiet && rest == Rest::Person) {
                break;
            }
            self.until((now + 10_000).max(quiet.min(end))).await;
        }
        let mut world = lock(&self.world);
        for law in world.at_rest() {
            world.broke(&law);
        }
    }

    /// At rest nothing is written, also not after a restart.
    async fn be_silent(&mut self) {
        let begun = lock(&self.world).now();
        for life in self.lives() {
            lock(&self.world).kill(life);
        }
        self.until(begun + SILENCE).await;
        let mut world = lock(&self.world);
        if world.last_write > begun {
            let at = world.last_write;
            world.broke(&format!("L2: something is written at rest, at {at} ms"));
        }
    }

    /// What came of it.
    pub fn report(self) -> Report {
        let mut world = lock(&self.world);
        let lasted = world.now();
        let history = world.store.history().iter();
        let changes = history
            .map(|p| (p.at, p.path.kind))
            .filter(|(at, _)| *at < self.cleared)
            .collect();
        Report {
            broken: std::mem::take(&mut world.laws.broken),
            lines: std::mem::take(&mut world.log.lines),
            hash: world.log.hash(),
            struck: world.weather.take_struck(),
            writes: world.writes,
            lasted,
            end: world.end(),
            case: world.laws.case.name.to_owned(),
            changes,
        }
    }
}
