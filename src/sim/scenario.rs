//! Scenarios: what is given, what the world is like, what happens when, and what must come of it.
//!
//! The format is documented in `docs/scenarios.md`.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::units::HumanDuration;

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a sentence.
    pub about: String,
    /// Where it can be played.
    #[serde(default)]
    pub lab: bool,
    /// What is there at the beginning.
    pub given: Given,
    /// How the virtual world behaves.
    #[serde(default)]
    pub world: World,
    /// What happens, in order of time.
    #[serde(default)]
    pub events: Vec<Event>,
    /// How long it goes on at most.
    pub until: HumanDuration,
    /// What must come of it.
    pub expect: Expect,
}

impl Scenario {
    /// Reads the scenario of a file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|e| format!("cannot be read: {e}"))?;
        serde_saphyr::from_str(&text).map_err(|e| e.without_snippet().to_string())
    }
}

/// What is there at the beginning.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Given {
    /// The Rollout's spec, template apart.
    pub spec: Value,
    /// The version that the template names first.
    #[serde(default = "first")]
    pub version: String,
    /// A Deployment `app` of 3 pods, which the Rollout may adopt by `workloadRef`: a merge patch of it.
    #[serde(default)]
    pub adopt: Option<Value>,
    /// Analysis templates by name.
    #[serde(default)]
    pub templates: BTreeMap<String, Value>,
    /// Annotations of the Rollout.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Weights of the route at the beginning: stable and canary. Without them the route has none.
    #[serde(default = "rest")]
    pub route: Option<(u32, u32)>,
}

fn first() -> String {
    "v1".into()
}
#[allow(
    clippy::unnecessary_wraps,
    reason = "it is the default of an optional field"
)]
fn rest() -> Option<(u32, u32)> {
    Some((100, 0))
}

/// How the virtual world behaves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct World {
    /// From a pod's creation to its readiness. Default: 2s.
    pub pod_ready_after: Option<HumanDuration>,
    /// From a route's change to its acceptance. Default: 100ms.
    pub accept_after: Option<HumanDuration>,
    /// From a change to its effect in the data plane. Default: 200ms.
    pub effect_after: Option<HumanDuration>,
    /// How versions behave.
    #[serde(default)]
    pub versions: BTreeMap<String, Version>,
}

/// How a version behaves.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Version {
    /// Share of the answers that are errors, 0 to 1.
    #[serde(default)]
    pub error_rate: f64,
    /// Latency of its answers, in seconds.
    #[serde(default)]
    pub latency: f64,
    /// It never becomes ready.
    #[serde(default)]
    pub never_ready: bool,
    /// It crashes when it starts.
    #[serde(default)]
    pub crash: bool,
    /// Its image cannot be pulled.
    #[serde(default)]
    pub no_image: bool,
    /// No node takes its pods.
    #[serde(default)]
    pub unschedulable: bool,
}

