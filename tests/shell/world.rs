//! A Rollout in a namespace, and a Cluster that watches it.

use std::sync::Arc;

use serde_json::{Value, json};
use serin::{
    adapters::cluster::{
        Cluster,
        world::{
            mirror::Key,
            stores::{Scope, Signals},
        },
    },
    controller::rollouts,
};

use crate::apiserver::Server;

pub const ROLLOUTS: &str = "serin.dev/v1alpha1/rollouts";
pub const SETS: &str = "apps/v1/replicasets";
pub const REVISIONS: &str = "apps/v1/controllerrevisions";
pub const EVENTS: &str = "events.k8s.io/v1/events";

pub fn key() -> Key {
    Key::new("ns", "web")
}

/// A Rollout without traffic routing.
pub fn rollout(image: &str) -> Value {
    json!({
        "apiVersion": "serin.dev/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
            "strategy": {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}},
        },
    })
}

/// Starts to watch, and waits until everything is listed.
pub async fn cluster(server: &Arc<Server>) -> (Cluster, Signals) {
    cluster_in(server, &[]).await
}

/// Starts to watch some namespaces, and waits until everything is listed that may be.
pub async fn cluster_in(server: &Arc<Server>, namespaces: &[&str]) -> (Cluster, Signals) {
    let scope = Scope {
        namespaces: namespaces.iter().map(|n| (*n).to_owned()).collect(),
        routes: rollouts::route_kinds(),
        references: Arc::new(rollouts::references),
    };
    let now = Arc::new(|| jiff::Timestamp::UNIX_EPOCH);
    let (cluster, signals) = Cluster::start(
        server.client(),
        scope,
        Arc::new(|_, _, _| {}),
        now,
        "test".to_owned(),
    );
    cluster.world().ready().await;
    (cluster, signals)
}
