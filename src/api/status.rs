//! Status of a Rollout: what it is doing, why, what it waits for, and what it decided.
//!
//! Words that may grow are strings here, so that an older client can still read a newer status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::strategy::{BackgroundAnalysis, Bake, Step};

/// `observedGeneration` of a Rollout that no controller has looked at: what the API server fills in.
pub const UNSEEN: i64 = -1;

/// What was observed and decided. At most 32 KiB.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The generation that this status speaks of; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The generation of the Deployment that `workloadRef` names, of which this status speaks. Wait for it, then for
    /// `Ready`: a change of the Deployment is none of the Rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_observed_generation: Option<i64>,
    /// Healthy, Progressing, Paused or Degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// What it is doing and what it waits for, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The step in progress and their number: `2/5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The canary's share of the traffic as the route's controllers have accepted it, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// Hash of the revision that is asked for: the one that `spec.template` describes, or the one of `undo`. Absent
    /// while that is not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<String>,
    /// Hash of the last good revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_revision: Option<String>,
    /// Hash of the older revision that was good last: where an `undo` leads that names none. Absent where there is
    /// no way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_revision: Option<String>,
    /// Pods of all revisions.
    #[serde(default)]
    pub replicas: i32,
    /// Pods of the revision that is asked for.
    #[serde(default)]
    pub updated_replicas: i32,
    /// Ready pods of all revisions.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Available pods of all revisions.
    #[serde(default)]
    pub available_replicas: i32,
    /// The label selector as text, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Ready, Reconciling and Stalled (kstatus), Available, Progressing and Paused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The revisions in play, by role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tracks: Vec<Track>,
    /// What is awaited, until when, and what follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The attempt in flight, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// Set while the rollout waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseStatus>,
    /// Set while the stable revision must still prove good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<BakeStatus>,
    /// Set while an earlier revision is asked for in place of the one that `spec.template` describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// When the last `restart` was asked for. Pods that were made since have it as the annotation
    /// `serin.dev/restarted-at`, which is part of their revision; the template in the spec stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<Time>,
    /// The split that the route's controllers have accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficStatus>,
    /// Revisions that keep their pods for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<Draining>,
    /// Services that Serin turned to the pods of one revision, by name; at most 16. One that the strategy no longer
    /// names follows the stable revision; where pods are the weight, it selects the pods of all revisions again and is
    /// taken from here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub role_services: Vec<String>,
    /// The last decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Commands that were handled, the newest last; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<HandledCommand>,
    /// What was decided, the newest last; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
}

impl RolloutStatus {
    /// What the API server gives a Rollout that has no status. Without it, who waits by kstatus takes
    /// an object that nobody has looked at for finished.
    pub fn unseen() -> Self {
        Self {
            observed_generation: Some(UNSEEN),
            ..Self::default()
        }
    }
    /// Whether a controller has ever looked.
    pub fn seen(&self) -> bool {
        self.observed_generation.is_some_and(|g| g > UNSEEN)
    }
}

/// A revision in play.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Track {
    /// Its role: stable or canary.
    pub name: String,
    /// Its hash.
    pub hash: String,
    /// Its role Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Its pods.
    #[serde(default)]
    pub replicas: TrackReplicas,
    /// Its share of the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<TrackWeight>,
}

/// Pods of a track.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TrackReplicas {
    /// As many as wanted.
    #[serde(default)]
    pub desired: i32,
    /// As many as there are.
    #[serde(default)]
    pub current: i32,
    /// As many as are available.
    #[serde(default)]
    pub available: i32,
}

/// Share of the traffic, in percent.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TrackWeight {
    /// As wanted.
    #[serde(default)]
    pub desired: i32,
    /// As the route's controllers have accepted it; absent while they have not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<i32>,
    /// As reached; known where the pods are the weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<i32>,
}

/// What is awaited.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// What is awaited.
    #[serde(rename = "for")]
    pub for_: String,
    /// Since when.
    pub since: Time,
    /// Until when, where there is an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// What follows.
    pub then: String,
}

