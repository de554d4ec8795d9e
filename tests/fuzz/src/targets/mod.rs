//! What is thrown at Serin, and what must hold whatever comes. Shared with `tests/corpora.rs`, which
//! plays what earlier runs found interesting.

mod answer;
mod command;
mod manifest;
mod query;
mod spec;
mod unit;
mod world;

use std::{collections::BTreeMap, sync::OnceLock};

use jiff::Timestamp;
use serde::Deserialize;
use serin::{
    engine,
    model::observed::Observed,
    sim::{Simulation, moment::Moment},
};

/// Takes an input, and panics where something does not hold.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("answer", answer::target),
    ("command", command::target),
    ("manifest", manifest::target),
    ("query", query::target),
    ("spec", spec::target),
    ("unit", unit::target),
    ("world", world::target),
];

/// A target.
#[allow(dead_code, reason = "a corpus plays them all")]
pub fn named(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
}

/// The largest status that may come of a round; the API type promises it.
const LARGEST: usize = 32 * 1024;
/// So many rounds are decided one after the other.
const ROUNDS: usize = 3;

#[derive(Deserialize)]
struct Left {
    moment: Moment,
}

/// Instants of rollouts.
fn moments() -> &'static [Moment] {
    static ALL: OnceLock<Vec<Moment>> = OnceLock::new();
    ALL.get_or_init(|| {
        let text = include_str!("../../../upgrade/71a96ac.json");
        let left: Vec<Left> = serde_json::from_str(text).expect("instants");
        left.into_iter().map(|l| l.moment).collect()
    })
}

/// The instant that a byte names.
fn moment(byte: u8) -> Moment {
    let all = moments();
    all[usize::from(byte) % all.len()].clone()
}

/// A look at an instant. None where the world cannot look like that.
fn look(moment: Moment) -> Option<(Observed, Timestamp)> {
    let now = moment.now;
    let observed = Simulation::resume(moment).ok()?.cluster.observe(now)?;
    Some((observed, now))
}

/// Decides, and holds what must hold of each decision: there is one, it is the same each time, its status
/// is as large as it may be at most, and can be read again.
fn decide(mut observed: Observed, now: Timestamp) {
    let before = size(&observed);
    for _ in 0..ROUNDS {
        let plan = engine::plan(&observed, now);
        assert!(plan == engine::plan(&observed, now), "decided in two ways");
        let status = serde_json::to_string(&plan.status).expect("json");
        let found = status.len();
        // What is too large by somebody else's doing does not grow.
        assert!(found <= LARGEST.max(before + 1024), "a status of {found}");
        let read = serde_json::from_str(&status).expect("what was written can be read");
        let again = serde_json::to_string(&read).expect("json");
        assert_eq!(again, status, "it is read as another one");
        observed.rollout.status = Some(read);
    }
    // What is observed beside it is read, too.
    let _ = engine::faults(&observed);
}

fn size(observed: &Observed) -> usize {
    let status = &observed.rollout.status;
    serde_json::to_string(status).map_or(0, |s| s.len())
}

/// An input as lines of text.
fn lines(data: &[u8]) -> impl Iterator<Item = &str> {
    data.split(|b| *b == b'\n')
        .filter_map(|l| std::str::from_utf8(l).ok())
}

/// `name=value` in each line.
fn pairs(data: &[u8]) -> BTreeMap<String, String> {
    lines(data)
        .filter_map(|l| l.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
