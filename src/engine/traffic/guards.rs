//! Guards: what must hold before a weight is raised or lowered.

use crate::model::{
    desired::{Desired, Lowering},
    observed::Observed,
    revisions::Revision,
    share::{FULL, TRACE, need, percent},
    spec::Spec,
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
    wanted: u32,
) -> Option<Held> {
    let hold = |why: String| Some(Held::Capacity(why));
    let (Some(services), Some(roles)) = (&spec.course.services, &desired.roles) else {
        return hold("the role Services to be known".into());
    };
    if !observed.claimed() {
        return hold("the finalizer to be set".into());
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

/// S1 where the role Services come into the place of the user's: everything goes to stable, which serves no worse
/// by itself than all pods that the user's Service reaches.
pub(super) fn bind(spec: &Spec, desired: &Desired, observed: &Observed) -> Option<Held> {
    let hold = |why: String| Some(Held::Capacity(why));
    let (Some(services), Some(roles)) = (&spec.course.services, &desired.roles) else {
        return hold("the role Services to be known".into());
    };
    if !observed.claimed() {
        return hold("the finalizer to be set".into());
    }
    let (stable, hash) = (&services.stable, &roles.stable);
    if observed.selected(stable) != Some(hash.as_str()) {
        return hold(format!("Service {stable:?} to select revision {hash}"));
    }
    if !observed.services.contains_key(&services.canary) {
        return hold(format!("Service {:?} to exist", services.canary));
    }
    let ready = observed.ready_endpoints(stable, hash);
    let needed = need(FULL, spec.replicas);
    if ready >= needed {
        return None;
    }
    if !observed.live {
        return Some(Held::LookCloser);
    }
    let all: u32 = observed.revisions.iter().map(Revision::ready).sum();
    let needed = needed.min(all);
    if ready >= needed {
        return None;
    }
    let own = observed.revision(hash).map_or(0, Revision::ready);
    match desired.lowering {
        Lowering::AtOnce if own < needed => Some(Held::Rescue(format!(
            "stable has {ready} of {needed} pods ready, and users are served by all that there are"
        ))),
        _ => hold(format!(
            "{needed} ready endpoints of Service {stable:?}, {ready} so far"
        )),
    }
}

/// Whoever comes by the user's Service meets stable alone, and as many pods of it as now. Its endpoints are
/// watched by nobody: only a live look has them.
pub(super) fn unbind(spec: &Spec, desired: &Desired, observed: &Observed) -> Option<Held> {
    let hold = |why: String| Some(Held::Capacity(why));
    let (Some(services), Some(roles)) = (&spec.course.services, &desired.roles) else {
        return hold("the role Services to be known".into());
    };
    if !observed.live {
        return Some(Held::LookCloser);
    }
    let user = &services.user;
    let deleted = observed.deleting();
    if !observed.services.contains_key(user) && !deleted {
        return hold(format!("Service {user:?} to exist"));
    }
    let endpoints = observed.endpoints.get(user).into_iter().flatten();
    let others = endpoints.filter(|(hash, _)| **hash != roles.stable);
    if others.map(|(_, ready)| *ready).sum::<u32>() > 0 {
        return hold(format!("Service {user:?} to lose the endpoints of others"));
    }
    let own = observed.revision(&roles.stable).map_or(0, Revision::ready);
    let needed = need(FULL, spec.replicas).min(own);
    let ready = observed.ready_endpoints(user, &roles.stable);
    if ready < needed && !deleted {
        return hold(format!(
            "{needed} ready endpoints of Service {user:?}, {ready} so far"
        ));
    }
    None
}

/// The least share of the canary with which stable can bear the rest, in whole percents; none where that is not known.
pub(super) fn least(spec: &Spec, observed: &Observed) -> Option<u32> {
    let services = spec.course.services.as_ref()?;
    let ready = ready(observed, &services.stable).min(spec.replicas);
    let borne = (100 * u64::from(ready)).checked_div(spec.replicas.into())?;
    Some(FULL - percent(u32::try_from(borne).ok()?))
}

/// Ready endpoints of a Service. A view of them may lag behind a size that was lowered: no more of them stay
/// than are wanted.
fn ready(observed: &Observed, service: &str) -> u32 {
    observed.selected(service).map_or(0, |hash| {
        // Where its record was deleted, nobody scaled it.
        let wanted = observed.revision(hash).map_or(u32::MAX, |r| r.desired());
        observed.ready_endpoints(service, hash).min(wanted)
    })
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
    let ready = |service: &str| ready(observed, service);
    let away = |hash: &str| observed.selected(&services.stable) != Some(hash);
    let roles = desired.roles.as_ref().map(|r| r.stable.as_str());
    let (stable, canary) = match roles.filter(|hash| spec.switched() && away(hash)) {
        // The stable revision has no endpoints to count, and everything goes to what has.
        Some(hash) => {
            let available = observed.revision(hash).map_or(0, |r| r.available());
            (available, ready(&services.stable))
        }
        None => (ready(&services.stable), ready(&services.canary)),
    };
    let needed = need(FULL - wanted, spec.replicas);
    // The same pods serve by either Service, whatever the split.
    let one = observed.selected(&services.stable) == observed.selected(&services.canary);
    // Where stable gives up pods, a cache may not know of those that are gone.
    let known = observed.live || !spec.course.dynamic_stable;
    if known && (stable >= needed || one && stable >= canary) {
        return None;
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
    // Where stable serves nobody, its side is as bad before; those whom the canary serves count, if
    // it has more than a trace.
    let emptied = stable == 0 && canary > 0 && current > TRACE;
    if after.0 * before.1 >= before.0 * after.1 && !emptied {
        return None;
    }
    Some(match desired.lowering {
        // They are on their way.
        Lowering::NoWorse | Lowering::Gradual => Held::Capacity(format!(
            "{needed} ready endpoints of Service {:?}, {stable} so far",
            services.stable
        )),
        Lowering::AtOnce => Held::Rescue(format!(
            "stable has {stable} of {needed} pods ready and would serve worse than now"
        )),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::{Rollout, names::FINALIZER},
        model::{
            desired::Roles,
            object::Objects,
            observed::Current,
            revisions::{ReplicaSetView, Revision},
        },
    };

    /// Pods of a revision: hash and how many are available.
    type Pods = (&'static str, u32);
    /// A Service, what it selects, and its ready endpoints.
    type Selects = (&'static str, &'static str, u32);

    /// A world of 4 replicas.
    fn world(strategy: &Value, pods: &[Pods], services: &[Selects]) -> (Spec, Observed) {
        let rollout: Rollout = serde_json::from_value(json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "app", "finalizers": [FINALIZER]},
            "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "app"}},
                "template": {"metadata": {"labels": {"app": "app"}}}, "strategy": strategy},
        }))
        .expect("a Rollout");
        let revision = |(hash, available): &Pods| Revision {
            hash: (*hash).into(),
            number: 1,
            replica_set: Some(ReplicaSetView {
                seen: true,
                desired: 4,
                available: *available,
                ..ReplicaSetView::default()
            }),
            ..Revision::default()
        };
        let service = |(name, hash, _): &Selects| {
            let selector = json!({"spec": {"selector": {"pod-template-hash": hash}}});
            ((*name).to_owned(), selector)
        };
        let ready = |(name, hash, ready): &Selects| {
            let by_hash = BTreeMap::from([((*hash).to_owned(), *ready)]);
            ((*name).to_owned(), by_hash)
        };
        let observed = Observed {
            current: Current::Recorded("new".into()),
            revisions: pods.iter().map(revision).collect(),
            services: services.iter().map(service).collect(),
            endpoints: services.iter().map(ready).collect(),
            routes: Objects::new(),
            runs: vec![],
            templates: BTreeMap::new(),
            workload: None,
            troubles: vec![],
            refused: None,
            live: false,
            rollout: rollout.clone(),
        };
        (Spec::resolve(&rollout).expect("a spec"), observed)
    }

    fn canary() -> Value {
        json!({"canary": {"service": "app", "steps": [{"setWeight": 50}],
            "trafficRouting": {"gatewayAPI": {"httpRoutes": [{"name": "app"}]}}}})
    }

    fn wish(lowering: Lowering) -> Desired {
        Desired {
            roles: Some(Roles {
                stable: "old".into(),
                canary: "new".into(),
            }),
            lowering,
            ..Desired::default()
        }
    }

    #[test]
    fn a_weight_is_raised_when_both_pods_and_endpoints_bear_it() {
        let raised = |available: u32, endpoints: u32| {
            let pods = [("old", 4), ("new", available)];
            let services = [("app-stable", "old", 4), ("app-canary", "new", endpoints)];
            let (spec, observed) = world(&canary(), &pods, &services);
            raise(&spec, &wish(Lowering::NoWorse), &observed, percent(50))
        };
        let held = |why: &str| Some(Held::Capacity(why.to_owned()));
        assert_eq!(raised(2, 2), None);
        assert_eq!(raised(1, 2), held("2 available canary pods, 1 so far"));
        assert_eq!(
            raised(2, 1),
            held("2 ready endpoints of Service \"app-canary\", 1 so far")
        );
    }

    #[test]
    fn a_weight_is_lowered_when_stable_bears_the_rest() {
        let lowered = |stable: u32, lowering: Lowering, live: bool| {
            let pods = [("old", 4), ("new", 4)];
            let services = [("app-stable", "old", stable), ("app-canary", "new", 4)];
            let (spec, mut observed) = world(&canary(), &pods, &services);
            observed.live = live;
            lower(&spec, &wish(lowering), &observed, FULL, 0)
        };
        assert_eq!(lowered(4, Lowering::NoWorse, false), None);
        // What is cached does not suffice to say that it may go back.
        for lowering in [Lowering::NoWorse, Lowering::AtOnce] {
            assert_eq!(lowered(3, lowering, false), Some(Held::LookCloser));
        }
        assert!(matches!(
            lowered(3, Lowering::AtOnce, true),
            Some(Held::Rescue(_))
        ));
        assert!(matches!(
            lowered(3, Lowering::NoWorse, true),
            Some(Held::Capacity(_))
        ));
        assert_eq!(lowered(4, Lowering::AtOnce, true), None);
    }

    #[test]
    fn pods_that_are_no_longer_wanted_bear_nothing() {
        let pods = [("old", 4), ("new", 4)];
        let services = [("app-stable", "old", 4), ("app-canary", "new", 4)];
        let (spec, mut observed) = world(&canary(), &pods, &services);
        let old = observed.revisions.iter_mut().find(|r| r.hash == "old");
        let set = old.and_then(|r| r.replica_set.as_mut()).expect("it");
        set.desired = 0;
        let held = lower(&spec, &wish(Lowering::AtOnce), &observed, FULL, 0);
        assert_eq!(held, Some(Held::LookCloser));
        observed.live = true;
        let held = lower(&spec, &wish(Lowering::AtOnce), &observed, FULL, 0);
        assert!(matches!(held, Some(Held::Rescue(_))), "{held:?}");
    }

    #[test]
    fn what_is_given_up_goes_back_unless_stable_would_serve_worse() {
        let lowered = |stable: u32, canary: u32, from: u32| {
            let pods = [("old", 4), ("new", 4)];
            let services = [("app-stable", "old", stable), ("app-canary", "new", canary)];
            let (spec, mut observed) = world(&super::tests::canary(), &pods, &services);
            observed.live = true;
            let held = lower(&spec, &wish(Lowering::AtOnce), &observed, percent(from), 0);
            held.is_none()
        };
        // At 50 percent each side needs 2, all of it needs 4: the worse side counts.
        assert!(lowered(3, 1, 50), "3 of 4 rather than 1 of 2");
        assert!(lowered(2, 1, 50), "2 of 4 is no worse than 1 of 2");
        assert!(!lowered(1, 1, 50), "1 of 4 is worse than 1 of 2");
        assert!(!lowered(1, 2, 50), "1 of 4 is worse than 1 of 2");
        assert!(lowered(1, 0, 50), "1 of 4 rather than 0 of 2");
        assert!(!lowered(3, 4, 100), "3 of 4 is worse than 4 of 4");
        assert!(lowered(3, 3, 100));
        // Nothing is better than nothing, but not than half of something.
        assert!(lowered(0, 0, 50));
        assert!(!lowered(0, 2, 50));
        assert!(!lowered(0, 1, 50));
    }

    #[test]
    fn the_stable_service_takes_over_what_it_serves_no_worse() {
        let bound = |endpoints: u32, ready: [u32; 2], lowering, live| {
            let services = [("app-stable", "old", endpoints), ("app-canary", "old", 0)];
            let pods = [("old", ready[0]), ("new", ready[1])];
            let (spec, mut observed) = world(&canary(), &pods, &services);
            observed.live = live;
            for (revision, ready) in observed.revisions.iter_mut().zip(ready) {
                let set = revision.replica_set.as_mut().expect("it");
                set.ready = ready;
            }
            bind(&spec, &wish(lowering), &observed)
        };
        let (no_worse, at_once) = (Lowering::NoWorse, Lowering::AtOnce);
        assert_eq!(bound(4, [4, 4], no_worse, false), None);
        assert_eq!(
            bound(3, [3, 0], no_worse, false),
            Some(Held::LookCloser),
            "a cache may lag"
        );
        assert_eq!(bound(3, [3, 0], at_once, true), None, "all there are");
        let lags = bound(2, [3, 0], at_once, true);
        assert!(matches!(lags, Some(Held::Capacity(_))), "{lags:?}");
        let worse = bound(3, [3, 1], at_once, true);
        assert!(matches!(worse, Some(Held::Rescue(_))), "{worse:?}");
        assert!(matches!(
            bound(3, [3, 1], no_worse, true),
            Some(Held::Capacity(_))
        ));
        assert_eq!(bound(0, [0, 0], at_once, true), None, "nobody serves");
        // One that selects another revision takes nothing over.
        let services = [("app-stable", "new", 4), ("app-canary", "new", 4)];
        let (spec, observed) = world(&canary(), &[("old", 4), ("new", 4)], &services);
        let held = bind(&spec, &wish(at_once), &observed);
        assert!(matches!(held, Some(Held::Capacity(_))), "{held:?}");
    }

    #[test]
    fn the_users_service_comes_back_where_it_has_stable_alone() {
        let unbound = |of_stable: u32, of_others: u32, live| {
            let services = [("app-stable", "old", 4), ("app", "", 0)];
            let (spec, mut observed) = world(&canary(), &[("old", 4)], &services);
            observed.live = live;
            let set = observed.revisions[0].replica_set.as_mut().expect("it");
            set.ready = 4;
            let by_hash = [("old", of_stable), ("new", of_others)];
            let by_hash = by_hash.map(|(hash, n)| (hash.to_owned(), n));
            observed.endpoints.insert("app".into(), by_hash.into());
            unbind(&spec, &wish(Lowering::NoWorse), &observed)
        };
        assert_eq!(unbound(4, 0, true), None);
        assert_eq!(unbound(4, 0, false), Some(Held::LookCloser));
        assert!(matches!(unbound(4, 1, true), Some(Held::Capacity(_))));
        assert!(matches!(unbound(3, 0, true), Some(Held::Capacity(_))));
    }

    #[test]
    fn where_a_service_is_the_switch_stable_is_counted_by_its_pods() {
        let strategy = json!({"blueGreen": {"service": "app"}});
        let lowered = |selected: &'static str, old: u32, live: bool| {
            // One pod of the new revision is not ready.
            let ready = if selected == "none" { 0 } else { 3 };
            let services = [("app-active", selected, ready), ("app-preview", "new", 3)];
            let (spec, mut observed) = world(&strategy, &[("old", old), ("new", 3)], &services);
            observed.live = live;
            lower(&spec, &wish(Lowering::AtOnce), &observed, FULL, 0)
        };
        assert_eq!(lowered("new", 4, false), None, "no live look is needed");
        assert_eq!(lowered("new", 2, false), Some(Held::LookCloser));
        assert_eq!(lowered("new", 3, true), None, "3 of 4 is no worse");
        assert!(matches!(lowered("new", 2, true), Some(Held::Rescue(_))));
        // Somebody made it select what serves nobody.
        assert_eq!(lowered("none", 1, true), None);
    }
}
