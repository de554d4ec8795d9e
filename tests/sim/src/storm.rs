//! What a run goes through, from its seed: its acts, its weather, its accidents.

use crate::{
    api::kinds::{EVENT, KINDS},
    cases::CHECKS,
    dice::Dice,
    nature::{Health, What},
    people::Act,
    weather::Climate,
    world::World,
};

/// The farthest that a clock may be off, so that two differ by twice as much at most.
const SKEW: u64 = 200;

/// An accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gust {
    /// The watches of a kind end.
    Cut(usize),
    /// A kind is not heard of for so many seconds, though its watch stands.
    Hide(usize, u64),
    /// A kind is listed anew, as it was so many seconds before, and told of so much late for the
    /// seconds named last.
    Past(usize, u64, u64),
    /// Admission refuses every write of a kind for so many seconds.
    Forbid(usize, u64),
    /// The API server forgets what was before, and all watches end.
    Compact,
    /// The process dies.
    Crash,
    /// A second process works for so many seconds, as if it led, too.
    Twin(u64),
    /// The second process ends.
    EndTwin,
}

/// What a run goes through.
#[derive(Clone, Debug)]
pub struct Storm {
    /// Which case.
    pub case: usize,
    /// Pods wanted at first.
    pub replicas: u64,
    /// Whether a deadline that passes ends an attempt.
    pub deadline_aborts: bool,
    /// How the versions behave; the first is what is deployed first.
    pub health: Vec<Health>,
    /// What people do, and when, in milliseconds.
    pub acts: Vec<(u64, Act)>,
    /// What people do once the attempt has got somewhere, one after the other.
    pub story: Vec<(&'static str, Act)>,
    /// Accidents, and when.
    pub gusts: Vec<(u64, Gust)>,
    /// How bad the weather is until the end.
    pub climate: Climate,
    /// When all that ends.
    pub until: u64,
    /// Whether two processes elect who works.
    pub elects: bool,
    /// No list is streamed.
    pub no_streams: bool,
    /// How far the clocks of processes are off at most, in milliseconds.
    pub skew: u64,
    /// Which of the ways to judge.
    pub check: usize,
}

impl Storm {
    /// From a seed.
    pub fn of(seed: u64, cases: usize) -> Self {
        let mut dice = Dice::new(seed ^ 0x5707);
        let case = usize::try_from(dice.below(cases as u64)).unwrap_or(0);
        let calm = dice.once_in(6);
        let wild = dice.once_in(3);
        let until = dice.range(60, 400) * 1000;
        let mut health = vec![Health::Good];
        for _ in 0..4 {
            let of = [
                Health::Good,
                Health::Good,
                Health::Slow,
                Health::Broken,
                Health::Bad,
            ];
            health.push(dice.pick(&of));
        }
        let mut acts = vec![];
        let mut at = dice.range(5, 40) * 1000;
        acts.push((at, Act::Release(1)));
        for _ in 0..dice.below(if wild { 9 } else { 5 }) {
            at += if dice.once_in(4) {
                dice.range(1, 1500)
            } else {
                dice.range(1, 60) * 1000
            };
            acts.push((at, act(&mut dice, wild)));
        }
        if dice.once_in(4) {
            autoscale(&mut dice, until, &mut acts);
        }
        if dice.once_in(5) {
            let from = dice.range(1, until);
            acts.push((from, Act::Quota(dice.range(1, 6))));
            acts.push((from + dice.range(5, 200) * 1000, Act::NoQuota));
        }
        acts.sort_by_key(|(at, _)| *at);
        let mut gusts = vec![];
        if !calm {
            for _ in 0..dice.below(7) {
                gusts.push((dice.range(1, until), gust(&mut dice)));
            }
        }
        let climate = if calm {
            Climate::default()
        } else {
            Climate {
                requests: dice.pick(&[0, 10, 40, 120]),
                metrics: dice.pick(&[0, 50, 300]),
                doubles: dice.pick(&[0, 50]),
                latency: dice.pick(&[2, 100, 3_000]),
                lag: dice.pick(&[10, 500, 5_000]),
            }
        };
        Self {
            case,
            replicas: dice.range(1, 4),
            deadline_aborts: !dice.once_in(3),
            health,
            until: until.max(at + 1000),
            acts,
            story: vec![],
            gusts,
            climate,
            elects: dice.once_in(4),
            no_streams: dice.once_in(4),
            skew: dice.pick(&[0, 0, 0, SKEW]),
            check: usize::try_from(dice.below(CHECKS as u64)).unwrap_or(0),
        }
    }
}

/// An autoscaler looks every so often, and now and then wants another number.
fn autoscale(dice: &mut Dice, until: u64, acts: &mut Vec<(u64, Act)>) {
    let every = dice.range(15, 60) * 1000;
    for n in 1..until / every {
        if dice.once_in(2) {
            acts.push((n * every, Act::Autoscale(dice.range(1, 5))));
        }
    }
}

fn act(dice: &mut Dice, wild: bool) -> Act {
    let tame = match dice.below(20) {
        0..=2 => Act::Release(usize::try_from(dice.below(5)).unwrap_or(0)),
        3 => Act::Release(0),
        4..=5 => Act::Replicas(dice.range(1, 5)),
        6 => Act::Say("promote"),
        7 => Act::Say("promote-full"),
        8..=9 => Act::Say("abort"),
        10 => Act::Say("retry"),
        11 => Act::Pause(true),
        12 => Act::Pause(false),
        13 => Act::Say("pause"),
        14 => Act::Say("resume"),
        15..=16 => Act::Say("undo"),
        17..=18 => Act::Say("restart"),
        _ => Act::Replicas(dice.below(2)),
    };
    if !wild || dice.once_in(2) {
        return tame;
    }
    match dice.below(16) {
        0..=2 => Act::KillPod,
        3..=4 => Act::Weights(dice.below(101), dice.below(101)),
        5 => Act::Revert,
        6 => Act::DeleteSet,
        7 => Act::ScaleSet(dice.below(4)),
        8 => Act::DeleteRole(usize::try_from(dice.below(2)).unwrap_or(0)),
        9 => Act::TurnRole(usize::try_from(dice.below(2)).unwrap_or(0)),
        10 => Act::DeleteRoute,
        11 => Act::CreateRoute,
        12 => Act::LoseStatus,
        13 => Act::Delete,
        14 => Act::Create,
        _ => Act::Replicas(dice.below(2)),
    }
}

fn gust(dice: &mut Dice) -> Gust {
    let kind = usize::try_from(dice.below(EVENT as u64)).unwrap_or(0);
    match dice.below(16) {
        14..=15 => Gust::Forbid(kind, dice.range(5, 120)),
        12..=13 => Gust::Past(kind, dice.range(1, 60), dice.range(1, 200)),
        0..=2 => Gust::Cut(kind),
        3..=6 => Gust::Hide(kind, dice.range(1, 120)),
        7 => Gust::Compact,
        8..=9 => Gust::Crash,
        _ => Gust::Twin(dice.range(2, 60)),
    }
}

impl World {
    /// What is ahead is put into the queue.
    pub fn brew(&mut self, storm: &Storm) {
        self.nature.be_in_health(&storm.health);
        self.weather.climate = storm.climate.clone();
        self.weather.no_streams = storm.no_streams;
        self.weather.skew = storm.skew;
        // A new leader reads the times that the old one wrote: what clocks differ by is missing at the
        // end of `propagationDelay`.
        self.nature.times.effect.1 -= 2 * storm.skew;
        for (at, act) in &storm.acts {
            self.nature.later(0, *at, *at, What::People(*act));
        }
        self.nature.story = storm.story.iter().copied().collect();
        for (at, gust) in &storm.gusts {
            self.nature.later(0, *at, *at, What::Weather(*gust));
        }
    }

