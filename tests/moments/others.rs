//! What somebody else owns, wrote or changed.

use std::time::Duration;

use serde_json::{Value, json};
use serin::{
    engine::{self, plan},
    model::{
        object::{REPLICA_SET, SERVICE},
        observed::Observed,
        plan::{Action, Plan},
        progress::after,
    },
};

use super::{
    STAMP, Sight, before_the_weight, edit, last, moment, patches, stands, status, waits_for,
    writes_weight,
};

/// How many pods another revision has may be known late: before one more is made, its size is fenced off.
#[test]
fn a_first_deploy_counts_on_no_size_that_may_still_change() {
    let newer = |s: &Sight| {
        let set = |version: &str| {
            let mut all = s.observed.revisions.iter();
            let of = all.find(|r| r.template.to_string().contains(version));
            of.and_then(|r| r.replica_set.as_ref())
        };
        let recorded = s.observed.revisions.len() == 2;
        recorded && set("app:v1").is_some_and(|s| s.desired > 0) && set("app:v2").is_none()
    };
    let (observed, at) = moment("first-deploy-changed-by-pods", newer);
    let decided = plan(&observed, at);
    assert_eq!(waits_for(&decided), "earlier decisions to be fenced off");
    let made =
        |a: &Action| matches!(a, Action::Create { object, .. } if object.kind == REPLICA_SET);
    assert!(!decided.actions.iter().any(made), "{:?}", decided.actions);
    let old = observed.revisions[0].replica_set.as_ref().expect("it");
    // Its record has the same name.
    let mut stamped = patches(&decided).into_iter();
    assert!(stamped.any(|(n, paths)| n == old.name && paths.contains(&STAMP.to_owned())));
}

#[test]
fn a_service_of_somebody_else_is_told_and_left_alone() {
    let (observed, at) = moment("older-drains-on", before_the_weight);
    assert_eq!(engine::faults(&observed).wrong, []);
    let owners = json!([{"uid": "uid-other", "kind": "Rollout", "name": "app"}]);
    for metadata in [
        json!({"name": "app-canary"}),
        json!({"name": "app-canary", "ownerReferences": owners}),
    ] {
        let mut foreign = observed.clone();
        let service = foreign.services.get_mut("app-canary").expect("it");
        service["metadata"] = metadata;
        service["spec"]["ports"] = json!([]);
        let wrong = engine::faults(&foreign).wrong;
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(
            wrong[0].message.contains("belongs to somebody else"),
            "{wrong:?}"
        );
        let decided = plan(&foreign, at);
        assert_eq!(decided.status.phase.as_deref(), Some("Degraded"));
        let patched = patches(&decided);
        assert!(
            patched.iter().all(|(name, _)| name != "app-canary"),
            "{patched:?}"
        );
        // Without an identity of its own nothing can be its own.
        foreign.rollout.metadata.uid = None;
        foreign.services.get_mut("app-stable").expect("it")["metadata"]["ownerReferences"] =
            json!([{}]);
        assert_eq!(engine::faults(&foreign).wrong.len(), 2);
    }
}

