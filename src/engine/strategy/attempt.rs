//! An attempt's beginning and end: what starts one, what replaces one, what gives one up.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use crate::{
    api::{
        names::reason,
        status::{Attempt, Draining, PauseStatus, RolloutStatus},
    },
    model::{
        command::{Verb, annotate_with},
        observed::Current,
        progress::{Stage, after, brief, few_words, note, note_once},
    },
};

use super::{Context, Deadline, Decided, PODS_WANTED, Wait, back, bake, wanted_hash};

/// Begins an attempt. What an earlier one may still touch is fenced off.
pub fn begin(cx: &Context<'_>, status: &mut RolloutStatus, hash: &str, stage: Stage) {
    let runs = cx
        .observed
        .runs
        .iter()
        .map(|r| r.spec.attempt)
        .max()
        .unwrap_or(0);
    let number = status.attempt.as_ref().map_or(0, |a| a.number).max(runs) + 1;
    let (steps, analysis, bake) = match stage {
        Stage::Deploying => (&[][..], None, None),
        _ => back::way(cx, status, hash),
    };
    let skips = back::skips(cx, status, hash).filter(|_| !cx.spec.course.steps.is_empty());
    let count = match skips {
        Some(why) => format!("no steps, {why}"),
        None => format!("{} steps", steps.len()),
    };
    status.attempt = Some(Attempt {
        number,
        hash: hash.to_owned(),
        stage: stage.as_str().to_owned(),
        outcome: None,
        reason: None,
        message: None,
        step_index: 0,
        step_started_at: None,
        step_resumed_at: None,
        step_try: 0,
        background_try: 0,
        decided_by: None,
        superseded: back::superseded(cx, status, hash),
        started_at: Time(cx.now),
        progress_at: MicroTime(cx.now),
        stage_since: None,
        progress_mark: 0,
        steps: steps.to_vec(),
        analysis: analysis.cloned(),
        bake: bake.cloned(),
    });
    status.bake = None;
    status.pause = None;
    status.draining.retain(|d| d.hash != hash);
    fence(cx, status);
    let message = if stage == Stage::Deploying {
        format!("deploying revision {hash} as the first")
    } else {
        format!("attempt {number}: revision {hash}, {count}")
    };
    note(status, cx.now, "Normal", reason::ATTEMPT_STARTED, &message);
}

/// A decision that cancels another: its number must stand on whatever the other could still touch.
fn fence(cx: &Context<'_>, status: &mut RolloutStatus) {
    let decision = status.decision.get_or_insert_default();
    decision.sequence = cx.next;
    decision.fence = cx.next;
}

/// Whether everything that a cancelled decision could still touch carries the fence's number.
pub fn fenced(cx: &Context<'_>, status: &RolloutStatus) -> bool {
    let fence = status.decision.as_ref().map_or(0, |d| d.fence);
    let hashes = [
        status.stable_revision.as_ref(),
        status.attempt.as_ref().map(|a| &a.hash),
    ];
    let sets = hashes
        .into_iter()
        .flatten()
        .filter_map(|h| cx.observed.revision(h)?.replica_set.as_ref());
    let services = cx
        .spec
        .course
        .services
        .iter()
        .flat_map(|s| [&s.stable, &s.canary]);
    let services = services.filter_map(|n| cx.observed.services.get(n));
    let number = |v| crate::model::object::annotation_number(v, crate::api::names::DECISION);
    sets.map(|s| s.decision)
        .chain(services.map(number))
        .chain(cx.written.map(|w| w.decision))
        .all(|decision| decision >= fence)
}

/// A pause that a person must end.
pub fn pause(cx: &Context<'_>, status: &mut RolloutStatus, why: &str, message: &str) {
    status.pause = Some(PauseStatus {
        reason: why.to_owned(),
        message: brief(message),
        since: Time(cx.now),
    });
    let kind = if why == "Command" {
        "Normal"
    } else {
        "Warning"
    };
    note(status, cx.now, kind, reason::PAUSED, message);
}

/// Moves to another stage; the progress deadline begins anew.
pub fn enter(cx: &Context<'_>, status: &mut RolloutStatus, stage: Stage) {
    if let Some(attempt) = &mut status.attempt {
        attempt.stage = stage.as_str().to_owned();
        attempt.stage_since = None;
        progressed(cx, attempt);
    }
}

