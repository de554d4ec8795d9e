//! A lost status, rebuilt from the revisions and the live route.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{names::reason, status::RolloutStatus},
    model::{
        progress::{Stage, note},
        revisions::{Revision, restarted_at},
        share::FULL,
    },
};

use super::{Context, attempt::begin, back, commands, wanted_hash};

/// Rebuilds a lost status from the revisions and the live route. Whether it did.
pub fn rebuild(cx: &Context<'_>, status: &mut RolloutStatus) -> bool {
    if status.attempt.is_some()
        || status.stable_revision.is_some()
        || cx.observed.revisions.is_empty()
    {
        return false;
    }
    let recorded = |canary| cx.selected(canary).and_then(|h| cx.observed.revision(h));
    let selected = recorded(false);
    // A first deploy that was cut short has nothing promoted, whatever its Service selects; and a
    // switch may have been turned to a revision that was not promoted yet.
    let any_good = || cx.observed.revisions.iter().any(Revision::good);
    let selected = selected.filter(|r| r.good() || !cx.spec.switched() && any_good());
    let promoted = || {
        let good = cx.observed.revisions.iter().filter(|r| r.good());
        good.max_by_key(|r| (r.available(), r.number))
    };
    // What was promoted and has all traffic is stable, though the stable Service does not select it yet.
    let asked = cx.observed.current.hash();
    let full = cx.written.is_some_and(|w| w.share == Ok(FULL)) && !cx.spec.switched();
    let baked = recorded(true).filter(|r| full && r.good() && asked == Some(&r.hash));
    let stage = match baked {
        Some(_) => Stage::Switching,
        None => Stage::Done,
    };
    let stable = baked.or(selected).or_else(promoted);
    let Some(stable) = stable.map(|r| r.hash.clone()) else {
        return false;
    };
    status.decision.get_or_insert_default().told = cx.now.as_second();
    note(
        status,
        cx.now,
        "Warning",
        reason::STATUS_REBUILT,
        &format!("the status was lost; by its Service and its record, revision {stable} is stable"),
    );
    let restarted = restarted_at(&cx.observed.rollout, &cx.observed.revisions);
    status.restarted_at = restarted.map(Time);
    status.undo = back::remembered(cx);
    let wanted = wanted_hash(cx.observed, status);
    let wanted = wanted.filter(|h| *h != stable);
    // What only gave way to another template is tried anew.
    let given_up = wanted.and_then(|h| {
        let (outcome, why) = cx.observed.revision(&h)?.given_up()?;
        Some((outcome, why, h))
    });
    status.stable_revision = Some(stable.clone());
    begin(cx, status, &stable, stage);
    if let Some(attempt) = &mut status.attempt {
        attempt.outcome = Some(reason::PROMOTED.into());
        if let Some((outcome, why, hash)) = given_up {
            attempt.hash = hash;
            attempt.outcome = Some(outcome.to_owned());
            attempt.reason = Some(why.to_owned());
        }
    }
    commands::let_stand(cx, status);
    true
}
