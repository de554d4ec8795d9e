//! Stepping: the steps one after the other, the analysis in the background, and the promotion.

use crate::{
    api::{
        analysis::MetricResult,
        names::reason,
        status::{Attempt, PauseStatus, RolloutStatus},
    },
    model::{
        desired::{DesiredRun, Roles},
        measurement::{RunPhase, Verdict},
        progress::{Stage, note},
        revisions::Revision,
        share::{need, percent},
    },
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use super::{
    Context, Deadline, Decided, PODS_WANTED, Wait,
    attempt::{by_person, enter, enter_step, give_up, paused_wait, resume},
    back,
    balance::balance,
    steps::{
        self,
        analyze::again,
        step::{Outcome, Stance, StepContext},
    },
};

/// How it is said that a run in the background is awaited.
const UNJUDGED: &str = "AnalysisRun ";

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

/// Wants a weight, the pods for it, and no fewer than `floor`. What is still missing, if anything.
fn hold(
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
    decided.desired.replicas.insert(stable.to_owned(), replicas);
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
        enter(cx, status, Stage::Returning);
    } else {
        enter(cx, status, Stage::Switching);
    }
    let way = match back::restarts(cx.observed, hash, stable) {
        true => String::new(),
        false => format!(": the way back is the template of revision {stable}"),
    };
    note(
        status,
        cx.now,
        "Normal",
        reason::PROMOTED,
        &format!("revision {hash} is stable; an abort no longer changes anything{way}"),
    );
    Decided::moved()
}

/// A pause that a person must end.
pub fn pause(cx: &Context<'_>, status: &mut RolloutStatus, why: &str, message: &str) {
    status.pause = Some(PauseStatus {
        reason: why.to_owned(),
        message: crate::model::progress::brief(message),
        since: Time(cx.now),
    });
    note(
        status,
        cx.now,
        if why == "Command" {
            "Normal"
        } else {
            "Warning"
        },
        reason::PAUSED,
        message,
    );
}

enum Background {
    Moved,
    Run(Box<DesiredRun>),
    None,
}

/// The name of the run in the background.
fn background_name(cx: &Context<'_>, attempt: &Attempt) -> String {
    format!(
        "{}-{}-{}-background{}",
        cx.name(),
        attempt.hash,
        attempt.number,
        again(attempt.background_try)
    )
}

/// Whether the analysis in the background cannot say, so that only a person can go on.
pub fn unsaid(cx: &Context<'_>, attempt: &Attempt) -> bool {
    let outcome = cx.observed.run_outcome(&background_name(cx, attempt));
    outcome.is_some_and(|(phase, _)| matches!(phase, RunPhase::Inconclusive | RunPhase::Terminated))
}

/// The analysis in the background: a failed one rolls back, whatever else is going on.
fn background(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    stable: &str,
    attempt: &Attempt,
    index: usize,
) -> Background {
    let Some(analysis) = &attempt.analysis else {
        return Background::None;
    };
    if index < usize::try_from(analysis.starting_step.unwrap_or(0)).unwrap_or(0) {
        return Background::None;
    }
    let name = background_name(cx, attempt);
    if vouches(cx, status, &name) {
        let why = format!("analysis {name}, which was begun anew, passes");
        resume(cx, status, &why);
        return Background::Moved;
    }
    let found = cx.observed.run_outcome(&name);
    let mut start = attempt.step_started_at.as_ref().map_or(cx.now, |t| t.0);
    if !cx.shifted() {
        // Where pods are the weight, there is nothing to measure before the first one.
        if found.is_none() && cx.available(&attempt.hash) == 0 {
            return Background::None;
        }
        start = cx.now;
    }
    let (phase, message) = found.unwrap_or((RunPhase::Running, String::new()));
    match phase {
        RunPhase::Failed => {
            let message = format!("analysis {name}: {message}");
            give_up(
                cx,
                status,
                reason::ROLLED_BACK,
                "AnalysisFailed",
                &message,
                &name,
            );
            Background::Moved
        }
        RunPhase::Inconclusive | RunPhase::Terminated if status.pause.is_none() => {
            pause(
                cx,
                status,
                "BackgroundAnalysis",
                &format!("analysis {name} cannot say: {message}"),
            );
            Background::Moved
        }
        RunPhase::Inconclusive | RunPhase::Terminated | RunPhase::Successful => Background::None,
        RunPhase::Running => Background::Run(Box::new(DesiredRun {
            name,
            revision: attempt.hash.clone(),
            stable: stable.to_owned(),
            attempt: attempt.number,
            step: None,
            start,
            analysis: analysis.analysis(),
        })),
    }
}

/// Whether the run that could not say was deleted, and every metric of the one in its place has passed
/// since. One that goes on until the attempt ends will not say more.
fn vouches(cx: &Context<'_>, status: &RolloutStatus, name: &str) -> bool {
    let asked = |p: &&PauseStatus| p.reason == "BackgroundAnalysis";
    let (Some(paused), Some(run)) = (status.pause.as_ref().filter(asked), cx.observed.run(name))
    else {
        return false;
    };
    let phase = RunPhase::of(run.status.as_ref());
    let results = run.status.as_ref().map_or(&[][..], |s| &s.metric_results);
    let passes = |m: &MetricResult| {
        let last = m.measurements.last();
        last.is_some_and(|l| l.verdict == Verdict::Pass.as_str() && l.at > paused.since)
    };
    matches!(phase, RunPhase::Running | RunPhase::Successful)
        && results.len() == run.spec.metrics.len()
        && results.iter().all(passes)
}

/// A run in the background that is due and not there judges nothing. Until it is, nothing goes on.
fn unjudged(cx: &Context<'_>, decided: &Decided, then: &str) -> Option<Wait> {
    let background = decided.desired.runs.iter().filter(|r| r.step.is_none());
    let mut absent = background.filter(|r| cx.observed.run(&r.name).is_none());
    let name = &absent.next()?.name;
    let then = format!("{then}: an Event says what refuses it, promote-full goes on without it");
    Some(Wait::new(format!("{UNJUDGED}{name} to be created"), then).with(Deadline::Told))
}

/// Whether a status tells that nothing judges the attempt.
pub fn is_unjudged(status: &RolloutStatus) -> bool {
    let waiting = status.waiting.as_ref();
    waiting.is_some_and(|w| w.for_.starts_with(UNJUDGED))
}