/// The progress deadline begins anew.
pub fn progressed(cx: &Context<'_>, attempt: &mut Attempt) {
    attempt.progress_at = MicroTime(cx.now);
    attempt.progress_mark = 0;
}

/// Moves to another step.
pub fn enter_step(cx: &Context<'_>, status: &mut RolloutStatus, index: usize) {
    if let Some(attempt) = &mut status.attempt {
        attempt.step_index = i32::try_from(index).unwrap_or(i32::MAX);
        attempt.step_started_at = Some(MicroTime(cx.now));
        attempt.step_resumed_at = None;
        attempt.step_try = 0;
        progressed(cx, attempt);
    }
}

/// Gives the attempt up: traffic goes back to stable first.
pub fn give_up(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    outcome: &str,
    why: &str,
    message: &str,
    by: &str,
) {
    bake::give_back(cx, status);
    let stable = status.stable_revision.clone().unwrap_or_default();
    if let Some(attempt) = &mut status.attempt {
        attempt.outcome = Some(outcome.to_owned());
        attempt.reason = Some(why.to_owned());
        attempt.message = Some(brief(message));
        attempt.decided_by = Some(few_words(by));
    }
    enter(cx, status, Stage::RollingBack);
    status.pause = None;
    fence(cx, status);
    let hash = status
        .attempt
        .as_ref()
        .map(|a| a.hash.clone())
        .unwrap_or_default();
    let (type_, text) = if outcome == reason::ROLLED_BACK || outcome == reason::ABORTED {
        (
            "Warning",
            format!("revision {hash} is given up, {stable} serves: {message}"),
        )
    } else {
        ("Normal", format!("revision {hash} is given up: {message}"))
    };
    note(status, cx.now, type_, outcome, &text);
}

/// Whether a person has paused it; otherwise an analysis that cannot say.
pub fn by_person(pause: &PauseStatus) -> bool {
    pause.reason == "Spec" || pause.reason == "Command"
}

/// Keeps `spec.paused` as a pause in the status, so that its end counts as progress. An analysis that
/// cannot say asks again afterwards.
pub fn mirror_paused(cx: &Context<'_>, status: &mut RolloutStatus) -> bool {
    let ours = status.pause.as_ref().is_some_and(|p| p.reason == "Spec");
    if cx.spec.paused && !status.pause.as_ref().is_some_and(by_person) {
        status.pause = Some(PauseStatus {
            reason: "Spec".into(),
            message: "spec.paused is true".into(),
            since: Time(cx.now),
        });
        note(
            status,
            cx.now,
            "Normal",
            reason::PAUSED,
            "spec.paused is true",
        );
        return true;
    }
    if !cx.spec.paused && ours {
        resume(cx, status, "spec.paused is false");
        return true;
    }
    false
}

/// Ends a pause.
pub fn resume(cx: &Context<'_>, status: &mut RolloutStatus, why: &str) {
    status.pause = None;
    if let Some(attempt) = &mut status.attempt {
        progressed(cx, attempt);
        let step = usize::try_from(attempt.step_index).unwrap_or(usize::MAX);
        let timed = attempt.steps.get(step).is_some_and(|s| s.timeout.is_some());
        attempt.step_resumed_at = timed.then_some(MicroTime(cx.now));
    }
    note(status, cx.now, "Normal", reason::RESUMED, why);
}

