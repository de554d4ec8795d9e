//! Everything that may happen next: Serin's own doing, the cluster's, users', and faults.

use std::sync::Arc;

use serin::{
    engine,
    model::{
        command::Verb,
        observed::Observed,
        plan::{Plan, Requeue},
    },
};

use crate::{
    flight::{Effect, Flight, Seen, object, told},
    landing::{land, set_route, touch},
    laws,
    plain::{normal, tick},
    world::{Case, Rev, Route, State, TICK, Told, VERSIONS, WRITTEN, now},
};

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The leader looks, decides and commits.
    Look,
    /// The same, with pods as they were before.
    LookStale,
    /// The next action of what it committed is carried out, or refused.
    Act,
    /// The next action of what a deposed leader had under way is carried out, or refused.
    LateAct,
    /// What a deposed leader had under way is lost.
    LateLost,
    /// A pod becomes ready.
    Ready(usize),
    /// The ReplicaSet's controller follows the change of its size.
    Follow(usize),
    /// The gateway accepts the route.
    Accept,
    /// Time passes.
    Tick,
    /// A run ends.
    Ends(usize, &'static str),
    /// The leader dies between two writes; the next one starts from what is there.
    Crash,
    /// The leader is deposed, and its requests are still under way.
    Depose,
    /// A pod stops being ready.
    Kill(usize),
    /// A version turns bad for good.
    Sicken(usize),
    /// Somebody else writes the route's weights.
    Weights(u32, u32),
    /// `spec.replicas` is changed.
    Replicas(u8),
    /// The template is changed.
    Template(usize),
    /// A command is given.
    Command(Verb),
    /// The Rollout is deleted.
    Delete,
    /// The status is lost.
    LoseStatus,
}

impl Move {
    /// Whether it happens without anybody's doing, once faults stop.
    pub fn leads_home(self) -> bool {
        matches!(
            self,
            Self::Look
                | Self::Act
                | Self::LateAct
                | Self::LateLost
                | Self::Ready(_)
                | Self::Follow(_)
                | Self::Accept
                | Self::Tick
                | Self::Ends(..)
        )
    }
    fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Crash
                | Self::Depose
                | Self::Kill(_)
                | Self::Sicken(_)
                | Self::Weights(..)
                | Self::LoseStatus
        )
    }
}

/// Who decides: the real `plan`, or one that was made worse on purpose.
pub type Mind<'a> = &'a dyn Fn(&Case, &Observed) -> Plan;

/// The real one.
pub fn sound(_: &Case, observed: &Observed) -> Plan {
    engine::plan(observed, now())
}

/// What came of a move: the next state, and which laws were broken on the way.
pub struct Next {
    pub state: State,
    pub broken: Vec<String>,
}

/// Every move that may be possible in a state.
pub fn moves(case: &Case, state: &State) -> Vec<Move> {
    if state.gone {
        return vec![];
    }
    let mut all = vec![
        Move::Look,
        Move::Act,
        Move::LateAct,
        Move::LateLost,
        Move::Accept,
        Move::Tick,
        Move::LookStale,
    ];
    all.extend((0..VERSIONS).map(Move::Ready));
    all.extend((0..VERSIONS).map(Move::Follow));
    for (at, run) in state.runs.iter().enumerate() {
        if run.phase == "Running" {
            all.extend(["Successful", "Failed", "Inconclusive"].map(|p| Move::Ends(at, p)));
        }
    }
    if state.faults > 0 {
        all.extend([Move::Crash, Move::Depose, Move::LoseStatus]);
        all.extend((0..VERSIONS).map(Move::Kill));
        let known = |v: &usize| *v < WRITTEN || state.set(*v).is_some();
        all.extend((1..VERSIONS).filter(known).map(Move::Sicken));
        if case.routed() {
            all.extend([(100, 0), (50, 50), (0, 100)].map(|(s, c)| Move::Weights(s, c)));
        }
    }
    if state.hands > 0 {
        all.extend((0..=3).map(Move::Replicas));
        all.extend((0..WRITTEN).map(Move::Template));
        all.extend(Verb::ALL.map(Move::Command));
        all.push(Move::Delete);
    }
    all
}