/// One attempt to bring a revision into service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Counts the attempts of this Rollout, from 1.
    pub number: i64,
    /// Hash of the revision.
    pub hash: String,
    /// Deploying, Starting, Stepping, Promoting, Baking, Switching, Returning, RollingBack or Done.
    pub stage: String,
    /// Promoted, RolledBack, Aborted, Superseded or Reverted, once that is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Why, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Index of the step in progress, from 0; the number of steps when all are passed.
    #[serde(default)]
    pub step_index: i32,
    /// When the step in progress began to count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_started_at: Option<MicroTime>,
    /// When the step in progress went on after a pause, where it has a timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_resumed_at: Option<MicroTime>,
    /// How often the analysis of this step was begun anew.
    #[serde(default)]
    pub step_try: i32,
    /// How often the analysis in the background, or that of the bake, was begun anew.
    #[serde(default)]
    pub background_try: i32,
    /// By whom or by what its outcome came about, in a few words: `promote-full by alice`, `analyses success-rate,
    /// latency`, the AnalysisRun that failed. A command that moved it on stands here before the outcome does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// Revisions that gave way to it undecided, or to one that gave way to it, and whose records did not tell so when
    /// it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub superseded: Vec<Superseded>,
    /// When the attempt began.
    pub started_at: Time,
    /// When it last made progress.
    pub progress_at: MicroTime,
    /// When the stage in progress began to count, where it waits for a delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage_since: Option<MicroTime>,
    /// How far the pods had come when progress was last made.
    #[serde(default)]
    pub progress_mark: i64,
    /// The steps of this attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub steps: Vec<Step>,
    /// The analysis in the background of this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<BackgroundAnalysis>,
    /// How long its revision must prove good once it is promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<Bake>,
}

/// A revision that was tried and gave way to another before anything was decided.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Superseded {
    /// Its hash.
    pub hash: String,
    /// Hash of the one that took its place.
    pub next: String,
    /// Who or what asked for that one, in a few words.
    pub by: String,
}

/// Why the rollout waits for a person.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PauseStatus {
    /// Command, Analysis, BackgroundAnalysis or Bake.
    pub reason: String,
    /// In a sentence.
    pub message: String,
    /// Since when.
    pub since: Time,
}

/// A promoted revision that must still prove good.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BakeStatus {
    /// Hash of the revision that was stable before: where a failure leads.
    pub from: String,
    /// Since when.
    pub since: MicroTime,
    /// Until when.
    pub until: MicroTime,
}

/// A way back: what is asked for in place of what `spec.template` describes. It ends when the template is
/// another one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Undo {
    /// Hash of the revision that is asked for.
    pub revision: String,
    /// Hash of the revision that `spec.template` describes.
    pub over: String,
    /// Since when.
    pub since: Time,
    /// Who gave the command, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The accepted split. Shares are the canary's, in millionths of the traffic.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TrafficStatus {
    /// The share that was last accepted, in millionths.
    pub share: i32,
    /// When that was seen.
    pub since: MicroTime,
    /// The largest share that the data plane may still serve until the propagation delay has passed, in millionths.
    #[serde(default)]
    pub highest: i32,
    /// The generations of the routes that were accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generations: Option<String>,
    /// The share that Serin wrote last, in millionths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<i32>,
    /// The decision with which it wrote that.
    #[serde(default)]
    pub written_by: i64,
    /// The strategy's Services and routes by which Serin shifted it. They stay in force until all of it is back at
    /// stable, whatever the spec names by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::any_object")]
    pub strategy: Option<serde_json::Value>,
    /// How often in a row a foreign change of the weights was put right.
    #[serde(default)]
    pub repairs: i32,
    /// When that was last done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired_at: Option<MicroTime>,
}

/// A revision that keeps its pods until a time.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Draining {
    /// Its hash.
    pub hash: String,
    /// Until when.
    pub until: MicroTime,
}

/// The last decision.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Its sequence number. It stands in `serin.dev/decision` on what was written because of it.
    pub sequence: i64,
    /// The sequence number of the last decision that cancelled another. Objects that the cancelled
    /// one could still touch carry at least this number before anything else is done.
    #[serde(default)]
    pub fence: i64,
    /// Entries of the history up to this number have been told as Events.
    #[serde(default)]
    pub told: i64,
    /// What was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// What the last hazardous decision changes. Until it carries that decision's number, the change
    /// may still be under way, and nothing hazardous is done to another object, but that traffic goes
    /// back to stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// What a hazardous decision changes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Effect {
    /// Kind of the object.
    pub kind: String,
    /// Its name; of several routes, the first one's.
    pub name: String,
    /// The decision's number.
    pub decision: i64,
}

/// A command that was handled.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HandledCommand {
    /// promote, promote-full, abort, undo, retry, pause, resume or restart.
    pub name: String,
    /// The annotation's value.
    pub token: String,
    /// Done, Refused, Stale, Superseded or Recorded.
    pub outcome: String,
    /// In a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Who gave it, as the API server knows them; at most 128 characters. Only where the chart's
    /// `commandPolicy` is on and the API server has MutatingAdmissionPolicies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When.
    pub at: Time,
}

/// An entry of the history.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Its number; each entry has its own.
    pub number: i64,
    /// When.
    pub at: Time,
    /// Normal or Warning.
    #[serde(rename = "type")]
    pub type_: String,
    /// What, in a word.
    pub reason: String,
    /// What and why, in a sentence.
    pub message: String,
}