/// Whether the attempt changes because of what the spec asks for. At most one change.
pub fn turn(cx: &Context<'_>, status: &mut RolloutStatus) -> bool {
    let Some(wanted) = wanted_hash(cx.observed, status) else {
        return false;
    };
    let stage = Stage::of(status);
    let hash = status.attempt.as_ref().map(|a| a.hash.clone());
    if cx.deleting() {
        // With orphaned dependents nothing is counted any more: the traffic goes where the stable
        // Service points, which has full size before and after it turned.
        let orphaned = cx.observed.revisions.is_empty()
            && matches!(stage, Some(Stage::Switching | Stage::Returning));
        let promoted = status.bake.is_some();
        let flight = orphaned || stage.is_some_and(Stage::can_abort) && !promoted;
        if flight {
            give_up(
                cx,
                status,
                reason::ABORTED,
                "Deleted",
                "the Rollout is being deleted",
                "deletion",
            );
        }
        return flight;
    }
    status.current_revision = Some(wanted.clone());
    if matches!(cx.observed.current, Current::New(_)) || cx.observed.revision(&wanted).is_none() {
        return false;
    }
    let stable = status.stable_revision.clone();
    match (stage, stable) {
        (None, None) => {
            begin(cx, status, &wanted, Stage::Deploying);
            true
        }
        (Some(Stage::Deploying), None) if hash.as_ref() != Some(&wanted) => {
            begin(cx, status, &wanted, Stage::Deploying);
            true
        }
        (Some(Stage::Starting | Stage::Stepping | Stage::Promoting), Some(stable)) => {
            if wanted == stable {
                let by = back::asked_by(status, &stable);
                give_up(
                    cx,
                    status,
                    reason::REVERTED,
                    reason::REVERTED,
                    &format!("the stable revision {stable} is asked for again"),
                    &by,
                );
                return true;
            }
            if hash.as_ref() != Some(&wanted) {
                supersede(cx, status, &wanted);
                return true;
            }
            false
        }
        (Some(Stage::Baking), Some(_)) => {
            let from = status.bake.as_ref().map(|b| b.from.clone());
            let back = from.is_some_and(|from| from == wanted);
            if back {
                let message = format!("revision {wanted} is asked for again");
                let (why, by) = (reason::REVERTED, back::asked_by(status, &wanted));
                give_up(cx, status, why, why, &message, &by);
            }
            back
        }
        (Some(Stage::RollingBack), Some(stable))
            if wanted != stable && hash.as_ref() != Some(&wanted) && !back::untold(cx, status) =>
        {
            supersede(cx, status, &wanted);
            true
        }
        (Some(Stage::Done) | None, Some(stable)) if wanted != stable => {
            // What was given up is not tried again by itself. Where only its template went, it is.
            let outcome = status.attempt.as_ref().and_then(|a| a.outcome.as_deref());
            if hash.as_ref() == Some(&wanted) && !matches!(outcome, None | Some(reason::REVERTED)) {
                return false;
            }
            if back::untold(cx, status) {
                return false;
            }
            begin(cx, status, &wanted, Stage::Starting);
            true
        }
        _ => false,
    }
}

fn supersede(cx: &Context<'_>, status: &mut RolloutStatus, wanted: &str) {
    let old = status
        .attempt
        .as_ref()
        .map(|a| a.hash.clone())
        .unwrap_or_default();
    note(
        status,
        cx.now,
        "Normal",
        reason::SUPERSEDED,
        &format!("revision {old} is given up for {wanted}"),
    );
    begin(cx, status, wanted, Stage::Starting);
}

/// Progress, or the lack of it: rolls back or says so when the deadline has passed.
pub fn overdue(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    attempt: &Attempt,
    stage: Stage,
    decided: &mut Decided,
) -> Option<Decided> {
    let wait = decided.waiting.clone()?;
    let deadline = wait.deadline;
    // What was given up says so, whatever else is awaited.
    let given_up = stage == Stage::Done && status.stable_revision.as_ref() != Some(&attempt.hash);
    let paused = status.pause.is_some() && stage.pauses();
    if given_up || paused || (cx.spec.replicas == 0 && stage != Stage::Done) {
        return None;
    }
    let untimed = stage == Stage::Done || deadline == Deadline::Never;
    // What may take its time has a deadline all the same for what it refers to and is not there.
    if untimed && !(cx.absent && cx.blocked.as_ref() == Some(&wait.for_)) {
        return None;
    }
    // Pods are wanted again: what time has passed without them does not count.
    let unwanted = status
        .waiting
        .as_ref()
        .is_some_and(|w| w.for_ == PODS_WANTED);
    if let Some(live) = status.attempt.as_mut().filter(|_| unwanted) {
        progressed(cx, live);
    }
    // What grows in a rollback is stable.
    let grows = match (stage, &status.stable_revision) {
        (Stage::RollingBack, Some(stable)) => stable,
        _ => &attempt.hash,
    };
    let mark = i64::from(cx.available(grows));
    if let Some(live) = status.attempt.as_mut().filter(|a| mark > a.progress_mark) {
        live.progress_mark = mark;
        live.progress_at = MicroTime(cx.now);
    }
    let said = status.waiting.as_ref().filter(|w| wait.is_told(w));
    let said = said.map_or(cx.now, |w| w.since.0);
    let since = if untimed {
        said
    } else {
        let progress = status.attempt.as_ref().map_or(cx.now, |a| a.progress_at.0);
        match deadline {
            Deadline::After(then) => progress.max(then),
            Deadline::Told => progress.max(said),
            Deadline::Progress | Deadline::Never => progress,
        }
    };
    let due = after(since, cx.spec.progress_deadline);
    if cx.now < due {
        decided.also_wake(Some(due));
        return None;
    }
    // What holds a weight is found later in a look: the last one told of it.
    let told = status.waiting.as_ref();
    let told = told.filter(|w| w.then == brief(&wait.then));
    let awaited = told.map_or_else(|| wait.text(), |w| w.for_.clone());
    let message = format!(
        "no progress for {}: waiting for {awaited}",
        crate::api::units::short(cx.spec.progress_deadline),
    );
    if cx.spec.progress_deadline_abort && stage.can_abort() {
        give_up(
            cx,
            status,
            reason::ROLLED_BACK,
            reason::PROGRESS_DEADLINE_EXCEEDED,
            &message,
            "deadline",
        );
        return Some(Decided::moved());
    }
    note_once(
        status,
        cx.now,
        "Warning",
        reason::PROGRESS_DEADLINE_EXCEEDED,
        &message,
    );
    decided
        .stalled
        .get_or_insert((reason::PROGRESS_DEADLINE_EXCEEDED.into(), message));
    None
}

