//! What whoever waits by kstatus (Flux, Helm 4, kpt) makes of a Rollout, at every write of every
//! scenario: it is in progress from the first sight of a generation until that is done, current only
//! once what the spec asks for is stable, and failed at once when it was given up.

#[path = "support/kstatus.rs"]
mod kstatus;
#[path = "support/sights.rs"]
mod sights;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kstatus::{Verdict, kstatus};
use serde_json::{Value, json};
use serin::{
    api::{RolloutStatus, crds},
    engine::{strategy::wanted_hash, workload::adoption::generation},
    model::observed::Current,
};
use sights::{Sight, play, scenarios};

fn verdict(sight: &Sight) -> Verdict {
    let object = serde_json::to_value(&sight.rollout).expect("json");
    kstatus(&object).expect("kstatus can read it")
}

fn status(sight: &Sight) -> RolloutStatus {
    sight.rollout.status.clone().unwrap_or_default()
}

/// What speaks against calling it done.
fn undone(sight: &Sight, committed: bool) -> Vec<String> {
    // The Rollout's own generation tells nothing of a change of the Deployment that it has adopted.
    if status(sight).workload_observed_generation != generation(&sight.observed) {
        return vec![];
    }
    let status = status(sight);
    let (mut faults, wanted) = (
        vec![],
        usize::try_from(sight.observed.rollout.spec.replicas).unwrap_or(0),
    );
    let recorded = match &sight.observed.current {
        // An undo may ask for another one.
        Current::Recorded(_) => wanted_hash(&sight.observed, &status),
        _ => None,
    };
    if recorded.is_none() || recorded != status.stable_revision {
        faults.push(format!(
            "the template is {:?}, stable is {:?}",
            sight.observed.current, status.stable_revision
        ));
    }
    let stage = status.attempt.as_ref().map(|a| a.stage.as_str());
    // Who bakes is finished for whoever waits, and is served where the canary was until it has proved good.
    let attempt = status.attempt.as_ref().filter(|a| a.bake.is_some());
    let bakes = attempt.is_some_and(|a| {
        ["Baking", "Switching", "Returning"].contains(&a.stage.as_str())
            && a.outcome.as_deref() == Some("Promoted")
    });
    if stage != Some("Done") && !bakes {
        faults.push(format!("the attempt is in {stage:?}"));
    }
    // What others do to pods and routes is not in a status that was written before.
    if committed && sight.served != 0 && !bakes {
        faults.push(format!("the canary gets {} of a million", sight.served));
    }
    if committed && sight.ready < wanted {
        faults.push(format!("{} of {wanted} pods are ready", sight.ready));
    }
    faults
}

/// Whether the attempt for the template was given up and all traffic is back.
fn given_up(status: &RolloutStatus) -> bool {
    status.attempt.as_ref().is_some_and(|a| {
        let outcome = a.outcome.as_deref().unwrap_or_default();
        a.stage == "Done"
            && matches!(outcome, "RolledBack" | "Aborted")
            && status.current_revision.as_ref() == Some(&a.hash)
            && status.stable_revision.as_ref() != Some(&a.hash)
    })
}

/// What is wrong with a verdict.
fn faults(sight: &Sight, committed: bool) -> Vec<String> {
    let (verdict, status) = (verdict(sight), status(sight));
    if sight.rollout.metadata.deletion_timestamp.is_some() {
        return match verdict {
            Verdict::Terminating => vec![],
            other => vec![format!("{other:?}, though it is being deleted")],
        };
    }
    if status.observed_generation != sight.rollout.metadata.generation {
        return match verdict {
            Verdict::InProgress => vec![],
            other => vec![format!(
                "{other:?}, though nobody has looked at this generation"
            )],
        };
    }
    let mut faults = match status.phase.as_deref().unwrap_or_default() {
        "Progressing" | "Paused" if verdict == Verdict::InProgress => vec![],
        "Healthy" if verdict == Verdict::Current => vec![],
        "Degraded" if verdict == Verdict::Failed => vec![],
        phase => vec![format!("{verdict:?}, though the phase is {phase:?}")],
    };
    let holds = |name: &str| {
        let of = |c: &Condition| c.type_ == name && c.status == "True";
        status.conditions.iter().any(of)
    };
    let phase = status.phase.as_deref().unwrap_or_default();
    for (condition, phases) in [
        ("Ready", &["Healthy"][..]),
        ("Reconciling", &["Progressing", "Paused"]),
        ("Stalled", &["Degraded"]),
        ("Paused", &["Paused"]),
        ("Progressing", &["Healthy", "Progressing", "Paused"]),
    ] {
        if holds(condition) != phases.contains(&phase) {
            faults.push(format!(
                "{condition} is {}, the phase is {phase}",
                holds(condition)
            ));
        }
    }
    if verdict == Verdict::Current {
        faults.extend(undone(sight, committed));
    }
    if given_up(&status) && verdict != Verdict::Failed {
        faults.push(format!("{verdict:?}, though it was given up"));
    }
    faults
}

