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

use super::{Course, Faults, RoleServices, blue_green, canary, course, fields::baked};

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

/// What the attempt in flight has left to measure, by the path where it stands: from its snapshot, which the spec may no
/// longer name. None where nothing is in flight.
pub(super) fn left_to_measure(
    rollout: &Rollout,
    named: &[(String, Analysis)],
) -> Option<Vec<(String, Analysis)>> {
    let attempt = rollout.status.as_ref().and_then(|s| s.attempt.as_ref());
    let stage = attempt.and_then(|a| Stage::parse(&a.stage));
    let (attempt, stage) = attempt.zip(stage.filter(|s| s.can_abort()))?;
    let left = of_attempt(attempt, stage);
    let is_in = |all: &[(String, Analysis)], one: &Analysis| all.iter().any(|(_, a)| a == one);
    let still = named.iter().filter(|(_, a)| is_in(&left, a)).cloned();
    // Before its first step it takes what is written by then.
    let snapshot = left.iter().filter(|_| stage != Stage::Starting);
    let no_longer = snapshot.filter(|(_, a)| !is_in(named, a)).cloned();
    Some(still.chain(no_longer).collect())
}

/// What an attempt has left to measure.
fn of_attempt(attempt: &Attempt, stage: Stage) -> Vec<(String, Analysis)> {
    let passed = match stage {
        Stage::Promoting | Stage::Baking => usize::MAX,
        _ => usize::try_from(attempt.step_index).unwrap_or(0),
    };
    let steps = attempt.steps.iter().enumerate().skip(passed);
    let steps = steps.filter_map(|(i, s)| {
        let path = format!("status.attempt.steps[{i}].analysis");
        Some((path, s.analysis.clone()?))
    });
    let background = attempt.analysis.as_ref().filter(|_| stage != Stage::Baking);
    let background = background.map(|b| ("status.attempt.analysis".to_owned(), b.analysis()));
    let bake = baked(&attempt.bake);
    let bake = bake.map(|b| ("status.attempt.bake.analysis".to_owned(), b));
    steps.chain(background).chain(bake).collect()
}
