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
    /// Weights of HTTPRoutes of the Gateway API.
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
