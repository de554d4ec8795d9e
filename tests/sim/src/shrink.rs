//! A seed that breaks a law, made small: what can be left out while the same law is still broken.

use std::collections::BTreeSet;

use crate::{nature::Health, storm::Storm};

/// Parts of a run, by their names: `act3`, `gust0`, `lag`.
pub type Parts = BTreeSet<String>;

/// What of a storm can be left out: the larger parts first.
pub fn parts(storm: &Storm) -> Vec<String> {
    let mut parts = vec![];
    let mut add = |there: bool, name: String| {
        if there {
            parts.push(name);
        }
    };
    for (name, value) in storm.climate.clone().parts() {
        add(*value != 0, name.into());
    }
    add(storm.elects, "elects".into());
    add(storm.no_streams, "no-streams".into());
    add(storm.skew != 0, "skew".into());
    add(storm.check != 0, "check".into());
    for n in (0..storm.gusts.len()).rev() {
        add(true, format!("gust{n}"));
    }
    for n in (0..storm.acts.len()).rev() {
        add(true, format!("act{n}"));
    }
    for (n, health) in storm.health.iter().enumerate() {
        add(*health != Health::Good, format!("health{n}"));
    }
    parts
}

impl Storm {
    /// The same storm without some parts; none where a part has no such name.
    pub fn without(&self, left_out: &Parts) -> Option<Self> {
        let known = parts(self);
        if !left_out.iter().all(|part| known.contains(part)) {
            return None;
        }
        let out = |name: &str| left_out.contains(name);
        let mut storm = self.clone();
        for (name, value) in storm.climate.parts() {
            if out(name) {
                *value = 0;
            }
        }
        storm.elects &= !out("elects");
        storm.no_streams &= !out("no-streams");
        if out("skew") {
            storm.skew = 0;
        }
        if out("check") {
            storm.check = 0;
        }
        for (n, health) in storm.health.iter_mut().enumerate() {
            if out(&format!("health{n}")) {
                *health = Health::Good;
            }
        }
        let kept = |name: &str, n: usize| !out(&format!("{name}{n}"));
        let gusts = storm.gusts.iter().enumerate();
        storm.gusts = gusts
            .filter(|(n, _)| kept("gust", *n))
            .map(|(_, g)| *g)
            .collect();
        let acts = storm.acts.iter().enumerate();
        storm.acts = acts
            .filter(|(n, _)| kept("act", *n))
            .map(|(_, a)| *a)
            .collect();
        Some(storm)
    }
}

/// The law that a sentence says is broken: `S12` of `4500 ms: S12: 8 pods are wanted`.
pub fn law(said: &str) -> &str {
    let said = said.split_once(" ms: ").map_or(said, |(_, said)| said);
    said.split(':').next().unwrap_or(said)
}

/// What can be left out of `parts` so that it still `fails`: none of what is left can.
pub fn shrink(parts: &[String], mut fails: impl FnMut(&Parts) -> bool) -> Parts {
    let mut out = Parts::new();
    loop {
        let before = out.len();
        for part in parts {
            if out.contains(part) {
                continue;
            }
            let mut less = out.clone();
            less.insert(part.clone());
            if fails(&less) {
                out = less;
            }
        }
        if out.len() == before {
            return out;
        }
    }
}

/// As the command line has them: `act1,lag`; nothing for none.
pub fn parse(text: &str) -> Parts {
    let names = text.split(',').map(str::trim);
    names.filter(|n| !n.is_empty()).map(str::to_owned).collect()
}

/// The same as a text.
pub fn words(parts: &Parts) -> String {
    parts.iter().cloned().collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_what_it_takes() {
        let storms = (0..50).map(|seed| Storm::of(seed, 5));
        let Some(storm) = storms
            .into_iter()
            .find(|s| s.gusts.len() > 2 && s.acts.len() > 3)
        else {
            panic!("no storm with as much in it");
        };
        let all = parts(&storm);
        // It takes two things at once, and of one it takes either.
        let fails = |out: &Parts| {
            let has = |name: &str| !out.contains(name);
            has("act3") && has("gust1") && (has("act0") || has("act1"))
        };
        let out = shrink(&all, fails);
        let left: Vec<&String> = all.iter().filter(|p| !out.contains(*p)).collect();
        assert_eq!(left, ["gust1", "act3", "act0"]);
        let small = storm.without(&out).map(|s| (s.gusts, s.acts));
        assert_eq!(
            small,
            Some((vec![storm.gusts[1]], vec![storm.acts[0], storm.acts[3]]))
        );
    }

    #[test]
    fn a_part_that_is_not_there_is_refused() {
        assert!(Storm::of(1, 5).without(&parse("act99")).is_none());
        assert!(Storm::of(1, 5).without(&parse(" ,")).is_some());
    }

    #[test]
    fn a_law_has_a_name() {
        assert_eq!(law("4500 ms: S12: 8 pods are wanted"), "S12");
        assert_eq!(law("the run itself failed: why"), "the run itself failed");
    }
}