/// Something that happens.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// When, from the beginning.
    #[serde(default)]
    pub at: Option<HumanDuration>,
    /// When the Rollout's step, stage or phase is this: `step 1`, `stage Switching`, `phase Paused`.
    #[serde(default)]
    pub when: Option<String>,
    /// Merge patch of the Rollout's spec.
    #[serde(default)]
    pub spec: Option<Value>,
    /// The template names this version.
    #[serde(default)]
    pub version: Option<String>,
    /// Annotations are set. `$canary` stands for the hash in flight, `$stable` for the stable one, `$v1` for that
    /// of `v1`.
    #[serde(default)]
    pub annotate: BTreeMap<String, String>,
    /// Somebody else sets the route's weights: stable and canary.
    #[serde(default)]
    pub route: Option<(u32, u32)>,
    /// Pods of this version crash from now on.
    #[serde(default)]
    pub crash: Option<String>,
    /// There may be so many pods from now on. More are refused; those that are there stay.
    #[serde(default)]
    pub quota: Option<u32>,
    /// One pod of this version stops being ready, for good.
    #[serde(default)]
    pub unready: Option<String>,
    /// Pods of this version that crash or stopped being ready are ready again.
    #[serde(default)]
    pub ready: Option<String>,
    /// Somebody else changes objects: merge patches by kind and name, `HTTPRoute/app`; `null` deletes it.
    #[serde(default)]
    pub edit: BTreeMap<String, Value>,
    /// Somebody writes the status by hand: a merge patch. What it tells from then on may be wrong.
    #[serde(default)]
    pub status: Option<Value>,
    /// So many of the next writes are refused.
    #[serde(default)]
    pub refuse: Option<u32>,
    /// So many times somebody else writes an object just before Serin does.
    #[serde(default)]
    pub contend: Option<u32>,
    /// What a metric answers from now on: a number, `NaN`, `none` or `down`; `normal` ends it.
    #[serde(default)]
    pub metrics: BTreeMap<String, String>,
    /// The controller dies between its next commit and what it would do then.
    #[serde(default)]
    pub kill_controller: bool,
    /// The Rollout's status is lost.
    #[serde(default)]
    pub lose_status: bool,
    /// From a change of the route to its effect, from now on.
    #[serde(default)]
    pub effect_after: Option<HumanDuration>,
    /// From a change of the route to its acceptance, from now on.
    #[serde(default)]
    pub accept_after: Option<HumanDuration>,
    /// The Rollout is deleted.
    #[serde(default)]
    pub delete: bool,
    /// What goes wrong between the controller and the API server. Only the real controller can play it.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// Something that goes wrong between the controller and the API server.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Fault {
    /// The watch of a kind ends.
    CutWatch(String),
    /// A kind is not heard of, though its watch stands.
    SilentWatch(Lasting),
    /// A kind is listed anew as it was a minute ago, and told of so much late.
    PastWatch(Lasting),
    /// Admission refuses every write of a kind.
    Forbid(Lasting),
    /// The API server forgets what was before, and all watches end.
    Compact,
    /// So many of the next writes that carry out what was decided never arrive.
    LoseWrites(u32),
    /// So many of the next writes that carry out what was decided are done, and nobody is told.
    LoseAnswers(u32),
    /// The controller dies.
    Crash,
    /// A second controller works for so long, as if it led, too.
    SecondLeader(HumanDuration),
}

/// A kind of object, and for how long.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lasting {
    /// The kind: `HTTPRoute`.
    pub kind: String,
    /// How long.
    #[serde(rename = "for")]
    pub lasts: HumanDuration,
}

/// What must come of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expect {
    /// The phase at the end.
    pub phase: Option<String>,
    /// The version of the stable revision at the end.
    pub stable: Option<String>,
    /// The weights that the data plane served, one after the other.
    pub weights: Option<Vec<u32>>,
    /// Reasons that the history must hold, in this order, others between them.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Reasons that the history must not hold.
    #[serde(default)]
    pub never: Vec<String>,
    /// What the status' message must contain at the end: `$v1` stands for the hash of `v1`, `...` for
    /// anything.
    #[serde(default)]
    pub message: Option<String>,
    /// Outcomes of commands, in order: `promote Done`.
    #[serde(default)]
    pub commands: Option<Vec<String>>,
    /// Pods by version at the end.
    #[serde(default)]
    pub pods: BTreeMap<String, u32>,
    /// Objects at the end: values by kind and name, and by JSON pointer; `$v1` stands for the hash of `v1`.
    #[serde(default)]
    pub objects: BTreeMap<String, BTreeMap<String, Value>>,
    /// Phases of the AnalysisRuns at the end, by attempt, and in the order of their names.
    #[serde(default)]
    pub runs: Option<Vec<String>>,
    /// So many writes at most, from beginning to end.
    #[serde(default)]
    pub most_writes: Option<u64>,
    /// So many rounds at most, from beginning to end.
    #[serde(default)]
    pub most_rounds: Option<u64>,
    /// Weight on a backend without a ready pod: allowed where the world itself takes the pods away.
    #[serde(default)]
    pub void_allowed: bool,
    /// The Rollout is gone at the end.
    #[serde(default)]
    pub gone: bool,
}
