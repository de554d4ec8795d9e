//! The lab's own test: every promise of its README, once.

mod manifests;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
    runtime::wait::await_condition,
};
use manifests::{pod, route, two_versions};
use serde_json::json;
use serin_lab::{CaseResult, Lab, Load, Suite};

/// Far beyond what anything takes; only a lab that is broken waits for so long.
const LIMIT: Duration = Duration::from_secs(120);

fn main() {
    Suite::new()
        .case("traffic_is_split_by_weight_and_follows_a_change", traffic)
        .case("a_held_data_plane_does_not_hear_of_changes", held)
        .case("prometheus_sees_pods_and_can_be_stopped", prometheus)
        .case("an_alert_is_listed", alert)
        .case("a_crash_loop_and_a_missing_image_say_so", broken_pods)
        .case("pods_end_as_kubernetes_says", endings)
        .case("a_pod_finds_its_environment", environment)
        .case("a_service_account_has_its_own_rights", accounts)
        .case("kubectl_and_helm_work", tools)
        .main()
}

fn routes(lab: &Lab, namespace: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
    Api::namespaced_with(lab.client(), namespace, &ApiResource::from_gvk(&gvk))
}

/// The newest generation is accepted by every controller of the route.
async fn accepted(lab: &Lab, namespace: &str) -> CaseResult {
    let condition = |route: Option<&DynamicObject>| {
        let Some(route) = route else { return false };
        let parents = route.data["status"]["parents"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        !parents.is_empty()
            && parents
                .iter()
                .flat_map(|p| p["conditions"].as_array().cloned())
                .flatten()
                .all(|c| {
                    c["status"] == "True"
                        && c["observedGeneration"].as_i64() == route.metadata.generation
                })
    };
    let waiting = await_condition(routes(lab, namespace), "app", condition);
    lab.within("the route's acceptance", LIMIT, waiting)
        .await??;
    Ok(())
}

/// Every Deployment has its pods ready.
async fn served(lab: &Lab, namespace: &str) -> CaseResult {
    lab.kubectl(&[
        "-n",
        namespace,
        "rollout",
        "status",
        "deployment",
        "--timeout=120s",
    ])
    .await?;
    Ok(())
}

async fn first_answer(lab: &Lab, namespace: &str) -> CaseResult {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let (host, url) = (format!("{namespace}.test"), lab.gateway_url());
    lab.until("the first good answer", LIMIT, || async {
        let answer = http.get(&url).header("host", &host).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await?;
    Ok(())
}

async fn set_up(
    lab: &Lab,
    prefix: &str,
    more_env: &str,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let namespace = lab.namespace(prefix).await?;
    lab.apply_yaml_in(&namespace, &two_versions(more_env))
        .await?;
    // The route comes last: see "Worth knowing" in the README.
    served(lab, &namespace).await?;
    lab.apply_yaml_in(&namespace, &route(&namespace, 90, 10))
        .await?;
    Ok(namespace)
}

async fn traffic(lab: Arc<Lab>) -> CaseResult {
    let namespace = set_up(&lab, "traffic", "{name: ERROR_RATE, value: '0.1'}").await?;
    accepted(&lab, &namespace).await?;
    first_answer(&lab, &namespace).await?;
    let load = Load::start(&lab.gateway_url(), &format!("{namespace}.test"), 100.0)?;
    let enough = |at| {
        let load = &load;
        move || async move { Some(load.window(at, true)).filter(|w| w.answers() >= 400) }
    };
    let split = lab.until("400 answers", LIMIT, enough(load.now())).await?;
    let share = split.share("v2").unwrap_or_default();
    assert!((0.02..0.25).contains(&share), "10 % asked, {share} seen");
    lab.apply_yaml_in(&namespace, &route(&namespace, 0, 100))
        .await?;
    accepted(&lab, &namespace).await?;
    let all_new = lab.until("v2 alone", LIMIT, || async {
        let recent = load.recent(Duration::from_millis(500));
        (recent.answers() > 20 && recent.of("v1").all() == 0).then(|| load.now())
    });
    let since = all_new.await?;
    let after = lab.until("400 answers", LIMIT, enough(since)).await?;
    assert_eq!(after.of("v1").all(), 0, "weight 0 means nothing: {after:?}");
    let report = load.stop().await;
    assert_eq!(report.unexplained, 0, "{:?}", report.unexplained_samples);
    assert_eq!(report.answered, report.sent);
    let v2 = report.of("v2");
    let errors = v2.injected * 100 / v2.all();
    assert!(
        (8..=12).contains(&errors),
        "10 % of v2's answers are errors, not {errors}"
    );
    assert!(report.first_bad_at.contains_key("v1"));
    Ok(())
}

async fn held(lab: Arc<Lab>) -> CaseResult {
    let namespace = set_up(&lab, "held", "").await?;
    lab.apply_yaml_in(&namespace, &route(&namespace, 1, 0))
        .await?;
    accepted(&lab, &namespace).await?;
    first_answer(&lab, &namespace).await?;
    let load = Load::start(&lab.gateway_url(), &format!("{namespace}.test"), 50.0)?;
    let hold = lab.hold_data_plane()?;
    lab.apply_yaml_in(&namespace, &route(&namespace, 0, 1))
        .await?;
    accepted(&lab, &namespace).await?;
    let at = load.now();
    let window = lab.until("100 answers while held", LIMIT, || async {
        Some(load.window(at, true)).filter(|w| w.answers() >= 100)
    });
    let window = window.await?;
    assert_eq!(
        window.of("v2").all(),
        0,
        "accepted, but held back: {window:?}"
    );
    hold.release();
    lab.until("v2 after the release", LIMIT, || async {
        let recent = load.recent(Duration::from_millis(500));
        (recent.of("v2").all() > 10 && recent.of("v1").all() == 0).then_some(())
    })
    .await?;
    let report = load.stop().await;
    assert_eq!(report.unexplained, 0, "{:?}", report.unexplained_samples);
    Ok(())
}

async fn prometheus(lab: Arc<Lab>) -> CaseResult {
    let namespace = set_up(&lab, "metrics", "{name: SERVICE, value: shop}").await?;
    first_answer(&lab, &namespace).await?;
    let load = Load::start(&lab.gateway_url(), &format!("{namespace}.test"), 20.0)?;
    let query = format!(
        "sum by (pod_template_hash, version) (rate(http_requests_total{{\
         namespace=\"{namespace}\",service=\"shop\",code=\"200\"}}[5s])) > 0"
    );
    let seen = || async {
        let series = lab.query(&query).await.ok()?;
        (series.len() == 2).then_some(series)
    };
    let series = lab.until("the rates of both versions", LIMIT, seen).await?;
    assert!(
        series
            .iter()
            .all(|s| s.labels.contains_key("pod_template_hash")),
        "{series:?}"
    );
    lab.stop_prometheus().await;
    assert!(lab.query("up").await.is_err());
    lab.start_prometheus().await?;
    lab.until("the rates of both versions again", LIMIT, seen)
        .await?;
    assert_eq!(load.stop().await.unexplained, 0);
    Ok(())
}

async fn alert(lab: Arc<Lab>) -> CaseResult {
    let alerts = json!([{"labels": {"alertname": "LabTest"}, "annotations": {"summary": "hello"}}]);
    let http = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/api/v2/alerts", lab.alertmanager_url());
    http.post(url)
        .json(&alerts)
        .send()
        .await?
        .error_for_status()?;
    let listed = lab.until("the alert", LIMIT, || async {
        let alerts = lab.alerts().await.ok()?;
        alerts
            .into_iter()
            .find(|a| a.labels["alertname"] == "LabTest")
    });
    assert_eq!(listed.await?.annotations["summary"], "hello");
    Ok(())
}

fn first(pod: Option<&Pod>) -> Option<ContainerStatus> {
    pod?.status
        .as_ref()?
        .container_statuses
        .as_ref()?
        .first()
        .cloned()
}

async fn pod_is(
    lab: &Lab,
    namespace: &str,
    name: &str,
    what: &str,
    is: impl Fn(&ContainerStatus) -> bool,
) -> Result<Pod, Box<dyn std::error::Error + Send + Sync>> {
    let api: Api<Pod> = Api::namespaced(lab.client(), namespace);
    let condition = |pod: Option<&Pod>| first(pod).is_some_and(|c| is(&c));
    let found = lab
        .within(what, LIMIT, await_condition(api, name, condition))
        .await??;
    found.ok_or_else(|| format!("{name} is gone").into())
}

fn waits_for(reason: &'static str) -> impl Fn(&ContainerStatus) -> bool {
    move |c| {
        let waiting = c.state.as_ref().and_then(|s| s.waiting.as_ref());
        waiting.and_then(|w| w.reason.as_deref()) == Some(reason)
    }
}

async fn broken_pods(lab: Arc<Lab>) -> CaseResult {
    let namespace = lab.namespace("broken").await?;
    let crash = "    env: [{name: CRASH_AFTER, value: 100ms}]";
    let never = "    env: [{name: NEVER_READY, value: 'true'}]
    readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
    startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 60}";
    let text = pod("crash", "lab/app:v1", crash)
        + &pod("absent", "example.com/no-such:v9", "")
        + &pod("never", "lab/app:v1", never);
    lab.apply_yaml_in(&namespace, &text).await?;
    let crashed = pod_is(
        &lab,
        &namespace,
        "crash",
        "a crash loop",
        waits_for("CrashLoopBackOff"),
    );
    let crashed = crashed.await?;
    let status = first(Some(&crashed)).ok_or("no status")?;
    assert!(status.restart_count > 0 && !status.ready);
    let last = status
        .last_state
        .and_then(|s| s.terminated)
        .ok_or("no last state")?;
    assert_eq!(last.exit_code, 1);
    let absent = pod_is(
        &lab,
        &namespace,
        "absent",
        "the back-off",
        waits_for("ImagePullBackOff"),
    );
    let status = first(Some(&absent.await?)).ok_or("no status")?;
    let message = status
        .state
        .and_then(|s| s.waiting)
        .and_then(|w| w.message)
        .unwrap_or_default();
    assert!(message.contains("example.com/no-such:v9"), "{message}");
    let started = |c: &ContainerStatus| c.started == Some(true);
    let never = pod_is(&lab, &namespace, "never", "its start", started).await?;
    let conditions = never.status.and_then(|s| s.conditions).unwrap_or_default();
    assert!(
        conditions
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "False"),
        "{conditions:?}"
    );
    Ok(())
}

async fn endings(lab: Arc<Lab>) -> CaseResult {
    let namespace = lab.namespace("endings").await?;
    let job = "    command: [sh, -c, 'echo done; exit 3']\n  restartPolicy: Never";
    let stubborn = "    command: [bash, -c, \"trap '' TERM; while true; do sleep 1; done\"]";
    let text = pod("job", "lab/app:v1", job)
        + &pod("stubborn", "lab/app:v1", stubborn)
        + &pod("polite", "lab/app:v1", "");
    lab.apply_yaml_in(&namespace, &text).await?;
    let over = |c: &ContainerStatus| c.state.as_ref().is_some_and(|s| s.terminated.is_some());
    let job = pod_is(&lab, &namespace, "job", "the job's end", over).await?;
    assert_eq!(job.status.and_then(|s| s.phase).as_deref(), Some("Failed"));
    let ready = |c: &ContainerStatus| c.ready;
    for name in ["stubborn", "polite"] {
        pod_is(&lab, &namespace, name, "readiness", ready).await?;
    }
    lab.kill_container(&namespace, "polite", "main")?;
    let restarted = |c: &ContainerStatus| c.ready && c.restart_count == 1;
    pod_is(
        &lab,
        &namespace,
        "polite",
        "a restart after a kill",
        restarted,
    )
    .await?;
    lab.until("a second beginning in the log", LIMIT, || async {
        let log = lab.container_log(&namespace, "polite", "main").ok()?;
        (log.matches("listens").count() == 2).then_some(())
    })
    .await?;
    lab.kubectl(&["-n", &namespace, "delete", "pod", "--all", "--timeout=100s"])
        .await?;
    let audit = lab.audit()?;
    let deletions = audit
        .iter()
        .filter(|e| e.namespace == namespace && e.verb == "delete" && e.user == "system:node:lab");
    assert_eq!(deletions.count(), 3, "the kubelet deletes each pod at last");
    Ok(())
}

async fn environment(lab: Arc<Lab>) -> CaseResult {
    let namespace = lab.namespace("environment").await?;
    let objects = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: green, file.txt: inside}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: worker}