#[test]
fn every_status_means_what_it_should() {
    let (mut wrong, mut counts) = (vec![], BTreeMap::<String, usize>::new());
    for (name, scenario) in scenarios() {
        let (sights, _) = play(&scenario);
        assert!(sights.len() > 5, "{name}: {} sights", sights.len());
        let mut last = None;
        for sight in &sights {
            let committed = last.as_ref() != Some(&sight.rollout.status);
            last = Some(sight.rollout.status.clone());
            let phase = status(sight).phase.unwrap_or_default();
            *counts
                .entry(format!("{:?} {phase}", verdict(sight)))
                .or_default() += 1;
            for fault in faults(sight, committed) {
                wrong.push(format!("{name} {}: {fault}", sight.at));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    for seen in [
        "InProgress ",
        "InProgress Progressing",
        "InProgress Paused",
        "Current Healthy",
        "Failed Degraded",
        "Terminating Degraded",
    ] {
        assert!(
            counts.contains_key(seen),
            "{seen} was never seen: {counts:?}"
        );
    }
}

/// The verdicts after a change of the template, without repetitions, told apart by generation.
fn story(name: &str) -> Vec<String> {
    let (_, scenario) = scenarios()
        .into_iter()
        .find(|(n, _)| n == name)
        .expect("the scenario");
    tell(&play(&scenario).0)
}

fn tell(sights: &[Sight]) -> Vec<String> {
    let mut story: Vec<String> = sights
        .iter()
        .map(|s| {
            let generation = s.rollout.metadata.generation.unwrap_or_default();
            format!("{generation} {:?}", verdict(s))
        })
        .collect();
    story.dedup();
    story
}

#[test]
fn a_good_release_is_in_progress_until_it_is_promoted() {
    let wanted = ["1 InProgress", "1 Current", "2 InProgress", "2 Current"];
    assert_eq!(story("promote"), wanted);
    assert_eq!(story("killed-switching"), wanted);
}

#[test]
fn a_bad_release_fails_once_the_traffic_is_back() {
    let wanted = ["1 InProgress", "1 Current", "2 InProgress", "2 Failed"];
    for name in [
        "errors",
        "latency",
        "crashloop",
        "image-pull",
        "never-ready",
    ] {
        assert_eq!(story(name), wanted, "{name}");
    }
}

#[test]
fn a_release_that_waits_for_a_person_is_in_progress() {
    let wanted = ["1 InProgress", "1 Current", "2 InProgress"];
    assert_eq!(story("pause-resume"), wanted);
}

#[test]
fn the_old_template_comes_back_and_is_current_only_once_its_traffic_is() {
    let wanted = [
        "1 InProgress",
        "1 Current",
        "2 InProgress",
        "3 InProgress",
        "3 Current",
    ];
    assert_eq!(story("revert"), wanted);
}

/// The API server fills it in before any controller has looked: without it, who waits would be
/// content with an object that is seconds old.
#[test]
fn an_object_that_nobody_has_looked_at_is_in_progress() {
    let (_, crd) = crds().into_iter().next().expect("the Rollout's");
    let crd = serde_json::to_value(&crd).expect("json");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let status = &schema["properties"]["status"]["default"];
    let object = json!({"kind": "Rollout", "metadata": {"generation": 1}, "status": status});
    assert_eq!(kstatus(&object), Ok(Verdict::InProgress));
    let read: RolloutStatus = serde_json::from_value(status.clone()).expect("a status");
    assert!(read == RolloutStatus::unseen() && !read.seen());
}

#[test]
fn the_algorithm_is_the_published_one() {
    let object = |observed: Value, conditions: &[(&str, &str)]| {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(t, s)| json!({"type": t, "status": s}))
            .collect();
        kstatus(&json!({"metadata": {"generation": 2},
            "status": {"observedGeneration": observed, "conditions": conditions}}))
    };
    use Verdict::{Current, Failed, InProgress, Terminating};
    assert_eq!(object(json!(1), &[("Ready", "True")]), Ok(InProgress));
    assert_eq!(object(json!(2), &[]), Ok(Current));
    assert_eq!(object(json!(2), &[("Ready", "True")]), Ok(Current));
    assert_eq!(object(json!(2), &[("Ready", "Unknown")]), Ok(InProgress));
    assert_eq!(
        object(json!(2), &[("Ready", "False"), ("Stalled", "True")]),
        Ok(Failed)
    );
    let both = [("Reconciling", "True"), ("Stalled", "True")];
    assert_eq!(object(json!(2), &both), Ok(InProgress));
    assert_eq!(object(json!(2), &[("Stalled", "False")]), Ok(Current));
    assert!(object(json!("2"), &[]).is_err());
    assert_eq!(
        kstatus(&json!({"metadata": {"generation": 1}})),
        Ok(Current)
    );
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(kstatus(&deleted), Ok(Terminating));
}

/// Plays the scenario `promote` with other events, and gives its story.
fn with(events: &str, version: Option<&str>) -> Vec<String> {
    let (_, mut scenario) = scenarios()
        .into_iter()
        .find(|(n, _)| n == "promote")
        .expect("the scenario");
    scenario.events = serde_saphyr::from_str(events).expect("events");
    scenario.until = std::time::Duration::from_secs(240).into();
    if let Some(bad) = version {
        let crashes = serde_saphyr::from_str("{crash: true}").expect("a version");
        scenario.world.versions.insert(bad.to_owned(), crashes);
    }
    let (sights, played) = play(&scenario);
    assert!(
        played.timeline.broken.is_empty(),
        "{:?}",
        played.timeline.broken
    );
    let mut last = None;
    for sight in &sights {
        let committed = last.as_ref() != Some(&sight.rollout.status);
        last = Some(sight.rollout.status.clone());
        assert_eq!(faults(sight, committed), [""; 0], "{}", sight.at);
    }
    tell(&sights)
}

#[test]
fn a_change_of_scale_is_in_progress_until_the_pods_are_there() {
    let grown = with("[{at: 20s, spec: {replicas: 7}}]", None);
    let wanted = ["1 InProgress", "1 Current", "2 InProgress", "2 Current"];
    assert_eq!(grown, wanted);
    assert_eq!(with("[{at: 20s, spec: {replicas: 1}}]", None), wanted);
}

#[test]
fn an_invalid_spec_fails_until_it_is_put_right() {
    let events = "[{at: 20s, spec: {strategy: {canary: {steps: [{setWeight: 500}]}}}}, \
                   {at: 30s, spec: {strategy: {canary: {steps: [{setWeight: 50}]}}}}]";
    let wanted = [
        "1 InProgress",
        "1 Current",
        "2 InProgress",
        "2 Failed",
        "3 InProgress",
        "3 Current",
    ];
    assert_eq!(with(events, None), wanted);
}

#[test]
fn a_spec_that_becomes_invalid_in_a_pause_fails_and_is_paused_again() {
    let events = "[{at: 20s, version: v2}, \
                   {when: phase Paused, spec: {strategy: {canary: {steps: [{setWeight: 500}]}}}}, \
                   {at: 150s, when: phase Degraded, spec: {strategy: {canary: {steps: [{setWeight: 50}]}}}}]";
    let wanted = [
        "1 InProgress",
        "1 Current",
        "2 InProgress",
        "3 InProgress",
        "3 Failed",
        "4 InProgress",
    ];
    assert_eq!(with(events, None), wanted);
}

/// What Helm's rollback does, and who applies the bad template once more.
#[test]
fn after_a_rollback_the_old_template_is_current_and_the_bad_one_fails_again() {
    let events = "[{at: 20s, version: bad}, {at: 60s, version: v1}, {at: 90s, version: bad}]";
    let wanted = [
        "1 InProgress",
        "1 Current",
        "2 InProgress",
        "2 Failed",
        "3 InProgress",
        "3 Current",
        "4 InProgress",
        "4 Failed",
    ];
    assert_eq!(with(events, Some("bad")), wanted);
}

#[test]
fn a_retry_is_in_progress_again() {
    let events = "[{at: 20s, version: bad}, {at: 60s, annotate: {serin.dev/retry: $canary/1}}]";
    let wanted = [
        "1 InProgress",
        "1 Current",
        "2 InProgress",
        "2 Failed",
        "2 InProgress",
        "2 Failed",
    ];
    assert_eq!(with(events, Some("bad")), wanted);
}

#[test]
fn a_paused_spec_keeps_a_release_in_progress_and_nothing_else() {
    let wanted = ["1 InProgress", "1 Current", "2 InProgress", "2 Current"];
    assert_eq!(with("[{at: 20s, spec: {paused: true}}]", None), wanted);
    let events = "[{at: 20s, spec: {paused: true}}, {at: 30s, version: v2}]";
    let release = with(events, None);
    assert_eq!(release.last().map(String::as_str), Some("3 InProgress"));
}
