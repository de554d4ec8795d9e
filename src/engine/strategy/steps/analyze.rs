//! Step `analysis`: go on only when the verdict is good.

use crate::{
    api::{analysis::MetricResult, strategy::Analysis},
    model::{
        desired::{DesiredRun, Part},
        measurement::RunPhase,
    },
};

use super::{
    super::{Deadline, Wait},
    step::{Outcome, StepContext},
};

/// It is finished when its run is successful. A run belongs to (revision, attempt, step): what was
/// measured elsewhere is no evidence here.
pub fn outcome(analysis: &Analysis, step: &StepContext<'_>) -> Outcome {
    let run = desired_run(analysis, step);
    let found = step.cx.observed.run_outcome(&run.name);
    // Pods that are lost meanwhile are no reason not to measure.
    if found.is_none()
        && !step.in_force
        && let Some(wait) = &step.unreached
    {
        return Outcome::Wait(wait.clone());
    }
    let there = found.is_some();
    let (phase, message) = found.unwrap_or((RunPhase::Running, String::new()));
    let name = run.name.clone();
    match phase {
        RunPhase::Failed => Outcome::Fail {
            why: "AnalysisFailed".into(),
            message: format!("analysis {name}: {message}"),
            by: name,
        },
        RunPhase::Inconclusive | RunPhase::Terminated => {
            Outcome::Ask(format!("analysis {name} cannot say: {message}"))
        }
        RunPhase::Successful => match &step.unreached {
            Some(wait) => Outcome::Wait(wait.clone().with(ended(&run.name, step))),
            None => Outcome::Done,
        },
        RunPhase::Running => {
            let then = || {
                format!(
                    "on a pass {}, on a fail it is rolled back{}",
                    step.next(),
                    doubts(step, &name)
                )
            };
            let measures = || Wait::new(format!("analysis {name}"), then()).with(Deadline::Never);
            let wait = unmeasured(&name, there, step).unwrap_or_else(measures);
            Outcome::Measure(Box::new(run), wait)
        }
    }
}

/// Whether the step's run is successful, whatever is lacking else.
pub fn passed(analysis: &Analysis, step: &StepContext<'_>) -> bool {
    let found = step
        .cx
        .observed
        .run_outcome(&desired_run(analysis, step).name);
    found.is_some_and(|(phase, _)| phase == RunPhase::Successful)
}

/// Why nothing is measured while the run is due. That may last for ever, so it has a deadline.
fn unmeasured(name: &str, there: bool, step: &StepContext<'_>) -> Option<Wait> {
    let cx = step.cx;
    if !there {
        // The round that creates it is not worth a word.
        let told = cx.observed.rollout.status.as_ref();
        let told = told.and_then(|s| s.waiting.as_ref());
        told.filter(|t| t.for_.starts_with(&format!("analysis {name}")))?;
        let then = "it measures: an Event says what refuses it, promote goes on without it";
        let wait = Wait::new(format!("analysis {name} to be created"), then);
        return Some(wait.with(Deadline::Told));
    }
    // A split that is not in force is not measured.
    let blind = cx.shifted() && !step.in_force && cx.spec.replicas > 0;
    let wait = step.unreached.clone().filter(|_| blind)?;
    let then = format!("analysis {name} goes on");
    Some(Wait { then, ..wait }.with(Deadline::Told))
}

/// What is awaited once the run has ended has a deadline that counts from then on.
fn ended(name: &str, step: &StepContext<'_>) -> Deadline {
    let run = step.cx.observed.run(name);
    let at = run.and_then(|r| r.status.as_ref()?.completed_at.as_ref());
    at.map_or(Deadline::Progress, |t| Deadline::After(t.0))
}

/// Which metrics cannot say so far, so that nobody waits for what never comes.
fn doubts(step: &StepContext<'_>, name: &str) -> String {
    let run = step.cx.observed.run(name);
    let results = run
        .and_then(|r| r.status.as_ref())
        .map_or(&[][..], |s| &s.metric_results);
    let doubt = |m: &MetricResult| {
        let word = match m.measurements.last()?.verdict.as_str() {
            "noData" => "no data",
            "error" => "an error",
            "inconclusive" => "inconclusive",
            _ => return None,
        };
        Some(format!("{:?}: {word}, {} in a row", m.name, m.in_a_row))
    };
    let all: Vec<String> = results.iter().filter_map(doubt).collect();
    if all.is_empty() {
        return String::new();
    }
    format!(" (so far {})", all.join("; "))
}

fn desired_run(analysis: &Analysis, step: &StepContext<'_>) -> DesiredRun {
    let rollout = step.cx.name();
    let (hash, number) = (&step.attempt.hash, step.attempt.number);
    DesiredRun {
        name: format!(
            "{rollout}-{hash}-{number}-{}{}",
            step.index,
            again(step.attempt.step_try)
        ),
        revision: hash.clone(),
        stable: step.stable.to_owned(),
        attempt: number,
        part: Part::Step(step.index),
        start: step.started,
        analysis: analysis.clone(),
    }
}

/// The suffix of a run that was begun anew.
pub fn again(tries: i32) -> String {
    if tries == 0 {
        String::new()
    } else {
        format!("-{tries}")
    }
}