---
apiVersion: v1
kind: Pod
metadata: {name: looks, labels: {tier: back}}
spec:
  serviceAccountName: worker
  restartPolicy: Never
  volumes:
  - {name: config, configMap: {name: settings}}
  - {name: scratch, emptyDir: {}}
  containers:
  - name: main
    image: lab/app:v1
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: TIER, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['tier']\"}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    volumeMounts:
    - {name: config, mountPath: /etc/lab/config}
    - {name: scratch, mountPath: /tmp}
    command: [sh, -ec]
    args:
    - |
      test \"$COLOUR$TIER\" = greenback; test \"$(COLOUR)\" = green; test \"$IP\" = \"$LAB_POD_IP\"
      test \"$(cat /etc/lab/config/file.txt)\" = inside; echo x > /tmp/y
      S=/var/run/secrets/kubernetes.io/serviceaccount
      test -s $S/token; test -s $S/ca.crt; test \"$(cat $S/namespace)\" = \"$NAMESPACE\"
";
    let objects = objects.replace("\"$NAMESPACE\"", &namespace);
    lab.apply_yaml_in(&namespace, &objects).await?;
    let over = |c: &ContainerStatus| c.state.as_ref().is_some_and(|s| s.terminated.is_some());
    let pod = pod_is(&lab, &namespace, "looks", "its end", over).await?;
    assert_eq!(
        pod.status.and_then(|s| s.phase).as_deref(),
        Some("Succeeded")
    );
    Ok(())
}

