//! Gateway API: weights of backendRefs in HTTPRoutes, GRPCRoutes, TCPRoutes and TLSRoutes, whose rules, parents
//! and status are alike.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    api::traffic::{self, Manage, RouteRef},
    model::{
        object::{Kind, ObjectRef, Objects},
        share::{FULL, percent},
        traffic::RouteFault,
    },
};

use super::{
    backends::{self, Managed},
    router::{Backends, Entry, Patches, Router},
};

const fn route(kind: &'static str, plural: &'static str) -> Kind {
    Kind {
        group: "gateway.networking.k8s.io",
        version: "v1",
        kind,
        plural,
    }
}

/// HTTPRoute of the Gateway API.
pub const HTTP_ROUTE: Kind = route("HTTPRoute", "httproutes");

const GRPC_ROUTE: Kind = route("GRPCRoute", "grpcroutes");
const TCP_ROUTE: Kind = route("TCPRoute", "tcproutes");
const TLS_ROUTE: Kind = route("TLSRoute", "tlsroutes");

/// Every kind of route that there is.
const KINDS: [Kind; 4] = [HTTP_ROUTE, GRPC_ROUTE, TCP_ROUTE, TLS_ROUTE];

/// Where the strategy's routes are named.
const PATH: &str = "trafficRouting.gatewayAPI";

/// A route that the Rollout names.
#[derive(Clone, Debug)]
pub struct Named {
    /// Which object.
    pub object: ObjectRef,
    /// The rule whose weights are set; every one that names both Services where it is none.
    pub rule: Option<String>,
    /// What of the rules is set.
    pub manage: Manage,
    /// Where it is named, below `trafficRouting.gatewayAPI`.
    place: String,
}

/// Every route that is named.
pub fn named(all: &traffic::GatewayApi) -> Vec<Named> {
    // Every field by name, so that the compiler asks for a line here.
    let traffic::GatewayApi {
        http_routes,
        grpc_routes,
        tcp_routes,
        tls_routes,
    } = all;
    let fields: [(Kind, &str, &[RouteRef]); KINDS.len()] = [
        (HTTP_ROUTE, "httpRoutes", http_routes),
        (GRPC_ROUTE, "grpcRoutes", grpc_routes),
        (TCP_ROUTE, "tcpRoutes", tcp_routes),
        (TLS_ROUTE, "tlsRoutes", tls_routes),
    ];
    let of_kind = |(kind, field, routes): (Kind, &'static str, &[RouteRef])| {
        let one = |(index, route): (usize, &RouteRef)| Named {
            object: ObjectRef::new(kind, &route.name),
            rule: route.rule.clone(),
            manage: route.manage,
            place: format!("{field}[{index}]"),
        };
        routes.iter().enumerate().map(one).collect::<Vec<Named>>()
    };
    fields.into_iter().flat_map(of_kind).collect()
}

/// The line in the list of routers.
pub fn entry(routing: Option<&traffic::GatewayApi>, backends: &Backends) -> Entry {
    Entry {
        kinds: &KINDS,
        router: routing.map(|routing| -> Box<dyn Router> {
            Box::new(GatewayApi {
                routes: named(routing),
                backends: backends.clone(),
            })
        }),
    }
}

/// The lens on routes.
struct GatewayApi {
    /// The routes that the Rollout names.
    routes: Vec<Named>,
    /// The Services between which they split.
    backends: Backends,
}

impl GatewayApi {
    /// The managed rules of all routes; at least one.
    fn all_managed(&self, objects: &Objects) -> Result<Vec<(ObjectRef, Managed)>, RouteFault> {
        let (managed, faults) = self.readable(objects);
        faults.into_iter().next().map_or(Ok(managed), Err)
    }

    /// The managed rules of all routes that can be read, and why others cannot.
    fn readable(&self, objects: &Objects) -> (Vec<(ObjectRef, Managed)>, Vec<RouteFault>) {
        let (mut readable, mut faults) = (vec![], vec![]);
        if self.routes.is_empty() {
            faults.push(RouteFault::Unfit {
                path: format!("{}.{PATH}", self.backends.path),
                message: "empty: name a route in httpRoutes, grpcRoutes, tcpRoutes or tlsRoutes"
                    .into(),
            });
        }
        for wanted in &self.routes {
            for rule in self.managed(wanted, objects) {
                match rule {
                    Ok(found) => readable.push((wanted.object.clone(), found)),
                    Err(fault) => faults.push(fault),
                }
            }
        }
        // First what users may come by: that of a route that exists.
        faults.sort_by_key(|f| matches!(f, RouteFault::Missing(_)));
        (readable, faults)
    }

