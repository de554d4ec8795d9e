//! Desired, the narrow waist: what a strategy wants, in revisions, counts and weights. It names no
//! Kubernetes object; workload, traffic and analysis read it and know no strategy.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::strategy::Analysis;

use super::revisions::Judged;

/// What a strategy wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// Pods by revision. A revision that is not named keeps its size.
    pub replicas: BTreeMap<String, u32>,
    /// Where pods are the weight: the revision in flight, and how many pods make up its share.
    pub share: Option<(String, u32)>,
    /// The canary's share of the traffic in percent, where traffic is routed.
    pub weight: Option<u32>,
    /// Which revisions the role Services select.
    pub roles: Option<Roles>,
    /// Analyses that must run.
    pub runs: Vec<DesiredRun>,
    /// Whether routes may be bent, so that they must be bent back before the Rollout goes.
    pub claim: bool,
    /// Whether routes must name the role Services, whatever they name at rest.
    pub bind: bool,
    /// What became of revisions, by hash.
    pub verdicts: BTreeMap<String, Judged>,
    /// The revision that was promoted last and when, where its record does not tell so yet.
    pub promoted: Option<(String, Timestamp)>,
    /// Which revision stands in for the template's.
    pub pin: Pin,
    /// Revisions that are not pruned, whatever their age.
    pub keep: std::collections::BTreeSet<String>,
    /// How the weight goes back to stable.
    pub lowering: Lowering,
}

/// Which revision's record says that it stands in for the template's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// Whatever they say.
    #[default]
    Kept,
    /// None of them.
    Nowhere,
    /// One.
    On {
        /// Its hash.
        revision: String,
        /// The hash of the template's revision.
        over: String,
    },
}

/// How the weight goes back to stable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lowering {
    /// When stable can bear it, or serves no worse than what serves now.
    #[default]
    NoWorse,
    /// The same, and without the way over a trace: the canary is given up.
    AtOnce,
    /// The same; and as long as stable cannot bear all of it, as much of it as stable can.
    Gradual,
}

impl Lowering {
    /// Whether the canary is given up.
    pub fn retreats(self) -> bool {
        matches!(self, Self::AtOnce | Self::Gradual)
    }
}

/// Which revisions the role Services select.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    /// The stable Service.
    pub stable: String,
    /// The canary Service.
    pub canary: String,
}

/// What of an attempt an analysis judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A step, by its index.
    Step(usize),
    /// All of it, in the background.
    Background,
    /// The time after its promotion.
    Bake,
}

impl Part {
    /// Its word in an AnalysisRun.
    pub fn word(self) -> String {
        match self {
            Self::Step(index) => index.to_string(),
            Self::Background => "background".to_owned(),
            Self::Bake => "bake".to_owned(),
        }
    }
    /// Whether the word of an AnalysisRun means a step, which waits for its verdict.
    pub fn is_step(word: &str) -> bool {
        word.parse::<usize>().is_ok()
    }
}

/// An analysis that must run.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredRun {
    /// The run's name, derived from revision, attempt, part and try.
    pub name: String,
    /// Hash of the revision that it judges.
    pub revision: String,
    /// Hash of the stable revision.
    pub stable: String,
    /// Number of the attempt.
    pub attempt: i64,
    /// What of the attempt it judges.
    pub part: Part,
    /// Measurements look back to here, not further.
    pub start: Timestamp,
    /// What to measure.
    pub analysis: Analysis,
}
