//! The laws that hold at every write of Serin's, and where it may come to rest. They are written
//! from the catalogue of invariants, not from the guards in the engine, and share no code with them.

use serin::{
    api::{
        RolloutStatus,
        status::{Attempt, HandledCommand},
    },
    model::{
        plan::{Action, Plan},
        share::FULL,
    },
};

use crate::{
    flight::Seen,
    world::{CANARY, Case, STABLE, State, VERSIONS, WRITTEN},
};

/// Pods that a share needs: rounded up, and one for any share at all.
fn need(share: u32, replicas: u8) -> u8 {
    let exact = (u64::from(share) * u64::from(replicas)).div_ceil(u64::from(FULL));
    match share {
        0 => 0,
        _ => u8::try_from(exact).unwrap_or(u8::MAX).max(1),
    }
}

impl Seen {
    /// What whoever decides now can know.
    pub fn of(case: &Case, state: &State, ready: [u8; VERSIONS], status: &RolloutStatus) -> Self {
        let behind = |i: usize| state.roles[i].as_ref().map_or(0, |r| r.behind);
        let stable = status.stable_revision.as_ref();
        Self {
            ready,
            desired: state.desired(),
            replicas: state.replicas,
            flow: state.flow,
            behind: [behind(STABLE), behind(CANARY)],
            stable: stable.and_then(|h| case.version(h)),
            allowed: allowed(status),
        }
    }

    /// Serin wrote something itself.
    pub fn learn(&mut self, case: &Case, before: &State, after: &State) {
        for (version, to) in resized(before, after) {
            self.ready[version] = self.ready[version].min(to);
        }
        if before.share() != after.share() {
            let share = after.share();
            self.flow = (self.flow.0.min(share), self.flow.1.max(share));
        }
        for index in [STABLE, CANARY] {
            if let Some(role) = &after.roles[index] {
                self.behind[index] |= 1 << role.selects;
            }
        }
        let stable = after.status.value.stable_revision.as_ref();
        self.stable = stable.and_then(|h| case.version(h)).or(self.stable);
    }
}

/// The versions whose size a write changed, and their new sizes.
pub fn resized(before: &State, after: &State) -> impl Iterator<Item = (usize, u8)> {
    let (old, new) = (before.desired(), after.desired());
    (0..VERSIONS)
        .filter(move |v| old[*v] != new[*v])
        .map(move |v| (v, new[v]))
}

/// The share that the steps allow the canary, in millionths, as it is committed.
fn allowed(status: &RolloutStatus) -> u32 {
    let Some(attempt) = &status.attempt else {
        return 0;
    };
    match attempt.stage.as_str() {
        "Stepping" => {
            let index = usize::try_from(attempt.step_index).unwrap_or(0);
            let weights = attempt.steps.iter().take(index + 1);
            let last = weights.filter_map(|s| s.set_weight).next_back();
            u32::try_from(last.unwrap_or(0)).unwrap_or(0) * (FULL / 100)
        }
        "Promoting" | "Baking" | "Switching" => FULL,
        _ => 0,
    }
}

/// How well the traffic is served at a share of the canary, as a fraction: the worse of the two
/// Services, each by the version that it selects.
fn served(case: &Case, seen: &Seen, share: u32, selects: [usize; 2]) -> (u32, u32) {
    let stable = if case.spec.switched() {
        FULL
    } else {
        FULL - share
    };
    let parts = if selects[STABLE] == selects[CANARY] {
        // The same pods serve, whatever the split.
        [(STABLE, FULL), (CANARY, 0)]
    } else {
        let canary = if case.spec.switched() { 0 } else { share };
        [(STABLE, stable), (CANARY, canary)]
    };
    let parts = parts.into_iter().filter(|(_, share)| *share > 0);
    let fractions = parts.map(|(index, share)| {
        let need = need(share, seen.replicas);
        let ready = seen.ready[selects[index]];
        (u32::from(ready.min(need)), u32::from(need))
    });
    fractions
        .min_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)))
        .unwrap_or((1, 1))
}

