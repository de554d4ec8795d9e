//! Moments that no timeline shows: a look at the world in the middle of a scenario, one thing in it
//! changed, and what is decided then. And what a status tells, held against that look.

#![allow(clippy::panic, reason = "a test that cannot read its data says so")]

mod adopted;
mod others;
#[path = "../support/sights.rs"]
mod sights;
mod told;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use serin::{
    api::{Rollout, RolloutStatus, names::DECISION},
    engine::{self, plan},
    model::{
        object::ObjectRef,
        observed::{Current, Observed},
        plan::{Action, Plan, Requeue},
        share::percent,
        spec::Spec,
    },
};
use sights::{Sight, play, scenarios};

/// The first sight of a scenario of which `is` holds.
fn moment(scenario: &str, is: impl Fn(&Sight) -> bool) -> (Observed, Timestamp) {
    let all = scenarios();
    let (_, found) = all
        .iter()
        .find(|(name, _)| name == scenario)
        .expect(scenario);
    let sights = play(found).0;
    let sight = sights.into_iter().find(is).expect("there is such a moment");
    (sight.observed, sight.at)
}

fn last(scenario: &str) -> (Observed, Timestamp) {
    let all = scenarios();
    let (_, found) = all
        .iter()
        .find(|(name, _)| name == scenario)
        .expect(scenario);
    let sight = play(found).0.pop().expect("something was seen");
    (sight.observed, sight.at)
}

fn status(observed: &Observed) -> RolloutStatus {
    observed.rollout.status.clone().expect("a status")
}

fn edit(observed: &mut Observed) -> &mut RolloutStatus {
    observed.rollout.status.as_mut().expect("a status")
}

/// At a stage, at a step, and with this share of the traffic served.
fn stands(sight: &Sight, stage: &str, step: i32, served: u32) -> bool {
    let attempt = sight
        .rollout
        .status
        .as_ref()
        .and_then(|s| s.attempt.as_ref());
    attempt.is_some_and(|a| a.stage == stage && a.step_index == step)
        && sight.served == percent(served)
}

/// The canary has its pods, and no weight is written yet.
fn before_the_weight(sight: &Sight) -> bool {
    let route = sight.observed.routes.values().next();
    let canary = route.and_then(|r| r.pointer("/spec/rules/0/backendRefs/1/weight"));
    stands(sight, "Stepping", 0, 0) && sight.ready == 2 && canary == Some(&json!(0))
}

