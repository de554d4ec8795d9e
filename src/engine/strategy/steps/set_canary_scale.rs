//! Step `setCanaryScale`: the canary gets pods, apart from its share of the traffic.

use crate::{
    api::strategy::CanaryScale,
    model::share::{need, percent},
};

use super::step::{Outcome, Scale, Stance, StepContext};

impl Scale {
    /// The fewest pods of the canary where `replicas` are wanted.
    pub fn pods(self, replicas: u32) -> u32 {
        match self {
            Self::Pods(pods) => pods.min(replicas),
            Self::Percent(weight) => need(percent(weight), replicas).min(replicas),
        }
    }
}

/// It holds until another one replaces it.
pub fn stance(scale: &CanaryScale, stance: &mut Stance) {
    let amount = |n: i32| u32::try_from(n).unwrap_or(0);
    let pods = scale.replicas.map(|n| Scale::Pods(amount(n)));
    let share = scale.weight.map(|w| Scale::Percent(amount(w)));
    stance.scale = pods.or(share);
}

/// It is finished once the pods are available.
pub fn outcome(step: &StepContext<'_>) -> Outcome {
    step.reached()
}

/// What it is called in messages.
pub fn title(scale: &CanaryScale) -> String {
    match (scale.replicas, scale.weight) {
        (Some(replicas), _) => format!("setCanaryScale replicas {replicas}"),
        (None, Some(weight)) => format!("setCanaryScale weight {weight}"),
        (None, None) => "setCanaryScale matchTrafficWeight".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_counted_up_and_never_beyond_all() {
        let pods = |scale: Scale| [0, 1, 3, 10].map(|replicas| scale.pods(replicas));
        assert_eq!(pods(Scale::Pods(2)), [0, 1, 2, 2]);
        assert_eq!(pods(Scale::Percent(34)), [0, 1, 2, 4]);
        assert_eq!(pods(Scale::Percent(0)), [0, 0, 0, 0]);
        assert_eq!(pods(Scale::Percent(100)), [0, 1, 3, 10]);
    }
}
