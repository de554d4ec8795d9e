//! What Kubernetes does about ReplicaSets: pods come up, become ready, crash, go.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::rollout::FailFastReason;

/// A pod.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Pod {
    /// Name.
    pub name: String,
    /// When it becomes ready; none for one that never does.
    pub ready_at: Option<Timestamp>,
    /// Why it cannot start, as the kubelet says it.
    pub trouble: Option<(FailFastReason, String)>,
}

impl Pod {
    /// Whether it is ready.
    pub fn ready(&self, now: Timestamp) -> bool {
        self.trouble.is_none() && self.ready_at.is_some_and(|t| t <= now)
    }
}

/// The pods of one ReplicaSet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct PodSet {
    /// Hash of its revision.
    pub hash: String,
    /// The version that its template names.
    pub version: String,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Counts the pods that were made.
    pub made: u64,
    /// Why no more are made.
    #[serde(default)]
    pub refused: Option<String>,
}

impl PodSet {
    /// Ready pods.
    pub fn ready(&self, now: Timestamp) -> u32 {
        count(self.pods.iter().filter(|p| p.ready(now)).count())
    }
    /// Pods that have been ready for `seconds`.
    pub fn available(&self, now: Timestamp, seconds: i64) -> u32 {
        let since = |p: &&Pod| {
            p.ready(now)
                && p.ready_at
                    .is_some_and(|t| now.duration_since(t).as_secs() >= seconds)
        };
        count(self.pods.iter().filter(since).count())
    }
    /// When the next pod becomes ready or available.
    pub fn next(&self, now: Timestamp, seconds: i64) -> Option<Timestamp> {
        let delay = jiff::SignedDuration::from_secs(seconds);
        self.pods
            .iter()
            .filter_map(|p| p.ready_at)
            .flat_map(|t| [Some(t), t.saturating_add(delay).ok()])
            .flatten()
            .filter(|t| *t > now)
            .min()
    }
}

/// A count that fits.
pub fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
