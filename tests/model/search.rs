//! Breadth first to the end: every state, every law at every write, and from every state a way
//! home that has no circle in it.

#![allow(
    clippy::disallowed_types,
    reason = "which states are known is asked, never in which order"
)]

use std::{
    collections::{HashMap, VecDeque, hash_map::DefaultHasher},
    fmt::Write,
    hash::{Hash, Hasher},
};

use serin::model::plan::Plan;

use crate::{
    laws::homeless,
    moves::{Mind, Move, look, make, moves, rest, sleeps},
    world::{Case, State},
};

/// What a search found.
#[derive(Default)]
pub struct Report {
    pub states: usize,
    pub transitions: usize,
    /// The longest way from the beginning.
    pub depth: usize,
    /// The longest way home once faults stop.
    pub home: usize,
    /// Where it came to rest, and how often.
    pub rests: std::collections::BTreeMap<String, usize>,
    /// What was broken, each with the way to it.
    pub broken: Vec<String>,
}

/// The most that is told of what is broken.
const TOLD: usize = 6;

struct Search<'a> {
    case: &'a Case,
    mind: Mind<'a>,
    starts: &'a [State],
    known: HashMap<u128, u32>,
    depths: Vec<u16>,
    came: Vec<(u32, Option<Move>)>,
    open: VecDeque<(u32, State)>,
    /// Ways home: from which entry on those of a state stand in the second list.
    from: Vec<u32>,
    to: Vec<u32>,
    kinds: Vec<String>,
    report: Report,
}

fn print(state: &State) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        state.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

/// Searches from every start to the end, or to the first fault where `first`.
pub fn search(case: &Case, mind: Mind<'_>, starts: &[State], first: bool) -> Report {
    let mut search = Search {
        case,
        mind,
        starts,
        known: HashMap::new(),
        depths: vec![],
        came: vec![],
        open: VecDeque::new(),
        from: vec![],
        to: vec![],
        kinds: vec![],
        report: Report::default(),
    };
    for (at, start) in starts.iter().enumerate() {
        search.meet(start.clone(), (u32::try_from(at).unwrap_or(0), None), 0);
    }
    let enough = if first { 1 } else { TOLD };
    while search.report.broken.len() < enough
        && let Some((id, state)) = search.open.pop_front()
    {
        search.expand(id, &state);
    }
    search
        .from
        .push(u32::try_from(search.to.len()).unwrap_or(u32::MAX));
    if search.report.broken.len() < enough {
        search.circles();
    }
    search.report.states = search.known.len();
    search.report.depth = search.depths.iter().copied().max().unwrap_or(0).into();
    search.report
}

