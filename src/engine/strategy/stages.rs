//! The stages of an attempt around its steps: start, switch, return, retreat, rest.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::{
    api::{
        names::reason,
        status::{Attempt, Draining, RolloutStatus},
    },
    model::{
        desired::{Desired, Roles},
        observed::Trouble,
        progress::{Stage, after, note},
        share::need,
        traffic::RouteFault,
    },
};

use super::{
    Context, Decided, Wait,
    attempt::{enter, enter_step, fenced, give_up, paused_wait, progressed},
    back, bake,
    balance::balance,
    both,
    deploying::deploying,
    stepping,
};

/// Carries the stage on.
pub fn run(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    attempt: &Attempt,
    stage: Stage,
) -> Decided {
    let stable = status.stable_revision.clone();
    if stage == Stage::Deploying {
        return deploying(cx, status, attempt);
    }
    let Some(stable) = stable else {
        return Decided::wait(Wait::new(
            "a stable revision to be known",
            "the attempt goes on",
        ));
    };
    let trouble = cx.trouble(&attempt.hash);
    let trouble = trouble.filter(|_| stage.can_abort());
    let ends = |t: &&Trouble| cx.spec.fail_fast.contains(&t.reason);
    if let Some(trouble) = trouble.filter(ends) {
        let why = format!("{:?}", trouble.reason);
        give_up(
            cx,
            status,
            reason::ROLLED_BACK,
            &why,
            &trouble.to_string(),
            "failFast",
        );
        return Decided::moved();
    }
    let mut decided = carry_on(cx, status, &stable, attempt, stage);
    let trouble = trouble.filter(|_| cx.spec.replicas > 0);
    decided.waiting = decided.waiting.map(|w| w.because(trouble));
    decided
}

fn carry_on(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    stable: &str,
    attempt: &Attempt,
    stage: Stage,
) -> Decided {
    let on_its_way = matches!(
        stage,
        Stage::Switching | Stage::Returning | Stage::RollingBack
    );
    if on_its_way && cx.deleting() && cx.force.is_some_and(|f| f.gone) {
        // There is no route to straighten.
        return over(cx, status);
    }
    if stage == Stage::Switching && cx.deleting() && missing(cx) {
        // What is left of the routes can only go where the stable Service points.
        enter(cx, status, Stage::Returning);
        return Decided::moved();
    }
    match stage {
        Stage::Deploying | Stage::Done => at_rest(cx, stable, attempt),
        Stage::Starting => starting(cx, status, stable, attempt),
        Stage::Stepping => stepping::stepping(cx, status, stable, attempt),
        Stage::Promoting => stepping::promoting(cx, status, stable, attempt),
        Stage::Baking => bake::baking(cx, status, attempt),
        Stage::Switching => switching(cx, status, attempt),
        Stage::Returning => returning(cx, status, attempt),
        Stage::RollingBack => rolling_back(cx, status, stable, attempt),
    }
}

/// Whether a route does not exist.
fn missing(cx: &Context<'_>) -> bool {
    cx.written
        .is_some_and(|w| matches!(w.share, Err(RouteFault::Missing(_))))
}

