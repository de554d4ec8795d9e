//! What the smoke test applies.

use serin_lab::GATEWAY_NAMESPACE;

/// Two versions of the sample app, each behind a Service, and a route that splits 90 to 10.
pub(crate) fn two_versions(more_env: &str) -> String {
    let mut all = String::new();
    for version in ["v1", "v2"] {
        all.push_str(&format!(
            "apiVersion: v1
kind: Service
metadata: {{name: app-{version}}}
spec: {{selector: {{app: app, version: {version}}}, ports: [{{port: 80, targetPort: http}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: app-{version}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: app, version: {version}}}}}
  template:
    metadata:
      labels: {{app: app, version: {version}}}
      annotations: {{prometheus.io/scrape: 'true', prometheus.io/port: '8080'}}
    spec:
      containers:
      - name: app
        image: lab/app:{version}
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /readyz, port: http}}, periodSeconds: 1}}
        env: [{more_env}]
---
"
        ));
    }
    all
}

/// A route to both, with these weights.
pub(crate) fn route(namespace: &str, v1: u32, v2: u32) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: app}}
spec:
  hostnames: [{namespace}.test]
  parentRefs: [{{name: lab, namespace: {GATEWAY_NAMESPACE}}}]
  rules:
  - backendRefs:
    - {{name: app-v1, port: 80, weight: {v1}}}
    - {{name: app-v2, port: 80, weight: {v2}}}
"
    )
}

/// A pod of one container, with more lines for it.
pub(crate) fn pod(name: &str, image: &str, more: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: main
    image: {image}
{more}
---
"
    )
}