/// Makes a move; none where it changes nothing.
pub fn make(case: &Case, state: &State, a_move: Move, mind: Mind<'_>) -> Option<Next> {
    if matches!(a_move, Move::Look | Move::LookStale) {
        return look(case, state, a_move == Move::LookStale, mind);
    }
    let mut next = state.clone();
    let mut broken = vec![];
    if a_move.is_fault() {
        next.faults = next.faults.checked_sub(1)?;
    } else if !a_move.leads_home() {
        next.hands = next.hands.checked_sub(1)?;
    }
    let changed = match a_move {
        Move::Look | Move::LookStale => false,
        Move::Act => {
            let flight = next.flight.take()?;
            next.flight = carry_out(case, &mut next, flight, &mut broken);
            true
        }
        Move::LateAct => {
            let late = next.late.take()?;
            next.late = carry_out(case, &mut next, late, &mut broken);
            true
        }
        Move::LateLost => next.late.take().is_some(),
        Move::Crash => next.flight.take().is_some(),
        Move::Depose if next.late.is_none() => {
            next.late = next.flight.take();
            next.late.is_some()
        }
        Move::Depose => false,
        Move::Tick => {
            tick(&mut next);
            true
        }
        Move::Delete => {
            next.gone = !next.claimed;
            next.deleting = true;
            touch(&mut next, "Rollout", "");
            !state.deleting
        }
        Move::LoseStatus => {
            next.status = case.empty().status;
            touch(&mut next, "Rollout", "");
            *state.status.text != *next.status.text
        }
        Move::Ready(_) | Move::Kill(_) | Move::Sicken(_) => pods(case, &mut next, a_move)?,
        Move::Follow(version) => {
            let set = next.set_mut(version)?;
            let late = !set.seen;
            set.seen = true;
            let name = format!("app-{}", case.hashes[version]);
            touch(&mut next, "ReplicaSet", &name);
            late
        }
        Move::Accept => {
            let route = next.route.as_mut()?;
            let waited = !route.accepted;
            route.accepted = true;
            touch(&mut next, "HTTPRoute", "app");
            waited
        }
        Move::Ends(at, phase) => {
            let run = next.runs.get_mut(at)?;
            run.phase = phase;
            let name = run.name.clone();
            touch(&mut next, "AnalysisRun", &name);
            true
        }
        Move::Weights(stable, canary) => {
            let route = next.route.clone()?;
            let weights = (stable, canary);
            set_route(
                &mut next,
                Route {
                    weights,
                    accepted: false,
                    ..route
                },
            );
            touch(&mut next, "HTTPRoute", "app");
            route.weights != weights
        }
        Move::Replicas(n) => {
            next.replicas = n;
            touch(&mut next, "Rollout", "");
            n != state.replicas
        }
        Move::Template(version) => {
            next.template = version;
            touch(&mut next, "Rollout", "");
            version != state.template
        }
        Move::Command(verb) => command(&mut next, verb)?,
    };
    let state = changed.then(|| finish(case, next)).filter(|n| n != state)?;
    Some(Next { state, broken })
}

/// What is gone has no history.
fn finish(case: &Case, state: State) -> State {
    if !state.gone {
        return normal(case, state);
    }
    let mut gone = case.empty();
    gone.gone = true;
    gone
}

