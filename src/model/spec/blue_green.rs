//! Blue-green: a preview without traffic, then everything at once, in the words of steps.

use crate::api::strategy::{Analysis, BlueGreen, Pause, Step};

use super::{
    Course, Faults, RoleServices, Words,
    fields::{bake, baked, judgement, named, of_fields, revision_limit},
};

const PATH: &str = "spec.strategy.blueGreen";

const WORDS: Words = Words {
    stable: "active",
    canary: "preview",
};

/// What blue-green makes of what is written.
pub(super) fn course(blue_green: &BlueGreen, replicas: u32, faults: &mut Faults) -> Course {
    let services = RoleServices::new(
        &blue_green.service,
        WORDS,
        [&blue_green.active_service, &blue_green.preview_service],
        ("activeService", "previewService"),
        blue_green.shared,
    );
    services.check(PATH, faults);
    if blue_green.service.is_empty() {
        faults.add(
            format!("{PATH}.service"),
            "empty: name the Service from which the role Services are cloned",
        );
    }
    check_promotion(blue_green, faults);
    let preview = blue_green.preview_replica_count;
    if let Some(count) = preview.filter(|c| *c < 1) {
        faults.add(
            format!("{PATH}.previewReplicaCount"),
            format!("{count}: must be 1 or more"),
        );
    }
    Course {
        path: PATH,
        words: WORDS,
        services: Some(services),
        routing: blue_green.traffic_routing.clone(),
        max_surge: 0,
        max_unavailable: 0,
        idle_pods: preview
            .and_then(|p| u32::try_from(p).ok())
            .map_or(replicas, |p| p.min(replicas)),
        min_pods: 0,
        dynamic_stable: false,
        scale_down_delay: faults.duration(
            &format!("{PATH}.scaleDownDelay"),
            blue_green.scale_down_delay.as_ref(),
            30,
        ),
        abort_scale_down_delay: faults.duration(
            &format!("{PATH}.abortScaleDownDelay"),
            blue_green.abort_scale_down_delay.as_ref(),
            30,
        ),
        scale_down_delay_revision_limit: revision_limit(
            PATH,
            blue_green.scale_down_delay_revision_limit,
            faults,
        ),
        steps: steps(blue_green),
        analysis: None,
        bake: bake(PATH, &blue_green.bake, faults),
        analyses: analyses(blue_green),
    }
}

/// What traffic is shifted by.
pub(super) fn shifting(blue_green: &BlueGreen) -> BlueGreen {
    BlueGreen {
        service: blue_green.service.clone(),
        active_service: blue_green.active_service.clone(),
        preview_service: blue_green.preview_service.clone(),
        shared: blue_green.shared,
        traffic_routing: blue_green.traffic_routing.clone(),
        ..BlueGreen::default()
    }
}

fn check_promotion(blue_green: &BlueGreen, faults: &mut Faults) {
    let path = format!("{PATH}.autoPromotionDelay");
    faults.duration(&path, blue_green.auto_promotion_delay.as_ref(), 0);
    if let (Some(delay), Some(false)) = (
        &blue_green.auto_promotion_delay,
        blue_green.auto_promotion_enabled,
    ) {
        faults.add(
            path,
            format!(
                "{delay}: has no effect while autoPromotionEnabled is false: take one of them out"
            ),
        );
    }
}

/// The way of a blue-green attempt: preview, judgement, consent, switch, judgement.
fn steps(blue_green: &BlueGreen) -> Vec<Step> {
    let mut steps = vec![Step {
        set_weight: Some(0),
        ..named("preview")
    }];
    steps.extend(judgement(
        "pre-promotion-analysis",
        &blue_green.pre_promotion_analysis,
    ));
    let by_hand = blue_green.auto_promotion_enabled == Some(false);
    if by_hand || blue_green.auto_promotion_delay.is_some() {
        steps.push(Step {
            pause: Some(Pause {
                duration: blue_green.auto_promotion_delay.clone(),
            }),
            ..named("promotion")
        });
    }
    steps.push(Step {
        set_weight: Some(100),
        ..named("switch")
    });
    steps.extend(judgement(
        "post-promotion-analysis",
        &blue_green.post_promotion_analysis,
    ));
    steps
}

fn analyses(blue_green: &BlueGreen) -> Vec<(String, Analysis)> {
    of_fields(
        PATH,
        [
            ("prePromotionAnalysis", &blue_green.pre_promotion_analysis),
            ("postPromotionAnalysis", &blue_green.post_promotion_analysis),
            ("bake.analysis", &baked(&blue_green.bake)),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_becomes_steps() {
        let names = |b: &BlueGreen| -> Vec<String> {
            let steps = steps(b);
            steps.into_iter().filter_map(|s| s.name).collect()
        };
        let mut asked = BlueGreen::default();
        assert_eq!(names(&asked), ["preview", "switch"]);
        asked.auto_promotion_enabled = Some(false);
        asked.pre_promotion_analysis = Some(Analysis::default());
        asked.post_promotion_analysis = Some(Analysis::default());
        assert_eq!(
            names(&asked),
            [
                "preview",
                "pre-promotion-analysis",
                "promotion",
                "switch",
                "post-promotion-analysis"
            ]
        );
    }
}
