//! AnalysisRuns: those that are wanted are created, those that are no longer wanted are ended, old
//! ones are deleted.

use std::collections::BTreeSet;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use serde_json::json;

use crate::{
    api::{
        AnalysisRun, AnalysisRunSpec, Rollout,
        names::{API_VERSION, POD_TEMPLATE_HASH, ROLLOUT_LABEL},
    },
    model::{
        desired::{Desired, DesiredRun, Part},
        object::{ANALYSIS_RUN, ObjectRef, Target},
        observed::Observed,
        plan::{Action, Intent},
    },
};

use super::{
    check::{Purpose, prepare},
    schedule::ended,
};

/// As many ended runs of a Rollout are kept.
const KEPT: usize = 20;
/// Runs of as many of the newest attempts are kept in any case.
const KEPT_ATTEMPTS: usize = 5;

/// Creates what is wanted and not there, ends what goes on and is not wanted, deletes at most one
/// old run.
pub(super) fn realize(desired: &Desired, observed: &Observed) -> Vec<Intent> {
    let theirs: Vec<_> = observed
        .runs
        .iter()
        .filter(|r| owned(r, &observed.rollout))
        .collect();
    let wanted: BTreeSet<&str> = desired.runs.iter().map(|r| r.name.as_str()).collect();
    let there: BTreeSet<&str> = observed.runs.iter().map(name).collect();
    let mut intents: Vec<Intent> = desired
        .runs
        .iter()
        .filter(|run| !there.contains(run.name.as_str()))
        .filter_map(|run| create(run, observed))
        .map(Intent::harmless)
        .collect();
    let unwanted = theirs.iter().filter(|run| {
        !ended(run.status.as_ref()) && !run.spec.terminate && !wanted.contains(name(run))
    });
    intents.extend(unwanted.map(|run| Intent::harmless(terminate(run))));
    if let Some(old) = oldest(&theirs, &wanted) {
        intents.push(Intent::hazardous(
            vec![Action::Delete {
                target: target(old),
            }],
            None,
            format!(
                "delete AnalysisRun {}: more than {KEPT} have ended",
                name(old)
            ),
        ));
    }
    intents
}

fn name(run: &AnalysisRun) -> &str {
    run.metadata.name.as_deref().unwrap_or_default()
}

/// Whether the run belongs to this very Rollout, not to an earlier one of the same name.
fn owned(run: &AnalysisRun, rollout: &Rollout) -> bool {
    let mut owners = run.metadata.owner_references.iter().flatten();
    let another = |o: &OwnerReference| {
        o.controller == Some(true) && Some(&o.uid) != rollout.metadata.uid.as_ref()
    };
    Some(&run.spec.rollout) == rollout.metadata.name.as_ref() && !owners.any(another)
}

/// The run as it is created; none where its templates are missing or wrong, which `check` tells.
fn create(run: &DesiredRun, observed: &Observed) -> Option<Action> {
    let rollout = &observed.rollout.metadata;
    let purpose = Purpose {
        path: "",
        step: matches!(run.part, Part::Step(_)),
        canary: &run.revision,
        stable: &run.stable,
        namespace: rollout.namespace.as_deref().unwrap_or_default(),
    };
    let prepared = prepare(&run.analysis, &purpose, &observed.templates).ok()?;
    let owner = rollout.name.clone().unwrap_or_default();
    let spec = AnalysisRunSpec {
        rollout: owner.clone(),
        revision: run.revision.clone(),
        attempt: run.attempt,
        step: run.part.word(),
        start: Some(Time(whole_second(run.start))),
        args: prepared.args,
        metrics: prepared.metrics,
        terminate: false,
    };
    let mut object = AnalysisRun::new(&run.name, spec);
    object.metadata.namespace = rollout.namespace.clone();
    object.metadata.labels = Some(
        [
            (ROLLOUT_LABEL.to_owned(), owner.clone()),
            (POD_TEMPLATE_HASH.to_owned(), run.revision.clone()),
        ]
        .into(),
    );
    object.metadata.owner_references = Some(vec![OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: "Rollout".to_owned(),
        name: owner,
        uid: rollout.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }]);
    Some(Action::Create {
        object: ObjectRef::new(ANALYSIS_RUN, &run.name),
        value: serde_json::to_value(object).ok()?,
    })
}

/// Times in objects are whole seconds; cut off, the start would lie before the step's.
fn whole_second(moment: Timestamp) -> Timestamp {
    let up = TimestampRound::new()
        .smallest(Unit::Second)
        .mode(RoundMode::Ceil);
    moment.round(up).unwrap_or(moment)
}

fn terminate(run: &AnalysisRun) -> Action {
    Action::Patch {
        target: target(run),
        operations: vec![json!({"op": "add", "path": "/spec/terminate", "value": true})],
    }
}

fn target(run: &AnalysisRun) -> Target {
    Target {
        object: ObjectRef::new(ANALYSIS_RUN, name(run)),
        uid: run.metadata.uid.clone().unwrap_or_default(),
        resource_version: run.metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// The oldest ended run, where more have ended than are kept and it is of no recent attempt.
fn oldest<'a>(runs: &[&'a AnalysisRun], wanted: &BTreeSet<&str>) -> Option<&'a AnalysisRun> {
    let over: Vec<_> = runs.iter().filter(|r| ended(r.status.as_ref())).collect();
    if over.len() <= KEPT {
        return None;
    }
    let attempts: BTreeSet<i64> = runs.iter().map(|r| r.spec.attempt).collect();
    let kept_from = attempts.into_iter().rev().nth(KEPT_ATTEMPTS - 1)?;
    over.into_iter()
        .filter(|r| r.spec.attempt < kept_from && !wanted.contains(name(r)))
        .min_by_key(|r| (r.spec.attempt, r.spec.start.clone(), name(r)))
        .copied()
}
