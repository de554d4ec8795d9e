//! The analysis in the background: it goes on beside the steps, and what it says counts at once.

use crate::{
    api::{
        analysis::MetricResult,
        names::reason,
        status::{Attempt, PauseStatus, RolloutStatus},
    },
    model::{
        desired::{DesiredRun, Part},
        measurement::{RunPhase, Verdict},
    },
};

use super::{
    Context, Deadline, Decided, Wait,
    attempt::{give_up, pause, resume},
    steps::analyze::again,
};

/// How it is said that a run in the background is awaited.
const UNJUDGED: &str = "AnalysisRun ";

/// What the analysis in the background comes to.
pub enum Background {
    /// The status moved on.
    Moved,
    /// It must run.
    Run(Box<DesiredRun>),
    /// There is nothing to measure, or nothing more.
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
pub fn background(
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
            part: Part::Background,
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
pub fn unjudged(cx: &Context<'_>, decided: &Decided, then: &str) -> Option<Wait> {
    let runs = decided.desired.runs.iter();
    let background = runs.filter(|r| !matches!(r.part, Part::Step(_)));
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
