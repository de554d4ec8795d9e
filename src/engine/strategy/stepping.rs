//! Stepping: the steps one after the other, and the promotion.

use crate::{
    api::{
        names::reason,
        status::{Attempt, PauseStatus, RolloutStatus},
    },
    model::{
        desired::Roles,
        progress::{Stage, note},
        revisions::Revision,
        share::{FULL, need, percent},
    },
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::{
    Context, Deadline, Decided, PODS_WANTED, Wait,
    attempt::{by_person, enter, enter_step, give_up, pause, paused_wait, resume},
    back,
    background::{Background, background, unjudged},
    bake,
    balance::balance,
    steps::{
        self,
        step::{Outcome, Stance, StepContext},
    },
};

/// The steps, one after the other.
pub fn stepping(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    stable: &str,
    attempt: &Attempt,
) -> Decided {
    let index = usize::try_from(attempt.step_index).unwrap_or(usize::MAX);
    let Some(step) = attempt.steps.get(index) else {
        enter(cx, status, Stage::Promoting);
        note(
            status,
            cx.now,
            "Normal",
            reason::PROMOTING,
            &format!("revision {} passed all steps", attempt.hash),
        );
        return Decided::moved();
    };
    let stance = steps::stance(&attempt.steps, index);
    // A switch has no halves: before it may take everything, it takes nothing.
    let weight = match stance.weight {
        part if part < 100 && cx.spec.switched() => 0,
        weight => weight,
    };
    let title = steps::title(&attempt.steps, index);
    let (mut decided, unreached) = hold(
        cx,
        status,
        stable,
        attempt,
        (weight, floor(cx, stance, weight)),
        &format!("{title} is reached"),
    );
    match background(cx, status, stable, attempt, index) {
        Background::Moved => return Decided::moved(),
        Background::Run(run) => decided.desired.runs.push(*run),
        Background::None => {}
    }
    let started = attempt.step_started_at.as_ref().map_or(cx.now, |t| t.0);
    let step_cx = StepContext {
        cx,
        attempt,
        index,
        stable,
        started,
        in_force: unreached.is_none()
            || cx.shifted() && cx.settled_at(weight) && cx.spec.replicas > 0,
        unreached,
    };
    let mut outcome = steps::outcome(step, &step_cx);
    if matches!(outcome, Outcome::Done)
        && let Some(wait) = unjudged(cx, &decided, &step_cx.next())
    {
        outcome = Outcome::Wait(wait);
    }
    // A run that could not say was deleted, and the one in its place can.
    let asked = |p: &PauseStatus| p.reason == "Analysis";
    let unsaid = status.pause.as_ref().is_some_and(asked);
    let analysis = step.analysis.as_ref().filter(|_| unsaid);
    if analysis.is_some_and(|a| steps::analyze::passed(a, &step_cx)) {
        resume(
            cx,
            status,
            &format!("the analysis of {title} is successful"),
        );
        return Decided::moved();
    }
    // What a person has stopped takes its time, and so does what has no pods.
    let held = status.pause.as_ref().is_some_and(by_person);
    let empty = cx.spec.replicas == 0;
    let waiting = status.waiting.as_ref();
    let refilled = !empty && waiting.is_some_and(|w| w.for_ == PODS_WANTED);
    if let Some(live) = status.attempt.as_mut().filter(|_| refilled) {
        live.step_resumed_at = step.timeout.as_ref().map(|_| MicroTime(cx.now));
    }
    let due = status.attempt.as_ref().and_then(|a| steps::due(step, a));
    let due = due.filter(|_| !held && !empty);
    let over = matches!(outcome, Outcome::Fail { .. })
        || matches!(outcome, Outcome::Done) && status.pause.is_none() && cx.blocked.is_none();
    if due.is_some_and(|due| cx.now >= due) && !over {
        let message = format!("{title} took longer than its timeout");
        let by = format!("timeout of step {index}");
        give_up(
            cx,
            status,
            reason::ROLLED_BACK,
            "StepTimedOut",
            &message,
            &by,
        );
        return Decided::moved();
    }
    let wait = match outcome {
        Outcome::Fail { why, message, by } => {
            give_up(cx, status, reason::ROLLED_BACK, &why, &message, &by);
            return Decided::moved();
        }
        Outcome::Ask(message) if status.pause.is_none() => {
            pause(cx, status, "Analysis", &message);
            return Decided::moved();
        }
        Outcome::Done if status.pause.is_none() && cx.blocked.is_none() => {
            let next = index + 1;
            enter_step(cx, status, next);
            let text = format!(
                "{title} is finished, {}",
                match attempt.steps.get(next) {
                    Some(_) => format!("{} begins", steps::title(&attempt.steps, next)),
                    None => "it was the last".to_owned(),
                }
            );
            note(status, cx.now, "Normal", reason::STEP_STARTED, &text);
            return Decided::moved();
        }
        Outcome::Measure(run, wait) => {
            decided.desired.runs.push(*run);
            wait
        }
        Outcome::Wait(wait) => wait,
        Outcome::Done | Outcome::Ask(_) => Wait::new(String::new(), String::new()),
    };
    let patient = if steps::changes(step) {
        Deadline::Progress
    } else {
        Deadline::Never
    };
    let blocked = blocked(cx, &format!("{title} goes on")).map(|w| w.with(patient));
    let nobody = (empty && !held).then(|| Wait::for_pods_wanted(format!("{title} goes on")));
    let mut wait = nobody.or(paused_wait(status)).or(blocked).unwrap_or(wait);
    if let Some(due) = due {
        let second = Timestamp::from_second(due.as_second()).unwrap_or(due);
        wait.then
            .push_str(&format!("; at {second} it is rolled back"));
    }
    decided.also_wake(wait.until);
    decided.also_wake(due);
    decided.waiting = Some(wait);
    decided
}

/// What blocks, as a wait. Where no pods are wanted, that comes first.
fn blocked(cx: &Context<'_>, then: &str) -> Option<Wait> {
    let blocked = cx.blocked.as_ref().filter(|_| cx.spec.replicas > 0);
    blocked.map(|b| Wait::new(b.clone(), then))
}

/// The fewest pods that the canary has at a weight, whatever that needs.
fn floor(cx: &Context<'_>, stance: Stance, weight: u32) -> u32 {
    match (stance.scale, weight) {
        (Some(scale), _) => scale.pods(cx.spec.replicas),
        (None, 0) => cx.spec.course.idle_pods,
        (None, _) => cx.spec.course.min_pods,
    }
}

/// Pods of stable beside a canary that is to have a weight: all of them; or where it gives them up, what it is sent, what it
/// is to be sent, and a way back. It gives up none until a share has settled, nor while it is about to be replaced.
fn rest(cx: &Context<'_>, status: &RolloutStatus, stable: &str, weight: u32, paused: bool) -> u32 {
    let replicas = cx.spec.replicas;
    if !cx.spec.course.dynamic_stable {
        return replicas;
    }
    let settled = cx.force.and_then(|f| f.settled);
    let accepted = status.traffic.as_ref();
    let accepted = accepted.and_then(|t| u32::try_from(t.share).ok());
    let canary = settled.or(accepted).unwrap_or(0).min(percent(weight));
    let needed = need(FULL - canary, replicas).max(cx.spec.course.min_pods);
    let now = cx.observed.revision(stable).map_or(0, Revision::desired);
    let replaced = matches!(Stage::of(status), Some(Stage::Promoting | Stage::Baking));
    let kept = paused || settled.is_none() || replaced;
    let kept = if kept { now } else { 1 };
    needed.max(kept).min(replicas)
}

/// Wants a weight, the pods for it, and no fewer than `floor`. What is still missing, if anything.
pub fn hold(
    cx: &Context<'_>,
    status: &RolloutStatus,
    stable: &str,
    attempt: &Attempt,
    (weight, floor): (u32, u32),
    then: &str,
) -> (Decided, Option<Wait>) {
    let mut decided = Decided::default();
    let (hash, replicas) = (&attempt.hash, cx.spec.replicas);
    let available = cx.available(hash);
    let paused = status.pause.is_some();
    if !cx.shifted() {
        let moves = !paused || replicas == 0;
        let reached = moves && balance(cx, &mut decided.desired, stable, hash, weight);
        // Paused, sizes stay; stable's ReplicaSet is made anew all the same.
        let lost = |r: &Revision| r.replica_set.is_none();
        if !moves && cx.observed.revision(stable).is_some_and(lost) {
            let canary = cx.observed.revision(hash).map_or(0, Revision::desired);
            let rest = replicas.saturating_sub(canary);
            decided.desired.replicas.insert(stable.to_owned(), rest);
        }
        let unreached = if replicas == 0 {
            Some(Wait::for_pods_wanted(then))
        } else if reached {
            None
        } else {
            Some(Wait::new(
                format!("the pods to make up weight {weight}, {available} canary pods so far"),
                then,
            ))
        };
        return (decided, unreached);
    }
    // Pods before weights on the way up, weights before pods on the way down.
    let needed = need(percent(weight), replicas).max(floor);
    let wanted = needed.max(need(cx.high(), replicas));
    let rest = rest(cx, status, stable, weight, paused);
    decided.desired.replicas.insert(stable.to_owned(), rest);
    // Paused means paused: what was not begun is not begun. What was written last is held against
    // foreign changes.
    let written = status
        .traffic
        .as_ref()
        .and_then(|t| u32::try_from(t.written?).ok())
        .unwrap_or(0);
    if !paused || written == percent(weight) {
        decided.desired.replicas.insert(hash.clone(), wanted);
        decided.desired.weight = Some(weight);
    } else if written <= percent(weight) {
        let kept = cx.observed.revision(hash).map_or(0, |r| r.desired());
        let kept = kept.max(need(written, replicas));
        decided.desired.replicas.insert(hash.clone(), kept);
        decided.desired.weight = Some(written / percent(1));
    }
    if replicas == 0 {
        // None are kept, paused or not.
        decided.desired.replicas.insert(hash.clone(), 0);
    }
    if cx.loose() {
        // Users would reach whatever is added.
        let now = cx.observed.revision(hash).map_or(0, Revision::desired);
        let wanted = decided.desired.replicas.entry(hash.clone()).or_insert(now);
        *wanted = now.min(*wanted);
    }
    (decided.desired.claim, decided.desired.bind) = (true, true);
    decided.desired.roles = Some(Roles {
        stable: stable.to_owned(),
        canary: hash.clone(),
    });
    let unreached = if replicas == 0 {
        Some(Wait::for_pods_wanted(then))
    } else if cx.loose() {
        Some(cx.binding(then))
    } else if available < needed {
        Some(Wait::new(
            format!(
                "{needed} available {} pods, {available} so far",
                cx.spec.course.words.canary
            ),
            then,
        ))
    } else if cx.settled_at(weight) {
        None
    } else {
        Some(cx.settling(weight, then))
    };
    decided.wake = cx.force.and_then(|f| f.settles_at);
    (decided, unreached)
}

/// The canary grows to full size and takes all traffic; then it is promoted.
pub fn promoting(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    stable: &str,
    attempt: &Attempt,
) -> Decided {
    let hash = &attempt.hash;
    let (mut decided, unreached) = hold(cx, status, stable, attempt, (100, 0), "it is promoted");
    match background(cx, status, stable, attempt, attempt.steps.len()) {
        Background::Moved => return Decided::moved(),
        Background::Run(run) => decided.desired.runs.push(*run),
        Background::None => {}
    }
    let unjudged = unjudged(cx, &decided, "it is promoted");
    let blocked = blocked(cx, "the promotion goes on");
    let full = cx.available(hash) >= cx.spec.replicas.max(1);
    let short = (!full).then(|| {
        Wait::new(
            format!(
                "{} available {} pods, {} so far",
                cx.spec.replicas.max(1),
                cx.spec.course.words.canary,
                cx.available(hash)
            ),
            "it is promoted",
        )
    });
    let wait = paused_wait(status).or(blocked).or(unreached);
    if let Some(wait) = wait.or(short).or(unjudged) {
        decided.also_wake(wait.until);
        decided.waiting = Some(wait);
        return decided;
    }
    status.stable_revision = Some(hash.clone());
    let by = back::led(cx, status, attempt);
    if let Some(live) = &mut status.attempt {
        live.outcome = Some(reason::PROMOTED.into());
        live.reason = Some(reason::PROMOTED.into());
        live.decided_by = Some(by);
    }
    if cx.spec.switched() {
        // The switch stands where it must; what it selects is what is stable now.
        if let Some(traffic) = &mut status.traffic {
            (traffic.share, traffic.highest, traffic.written) = (0, 0, Some(0));
            traffic.strategy = None;
        }
    }
    let final_ = "; an abort no longer changes anything";
    let way = match back::restarts(cx.observed, hash, stable) {
        _ if attempt.bake.is_some() => String::new(),
        true => final_.to_owned(),
        false => format!("{final_}: the way back is the template of revision {stable}"),
    };
    note(
        status,
        cx.now,
        "Normal",
        reason::PROMOTED,
        &format!("revision {hash} is stable{way}"),
    );
    bake::promoted(cx, status, attempt, stable);
    Decided::moved()
}
