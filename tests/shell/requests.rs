//! What a whole canary asks of the API server.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    apiserver::Server,
    rounds::{phase, start},
    world::{EVENTS, ROLLOUTS, SETS, rollout},
};

const SERVICES: &str = "v1/services";
const SLICES: &str = "discovery.k8s.io/v1/endpointslices";
const ROUTES: &str = "gateway.networking.k8s.io/v1/httproutes";

/// A Rollout whose traffic is routed.
fn routed() -> Value {
    let mut rollout = rollout("web:1");
    rollout["spec"]["replicas"] = json!(5);
    rollout["spec"]["strategy"] = json!({"canary": {
        "service": "web", "scaleDownDelay": "1s",
        "trafficRouting": {"propagationDelay": "0s", "gatewayAPI": {"httpRoutes": [{"name": "web"}]}},
        "steps": [
            {"setWeight": 20}, {"pause": {"duration": "10s"}},
            {"setWeight": 50}, {"pause": {"duration": "10s"}},
        ],
    }});
    rollout
}

fn setup(server: &Server) {
    server.put(
        SERVICES,
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "ns"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }),
    );
    server.put(
        ROUTES,
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {"parentRefs": [{"name": "gateway"}], "rules": [{"backendRefs": [
                {"name": "web-stable", "port": 80, "weight": 100},
                {"name": "web-canary", "port": 80, "weight": 0},
            ]}]},
        }),
    );
    server.put(ROLLOUTS, routed());
}

/// One more pod is ready, endpoints follow the pods, and the gateway has accepted its route.
fn turn(server: &Server) {
    let mut pods = BTreeMap::new();
    for name in server.names(SETS) {
        server.edit(SETS, &name, |set| {
            let wanted = set["spec"]["replicas"].as_i64().unwrap_or(0);
            let ready = set["status"]["readyReplicas"].as_i64().unwrap_or(0);
            let ready = wanted.min(ready + 1);
            set["status"] = json!({
                "replicas": wanted, "readyReplicas": ready, "availableReplicas": ready,
                "observedGeneration": set["metadata"]["generation"],
            });
            let hash = set["metadata"]["labels"]["pod-template-hash"].clone();
            let names: Vec<String> = (0..ready).map(|n| format!("{name}-{n}")).collect();
            pods.insert(hash.as_str().unwrap_or_default().to_owned(), names);
        });
    }
    for name in server.names(SERVICES) {
        let service = server.get(SERVICES, &name).expect("it exists");
        let Some(hash) = service["spec"]["selector"]["pod-template-hash"].as_str() else {
            continue;
        };
        let endpoint = |pod: &String| json!({"targetRef": {"kind": "Pod", "name": pod}, "conditions": {"ready": true}});
        let endpoints: Vec<Value> = pods.get(hash).into_iter().flatten().map(endpoint).collect();
        let labels = json!({"kubernetes.io/service-name": name, "serin.dev/rollout": "web"});
        let mut slice = server.get(SLICES, &name).unwrap_or_else(
            || json!({"metadata": {"name": name, "namespace": "ns", "labels": labels}}),
        );
        slice["endpoints"] = json!(endpoints);
        server.put(SLICES, slice);
    }
    server.edit(ROUTES, "web", |route| {
        let generation = route["metadata"]["generation"].clone();
        let says = |type_: &str| json!({"type": type_, "status": "True", "observedGeneration": generation});
        route["status"] = json!({"parents": [{
            "parentRef": {"name": "gateway"}, "conditions": [says("Accepted"), says("ResolvedRefs")],
        }]});
    });
}

async fn pass(server: &Arc<Server>, seconds: u64) {
    for _ in 0..seconds * 50 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        turn(server);
    }
}

/// What the Events say, reasons and notes.
fn events(server: &Server) -> String {
    let events = server.names(EVENTS).into_iter();
    let all = events.filter_map(|n| server.get(EVENTS, &n));
    all.map(|e| format!("{}: {}\n", e["reason"], e["note"]))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_canary_costs_no_more_requests_than_its_decisions_need() {
    let server = Server::new();
    setup(&server);
    let (_work, _stop) = start(&server).await;
    pass(&server, 40).await;
    assert_eq!(phase(&server, "web"), "Healthy");
    let before = server.writes().len();

    let image = "/spec/template/spec/containers/0/image";
    server.edit(ROLLOUTS, "web", |r| {
        *r.pointer_mut(image).expect("an image") = json!("web:2")
    });
    pass(&server, 60).await;
    let status = &server.get(ROLLOUTS, "web").expect("is there")["status"];
    assert_eq!(status["phase"], "Healthy", "{status:#}");
    assert_eq!(status["stableRevision"], status["currentRevision"]);
    let writes = server.writes().split_off(before);
    // Each of nine weights and of three other hazards is a commit and a write; five things are fenced
    // off when it begins. Whoever needs more says for what.
    assert!(writes.len() <= 48, "{} writes: {writes:#?}", writes.len());

    let told = events(&server);
    for entry in status["history"].as_array().into_iter().flatten() {
        let (reason, message) = (&entry["reason"], &entry["message"]);
        let says = |text: &Value| told.contains(text.as_str().unwrap_or_default());
        assert!(says(reason) && says(message), "{entry} is not in {told}");
        assert!(status["decision"]["told"].as_i64() >= entry["number"].as_i64());
    }
    pass(&server, 400).await;
    assert_eq!(
        server.writes().len(),
        before + writes.len(),
        "then it is silent"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_deletion_decided_is_told_before_it_is_gone() {
    let server = Server::new();
    setup(&server);
    let (_work, _stop) = start(&server).await;
    pass(&server, 40).await;
    let image = "/spec/template/spec/containers/0/image";
    server.edit(ROLLOUTS, "web", |r| {
        *r.pointer_mut(image).expect("an image") = json!("web:2")
    });
    pass(&server, 8).await;
    server.edit(ROLLOUTS, "web", |r| {
        r["metadata"]["deletionTimestamp"] = json!("2026-11-24T10:00:00Z");
    });
    let mut last = Value::Null;
    for _ in 0..60 * 50 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        match server.get(ROLLOUTS, "web") {
            Some(rollout) => last = rollout["status"]["history"].clone(),
            None => break,
        }
        turn(&server);
    }
    assert!(server.get(ROLLOUTS, "web").is_none(), "it stays: {last:#}");
    pass(&server, 1).await;
    let told = events(&server);
    for entry in last.as_array().into_iter().flatten() {
        let says = |text: &Value| told.contains(text.as_str().unwrap_or_default());
        assert!(
            says(&entry["reason"]) && says(&entry["message"]),
            "{entry} is not in {told}"
        );
    }
    assert!(last.as_array().is_some_and(|l| l.len() > 3), "{last:#}");
}
