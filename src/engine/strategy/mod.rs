//! Strategy: what is wanted next. It knows revisions, counts and weights, and no Kubernetes object.

pub mod attempt;
mod back;
mod background;
mod bake;
mod balance;
pub mod commands;
mod deploying;
mod rebuild;
pub mod replicas;
pub mod stages;
pub mod stepping;
pub mod steps;
mod verbs;

pub use back::{previous, restarts};
use jiff::Timestamp;

use crate::{
    api::{
        names::reason,
        status::{RolloutStatus, Waiting},
    },
    model::{
        desired::{Desired, Lowering, Roles},
        observed::{Observed, Trouble},
        progress::{Stage, brief, note_once},
        spec::Spec,
        traffic::{InForce, RouteFault, Written},
    },
};

/// What a strategy decides from.
pub struct Context<'a> {
    /// The valid spec.
    pub spec: &'a Spec,
    /// The world.
    pub observed: &'a Observed,
    /// What the data plane may be serving, where traffic is routed.
    pub force: Option<InForce>,
    /// What the routes say, where traffic is routed.
    pub written: Option<&'a Written>,
    /// Why nothing may advance, in a sentence that completes "waiting for".
    pub blocked: Option<String>,
    /// Whether that is only what does not exist yet.
    pub absent: bool,
    /// The number that the next decision will have.
    pub next: i64,
    /// The time.
    pub now: Timestamp,
}

/// What a strategy decided.
#[derive(Debug, Default)]
pub struct Decided {
    /// What it wants.
    pub desired: Desired,
    /// What it waits for.
    pub waiting: Option<Wait>,
    /// When something will be due.
    pub wake: Option<Timestamp>,
    /// The status moved on: commit it and decide anew.
    pub moved: bool,
    /// What is asked for serves, and is finished but for what is awaited: also at the end of a bake, so that it does
    /// not look unfinished once more.
    pub serves: bool,
    /// Why it cannot go on without somebody's help: reason and message.
    pub stalled: Option<(String, String)>,
}

/// What is awaited, until when, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What is awaited.
    pub for_: String,
    /// Why it is not there yet, in the cluster's words.
    pub because: Option<String>,
    /// Until when.
    pub until: Option<Timestamp>,
    /// What follows.
    pub then: String,
    /// Whether the progress deadline counts meanwhile.
    pub deadline: Deadline,
}

/// What is awaited where no pods are wanted.
const PODS_WANTED: &str = "spec.replicas to be above 0";

/// From when on the progress deadline counts in a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// From the last progress on.
    Progress,
    /// From then on, or from the last progress where that is later.
    After(Timestamp),
    /// From when on it is told that this is awaited, or from the last progress where that is later: what
    /// was awaited before might take its time.
    Told,
    /// It does not: what is awaited may take its time.
    Never,
}

impl Wait {
    /// A wait without an end of its own.
    pub fn new(for_: impl Into<String>, then: impl Into<String>) -> Self {
        Self {
            for_: for_.into(),
            because: None,
            until: None,
            then: then.into(),
            deadline: Deadline::Progress,
        }
    }
    /// A wait with an end.
    pub fn until(for_: impl Into<String>, until: Timestamp, then: impl Into<String>) -> Self {
        Self {
            until: Some(until),
            ..Self::new(for_, then)
        }
    }
    /// No pods are wanted: nothing can be shown, and nothing is wrong.
    pub fn for_pods_wanted(then: impl Into<String>) -> Self {
        Self::new(PODS_WANTED, then)
    }
    /// The same wait, and why.
    #[must_use]
    pub fn because(self, trouble: Option<&Trouble>) -> Self {
        let because = trouble.map(ToString::to_string);
        Self { because, ..self }
    }
    /// Whether a status tells of this wait, whatever it says of the reasons.
    pub fn is_told(&self, told: &Waiting) -> bool {
        told.for_ == brief(&self.text()) || told.for_.starts_with(&format!("{} (", self.for_))
    }
    /// What is awaited, and why it is not there yet.
    pub fn text(&self) -> String {
        match &self.because {
            Some(why) => format!("{} ({why})", self.for_),
            None => self.for_.clone(),
        }
    }
    /// The same wait with another deadline.
    #[must_use]
    pub fn with(self, deadline: Deadline) -> Self {
        Self { deadline, ..self }
    }
}

