//! The metric provider: what it says of a revision, and what it says in bad weather.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use serin::{
    adapters::providers::provider::{Answer, Provider},
    model::{
        measurement::{Query, Reading},
        share::rounded,
    },
    sim::{scenario::Version, world::answer},
};

use crate::{
    api::{
        kinds::{POD, ROLLOUT},
        store::{Path, text},
    },
    laws::seen::HASH,
    world::{Shared, World, lock},
};

use super::{Health, pods::serves, version};

/// Answers `errors{hash="<hash>"}`.
pub struct Metrics(pub Shared);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// What a scenario says of metrics, and what the data plane served meanwhile.
#[derive(Debug, Default)]
pub struct Said {
    /// What metrics answer, by their names.
    pub answers: BTreeMap<String, String>,
    /// How versions behave.
    pub versions: BTreeMap<String, Version>,
    /// The canary's shares that were in force, one after the other, in percent.
    pub served: Vec<u32>,
}

/// Begins the end of a query, which says which metric it is, and of which revision.
const MARK: &str = " and on() serin_sim{metric=\"";

impl Said {
    /// An analysis template whose queries say which metric they are.
    pub fn marked(mut template: Value) -> Value {
        let metrics = template.get_mut("metrics").and_then(Value::as_array_mut);
        for metric in metrics.into_iter().flatten() {
            let name = text(metric, "/name").to_owned();
            if let Some(query) = metric.pointer_mut("/provider/prometheus/query")
                && let Some(written) = query.as_str()
            {
                let hash = "{{canary.hash}}";
                *query = json!(format!("{written}{MARK}{name}\",hash=\"{hash}\"}}"));
            }
        }
        template
    }
}

impl World {
    /// How the version of a revision behaves, by its hash.
    pub fn health_of(&self, hash: &str) -> Option<Health> {
        Some(self.nature.health(&self.image_of(hash)?))
    }

    /// What a scenario has a metric say.
    fn said(&self, query: &str) -> Option<Reading> {
        let said = self.nature.said.as_ref()?;
        let (_, mark) = query.rsplit_once(MARK)?;
        let mut parts = mark.split('"');
        let (metric, hash) = (parts.next()?, parts.nth(1)?);
        let image = self.image_of(hash).unwrap_or_default();
        let behaviour = said.versions.get(version(&image));
        let behaviour = behaviour.cloned().unwrap_or_default();
        // Where pods are the weight, a pod that is ready serves.
        let served = match self.laws.case.roles.is_some() {
            true => {
                let rollout = self.store.get(&Path::new(ROLLOUT, "app"));
                let stable = rollout.map_or("", |r| text(r, "/status/stableRevision"));
                rounded(self.served()) > 0 || stable == hash
            }
            false => {
                let mut pods = self.store.all(POD);
                pods.any(|(_, p)| serves(p) && text(p, HASH) == hash)
            }
        };
        Some(answer(metric, &said.answers, &behaviour, served))
    }
}

impl Provider for Metrics {
    fn query<'a>(&'a self, query: &'a Query) -> Answer<'a> {
        Box::pin(async move {
            let (bad, value) = {
                let mut world = lock(&self.0);
                if let Some(said) = world.said(&query.text) {
                    return said;
                }
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
