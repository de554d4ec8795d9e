//! Who is served, by which way users come.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    engine::traffic::is_route,
    model::{object::ObjectRef, share::FULL},
};

use super::{Cluster, data_plane::is_loose};

impl Cluster {
    /// The canary's share of the traffic that is served, in millionths.
    pub fn share(&self) -> u32 {
        let status = self.rollout.as_ref().and_then(|r| r.status.as_ref());
        let stable = status.and_then(|s| s.stable_revision.as_ref());
        let behind = self.gateway.behind.get(&self.names.services.stable);
        match (self.names.switched, stable, behind) {
            // A route that is gone sends nobody anywhere.
            (false, _, _) if !self.objects.keys().any(|r| is_route(r.kind)) => 0,
            (false, Some(stable), _) if self.gateway.loose => self.share_of_others(stable),
            (false, _, _) => self.gateway.share,
            // One that selects the pods of all revisions sends to stable, too.
            (true, Some(stable), Some(behind)) if stable != behind && !behind.is_empty() => FULL,
            (true, _, _) => 0,
        }
    }

    /// What the user's Service, which selects all ready pods, sends to those that are not stable's.
    fn share_of_others(&self, stable: &str) -> u32 {
        let now = self.now;
        let all: u32 = self.pods.values().map(|p| p.ready(now)).sum();
        let others = u64::from(all - self.ready_of(stable, now)) * u64::from(FULL);
        let share = others.checked_div(u64::from(all)).unwrap_or(0);
        u32::try_from(share).unwrap_or(FULL)
    }

    /// Whether users are sent to their own Service by any route, one of them as it is about to be.
    pub(super) fn names_user(&self, changed: &ObjectRef, value: &Value) -> bool {
        let others = self.objects.iter().filter(|(r, _)| *r != changed);
        let mut routes = others.chain([(changed, value)]);
        routes.any(|(r, v)| is_route(r.kind) && is_loose(v, &self.names.services.user))
    }

    /// Whether users are sent to their own Service, or may still be.
    pub fn loose(&self) -> bool {
        let mut routes = self.objects.iter().filter(|(r, _)| is_route(r.kind));
        self.gateway.loose || routes.any(|(_, v)| is_loose(v, &self.names.services.user))
    }

    /// A revision that is not stable and has ready pods, or pods at all.
    pub fn stranger(&self, ready_at: Option<Timestamp>) -> Option<String> {
        let status = self.status();
        let stable = status.stable_revision?;
        let mut sets = self.pods.values().filter(|p| p.hash != stable);
        let found = sets.find(|p| match ready_at {
            Some(now) => p.ready(now) > 0,
            None => !p.pods.is_empty(),
        });
        found.map(|p| p.hash.clone())
    }
}
