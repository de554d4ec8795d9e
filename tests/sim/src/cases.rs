//! What is played: a strategy, and the objects that a team writes for it.

use serde_json::{Value, json};
use serin::{
    api::Rollout,
    model::spec::{Course, Spec},
};

/// A strategy as a team writes it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// The strategy.
    pub strategy: Value,
    /// Names of the role Services, stable first.
    pub roles: Option<[String; 2]>,
    /// Whether the role Services are somebody else's.
    pub shared: bool,
    /// Whether a route splits the traffic.
    pub routed: bool,
    /// Whether stable gives up pods with its share of the traffic.
    pub gives_up_stable: bool,
    /// Whether metrics are asked before a revision becomes stable.
    pub judged: bool,
    /// Pods above `replicas`, where pods are the weight.
    pub max_surge: u64,
    /// Pods below `replicas`, where pods are the weight.
    pub max_unavailable: u64,
}

fn route() -> Value {
    json!({"propagationDelay": "1s", "gatewayAPI": {"httpRoutes": [{"name": "app"}]}})
}

fn check() -> Value {
    json!({"templates": [{"templateName": "check"}], "args": [{"name": "service", "value": "a \"b\" \\ c"}]})
}

fn case(name: &'static str, strategy: Value) -> Case {
    let canary = &strategy["canary"];
    let green = &strategy["blueGreen"];
    let names = |a: &str, b: &str| Some([format!("app-{a}"), format!("app-{b}")]);
    let routed = !canary["trafficRouting"].is_null() || !green["trafficRouting"].is_null();
    let roles = match (green.is_object(), canary["service"].is_string()) {
        (true, _) => names("active", "preview"),
        (_, true) => names("stable", "canary"),
        _ => None,
    };
    Case {
        name,
        roles,
        shared: false,
        routed,
        gives_up_stable: canary["dynamicStableScale"] == true,
        judged: strategy.to_string().contains("templateName"),
        max_surge: 1,
        max_unavailable: 1,
        strategy,
    }
}

/// The strategies. One that comes later joins by one line.
pub fn cases() -> Vec<Case> {
    let delays = |mut strategy: Value| {
        strategy["scaleDownDelay"] = json!("8s");
        strategy["abortScaleDownDelay"] = json!("5s");
        strategy
    };
    let pause = |time: &str| json!({"pause": {"duration": time}});
    vec![
        case(
            "canary by route",
            json!({"canary": delays(json!({"service": "app", "trafficRouting": route(), "minPodsPerReplicaSet": 2, "bake": {"duration": "15s"},
            "steps": [{"setWeight": 20}, pause("5s"), {"analysis": check(), "timeout": "2m"}, {"setWeight": 60}, pause("5s")]}))}),
        ),
        case(
            "canary by route, watched",
            json!({"canary": delays(json!({"service": "app", "trafficRouting": route(), "dynamicStableScale": true,
            "analysis": check(), "steps": [{"setCanaryScale": {"replicas": 1}}, {"setWeight": 1}, pause("20s"), {"setCanaryScale": {"weight": 70}},
            {"setWeight": 50}, {"pause": {}}, {"setCanaryScale": {"matchTrafficWeight": true}}, {"setWeight": 100}]}))}),
        ),
        case(
            "canary by pods",
            json!({"canary": delays(json!({"maxSurge": 1, "maxUnavailable": 1,
            "steps": [{"setWeight": 34}, {"analysis": check()}, {"setWeight": 67}, pause("5s")]}))}),
        ),
        case(
            "blue-green by Service",
            json!({"blueGreen": delays(json!({"service": "app",
            "prePromotionAnalysis": check(), "bake": {"duration": "10s", "analysis": check()}}))}),
        ),
        case(
            "blue-green by route",
            json!({"blueGreen": delays(json!({"service": "app", "trafficRouting": route(),
            "scaleDownDelayRevisionLimit": 1, "previewReplicaCount": 1, "autoPromotionDelay": "5s", "postPromotionAnalysis": check()}))}),
        ),
        case(
            "rolling",
            json!({"rolling": {"maxSurge": 1, "maxUnavailable": 1, "analysis": check(),
            "postPromotionAnalysis": check()}}),
        ),
    ]
}

/// The pod template of a version.
pub fn template(version: usize) -> Value {
    json!({"metadata": {"labels": {"app": "app"}},
        "spec": {"containers": [{"name": "app", "image": format!("example.net/app:v{version}"),
            // Characters that the API server writes as escapes.
            "args": ["one && two > three", "<four>", "five\u{2028}six\u{2029}"]}]}})
}

impl Case {
    /// What a Rollout that somebody else wrote amounts to.
    pub fn of(rollout: &Rollout) -> Self {
        let course = Spec::examine(rollout).0.map(|s| s.course);
        let services = course.as_ref().and_then(|c| c.services.as_ref());
        let pods = |count: fn(&Course) -> u32| course.as_ref().map_or(0, |c| count(c).into());
        Self {
            name: "a scenario",
            strategy: json!(rollout.spec.strategy),
            roles: services.map(|s| [s.stable.clone(), s.canary.clone()]),
            shared: services.is_some_and(|s| s.shared),
            routed: course.as_ref().is_some_and(|c| c.routing.is_some()),
            gives_up_stable: course.as_ref().is_some_and(|c| c.dynamic_stable),
            judged: course.as_ref().is_some_and(|c| !c.analyses.is_empty()),
            max_surge: pods(|c| c.max_surge),
            max_unavailable: pods(|c| c.max_unavailable),
        }
    }

