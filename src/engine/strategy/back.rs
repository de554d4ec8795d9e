//! The way back: to a revision that was good, in place of the one that the template describes; and the
//! records, which tell what was good.

use std::cmp::Reverse;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        AnalysisRun,
        names::reason,
        status::{Attempt, HandledCommand, RolloutStatus, Superseded, Undo},
        strategy::{BackgroundAnalysis, Bake, Step, TemplateRef},
    },
    model::{
        command::{Verb, given},
        desired::Pin,
        measurement::RunPhase,
        observed::Observed,
        progress::{few_words, note},
        revisions::{Judged, Revision},
    },
};

use super::{Context, Decided, Wait};

/// The most revisions whose records may be behind while others are tried.
const SUPERSEDED_MAX: usize = 8;

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
    observed.current.hash().filter(|_| !observed.deleting())?;
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

/// The steps of an attempt, its analysis in the background, and its bake: the strategy's, or none where what
/// is brought into service was good already.
pub fn way<'a>(
    cx: &Context<'a>,
    status: &RolloutStatus,
    hash: &str,
) -> (&'a [Step], Option<&'a BackgroundAnalysis>, Option<&'a Bake>) {
    let course = &cx.spec.course;
    match skips(cx, status, hash) {
        Some(_) => (&[], None, None),
        None => (
            &course.steps,
            course.analysis.as_ref(),
            course.bake.as_ref(),
        ),
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

/// Who gave the undo that asks for a revision; none where none does.
fn undone_by(status: &RolloutStatus, hash: &str) -> Option<String> {
    let undo = status.undo.as_ref().filter(|u| u.revision == hash)?;
    Some(given(Verb::Undo, undo.by.as_ref()))
}

/// Who gave the restart that an attempt carries out; none where it is none.
fn restarted_by(cx: &Context<'_>, status: &RolloutStatus, attempt: &Attempt) -> Option<String> {
    let fresh = cx.observed.revision(&attempt.hash)?.restarted() && attempt.steps.is_empty();
    let is = |c: &&HandledCommand| c.name == Verb::Restart.as_str() && c.outcome == "Done";
    let last = status.commands.iter().rev().find(is).filter(|_| fresh)?;
    Some(given(Verb::Restart, last.by.as_ref()))
}

/// Who or what asks for a revision.
pub fn asked_by(status: &RolloutStatus, hash: &str) -> String {
    undone_by(status, hash).unwrap_or_else(|| "the template".to_owned())
}

/// What led to a promotion: the command that somebody gave, and the analyses that passed; or no more than
/// its steps.
pub fn led(cx: &Context<'_>, status: &RolloutStatus, attempt: &Attempt) -> String {
    let command = attempt.decided_by.clone();
    let command = command.or_else(|| undone_by(status, &attempt.hash));
    let command = command.or_else(|| restarted_by(cx, status, attempt));
    let analyses = match passed(cx, attempt).as_slice() {
        [] => None,
        [one] => Some(format!("analysis {one}")),
        more => Some(format!("analyses {}", more.join(", "))),
    };
    let said: Vec<String> = command.into_iter().chain(analyses).collect();
    match said.as_slice() {
        [] if attempt.steps.is_empty() => "no steps".to_owned(),
        [] => "steps".to_owned(),
        said => few_words(&said.join("; ")),
    }
}

/// The templates by which the attempt was judged and passed, the steps' first: a run that a person
/// overruled is none of them, nor is one in the background that has measured no pass yet.
fn passed<'a>(cx: &Context<'_>, attempt: &'a Attempt) -> Vec<&'a str> {
    let of = |run: &&AnalysisRun| {
        run.spec.revision == attempt.hash && run.spec.attempt == attempt.number
    };
    let runs = || cx.observed.runs.iter().filter(of);
    let mut names: Vec<&str> = vec![];
    let mut add = |templates: &'a [TemplateRef]| {
        for name in templates.iter().map(|t| t.template_name.as_str()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    };
    for (index, step) in attempt.steps.iter().enumerate() {
        let at = index.to_string();
        let proves = |run: &AnalysisRun| {
            run.spec.step == at && RunPhase::of(run.status.as_ref()) == RunPhase::Successful
        };
        if let Some(analysis) = step.analysis.as_ref().filter(|_| runs().any(proves)) {
            add(&analysis.templates);
        }
    }
    let proves = |run: &AnalysisRun| match RunPhase::of(run.status.as_ref()) {
        _ if run.spec.step != "background" => false,
        RunPhase::Successful => true,
        // Most go on until the attempt ends.
        RunPhase::Running => run.status.as_ref().is_some_and(|s| {
            !s.metric_results.is_empty() && s.metric_results.iter().all(|m| m.passed > 0)
        }),
        RunPhase::Failed | RunPhase::Inconclusive | RunPhase::Terminated => false,
    };
    if let Some(analysis) = attempt.analysis.as_ref().filter(|_| runs().any(proves)) {
        add(&analysis.templates);
    }
    names
}

/// What became of the attempt's revision; none while that is not known.
fn verdict(cx: &Context<'_>, attempt: &Attempt, stable: &str) -> Option<Judged> {
    let by = attempt.decided_by.clone();
    if attempt.hash == stable {
        let verdict = reason::PROMOTED.into();
        return Some(Judged { verdict, by });
    }
    let (outcome, why) = (attempt.outcome.as_ref()?, attempt.reason.as_ref()?);
    let told = match outcome.as_str() {
        reason::ROLLED_BACK | reason::ABORTED => true,
        reason::REVERTED => !good(cx, &attempt.hash),
        _ => false,
    };
    let verdict = format!("{outcome}: {why}");
    told.then_some(Judged { verdict, by })
}

/// Whether a revision's record calls it good. What gave way to another template is as good as it was.
fn good(cx: &Context<'_>, hash: &str) -> bool {
    cx.observed.revision(hash).is_some_and(Revision::good)
}

/// What became of a revision that gave way to another; none where its record calls it good.
fn gave_way(cx: &Context<'_>, superseded: &Superseded) -> Option<Judged> {
    let Superseded { hash, next, by } = superseded;
    (!good(cx, hash)).then(|| Judged {
        verdict: format!("{}: {next}", reason::SUPERSEDED),
        by: Some(by.clone()),
    })
}

/// What gives way to an attempt of this revision and is on no record yet. It is recorded beside that
/// attempt, which waits for nothing: so it stands in the status until then.
pub fn superseded(cx: &Context<'_>, status: &RolloutStatus, hash: &str) -> Vec<Superseded> {
    let Some(attempt) = &status.attempt else {
        return vec![];
    };
    let mut all = attempt.superseded.clone();
    if attempt.outcome.is_none() {
        all.push(Superseded {
            hash: attempt.hash.clone(),
            next: hash.to_owned(),
            by: asked_by(status, hash),
        });
    }
    let untold = |s: &Superseded| {
        let record = cx.observed.revision(&s.hash);
        let judged = record.zip(gave_way(cx, s));
        judged.is_some_and(|(record, judged)| !record.tells(&judged))
    };
    // What is tried again is undecided again.
    all.retain(|s| s.hash != hash && untold(s));
    all.drain(..all.len().saturating_sub(SUPERSEDED_MAX));
    all
}

/// Whether the last attempt's end is not on its revision's record yet: the next one waits for that.
pub fn untold(cx: &Context<'_>, status: &RolloutStatus) -> bool {
    let (Some(attempt), Some(stable)) = (&status.attempt, &status.stable_revision) else {
        return false;
    };
    let (record, verdict) = (
        cx.observed.revision(&attempt.hash),
        verdict(cx, attempt, stable),
    );
    record
        .zip(verdict)
        .is_some_and(|(r, v)| !r.tells(&v) || promoted(cx, attempt, stable))
}

/// Has the records tell it.
pub fn record(cx: &Context<'_>, status: &RolloutStatus, decided: &mut Decided) {
    let Some(attempt) = &status.attempt else {
        return;
    };
    let verdicts = &mut decided.desired.verdicts;
    for superseded in &attempt.superseded {
        let judged = gave_way(cx, superseded);
        verdicts.extend(judged.map(|j| (superseded.hash.clone(), j)));
    }
    let Some(stable) = &status.stable_revision else {
        return;
    };
    let promotion = Judged {
        verdict: reason::PROMOTED.into(),
        by: None,
    };
    verdicts.insert(stable.clone(), promotion);
    if let Some(verdict) = verdict(cx, attempt, stable) {
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
