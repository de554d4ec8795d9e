//! What should happen: pure, total, without a clock.

pub mod analysis;
mod blockers;
mod requeue;
pub mod status;
pub mod strategy;
pub mod traffic;
mod under_way;
pub mod workload;

use std::ops::Range;

use jiff::Timestamp;

use crate::{
    api::{
        names::{DECISION, reason},
        status::RolloutStatus,
    },
    model::{
        desired::Desired,
        object::annotation_number,
        observed::{Observed, References},
        plan::{Action, Intent, Numbers, Plan, Requeue},
        progress::{after, note, note_once},
        revisions::restarted_at,
        share::FULL,
        spec::{Course, FieldError, Spec, shifting},
        traffic::{InForce, RouteFault, Written},
    },
};

use blockers::Blockers;
use requeue::{LOOK_AGAIN, LOOK_AGAIN_AT_REST, requeue};
use strategy::{Context, Decided, Wait};

/// So many times the status may move on in one decision. A status that still moves then is committed
/// as it is, and the next round goes on from there.
const MOVES: usize = 8;

/// Decides. Total: it never fails, never waits, never looks at a clock.
///
/// Where the status moves on, nothing is done about the world, so the next look would see this world
/// with that status: it is decided on at once, and one commit carries all of it. But for a restart: which
/// revision is asked for then, only another look can tell.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let (mut plan, mut moved) = once(observed, now);
    if !moved {
        return plan;
    }
    let mut observed = observed.clone();
    let known = restarted_at(&observed.rollout, &observed.revisions);
    for _ in 1..MOVES {
        let told = plan.status.restarted_at.as_ref().map(|t| t.0);
        if !moved || told.is_some_and(|at| known != Some(at)) {
            break;
        }
        observed.rollout.status = Some(plan.status);
        (plan, moved) = once(&observed, now);
    }
    plan
}

/// Decides on one look: what to do, or how the status moves on, and whether it does.
fn once(observed: &Observed, now: Timestamp) -> (Plan, bool) {
    let mut status = observed.rollout.status.clone().unwrap_or_default();
    let deleted = observed.deleting();
    if deleted && !observed.claimed() {
        return (rest(status), false);
    }
    let spec = match Spec::resolve(&observed.rollout) {
        Ok(spec) => spec,
        Err(faults) => {
            status::reject(observed, &mut status, &faults, now);
            return (rest(status), false);
        }
    };
    let written = traffic::look(&spec, observed);
    let behind = |w: &Written| traffic::behind(&status, w);
    if !observed.live && written.as_ref().is_some_and(behind) {
        // Another process has seen more: what this one would decide from is past.
        let plan = Plan {
            look_closer: true,
            ..rest(status)
        };
        return (plan, false);
    }
    if let Some(written) = &written {
        traffic::accept(&mut status, written, spec.propagation_delay, now);
    }
    let force = written
        .as_ref()
        .map(|w| traffic::in_force(&status, w, spec.propagation_delay, now));
    if let (Some(written), Some(force)) = (&written, &force) {
        let down = strategy::allowed_weight(&status) == 0;
        traffic::forget(&mut status, written, force, spec.former, down, deleted);
        if spec.former && status.traffic.is_none() {
            // From now on by what is written.
            return (rest(status), true);
        }
    }
    let unread = written.as_ref().and_then(|w| w.share.as_ref().err());
    let blockers = blockers::find(&spec, observed, unread);
    if let Some(step) = workload::adoption::adopt(observed, blockers.sentence()) {
        return (
            adopting(&spec, observed, &blockers, step, status, now),
            false,
        );
    }
    let next = next_number(observed, &status, written.as_ref());
    let cx = Context {
        spec: &spec,
        observed,
        force,
        written: written.as_ref(),
        blocked: blockers.sentence(),
        absent: blockers.wrong.is_empty() && !blockers.missing.is_empty(),
        next,
        now,
    };
    let mut decided = strategy::decide(&cx, &mut status);
    blockers.tell(&mut status, &mut decided, now);
    decided.refused(observed.refused.as_ref());
    let world = World {
        spec: &spec,
        observed,
        force,
        written: written.as_ref(),
        now,
    };
    let realized = if decided.moved {
        Realized::default()
    } else {
        realize(&world, &mut decided, &mut status, next)
    };
    let (actions, hazardous, hazards) = choose(&world, realized.intents, &mut status, next);
    status::summarize(&world, &decided, &mut status);
    let requeue = requeue(&decided, hazards, &status, now);
    let plan = Plan {
        status,
        actions,
        hazardous,
        requeue,
        look_closer: realized.look_closer,
    };
    (plan, decided.moved)
}

