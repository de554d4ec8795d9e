//! Step `pause`: wait for a time, or for a person.

use crate::{api::strategy::Pause, model::progress::after};

use super::{
    super::{Deadline, Wait},
    step::{Outcome, StepContext},
};

/// It is finished when its time has passed; without a time, when somebody promotes.
pub fn outcome(pause: &Pause, step: &StepContext<'_>) -> Outcome {
    let Some(duration) = &pause.duration else {
        return Outcome::Wait(
            Wait::new(
                "somebody to promote",
                format!(
                    "{}: annotate serin.dev/promote={}@{}/1",
                    step.next(),
                    step.attempt.hash,
                    step.index
                ),
            )
            .with(Deadline::Never),
        );
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
