//! Observed: one look at a Rollout and everything it refers to.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use crate::api::{
    AnalysisRun, AnalysisTemplateSpec, Rollout, names::FINALIZER, rollout::FailFastReason,
};

use super::{measurement::RunPhase, object::Objects, revisions::Revision, workload::Workload};

/// One look at a Rollout and everything it refers to. Whatever is decided, is decided from this.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Rollout.
    pub rollout: Rollout,
    /// Which revision `spec.template` describes.
    pub current: Current,
    /// The recorded revisions, oldest first.
    pub revisions: Vec<Revision>,
    /// The Services that the spec names, by name: whole objects.
    pub services: BTreeMap<String, Value>,
    /// Ready endpoints of each role Service, by the hash of their pods.
    pub endpoints: BTreeMap<String, BTreeMap<String, u32>>,
    /// The route objects that the router refers to.
    pub routes: Objects,
    /// The Rollout's AnalysisRuns.
    pub runs: Vec<AnalysisRun>,
    /// The templates that the spec names.
    pub templates: BTreeMap<TemplateKey, AnalysisTemplateSpec>,
    /// The Deployment that the spec names; none where it names none.
    pub workload: Option<Workload>,
    /// Why pods cannot come up.
    pub troubles: Vec<Trouble>,
    /// What of the last decision is refused until somebody does something about it, and why.
    pub refused: Option<String>,
    /// Whether the counts of pods and endpoints were read live, not from a cache.
    pub live: bool,
}

/// Which revision `spec.template` describes, after the API server's defaulting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Current {
    /// One that is recorded: its hash.
    Recorded(String),
    /// One that is not recorded yet: the hash it will have.
    New(String),
    /// None: the API server refuses the template.
    Refused(String),
    /// None yet: the Deployment that has the template is not adopted.
    Unknown,
}

impl Current {
    /// Its hash; none where the API server refuses the template, and where there is none yet.
    pub fn hash(&self) -> Option<&String> {
        match self {
            Self::Recorded(hash) | Self::New(hash) => Some(hash),
            Self::Refused(_) | Self::Unknown => None,
        }
    }
}

/// Scope and name of an analysis template.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TemplateKey {
    /// Whether it is a ClusterAnalysisTemplate.
    pub cluster: bool,
    /// Its name.
    pub name: String,
}

/// Why a pod cannot come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Hash of its revision.
    pub hash: String,
    /// What suffers from it: `pod web-abc-1`, or the ReplicaSet whose pods are not made.
    pub what: String,
    /// As Kubernetes names it.
    pub reason: FailFastReason,
    /// As Kubernetes explains it.
    pub message: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}: {}", self.what, self.reason, self.message)
    }
}

impl Observed {
    /// A recorded revision by its hash.
    pub fn revision(&self, hash: &str) -> Option<&Revision> {
        self.revisions.iter().find(|r| r.hash == hash)
    }
    /// Ready endpoints of `service` whose pods are of the revision `hash`.
    pub fn ready_endpoints(&self, service: &str, hash: &str) -> u32 {
        self.endpoints
            .get(service)
            .and_then(|by| by.get(hash))
            .copied()
            .unwrap_or(0)
    }
    /// A run by its name.
    pub fn run(&self, name: &str) -> Option<&AnalysisRun> {
        let mut runs = self.runs.iter();
        runs.find(|r| r.metadata.name.as_deref() == Some(name))
    }
    /// How a run stands and why; none where there is no such run.
    pub fn run_outcome(&self, name: &str) -> Option<(RunPhase, String)> {
        let run = self.run(name)?;
        let status = run.status.as_ref();
        Some((
            RunPhase::of(status),
            status.and_then(|s| s.message.clone()).unwrap_or_default(),
        ))
    }
    /// Of the Services `left` those that select the pods of one of the revisions, with its hash.
    pub fn bound<'a>(&'a self, left: &'a [String]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let bound = |name: &'a String| Some((name.as_str(), self.selected(name)?));
        let ours = |(_, hash): &(&str, &str)| self.revision(hash).is_some();
        left.iter().filter_map(bound).filter(ours)
    }
    /// Whether our finalizer is on the Rollout.
    pub fn claimed(&self) -> bool {
        let finalizers = self.rollout.metadata.finalizers.iter().flatten();
        finalizers.into_iter().any(|f| f == FINALIZER)
    }
    /// Whether the Rollout is being deleted.
    pub fn deleting(&self) -> bool {
        self.rollout.metadata.deletion_timestamp.is_some()
    }
    /// Whether pods of another revision than stable are there, or wanted.
    pub fn others(&self) -> bool {
        let status = self.rollout.status.as_ref();
        let stable = status.and_then(|s| s.stable_revision.as_ref());
        let there = |r: &Revision| r.desired() > 0 || r.current() > 0;
        stable.is_some_and(|s| self.revisions.iter().any(|r| r.hash != *s && there(r)))
    }
    /// The revision whose pods `service` selects now.
    pub fn selected(&self, service: &str) -> Option<&str> {
        self.services
            .get(service)?
            .pointer("/spec/selector")?
            .get(crate::api::names::POD_TEMPLATE_HASH)?
            .as_str()
    }
}

/// What must be looked at for a Rollout, beside its own revisions, pods and runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct References {
    /// Route objects.
    pub routes: Vec<super::object::ObjectRef>,
    /// Services.
    pub services: Vec<String>,
    /// Analysis templates.
    pub templates: Vec<TemplateKey>,
    /// The Deployment.
    pub deployment: Option<String>,
}
