//! Former: what a status still holds of a spec that has changed since.

use serde_json::Value;

use crate::{
    api::{
        Rollout,
        status::Attempt,
        strategy::{Analysis, Rolling, Strategy},
        traffic::TrafficRouting,
    },
    model::progress::Stage,
};

use super::{Course, Faults, RoleServices, blue_green, canary, course};

/// What a status must remember of a strategy for as long as traffic is shifted by it.
pub fn shifting(strategy: &Strategy) -> Option<Value> {
    // Every field by name, so that the compiler asks for a line here.
    let Strategy {
        blue_green,
        canary,
        rolling,
    } = strategy;
    let shifting = Strategy {
        blue_green: blue_green.as_ref().map(blue_green::shifting),
        canary: canary.as_ref().map(canary::shifting),
        rolling: rolling.as_ref().map(|_| Rolling::default()),
    };
    serde_json::to_value(shifting).ok()
}

/// The course of the strategy by which traffic is shifted, as the status has it.
pub(super) fn shifted_by(rollout: &Rollout, replicas: u32) -> Option<Course> {
    let traffic = rollout.status.as_ref()?.traffic.as_ref()?;
    let strategy = serde_json::from_value(traffic.strategy.clone()?).ok()?;
    course(&strategy, replicas, &mut Faults(vec![]))
}

/// Whether two courses shift the traffic by other Services or routes.
pub(super) fn differ(one: &Course, other: &Course) -> bool {
    let by = |course: &Course| {
        let routing = course.routing.clone().map(|r| TrafficRouting {
            propagation_delay: None,
            ..r
        });
        (course.services.clone(), routing)
    };
    by(one) != by(other)
}

/// The Services that were turned to one revision's pods and are no role Services any more.
pub(super) fn left(rollout: &Rollout, services: Option<&RoleServices>) -> Vec<String> {
    let turned = rollout.status.iter().flat_map(|s| &s.role_services);
    let role = |name: &&String| services.is_some_and(|s| s.roles().contains(name));
    turned.filter(|name| !role(name)).cloned().collect()
}

/// What the attempt in flight measures, from its snapshot, and the spec no longer names.
pub(super) fn in_flight(
    rollout: &Rollout,
    named: &[(String, Analysis)],
) -> Vec<(String, Analysis)> {
    let attempt = rollout.status.as_ref().and_then(|s| s.attempt.as_ref());
    // Before its first step it takes what is written by then.
    let begun =
        |a: &&Attempt| a.outcome.is_none() && Stage::parse(&a.stage) != Some(Stage::Starting);
    let Some(attempt) = attempt.filter(begun) else {
        return vec![];
    };
    let steps = attempt.steps.iter().enumerate();
    let steps = steps.filter_map(|(i, s)| {
        Some((
            format!("status.attempt.steps[{i}].analysis"),
            s.analysis.clone()?,
        ))
    });
    let background = attempt.analysis.as_ref();
    steps
        .chain(background.map(|b| ("status.attempt.analysis".to_owned(), b.analysis())))
        .filter(|(_, a)| !named.iter().any(|(_, b)| a == b))
        .collect()
}
