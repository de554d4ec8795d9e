//! Bake: a promoted revision has all traffic and must still prove good. Until it has, the stable Service and the pods
//! behind it are left as they were, so that the way back is the one of an abort: one change of the weight.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::{
    api::{
        names::reason,
        status::{Attempt, BakeStatus, RolloutStatus},
    },
    model::{
        desired::{DesiredRun, Part},
        measurement::RunPhase,
        progress::{Stage, after, note},
        share::FULL,
        spec::shifting,
    },
};

use super::{
    Context, Deadline, Decided, Wait,
    attempt::{enter, give_up, pause, paused_wait},
    background::unjudged,
    both,
    stepping::hold,
    steps::analyze::again,
};

/// How long the attempt's revision must prove good; none where it need not.
fn time(attempt: &Attempt) -> Option<Duration> {
    attempt.bake.as_ref()?.duration.parse().ok()
}

/// The revision was promoted in the place of `from`: it bakes, or the promotion is finished at once.
pub fn promoted(cx: &Context<'_>, status: &mut RolloutStatus, attempt: &Attempt, from: &str) {
    let Some(time) = time(attempt) else {
        settle(cx, status);
        return;
    };
    let until = after(cx.now, time);
    status.bake = Some(BakeStatus {
        from: from.to_owned(),
        since: MicroTime(cx.now),
        until: MicroTime(until),
    });
    enter(cx, status, Stage::Baking);
    let message = format!(
        "revision {} must prove good until {until:.0}: a failure or an abort goes back to {from} at once",
        attempt.hash
    );
    note(status, cx.now, "Normal", reason::BAKING, &message);
}

/// All traffic goes where it is to stay. A switch stands there already.
fn settle(cx: &Context<'_>, status: &mut RolloutStatus) {
    let stage = match cx.spec.switched() {
        true => Stage::Returning,
        false => Stage::Switching,
    };
    enter(cx, status, stage);
}

/// The bake is over, and there is no going back at once any more.
pub fn end(cx: &Context<'_>, status: &mut RolloutStatus, why: &str) {
    status.bake = None;
    status.pause = None;
    settle(cx, status);
    note(status, cx.now, "Normal", reason::BAKED, why);
}

/// It is measured anew, for as long as the first time.
pub fn anew(cx: &Context<'_>, status: &mut RolloutStatus) {
    if let (Some(attempt), Some(bake)) = (&mut status.attempt, &mut status.bake) {
        attempt.background_try += 1;
        let time = time(attempt).unwrap_or_default();
        (bake.since, bake.until) = (MicroTime(cx.now), MicroTime(after(cx.now, time)));
    }
}

/// The revision is given up in its bake: stable is again what was stable before.
pub fn give_back(cx: &Context<'_>, status: &mut RolloutStatus) {
    let Some(bake) = status.bake.take() else {
        return;
    };
    status.stable_revision = Some(bake.from);
    if !cx.spec.switched() {
        return;
    }
    // The switch stands where it did; what it selects is not what is stable.
    if let Some(traffic) = &mut status.traffic {
        let all = i32::try_from(FULL).unwrap_or(i32::MAX);
        (traffic.share, traffic.highest, traffic.written) = (all, all, Some(all));
        traffic.strategy = shifting(&cx.observed.rollout.spec.strategy);
    }
}

/// Why the bake ends before its time, where it does: something else is asked for.
fn left(cx: &Context<'_>, status: &RolloutStatus, hash: &str) -> Option<String> {
    if cx.deleting() {
        return Some("the Rollout is being deleted".to_owned());
    }
    let traffic = status.traffic.as_ref();
    let bent = traffic.is_some_and(|t| t.strategy.is_some());
    if cx.spec.course.routing.is_some() && !bent {
        return Some("traffic is routed by what did not shift it".to_owned());
    }
    let current = status.current_revision.as_ref();
    let other = current.filter(|current| *current != hash)?;
    // Not before it is recorded.
    cx.observed.revision(other)?;
    Some(format!("revision {other} is asked for"))
}