/// All traffic goes to stable, the canary Service turns to the new revision.
fn starting(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    stable: &str,
    attempt: &Attempt,
) -> Decided {
    if renew(cx, status) {
        return Decided::moved();
    }
    let hash = &attempt.hash;
    let then = "the first step begins";
    let mut decided = Decided::default();
    decided
        .desired
        .replicas
        .insert(stable.to_owned(), cx.spec.replicas);
    decided.desired.claim = cx.shifted();
    // Nothing is bent for what cannot begin.
    let begins = cx.spec.replicas > 0 && cx.blocked.is_none() && status.pause.is_none();
    decided.desired.bind = begins || cx.strayed();
    if cx.shifted() {
        keep_size(cx, &mut decided.desired, hash);
        decided.desired.weight = Some(0);
        decided.desired.lowering = cx.retreat();
        // The canary Service turns only when nothing is sent to it.
        let canary = if cx.settled_at(0) && status.pause.is_none() {
            hash.as_str()
        } else {
            cx.selected(true).unwrap_or(stable)
        };
        decided.desired.roles = Some(Roles {
            stable: stable.to_owned(),
            canary: canary.to_owned(),
        });
    } else {
        balance(cx, &mut decided.desired, stable, hash, 0);
    }
    let wait = |for_: String| Some(Wait::new(for_, then));
    decided.waiting = if cx.spec.replicas == 0 {
        Some(Wait::for_pods_wanted(then))
    } else if let Some(blocked) = &cx.blocked {
        wait(blocked.clone())
    } else if let Some(paused) = paused_wait(status) {
        Some(paused)
    } else if !cx.settled_at(0) {
        Some(cx.settling(0, then))
    } else if !fenced(cx, status) {
        wait("earlier decisions to be fenced off".into())
    } else if cx.shifted() && !cx.claimed() {
        wait("the finalizer to be set".into())
    } else if cx.loose() {
        // No pod of the canary before: users would reach it by their own Service.
        Some(cx.binding(then))
    } else if cx.shifted() && cx.selected(true) != Some(hash.as_str()) {
        wait(format!(
            "the {} Service to select revision {hash}",
            cx.spec.course.words.canary
        ))
    } else {
        enter(cx, status, Stage::Stepping);
        enter_step(cx, status, 0);
        return Decided::moved();
    };
    decided.wake = decided.waiting.as_ref().and_then(|w| w.until);
    decided
}

/// Before its first step an attempt takes what is written by now: what was wrong may have been mended.
fn renew(cx: &Context<'_>, status: &mut RolloutStatus) -> bool {
    let hash = status.attempt.as_ref().map(|a| a.hash.clone());
    let (steps, analysis, bake) = back::way(cx, status, &hash.unwrap_or_default());
    let Some(attempt) = &mut status.attempt else {
        return false;
    };
    let same = (attempt.analysis.as_ref(), attempt.bake.as_ref()) == (analysis, bake);
    if attempt.steps == steps && same {
        return false;
    }
    (attempt.steps, attempt.analysis) = (steps.to_vec(), analysis.cloned());
    attempt.bake = bake.cloned();
    progressed(cx, attempt);
    true
}

/// A revision keeps its size; named all the same, so that it is fenced.
pub(super) fn keep_size(cx: &Context<'_>, desired: &mut Desired, hash: &str) {
    if let Some(set) = cx
        .observed
        .revision(hash)
        .and_then(|r| r.replica_set.as_ref())
    {
        // Where no pods are wanted, none are kept.
        let size = if cx.spec.replicas == 0 {
            0
        } else {
            set.desired
        };
        desired.replicas.insert(hash.to_owned(), size);
    }
}

/// Where stable gave up pods, they come back in the place of those that what is given up needs no longer. With the last of
/// its traffic gone it keeps the rest for a while, as ever.
fn make_room(cx: &Context<'_>, desired: &mut Desired, hash: &str) {
    let needed = need(cx.high(), cx.spec.replicas);
    let kept = desired.replicas.get_mut(hash);
    if let Some(size) = kept.filter(|_| cx.spec.course.dynamic_stable && needed > 0) {
        *size = needed.min(*size);
    }
}

