//! The metric provider: what it says of a revision, and what it says in bad weather.

use serin::{
    adapters::providers::provider::{Answer, Provider},
    model::measurement::{Query, Reading},
};

use crate::{
    api::{kinds::SET, store::text},
    world::{Shared, World, lock},
};

use super::Health;

/// Answers `errors{hash="<hash>"}`.
pub struct Metrics(pub Shared);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl World {
    /// How the version of a revision behaves, by its hash.
    pub fn health_of(&self, hash: &str) -> Option<Health> {
        let mut sets = self.store.all(SET);
        let (_, set) = sets.find(|(_, s)| text(s, "/metadata/labels/pod-template-hash") == hash)?;
        Some(
            self.nature
                .health(text(set, "/spec/template/spec/containers/0/image")),
        )
    }
}

impl Provider for Metrics {
    fn query<'a>(&'a self, query: &'a Query) -> Answer<'a> {
        Box::pin(async move {
            let (bad, value) = {
                let mut world = lock(&self.0);
                let hash = query.text.split('"').nth(1).unwrap_or_default();
                let health = world.health_of(hash);
                let bad = world.weather.metric();
                if bad.is_some() {
                    world.weather.strike("metric provider");
                }
                (bad, health)
            };
            match (bad, value) {
                (Some(0), _) => Reading::NoData("no sample".into()),
                (Some(1), _) => Reading::Error("HTTP 503".into()),
                (Some(2), _) => Reading::NoData("NaN".into()),
                (Some(_), _) => std::future::pending().await,
                (None, None) => Reading::NoData("no such revision".into()),
                (None, Some(Health::Bad)) => Reading::Value(1.0),
                (None, Some(_)) => Reading::Value(0.0),
            }
        })
    }
}
