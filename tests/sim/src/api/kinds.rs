//! The kinds that there are.

use serin::model::object;

/// A kind of object.
#[derive(Debug)]
pub struct Kind {
    /// Its group, version and names.
    pub of: object::Kind,
    /// Whether its status is a subresource, so that other writes leave it alone.
    pub status: bool,
    /// Whether its generation counts changes of the spec.
    pub generation: bool,
}

/// A kind, by its place in the list.
pub type Id = usize;

/// Rollout.
pub const ROLLOUT: Id = 0;
/// ReplicaSet.
pub const SET: Id = 1;
/// ControllerRevision.
pub const REVISION: Id = 2;
/// Service.
pub const SERVICE: Id = 3;
/// EndpointSlice.
pub const SLICE: Id = 4;
/// Pod.
pub const POD: Id = 5;
/// HTTPRoute.
pub const ROUTE: Id = 6;
/// AnalysisRun.
pub const RUN: Id = 7;
/// AnalysisTemplate.
pub const TEMPLATE: Id = 8;
/// Event.
pub const EVENT: Id = 10;
/// Lease.
pub const LEASE: Id = 11;

const fn kind(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    (status, generation): (bool, bool),
) -> Kind {
    let of = object::Kind {
        group,
        version,
        kind,
        plural,
    };
    Kind {
        of,
        status,
        generation,
    }
}

impl Kind {
    /// Whether it comes from a CustomResourceDefinition.
    pub fn custom(&self) -> bool {
        self.of.group.contains("gateway") || self.of.group == "serin.dev"
    }
    /// Whether a PUT makes what is not there.
    pub fn made_by_put(&self) -> bool {
        matches!(self.of.kind, "Lease" | "Service" | "Event")
    }
    /// Whether a DELETE answers with what is gone, not only that it is.
    pub fn shows_gone(&self) -> bool {
        matches!(self.of.kind, "Service" | "Pod")
    }
    /// Whether a PUT without a resourceVersion is taken.
    pub fn unconditional(&self) -> bool {
        !self.custom() && self.of.kind != "Lease"
    }
}

/// All of them.
pub const KINDS: &[Kind] = &[
    kind("serin.dev", "v1alpha1", "Rollout", "rollouts", (true, true)),
    kind("apps", "v1", "ReplicaSet", "replicasets", (true, true)),
    kind(
        "apps",
        "v1",
        "ControllerRevision",
        "controllerrevisions",
        (false, false),
    ),
    kind("", "v1", "Service", "services", (true, false)),
    kind(
        "discovery.k8s.io",
        "v1",
        "EndpointSlice",
        "endpointslices",
        (false, true),
    ),
    kind("", "v1", "Pod", "pods", (true, false)),
    kind(
        "gateway.networking.k8s.io",
        "v1",
        "HTTPRoute",
        "httproutes",
        (true, true),
    ),
    kind(
        "serin.dev",
        "v1alpha1",
        "AnalysisRun",
        "analysisruns",
        (true, true),
    ),
    kind(
        "serin.dev",
        "v1alpha1",
        "AnalysisTemplate",
        "analysistemplates",
        (false, true),
    ),
    kind(
        "serin.dev",
        "v1alpha1",
        "ClusterAnalysisTemplate",
        "clusteranalysistemplates",
        (false, true),
    ),
    kind("events.k8s.io", "v1", "Event", "events", (false, false)),
    kind(
        "coordination.k8s.io",
        "v1",
        "Lease",
        "leases",
        (false, false),
    ),
    kind("apps", "v1", "Deployment", "deployments", (true, true)),
];

/// A kind by its group and its name in paths.
pub fn find(group: &str, plural: &str) -> Option<Id> {
    KINDS
        .iter()
        .position(|k| k.of.group == group && k.of.plural == plural)
}