/// Promoted: the stable Service turns to the new revision while all traffic goes to the canary Service.
fn switching(cx: &Context<'_>, status: &mut RolloutStatus, attempt: &Attempt) -> Decided {
    let hash = &attempt.hash;
    if !cx.shifted() {
        return complete(cx, status, attempt);
    }
    // Whoever asks for something else, or for nothing any more, waits for no pods that may never come.
    let leaves = cx.deleting() || status.current_revision.as_ref() != Some(hash);
    if leaves && cx.settled_at(0) && cx.selected(false) != Some(hash.as_str()) {
        // It never turned, and everything is back where it points.
        return over(cx, status);
    }
    let then = "the traffic returns to the stable Service";
    let mut decided = Decided::default();
    decided
        .desired
        .replicas
        .insert(hash.clone(), cx.spec.replicas);
    if cx.spec.replicas == 0 {
        // None are kept, also of the old revision.
        let all = cx.observed.revisions.iter().map(|r| (r.hash.clone(), 0));
        decided.desired.replicas.extend(all);
    }
    decided.desired.weight = Some(100);
    decided.serves = attempt.bake.is_some();
    (decided.desired.claim, decided.desired.bind) = (true, true);
    // It turns only when nothing is sent to it. Where it is gone, nobody is served by it.
    let stable = cx.selected(false).filter(|_| !cx.settled_at(100));
    decided.desired.roles = Some(Roles {
        stable: stable.unwrap_or(hash).to_owned(),
        canary: hash.clone(),
    });
    let service = cx
        .spec
        .course
        .services
        .as_ref()
        .map(|s| s.stable.clone())
        .unwrap_or_default();
    let endpoints = cx.observed.ready_endpoints(&service, hash);
    let wanted = match leaves {
        true => cx.available(hash).min(cx.spec.replicas),
        false => cx.spec.replicas.max(1),
    };
    let ready = cx.selected(false) == Some(hash.as_str()) && endpoints >= wanted;
    if !ready && attempt.stage_since.is_some() {
        // What was counted on is gone: the delay begins anew when it is back.
        if let Some(live) = &mut status.attempt {
            live.stage_since = None;
        }
        return Decided::moved();
    }
    decided.waiting = match attempt
        .stage_since
        .as_ref()
        .map(|t| after(t.0, cx.spec.propagation_delay))
    {
        _ if status.pause.is_some() && !cx.deleting() => paused_wait(status),
        None if ready => {
            if let Some(live) = &mut status.attempt {
                live.stage_since = Some(MicroTime(cx.now));
            }
            return Decided::moved();
        }
        None if cx.spec.replicas == 0 => Some(Wait::for_pods_wanted(then)),
        None => Some(Wait::new(
            format!("{wanted} ready endpoints of Service {service:?}, {endpoints} so far"),
            then,
        )),
        Some(until) if cx.now < until => Some(Wait::until(
            format!("Service {service:?} to reach the data plane"),
            until,
            then,
        )),
        Some(_) => {
            enter(cx, status, Stage::Returning);
            return Decided::moved();
        }
    };
    decided.wake = decided.waiting.as_ref().and_then(|w| w.until);
    decided
}

/// The traffic returns to the stable Service, which selects the new revision.
fn returning(cx: &Context<'_>, status: &mut RolloutStatus, attempt: &Attempt) -> Decided {
    if cx.settled_at(0) {
        return complete(cx, status, attempt);
    }
    let mut decided = Decided::default();
    decided
        .desired
        .replicas
        .insert(attempt.hash.clone(), cx.spec.replicas);
    decided.desired.weight = Some(0);
    (decided.desired.claim, decided.desired.bind) = (true, true);
    decided.desired.roles = Some(both(&attempt.hash));
    decided.serves = attempt.bake.is_some();
    let wait = cx.settling(0, "the promotion is complete");
    decided.wake = wait.until;
    decided.waiting = Some(wait);
    decided
}

/// What is in flight is left as it is: there is nothing to wait for any more.
fn over(cx: &Context<'_>, status: &mut RolloutStatus) -> Decided {
    enter(cx, status, Stage::Done);
    Decided::moved()
}

