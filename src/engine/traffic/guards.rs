//! Guards: what must hold before a weight is raised or lowered.

use crate::model::{
    desired::Desired,
    observed::Observed,
    share::{FULL, need},
    spec::Spec,
    traffic::Written,
};

/// Why the weight does not go where it should.
#[derive(Debug, PartialEq, Eq)]
pub enum Held {
    /// There are not enough pods yet.
    Capacity(String),
    /// The cached view does not allow it; a live one might.
    LookCloser,
    /// Stable would serve worse than what serves now.
    Rescue(String),
}

/// S1: no weight to a void. Absolute, so a cached view is good enough.
pub(super) fn raise(
    spec: &Spec,
    desired: &Desired,
    observed: &Observed,
    written: &Written,
    wanted: u32,
    fence: i64,
) -> Option<Held> {
    let hold = |why: String| Some(Held::Capacity(why));
    let (Some(services), Some(roles)) = (&spec.course.services, &desired.roles) else {
        return hold("the role Services to be known".into());
    };
    let claimed = observed
        .rollout
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|f| f == crate::api::names::FINALIZER);
    if !claimed {
        return hold("the finalizer to be set".into());
    }
    if written.decision < fence {
        return hold("earlier decisions to be fenced off".into());
    }
    if observed.selected(&services.canary) != Some(roles.canary.as_str()) {
        return hold(format!(
            "Service {:?} to select revision {}",
            services.canary, roles.canary
        ));
    }
    let needed = need(wanted, spec.replicas);
    let available = observed
        .revision(&roles.canary)
        .map_or(0, |r| r.available());
    let endpoints = observed.ready_endpoints(&services.canary, &roles.canary);
    if available < needed {
        return hold(format!(
            "{needed} available {} pods, {available} so far",
            spec.course.words.canary
        ));
    }
    if endpoints < needed {
        return hold(format!(
            "{needed} ready endpoints of Service {:?}, {endpoints} so far",
            services.canary
        ));
    }
    None
}

/// S1 for stable. Where stable cannot bear its share by itself, traffic still goes back to it as
/// long as it serves no worse than what serves now; that is relative, hence needs a live view.
pub(super) fn lower(
    spec: &Spec,
    desired: &Desired,
    observed: &Observed,
    current: u32,
    wanted: u32,
) -> Option<Held> {
    let Some(services) = &spec.course.services else {
        return Some(Held::Capacity("the role Services".into()));
    };
    let ready = |service: &str| {
        observed
            .selected(service)
            .map_or(0, |hash| observed.ready_endpoints(service, hash))
    };
    // Where the stable Service selects another revision, the stable one has no endpoints to count.
    let away = |hash: &str| observed.selected(&services.stable) != Some(hash);
    let roles = desired.roles.as_ref().map(|r| r.stable.as_str());
    let stable = match roles.filter(|hash| spec.switched() && away(hash)) {
        Some(hash) => observed.revision(hash).map_or(0, |r| r.available()),
        None => ready(&services.stable),
    };
    let canary = ready(&services.canary);
    let needed = need(FULL - wanted, spec.replicas);
    if stable >= needed {
        return None;
    }
    if !desired.retreat {
        return Some(Held::Capacity(format!(
            "{needed} ready endpoints of Service {:?}, {stable} so far",
            services.stable
        )));
    }
    if !observed.live {
        return Some(Held::LookCloser);
    }
    let serves = |share: u32| {
        [
            (stable, need(FULL - share, spec.replicas)),
            (canary, need(share, spec.replicas)),
        ]
        .into_iter()
        .filter(|(_, needed)| *needed > 0)
        .map(|(ready, needed)| (u64::from(ready.min(needed)), u64::from(needed)))
        .min_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)))
        .unwrap_or((1, 1))
    };
    let (before, after) = (serves(current), serves(wanted));
    (after.0 * before.1 < before.0 * after.1).then(|| {
        Held::Rescue(format!(
            "stable has {stable} of {needed} pods ready and would serve worse than now: \
             mend stable, or promote the canary with promote-full"
        ))
    })
}