/// The objects that a plan patches, each with what it writes, in order.
fn patches(plan: &Plan) -> Vec<(String, Vec<String>)> {
    let path = |o: &Value| {
        o.get("path")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let of = |action: &Action| match action {
        Action::Patch { target, operations } => Some((
            target.object.name.clone(),
            operations.iter().map(path).collect(),
        )),
        _ => None,
    };
    plan.actions.iter().filter_map(of).collect()
}

fn writes_weight(plan: &Plan) -> bool {
    let weight = |(_, paths): &(String, Vec<String>)| paths.iter().any(|p| p.ends_with("/weight"));
    patches(plan).iter().any(weight)
}

fn waits_for(plan: &Plan) -> String {
    plan.status
        .waiting
        .as_ref()
        .map_or(String::new(), |w| w.for_.clone())
}

fn number(object: &mut Value, decision: i64) {
    object["metadata"]["annotations"][DECISION] = json!(decision.to_string());
}

const STAMP: &str = "/metadata/annotations/serin.dev~1decision";

#[test]
fn no_weight_is_raised_without_endpoints_and_that_is_said() {
    let (observed, at) = moment("older-drains-on", before_the_weight);
    assert!(writes_weight(&plan(&observed, at)));
    let mut lacking = observed.clone();
    lacking.endpoints.remove("app-canary");
    let decided = plan(&lacking, at);
    assert!(!writes_weight(&decided));
    assert_eq!(
        waits_for(&decided),
        "2 ready endpoints of Service \"app-canary\", 0 so far"
    );

    // The deadline tells of that, too, not of a weight that was never written.
    let mut late = lacking.clone();
    late.rollout.status = Some(decided.status);
    let passed = plan(&late, at + jiff::SignedDuration::from_hours(1)).status;
    assert_eq!(
        passed.message.as_deref(),
        Some(
            "no progress for 10m: waiting for 2 ready endpoints of Service \"app-canary\", 0 so far"
        )
    );

    // Where no pods are wanted, that says it all.
    lacking.rollout.spec.replicas = 0;
    assert_eq!(
        waits_for(&plan(&lacking, at)),
        "spec.replicas to be above 0"
    );

    let mut unclaimed = observed.clone();
    unclaimed.rollout.metadata.finalizers = None;
    let decided = plan(&unclaimed, at);
    assert!(!writes_weight(&decided));
    assert_eq!(waits_for(&decided), "the finalizer to be set");
}

#[test]
fn nothing_is_raised_before_what_was_cancelled_is_fenced_off() {
    let (mut observed, at) = moment("older-drains-on", before_the_weight);
    let next = status(&observed).decision.expect("one").sequence + 1;
    edit(&mut observed).decision.as_mut().expect("one").fence = next;
    let decided = plan(&observed, at);
    assert!(!writes_weight(&decided));
    assert_eq!(waits_for(&decided), "earlier decisions to be fenced off");
    let stamped = patches(&decided);
    let route = stamped
        .iter()
        .find(|(name, _)| name == "app")
        .expect("the route is stamped");
    assert_eq!(route.1.last().map(String::as_str), Some(STAMP));
    number(observed.routes.values_mut().next().expect("a route"), next);
    assert!(writes_weight(&plan(&observed, at)));
}

#[test]
fn what_may_still_land_is_fenced_off_first_but_the_way_back_waits_for_nothing() {
    let late = |observed: &mut Observed| {
        let decision = edit(observed).decision.as_mut().expect("one");
        decision.sequence = 99;
        decision.effect = serde_json::from_value(json!({
            "kind": "Service", "name": "app-canary", "decision": 99,
        }))
        .expect("an effect");
    };
    let (mut observed, at) = moment("older-drains-on", before_the_weight);
    late(&mut observed);
    let decided = plan(&observed, at);
    assert!(!writes_weight(&decided), "the way up waits");
    assert_eq!(
        patches(&decided),
        [("app-canary".to_owned(), vec![STAMP.to_owned()])]
    );

    // Another write of the same round does not stand in for the stamp, unless it is of that object.
    let mut more = observed.clone();
    more.rollout.spec.min_ready_seconds = Some(1);
    let patched: Vec<String> = patches(&plan(&more, at))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(patched.contains(&"app-canary".to_owned()), "{patched:?}");
    assert!(patched.len() > 1, "{patched:?}");
    let mut drifted = observed.clone();
    drifted.services.get_mut("app-canary").expect("it")["spec"]["ports"] = json!([]);
    let patched = patches(&plan(&drifted, at));
    assert_eq!(
        patched,
        [("app-canary".to_owned(), vec!["/spec/ports".to_owned()])]
    );

    // It has landed.
    number(observed.services.get_mut("app-canary").expect("it"), 99);
    assert!(writes_weight(&plan(&observed, at)));

    // A rule that lags behind the others is raised to them: that is no way back.
    let (mut observed, at) = last("commands-at-first-sight");
    let route = observed.routes.values_mut().next().expect("a route");
    let mut rule = route["spec"]["rules"][0].clone();
    rule["backendRefs"][0]["weight"] = json!(90);
    rule["backendRefs"][1]["weight"] = json!(10);
    let rules = route["spec"]["rules"].as_array_mut().expect("rules");
    rules.push(rule);
    assert!(writes_weight(&plan(&observed, at)));
    late(&mut observed);
    assert!(!writes_weight(&plan(&observed, at)));

    let (mut observed, at) = moment("older-drains-on", |s| stands(s, "RollingBack", 1, 50));
    late(&mut observed);
    // As it was before the way back began.
    let route = observed.routes.values_mut().next().expect("a route");
    for (backend, weight) in [(0, 50), (1, 50)] {
        route["spec"]["rules"][0]["backendRefs"][backend]["weight"] = json!(weight);
    }
    assert!(writes_weight(&plan(&observed, at)), "the way back does not");
}

#[test]
fn faults_are_told_all_at_once() {
    let (observed, _) = last("commands-at-first-sight");
    let sound = engine::faults(&observed);
    assert_eq!((sound.wrong, sound.missing), (vec![], vec![]));
    assert_eq!(sound.share, Some(percent(50)));
    assert_eq!(sound.course.expect("a course").steps.len(), 2);

    let mut missing = observed.clone();
    missing.routes.clear();
    missing.services.remove("app");
    let found = engine::faults(&missing);
    assert_eq!(found.share, None);
    assert_eq!(found.missing.len(), 2, "{:?}", found.missing);

    let mut wrong = observed.clone();
    wrong.rollout.spec.strategy = serde_json::from_value(json!({})).expect("none");
    let found = engine::faults(&wrong);
    assert_eq!(found.wrong[0].path, "spec.strategy");
    assert_eq!(found.course, None);
}

#[test]
fn all_that_must_be_looked_at_is_named() {
    let (observed, _) = moment("older-drains-on", before_the_weight);
    let spec = Spec::resolve(&observed.rollout).expect("a spec");
    let references = engine::references(&spec);
    let routes: Vec<&ObjectRef> = references.routes.iter().collect();
    assert_eq!(routes, observed.routes.keys().collect::<Vec<_>>());
    for service in ["app", "app-stable", "app-canary"] {
        assert!(
            references.services.contains(&service.to_owned()),
            "{service}"
        );
    }
}

#[test]
fn a_stage_of_a_newer_serin_is_not_touched() {
    let (mut observed, at) = last("promote");
    edit(&mut observed).attempt.as_mut().expect("one").stage = "Dancing".into();
    let decided = plan(&observed, at);
    assert_eq!(decided.actions, []);
    assert_eq!(decided.status.phase.as_deref(), Some("Degraded"));
    let message = decided.status.message.unwrap_or_default();
    assert!(
        message.contains("\"Dancing\" is unknown to this version"),
        "{message}"
    );
}

#[test]
fn nor_is_one_in_flight() {
    let (mut observed, at) = moment("foreign-weight-held", |s| stands(s, "Stepping", 1, 50));
    let before = status(&observed).attempt.expect("one").number;
    edit(&mut observed).attempt.as_mut().expect("one").stage = "Dancing".into();
    let decided = plan(&observed, at);
    assert_eq!(decided.actions, []);
    let attempt = decided.status.attempt.expect("one");
    assert_eq!(
        (attempt.number, attempt.stage.as_str()),
        (before, "Dancing")
    );
}

#[test]
fn where_rules_disagree_none_is_raised_to_a_canary_without_pods() {
    let (mut observed, at) = moment("foreign-weight-held", |s| stands(s, "Stepping", 1, 50));
    let route = observed.routes.values_mut().next().expect("a route");
    let rules = route["spec"]["rules"].as_array_mut().expect("rules");
    let mut second = rules[0].clone();
    second["backendRefs"][0]["weight"] = json!(100);
    second["backendRefs"][1]["weight"] = json!(0);
    rules.push(second);
    assert!(writes_weight(&plan(&observed, at)), "it is put right");
    observed.endpoints.remove("app-canary");
    let decided = plan(&observed, at);
    let written: Vec<&Value> = decided
        .actions
        .iter()
        .filter_map(|a| match a {
            Action::Patch { operations, .. } => Some(operations),
            _ => None,
        })
        .flatten()
        .filter(|o| o["path"].as_str().is_some_and(|p| p.ends_with("1/weight")))
        .map(|o| &o["value"])
        .collect();
    assert!(
        !written.is_empty() && written.iter().all(|w| **w == json!(0)),
        "all goes to stable: {written:?}"
    );
}

#[test]
fn nothing_begins_for_a_revision_that_is_not_there() {
    let (mut observed, at) = last("first-deploy-changed");
    let before = status(&observed).attempt.expect("one").number;
    for current in [
        Current::Recorded("unknown".into()),
        Current::New("unknown".into()),
    ] {
        observed.current = current;
        let after = plan(&observed, at).status.attempt.expect("one").number;
        assert_eq!(after, before);
    }
}

#[test]
fn before_there_is_a_stable_revision_it_says_what_is_awaited() {
    let first = |s: &Sight| {
        let attempt = s.rollout.status.as_ref().and_then(|s| s.attempt.as_ref());
        attempt.is_some_and(|a| a.stage == "Deploying")
            && s.observed.revisions[0].replica_set.is_none()
    };
    let (mut observed, at) = moment("older-drains-on", first);
    assert_eq!(waits_for(&plan(&observed, at)), "the first ReplicaSet");
    observed.revisions.clear();
    edit(&mut observed).attempt = None;
    assert_eq!(
        waits_for(&plan(&observed, at)),
        "the first revision to be recorded"
    );
    let (mut observed, at) = last("commands-at-first-sight");
    edit(&mut observed).stable_revision = None;
    edit(&mut observed).attempt.as_mut().expect("one").stage = "Stepping".into();
    assert_eq!(
        waits_for(&plan(&observed, at)),
        "a stable revision to be known"
    );
}

#[test]
fn revisions_are_numbered_and_remember_what_became_of_them() {
    let verdicts = |scenario: &str| -> Vec<(i64, String)> {
        let (observed, at) = last(scenario);
        assert_eq!(plan(&observed, at).actions, [], "{scenario} is at rest");
        let of = |r: &serin::model::revisions::Revision| (r.number, r.verdict.clone());
        observed.revisions.iter().map(of).collect()
    };
    let both = |second: &str| vec![(1, "Promoted".to_owned()), (2, second.to_owned())];
    assert_eq!(verdicts("abort"), both("Aborted: Aborted"));
    assert_eq!(verdicts("errors"), both("RolledBack: AnalysisFailed"));
    assert_eq!(verdicts("revert"), both("Reverted: Reverted"));
    assert_eq!(verdicts("promote"), both("Promoted"));
    let kept: Vec<i64> = verdicts("history-limit")
        .into_iter()
        .map(|(n, _)| n)
        .collect();
    assert_eq!(kept, [3, 4]);
}

#[test]
fn pods_that_are_gone_are_not_written_to() {
    let (mut observed, at) = last("pods-as-weight-supersede");
    assert_eq!(plan(&observed, at).actions, []);
    let decision = edit(&mut observed).decision.as_mut().expect("one");
    decision.fence = decision.sequence + 1;
    let stamped = patches(&plan(&observed, at));
    let stable = status(&observed).stable_revision.expect("one");
    assert_eq!(stamped.len(), 1, "{stamped:?}");
    assert_eq!(stamped[0].0, format!("app-{stable}"));

    let is = |s: &Sight| {
        let attempt = s.rollout.status.clone().and_then(|s| s.attempt);
        attempt.is_some_and(|a| a.stage == "Deploying" && a.number == 3)
            && s.observed.revisions[1].desired() == 0
    };
    let (mut observed, at) = moment("first-deploy-changed", is);
    let gone = format!("app-{}", observed.revisions[1].hash);
    let decision = edit(&mut observed).decision.as_mut().expect("one");
    decision.fence = decision.sequence + 1;
    let stamped = patches(&plan(&observed, at));
    assert!(stamped.iter().all(|(name, _)| *name != gone), "{stamped:?}");
}

#[test]
fn a_service_turns_to_pods_that_bear_what_it_is_sent() {
    // The canary Service has turned, and the one before has no pods any more.
    let is = |s: &Sight| {
        let attempt = s.rollout.status.clone().and_then(|s| s.attempt);
        attempt.is_some_and(|a| {
            a.stage == "Deploying"
                && a.number == 3
                && s.observed.selected("app-canary") == Some(a.hash.as_str())
                && s.observed.revisions[1].desired() == 0
        })
    };
    let (observed, at) = moment("first-deploy-changed", is);
    let hash = status(&observed).attempt.expect("one").hash;
    let turns = |ready: u32| {
        let mut observed = observed.clone();
        let revision = observed
            .revisions
            .iter_mut()
            .find(|r| r.hash == hash)
            .expect("it");
        let set = revision.replica_set.get_or_insert_default();
        set.seen = true;
        (set.desired, set.current, set.ready, set.available) = (2, 2, ready, ready);
        let turned = patches(&plan(&observed, at));
        turned
            .iter()
            .any(|(name, paths)| name == "app-stable" && paths[0] == "/spec/selector")
    };
    assert_eq!([turns(0), turns(1), turns(2)], [false, false, true]);
}

#[test]
fn what_still_stands_on_the_object_is_not_forgotten() {
    let (mut observed, at) = last("commands-at-first-sight");
    let hash = status(&observed).attempt.expect("one").hash;
    let handled = |name: &str, token: &str| {
        let command =
            json!({"name": name, "token": token, "outcome": "Done", "at": "2026-01-01T00:00:00Z"});
        serde_json::from_value(command).expect("a command")
    };
    let stands = format!("{hash}/standing");
    edit(&mut observed).commands = vec![handled("resume", &stands)];
    for n in 1..16 {
        edit(&mut observed)
            .commands
            .push(handled("promote", &format!("{hash}/{n}")));
    }
    let annotations = observed
        .rollout
        .metadata
        .annotations
        .get_or_insert_default();
    annotations.clear();
    annotations.insert("serin.dev/resume".into(), stands.clone());
    annotations.insert("serin.dev/promote".into(), format!("{hash}@1/new"));
    let commands = plan(&observed, at).status.commands;
    let tokens: Vec<&str> = commands.iter().map(|c| c.token.as_str()).collect();
    assert_eq!(tokens.len(), 16);
    assert_eq!(tokens[0], stands);
    assert_eq!(
        tokens[1],
        format!("{hash}/2"),
        "the oldest of the others goes"
    );
    assert_eq!(tokens[15], format!("{hash}@1/new"));
}

#[test]
fn who_stands_still_says_how_it_goes_on() {
    let (observed, at) = last("commands-at-first-sight");
    let hash = status(&observed).attempt.expect("one").hash;
    for (reason, way) in [
        ("Spec", "spec.paused is false".to_owned()),
        (
            "Command",
            format!("it goes on: annotate serin.dev/resume={hash}/1"),
        ),
        (
            "BackgroundAnalysis",
            format!("abort gives up: annotate serin.dev/resume={hash}/1"),
        ),
        (
            "Analysis",
            format!("abort gives up: annotate serin.dev/promote={hash}/1"),
        ),
    ] {
        let mut paused = observed.clone();
        paused.rollout.spec.paused = reason == "Spec";
        let pause = json!({"reason": reason, "message": "why", "since": "2026-01-01T00:00:00Z"});
        edit(&mut paused).pause = serde_json::from_value(pause).expect("a pause");
        let decided = plan(&paused, at);
        assert_eq!(decided.status.phase.as_deref(), Some("Paused"));
        let waiting = decided.status.waiting.expect("it waits");
        assert_eq!(waiting.for_, "why");
        assert!(waiting.then.ends_with(&way), "{}", waiting.then);
    }
}

#[test]
fn what_is_written_wrongly_is_told_and_the_rest_stays() {
    let (mut observed, at) = last("promote");
    let before = status(&observed);
    let mut spec = serde_json::to_value(&observed.rollout.spec).expect("json");
    spec["replicas"] = json!(-1);
    let rollout = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "app", "generation": 9}, "spec": spec});
    let written: Rollout = serde_json::from_value(rollout).expect("a Rollout");
    (observed.rollout.spec, observed.rollout.metadata.generation) = (written.spec, Some(9));
    let decided = plan(&observed, at);
    assert_eq!(decided.actions, []);
    let after = decided.status;
    assert_eq!(after.phase.as_deref(), Some("Degraded"));
    assert_eq!(after.observed_generation, Some(9));
    assert!(after.message.unwrap_or_default().contains("spec.replicas"));
    let kept = (after.attempt, after.tracks, after.stable_revision);
    assert_eq!(
        kept,
        (before.attempt, before.tracks, before.stable_revision)
    );
    let conditions: Vec<String> = after
        .conditions
        .iter()
        .map(|c| format!("{}={}", c.type_, c.status))
        .collect();
    for told in [
        "Ready=False",
        "Stalled=True",
        "Progressing=False",
        "Paused=False",
    ] {
        assert!(conditions.contains(&told.to_owned()), "{conditions:?}");
    }
    assert!(
        !conditions.iter().any(|c| c.starts_with("Reconciling")),
        "{conditions:?}"
    );
}