/// What the landing of an action broke.
pub fn landed(
    case: &Case,
    before: &State,
    after: &State,
    action: &Action,
    seen: &Seen,
    broken: &mut Vec<String>,
) {
    traffic(case, before, after, seen, broken);
    for (version, to) in resized(before, after) {
        if to < before.desired()[version] {
            scaled_down(case, after, seen, (version, to), broken);
        } else {
            scaled_up(case, after, seen, (version, to), broken);
        }
    }
    let mut numbers = vec![];
    crate::flight::numbers(action, &mut numbers);
    let durable = after
        .status
        .value
        .decision
        .as_ref()
        .map_or(0, |d| d.sequence);
    // Who loses the status loses what was committed.
    if after.status.value.seen() && numbers.iter().any(|n| *n > durable) {
        broken.push(format!(
            "S19: {numbers:?} is carried out, {durable} is committed"
        ));
    }
    if matches!(action, Action::Release) && after.route.is_some() && seen.flow.1 != 0 {
        broken.push("S29: the finalizer is taken off a route that is bent".into());
    }
}

fn traffic(case: &Case, before: &State, after: &State, seen: &Seen, broken: &mut Vec<String>) {
    if case.roles.is_none() {
        return;
    }
    let selects = |s: &State| {
        let of = |i: usize| s.roles[i].as_ref().map(|r| r.selects);
        Some([of(STABLE)?, of(CANARY)?])
    };
    let (Some(old), Some(new)) = (selects(before), selects(after)) else {
        return;
    };
    let (from, to) = (before.share(), after.share());
    if let Some(route) = after.route.as_ref().filter(|_| from != to) {
        let total = route.weights.0 + route.weights.1;
        if total != 100 && total != FULL {
            broken.push(format!("S2: the weights {:?} do not sum up", route.weights));
        }
        // A trace is how an edge is left and reached, in a retreat as well.
        let trace = seen.allowed == 0 && (to == 1 || to + 1 == FULL);
        if to > from && to > seen.allowed.max(1) && !trace {
            broken.push(format!("S3: weight {to} where {} is allowed", seen.allowed));
        }
    }
    let moved: Vec<(usize, u32)> = [(STABLE, FULL - to, FULL - from), (CANARY, to, from)]
        .into_iter()
        .filter(|(i, new_share, old_share)| new_share > old_share || (old[*i] != new[*i]))
        .map(|(i, new_share, _)| (i, new_share))
        .collect();
    for (index, share) in moved {
        let turned = old[index] != new[index];
        let share = match (turned, case.spec.switched(), index) {
            // The Service's selector is the switch.
            (_, true, STABLE) => FULL,
            (_, true, _) => 0,
            // It turns under what the data plane may still send to it.
            (true, false, STABLE) => FULL - seen.flow.0,
            (true, false, _) => seen.flow.1,
            (false, false, _) => share,
        };
        let version = new[index];
        let ready = seen.ready[version].max(after.ready()[version]);
        if share == 0 || ready >= need(share, seen.replicas) {
            continue;
        }
        if turned && seen.replicas == 0 {
            continue;
        }
        // Back to stable, traffic may go where it is served no worse.
        let (was, is) = (served(case, seen, from, old), served(case, seen, to, new));
        let emptied = !turned && from > 1 && ready == 0 && seen.ready[old[CANARY]] > 0;
        let rescue = index == STABLE && is.0 * was.1 >= was.0 * is.1 && !emptied;
        if !rescue {
            let law = if turned { "S7" } else { "S1" };
            broken.push(format!(
                "{law}: a share of {share} to v{version}, which has {ready} ready pods of {} (served {was:?}, then {is:?})",
                seen.replicas
            ));
        }
    }
}

fn scaled_down(
    case: &Case,
    after: &State,
    seen: &Seen,
    (version, to): (usize, u8),
    broken: &mut Vec<String>,
) {
    if seen.replicas == 0 {
        return;
    }
    if case.roles.is_none() {
        let left: u8 = (0..VERSIONS)
            .map(|v| {
                let ready = seen.ready[v].max(after.ready()[v]);
                if v == version { ready.min(to) } else { ready }
            })
            .sum();
        let course = &case.spec.course;
        let most = u8::try_from(course.max_unavailable).unwrap_or(0);
        let held: u8 = seen.ready.iter().sum();
        // Whoever wants fewer pods meanwhile gets fewer.
        let floor = seen.replicas.min(after.replicas).saturating_sub(most);
        if left < floor && held >= floor {
            broken.push(format!("S12: {left} pods are left of {}", seen.replicas));
        }
        return;
    }
    let least = match case.spec.course.dynamic_stable {
        true => 1,
        false => seen.replicas.min(after.replicas),
    };
    if seen.stable == Some(version) && to < least {
        broken.push(format!(
            "S6: stable v{version} is scaled to {to} of {}",
            seen.replicas
        ));
    }
    let (low, high) = seen.flow;
    let shares = if case.spec.switched() {
        [FULL, 0]
    } else {
        [FULL - low, high]
    };
    for index in [STABLE, CANARY] {
        let needed = need(shares[index], seen.replicas);
        // Pods that are not ready serve nobody.
        let lost = seen.ready[version].max(after.ready()[version]) > to;
        if seen.behind[index] & (1 << version) != 0 && to < needed && lost {
            broken.push(format!(
                "S4: v{version} is scaled to {to} where it may get a share of {} ({needed} pods)",
                shares[index]
            ));
        }
    }
}

