//! The way back: to a revision that was good, in place of the one that the template describes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        names::reason,
        status::{RolloutStatus, Undo},
        strategy::{BackgroundAnalysis, Step},
    },
    model::{
        desired::Pin,
        observed::{Current, Observed},
        progress::note,
        revisions::Revision,
    },
};

use super::Context;

/// The good revisions that are older than the stable one, the last that was promoted first. Those of which
/// it is not known when they were come after the others. A newer one may be what was gone back from.
fn good<'a>(observed: &'a Observed, stable: &str) -> Vec<&'a Revision> {
    let number = observed.revision(stable).map_or(0, |r| r.number);
    let all = observed.revisions.iter();
    let mut good: Vec<&Revision> = all
        .filter(|r| r.verdict == reason::PROMOTED && r.number < number)
        .collect();
    good.sort_by_key(|r| std::cmp::Reverse((r.promoted_at, r.number)));
    good
}

/// Where an undo leads that names no revision; none where there is no way back.
pub fn previous(observed: &Observed, status: &RolloutStatus) -> Option<String> {
    let stable = status.stable_revision.as_deref()?;
    let leaving = observed.rollout.metadata.deletion_timestamp.is_some();
    of_template(observed).filter(|_| !leaving)?;
    good(observed, stable).first().map(|r| r.hash.clone())
}

/// The steps of an attempt and its analysis in the background: the strategy's, or none on the way back
/// to what was good a short while ago.
pub fn way(
    cx: &Context<'_>,
    status: &RolloutStatus,
    hash: &str,
) -> (Vec<Step>, Option<BackgroundAnalysis>) {
    let stable = status.stable_revision.as_deref().unwrap_or_default();
    let window = good(cx.observed, stable)
        .into_iter()
        .take(cx.spec.rollback_window);
    if window.into_iter().any(|r| r.hash == hash) {
        return (vec![], None);
    }
    (
        cx.spec.course.steps.clone(),
        cx.spec.course.analysis.clone(),
    )
}

/// The hash of the revision that the template describes; none where the API server refuses it.
pub fn of_template(observed: &Observed) -> Option<&String> {
    match &observed.current {
        Current::Recorded(hash) | Current::New(hash) => Some(hash),
        Current::Refused(_) => None,
    }
}

/// The undo that holds: its template is still the one it was given over.
pub fn held<'a>(observed: &Observed, status: &'a RolloutStatus) -> Option<&'a Undo> {
    let undo = status.undo.as_ref()?;
    let over = of_template(observed).is_none_or(|hash| *hash == undo.over);
    (over && observed.revision(&undo.revision).is_some()).then_some(undo)
}

/// Ends an undo that no longer holds. Whether it did.
pub fn ended(cx: &Context<'_>, status: &mut RolloutStatus) -> bool {
    if cx.deleting() || status.undo.is_none() || held(cx.observed, status).is_some() {
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
    let over = of_template(cx.observed)?;
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
