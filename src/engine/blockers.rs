//! Blockers: what in the world keeps a Rollout from advancing, found before anything is decided.

use jiff::Timestamp;

use crate::{
    api::{names::reason, status::RolloutStatus},
    model::{
        observed::{Current, Observed},
        progress::note_once,
        spec::{FieldError, Spec, strays},
        traffic::RouteFault,
    },
};

use super::{
    analysis,
    strategy::{Decided, Wait},
    workload,
};

/// What keeps a Rollout from advancing.
#[derive(Debug, Default)]
pub(super) struct Blockers {
    /// What is written wrongly, by field path.
    pub(super) wrong: Vec<FieldError>,
    /// What is not there yet.
    pub(super) missing: Vec<String>,
}

/// Looks for everything that keeps a Rollout from advancing.
pub(super) fn find<'a>(
    spec: &Spec,
    observed: &Observed,
    routes: impl IntoIterator<Item = &'a RouteFault>,
) -> Blockers {
    let mut found = Blockers {
        wrong: strays(&observed.rollout),
        missing: vec![],
    };
    if let (Current::Refused(message), true) = (&observed.current, found.wrong.is_empty()) {
        found.wrong.push(FieldError {
            path: "spec.template".into(),
            message: message.clone(),
        });
    }
    if let Some(missing) = workload::adoption::missing(observed) {
        found.missing.push(missing);
    }
    for fault in workload::services::check(spec, observed) {
        match fault {
            workload::services::ServiceFault::Missing(what) => found.missing.push(what),
            workload::services::ServiceFault::Wrong(error) => found.wrong.push(error),
        }
    }
    for fault in routes {
        match fault {
            RouteFault::Missing(what) => found.missing.push(what.clone()),
            RouteFault::Unfit { path, message } => found.wrong.push(FieldError {
                path: path.clone(),
                message: message.clone(),
            }),
            RouteFault::Disagree(_) => {}
        }
    }
    for fault in analysis::check(spec, observed) {
        match fault {
            analysis::TemplateFault::Missing(what) => found.missing.push(what),
            analysis::TemplateFault::Wrong(error) => found.wrong.push(error),
        }
    }
    found
}

impl Blockers {
    /// What is awaited, as a sentence that completes "waiting for".
    pub(super) fn sentence(&self) -> Option<String> {
        if let Some(first) = self.wrong.first() {
            return Some(format!("the spec to be mended: {first}"));
        }
        (!self.missing.is_empty()).then(|| format!("{} to exist", self.missing.join(", ")))
    }

    /// Says it: every fault by its field path.
    pub(super) fn tell(&self, status: &mut RolloutStatus, decided: &mut Decided, now: Timestamp) {
        if !self.wrong.is_empty() {
            let all: Vec<String> = self.wrong.iter().map(ToString::to_string).collect();
            let message = all.join("; ");
            note_once(status, now, "Warning", reason::INVALID_SPEC, &message);
            decided.stalled = Some((reason::INVALID_SPEC.into(), message));
        } else if let Some(absent) = self.sentence()
            && decided.waiting.is_none()
            && !decided.moved
        {
            decided.waiting = Some(Wait::new(absent, "it is ready"));
        }
    }
}
