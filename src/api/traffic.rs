//! Traffic routing: one field for each router.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::units::HumanDuration;

/// How traffic is split between the stable and the canary Service. Set exactly one router.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = one_router)]
pub struct TrafficRouting {
    /// How long after the route's controllers have accepted a weight the data plane may still serve
    /// the old one. A weight counts only when it was accepted and this time has passed; pods are
    /// removed no earlier. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation_delay: Option<HumanDuration>,
    /// Weights of routes of the Gateway API.
    #[serde(
        default,
        rename = "gatewayAPI",
        skip_serializing_if = "Option::is_none"
    )]
    pub gateway_api: Option<GatewayApi>,
}

/// The fields of TrafficRouting that are no routers.
const NO_ROUTERS: [&str; 1] = ["propagationDelay"];

/// Adds the rule that exactly one router is set, whichever there are.
fn one_router(schema: &mut Schema) {
    let fields = schema.get("properties").and_then(Value::as_object);
    let routers: Vec<&str> = fields
        .into_iter()
        .flat_map(|fields| fields.keys().map(String::as_str))
        .filter(|name| !NO_ROUTERS.contains(name))
        .collect();
    let set: Vec<String> = routers.iter().map(|r| format!("has(self.{r})")).collect();
    let rule = json!({
        "rule": format!("[{}].exists_one(set, set)", set.join(", ")),
        "message": format!("set exactly one router: {}", routers.join(", ")),
    });
    schema.insert("x-kubernetes-validations".to_owned(), json!([rule]));
}

/// Gateway API: the weights of the two role Services in these routes are set, and with `manage: Backends`
/// the two are put in first and taken out again at the end. All routes, of whatever kind, get the same
/// weight. Name one at least.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.httpRoutes), has(self.grpcRoutes), has(self.tcpRoutes), has(self.tlsRoutes)].exists(set, set)")
    .message("name a route: in httpRoutes, grpcRoutes, tcpRoutes or tlsRoutes"))]
pub struct GatewayApi {
    /// HTTPRoutes, in the Rollout's namespace. Each must name both role Services, and rest at
    /// weight 100 for the stable and 0 for the canary Service, both written out; with
    /// `manage: Backends` it names your Service alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub http_routes: Vec<RouteRef>,
    /// GRPCRoutes, written like `httpRoutes`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub grpc_routes: Vec<RouteRef>,
    /// TCPRoutes, written like `httpRoutes`. Their weight is a share of new connections; those that
    /// are open stay where they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub tcp_routes: Vec<RouteRef>,
    /// TLSRoutes, written like `httpRoutes`. Their weight is a share of new connections, as with
    /// `tcpRoutes`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub tls_routes: Vec<RouteRef>,
}

/// One route.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouteRef {
    /// Name of the route.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Name of the rule whose weights are set. Default: every rule that names both role Services, with
    /// `manage: Backends` also every rule that names your Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub rule: Option<String>,
    /// What of its rules is set. `Weights`: they name both role Services all the time. `Backends`: at rest
    /// they name your Service, and the role Services stand in its place while a rollout is in flight.
    /// Default: Weights.
    #[serde(default, skip_serializing_if = "Manage::is_weights")]
    pub manage: Manage,
}

/// What of a route's rules is set.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manage {
    /// The weights of the role Services, which the rule names all the time.
    #[default]
    Weights,
    /// The backends: the role Services stand in the place of the user's Service while a rollout is in flight.
    Backends,
}

impl Manage {
    fn is_weights(&self) -> bool {
        *self == Self::default()
    }
}
