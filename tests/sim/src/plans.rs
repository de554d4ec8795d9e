//! Plans: every workload once in fine weather, then again with one thing going wrong, at each place
//! where it could. It must come to the same end.

use std::collections::BTreeMap;

use crate::{
    api::kinds::{KINDS, POD, REVISION, ROLLOUT, ROUTE, RUN, SERVICE, SET, SLICE},
    nature::Health,
    people::Act,
    play::Report,
    storm::{Gust, Storm},
    weather::{Climate, Fate},
};

/// What people do, one after the other: each a second after the attempt has got somewhere.
type Story = &'static [(&'static str, Act)];

const FIRST: &str = "stage Done";
const RELEASE: Story = &[(FIRST, Act::Release(1))];
const BAD: Story = &[(FIRST, Act::Release(2))];
const ABORT: Story = &[(FIRST, Act::Release(1)), ("step 1", Act::Command("abort"))];
const SUPERSEDE: Story = &[(FIRST, Act::Release(1)), ("step 1", Act::Release(3))];
const REVERT: Story = &[(FIRST, Act::Release(1)), ("step 1", Act::Release(0))];
const IN_FULL: Story = &[
    (FIRST, Act::Release(1)),
    ("step 0", Act::Command("promote-full")),
];
const DELETE: Story = &[(FIRST, Act::Release(1)), ("step 1", Act::Delete)];
const SCALE: Story = &[
    (FIRST, Act::Release(1)),
    ("step 0", Act::Replicas(5)),
    ("step 1", Act::Replicas(2)),
];
const RETRY: Story = &[
    (FIRST, Act::Release(1)),
    ("step 1", Act::Command("abort")),
    (FIRST, Act::Command("retry")),
];

const UNDO: Story = &[
    (FIRST, Act::Release(1)),
    ("step 0", Act::Command("promote-full")),
    (FIRST, Act::Command("undo")),
];

/// The workloads: a case of [`crate::cases::cases`] and what happens.
pub const WORKLOADS: &[(usize, Story)] = &[
    (0, RELEASE),
    (0, BAD),
    (0, SUPERSEDE),
    (0, DELETE),
    (1, ABORT),
    (1, SCALE),
    (2, RELEASE),
    (2, REVERT),
    (2, SUPERSEDE),
    (3, RELEASE),
    (3, BAD),
    (4, RELEASE),
    (4, IN_FULL),
    (4, RETRY),
    (3, UNDO),
];

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Nothing.
    Nothing,
    /// This becomes of that write.
    Write(u64, Fate),
    /// At this time a kind is no more heard of, for so many seconds.
    Hide(u64, usize),
    /// At this time a kind is listed anew, as it was half a minute before; a quarter of a minute later
    /// the API server has caught up.
    Past(u64, usize),
    /// From this time on a second process works for 20 s.
    Twin(u64),
}

/// A workload and what goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which workload.
    pub workload: usize,
    /// What goes wrong.
    pub wrong: Wrong,
}

const FATES: &[(&str, Fate)] = &[
    ("before", Fate::CrashBefore),
    ("after", Fate::CrashAfter),
    ("unknown", Fate::Unknown),
    ("lost", Fate::Lost),
    ("late", Fate::Late(20_000)),
    ("conflict", Fate::Refused(409)),
    ("done", Fate::FailedButDone),
];

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let workload = self.workload;
        match self.wrong {
            Wrong::Nothing => write!(f, "{workload}:nothing:0"),
            Wrong::Write(n, fate) => {
                let word = FATES
                    .iter()
                    .find(|(_, known)| *known == fate)
                    .map_or("lost", |(w, _)| w);
                write!(f, "{workload}:{word}:{n}")
            }
            Wrong::Hide(at, kind) => write!(f, "{workload}:hide-{kind}:{at}"),
            Wrong::Past(at, kind) => write!(f, "{workload}:past-{kind}:{at}"),
            Wrong::Twin(at) => write!(f, "{workload}:twin:{at}"),
        }
    }
}

impl std::str::FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: wanted WORKLOAD:WHAT:NUMBER, such as 0:after:12");
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or_else(wrong);
        let (workload, what, number) = (next()?, next()?, next()?);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let kind = |k: &str| k.parse::<usize>().map_err(|_| wrong());
        let wrong = match what.split_once('-') {
            Some(("hide", k)) => Wrong::Hide(number, kind(k)?),
            Some(("past", k)) => Wrong::Past(number, kind(k)?),
            _ if what == "twin" => Wrong::Twin(number),
            _ if what == "nothing" => Wrong::Nothing,
            _ => {
                let fate = FATES
                    .iter()
                    .find(|(word, _)| *word == what)
                    .ok_or_else(wrong)?;
                Wrong::Write(number, fate.1)
            }
        };
        let workload = workload
            .parse()
            .map_err(|_| format!("{text:?}: no such workload"))?;
        Ok(Self { workload, wrong })
    }
}

impl Plan {
    /// What the run goes through, and what becomes of which write.
    pub fn storm(&self) -> (Storm, BTreeMap<u64, Fate>) {
        let (case, story) = WORKLOADS[self.workload % WORKLOADS.len()];
        let mut gusts = vec![];
        let mut fates = BTreeMap::new();
        match self.wrong {
            Wrong::Nothing => {}
            Wrong::Write(n, fate) => drop(fates.insert(n, fate)),
            Wrong::Hide(at, kind) => gusts.push((at, Gust::Hide(kind, 60))),
            Wrong::Past(at, kind) => gusts.push((at, Gust::Past(kind, 30, 15))),
            Wrong::Twin(at) => gusts.push((at, Gust::Twin(20))),
        }
        let storm = Storm {
            case,
            replicas: 3,
            deadline_aborts: true,
            health: vec![Health::Good, Health::Good, Health::Bad, Health::Good],
            acts: vec![],
            story: story.to_vec(),
            gusts,
            climate: Climate::default(),
            until: 300_000,
            elects: false,
            no_streams: false,
            skew: 0,
            check: 0,
        };
        (storm, fates)
    }

    /// Every plan for a workload, by how it went in fine weather.
    pub fn all(workload: usize, clean: &Report) -> Vec<Self> {
        let mut all = vec![];
        let mut add = |wrong| all.push(Self { workload, wrong });
        for n in 0..clean.writes {
            for (_, fate) in FATES {
                add(Wrong::Write(n, *fate));
            }
        }
        for (at, kind) in &clean.changes {
            if [ROLLOUT, SET, REVISION, SERVICE, SLICE, POD, ROUTE, RUN].contains(kind) {
                add(Wrong::Hide(at.saturating_sub(1), *kind));
                add(Wrong::Past(at + 10, *kind));
                if *kind == ROLLOUT {
                    add(Wrong::Twin(at.saturating_sub(1)));
                }
            }
        }
        all
    }

    /// In words.
    pub fn words(&self) -> String {
        match self.wrong {
            Wrong::Nothing => "nothing".into(),
            Wrong::Write(_, fate) => fate.word().into(),
            Wrong::Hide(_, kind) => format!("{} hidden", KINDS[kind].of.kind),
            Wrong::Past(_, kind) => format!("{} from the past", KINDS[kind].of.kind),
            Wrong::Twin(_) => "two leaders".into(),
        }
    }
}
