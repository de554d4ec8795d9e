//! Traffic routing: one field for each router.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::units::HumanDuration;

/// How traffic is split between the stable and the canary Service. Set exactly one router.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.gatewayAPI)").message("name a router: gatewayAPI"))]
pub struct TrafficRouting {
    /// How long after the route's controllers have accepted a weight the data plane may still serve
    /// the old one. A weight counts only when it was accepted and this time has passed; pods are
    /// removed no earlier. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation_delay: Option<HumanDuration>,
    /// Weights of HTTPRoutes of the Gateway API.
    #[serde(
        default,
        rename = "gatewayAPI",
        skip_serializing_if = "Option::is_none"
    )]
    pub gateway_api: Option<GatewayApi>,
}

/// Gateway API: the weights of the two role Services in these HTTPRoutes are set, nothing else.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GatewayApi {
    /// The HTTPRoutes, in the Rollout's namespace. Each must name both role Services, and rest at
    /// weight 100 for the stable and 0 for the canary Service, both written out.
    #[schemars(length(min = 1, max = 16))]
    pub http_routes: Vec<HttpRouteRef>,
}

/// One HTTPRoute.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRef {
    /// Name of the HTTPRoute.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Name of the rule whose weights are set. Default: every rule that names both role Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub rule: Option<String>,
}