/// A Deployment is on its way to this Rollout: nothing else is decided before.
fn adopting(
    spec: &Spec,
    observed: &Observed,
    blockers: &Blockers,
    step: workload::adoption::Step,
    mut status: RolloutStatus,
    now: Timestamp,
) -> Plan {
    let mut decided = Decided::wait(Wait::new(step.waits, "it is adopted"));
    if step.blocked {
        blockers.tell(&mut status, &mut decided, now);
    }
    if let Some(message) = step.tells {
        note_once(&mut status, now, "Normal", reason::ADOPTED, &message);
    }
    let world = World {
        spec,
        observed,
        force: None,
        written: None,
        now,
    };
    status::summarize(&world, &decided, &mut status);
    Plan {
        requeue: requeue(&decided, 0, &status, now),
        actions: step.actions,
        ..rest(status)
    }
}

/// Nothing to do until something changes.
fn rest(status: RolloutStatus) -> Plan {
    Plan {
        status,
        actions: vec![],
        hazardous: 0..0,
        requeue: Requeue::OnChange(LOOK_AGAIN_AT_REST),
        look_closer: false,
    }
}

/// What is wrong with a Rollout and with what it refers to, before anything is decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// What is written wrongly, by field path.
    pub wrong: Vec<FieldError>,
    /// What it refers to and is not there, each by kind and name.
    pub missing: Vec<String>,
    /// The largest share that the routes give the canary, in millionths, where one can be read.
    pub share: Option<u32>,
    /// What the strategy makes of it, where that can be read.
    pub course: Option<Course>,
}

/// Everything for which [`plan`] would not carry the Rollout out, all at once.
pub fn faults(observed: &Observed) -> Faults {
    let (spec, mut wrong) = Spec::examine(&observed.rollout);
    let Some(spec) = spec else {
        return Faults {
            wrong,
            ..Faults::default()
        };
    };
    let routes = traffic::faults(&spec, observed);
    let share = match traffic::look(&spec, observed).map(|written| written.share) {
        Some(Ok(share) | Err(RouteFault::Disagree(share))) => Some(share),
        Some(Err(RouteFault::Missing(_) | RouteFault::Unfit { .. })) | None => None,
    };
    let blockers = blockers::find(&spec, observed, &routes);
    wrong.extend(blockers.wrong);
    Faults {
        wrong,
        missing: blockers.missing,
        share,
        course: Some(spec.course),
    }
}

/// What must be looked at for a Rollout, beside its own revisions, pods and runs.
pub fn references(spec: &Spec) -> References {
    let mut references = spec.references();
    references.routes = traffic::references(spec);
    references
}

/// What was looked at.
pub struct World<'a> {
    /// The valid spec.
    pub spec: &'a Spec,
    /// The world.
    pub observed: &'a Observed,
    /// What the data plane may be serving, where traffic is routed.
    pub force: Option<InForce>,
    /// What the routes say, where traffic is routed.
    pub written: Option<&'a Written>,
    /// The time.
    pub now: Timestamp,
}

/// Nothing is known of what the data plane serves.
const UNKNOWN: InForce = InForce {
    low: 0,
    high: FULL,
    settled: None,
    settles_at: None,
    gone: false,
};

