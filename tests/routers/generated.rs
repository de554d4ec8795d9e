//! Generated routes of every kind: of each it is known how it was made, hence what must be read and written.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use serin::{
    api::traffic::{GatewayApi, Manage, RouteRef, TrafficRouting},
    engine::traffic::{gateway_api::HTTP_ROUTE, kinds},
    model::{
        object::{ObjectRef, Objects},
        share::percent,
        traffic::RouteFault,
    },
};

use super::{laws::Weights, random::Random};

/// Routes, and what is known of them.
#[derive(Debug)]
pub struct Given {
    /// How the Rollout names them.
    pub routing: TrafficRouting,
    /// The routes.
    pub objects: Objects,
    /// What must be read.
    pub read: Result<u32, RouteFault>,
    /// What may be written.
    pub weights: Weights,
    /// Whether they rest as Serin asks for.
    pub rest: bool,
}

/// One to three routes with rules of every sort.
pub fn gateway_api(random: &mut Random) -> Given {
    let share = share(random);
    let mut shares = BTreeSet::new();
    let mut rest = true;
    let (mut objects, mut weights) = (Objects::new(), Weights::new());
    let mut named = GatewayApi::default();
    let mut kinds = kinds();
    kinds.retain(|k| k.group == HTTP_ROUTE.group);
    for name in ["checkout", "checkout-admin", "shop"]
        .iter()
        .take(1 + random.below(3))
    {
        let kind = *random.pick(&kinds);
        // With `rule`, only the rules of that name are managed.
        let rule = random.once_in(3).then(|| "main".to_owned());
        let mut rules: Vec<Value> = vec![];
        let mut pointers = BTreeSet::new();
        let managed = random.below(4);
        let count = 1 + managed + random.below(2);
        for i in 0..count {
            let mut extra = json!({"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]});
            let is_main = i == managed || (rule.is_none() || random.once_in(2)) && i < managed;
            let splits = i <= managed;
            if is_main && rule.is_some() {
                extra["name"] = json!("main");
            } else if random.once_in(2) {
                extra["name"] = json!(format!("rule-{i}"));
            }
            let mut refs = decoys(random);
            if !splits {
                // A header rule names one role Service, whatever its weight.
                let only = *random.pick(&["checkout-stable", "checkout-canary"]);
                refs = vec![backend(random, only)];
                if random.once_in(2) {
                    refs[0]["weight"] = json!(random.below(1000));
                }
            } else {
                let own = if random.once_in(8) {
                    self::share(random)
                } else {
                    share
                };
                let scale = *random.pick(&[1, 1, 1, 10, 10_000]);
                let mut stable = backend(random, "checkout-stable");
                let mut canary = backend(random, "checkout-canary");
                stable["weight"] = json!((100 - own) * scale);
                canary["weight"] = json!(own * scale);
                refs.extend([stable, canary]);
                random.shuffle(&mut refs);
                if is_main {
                    shares.insert(own);
                    rest &= own == 0 && scale == 1;
                    for (at, backend) in refs.iter().enumerate() {
                        if ours(backend) {
                            pointers.insert(format!("/spec/rules/{i}/backendRefs/{at}/weight"));
                        }
                    }
                }
            }
            extra["backendRefs"] = json!(refs);
            rules.push(extra);
        }
        let mut route = json!({
            "apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": {"name": name, "namespace": "shop", "generation": random.below(9)},
            "spec": {"parentRefs": [{"name": "gateway"}], "rules": rules},
        });
        if random.once_in(2) {
            random.strew(&mut route);
        }
        let reference = ObjectRef::new(kind, *name);
        weights.insert(reference.clone(), pointers);
        objects.insert(reference, route);
        let routes = match kind.kind {
            "HTTPRoute" => &mut named.http_routes,
            "GRPCRoute" => &mut named.grpc_routes,
            "TCPRoute" => &mut named.tcp_routes,
            _ => &mut named.tls_routes,
        };
        routes.push(RouteRef {
            name: (*name).to_owned(),
            rule,
            ..RouteRef::default()
        });
    }
    let highest = shares.last().copied().unwrap_or_default();
    Given {
        routing: TrafficRouting {
            gateway_api: Some(named),
            ..TrafficRouting::default()
        },
        objects,
        read: if shares.len() == 1 {
            Ok(percent(highest))
        } else {
            Err(RouteFault::Disagree(percent(highest)))
        },
        weights,
        rest,
    }
}

/// One or two routes whose rules name the user's Service, and what may be written once they are bound.
pub fn managed(random: &mut Random) -> Given {
    let (mut objects, mut weights) = (Objects::new(), Weights::new());
    let mut named = GatewayApi::default();
    for name in ["checkout", "shop"].iter().take(1 + random.below(2)) {
        let mut rules: Vec<Value> = vec![];
        let mut pointers = BTreeSet::new();
        for i in 0..=random.below(3) {
            let mut rule = json!({"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]});
            if random.once_in(2) {
                rule["name"] = json!(*random.pick(&["main", "0", "other"]));
            }
            let mut user = backend(random, "checkout");
            if random.once_in(2) {
                user["weight"] = json!(1 + random.below(9));
            }
            let mut refs = vec![user];
            if random.once_in(3) {
                refs.push(json!({"name": "maintenance", "port": 80, "weight": 0}));
            }
            random.shuffle(&mut refs);
            let at = refs.iter().position(|r| r["name"] == "checkout");
            for at in at.into_iter().flat_map(|at| [at, at + 1]) {
                pointers.insert(format!("/spec/rules/{i}/backendRefs/{at}/weight"));
            }
            rule["backendRefs"] = json!(refs);
            rules.push(rule);
        }
        let mut route = json!({
            "apiVersion": HTTP_ROUTE.api_version(), "kind": HTTP_ROUTE.kind,
            "metadata": {"name": name, "namespace": "shop", "generation": random.below(9)},
            "spec": {"parentRefs": [{"name": "gateway"}], "rules": rules},
        });
        if random.once_in(2) {
            random.strew(&mut route);
        }
        let reference = ObjectRef::new(HTTP_ROUTE, *name);
        weights.insert(reference.clone(), pointers);
        objects.insert(reference, route);
        named.http_routes.push(RouteRef {
            name: (*name).to_owned(),
            manage: Manage::Backends,
            ..RouteRef::default()
        });
    }
    Given {
        routing: TrafficRouting {
            gateway_api: Some(named),
            ..TrafficRouting::default()
        },
        objects,
        read: Ok(0),
        weights,
        rest: true,
    }
}

fn share(random: &mut Random) -> u32 {
    if random.once_in(3) {
        return *random.pick(&[0, 0, 1, 99, 100]);
    }
    u32::try_from(random.below(101)).unwrap_or(0)
}

fn backend(random: &mut Random, service: &str) -> Value {
    let mut backend = json!({"name": service, "port": 80});
    if random.once_in(3) {
        backend["kind"] = json!("Service");
        backend["group"] = json!("");
    }
    if random.once_in(3) {
        backend["filters"] =
            json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {}}]);
    }
    backend
}

/// Backends that look like a role Service's and are none; they carry nothing.
fn decoys(random: &mut Random) -> Vec<Value> {
    let all = [
        json!({"name": "checkout", "port": 80, "weight": 0}),
        json!({"name": "checkout-canary", "namespace": "other", "port": 80, "weight": 0}),
        json!({"name": "checkout-stable", "kind": "ServiceImport", "group": "multicluster.x-k8s.io", "weight": 0}),
    ];
    all.into_iter().filter(|_| random.once_in(4)).collect()
}

fn ours(backend: &Value) -> bool {
    let name = backend["name"].as_str().unwrap_or_default();
    ["checkout-stable", "checkout-canary"].contains(&name)
        && backend.get("namespace").is_none()
        && backend.get("kind").is_none_or(|k| k == "Service")
}
