//! A fortnight of a Rollout that is released to every hour, in changeable weather, by one process that
//! never dies: what grows, and what drifts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    api::{
        kinds::{EVENT, KINDS, LEASE, ROLLOUT, RUN},
        store::{Path, text},
    },
    cases::cases,
    dice::Dice,
    heap,
    laws::{Laws, ends::Rest},
    nature::{Health, What},
    people::Act,
    play::{Report, Run, alone},
    storm::Gust,
    weather::Climate,
    world::{Who, World, lock},
};

/// How long it goes on.
pub const DAYS: usize = 14;

/// From this day on, counted from 0, numbers within objects grow no longer by a digit or two.
const SETTLED: usize = 7;

/// What memory is counted in.
const MEMORY: &str = "bytes of memory";

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// How the versions of a day behave: each day alike, so that one can be held against another.
const HEALTH: [Health; 24] = {
    use Health::{Bad, Broken, Good, Slow};
    [
        Good, Good, Bad, Good, Good, Broken, Good, Good, Good, Bad, Good, Slow, Good, Good, Bad,
        Good, Good, Good, Broken, Good, Good, Bad, Good, Good,
    ]
};

/// What stood at the ends of a day's hours.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Day {
    /// Bytes of memory in use, of Serin and of the world around it: the mean.
    pub heap: u64,
    /// Bytes of the Rollout's status: the most.
    pub status: u64,
    /// Objects by kind, in the order of the kinds: the most.
    pub objects: [u64; LEASE + 1],
    /// Bytes of all objects: the most.
    pub bytes: u64,
    /// Serin's writes.
    pub writes: u64,
    /// Releases that became stable.
    pub promoted: u64,
    /// Releases that did not.
    pub rolled_back: u64,
}

/// What came of a fortnight.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Fortnight {
    /// What was played.
    pub case: String,
    /// Day by day.
    pub days: Vec<Day>,
    /// Faults by kind.
    pub struck: BTreeMap<String, u64>,
    /// What was broken.
    pub broken: Vec<String>,
}

/// The fortnight of one of many Rollouts.
pub fn fortnight(n: u64) -> Fortnight {
    alone(n, async move || whole(n).await).unwrap_or_else(failed)
}

/// A fortnight that could not be.
pub fn failed(why: String) -> Fortnight {
    Fortnight {
        broken: vec![format!("the run itself failed: {why}")],
        ..Fortnight::default()
    }
}

async fn whole(n: u64) -> Fortnight {
    let all = cases();
    let case = all[usize::try_from(n).unwrap_or(0) % all.len()].clone();
    let mut fortnight = Fortnight {
        case: case.name.to_owned(),
        days: Vec::with_capacity(DAYS),
        ..Fortnight::default()
    };
    let mut dice = Dice::new(n ^ 0x50a4);
    let mut world = World::new(n, Laws::new(case), false);
    let versions = HEALTH.iter().cycle().take(24 * DAYS);
    let health: Vec<Health> = [Health::Good].iter().chain(versions).copied().collect();
    world.nature.be_in_health(&health);
    world.weather.spares = true;
    world.set_up(1 + n % 4, true, 0);
    let mut run = Run::new(world, false);
    run.boot();
    run.until(HOUR).await;
    for day in 0..DAYS {
        let mut sum = Day::default();
        let before = lock(&run.world).writes;
        for hour in 0..24 {
            let version = 1 + 24 * day + hour;
            let begun = HOUR * version as u64;
            begin(&mut lock(&run.world), begun, version, &mut dice);
            for minute in [15, 25, 35, 45] {
                run.until(begun + minute * MINUTE).await;
                let mut world = lock(&run.world);
                if world.rest() == Rest::Person {
                    world.act(Act::Command("promote"));
                }
            }
            run.until(begun + 50 * MINUTE).await;
            lock(&run.world).weather.clear_up();
            run.until(begun + HOUR).await;
            sum.add(&mut lock(&run.world), version);
        }
        let mut world = lock(&run.world);
        sum.heap /= 24;
        sum.writes = world.writes - before;
        fortnight.days.push(sum);
        fortnight.broken.append(&mut world.laws.broken);
    }
    fortnight.struck = lock(&run.world).weather.take_struck();
    fortnight.broken.extend(fortnight.grown());
    fortnight
}

/// An hour begins: what people and the weather do in it.
fn begin(world: &mut World, begun: u64, version: usize, dice: &mut Dice) {
    world.weather.climate = Climate {
        requests: 10,
        metrics: 20,
        doubles: 20,
        latency: 200,
        lag: 1_000,
    };
    let mut at = |minutes: u64, what| {
        let when = begun + dice.below(minutes * MINUTE);
        world.nature.later(0, when, when, what);
        dice.below(u64::MAX)
    };
    let random = at(5, What::People(Act::Release(version)));
    // Kinds that somebody watches.
    let kind = usize::try_from(random % (RUN as u64 + 1)).unwrap_or(0);
    at(
        45,
        What::Weather(match random % 5 {
            0 => Gust::Compact,
            1 => Gust::Past(kind, 20, 60),
            2 => Gust::Hide(kind, 90),
            _ => Gust::Cut(kind),
        }),
    );
    let pods = match version % 24 {
        6 => 4,
        14 => 1,
        20 => 3,
        _ => return,
    };
    at(45, What::People(Act::Autoscale(pods)));
}

