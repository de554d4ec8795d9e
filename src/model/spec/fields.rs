//! What the strategies' fields have in common.

use crate::api::strategy::{Analysis, Bake, Step};

use super::Faults;

/// A step by its name, for strategies whose fields become steps.
pub(super) fn named(name: &str) -> Step {
    Step {
        name: Some(name.to_owned()),
        ..Step::default()
    }
}

/// The step of an analysis, where one is written.
pub(super) fn judgement(name: &str, analysis: &Option<Analysis>) -> Option<Step> {
    analysis.clone().map(|a| Step {
        analysis: Some(a),
        ..named(name)
    })
}

/// The analyses that stand in fields of the strategy at `path`, with the path of each.
pub(super) fn of_fields<const N: usize>(
    path: &str,
    fields: [(&str, &Option<Analysis>); N],
) -> Vec<(String, Analysis)> {
    let fields = fields.into_iter();
    fields
        .filter_map(|(field, analysis)| Some((format!("{path}.{field}"), analysis.clone()?)))
        .collect()
}

/// How long a promoted revision must prove good, as it is written at `path`.
pub(super) fn bake(path: &str, bake: &Option<Bake>, faults: &mut Faults) -> Option<Bake> {
    let field = format!("{path}.bake.duration");
    let duration = bake.as_ref().map(|b| &b.duration);
    if faults.duration(&field, duration, 1).is_zero() {
        faults.add(
            field,
            "0s: must be above 0; leave bake out where nothing is to be proved",
        );
    }
    bake.clone()
}

/// The analysis of a bake.
pub(super) fn baked(bake: &Option<Bake>) -> Option<Analysis> {
    bake.as_ref().and_then(|b| b.analysis.clone())
}

/// How many old revisions keep their size, as it is written at `path`.
pub(super) fn revision_limit(path: &str, limit: Option<i32>, faults: &mut Faults) -> Option<usize> {
    if let Some(found) = limit.filter(|n| *n < 0) {
        let field = format!("{path}.scaleDownDelayRevisionLimit");
        faults.add(field, format!("{found}: must be 0 or more"));
    }
    limit.and_then(|n| usize::try_from(n).ok())
}