impl Search<'_> {
    fn meet(&mut self, state: State, came: (u32, Option<Move>), depth: u16) -> u32 {
        let next = u32::try_from(self.came.len()).unwrap_or(u32::MAX);
        let id = *self.known.entry(print(&state)).or_insert(next);
        if id == next {
            self.came.push(came);
            self.depths.push(depth);
            self.open.push_back((id, state));
        }
        id
    }

    fn expand(&mut self, id: u32, state: &State) {
        let (case, mind) = (self.case, self.mind);
        self.from
            .push(u32::try_from(self.to.len()).unwrap_or(u32::MAX));
        let depth = self.depths.get(id as usize).copied().unwrap_or(0);
        let (mut ways, mut looked) = (0, false);
        for a_move in moves(case, state) {
            let Some(next) = make(case, state, a_move, mind) else {
                continue;
            };
            self.report.transitions += 1;
            looked |= a_move == Move::Look;
            for what in next.broken {
                self.tell(id, Some(a_move), &what);
            }
            let to = self.meet(next.state, (id, Some(a_move)), depth + 1);
            if a_move.leads_home() && to != id {
                self.to.push(to);
                ways += 1;
            }
        }
        if looked || state.flight.is_some() {
            return;
        }
        let plan = rest(case, state, mind);
        if plan.as_ref().is_some_and(sleeps) {
            self.oversleeps(id, state);
        }
        if ways == 0 {
            self.rests(id, state, plan);
        }
    }

    fn rests(&mut self, id: u32, state: &State, plan: Option<Plan>) {
        if let Some(why) = homeless(self.case, state, plan.as_ref()) {
            self.tell(id, None, &format!("L1: no way on from here: {why}"));
        }
        let status = plan.map(|p| p.status);
        let stage = status
            .as_ref()
            .and_then(|s| Some(s.attempt.as_ref()?.stage.clone()));
        let phase = status
            .and_then(|s| s.phase)
            .unwrap_or_else(|| "gone".into());
        let name = format!("{phase} {}", stage.unwrap_or_default());
        *self.report.rests.entry(name).or_default() += 1;
    }

    /// It sleeps on, a tick passes, and there is something to do: then it must have woken.
    fn oversleeps(&mut self, id: u32, state: &State) {
        let (case, mind) = (self.case, self.mind);
        let later = make(case, state, Move::Tick, mind);
        if later.is_some_and(|l| look(case, &l.state, false, mind).is_some()) {
            self.tell(id, None, "L3: it sleeps over what is due");
        }
    }

    /// Iterative depth-first search over the ways home: a circle is a livelock.
    fn circles(&mut self) {
        const NEW: u32 = u32::MAX;
        const OPEN: u32 = u32::MAX - 1;
        let count = self.came.len();
        let mut far = vec![NEW; count];
        let mut stack: Vec<(u32, u32)> = vec![];
        for root in 0..u32::try_from(count).unwrap_or(0) {
            if far[root as usize] != NEW {
                continue;
            }
            far[root as usize] = OPEN;
            stack.push((root, self.from[root as usize]));
            while let Some((at, edge)) = stack.pop() {
                let end = self.from[at as usize + 1];
                if edge == end {
                    let ways = &self.to[self.from[at as usize] as usize..end as usize];
                    let longest = ways.iter().map(|w| far[*w as usize] + 1).max();
                    far[at as usize] = longest.unwrap_or(0);
                    continue;
                }
                stack.push((at, edge + 1));
                let to = self.to[edge as usize];
                match far[to as usize] {
                    NEW => {
                        far[to as usize] = OPEN;
                        stack.push((to, self.from[to as usize]));
                    }
                    OPEN => {
                        let circle: Vec<u32> = stack
                            .iter()
                            .map(|(s, _)| *s)
                            .skip_while(|s| *s != to)
                            .collect();
                        let what = format!("L6: it goes in a circle of {} states", circle.len());
                        self.tell(to, None, &what);
                        return;
                    }
                    _ => {}
                }
            }
        }
        let longest = far.iter().copied().max().unwrap_or(0);
        self.report.home = longest as usize;
    }

    /// Tells what is broken, with the way to it, each kind once.
    fn tell(&mut self, id: u32, a_move: Option<Move>, what: &str) {
        let kind = what.split(':').next().unwrap_or_default().to_owned();
        let kind = format!("{kind} {:?}", a_move.map(|m| std::mem::discriminant(&m)));
        if self.kinds.contains(&kind) || self.report.broken.len() >= TOLD {
            return;
        }
        self.kinds.push(kind);
        let text = format!("{}: {what}\n{}", self.case.name, self.way(id, a_move));
        self.report.broken.push(text);
    }

    fn way(&self, id: u32, last: Option<Move>) -> String {
        let mut way: Vec<Move> = last.into_iter().collect();
        let mut at = id;
        let start = loop {
            match self.came[at as usize] {
                (from, Some(a_move)) => {
                    way.push(a_move);
                    at = from;
                }
                (start, None) => break start,
            }
        };
        way.reverse();
        let mut state = self.starts[start as usize].clone();
        let mut text = format!("      {}\n", line(self.case, &state));
        for a_move in way {
            let Some(next) = make(self.case, &state, a_move, self.mind) else {
                let _ = writeln!(text, "  {a_move:?} does nothing");
                break;
            };
            state = next.state;
            let _ = writeln!(text, "  {a_move:?}\n      {}", line(self.case, &state));
            for what in next.broken {
                let _ = writeln!(text, "      {what}");
            }
        }
        text
    }
}

/// A state in a line.
pub fn line(case: &Case, state: &State) -> String {
    let status = &state.status.value;
    let attempt = status.attempt.as_ref();
    let version = |h: &str| case.version(h).map_or("?".into(), |v| format!("v{v}"));
    let pods: Vec<String> = state
        .revisions
        .iter()
        .map(|r| match &r.set {
            Some(s) => format!("v{}={}/{}#{}", r.version, s.ready, s.desired, s.decision),
            None => format!("v{}=-", r.version),
        })
        .collect();
    let roles: Vec<String> = state
        .roles
        .iter()
        .flatten()
        .map(|r| format!("v{}#{}", r.selects, r.decision))
        .collect();
    let route = state.route.as_ref().map(|r| {
        let accepted = if r.accepted { "" } else { "?" };
        format!("{}/{}{accepted}#{}", r.weights.0, r.weights.1, r.decision)
    });
    let flight = |f: &Option<crate::flight::Flight>| {
        f.as_ref().map_or(String::new(), |f| {
            let names = f.effects.iter().map(|e| {
                let (kind, name) = crate::flight::object(&e.action.value);
                let verb = e.action.text.split([' ', '{']).next().unwrap_or_default();
                format!(
                    "{verb} {kind} {name}{}",
                    if e.stale { " (stale)" } else { "" }
                )
            });
            names.collect::<Vec<_>>().join(", ")
        })
    };
    format!(
        "template v{} x{}{} | stable {} | {} {} {}{} #{}/{} | pods {} | services {} | route {} flow {:?} | to do [{}] late [{}] {:?}",
        state.template,
        state.replicas,
        if state.deleting { " deleting" } else { "" },
        status
            .stable_revision
            .as_deref()
            .map_or("-".into(), version),
        attempt.map_or("-".into(), |a| version(&a.hash)),
        attempt.map_or("", |a| a.stage.as_str()),
        attempt.map_or(0, |a| a.step_index),
        status.pause.as_ref().map_or("", |_| " paused"),
        status.decision.as_ref().map_or(0, |d| d.sequence),
        status.decision.as_ref().map_or(0, |d| d.fence),
        pods.join(" "),
        roles.join(" "),
        route.unwrap_or_else(|| "-".into()),
        state.flow,
        flight(&state.flight),
        flight(&state.late),
        state.commands,
    )
}