impl Day {
    /// An hour ends, at rest.
    fn add(&mut self, world: &mut World, version: usize) {
        for law in world.at_rest() {
            world.broke(&law);
        }
        let now = world.now();
        world.expire_events(now - HOUR);
        // What is kept for watches is not what is measured.
        world.store.forget(now - MINUTE);
        self.heap += heap::in_use() as u64;
        let mut bytes = 0;
        for (kind, most) in self.objects.iter_mut().enumerate() {
            let mut count = 0;
            for (_, object) in world.store.all(kind) {
                count += 1;
                bytes += object.to_string().len() as u64;
            }
            *most = count.max(*most);
        }
        self.bytes = self.bytes.max(bytes);
        let Some(rollout) = world.store.get(&Path::new(ROLLOUT, "app")) else {
            world.broke("the Rollout is gone");
            return;
        };
        let status = rollout["status"].to_string().len() as u64;
        self.status = self.status.max(status);
        let image = text(rollout, "/spec/template/spec/containers/0/image");
        match text(rollout, "/status/phase") {
            "Healthy" if image.ends_with(&format!(":v{version}")) => self.promoted += 1,
            _ => self.rolled_back += 1,
        }
    }

    /// How many there were of what lasts.
    fn lasting(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let all = self.objects.iter().copied().enumerate();
        all.filter(|(kind, _)| *kind != EVENT)
    }

    /// What may not grow, by name, and how much more there may be of it than some days before: what
    /// the weather makes of it.
    fn measures(&self) -> BTreeMap<String, (u64, u64)> {
        let mut all: BTreeMap<String, (u64, u64)> = self
            .lasting()
            .map(|(kind, n)| (KINDS[kind].of.kind.to_owned(), (n, 2)))
            .collect();
        all.insert(MEMORY.into(), (self.heap, self.heap / 40));
        all.insert("bytes of status".into(), (self.status, self.status / 10));
        all
    }
}

impl Fortnight {
    /// As a run among others.
    pub fn report(&self) -> Report {
        Report {
            broken: self.broken.clone(),
            struck: self.struck.clone(),
            writes: self.days.iter().map(|d| d.writes).sum(),
            lasted: HOUR * 24 * DAYS as u64,
            case: self.case.clone(),
            ..Report::default()
        }
    }

    /// What has grown in the second week.
    fn grown(&self) -> Vec<String> {
        let (Some(early), Some(last)) = (self.days.get(SETTLED), self.days.last()) else {
            return vec![];
        };
        let (early, last) = (early.measures(), last.measures());
        let grown = early.into_iter().filter_map(|(what, (n, more))| {
            let (now, _) = last.get(&what)?;
            more_than(n + more, *now, n, &what)
        });
        grown.collect()
    }
}

impl World {
    /// Events go, as those of an API server do after an hour.
    fn expire_events(&mut self, before: u64) {
        let at = Self::stamp_at(before);
        let all = self.store.all(EVENT);
        let old = all.filter(|(_, e)| text(e, "/metadata/creationTimestamp") < at.as_str());
        let old: Vec<Path> = old.map(|(p, _)| p.clone()).collect();
        for path in old {
            self.put(Who::Nature, &path, None);
        }
    }
}

/// What has grown in all of them together, where chance evens out: memory, by a two-hundredth.
pub fn grown(all: &[Fortnight]) -> Option<String> {
    let heap = |day: usize| -> u64 { all.iter().filter_map(|f| Some(f.days.get(day)?.heap)).sum() };
    let (early, last) = (heap(SETTLED), heap(DAYS - 1));
    more_than(early + early / 200, last, early, MEMORY)
}

/// What to say where there is more of something on the last day than there may be.
fn more_than(most: u64, last: u64, early: u64, what: &str) -> Option<String> {
    let day = SETTLED + 1;
    (last > most).then(|| format!("grown: {early} {what} on day {day}, {last} on day {DAYS}"))
}

/// The fortnights of many, day by day, as a table.
pub fn table(all: &[Fortnight]) -> String {
    let mut text = String::from(
        "| Day | Promoted | Rolled back | Serin's writes | Memory, mean, KiB | Status, most, bytes | Objects without Events, most | Their bytes, most |\n|---|---|---|---|---|---|---|---|\n",
    );
    for day in 0..DAYS {
        let of: Vec<&Day> = all.iter().filter_map(|f| f.days.get(day)).collect();
        let sum = |what: fn(&Day) -> u64| of.iter().map(|d| what(d)).sum::<u64>();
        let most = |what: fn(&Day) -> u64| of.iter().map(|d| what(d)).max().unwrap_or(0);
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            day + 1,
            sum(|d| d.promoted),
            sum(|d| d.rolled_back),
            sum(|d| d.writes),
            sum(|d| d.heap) / 1024 / (of.len() as u64).max(1),
            most(|d| d.status),
            most(|d| d.lasting().map(|(_, n)| n).sum()),
            most(|d| d.bytes),
        ));
    }
    text
}