#[derive(Default)]
struct Realized {
    intents: Vec<Intent>,
    look_closer: bool,
}

/// From wishes to intents. Traffic comes first: it is what an abort moves.
fn realize(
    world: &World<'_>,
    decided: &mut Decided,
    status: &mut RolloutStatus,
    next: i64,
) -> Realized {
    let (spec, observed) = (world.spec, world.observed);
    let numbers = Numbers {
        next,
        fence: status.decision.as_ref().map_or(0, |d| d.fence),
    };
    let mut realized = Realized {
        intents: strategy::commands::tidy(observed, status),
        look_closer: false,
    };
    let mut lets_go = false;
    match finalizer(world, &decided.desired) {
        // What is let go of is never straightened again: a cache may be behind.
        Some(Action::Release)
            if !observed.live && (world.written.is_some() || observed.workload.is_some()) =>
        {
            realized.look_closer = true;
        }
        Some(Action::Release) if observed.deleting() => lets_go = true,
        // Whatever else is awaited: the way back of what is adopted goes by this alone.
        None if observed.workload.is_some() && observed.deleting() => {
            decided.also_wake(world.force.and_then(|f| f.settles_at));
        }
        action => realized.intents.extend(action.map(Intent::harmless)),
    }
    if let Some(written) = world.written {
        let verdict = match decided.desired.weight {
            _ if written.strayed => Some(traffic::repair::unbound(written)),
            wanted => wanted.map(|w| traffic::repair::judge(status, written, w, world.now)),
        };
        if let Some(traffic::repair::Verdict::Conflict(until, message)) = verdict {
            decided.stalled = Some((reason::ROUTE_CONFLICT.into(), message));
            decided.also_wake(Some(until));
        } else {
            let force = world.force.unwrap_or(UNKNOWN);
            let mut moved =
                traffic::realize(spec, &decided.desired, observed, written, &force, numbers);
            if let Some(traffic::repair::Verdict::Repair(message)) = verdict {
                let hazards = moved.intents.iter_mut().filter_map(|i| i.hazard.as_mut());
                for hazard in hazards {
                    hazard.repair = Some(message.clone());
                }
            }
            // A number on a route keeps off what is still under way to it.
            lets_go &= moved.intents.is_empty();
            realized.intents.extend(moved.intents);
            match moved.held {
                Some(traffic::Held::LookCloser) => realized.look_closer = true,
                Some(traffic::Held::Rescue(why)) => {
                    let why = format!("{why}: {}", strategy::commands::way_out(observed, status));
                    note_once(status, world.now, "Warning", reason::ABORT_HELD, &why);
                    decided.stalled = Some((reason::ABORT_HELD.into(), why));
                }
                Some(traffic::Held::Capacity(why)) => {
                    // Where no pods are wanted, that says it all.
                    if let Some(wait) = decided.waiting.as_mut().filter(|_| spec.replicas > 0) {
                        wait.for_ = why;
                        wait.until = None;
                    }
                    // Nothing tells of the endpoints of the user's Service.
                    decided.also_wake(written.bound.then(|| after(world.now, LOOK_AGAIN)));
                }
                None => {}
            }
        }
    }
    if lets_go && let Some(last) = workload::adoption::let_go(spec, observed, status, world.now) {
        // Nothing else: it would land when there may be another Rollout of that name.
        realized.intents.extend(last);
        return realized;
    }
    // After the traffic: pods that nobody asked for do not hold it up.
    let kept = workload::adoption::keep(spec, observed, status, world.now);
    realized.intents.extend(kept);
    realized.look_closer |=
        workload::replica_sets::unsure(spec, &decided.desired, observed, status);
    realized.intents.extend(workload::realize(
        spec,
        &decided.desired,
        observed,
        status,
        world.force.as_ref(),
        numbers,
    ));
    realized
        .intents
        .extend(analysis::realize(&decided.desired, observed));
    realized
}