#[test]
fn what_others_made_of_objects_is_brought_back() {
    let (observed, at) = last("older-drains-on");
    assert_eq!(plan(&observed, at).actions, []);
    let mut service = observed.clone();
    let user = service.services.get_mut("app").expect("it");
    user["spec"]["ports"] = json!([{"port": 81, "nodePort": 30_000}]);
    let followed = plan(&service, at).actions;
    let to = |action: &Action| match action {
        Action::Patch { target, operations } if target.object.kind == SERVICE => {
            operations[0]["value"].clone()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        followed.iter().map(to).collect::<Vec<_>>(),
        vec![json!([{"port": 81}]); 2]
    );

    let mut scaled = observed.clone();
    let stable = status(&observed).stable_revision.expect("one");
    let set = scaled
        .revisions
        .iter_mut()
        .find(|r| r.hash == stable)
        .expect("it");
    let set = set.replica_set.as_mut().expect("pods");
    (set.desired, set.current, set.ready, set.available) = (3, 3, 3, 3);
    let back = plan(&scaled, at).actions;
    let grown = |a: &Action| matches!(a, Action::Scale { target, replicas: 4, .. } if target.object.kind == REPLICA_SET);
    assert!(back.iter().any(grown), "{back:?}");
}

/// Who wrote what of a route, as the API server keeps it.
fn managed(observed: &mut Observed, managers: &[(&str, &str, Value)]) {
    let entry = |(manager, time, fields): &(&str, &str, Value)| json!({"manager": manager, "time": time, "fieldsV1": fields});
    let all: Vec<Value> = managers.iter().map(entry).collect();
    let route = observed.routes.values_mut().next().expect("a route");
    route["metadata"]["managedFields"] = json!(all);
}

#[test]
fn at_rest_the_route_is_its_appliers_alone() {
    let rules = json!({"f:spec": {"f:rules": {}}});
    let managers = [
        ("serin", "1", rules.clone()),
        ("kubectl", "2", rules.clone()),
        ("serin", "3", json!({"f:metadata": {}})),
        ("serin", "4", rules.clone()),
    ];
    let (mut observed, at) = last("promote");
    managed(&mut observed, &managers);
    let removed = |n: usize| format!("/metadata/managedFields/{n}");
    let wanted = [("app".to_owned(), vec![removed(3), removed(0)])];
    assert_eq!(
        patches(&plan(&observed, at)),
        wanted,
        "the last first, so that places stay"
    );
    managed(&mut observed, &managers[1..3]);
    assert_eq!(plan(&observed, at).actions, []);
    let (mut flight, at) = last("commands-at-first-sight");
    managed(&mut flight, &managers);
    assert_eq!(plan(&flight, at).actions, [], "in flight it is ours");
}

#[test]
fn who_changed_the_weights_last_is_named() {
    let (mut observed, at) = last("commands-at-first-sight");
    let rules = json!({"f:spec": {"f:rules": {}}});
    let managers = [
        ("flux", "2026-01-01T00:00:01Z", rules.clone()),
        ("argocd", "2026-01-01T00:00:03Z", rules.clone()),
        ("helm", "2026-01-01T00:00:02Z", rules.clone()),
        ("gateway", "2026-01-01T00:00:04Z", json!({"f:status": {}})),
        ("serin", "2026-01-01T00:00:05Z", rules),
    ];
    managed(&mut observed, &managers);
    let route = observed.routes.values_mut().next().expect("a route");
    for (backend, weight) in [(0, 20), (1, 80)] {
        route["spec"]["rules"][0]["backendRefs"][backend]["weight"] = json!(weight);
    }
    let decided = plan(&observed, at);
    assert!(writes_weight(&decided));
    let told = decided
        .status
        .history
        .iter()
        .rev()
        .find(|h| h.reason == "RouteRepaired");
    assert_eq!(
        told.map(|h| h.message.as_str()),
        Some("field manager \"argocd\" set the canary's weight to 80, it is put back to 50")
    );
}

#[test]
fn services_of_others_are_awaited_and_only_their_selectors_are_written() {
    let (mut observed, at) = moment("older-drains-on", |s| stands(s, "Starting", 0, 0));
    let canary = observed.rollout.spec.strategy.canary.as_mut();
    canary.expect("a canary").shared = true;
    for service in observed.services.values_mut() {
        service["metadata"]["ownerReferences"] = json!([]);
    }
    let turned = patches(&plan(&observed, at));
    let paths = |name: &str| {
        turned
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, p)| p.clone())
    };
    assert_eq!(
        paths("app-canary").expect("it turns")[0],
        "/spec/selector",
        "{turned:?}"
    );
    let mut drifted = observed.clone();
    drifted.services.get_mut("app-stable").expect("it")["spec"]["ports"] = json!([]);
    let turned = patches(&plan(&drifted, at));
    let ports = |(_, paths): &(String, Vec<String>)| paths.iter().any(|p| p == "/spec/ports");
    assert!(!turned.iter().any(ports), "{turned:?}");
    for name in ["app-stable", "app-canary"] {
        let mut missing = observed.clone();
        missing.services.remove(name);
        let found = engine::faults(&missing).missing;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(name), "{found:?}");
        let made =
            |a: &Action| matches!(a, Action::Create { object, .. } if object.kind == SERVICE);
        assert!(!plan(&missing, at).actions.iter().any(made));
    }
    // The user's own is not needed then.
    let mut alone = observed;
    alone.services.remove("app");
    assert_eq!(engine::faults(&alone).missing, Vec::<String>::new());
}

/// What is let go of is never straightened again, and another process may have bent it since.
#[test]
fn a_rollout_is_let_go_of_by_a_live_look_only() {
    let deleted = |s: &Sight| {
        let held = s.rollout.metadata.finalizers.iter().flatten().count() > 0;
        let straight = s
            .rollout
            .status
            .as_ref()
            .is_some_and(|s| s.attempt.as_ref().is_some_and(|a| a.stage == "Done"));
        s.rollout.metadata.deletion_timestamp.is_some() && held && straight
    };
    let (mut observed, at) = moment("delete-mid-flight", deleted);
    let lets_go = |plan: &Plan| plan.actions.contains(&Action::Release);
    observed.live = true;
    let live = plan(&observed, at);
    assert!(lets_go(&live) && !live.look_closer, "{:?}", live.actions);
    observed.live = false;
    let cached = plan(&observed, at);
    assert!(
        !lets_go(&cached) && cached.look_closer,
        "{:?}",
        cached.actions
    );
}