    /// The managed rules of a route, or why one cannot be read; at least one.
    fn managed(&self, wanted: &Named, objects: &Objects) -> Vec<Result<Managed, RouteFault>> {
        let unfit = |message: String| RouteFault::Unfit {
            path: format!("{}.{PATH}.{}", self.backends.path, wanted.place),
            message,
        };
        let shown = shown(&wanted.object);
        let Some(route) = objects.get(&wanted.object) else {
            return vec![Err(RouteFault::Missing(shown))];
        };
        let rules = route
            .pointer("/spec/rules")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let mut managed = vec![];
        for (i, rule) in rules.iter().enumerate() {
            let name = rule.get("name").and_then(Value::as_str);
            if wanted.rule.is_some() && wanted.rule.as_deref() != name {
                continue;
            }
            let label = name.map_or_else(|| format!("rules[{i}]"), |n| format!("rule {n:?}"));
            let found = Managed::of(&self.backends, wanted.manage, i, rule).transpose();
            managed.extend(found.map(|f| f.map_err(|m| unfit(format!("{shown}, {label}: {m}")))));
        }
        if managed.is_empty() {
            let which = wanted
                .rule
                .as_ref()
                .map_or("no rule".to_owned(), |r| format!("no rule {r:?}"));
            let Backends {
                user,
                stable,
                canary,
                ..
            } = &self.backends;
            let what = match wanted.manage {
                Manage::Weights => format!("both Services {stable:?} and {canary:?} as backends"),
                Manage::Backends => format!("Service {user:?} as its backend"),
            };
            managed.push(Err(unfit(format!("{shown} has {which} that names {what}"))));
        }
        managed
    }

    /// Whether there is any route whose backends are managed: each look asks.
    fn lent(&self) -> bool {
        self.routes.iter().any(|r| r.manage == Manage::Backends)
    }

    /// What is to be done to each route whose backends are managed, by it and its rules, each once.
    fn of_lent(
        &self,
        objects: &Objects,
        managed: &[(ObjectRef, Managed)],
        operations: impl Fn(&Value, &[&Managed]) -> Vec<Value>,
    ) -> Patches {
        let lent = self.routes.iter().filter(|r| r.manage == Manage::Backends);
        let lent: BTreeSet<&ObjectRef> = lent.map(|r| &r.object).collect();
        let of = |reference: &ObjectRef| {
            let mut rules: Vec<&Managed> = vec![];
            for (_, rule) in managed.iter().filter(|(r, _)| r == reference) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
            let operations = operations(objects.get(reference)?, &rules);
            (!operations.is_empty()).then(|| (reference.clone(), operations))
        };
        lent.into_iter().filter_map(of).collect()
    }

    /// What puts the role Services into the rules that are loose.
    fn put_in(
        &self,
        objects: &Objects,
        managed: &[(ObjectRef, Managed)],
        weights: (u32, u32),
    ) -> Patches {
        let operations = |route: &Value, rules: &[&Managed]| {
            backends::put_in(route, rules, &self.backends, weights)
        };
        self.of_lent(objects, managed, operations)
    }

    /// What gives the canary this share in rules.
    fn patches(&self, objects: &Objects, managed: &[(ObjectRef, Managed)], share: u32) -> Patches {
        // Whole percents as people write them; what is finer in millionths.
        let (whole, canary) = if share.is_multiple_of(percent(1)) {
            (100, share / percent(1))
        } else {
            (FULL, share)
        };
        let mut patches: BTreeMap<ObjectRef, Vec<Value>> = BTreeMap::new();
        let changes = |m: &Managed| m.share() != share;
        for (reference, found) in managed.iter().filter(|(_, m)| !m.loose && changes(m)) {
            let operations = patches.entry(reference.clone()).or_default();
            for (at, value) in [(found.stable.0, whole - canary), (found.canary.0, canary)] {
                operations.push(json!({
                    "op": "add",
                    "path": format!("/spec/rules/{}/backendRefs/{at}/weight", found.rule),
                    "value": value,
                }));
            }
        }
        if share > 0 {
            let bound = self.put_in(objects, managed, (whole - canary, canary));
            for (reference, operations) in bound {
                patches.entry(reference).or_default().extend(operations);
            }
        }
        patches.into_iter().collect()
    }
}

/// A route in messages.
fn shown(route: &ObjectRef) -> String {
    format!("{} {:?}", route.kind.kind, route.name)
}

