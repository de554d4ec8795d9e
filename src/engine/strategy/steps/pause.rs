//! Step `pause`: wait for a time, or for a person.

use crate::{
    api::strategy::Pause,
    model::{
        command::{Verb, annotate_with},
        progress::after,
    },
};

use super::{
    super::{Deadline, Wait},
    step::{Outcome, StepContext},
};

/// It is finished when its time has passed; without a time, when somebody promotes.
pub fn outcome(pause: &Pause, step: &StepContext<'_>) -> Outcome {
    let Some(duration) = &pause.duration else {
        let status = step.cx.observed.rollout.status.as_ref();
        let what = format!("{}@{}", step.attempt.hash, step.index);
        let handled = status.map_or(&[][..], |s| &s.commands);
        let then = format!(
            "{}: annotate {}",
            step.next(),
            annotate_with(Verb::Promote, &what, handled)
        );
        return Outcome::Wait(Wait::new("somebody to promote", then).with(Deadline::Never));
    };
    let until = after(step.started, duration.parse().unwrap_or_default());
    if step.cx.now < until {
        let wait = Wait::until("the pause to end", until, step.next());
        return Outcome::Wait(wait.with(Deadline::Never));
    }
    match &step.unreached {
        Some(wait) => Outcome::Wait(wait.clone().with(Deadline::After(until))),
        None => Outcome::Done,
    }
}
