//! Canary: the steps as they are written.

use crate::api::strategy::{Analysis, Canary, Step};

use super::{
    Course, Faults, RoleServices, Words,
    fields::{bake, baked, of_fields, revision_limit},
    surge::surge,
};

const PATH: &str = "spec.strategy.canary";

pub(super) const WORDS: Words = Words {
    stable: "stable",
    canary: "canary",
};

/// What a canary makes of what is written.
pub(super) fn course(canary: &Canary, replicas: u32, faults: &mut Faults) -> Course {
    check_routing(canary, faults);
    check_steps(&canary.steps, faults);
    check_scales(canary, faults);
    let (max_surge, max_unavailable) = surge(
        PATH,
        &canary.max_surge,
        &canary.max_unavailable,
        replicas,
        faults,
    );
    Course {
        path: PATH,
        words: WORDS,
        services: role_services(canary).filter(|_| canary.traffic_routing.is_some()),
        routing: canary.traffic_routing.clone(),
        max_surge,
        max_unavailable,
        idle_pods: 0,
        min_pods: min_pods(canary, replicas, faults),
        dynamic_stable: dynamic_stable(canary, faults),
        scale_down_delay: faults.duration(
            &format!("{PATH}.scaleDownDelay"),
            canary.scale_down_delay.as_ref(),
            30,
        ),
        abort_scale_down_delay: faults.duration(
            &format!("{PATH}.abortScaleDownDelay"),
            canary.abort_scale_down_delay.as_ref(),
            30,
        ),
        scale_down_delay_revision_limit: revision_limit(
            PATH,
            canary.scale_down_delay_revision_limit,
            faults,
        ),
        steps: canary.steps.clone(),
        analysis: canary.analysis.clone(),
        bake: bake(PATH, &canary.bake, faults),
        analyses: analyses(canary),
    }
}

/// What traffic is shifted by.
pub(super) fn shifting(canary: &Canary) -> Canary {
    Canary {
        service: canary.service.clone(),
        stable_service: canary.stable_service.clone(),
        canary_service: canary.canary_service.clone(),
        shared: canary.shared,
        traffic_routing: canary.traffic_routing.clone(),
        ..Canary::default()
    }
}

fn role_services(canary: &Canary) -> Option<RoleServices> {
    Some(RoleServices::new(
        canary.service.as_ref()?,
        WORDS,
        [&canary.stable_service, &canary.canary_service],
        ("stableService", "canaryService"),
        canary.shared,
    ))
}

fn analyses(canary: &Canary) -> Vec<(String, Analysis)> {
    let mut all = vec![];
    for (i, step) in canary.steps.iter().enumerate() {
        if let Some(analysis) = &step.analysis {
            all.push((format!("{PATH}.steps[{i}].analysis"), analysis.clone()));
        }
    }
    if let Some(background) = &canary.analysis {
        all.push((format!("{PATH}.analysis"), background.analysis()));
    }
    all.extend(of_fields(PATH, [("bake.analysis", &baked(&canary.bake))]));
    all
}

fn check_routing(canary: &Canary, faults: &mut Faults) {
    if canary.traffic_routing.is_some() && canary.service.is_none() {
        faults.add(
            format!("{PATH}.service"),
            "missing: trafficRouting needs the Service from which the role Services are cloned",
        );
    }
    if let Some(names) = role_services(canary) {
        names.check(PATH, faults);
    }
    let Some(analysis) = &canary.analysis else {
        return;
    };
    let starting = analysis.starting_step.unwrap_or(0);
    if usize::try_from(starting).is_ok_and(|s| s > canary.steps.len()) {
        faults.add(
            format!("{PATH}.analysis.startingStep"),
            format!("{starting}: there are {} steps", canary.steps.len()),
        );
    }
}

/// Never more than there are to be.
fn min_pods(canary: &Canary, replicas: u32, faults: &mut Faults) -> u32 {
    let Some(least) = canary.min_pods_per_replica_set else {
        return 0;
    };
    let path = format!("{PATH}.minPodsPerReplicaSet");
    if canary.traffic_routing.is_none() {
        faults.add(
            path.clone(),
            format!("{least}: has no effect without trafficRouting: take it out"),
        );
    }
    if least < 1 {
        faults.add(path, format!("{least}: must be 1 or more"));
    }
    u32::try_from(least).map_or(0, |n| n.min(replicas))
}

fn dynamic_stable(canary: &Canary, faults: &mut Faults) -> bool {
    if canary.dynamic_stable_scale && canary.traffic_routing.is_none() {
        faults.add(
            format!("{PATH}.dynamicStableScale"),
            "true: has no effect without trafficRouting, where pods are the weight: take it out",
        );
    }
    canary.dynamic_stable_scale
}

fn check_scales(canary: &Canary, faults: &mut Faults) {
    for (i, step) in canary.steps.iter().enumerate() {
        let Some(scale) = &step.set_canary_scale else {
            continue;
        };
        let path = format!("{PATH}.steps[{i}].setCanaryScale");
        let said = [
            scale.replicas.is_some(),
            scale.weight.is_some(),
            scale.match_traffic_weight,
        ];
        if said.iter().filter(|s| **s).count() != 1 {
            faults.add(
                path.clone(),
                "set exactly one of replicas, weight and matchTrafficWeight: true",
            );
        }
        if let Some(replicas) = scale.replicas.filter(|r| *r < 0) {
            faults.add(
                format!("{path}.replicas"),
                format!("{replicas}: must be 0 or more"),
            );
        }
        if let Some(weight) = scale.weight.filter(|w| !(0..=100).contains(w)) {
            faults.add(
                format!("{path}.weight"),
                format!("{weight}: must be 0 to 100"),
            );
        }
        if canary.traffic_routing.is_none() {
            faults.add(
                path,
                "without trafficRouting pods are the weight, and have no number of their own: take it out",
            );
        }
    }
}

fn check_steps(steps: &[Step], faults: &mut Faults) {
    let mut names = std::collections::BTreeSet::new();
    for (i, step) in steps.iter().enumerate() {
        let path = format!("{PATH}.steps[{i}]");
        let kinds = [
            step.set_weight.is_some(),
            step.set_canary_scale.is_some(),
            step.pause.is_some(),
            step.analysis.is_some(),
        ];
        if kinds.iter().filter(|k| **k).count() != 1 {
            faults.add(
                path.clone(),
                "a step is exactly one of setWeight, setCanaryScale, pause and analysis",
            );
        }
        if let Some(weight) = step.set_weight
            && !(0..=100).contains(&weight)
        {
            faults.add(
                format!("{path}.setWeight"),
                format!("{weight}: must be 0 to 100"),
            );
        }
        if let Some(duration) = step.pause.as_ref().and_then(|p| p.duration.as_ref()) {
            faults.duration(&format!("{path}.pause.duration"), Some(duration), 0);
        }
        let limit = faults.duration(&format!("{path}.timeout"), step.timeout.as_ref(), 1);
        if limit.is_zero() {
            faults.add(
                format!("{path}.timeout"),
                "0s: must be above 0; without a timeout a step takes as long as it takes",
            );
        }
        if let Some(name) = &step.name {
            if name.parse::<usize>().is_ok() {
                faults.add(
                    format!("{path}.name"),
                    format!("{name:?}: a name is not a number"),
                );
            }
            if !names.insert(name) {
                faults.add(
                    format!("{path}.name"),
                    format!("{name:?}: another step has this name"),
                );
            }
        }
    }
}