    /// Whether its routes name the user's Service at rest.
    pub fn manages_backends(&self) -> bool {
        self.strategy
            .to_string()
            .contains("\"manage\":\"Backends\"")
    }

    /// The Rollout.
    pub fn rollout(&self, replicas: u64, deadline_aborts: bool) -> Value {
        // What was good just before comes back without steps, where pods are the weight.
        let window = self.roles.is_none() && !self.strategy["canary"].is_null();
        let mut rollout = json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "app", "namespace": "ns"},
            "spec": {"replicas": replicas, "progressDeadlineSeconds": 120, "progressDeadlineAbort": deadline_aborts,
                "revisionHistoryLimit": 3, "selector": {"matchLabels": {"app": "app"}},
                "template": template(0), "strategy": self.strategy},
        });
        if window {
            rollout["spec"]["rollbackWindow"] = json!({"revisions": 1});
        }
        rollout
    }

    /// The user's Service.
    pub fn service() -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app", "namespace": "ns"},
            "spec": {"selector": {"app": "app"}, "ports": [{"port": 80, "targetPort": 8080}]}})
    }

    /// The route; none where the strategy has none.
    pub fn route(&self) -> Option<Value> {
        let [stable, canary] = self.roles.as_ref().filter(|_| self.routed)?;
        Some(
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "app", "namespace": "ns", "annotations": {"theirs": "kept"}},
            "spec": {"parentRefs": [{"name": "gateway"}], "rules": [{"timeouts": {"request": "10s"}, "unknown": [1, null],
                "backendRefs": [{"name": stable, "port": 80, "weight": 100}, {"name": canary, "port": 80, "weight": 0}]}]}}),
        )
    }

    /// The analysis template, one of [`CHECKS`].
    pub fn check(which: usize) -> Value {
        json!({"apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate",
            "metadata": {"name": "check", "namespace": "ns"},
            "spec": {"args": [{"name": "service"}, {"name": "zone", "value": "any"}], "metrics": metrics(which)}})
    }
}

/// So many ways to judge there are; the first is the plainest.
pub const CHECKS: usize = 5;

fn metrics(which: usize) -> Value {
    let metric = |name: &str, more: Value| {
        let query = "errors{hash=\"{{canary.hash}}\",service=\"{{args.service}}\",zone=\"{{args.zone}}\"}[{{window}}]";
        let mut metric = json!({"name": name, "interval": "5s", "window": "10s", "count": 2,
            "judge": {"threshold": {"pass": "<= 0", "fail": "> 0"}},
            "provider": {"prometheus": {"query": query}}});
        json_patch::merge(&mut metric, &more);
        metric
    };
    match which {
        // It takes its time, and a failure is none yet.
        1 => json!([metric(
            "errors",
            json!({"initialDelay": "4s", "interval": "3s", "count": 4, "failureLimit": 1,
            "noData": {"limit": 1, "then": "abort"}, "error": {"limit": 5, "then": "pause"}})
        )]),
        // Whatever is odd ends it at once.
        2 => json!([metric(
            "errors",
            json!({"count": 1, "window": "30s", "noData": {"limit": 0}})
        )]),
        3 => json!([
            metric("errors", json!({})),
            metric(
                "more",
                json!({"interval": "4s", "count": 3, "error": {"limit": 0, "then": "abort"}})
            ),
        ]),
        // What is bad is only doubtful.
        4 => json!([metric(
            "errors",
            json!({"judge": {"threshold": {"pass": "< 0.5", "fail": "> 1.5"}},
            "inconclusive": {"limit": 0, "then": "abort"}})
        )]),
        _ => json!([metric("errors", json!({}))]),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{nature::Health, people::Act, play::play, storm::Storm, weather::Climate};

    #[test]
    fn a_good_release_comes_through_every_case_and_every_way_to_judge() {
        for case in 0..cases().len() {
            for check in 0..CHECKS {
                let storm = Storm {
                    case,
                    check,
                    replicas: 2,
                    deadline_aborts: true,
                    health: vec![Health::Good; 2],
                    acts: vec![(10_000, Act::Release(1))],
                    story: vec![],
                    gusts: vec![],
                    climate: Climate::default(),
                    until: 20_000,
                    elects: false,
                    no_streams: false,
                    skew: 0,
                };
                let report = play(1, &storm, &BTreeMap::new(), false);
                assert_eq!(report.broken, [""; 0], "{}, {check}", report.case);
                let promoted = report.end.iter().any(|l| l.ends_with("attempt 2 Promoted"));
                assert!(promoted, "{}, {check}: {:?}", report.case, report.end);
            }
        }
    }
}