    /// Whether the story goes on: the attempt is where it waits for.
    pub fn tell(&mut self, rollout: &serde_json::Value) {
        let Some((place, act)) = self.nature.story.front().copied() else {
            return;
        };
        let attempt = &rollout["status"]["attempt"];
        let here = match place.split_once(' ') {
            Some(("stage", stage)) => attempt["stage"] == stage,
            Some(("step", step)) => {
                let at = attempt["stepIndex"].as_u64().unwrap_or(0);
                let under_way = matches!(attempt["stage"].as_str(), Some("Stepping" | "Promoting"));
                under_way && step.parse().is_ok_and(|step: u64| at >= step)
            }
            _ => false,
        };
        if here {
            self.nature.story.pop_front();
            self.later(1_000, 1_000, crate::nature::What::People(act));
        }
    }

    /// An accident that needs no other process: whether it was one.
    pub fn blow(&mut self, gust: Gust, lives: &[usize]) {
        let now = self.now();
        self.log.note(now, &format!("weather: {gust:?}"));
        if let Gust::Forbid(kind, seconds) = gust {
            self.weather.forbid(kind, now + seconds * 1000);
        }
        for &life in lives {
            match gust {
                Gust::Cut(kind) => self.weather.cut(life, kind),
                Gust::Hide(kind, seconds) => self.weather.hide(life, kind, now + seconds * 1000),
                Gust::Past(kind, seconds, last) => {
                    let until = now + last * 1000;
                    self.weather.go_back(life, kind, seconds * 1000, until);
                }
                Gust::Compact => {
                    self.store.oldest = self.store.version();
                    self.weather.strike("compaction");
                    for kind in 0..KINDS.len() {
                        self.weather.cut(life, kind);
                    }
                }
                Gust::Forbid(..) | Gust::Crash | Gust::Twin(_) | Gust::EndTwin => {}
            }
        }
        self.changed.send_modify(|n| *n += 1);
    }
}
