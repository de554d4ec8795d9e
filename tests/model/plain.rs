//! The normal form of a state: what `plan` does not read is left out, times are distances that are
//! cut off where no delay reaches further, numbers of decisions keep only their order.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde_json::{Value, json};
use serin::{
    api::{
        RolloutStatus,
        names::reason::{PROMOTED, SUPERSEDED},
        status::Superseded,
    },
    model::plan::Action,
};

use crate::{
    flight::{Flight, numbers, renumber, told},
    world::{Case, DEADLINE, GENERATION, State, TICK, Told, at, now},
};

/// Without a foreign change for so long, repairs of the route are forgotten.
const FORGET: i64 = 300;
/// So many repairs in a row are a conflict.
const CONFLICT: i32 = 3;

/// Seconds since a time; 0 for one to come.
fn age(t: Timestamp) -> i64 {
    now().duration_since(t).as_secs()
}

/// A time that lies behind, as far as it matters.
fn past(t: &mut MicroTime, most: i64) {
    t.0 = at(-age(t.0).min(most));
}

/// The state in its normal form.
pub fn normal(case: &Case, mut state: State) -> State {
    for run in &mut state.runs {
        run.age = run.age.min(TICK);
        run.ended = run.ended.min(DEADLINE);
    }
    if state.before.is_some_and(|b| b == state.ready()) {
        state.before = None;
    }
    let mut status = (*state.status.value).clone();
    strip(case, &mut status, state.faults);
    recorded(case, &mut state, &mut status);
    renumbered(&mut state, &mut status);
    state.status = Told {
        text: serde_json::to_string(&status).unwrap_or_default().into(),
        value: Arc::new(status),
    };
    state
}

/// Leaves out of a status what is only told, and cuts times off.
fn strip(case: &Case, status: &mut RolloutStatus, faults: u8) {
    let seen = status.seen();
    let RolloutStatus {
        stable_revision,
        current_revision,
        mut attempt,
        mut pause,
        mut bake,
        mut undo,
        restarted_at,
        mut traffic,
        mut draining,
        mut decision,
        mut commands,
        mut waiting,
        // Told, never read.
        ..
    } = std::mem::take(status);
    if let Some(a) = &mut attempt {
        a.started_at = Time(now());
        a.message = None;
        a.decided_by = None;
        for s in &mut a.superseded {
            s.by = String::new();
        }
        past(&mut a.progress_at, DEADLINE);
        if a.stage == "Done" {
            // No deadline counts there, and no step.
            a.progress_at.0 = now();
            a.step_started_at = None;
            a.step_resumed_at = None;
            a.progress_mark = 0;
        }
        if let Some(t) = &mut a.step_started_at {
            // A pause of a tick, and the deadline after it.
            past(t, TICK + DEADLINE);
        }
        if let Some(t) = &mut a.step_resumed_at {
            past(t, TICK);
        }
        if let Some(t) = &mut a.stage_since {
            past(t, TICK);
        }
    }
    if let Some(p) = &mut pause {
        p.since = Time(now());
        p.message = String::new();
    }
    if let Some(b) = &mut bake {
        past(&mut b.since, TICK);
        b.until.0 = b.until.0.max(now());
    }
    if let Some(u) = &mut undo {
        (u.since, u.by) = (Time(now()), None);
    }
    if let Some(t) = &mut traffic {
        past(&mut t.since, TICK);
        if case.routed() {
            let present = format!("app={GENERATION}");
            if t.generations.as_ref() != Some(&present) {
                t.generations = Some("earlier".into());
            }
        }
        // So few repairs can no longer become a conflict.
        let harmless = t.repairs + i32::from(faults) < CONFLICT;
        if harmless || t.repaired_at.as_ref().is_some_and(|r| age(r.0) > FORGET) {
            (t.repairs, t.repaired_at) = (0, None);
        }
    }
    for d in &mut draining {
        d.until.0 = d.until.0.max(now());
    }
    if let Some(d) = &mut decision {
        d.told = 0;
        d.what = None;
    }
    for c in &mut commands {
        c.at = Time(now());
        c.message = None;
    }
    // Read in one case only, but for what is absent, and nothing is absent here.
    waiting = waiting.filter(|w| w.for_ == "spec.replicas to be above 0");
    if let Some(w) = &mut waiting {
        (w.since, w.until, w.then) = (Time(now()), None, String::new());
    }
    *status = RolloutStatus {
        waiting,
        observed_generation: Some(if seen { 1 } else { -1 }),
        stable_revision,
        current_revision,
        attempt,
        pause,
        bake,
        undo,
        restarted_at,
        traffic,
        draining,
        decision,
        commands,
        ..RolloutStatus::default()
    };
}

