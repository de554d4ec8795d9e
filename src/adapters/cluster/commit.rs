//! Commit: the status first, under the resourceVersion that was looked at. A stale view dies here,
//! before anything was touched.

use std::{ops::Range, time::Duration};

use serde_json::{Value, json};
use thiserror::Error;

use crate::{
    api::{AnalysisRun, AnalysisRunStatus, Rollout, RolloutStatus},
    model::{
        object::{ANALYSIS_RUN, Kind, ROLLOUT},
        observed::Observed,
        plan::{Action, Plan},
    },
};

use super::{Cluster, merge::merge_patch, rest::RestError};

/// What only counts and describes is written at most once in this time, unless something else is.
const COUNTS: Duration = Duration::from_secs(1);
/// What was told is recorded with the next write, and after this time at the latest.
pub(super) const RECORD: Duration = Duration::from_secs(15);

/// A decision that is durable. Only this may be acted on, and only [`Cluster::commit`] makes it.
#[derive(Debug)]
pub struct Committed {
    pub(super) rollout: Rollout,
    pub(super) actions: Vec<Action>,
    pub(super) hazardous: Range<usize>,
    pending: Option<Duration>,
}

impl Committed {
    /// The Rollout as it stands after what was written so far.
    pub fn rollout(&self) -> &Rollout {
        &self.rollout
    }
    /// After which time something is to be written that was not worth a write of its own.
    pub fn pending(&self) -> Option<Duration> {
        self.pending
    }
}

/// Why a decision is not durable.
#[derive(Debug, Error)]
pub enum CommitError {
    /// The status could not be written.
    #[error("cannot commit the status")]
    Write(#[from] RestError),
    /// The status cannot be put into words, or the answer not be read.
    #[error("cannot read or write the status as JSON")]
    Json(#[from] serde_json::Error),
}

impl CommitError {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Write(e) => e.kind(),
            Self::Json(_) => "json",
        }
    }
    /// Whether somebody else was faster.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Write(e) if e.is_conflict())
    }
}

/// What to send for a change of status: nothing where nothing changed and nothing follows. Where
/// something follows, the unchanged decision is sent as a fence: a stale resourceVersion is refused
/// also then.
fn change(
    old: &RolloutStatus,
    new: &RolloutStatus,
    acts: bool,
) -> Result<Option<Value>, serde_json::Error> {
    // Most rounds: nothing to put into words.
    if old == new && !acts {
        return Ok(None);
    }
    let (before, after) = (serde_json::to_value(old)?, serde_json::to_value(new)?);
    let fence = || {
        let decision = after.get("decision").cloned();
        decision.map_or_else(|| json!({}), |d| json!({"decision": d}))
    };
    Ok(merge_patch(&before, &after).or_else(|| acts.then(fence)))
}

/// Whether a change only counts pods and describes: nothing is decided by it, and no timer stands
/// on it.
fn only_counts(change: &Value) -> bool {
    const FIELDS: &[&str] = &[
        "replicas",
        "readyReplicas",
        "availableReplicas",
        "updatedReplicas",
        "tracks",
        "waiting",
        "conditions",
        "message",
        "weight",
    ];
    // How far the pods have come: the deadline stands on it, and bears a second.
    const PROGRESS: &[&str] = &["progressAt", "progressMark"];
    let all_of = |change: &Value, known: &dyn Fn(&str, &Value) -> bool| {
        let fields = change.as_object();
        fields.is_some_and(|f| f.iter().all(|(name, value)| known(name, value)))
    };
    all_of(change, &|name, value| {
        let progress = || all_of(value, &|name, _| PROGRESS.contains(&name));
        // That nothing drains any more: what drains stands there with its time.
        let drained = name == "draining" && *value == json!([]);
        FIELDS.contains(&name) || drained || (name == "attempt" && progress())
    })
}