/// Our finalizer stands while foreign routes are bent, or a Deployment is adopted.
fn finalizer(world: &World<'_>, desired: &Desired) -> Option<Action> {
    let ours = world.observed.claimed();
    let adopted = world.observed.workload.is_some() && !world.observed.deleting();
    if desired.claim || adopted {
        return (!ours).then_some(Action::Claim);
    }
    let straight = world.force.is_none_or(|f| f.settled_at(0) || f.gone)
        && world.written.is_none_or(|w| !w.bound);
    (ours && straight).then_some(Action::Release)
}

/// All harmless intents and the first hazardous one, which gets a number and an entry in the history.
/// Where its actions stand among all, and how many hazardous ones there were.
fn choose(
    world: &World<'_>,
    intents: Vec<Intent>,
    status: &mut RolloutStatus,
    next: i64,
) -> (Vec<Action>, Range<usize>, usize) {
    let mut actions = vec![];
    let (mut hazards, mut hazardous) = (0, 0..0);
    let mut stamps = vec![];
    let share = world.written.and_then(|w| w.highest);
    for intent in intents {
        match intent.hazard {
            None => actions.extend(intent.actions),
            Some(hazard) => {
                hazards += 1;
                if hazards > 1 {
                    continue;
                }
                let effect = under_way::effect(&intent.actions, next);
                let fence = under_way::fence(world.observed, status, effect.as_ref());
                // The way back of the traffic waits for nothing, but for what may still take pods from where it leads.
                let back = hazard
                    .share
                    .is_some_and(|to| share.is_some_and(|from| to < from));
                let shrinks = under_way::touches(&fence, world.observed, status);
                if !fence.is_empty() && (!back || shrinks) {
                    // The look that follows their change goes on.
                    stamps = fence;
                    continue;
                }
                let decision = status.decision.get_or_insert_default();
                decision.sequence = next;
                decision.what = Some(hazard.what.clone());
                decision.effect = effect;
                if let Some(message) = &hazard.repair {
                    traffic::repair::made(status, message, world.now);
                }
                if let (Some(traffic), Some(share)) = (status.traffic.as_mut(), hazard.share) {
                    traffic.written = i32::try_from(share).ok();
                    traffic.written_by = next;
                    if (share > 0 || hazard.binds) && traffic.strategy.is_none() {
                        traffic.strategy = shifting(&world.observed.rollout.spec.strategy);
                    }
                }
                if let Some(why) = hazard.reason {
                    // A decision that is made again, since its effect was refused, is told once.
                    if status
                        .history
                        .last()
                        .is_none_or(|h| h.message != hazard.what)
                    {
                        note(status, world.now, "Normal", why, &hazard.what);
                    }
                }
                hazardous = actions.len()..actions.len() + intent.actions.len();
                actions.extend(intent.actions);
            }
        }
    }
    // Whatever else is written to an object fences it off, too.
    stamps.retain(|s| !actions.iter().any(|a| under_way::same_object(s, a)));
    actions.extend(stamps);
    (actions, hazardous, hazards)
}

/// A number above every one that stands anywhere, also when the status was lost.
fn next_number(observed: &Observed, status: &RolloutStatus, written: Option<&Written>) -> i64 {
    let sets = observed
        .revisions
        .iter()
        .filter_map(|r| r.replica_set.as_ref())
        .map(|s| s.decision);
    let services = observed
        .services
        .values()
        .map(|v| annotation_number(v, DECISION));
    let routes = observed
        .routes
        .values()
        .map(|v| annotation_number(v, DECISION));
    let own = status.decision.as_ref().map_or(0, |d| d.sequence);
    sets.chain(services)
        .chain(routes)
        .chain(written.map(|w| w.decision))
        .max()
        .unwrap_or(0)
        .max(own)
        + 1
}
