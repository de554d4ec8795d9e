//! Steps: what each asks to hold, and when it is finished. Two functions each; the dispatch is here.

pub mod analyze;
pub mod pause;
pub mod set_canary_scale;
pub mod set_weight;
pub mod step;

use jiff::Timestamp;

use crate::{
    api::{status::Attempt, strategy::Step},
    model::progress::after,
};

use step::{Outcome, Stance, StepContext};

/// What the steps up to and including `index` ask to hold, folded.
pub fn stance(steps: &[Step], index: usize) -> Stance {
    let mut stance = Stance::default();
    for step in steps.iter().take(index.saturating_add(1)) {
        if let Some(weight) = step.set_weight {
            set_weight::stance(weight, &mut stance);
        }
        if let Some(scale) = &step.set_canary_scale {
            set_canary_scale::stance(scale, &mut stance);
        }
    }
    stance
}

/// Whether the step in progress is finished.
pub fn outcome(step: &Step, cx: &StepContext<'_>) -> Outcome {
    // Every kind by name, so that the compiler asks for a line here for each new one.
    let Step {
        name: _,
        timeout: _,
        set_weight,
        set_canary_scale,
        pause,
        analysis,
    } = step;
    match (set_weight, set_canary_scale, pause, analysis) {
        (Some(weight), None, None, None) => set_weight::outcome(*weight, cx),
        (None, Some(_), None, None) => set_canary_scale::outcome(cx),
        (None, None, Some(pause), None) => pause::outcome(pause, cx),
        (None, None, None, Some(analysis)) => analyze::outcome(analysis, cx),
        _ => Outcome::Done,
    }
}

/// Whether a step is a change that ends by itself, and must get on; the others wait for time, for
/// people, or for metrics.
pub fn changes(step: &Step) -> bool {
    step.set_weight.is_some() || step.set_canary_scale.is_some()
}

/// When a step has taken as long as it may; none where it may take any time.
pub fn due(step: &Step, attempt: &Attempt) -> Option<Timestamp> {
    let timeout = step.timeout.as_ref()?.parse().ok()?;
    let began = [&attempt.step_started_at, &attempt.step_resumed_at];
    let began = began.into_iter().flatten().map(|t| t.0).max()?;
    Some(after(began, timeout))
}

/// What a step is called in messages: `step 2 (setWeight 50)`.
pub fn title(steps: &[Step], index: usize) -> String {
    let Some(step) = steps.get(index) else {
        return "the last step".into();
    };
    let Step {
        name,
        timeout: _,
        set_weight,
        set_canary_scale,
        pause,
        analysis,
    } = step;
    let kind = match (set_weight, set_canary_scale, pause, analysis) {
        (Some(weight), ..) => format!("setWeight {weight}"),
        (_, Some(scale), ..) => set_canary_scale::title(scale),
        (_, _, Some(pause), _) => match &pause.duration {
            Some(duration) => format!("pause {duration}"),
            None => "pause".to_owned(),
        },
        (_, _, _, Some(analysis)) => {
            let names: Vec<&str> = analysis
                .templates
                .iter()
                .map(|t| t.template_name.as_str())
                .collect();
            format!("analysis {}", names.join(", "))
        }
        _ => "empty".to_owned(),
    };
    match name {
        Some(name) => format!("step {index} {name:?} ({kind})"),
        None => format!("step {index} ({kind})"),
    }
}
