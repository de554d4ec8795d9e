//! The way back: to a revision that was good, in place of the one that the template describes; and the
//! records, which tell what was good.

use std::cmp::Reverse;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        names::reason,
        status::{Attempt, RolloutStatus, Undo},
        strategy::{BackgroundAnalysis, Step},
    },
    model::{desired::Pin, observed::Observed, progress::note, revisions::Revision},
};

use super::{Context, Decided, Wait};

/// The ways back from the stable revision, the one that leads first at the front. Of those that a restart
/// made of one only that: the next is another way.
fn ways<'a>(observed: &'a Observed, stable: &str) -> Vec<&'a Revision> {
    let stable = observed.revision(stable);
    let all = observed.revisions.iter();
    let mut ways: Vec<_> = all.filter(|r| r.way_back(stable).is_some()).collect();
    ways.sort_by_key(|r| Reverse(r.way_back(stable)));
    let mut apart: Vec<&Revision> = vec![];
    for way in ways {
        if !apart.iter().any(|r| way.restarts(r)) {
            apart.push(way);
        }
    }
    apart
}

/// Where an undo leads that names no revision; none where there is no way back.
pub fn previous(observed: &Observed, status: &RolloutStatus) -> Option<String> {
    let stable = status.stable_revision.as_deref()?;
    let leaving = observed.rollout.metadata.deletion_timestamp.is_some();
    observed.current.hash().filter(|_| !leaving)?;
    ways(observed, stable).first().map(|r| r.hash.clone())
}

/// Whether a revision was good a short while ago, as `rollbackWindow` has it.
fn in_window(cx: &Context<'_>, status: &RolloutStatus, hash: &str) -> bool {
    let window = cx.spec.rollback_window;
    if window == 0 {
        return false;
    }
    let stable = status.stable_revision.as_deref().unwrap_or_default();
    let ways = ways(cx.observed, stable);
    let asked = cx.observed.revision(hash);
    // After a restart the old template may be another revision; nothing may speak against that.
    let fine = |r: &&Revision| r.verdict.is_empty() || r.good();
    let again = |way: &Revision| asked.filter(fine).is_some_and(|r| r.restarts(way));
    let mut ways = ways.into_iter().take(window);
    ways.any(|r| r.hash == hash || again(r))
}

/// Whether a revision is only the other one with fresh pods.
pub fn restarts(observed: &Observed, hash: &str, of: &str) -> bool {
    let (revision, of) = (observed.revision(hash), observed.revision(of));
    revision.zip(of).is_some_and(|(r, of)| r.restarts(of))
}

/// Why an attempt takes no steps, if it takes none: what it brings into service was good already.
pub fn skips(cx: &Context<'_>, status: &RolloutStatus, hash: &str) -> Option<&'static str> {
    let stable = status.stable_revision.as_deref().unwrap_or_default();
    if restarts(cx.observed, hash, stable) {
        return Some("by a restart");
    }
    in_window(cx, status, hash).then_some("by rollbackWindow")
}

/// The steps of an attempt and its analysis in the background: the strategy's, or none where what is
/// brought into service was good already.
pub fn way<'a>(
    cx: &Context<'a>,
    status: &RolloutStatus,
    hash: &str,
) -> (&'a [Step], Option<&'a BackgroundAnalysis>) {
    let course = &cx.spec.course;
    match skips(cx, status, hash) {
        Some(_) => (&[], None),
        None => (&course.steps, course.analysis.as_ref()),
    }
}

/// The undo that holds: its template is still the one it was given over.
pub fn held<'a>(observed: &Observed, status: &'a RolloutStatus) -> Option<&'a Undo> {
    let undo = status.undo.as_ref()?;
    let over = observed
        .current
        .hash()
        .is_none_or(|hash| *hash == undo.over);
    (over && observed.revision(&undo.revision).is_some()).then_some(undo)
}

/// Ends an undo that no longer holds. Whether it did.
pub fn ended(cx: &Context<'_>, status: &mut RolloutStatus) -> bool {
    if cx.deleting() || held(cx.observed, status).is_some() {
        return false;
    }
    let Some(undo) = status.undo.take() else {
        return false;
    };
    let why = match cx.observed.revision(&undo.revision) {
        Some(_) => "the template is another one",
        None => "it is no longer recorded",
    };
    let message = format!(
        "revision {}, which was gone back to, is no longer asked for: {why}",
        undo.revision
    );
    note(status, cx.now, "Normal", reason::UNDO_ENDED, &message);
    true
}

/// What stands on the records, where the status is lost.
pub fn remembered(cx: &Context<'_>) -> Option<Undo> {
    let over = cx.observed.current.hash()?;
    let mut pinned = cx.observed.revisions.iter();
    let pinned = pinned.find(|r| r.pinned_over.as_ref() == Some(over))?;
    Some(Undo {
        revision: pinned.hash.clone(),
        over: over.clone(),
        since: Time(cx.now),
        by: None,
    })
}

/// What is to stand on the records.
pub fn pin(status: &RolloutStatus) -> Pin {
    status.undo.as_ref().map_or(Pin::Nowhere, |undo| Pin::On {
        revision: undo.revision.clone(),
        over: undo.over.clone(),
    })
}

/// Whether an attempt promoted its revision after what the record tells.
fn promoted(cx: &Context<'_>, attempt: &Attempt, stable: &str) -> bool {
    // What was promoted before may have been promoted again; what a lost status is rebuilt from was not.
    let again = attempt.reason.is_some();
    let begun = attempt.started_at.0.as_second();
    let told = cx.observed.revision(stable).and_then(|r| r.promoted_at);
    attempt.hash == stable && told.is_none_or(|at| again && at.as_second() < begun)
}

/// What became of the attempt's revision; none while that is not known.
fn verdict(attempt: &Attempt, stable: &str) -> Option<String> {
    if attempt.hash == stable {
        return Some(reason::PROMOTED.into());
    }
    let outcome = attempt.outcome.as_deref();
    let outcome = outcome.filter(|o| *o == reason::ROLLED_BACK || *o == reason::ABORTED)?;
    Some(format!("{outcome}: {}", attempt.reason.as_ref()?))
}

/// Whether the last attempt's end is not on its revision's record yet: the next one waits for that.
pub fn untold(cx: &Context<'_>, status: &RolloutStatus) -> bool {
    let (Some(attempt), Some(stable)) = (&status.attempt, &status.stable_revision) else {
        return false;
    };
    let (record, verdict) = (
        cx.observed.revision(&attempt.hash),
        verdict(attempt, stable),
    );
    record
        .zip(verdict)
        .is_some_and(|(r, v)| r.verdict != v || promoted(cx, attempt, stable))
}

/// Has the records tell it.
pub fn record(cx: &Context<'_>, status: &RolloutStatus, decided: &mut Decided) {
    let (Some(attempt), Some(stable)) = (&status.attempt, &status.stable_revision) else {
        return;
    };
    let verdicts = &mut decided.desired.verdicts;
    verdicts.insert(stable.clone(), reason::PROMOTED.into());
    if let Some(verdict) = verdict(attempt, stable) {
        verdicts.insert(attempt.hash.clone(), verdict);
    }
    if promoted(cx, attempt, stable) {
        decided.desired.promoted = Some((stable.clone(), cx.now));
    }
    let asked = status.current_revision.as_ref();
    let next = asked.is_some_and(|hash| hash != stable && *hash != attempt.hash);
    if next && decided.waiting.is_none() && untold(cx, status) {
        let what = format!(
            "the record of revision {} to tell what became of it",
            attempt.hash
        );
        decided.waiting = Some(Wait::new(what, "the next attempt begins"));
    }
}