/// Promoted, and to prove good.
pub fn baking(cx: &Context<'_>, status: &mut RolloutStatus, attempt: &Attempt) -> Decided {
    let hash = &attempt.hash;
    let Some(bake) = status.bake.clone() else {
        settle(cx, status);
        return Decided::moved();
    };
    if let Some(why) = left(cx, status, hash) {
        end(
            cx,
            status,
            &format!("revision {hash} bakes no longer: {why}"),
        );
        return Decided::moved();
    }
    let from = &bake.from;
    let then =
        format!("revision {from} is scaled down; a failure or an abort goes back to it at once");
    let (mut decided, unreached) = if cx.spec.switched() {
        let mut decided = Decided::default();
        let replicas = &mut decided.desired.replicas;
        replicas.insert(hash.clone(), cx.spec.replicas);
        replicas.insert(from.clone(), cx.spec.replicas);
        decided.desired.weight = Some(0);
        decided.desired.roles = Some(both(hash));
        let unreached = (!cx.settled_at(0)).then(|| cx.settling(0, &then));
        (decided, unreached)
    } else {
        hold(cx, status, from, attempt, (100, 0), &then)
    };
    let run = match judge(cx, status, attempt, &bake) {
        Judged::Moved => return Decided::moved(),
        Judged::Run(run) => Some(*run),
        Judged::Nothing => None,
    };
    decided.desired.runs.extend(run);
    let short = cx.available(hash) < cx.spec.replicas;
    let short = short.then(|| Wait::new(format!("{} available pods", cx.spec.replicas), &then));
    let unreached = unreached.or(short).filter(|_| cx.spec.replicas > 0);
    let lacking = unreached.map(|w| w.with(Deadline::Told));
    let lacking = paused_wait(status).or(lacking);
    decided.serves = lacking.is_none();
    let over = cx.now >= bake.until.0;
    // What nobody has judged has not proved good.
    let unjudged = unjudged(cx, &decided, "the bake ends");
    let unjudged = unjudged.or_else(|| unmeasured(cx, &decided));
    let wait = match lacking.or(unjudged.filter(|_| over)) {
        Some(wait) => wait,
        None if over => {
            end(cx, status, &format!("revision {hash} has proved good"));
            return Decided::moved();
        }
        None => {
            let what = format!("revision {hash} to prove good");
            Wait::until(what, bake.until.0, then).with(Deadline::Never)
        }
    };
    decided.also_wake(Some(bake.until.0));
    decided.also_wake(wait.until);
    decided.waiting = Some(wait);
    decided
}

/// A run that has no pass of each metric yet proves nothing.
fn unmeasured(cx: &Context<'_>, decided: &Decided) -> Option<Wait> {
    let name = &decided.desired.runs.first()?.name;
    let status = cx.observed.run(name)?.status.as_ref();
    let results = status.map_or(&[][..], |s| &s.metric_results);
    let proves = !results.is_empty() && results.iter().all(|m| m.passed > 0);
    let what = format!("analysis {name} to measure a pass");
    let then = "the bake ends; promote ends it without one";
    (!proves).then(|| Wait::new(what, then).with(Deadline::Never))
}

enum Judged {
    Moved,
    Run(Box<DesiredRun>),
    Nothing,
}

/// The analysis of the bake: a failed one goes back, one that cannot say asks a person.
fn judge(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    attempt: &Attempt,
    bake: &BakeStatus,
) -> Judged {
    let analysis = attempt.bake.as_ref().and_then(|b| b.analysis.clone());
    let Some(analysis) = analysis else {
        return Judged::Nothing;
    };
    let (hash, number) = (&attempt.hash, attempt.number);
    let tries = again(attempt.background_try);
    let name = format!("{}-{hash}-{number}-bake{tries}", cx.name());
    let found = cx.observed.run_outcome(&name);
    let (phase, message) = found.unwrap_or((RunPhase::Running, String::new()));
    let message = format!("analysis {name}: {message}");
    match phase {
        RunPhase::Failed => {
            let why = "AnalysisFailed";
            give_up(cx, status, reason::ROLLED_BACK, why, &message, &name);
            Judged::Moved
        }
        RunPhase::Inconclusive | RunPhase::Terminated if status.pause.is_none() => {
            let message = message.replacen(": ", " cannot say: ", 1);
            pause(cx, status, "Bake", &message);
            Judged::Moved
        }
        RunPhase::Inconclusive | RunPhase::Terminated | RunPhase::Successful => Judged::Nothing,
        RunPhase::Running => Judged::Run(Box::new(DesiredRun {
            name,
            revision: hash.clone(),
            stable: bake.from.clone(),
            attempt: number,
            part: Part::Bake,
            start: bake.since.0,
            analysis,
        })),
    }
}
