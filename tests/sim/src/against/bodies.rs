//! The objects that are written, and how they are changed.

use serde_json::{Value, json};

use crate::api::kinds::{EVENT, Id, KINDS, LEASE, REVISION, ROLLOUT, ROUTE, RUN, SERVICE, SET};

use super::ask::Change;

/// The finalizer.
pub const FINALIZER: &str = "serin.dev/held";
const TIME: &str = "2027-01-01T00:00:00.000000Z";

/// An object of a kind, as somebody would write it.
pub fn body(kind: Id, name: &str, namespace: &str) -> Value {
    let mut body = match kind {
        ROLLOUT => json!({"spec": {
            // Nobody's, so that nobody writes to it.
            "controllerName": "example.net/nobody", "replicas": 1,
            "selector": {"matchLabels": {"app": "app"}}, "template": template(),
            "strategy": {"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}}}}),
        SET => json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "app"}},
            "template": template()}}),
        REVISION => json!({"data": {"spec": {"template": template()}}, "revision": 1}),
        SERVICE => json!({"spec": {"selector": {"app": "app"},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]}}),
        ROUTE => json!({"spec": {"parentRefs": [{"name": "nowhere"}], "rules": rules(100)}}),
        RUN => json!({"spec": {"rollout": "nobody", "revision": "abc", "step": "0", "attempt": 1,
            "metrics": [{"name": "errors", "interval": "5s", "count": 2,
                "judge": {"threshold": {"pass": "<= 0", "fail": "> 0"}},
                "provider": {"prometheus": {"query": "errors"}}}]}}),
        LEASE => json!({"spec": {"holderIdentity": "one", "leaseDurationSeconds": 15,
            "leaseTransitions": 1, "acquireTime": TIME, "renewTime": TIME}}),
        EVENT => {
            json!({"eventTime": TIME, "type": "Normal", "reason": "Promoted", "action": "Promoted",
            "note": "It is promoted", "reportingController": "serin.dev/controller", "reportingInstance": "one",
            "regarding": {"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "namespace": namespace, "name": "nobody"}})
        }
        _ => json!({}),
    };
    body["apiVersion"] = json!(KINDS[kind].of.api_version());
    body["kind"] = json!(KINDS[kind].of.kind);
    body["metadata"] = json!({"name": name, "namespace": namespace,
        "labels": {"of": "0"}, "annotations": {"note": "0"}});
    body
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "app"}},
        "spec": {"containers": [{"name": "app", "image": "lab/app:none",
            // Characters that the API server writes as escapes.
            "args": ["one && two > three", "<four>", "five\u{2028}six\u{2029}"]}]}})
}

fn rules(weight: i64) -> Value {
    json!([{"backendRefs": [{"name": "stable", "port": 80, "weight": weight}, {"name": "canary", "port": 80, "weight": 0}]}])
}

/// Where a change writes what; nothing stands for taking it away.
pub fn sets(kind: Id, change: Change) -> Vec<(&'static str, Option<Value>)> {
    let spec = |n: u64| match kind {
        ROLLOUT => ("/spec/replicas", json!(n)),
        SET => ("/spec/minReadySeconds", json!(n)),
        REVISION => ("/revision", json!(n + 1)),
        SERVICE => ("/spec/selector/version", json!(n.to_string())),
        ROUTE => ("/spec/rules", rules(i64::try_from(n).unwrap_or(0))),
        RUN => ("/spec/attempt", json!(n + 1)),
        LEASE => ("/spec/leaseTransitions", json!(n + 1)),
        _ => ("/metadata/annotations/note", json!(format!("spec {n}"))),
    };
    let status = |n: u64| match kind {
        ROLLOUT => json!({"observedGeneration": n, "message": n.to_string()}),
        RUN => json!({"phase": "Running", "message": n.to_string()}),
        SET => json!({"replicas": n}),
        SERVICE => {
            json!({"loadBalancer": {}, "conditions": [{"type": "Seen", "status": "True", "reason": "Seen",
            "message": n.to_string(), "lastTransitionTime": "2027-01-01T00:00:00Z"}]})
        }
        ROUTE => {
            json!({"parents": [{"controllerName": "example.net/gateway", "parentRef": {"name": "nowhere"},
            "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                "lastTransitionTime": "2027-01-01T00:00:00Z", "observedGeneration": n}]}]})
        }
        _ => json!({"message": n.to_string()}),
    };
    // Where there is no status, something else is changed.
    let status = |n: u64| match KINDS[kind].status {
        true => ("/status", status(n)),
        false => ("/metadata/annotations/note", json!(format!("status {n}"))),
    };
    let some = |(pointer, value): (&'static str, Value)| (pointer, Some(value));
    match change {
        Change::Nothing => vec![],
        Change::Note(n) => vec![some(("/metadata/annotations/note", json!(n.to_string())))],
        Change::Label(n) => vec![some(("/metadata/labels/of", json!(n.to_string())))],
        Change::Spec(n) => vec![some(spec(n))],
        Change::Status(n) => vec![some(status(n))],
        Change::SpecAndStatus(n) => vec![some(spec(n)), some(status(n))],
        Change::Hold => vec![some(("/metadata/finalizers", json!([FINALIZER])))],
        Change::Release => vec![("/metadata/finalizers", None)],
        Change::Invalid => vec![some(match kind {
            SET => ("/spec/replicas", json!(-1)),
            ROUTE => ("/spec/rules", rules(-1)),
            REVISION => ("/data", json!({"other": true})),
            _ => return vec![],
        })],
    }
}