impl Router for GatewayApi {
    fn references(&self) -> Vec<ObjectRef> {
        // Several rules of one route are several entries, but one object.
        let routes: BTreeSet<ObjectRef> = self.routes.iter().map(|r| r.object.clone()).collect();
        routes.into_iter().collect()
    }

    fn read(&self, objects: &Objects) -> Result<u32, RouteFault> {
        let managed = self.all_managed(objects)?;
        let shares: BTreeSet<u32> = managed.iter().map(|(_, m)| m.share()).collect();
        let highest = shares.last().copied().unwrap_or(0);
        if shares.len() > 1 {
            return Err(RouteFault::Disagree(highest));
        }
        Ok(highest)
    }

    fn faults(&self, objects: &Objects) -> Vec<RouteFault> {
        let (_, faults) = self.readable(objects);
        if faults.is_empty() {
            return self.read(objects).err().into_iter().collect();
        }
        faults
    }

    fn write(
        &self,
        objects: &Objects,
        share: u32,
    ) -> Result<Vec<(ObjectRef, Vec<Value>)>, RouteFault> {
        let managed = self.all_managed(objects)?;
        Ok(self.patches(objects, &managed, share.min(FULL)))
    }

    fn highest(&self, objects: &Objects) -> Option<u32> {
        let (managed, _) = self.readable(objects);
        managed.iter().map(|(_, m)| m.share()).max()
    }

    fn straighten(&self, objects: &Objects) -> Vec<(ObjectRef, Vec<Value>)> {
        self.patches(objects, &self.readable(objects).0, 0)
    }

    fn bind(&self, objects: &Objects) -> Patches {
        if !self.lent() {
            return vec![];
        }
        self.put_in(objects, &self.readable(objects).0, (100, 0))
    }

    fn unbind(&self, objects: &Objects) -> Patches {
        if !self.lent() {
            return vec![];
        }
        let (managed, _) = self.readable(objects);
        let operations =
            |route: &Value, rules: &[&Managed]| backends::take_out(route, rules, &self.backends);
        self.of_lent(objects, &managed, operations)
    }

    fn lacking(&self, objects: &Objects) -> Option<String> {
        self.references().iter().find_map(|reference| {
            let route = objects.get(reference)?;
            let parents = route.pointer("/spec/parentRefs").and_then(Value::as_array);
            let Some(parents) = parents.filter(|p| !p.is_empty()) else {
                return Some(format!("{} has no parentRefs", shown(reference)));
            };
            parents
                .iter()
                .find_map(|parent| parent_lacks(route, &shown(reference), parent))
        })
    }
}

/// What a parent of the route still lacks.
fn parent_lacks(route: &Value, name: &str, parent: &Value) -> Option<String> {
    let generation = route
        .pointer("/metadata/generation")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let namespace = route
        .pointer("/metadata/namespace")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let told = parent
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let statuses = route
        .pointer("/status/parents")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut of_parent = statuses
        .iter()
        .filter(|s| {
            s.get("parentRef")
                .is_some_and(|r| same_parent(r, parent, namespace))
        })
        .peekable();
    if of_parent.peek().is_none() {
        return Some(format!(
            "no controller of parent {told:?} has spoken about {name}"
        ));
    }
    of_parent.find_map(|status| {
        ["Accepted", "ResolvedRefs"].into_iter().find_map(|wanted| {
            let conditions = status.get("conditions").and_then(Value::as_array);
            let condition = conditions
                .into_iter()
                .flatten()
                .find(|c| c.get("type").and_then(Value::as_str) == Some(wanted));
            let field = |f: &str| condition.and_then(|c| c.get(f));
            let seen = field("observedGeneration")
                .and_then(Value::as_i64)
                .unwrap_or(-1);
            let says = field("status").and_then(Value::as_str).unwrap_or_default();
            if says == "True" && seen >= generation {
                return None;
            }
            let message = field("message").and_then(Value::as_str).unwrap_or_default();
            Some(if seen < generation {
                format!("parent {told:?} has not accepted generation {generation} of {name}")
            } else {
                format!("parent {told:?} says {wanted}={says} of {name}: {message}")
            })
        })
    })
}

fn same_parent(a: &Value, b: &Value, namespace: &str) -> bool {
    let text = |v: &Value, field: &str, default: &str| {
        v.get(field)
            .and_then(Value::as_str)
            .unwrap_or(default)
            .to_owned()
    };
    [
        ("group", "gateway.networking.k8s.io"),
        ("kind", "Gateway"),
        ("namespace", namespace),
        ("name", ""),
        ("sectionName", ""),
    ]
    .into_iter()
    .all(|(field, default)| text(a, field, default) == text(b, field, default))
        && a.get("port") == b.get("port")
}