impl Cluster {
    /// Makes a plan's status durable. What was told meanwhile is recorded with it.
    pub async fn commit(&self, observed: &Observed, plan: &Plan) -> Result<Committed, CommitError> {
        let rollout = &observed.rollout;
        let old = rollout.status.clone().unwrap_or_default();
        let (actions, hazardous) = (plan.actions.clone(), plan.hazardous.clone());
        let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
        let told = self.written.told(uid);
        let (patch, pending) = match change(&old, &plan.status, !actions.is_empty())? {
            Some(patch) if actions.is_empty() && only_counts(&patch) => {
                let left = self
                    .written
                    .committed(uid)
                    .map(|t| COUNTS.saturating_sub(t));
                match left.filter(|t| !t.is_zero()) {
                    Some(left) => (None, Some(left)),
                    None => (Some(patch), None),
                }
            }
            Some(patch) => (Some(patch), None),
            None => match told.map(|(_, since)| RECORD.saturating_sub(since)) {
                Some(left) if left.is_zero() => (Some(json!({})), None),
                left => (None, left),
            },
        };
        let Some(mut patch) = patch else {
            return Ok(Committed {
                rollout: rollout.clone(),
                actions,
                hazardous,
                pending,
            });
        };
        let mut recorded = plan.status.decision.as_ref().map_or(0, |d| d.told);
        if let Some((number, _)) = told.filter(|(number, _)| *number > recorded) {
            recorded = number;
            let sequence = plan.status.decision.as_ref().map_or(0, |d| d.sequence);
            json_patch::merge(
                &mut patch,
                &json!({"decision": {"sequence": sequence, "told": number}}),
            );
        }
        let answer = self.patch_status(ROLLOUT, &rollout.metadata, patch).await?;
        self.written.note_committed(uid, recorded);
        Ok(Committed {
            rollout: serde_json::from_value(answer)?,
            actions,
            hazardous,
            pending,
        })
    }

    /// Makes an AnalysisRun's status durable. Whether there was anything to write.
    pub async fn commit_run(
        &self,
        run: &AnalysisRun,
        status: &AnalysisRunStatus,
    ) -> Result<bool, CommitError> {
        // Most rounds: nothing was due.
        if run.status.as_ref() == Some(status) {
            return Ok(false);
        }
        let old = serde_json::to_value(run.status.clone().unwrap_or_default())?;
        let Some(patch) = merge_patch(&old, &serde_json::to_value(status)?) else {
            return Ok(false);
        };
        self.patch_status(ANALYSIS_RUN, &run.metadata, patch)
            .await?;
        Ok(true)
    }

    /// Patches a status under the resourceVersion in `meta`.
    pub(super) async fn patch_status(
        &self,
        kind: Kind,
        meta: &kube::api::ObjectMeta,
        status: Value,
    ) -> Result<Value, RestError> {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let body = json!({
            "metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid},
            "status": status,
        });
        let answer = self.rest.patch_status(kind, namespace, name, &body).await?;
        self.written.note(&answer);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::Decision;

    #[test]
    fn counting_pods_is_no_decision() {
        assert!(only_counts(
            &json!({"readyReplicas": 3, "attempt": {"progressAt": "x", "progressMark": 3}})
        ));
        assert!(!only_counts(
            &json!({"readyReplicas": 3, "attempt": {"stage": "Done"}})
        ));
        assert!(!only_counts(&json!({"traffic": {"share": 1}})));
        assert!(!only_counts(&json!({"attempt": null})));
    }

    #[test]
    fn an_unchanged_status_is_sent_only_as_a_fence() {
        let decision = Decision {
            sequence: 7,
            ..Decision::default()
        };
        let status = RolloutStatus {
            decision: Some(decision),
            ..RolloutStatus::default()
        };
        assert_eq!(change(&status, &status, false).expect("json"), None);
        let fence = change(&status, &status, true)
            .expect("json")
            .expect("something is sent");
        assert_eq!(
            fence,
            json!({"decision": {"sequence": 7, "fence": 0, "told": 0}})
        );
        let none = RolloutStatus::default();
        assert_eq!(change(&none, &none, true).expect("json"), Some(json!({})));
    }
    #[test]
    fn fields_that_another_version_wrote_stay() {
        let mut stored = json!({
            "phase": "Progressing", "later": {"a": 1}, "decision": {"sequence": 7, "later": true},
        });
        let old: RolloutStatus = serde_json::from_value(stored.clone()).expect("a status");
        let mut new = old.clone();
        new.phase = Some("Healthy".to_owned());
        new.decision.as_mut().expect("one").sequence = 8;
        let patch = change(&old, &new, true).expect("json").expect("it is sent");
        json_patch::merge(&mut stored, &patch);
        assert_eq!(stored["later"], json!({"a": 1}));
        assert_eq!(stored["decision"]["later"], json!(true));
        assert_eq!(stored["decision"]["sequence"], json!(8));
        assert_eq!(stored["phase"], json!("Healthy"));
    }
}
