//! The app as its owners write it: a Service, a route, analysis templates, a Rollout.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use serin_lab::GATEWAY_NAMESPACE;

use crate::world::{Result, Strategy, World};

pub fn version_env(version: &str) -> BTreeMap<&'static str, &'static str> {
    match version {
        "errors" => [("ERROR_RATE", "0.3")].into(),
        "slow" => [("LATENCY", "400ms")].into(),
        "crash" => [("CRASH_AFTER", "0s")].into(),
        "never-ready" => [("NEVER_READY", "true")].into(),
        _ => BTreeMap::new(),
    }
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("it is YAML")
}

impl World {
    /// The app as its owner writes it: a Service, a route, templates, and the Rollout.
    pub async fn apply_app(&self, version: &str, stable: u32, canary: u32) -> Result {
        if self.setup.served() {
            self.lab
                .apply_yaml_in(&self.namespace, &self.route_yaml(stable, canary))
                .await?;
        }
        self.lab.apply_yaml_in(&self.namespace, TEMPLATES).await?;
        let spec = json!({"spec": self.spec(version)});
        let mut rollout = json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "app", "namespace": self.namespace},
        });
        rollout["spec"] = spec["spec"].clone();
        self.lab.apply_yaml_in(&self.namespace, SERVICE).await?;
        self.lab
            .apply_yaml_in(&self.namespace, &rollout.to_string())
            .await?;
        Ok(())
    }

    pub fn route_yaml(&self, stable: u32, canary: u32) -> String {
        let filter = if self.setup.apart {
            ", filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-nobody-sends-this]}}]"
        } else {
            ""
        };
        let [first, second] = match self.setup.strategy {
            Strategy::Canary => ["app-stable", "app-canary"],
            Strategy::BlueGreen(_) => ["app-active", "app-preview"],
            Strategy::Rolling(_) => ["app", ""],
        };
        let refs = match (self.setup.routed, self.setup.lent) {
            (_, true) => "- {name: app, port: 80}".to_owned(),
            (true, _) => format!(
                "- {{name: {first}, port: 80, weight: {stable}{filter}}}
    - {{name: {second}, port: 80, weight: {canary}{filter}}}"
            ),
            (false, _) => format!("- {{name: {first}, port: 80, weight: {stable}{filter}}}"),
        };
        let route = |kind: &&str| {
            let namespace = &self.namespace;
            // One host is one kind's, and a TCPRoute has none.
            let (hosts, section) = match *kind {
                "HTTPRoute" => (format!("hostnames: [{namespace}.test]"), "http"),
                "GRPCRoute" => (format!("hostnames: [grpc-{namespace}.test]"), "http"),
                "TLSRoute" => (format!("hostnames: [tls-{namespace}.test]"), "tls"),
                _ => (String::new(), "tcp"),
            };
            // A stream that stays open is no request that takes too long.
            let timeouts = match *kind {
                "HTTPRoute" => "\n    timeouts: {request: 0s}",
                _ => "",
            };
            format!(
                "apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: app}}
spec:
  {hosts}
  parentRefs: [{{name: lab, namespace: {GATEWAY_NAMESPACE}, sectionName: {section}}}]
  rules:
  - name: all{timeouts}
    backendRefs:
    {refs}
"
            )
        };
        let routes: Vec<String> = self.setup.routes.iter().map(route).collect();
        routes.join("---\n")
    }

    pub fn template(&self, version: &str) -> Value {
        // Pods that go while users are sent to them must serve on until nobody is.
        let rolls = matches!(self.setup.strategy, Strategy::Rolling(_));
        let drain = (rolls || self.setup.drains).then_some(("DRAIN", "5s"));
        let env: Vec<Value> = version_env(version)
            .into_iter()
            // And characters that the API server writes as escapes.
            .chain([("SERVICE", "app"), ("NOTE", "1 && 2 > <3>\u{2028}\u{2029}")])
            .chain(drain)
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let image = if version == "no-image" {
            "nowhere/app:none".to_owned()
        } else {
            format!("lab/app:{version}")
        };
        json!({
            "metadata": {
                "labels": {"app": "app"},
                "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
            },
            "spec": {"terminationGracePeriodSeconds": 15, "containers": [{
                "name": "app", "image": image, "env": env,
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1},
            }]},
        })
    }

    pub fn spec(&self, version: &str) -> Value {
        let strategy = match self.setup.strategy {
            Strategy::Canary => json!({"canary": self.canary()}),
            Strategy::BlueGreen(asked) => json!({"blueGreen": self.blue_green(asked)}),
            Strategy::Rolling(asked) => json!({"rolling": yaml(asked)}),
        };
        let mut spec = json!({
            "replicas": self.setup.replicas, "minReadySeconds": 1,
            "progressDeadlineSeconds": self.setup.deadline, "progressDeadlineAbort": true,
            "selector": {"matchLabels": {"app": "app"}},
            "template": self.template(version),
            "strategy": strategy,
        });
        if !self.setup.controller.is_empty() {
            spec["controllerName"] = json!(self.setup.controller);
        }
        spec
    }

    fn routing(&self) -> Value {
        let field = |kind: &&str| {
            let field = match *kind {
                "HTTPRoute" => "httpRoutes",
                "GRPCRoute" => "grpcRoutes",
                "TLSRoute" => "tlsRoutes",
                _ => "tcpRoutes",
            };
            let manage = ["Weights", "Backends"][usize::from(self.setup.lent)];
            (field.to_owned(), json!([{"name": "app", "manage": manage}]))
        };
        let routes: serde_json::Map<String, Value> = self.setup.routes.iter().map(field).collect();
        json!({"propagationDelay": self.setup.propagation_delay, "gatewayAPI": routes})
    }

    fn canary(&self) -> Value {
        let steps = yaml(self.setup.steps);
        let mut canary = json!({
            "service": "app", "scaleDownDelay": "2s", "abortScaleDownDelay": "2s", "steps": steps,
        });
        if self.setup.routed {
            canary["trafficRouting"] = self.routing();
        } else {
            canary["maxSurge"] = json!(1);
            canary["maxUnavailable"] = json!(0);
        }
        if self.setup.background {
            canary["analysis"] = json!({
                "templates": [{"templateName": "success-rate"}], "startingStep": 1,
                "args": [{"name": "service", "value": "app"}],
            });
        }
        canary
    }

    fn blue_green(&self, asked: &str) -> Value {
        let mut blue_green = yaml(asked);
        for (field, value) in [
            ("service", json!("app")),
            ("scaleDownDelay", json!("2s")),
            ("abortScaleDownDelay", json!("2s")),
        ] {
            blue_green[field] = value;
        }
        if self.setup.routed {
            blue_green["trafficRouting"] = self.routing();
        }
        blue_green
    }
}