/// The leader looks, decides and commits; none where nothing comes of it.
pub fn look(case: &Case, state: &State, stale: bool, mind: Mind<'_>) -> Option<Next> {
    // One round at a time.
    if state.gone || state.flight.is_some() || (stale && state.before.is_none()) {
        return None;
    }
    let mut plan = mind(case, &case.observe(state, stale));
    let mut stale = stale;
    if plan.look_closer {
        stale = false;
        plan = mind(case, &case.observe(state, false));
    }
    let ready = if stale { state.before } else { None };
    let ready = ready.unwrap_or_else(|| state.ready());
    let broken = laws::committed(case, state, ready, &plan.status);
    let effects = plan.actions.iter().cloned().map(|action| Effect {
        action: told(action),
        stale: false,
    });
    let effects: Vec<Effect> = effects.collect();
    let mut next = state.clone();
    next.flight = (!effects.is_empty()).then(|| Flight {
        effects,
        seen: Seen::of(case, state, ready, &plan.status),
    });
    next.status = Told {
        value: Arc::new(plan.status.clone()),
        text: Arc::from(""),
    };
    if !stale {
        next.before = None;
    }
    let mut next = finish(case, next);
    if next.status != state.status
        && let Some(late) = &mut next.late
    {
        late.touch("Rollout", "");
    }
    let idle = next.flight.is_none() && next.status == state.status;
    if idle && broken.is_empty() {
        return None;
    }
    Some(Next {
        state: next,
        broken,
    })
}

/// What the plan says of a state.
pub fn rest(case: &Case, state: &State, mind: Mind<'_>) -> Option<Plan> {
    (!state.gone).then(|| mind(case, &case.observe(state, false)))
}

/// Whether whoever sleeps as long as the plan says sleeps over the next tick.
pub fn sleeps(plan: &Plan) -> bool {
    let tick = std::time::Duration::from_secs(TICK.unsigned_abs());
    match plan.requeue {
        Requeue::Now => false,
        Requeue::At(at) => at.duration_since(now()).as_secs() > TICK,
        Requeue::OnChange(longest) => longest > tick,
    }
}

/// The next action of a flight. What is left of it.
fn carry_out(
    case: &Case,
    state: &mut State,
    mut flight: Flight,
    broken: &mut Vec<String>,
) -> Option<Flight> {
    let effect = flight.effects.remove(0);
    // What comes after one that is refused is given up.
    broken.extend(land(case, state, &effect, &mut flight.seen)?);
    let (kind, name) = object(&effect.action.value);
    if kind != "Rollout" {
        flight.touch(kind, name);
    }
    (!flight.effects.is_empty() && !state.gone).then_some(flight)
}

fn pods(case: &Case, next: &mut State, a_move: Move) -> Option<bool> {
    let ready = next.ready();
    let (Move::Ready(version) | Move::Kill(version) | Move::Sicken(version)) = a_move else {
        return None;
    };
    let sick = next.is_sick(version);
    match a_move {
        Move::Ready(_) => {
            let set = next.set_mut(version)?;
            if sick || set.ready >= set.desired {
                return None;
            }
            set.ready += 1;
        }
        Move::Kill(_) => {
            let set = next.set_mut(version)?;
            set.ready = set.ready.checked_sub(1)?;
        }
        _ if sick => return None,
        _ => {
            // It was taken for good so far, or nobody has seen it yet.
            next.sick |= 1 << version;
            if let Some(set) = next.set_mut(version) {
                set.ready = 0;
            }
        }
    }
    if next.before.is_none() {
        next.before = Some(ready);
    }
    let name = format!("app-{}", case.hashes[version]);
    touch(next, "ReplicaSet", &name);
    Some(true)
}

fn command(next: &mut State, verb: Verb) -> Option<bool> {
    let status = &next.status.value;
    let name = verb.as_str();
    let attempt = status.attempt.as_ref();
    let hash = attempt.map(|a| a.hash.clone())?;
    let restarted = |r: &Rev| r.version >= WRITTEN;
    if verb == Verb::Restart && next.revisions.iter().any(restarted) {
        // Once: another time would be another version.
        return None;
    }
    let count = status.commands.iter().filter(|c| c.name == name).count();
    let token = match verb {
        Verb::Abort | Verb::Pause => "true".to_owned(),
        Verb::Promote => format!("{hash}@{}/{count}", attempt.map_or(0, |a| a.step_index)),
        Verb::Resume | Verb::Retry | Verb::PromoteFull => format!("{hash}/{count}"),
        Verb::Undo | Verb::Restart => format!("*/{count}"),
    };
    let old = next.commands.insert(name, token.clone());
    touch(next, "Rollout", "");
    Some(old != Some(token))
}
