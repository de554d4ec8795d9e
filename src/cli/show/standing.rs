//! How a Rollout stands, as an exit code tells it.

use crate::api::{
    Rollout,
    names::{condition, reason},
};

use super::words::status;

/// How a Rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The revision that the template describes is stable and ready.
    Healthy,
    /// Work is going on.
    Busy,
    /// It waits for a person.
    Paused,
    /// The revision was given up by Serin.
    RolledBack,
    /// The revision was given up by somebody.
    Aborted,
    /// It cannot go on without help.
    Stalled,
    /// No controller has looked at this generation yet.
    Unseen,
    /// It is being deleted.
    Leaving,
}

impl Standing {
    /// Of a Rollout.
    pub fn of(rollout: &Rollout) -> Self {
        let status = status(rollout);
        let generation = rollout.metadata.generation;
        if rollout.metadata.deletion_timestamp.is_some() {
            return Self::Leaving;
        }
        if status.observed_generation.is_none() || status.observed_generation != generation {
            return Self::Unseen;
        }
        let holds = |type_: &str| {
            let mut all = status.conditions.iter();
            all.find(|c| c.type_ == type_ && c.status == "True")
                .filter(|c| c.observed_generation.is_none_or(|g| Some(g) == generation))
        };
        if let Some(stalled) = holds(condition::STALLED) {
            return match stalled.reason.as_str() {
                reason::ROLLED_BACK => Self::RolledBack,
                reason::ABORTED => Self::Aborted,
                _ => Self::Stalled,
            };
        }
        let desired =
            status.current_revision.is_some() && status.current_revision == status.stable_revision;
        if holds(condition::READY).is_some() && desired {
            Self::Healthy
        } else if holds(condition::PAUSED).is_some() {
            Self::Paused
        } else {
            Self::Busy
        }
    }

    /// Whether there is nothing more to wait for.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Healthy | Self::RolledBack | Self::Aborted | Self::Stalled
        )
    }

    /// Its exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::RolledBack | Self::Aborted => 2,
            Self::Stalled => 3,
            Self::Busy | Self::Paused | Self::Unseen | Self::Leaving => NOT_FINISHED,
        }
    }

    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Busy => "Progressing",
            Self::Paused => "Paused",
            Self::RolledBack => "RolledBack",
            Self::Aborted => "Aborted",
            Self::Stalled => "Stalled",
            Self::Unseen => "Unobserved",
            Self::Leaving => "Deleting",
        }
    }
}

/// The exit code of what is not finished, in time or at all.
pub const NOT_FINISHED: u8 = 4;

/// What is said of a Rollout in one sentence.
pub fn message(rollout: &Rollout) -> String {
    match Standing::of(rollout) {
        Standing::Unseen => format!(
            "no controller has looked at generation {} yet",
            rollout.metadata.generation.unwrap_or_default()
        ),
        Standing::Leaving => "it is being deleted".to_owned(),
        _ => status(rollout).message.unwrap_or_default(),
    }
}
