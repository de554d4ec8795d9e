//! Step `setWeight`: the canary gets a share of the traffic.

use super::step::{Outcome, Stance, StepContext};

/// It holds its weight until another one replaces it.
pub fn stance(weight: i32, stance: &mut Stance) {
    stance.weight = u32::try_from(weight).unwrap_or(0).min(100);
}

/// It is finished once the weight has reached the data plane.
pub fn outcome(_weight: i32, step: &StepContext<'_>) -> Outcome {
    step.reached()
}