/// Which revision a restart asks for, only another look can tell: it comes at once, nothing is done until then, and
/// nothing looks finished.
#[test]
fn a_restart_is_looked_at_anew() {
    let (mut observed, at) = last("restart");
    let before = status(&observed);
    let told = before.restarted_at.expect("one restart is over").0;
    let annotations = observed
        .rollout
        .metadata
        .annotations
        .get_or_insert_default();
    annotations.insert("serin.dev/restart".into(), "*/2".into());
    let decided = plan(&observed, at);
    assert_eq!(decided.requeue, Requeue::Now);
    assert!(decided.actions.is_empty(), "{:?}", decided.actions);
    let now = decided
        .status
        .restarted_at
        .clone()
        .expect("it is asked for")
        .0;
    assert!(now > told);
    assert_eq!(decided.status.phase.as_deref(), Some("Progressing"));
    assert_eq!(decided.status.current_revision, None);
    // Another clock was ahead: the same time would ask for what is there.
    let ahead = now + SignedDuration::from_hours(1);
    edit(&mut observed).restarted_at = Some(Time(ahead));
    let decided = plan(&observed, at);
    let later = decided.status.restarted_at.expect("it is asked for").0;
    assert_eq!(later, ahead + SignedDuration::from_secs(1));
}

/// A raise may be under way when it is deleted; and what is written after that lands beside the next of its name.
#[test]
fn who_lets_go_fences_off_first_and_writes_nothing_else() {
    let (mut observed, at) = moment("older-drains-on", before_the_weight);
    observed.rollout.metadata.deletion_timestamp = Some(Time(at));
    observed.live = true;
    let decided = plan(&observed, at);
    assert!(
        !decided.actions.contains(&Action::Release),
        "{:?}",
        decided.actions
    );
    let stamp = ("app".to_owned(), vec![STAMP.to_owned()]);
    assert!(patches(&decided).contains(&stamp));
    let fence = decided.status.decision.as_ref().expect("one").fence;
    observed.rollout.status = Some(decided.status);
    number(observed.routes.values_mut().next().expect("a route"), fence);
    assert_eq!(plan(&observed, at).actions, [Action::Release]);
}