impl Decided {
    /// The status moved on.
    pub fn moved() -> Self {
        Self {
            moved: true,
            ..Self::default()
        }
    }
    /// Nothing but waiting.
    pub fn wait(wait: Wait) -> Self {
        Self {
            wake: wait.until,
            waiting: Some(wait),
            ..Self::default()
        }
    }
    /// What was decided is refused: that is why what is awaited is not there yet.
    pub fn refused(&mut self, why: Option<&String>) {
        // Where no pods are wanted, that says it all.
        let wait = self.waiting.as_mut().filter(|w| w.for_ != PODS_WANTED);
        if let (Some(wait), Some(why)) = (wait, why) {
            wait.because.get_or_insert_with(|| why.clone());
        }
    }
    /// Something will be due then, too.
    pub fn also_wake(&mut self, at: Option<Timestamp>) {
        self.wake = [self.wake, at].into_iter().flatten().min();
    }
}

impl Context<'_> {
    /// The Rollout's name.
    pub fn name(&self) -> &str {
        let name = self.observed.rollout.metadata.name.as_deref();
        name.unwrap_or_default()
    }

    /// Whether traffic is routed.
    pub fn shifted(&self) -> bool {
        self.spec.shifted()
    }
    /// Whether the data plane serves exactly this weight; always true where pods are the weight.
    pub fn settled_at(&self, weight: u32) -> bool {
        self.force.is_none_or(|f| f.settled_at(weight))
    }
    /// The largest share that the canary may be getting, in millionths.
    pub fn high(&self) -> u32 {
        self.force.map_or(0, |f| f.high)
    }
    /// How the weight goes back from what is given up.
    pub fn retreat(&self) -> Lowering {
        match self.spec.course.dynamic_stable {
            true => Lowering::Gradual,
            false => Lowering::AtOnce,
        }
    }
    /// Whether users come by their own Service, and not by the role Services.
    pub fn loose(&self) -> bool {
        self.written.is_some_and(|w| w.loose)
    }
    /// Whether they do, and reach pods of another revision than stable.
    pub fn strayed(&self) -> bool {
        self.written.is_some_and(|w| w.strayed)
    }
    /// The routes must name the role Services first, as a wait.
    pub fn binding(&self, then: &str) -> Wait {
        let services = self.spec.course.services.as_ref();
        let user = services.map(|s| s.user.as_str()).unwrap_or_default();
        let what = format!("the routes to name the role Services in the place of {user:?}");
        Wait::new(what, then)
    }
    /// Whether our finalizer is on the Rollout.
    pub fn claimed(&self) -> bool {
        self.observed.claimed()
    }
    /// Whether the Rollout is being deleted.
    pub fn deleting(&self) -> bool {
        self.observed.deleting()
    }
    /// Why pods of a revision cannot come up: first what ends an attempt.
    pub fn trouble(&self, hash: &str) -> Option<&Trouble> {
        let of = self.observed.troubles.iter().filter(|t| t.hash == hash);
        of.min_by_key(|t| !self.spec.fail_fast.contains(&t.reason))
    }
    /// Available pods of a revision.
    pub fn available(&self, hash: &str) -> u32 {
        self.observed.revision(hash).map_or(0, |r| r.available())
    }
    /// What the role Services select, as it is.
    pub fn selected(&self, canary: bool) -> Option<&str> {
        let services = self.spec.course.services.as_ref()?;
        self.observed.selected(if canary {
            &services.canary
        } else {
            &services.stable
        })
    }
    /// Why the weight has not settled, as a wait.
    pub fn settling(&self, weight: u32, then: &str) -> Wait {
        if self.strayed() {
            return self.binding(then);
        }
        let missing = |w: &Written| match &w.share {
            Err(RouteFault::Missing(what)) => Some(format!("{what} does not exist")),
            _ => None,
        };
        let lacking = self.written;
        let lacking = lacking.and_then(|w| missing(w).or(w.lacking.clone()));
        match (self.force.and_then(|f| f.settles_at), lacking) {
            (Some(at), _) => {
                Wait::until(format!("weight {weight} to reach the data plane"), at, then)
            }
            (None, Some(lacking)) => {
                Wait::new(format!("weight {weight} to be accepted: {lacking}"), then)
            }
            (None, None) => Wait::new(format!("weight {weight} to be accepted"), then),
        }
    }
}