/// The promotion is finished; the old revision keeps its pods for `scaleDownDelay`.
fn complete(cx: &Context<'_>, status: &mut RolloutStatus, attempt: &Attempt) -> Decided {
    enter(cx, status, Stage::Done);
    let until = after(cx.now, cx.spec.course.scale_down_delay);
    for old in cx
        .observed
        .revisions
        .iter()
        .filter(|r| r.hash != attempt.hash && r.desired() > 0)
    {
        if !status.draining.iter().any(|d| d.hash == old.hash) {
            status.draining.push(Draining {
                hash: old.hash.clone(),
                until: MicroTime(until),
            });
        }
    }
    note(
        status,
        cx.now,
        "Normal",
        reason::COMPLETED,
        &format!("revision {} serves all traffic", attempt.hash),
    );
    Decided::moved()
}

/// The canary is given up: weight to stable first, then its pods go.
fn rolling_back(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    stable: &str,
    attempt: &Attempt,
) -> Decided {
    let mut decided = Decided::default();
    decided
        .desired
        .replicas
        .insert(stable.to_owned(), cx.spec.replicas);
    decided.desired.claim = cx.shifted();
    decided.desired.bind = cx.strayed();
    let back = if cx.shifted() {
        keep_size(cx, &mut decided.desired, &attempt.hash);
        if cx.available(stable) < cx.spec.replicas {
            make_room(cx, &mut decided.desired, &attempt.hash);
        }
        let canary = cx.selected(true).unwrap_or(stable).to_owned();
        decided.desired.roles = Some(Roles {
            stable: stable.to_owned(),
            canary,
        });
        decided.desired.weight = Some(0);
        decided.desired.lowering = cx.retreat();
        cx.settled_at(0) && (fenced(cx, status) || cx.deleting())
    } else {
        balance(cx, &mut decided.desired, stable, &attempt.hash, 0);
        cx.observed
            .revision(&attempt.hash)
            .is_none_or(|r| r.desired() == 0)
            && cx.available(stable) >= cx.spec.replicas
    };
    if back {
        return over(cx, status);
    }
    let then = format!(
        "revision {stable} serves everything, the {} is scaled down",
        cx.spec.course.words.canary
    );
    let wait = if !cx.shifted() {
        Wait::new(format!("{} available stable pods", cx.spec.replicas), then)
    } else if cx.settled_at(0) {
        Wait::new("earlier decisions to be fenced off", &then)
    } else {
        cx.settling(0, &then)
    };
    decided.wake = wait.until;
    decided.waiting = Some(wait);
    decided
}

/// Nothing is in flight.
fn at_rest(cx: &Context<'_>, stable: &str, attempt: &Attempt) -> Decided {
    let mut decided = Decided::default();
    if cx.shifted() {
        let replicas = &mut decided.desired.replicas;
        replicas.insert(stable.to_owned(), cx.spec.replicas);
        decided.desired.weight = Some(0);
        // Pods that are on their way out serve nobody unasked.
        (decided.desired.claim, decided.desired.bind) = (cx.strayed(), cx.strayed());
        // The canary Service keeps the given-up revision until nothing is sent to it.
        let canary = if cx.settled_at(0) {
            stable
        } else {
            cx.selected(true).unwrap_or(stable)
        };
        decided.desired.roles = Some(Roles {
            stable: stable.to_owned(),
            canary: canary.to_owned(),
        });
        if cx.loose() && !cx.strayed() {
            // They come by their own Service: no split is awaited, but the finalizer goes by it.
            decided.wake = cx.force.and_then(|f| f.settles_at);
        } else if cx.blocked.is_none() && !cx.settled_at(0) {
            let wait = cx.settling(0, "it is healthy");
            decided.wake = wait.until;
            decided.waiting = Some(wait);
        }
    } else {
        // Also for what an attempt left that nobody remembers.
        balance(cx, &mut decided.desired, stable, &attempt.hash, 0);
    }
    if let Some(blocked) = &cx.blocked {
        decided.waiting = Some(Wait::new(blocked.clone(), "the next attempt can begin"));
    }
    decided
}