async fn accounts(lab: Arc<Lab>) -> CaseResult {
    let namespace = lab.namespace("accounts").await?;
    let objects = format!(
        "apiVersion: v1
kind: ServiceAccount
metadata: {{name: reader}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: reader}}
rules: [{{apiGroups: [''], resources: [pods], verbs: [get, list]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: reader}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}}
subjects: [{{kind: ServiceAccount, name: reader, namespace: {namespace}}}]
"
    );
    lab.apply_yaml_in(&namespace, &objects).await?;
    let client = lab.client_for_service_account(&namespace, "reader").await?;
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    lab.until("the right to list", LIMIT, || async {
        pods.list(&Default::default()).await.ok()
    })
    .await?;
    let patch = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    let refused = pods.patch("any", &PatchParams::default(), &patch).await;
    assert!(matches!(refused, Err(kube::Error::Api(s)) if s.code == 403));
    let user = format!("system:serviceaccount:{namespace}:reader");
    let audit = lab.audit()?;
    let theirs: Vec<_> = audit.iter().filter(|e| e.user == user).collect();
    assert!(theirs.iter().any(|e| e.verb == "list" && e.code == 200));
    assert!(
        theirs.iter().any(|e| e.is_write() && e.code == 403),
        "{theirs:?}"
    );
    Ok(())
}

async fn tools(lab: Arc<Lab>) -> CaseResult {
    let namespace = lab.namespace("tools").await?;
    let chart = lab.run_dir().join("chart");
    std::fs::create_dir_all(chart.join("templates"))?;
    std::fs::write(
        chart.join("Chart.yaml"),
        "apiVersion: v2\nname: tiny\nversion: 0.1.0\n",
    )?;
    std::fs::write(
        chart.join("templates/map.yaml"),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}'}\n",
    )?;
    let chart = chart.display().to_string();
    lab.helm(&[
        "-n",
        &namespace,
        "upgrade",
        "--install",
        "it",
        &chart,
        "--wait",
    ])
    .await?;
    let listed = lab
        .kubectl(&["-n", &namespace, "get", "configmap", "it", "-o", "name"])
        .await?;
    assert_eq!(listed.trim(), "configmap/it");
    let refused = lab
        .kubectl(&["get", "nonsense"])
        .await
        .map_err(|e| e.to_string());
    assert!(
        refused.is_err_and(|e| e.contains("nonsense")),
        "the output is in the message"
    );
    Ok(())
}