/// A newer Serin wrote this stage. Traffic does not move on a doubt.
fn unknown(stage: &str) -> Decided {
    let message = format!("stage {stage:?} is unknown to this version: nothing is moved");
    Decided {
        stalled: Some((reason::INTERNAL_ERROR.into(), message)),
        ..Decided::default()
    }
}

/// Decides what is wanted, and moves the status on by at most one stage or step.
pub fn decide(cx: &Context<'_>, status: &mut RolloutStatus) -> Decided {
    if rebuild::rebuild(cx, status) {
        return Decided::moved();
    }
    // Before anything else is made of it: an attempt that is not understood is not ended either. What
    // changes an attempt has moved on.
    let stage = match &status.attempt {
        None => None,
        Some(attempt) => match Stage::parse(&attempt.stage) {
            None => return unknown(&attempt.stage),
            known => known,
        },
    };
    if commands::handle(cx, status) {
        return Decided::moved();
    }
    if attempt::mirror_paused(cx, status)
        || back::ended(cx, status)
        || attempt::turn(cx, status)
        || verbs::restart::forget(cx, status)
    {
        return Decided::moved();
    }
    let (Some(current), Some(stage)) = (status.attempt.clone(), stage) else {
        return Decided::wait(Wait::new(
            "the first revision to be recorded",
            "it is deployed",
        ));
    };
    let mut decided = stages::run(cx, status, &current, stage);
    if decided.moved {
        return decided;
    }
    if let Some(done) = attempt::overdue(cx, status, &current, stage, &mut decided) {
        return done;
    }
    let (steps, analysis, _) = back::way(cx, status, &current.hash);
    let measured = matches!(stage, Stage::Starting | Stage::Stepping);
    let others = measured && current.analysis.as_ref() != analysis;
    let steps_left = stage.can_abort() && stage != Stage::Baking;
    let differs = match (steps_left && current.steps != steps, others) {
        (true, _) => Some(("steps in the spec are not those", "ones wait")),
        (_, true) => Some(("analysis in the spec is not that", "one waits")),
        _ => None,
    };
    if let Some((what, new)) = differs {
        let message = format!(
            "the {what} of attempt {}, which goes on with its own: the new {new} for the next",
            current.number
        );
        note_once(status, cx.now, "Normal", reason::STEPS_CHANGED, &message);
    }
    if cx.spec.former {
        let message = format!(
            "the Services or routes in the spec are not those by which attempt {} shifts traffic, which stay in force until all of it is back at stable",
            current.number
        );
        note_once(status, cx.now, "Normal", reason::ROUTING_CHANGED, &message);
    }
    back::record(cx, status, &mut decided);
    attempt::drain(cx, status, &mut decided);
    decided.desired.pin = back::pin(status);
    decided.desired.keep.extend(
        [
            status.stable_revision.clone(),
            status.current_revision.clone(),
            Some(current.hash),
            status.undo.as_ref().map(|u| u.over.clone()),
            status.bake.as_ref().map(|b| b.from.clone()),
        ]
        .into_iter()
        .flatten(),
    );
    decided
}

/// The hash that is asked for: that of an undo, or of the template: the recorded one, the one that is
/// being recorded, or, where it is refused, what was current before.
pub fn wanted_hash(observed: &Observed, status: &RolloutStatus) -> Option<String> {
    if let Some(undo) = back::held(observed, status) {
        return Some(undo.revision.clone());
    }
    let hash = observed.current.hash();
    hash.or(status.current_revision.as_ref()).cloned()
}

/// Both role Services on one revision.
pub fn both(hash: &str) -> Roles {
    Roles {
        stable: hash.to_owned(),
        canary: hash.to_owned(),
    }
}

/// S3: the largest weight that what is committed allows the canary.
pub fn allowed_weight(status: &RolloutStatus) -> u32 {
    let Some(attempt) = &status.attempt else {
        return 0;
    };
    match Stage::parse(&attempt.stage) {
        Some(Stage::Stepping) => {
            let index = usize::try_from(attempt.step_index).unwrap_or(0);
            steps::stance(&attempt.steps, index).weight
        }
        Some(Stage::Promoting | Stage::Baking | Stage::Switching) => 100,
        _ => 0,
    }
}