fn scaled_up(
    case: &Case,
    after: &State,
    seen: &Seen,
    (version, to): (usize, u8),
    broken: &mut Vec<String>,
) {
    if case.roles.is_some() {
        return;
    }
    let sum = |d: &[u8; VERSIONS]| d.iter().map(|n| u32::from(*n)).sum::<u32>();
    let mut desired = seen.desired;
    desired[version] = to;
    let most = u32::from(after.replicas.max(seen.replicas)) + case.spec.course.max_surge;
    if sum(&desired) > most.max(sum(&seen.desired)) {
        broken.push(format!(
            "S12: {} pods, at most {most} are allowed",
            sum(&desired)
        ));
    }
}

/// How many promotions by hand were handled.
fn promotions(status: &RolloutStatus) -> usize {
    let promoted = |c: &&HandledCommand| {
        c.name.starts_with("promote") && matches!(c.outcome.as_str(), "Done" | "Removing")
    };
    status.commands.iter().filter(promoted).count()
}

fn given_up(attempt: &Attempt) -> bool {
    attempt.outcome.as_deref().is_some_and(|o| o != "Promoted")
}

/// What the commit of a status broke. `stale` pods were looked at, not the live ones.
pub fn committed(
    case: &Case,
    state: &State,
    ready: [u8; VERSIONS],
    new: &RolloutStatus,
) -> Vec<String> {
    let mut broken = vec![];
    let old = &*state.status.value;
    let by_hand = promotions(old) != promotions(new);
    if let (Some(a), Some(b)) = (&old.attempt, &new.attempt) {
        if a.number == b.number {
            if given_up(a) && !given_up(b) {
                broken.push("S18: what was given up goes on".into());
            }
            if a.outcome.as_deref() == Some("Promoted") && given_up(b) {
                broken.push("S15: what was promoted is given up".into());
            }
            if b.step_index > a.step_index && !by_hand && b.stage != "Done" {
                stepped(case, state, ready, a, b, new, &mut broken);
            }
        } else if b.number < a.number {
            broken.push("S15: an attempt's number goes back".into());
        }
    }
    if old.stable_revision.is_some() && new.stable_revision != old.stable_revision {
        promoted(case, state, ready, new, &mut broken);
    }
    broken
}

/// Steps were passed, and nobody said so.
fn stepped(
    case: &Case,
    state: &State,
    ready: [u8; VERSIONS],
    old: &Attempt,
    new: &Attempt,
    status: &RolloutStatus,
    broken: &mut Vec<String>,
) {
    if old.stage != "Stepping" {
        return;
    }
    // What an analysis could not say, another run of the step may: S16 asks for it.
    let pause = state.status.value.pause.as_ref();
    let paused = pause.is_some_and(|p| p.reason != "Analysis");
    if paused && status.commands == state.status.value.commands {
        broken.push("S21: a step is passed in a pause".into());
    }
    if state.replicas == 0 {
        broken.push("S13: a step is passed where no pods are wanted".into());
    }
    let version = case.version(&new.hash).unwrap_or(0);
    let from = usize::try_from(old.step_index).unwrap_or(0);
    let to = usize::try_from(new.step_index).unwrap_or(0);
    for index in from..to {
        let Some(step) = old.steps.get(index) else {
            continue;
        };
        if let Some(weight) = step.set_weight {
            let share = u32::try_from(weight).unwrap_or(0) * (FULL / 100);
            if state
                .route
                .as_ref()
                .is_some_and(|r| !r.accepted || state.share() != share)
            {
                broken.push(format!(
                    "S3: setWeight {weight} is passed at {}",
                    state.share()
                ));
            }
            if case.roles.is_some() && ready[version] < need(share, state.replicas) {
                broken.push(format!(
                    "S5: setWeight {weight} is passed with {} pods",
                    ready[version]
                ));
            }
        }
        if step.pause.as_ref().is_some_and(|p| p.duration.is_none()) {
            broken.push("S21: a step that waits for a person is passed".into());
        }
        if step.analysis.is_some() {
            let begun = old
                .step_started_at
                .as_ref()
                .map_or(0, |t| crate::world::now().duration_since(t.0).as_secs());
            let proven = state.runs.iter().any(|r| {
                r.phase == "Successful"
                    && r.version == version
                    && r.attempt == old.number
                    && r.step == index.to_string()
                    && r.age <= begun
            });
            if !proven {
                broken.push(format!(
                    "S16: the analysis of step {index} is passed without evidence"
                ));
            }
        }
    }
}