/// That a revision gave way to another is never read but to be written once: where its record tells so,
/// both are left out.
fn recorded(case: &Case, state: &mut State, status: &mut RolloutStatus) {
    let Some(attempt) = &mut status.attempt else {
        return;
    };
    let untold = |version: usize, verdict: &str| {
        let record = state.revisions.iter().find(|r| r.version == version);
        record.is_some_and(|r| r.verdict != verdict && r.verdict != PROMOTED)
    };
    attempt.superseded.retain(|s| {
        let verdict = format!("{SUPERSEDED}: {}", s.next);
        case.version(&s.hash).is_some_and(|v| untold(v, &verdict))
    });
    for revision in &mut state.revisions {
        let owed = |s: &Superseded| case.version(&s.hash) == Some(revision.version);
        if revision.verdict.starts_with(SUPERSEDED) && !attempt.superseded.iter().any(owed) {
            revision.verdict.clear();
        }
    }
}

/// Decisions' numbers by their rank: all that is ever asked of them is which is greater.
fn renumbered(state: &mut State, status: &mut RolloutStatus) {
    let mut all = vec![];
    if let Some(d) = &status.decision {
        all.extend([d.sequence, d.fence]);
        all.extend(d.effect.as_ref().map(|e| e.decision));
    }
    all.extend(status.traffic.as_ref().map(|t| t.written_by));
    all.extend(state.route.as_ref().map(|r| r.decision));
    all.extend(state.roles.iter().flatten().map(|r| r.decision));
    let sets = state.revisions.iter().filter_map(|r| r.set.as_ref());
    all.extend(sets.map(|s| s.decision));
    for effect in flights(state).flat_map(|f| &f.effects) {
        numbers(&effect.action.value, &mut all);
    }
    all.retain(|n| *n > 0);
    all.sort_unstable();
    all.dedup();
    let rank = |n: i64| {
        all.binary_search(&n)
            .map_or(0, |i| i64::try_from(i).unwrap_or(0) + 1)
    };
    if all.iter().zip(1..).all(|(n, i)| *n == i) {
        return;
    }
    if let Some(d) = &mut status.decision {
        (d.sequence, d.fence) = (rank(d.sequence), rank(d.fence));
        if let Some(e) = &mut d.effect {
            e.decision = rank(e.decision);
        }
    }
    if let Some(t) = &mut status.traffic {
        t.written_by = rank(t.written_by);
    }
    if let Some(r) = &mut state.route {
        r.decision = rank(r.decision);
    }
    for role in state.roles.iter_mut().flatten() {
        role.decision = rank(role.decision);
    }
    for set in state.revisions.iter_mut().filter_map(|r| r.set.as_mut()) {
        set.decision = rank(set.decision);
    }
    for flight in [&mut state.flight, &mut state.late].into_iter().flatten() {
        for effect in &mut flight.effects {
            effect.action = told(renumber(&effect.action.value, &rank));
        }
    }
}

fn flights(state: &State) -> impl Iterator<Item = &Flight> {
    [&state.flight, &state.late].into_iter().flatten()
}

/// A tick passes: every time lies so much further behind.
pub fn tick(state: &mut State) {
    let mut status = (*state.status.value).clone();
    let shift = |t: &mut Timestamp| {
        *t = t
            .checked_sub(SignedDuration::from_secs(TICK))
            .expect("a time");
    };
    if let Some(a) = &mut status.attempt {
        shift(&mut a.progress_at.0);
        for t in [
            &mut a.step_started_at,
            &mut a.step_resumed_at,
            &mut a.stage_since,
        ]
        .into_iter()
        .flatten()
        {
            shift(&mut t.0);
        }
    }
    if let Some(t) = &mut status.traffic {
        shift(&mut t.since.0);
        if let Some(r) = &mut t.repaired_at {
            shift(&mut r.0);
        }
    }
    for d in &mut status.draining {
        shift(&mut d.until.0);
    }
    for run in &mut state.runs {
        run.age += TICK;
        if run.phase != "Running" {
            run.ended += TICK;
        }
    }
    for flight in [&mut state.flight, &mut state.late].into_iter().flatten() {
        for effect in &mut flight.effects {
            if let Some(older) = aged(&effect.action.value) {
                effect.action = told(older);
            }
        }
    }
    // What was accepted is in force by now; Services are followed.
    if let Some(route) = &state.route
        && route.accepted
    {
        let share = state.share();
        state.flow = (share, share);
    }
    for role in state.roles.iter_mut().flatten() {
        role.behind = 1 << role.selects;
    }
    state.status.value = Arc::new(status);
}

/// The start in a run that is yet to be created.
fn aged(action: &Action) -> Option<Action> {
    let Action::Create { object, value } = action else {
        return None;
    };
    let start: Timestamp = value.pointer("/spec/start")?.as_str()?.parse().ok()?;
    let mut value: Value = value.clone();
    *value.pointer_mut("/spec/start")? = json!(at(-(age(start) + TICK).min(TICK)).to_string());
    Some(Action::Create {
        object: object.clone(),
        value,
    })
}
