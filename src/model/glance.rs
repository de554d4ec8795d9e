//! Glance: what is shown of a Rollout at every scrape, little enough to be kept of each.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::{
    Rollout,
    names::{condition, reason},
    status::Track,
};

/// What a Rollout's status says, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// Who looks after it: `spec.controllerName`.
    pub controller: Option<Box<str>>,
    /// Its phase; none before the first look.
    pub phase: Option<Box<str>>,
    /// Why it cannot go on without somebody's help, in a word, and since when.
    pub stalled: Option<(Box<str>, Timestamp)>,
    /// Since when it waits for a person.
    pub paused: Option<Timestamp>,
    /// The shares of its tracks.
    pub shares: Box<[Share]>,
}

/// A track's share of the traffic, in percent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The track.
    pub track: Box<str>,
    /// As it should be.
    pub desired: i32,
    /// As it was accepted, or where the pods are the weight measured; none where nobody knows.
    pub found: Option<i32>,
}

impl Glance {
    /// Of a Rollout.
    pub fn of(rollout: &Rollout) -> Self {
        let controller = rollout.spec.controller_name.as_deref().map(Into::into);
        let Some(status) = &rollout.status else {
            return Self {
                controller,
                ..Self::default()
            };
        };
        let stands = |name: &str| {
            let stands = |c: &&Condition| c.type_ == name && c.status == "True";
            status.conditions.iter().find(stands)
        };
        let stalled = stands(condition::STALLED);
        let paused = stands(condition::PAUSED);
        Self {
            controller,
            phase: status.phase.as_deref().map(Into::into),
            stalled: stalled.map(|c| (c.reason.as_str().into(), c.last_transition_time.0)),
            paused: paused.map(|c| c.last_transition_time.0),
            shares: status.tracks.iter().filter_map(share).collect(),
        }
    }

    /// Since when it stands rolled back by Serin.
    pub fn rolled_back(&self) -> Option<Timestamp> {
        let (why, since) = self.stalled.as_ref()?;
        (&**why == reason::ROLLED_BACK).then_some(*since)
    }
}

fn share(track: &Track) -> Option<Share> {
    let weight = track.weight.as_ref()?;
    Some(Share {
        track: track.name.as_str().into(),
        desired: weight.desired,
        found: weight.accepted.or(weight.measured),
    })
}