fn promoted(
    case: &Case,
    state: &State,
    ready: [u8; VERSIONS],
    new: &RolloutStatus,
    broken: &mut Vec<String>,
) {
    let attempt = new.attempt.as_ref();
    let hash = new.stable_revision.as_deref();
    if attempt.map(|a| a.hash.as_str()) != hash || attempt.is_some_and(given_up) {
        broken.push("S15: another revision than the attempt's becomes stable".into());
    }
    let version = hash.and_then(|h| case.version(h)).unwrap_or(0);
    if state.replicas == 0 || ready[version] < state.replicas {
        broken.push(format!(
            "S13: v{version} is promoted with {} of {} pods",
            ready[version], state.replicas
        ));
    }
    let turned = state.roles[STABLE].as_ref().map(|r| r.selects);
    let there = match (&case.roles, &state.route) {
        (None, _) => true,
        (Some(_), Some(route)) => route.accepted && state.share() == FULL,
        (Some(_), None) => turned == Some(version),
    };
    if !there {
        broken.push(format!(
            "S15: v{version} is promoted before it gets all traffic"
        ));
    }
}

fn flight(stage: &str) -> bool {
    matches!(stage, "Deploying" | "Starting" | "Stepping" | "Promoting")
}

/// Why this is no place to come to rest; none where it is one.
pub fn homeless(case: &Case, state: &State, plan: Option<&Plan>) -> Option<String> {
    if state.gone {
        return None;
    }
    let Some(status) = plan.map(|p| &p.status) else {
        return Some("there is nothing to look at".into());
    };
    let phase = status.phase.as_deref().unwrap_or_default();
    let message = status.message.clone().unwrap_or_default();
    let attempt = status.attempt.as_ref();
    let stable = status
        .stable_revision
        .as_deref()
        .and_then(|h| case.version(h));
    let canary = attempt.and_then(|a| case.version(&a.hash));
    let sick = |v: Option<usize>| v.is_some_and(|v| state.is_sick(v));
    let stage = attempt.map(|a| a.stage.as_str()).unwrap_or_default();
    let straight = |who: Option<usize>| {
        state.flow == (0, 0) && case.roles.is_none()
            || state.share() == 0 && state.roles[STABLE].as_ref().map(|r| r.selects) == who
    };
    let fault = || Some(format!("{phase}, {stage}: {message}"));
    let pods = |v: Option<usize>| v.map_or(0, |v| state.desired()[v]);
    match phase {
        "Healthy" => {
            let full = stable.is_some_and(|s| state.ready()[s] == state.replicas);
            let only = (0..VERSIONS).all(|v| Some(v) == stable || pods(Some(v)) == 0);
            let asked = match status.restarted_at {
                Some(_) => state.template + WRITTEN,
                None => state.template,
            };
            // An undo asks for another one than the template's.
            let wanted = match &status.undo {
                Some(undo) if undo.over == case.hashes[asked] => case.version(&undo.revision),
                _ => Some(asked),
            };
            (!(stable == wanted && full && only && straight(stable))).then(|| {
                format!(
                    "it says Healthy, but stable is {stable:?}, pods {:?}",
                    state.ready()
                )
            })
        }
        // PausedByUser.
        "Paused" => None,
        // Aborted.
        "Degraded" if stage == "Done" && attempt.is_some_and(given_up) => {
            (!(pods(canary) == 0 && straight(stable))).then(|| format!("{message}, but {state:?}"))
        }
        // No pods are wanted, or those that are do not come: held, and the deadline has told it.
        "Progressing" if state.replicas == 0 && (flight(stage) || stage == "Switching") => None,
        "Degraded" if flight(stage) && sick(canary) => None,
        // PromotionHeld, AbortHeld.
        "Degraded" if sick(stable) => None,
        // Whether its pods come back is no business of an attempt's.
        "Progressing" if stage == "Done" && sick(stable) => None,
        _ => fault(),
    }
}