/// Revisions that have no role any more keep their pods for a while, then lose them.
pub fn drain(cx: &Context<'_>, status: &mut RolloutStatus, decided: &mut Decided) {
    let attempt = status.attempt.clone();
    let stage = Stage::of(status);
    let flight = stage.is_some_and(|s| s != Stage::Done);
    let held = |hash: &str| {
        status.stable_revision.as_deref() == Some(hash)
            || status.bake.as_ref().is_some_and(|b| b.from == hash)
            || (flight && attempt.as_ref().is_some_and(|a| a.hash == hash))
            || cx.selected(false) == Some(hash)
            || (cx.selected(true) == Some(hash) && !cx.settled_at(0))
            || cx.observed.bound(&cx.spec.left).any(|(_, of)| of == hash)
    };
    let switching = matches!(
        stage,
        Some(Stage::Baking | Stage::Switching | Stage::Returning | Stage::Deploying)
    );
    let idle: Vec<(String, bool)> = cx
        .observed
        .revisions
        .iter()
        .filter(|r| r.desired() > 0 && !held(&r.hash))
        .map(|r| (r.hash.clone(), r.good()))
        .collect();
    status.draining.retain(|d| {
        cx.observed
            .revision(&d.hash)
            .is_some_and(|r| r.desired() > 0)
            && !held(&d.hash)
    });
    if !cx.shifted() {
        return;
    }
    // The newest stand last.
    let limit = cx.spec.course.scale_down_delay_revision_limit;
    let over = limit.map_or(0, |n| status.draining.len().saturating_sub(n));
    for (hash, good) in idle {
        let mut draining = status.draining.iter().enumerate();
        let found = draining.find(|(_, d)| d.hash == hash);
        match found.map(|(at, d)| (at, d.until.0)) {
            Some((at, until)) if cx.now >= until || at < over => {
                decided.desired.replicas.insert(hash, 0);
            }
            Some((_, until)) => decided.also_wake(Some(until)),
            None if switching => {}
            None => {
                let delay = match good {
                    true => cx.spec.course.scale_down_delay,
                    false => cx.spec.course.abort_scale_down_delay,
                };
                let until = after(cx.now, delay);
                status.draining.push(Draining {
                    hash,
                    until: MicroTime(until),
                });
                decided.also_wake(Some(until));
            }
        }
    }
}

/// What to say while the rollout stands still for a person.
pub fn paused_wait(status: &RolloutStatus) -> Option<Wait> {
    let pause = status.pause.as_ref()?;
    let hash = status.attempt.as_ref().map_or("", |a| &a.hash);
    let by = |verb: Verb| annotate_with(verb, hash, &status.commands);
    let then = match pause.reason.as_str() {
        "Spec" => "it goes on once spec.paused is false".to_owned(),
        "Command" => format!("it goes on: annotate {}", by(Verb::Resume)),
        "BackgroundAnalysis" => format!(
            "resume or promote measures anew, promote-full skips it and all steps, abort gives up: annotate {}",
            by(Verb::Resume)
        ),
        _ => format!(
            "promote goes on without it, resume measures anew, abort gives up: annotate {}",
            by(Verb::Promote)
        ),
    };
    Some(Wait::new(pause.message.clone(), then))
}