pub const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: app}
spec: {selector: {app: app}, ports: [{name: http, port: 80, targetPort: http}]}
";

const TEMPLATES: &str = r#"apiVersion: serin.dev/v1alpha1
kind: AnalysisTemplate
metadata: {name: success-rate}
spec:
  args: [{name: service}]
  metrics:
  - name: success-rate
    interval: 2s
    window: 5s
    failureLimit: 0
    noData: {limit: 30, then: pause}
    error: {limit: 3, then: pause}
    judge: {threshold: {pass: ">= 0.95", fail: "< 0.9"}}
    provider:
      prometheus:
        query: |
          sum(rate(http_requests_total{service="{{args.service}}",pod_template_hash="{{canary.hash}}",code!~"5.."}[{{window}}]))
          / sum(rate(http_requests_total{service="{{args.service}}",pod_template_hash="{{canary.hash}}"}[{{window}}]))
---
apiVersion: serin.dev/v1alpha1
kind: AnalysisTemplate
metadata: {name: latency}
spec:
  args: [{name: service}]
  metrics:
  - name: latency
    interval: 2s
    window: 5s
    count: 2
    noData: {limit: 30, then: pause}
    error: {limit: 3, then: pause}
    judge: {threshold: {pass: "<= 0.2"}}
    provider:
      prometheus:
        query: |
          histogram_quantile(0.9, sum by (le) (rate(http_request_duration_seconds_bucket{service="{{args.service}}",pod_template_hash="{{canary.hash}}"}[{{window}}])))
---
apiVersion: serin.dev/v1alpha1
kind: AnalysisTemplate
metadata: {name: errors}
spec:
  args: [{name: service}]
  metrics:
  - name: errors
    interval: 2s
    window: 5s
    count: 2
    noData: {limit: 30, then: pause}
    error: {limit: 3, then: pause}
    judge: {threshold: {pass: ">= 0.95", fail: "< 0.9"}}
    provider:
      prometheus:
        query: |
          sum(rate(http_requests_total{service="{{args.service}}",pod_template_hash="{{canary.hash}}",code!~"5.."}[{{window}}]))
          / sum(rate(http_requests_total{service="{{args.service}}",pod_template_hash="{{canary.hash}}"}[{{window}}]))
---
apiVersion: serin.dev/v1alpha1
kind: AnalysisTemplate
metadata: {name: nothing}
spec:
  metrics:
  - name: nothing
    interval: 2s
    window: 5s
    count: 1
    noData: {limit: 1000, then: pause}
    judge: {threshold: {pass: ">= 1"}}
    provider: {prometheus: {query: 'min_over_time(nobody_has_this[{{window}}])'}}
"#;