/// A cache may not know the pods that an earlier process made, and `maxSurge` limits their sum.
#[test]
fn pods_that_are_the_weight_are_added_by_a_live_look_only() {
    let began = |s: &Sight| stands(s, "Stepping", 0, 0);
    let (mut observed, at) = moment("pods-as-weight", began);
    let made =
        |a: &Action| matches!(a, Action::Create { object, .. } if object.kind == REPLICA_SET);
    observed.live = true;
    let live = plan(&observed, at);
    assert!(live.actions.iter().any(made), "{:?}", live.actions);
    assert!(!live.look_closer);
    observed.live = false;
    assert!(plan(&observed, at).look_closer);
    // The way back waits for nothing that an API server may refuse.
    let back = edit(&mut observed);
    back.attempt.as_mut().expect("one").stage = "RollingBack".to_owned();
    assert!(!plan(&observed, at).look_closer);
    let (mut routed, at) = moment("abort", |s| stands(s, "Starting", 0, 0));
    routed.live = false;
    assert!(!plan(&routed, at).look_closer, "traffic is the weight here");
}

#[test]
fn a_restart_is_what_its_record_tells() {
    let (observed, _) = last("restart");
    let fresh = observed.revisions.iter().find(|r| r.restarted());
    let fresh = fresh.expect("a record");
    let told = (fresh.verdict.as_str(), fresh.verdict_by.as_deref());
    assert_eq!(told, ("Promoted", Some("restart")));
}

/// The weight is in force; what is awaited are the objects that something cancelled may still touch.
#[test]
fn the_way_back_names_the_fence_that_it_waits_for() {
    let (mut observed, at) = last("abort");
    let live = edit(&mut observed);
    let attempt = live.attempt.as_mut().expect("one");
    attempt.stage = "RollingBack".to_owned();
    let decision = live.decision.as_mut().expect("one");
    decision.fence = decision.sequence + 1;
    let decided = plan(&observed, at);
    assert_eq!(waits_for(&decided), "earlier decisions to be fenced off");
}

/// Whoever cannot create an AnalysisRun is told "no": then nothing judges, and nothing goes on.
#[test]
fn nothing_goes_on_that_no_run_judges() {
    let name = "promote-full-past-a-background-that-cannot-say";
    let judged = |s: &Sight| stands(s, "Stepping", 0, 50) && !s.observed.runs.is_empty();
    let (observed, at) = moment(name, judged);
    let at = after(at, Duration::from_secs(60));
    assert_eq!(step(&plan(&observed, at)), 1);

    let mut unjudged = observed.clone();
    unjudged.runs.clear();
    let mut decided = plan(&unjudged, at);
    assert_eq!(step(&decided), 0);
    let waits = waits_for(&decided);
    assert!(waits.ends_with("-2-background to be created"), "{waits}");
    unjudged.rollout.status = Some(decided.status);

    // The deadline counts from when that was told.
    let deadline = |seconds| after(at, Duration::from_secs(seconds));
    assert_eq!(
        plan(&unjudged, deadline(599)).status.phase.as_deref(),
        Some("Progressing")
    );
    decided = plan(&unjudged, deadline(601));
    assert_eq!(decided.status.phase.as_deref(), Some("Degraded"));

    // Whoever was told may do without it.
    let analysis = |plan: &Plan| {
        plan.status
            .attempt
            .as_ref()
            .is_some_and(|a| a.analysis.is_some())
    };
    for told in [true, false] {
        let mut promoted = if told {
            unjudged.clone()
        } else {
            observed.clone()
        };
        let hash = status(&promoted).attempt.expect("an attempt").hash;
        let command = ("serin.dev/promote-full".to_owned(), format!("{hash}/9"));
        promoted.rollout.metadata.annotations = Some([command].into());
        assert_eq!(analysis(&plan(&promoted, at)), !told);
    }
}

/// Nor does a step wait in silence for a run that is not created.
#[test]
fn a_run_of_a_step_that_is_not_there_is_told_and_has_a_deadline() {
    let measures = |s: &Sight| stands(s, "Stepping", 1, 50) && !s.observed.runs.is_empty();
    let (mut observed, at) = moment("not-accepted-in-an-analysis", measures);
    observed.runs.clear();
    let told = |observed: &Observed, seconds| {
        let plan = plan(observed, after(at, Duration::from_secs(seconds)));
        let phase = plan.status.phase.clone().unwrap_or_default();
        (plan.status.clone(), waits_for(&plan), phase)
    };
    // It ran for long before it was lost.
    let (status, waits, phase) = told(&observed, 3000);
    assert!(waits.ends_with("-2-1 to be created"), "{waits}");
    assert_eq!(phase, "Progressing");
    observed.rollout.status = Some(status);
    assert_eq!(told(&observed, 3599).2, "Progressing");
    assert_eq!(told(&observed, 3601).2, "Degraded");
}

fn step(plan: &Plan) -> i32 {
    plan.status.attempt.as_ref().map_or(-1, |a| a.step_index)
}
