//! Rolling: all pods replaced, some at a time, in the words of steps.

use crate::api::strategy::{Analysis, BackgroundAnalysis, Rolling, Step};

use super::{
    Course, Faults,
    canary::WORDS,
    fields::{bake, baked, judgement, named, of_fields},
    surge::surge,
};

const PATH: &str = "spec.strategy.rolling";

/// What a rolling update makes of what is written: a canary whose pods are its weight, with one step.
pub(super) fn course(rolling: &Rolling, replicas: u32, faults: &mut Faults) -> Course {
    let (max_surge, max_unavailable) = surge(
        PATH,
        &rolling.max_surge,
        &rolling.max_unavailable,
        replicas,
        faults,
    );
    let delay = std::time::Duration::ZERO;
    Course {
        path: PATH,
        words: WORDS,
        services: None,
        routing: None,
        max_surge,
        max_unavailable,
        idle_pods: 0,
        min_pods: 0,
        dynamic_stable: false,
        scale_down_delay: delay,
        abort_scale_down_delay: delay,
        scale_down_delay_revision_limit: None,
        steps: steps(rolling),
        analysis: rolling.analysis.clone().map(|a| BackgroundAnalysis {
            templates: a.templates,
            starting_step: None,
            args: a.args,
        }),
        bake: bake(PATH, &rolling.bake, faults),
        analyses: analyses(rolling),
    }
}

/// The way of a rolling attempt: every pod, then judgement.
fn steps(rolling: &Rolling) -> Vec<Step> {
    let all = Step {
        set_weight: Some(100),
        ..named("replace")
    };
    let judgement = judgement("post-promotion-analysis", &rolling.post_promotion_analysis);
    [Some(all), judgement].into_iter().flatten().collect()
}

fn analyses(rolling: &Rolling) -> Vec<(String, Analysis)> {
    of_fields(
        PATH,
        [
            ("analysis", &rolling.analysis),
            ("postPromotionAnalysis", &rolling.post_promotion_analysis),
            ("bake.analysis", &baked(&rolling.bake)),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pod_and_then_judgement() {
        let names = |r: &Rolling| -> Vec<String> {
            let steps = steps(r);
            steps.into_iter().filter_map(|s| s.name).collect()
        };
        let mut asked = Rolling::default();
        assert_eq!(names(&asked), ["replace"]);
        asked.post_promotion_analysis = Some(Analysis::default());
        assert_eq!(names(&asked), ["replace", "post-promotion-analysis"]);
        let paths: Vec<String> = analyses(&asked).into_iter().map(|(p, _)| p).collect();
        assert_eq!(paths, ["spec.strategy.rolling.postPromotionAnalysis"]);
    }
}
