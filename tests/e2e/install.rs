//! Installed as a user does it: by the chart, under the chart's own rights, with pods.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use serde_json::Value;
use serin::api::RolloutStatus;
use serin_lab::Lab;

use crate::world::{LIMIT, Result, Setup, World, ensure, hash, phase};

pub const CHART: &str = "charts/serin";
/// The chart before this one, as it was.
const PREVIOUS: &str = "tests/e2e/charts/serin-0.1.0-previous";

/// A release of the chart, by the name `serin`.
pub struct Release {
    lab: Arc<Lab>,
    namespace: String,
    values: Vec<String>,
}

impl Release {
    pub fn new(lab: &Arc<Lab>, namespace: &str, values: &[&str]) -> Self {
        // `make image-test` gives the binary that goes into the image.
        let binary = std::env::var_os("SERIN_BINARY");
        let binary = binary.map_or_else(|| env!("CARGO_BIN_EXE_serin").into(), PathBuf::from);
        lab.images()
            .register("ghcr.io/serin-dev/serin:*", binary, &[]);
        let mut values: Vec<String> = values.iter().map(ToString::to_string).collect();
        values.push(format!("metricProviders.default={}", lab.prometheus_url()));
        values.push(format!("alertmanager.url={}", lab.alertmanager_url()));
        Self {
            lab: Arc::clone(lab),
            namespace: namespace.to_owned(),
            values,
        }
    }

    pub async fn helm(&self, verb: &[&str], chart: &str, flags: &[&str]) -> Result {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join(chart);
        let chart = chart.display().to_string();
        let mut args = verb.to_vec();
        args.extend(["serin", &chart, "--namespace", &self.namespace]);
        args.extend(flags);
        args.extend(self.values.iter().flat_map(|v| ["--set", v.as_str()]));
        self.lab.helm(&args).await?;
        self.running().await
    }

    /// Awaits that the Deployment's pods are those of its newest template, and ready.
    async fn running(&self) -> Result {
        let ns = self.namespace.as_str();
        self.lab
            .kubectl(&[
                "-n",
                ns,
                "rollout",
                "status",
                "deployment/serin",
                "--timeout=240s",
            ])
            .await?;
        Ok(())
    }

    /// `helm test`.
    async fn test(&self) -> Result {
        let ns = self.namespace.as_str();
        let said = self
            .lab
            .helm(&["test", "serin", "--namespace", ns, "--timeout", "240s"])
            .await?;
        ensure(said.contains("Succeeded"), said)
    }

    /// `helm uninstall`, and its pods have gone.
    pub async fn uninstall(&self) -> Result {
        let ns = self.namespace.as_str();
        self.lab.helm(&["uninstall", "serin", "-n", ns]).await?;
        let pods = "app.kubernetes.io/instance=serin";
        self.lab
            .kubectl(&[
                "-n",
                ns,
                "wait",
                "--for=delete",
                "pod",
                "-l",
                pods,
                "--timeout=240s",
            ])
            .await?;
        Ok(())
    }
}

/// v1 is deployed, users send requests, v2 is at its first pause.
pub async fn in_flight(w: &mut World) -> Result<RolloutStatus> {
    w.apply_app("v1", 100, 0).await?;
    w.until("v1 to be healthy", |s| phase(s) == "Healthy")
        .await?;
    w.first_answer().await?;
    w.start_load()?;
    w.deploy("v2").await?;
    w.step(1).await
}

/// Installed, tested, one revision promoted.
async fn ship(w: &mut World) -> Result {
    let status = in_flight(w).await?;
    w.served_by("v2").await?;
    w.annotate(&[("promote", &format!("{}/1", hash(&status)))])
        .await?;
    w.done("Healthy").await?;
    Ok(())
}

/// Users are answered on and on, though nobody works, and what they made is still there.
async fn left_alone(w: &World) -> Result {
    let before = w.load().snapshot().answered;
    w.lab
        .until("200 more answers", LIMIT, || async {
            (w.load().snapshot().answered >= before + 200).then_some(())
        })
        .await?;
    let crds = w.lab.kubectl(&["get", "crds", "-o", "name"]).await?;
    for (_, crd) in serin::api::crds() {
        let name = crd.metadata.name.unwrap_or_default();
        ensure(crds.contains(&name), format!("{name} went with the chart"))?;
    }
    w.status().await?;
    Ok(())
}

const STEPS: &str = "[{setWeight: 20}, {pause: {}}]";

/// In the whole cluster, with two copies, where pods must be restricted.
pub async fn installed_in_the_whole_cluster(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: STEPS,
        // So that it leaves the other tests' Rollouts alone.
        controller: "install.example.com/whole",
        ..Setup::default()
    };
    let mut w = World::bare(lab, "install", setup).await?;
    let namespace = w.lab.namespace("serin-whole").await?;
    w.lab
        .kubectl(&[
            "label",
            "namespace",
            &namespace,
            "pod-security.kubernetes.io/enforce=restricted",
        ])
        .await?;
    let release = Release::new(
        &w.lab,
        &namespace,
        &[
            "controllerName=install.example.com/whole",
            "replicas=2",
            "networkPolicy.enabled=true",
            "dashboard.enabled=true",
        ],
    );
    // The other tests' CustomResourceDefinitions were applied by hand.
    release
        .helm(&["install"], CHART, &["--take-ownership"])
        .await?;
    release.test().await?;
    people(&w).await?;
    ship(&mut w).await?;
    release.uninstall().await?;
    left_alone(&w).await?;
    w.farewell().await?;
    Ok(())
}

/// Who may view sees Rollouts; who may edit writes them, but never their status.
async fn people(w: &World) -> Result {
    for role in ["view", "edit"] {
        let (role, user) = (format!("--clusterrole={role}"), format!("--user={role}er"));
        let args = [
            "create",
            "rolebinding",
            &user[7..],
            &role,
            &user,
            "-n",
            &w.namespace,
        ];
        w.lab.kubectl(&args).await?;
    }
    w.may("viewer", "watch", "rollouts.serin.dev").await?;
    w.may("editer", "patch", "rollouts.serin.dev").await?;
    for (who, verb, resource, subresource, wanted) in [
        ("editer", "patch", "rollouts", "scale", true),
        ("editer", "patch", "rollouts", "status", false),
        ("editer", "create", "analysisruns", "", false),
        ("editer", "create", "clusteranalysistemplates", "", false),
        ("viewer", "get", "analysisruns", "", true),
        ("viewer", "patch", "rollouts", "", false),
    ] {
        let resource = format!("{resource}.serin.dev");
        let (user, part) = (
            format!("--as={who}"),
            format!("--subresource={subresource}"),
        );
        let args = [
            "auth",
            "can-i",
            verb,
            &resource,
            &part,
            "-q",
            &user,
            "-n",
            &w.namespace,
        ];
        let may = w.lab.kubectl(&args).await.is_ok();
        ensure(
            may == wanted,
            format!("{who}, {verb} {resource} {part}: allowed is {may}, wanted {wanted}"),
        )?;
    }
    Ok(())
}

/// In one namespace, without anything of the cluster.
pub async fn installed_in_a_namespace(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: STEPS,
        ..Setup::default()
    };
    let mut w = World::bare(lab, "narrow", setup).await?;
    let namespace = w.lab.namespace("serin-narrow").await?;
    let release = Release::new(
        &w.lab,
        &namespace,
        &[
            &format!("namespaces={{{}}}", w.namespace),
            "rbac.clusterRoles=false",
            "crds.install=false",
        ],
    );
    release.helm(&["install"], CHART, &[]).await?;
    release.test().await?;
    ship(&mut w).await?;
    release.uninstall().await?;
    left_alone(&w).await?;
    w.farewell().await?;
    Ok(())
}

/// `serin check` under the account of the app's namespace: what it says, and whether all is well.
async fn check(w: &World, namespace: &str) -> Result<(bool, String)> {
    let out = tokio::process::Command::new(env!("CARGO_BIN_EXE_serin"))
        .args(["check", "--leader-elect=false", "--namespaces", namespace])
        .env("KUBECONFIG", &w.kubeconfig)
        .output()
        .await?;
    let said = [out.stdout, out.stderr].concat();
    Ok((out.status.success(), String::from_utf8(said)?))
}

/// What is not granted is said, each right by itself.
pub async fn check_finds_what_is_missing(lab: Arc<Lab>) -> Result {
    let w = World::bare(lab, "check", Setup::default()).await?;
    let (well, said) = check(&w, &w.namespace).await?;
    ensure(well && said.contains("rights are granted"), said)?;
    let (well, said) = check(&w, "default").await?;
    let wanted = "wrong  not allowed: patch rollouts/status.serin.dev in namespace \"default\"";
    ensure(!well && said.contains(wanted), said)?;
    let (well, said) = check(&w, "").await?;
    let wanted = "wrong  not allowed: create services in the cluster";
    ensure(!well && said.contains(wanted), said)
}

/// From the chart before to this one while a rollout is in flight; then away, and back again.
pub async fn controller_upgraded_in_flight(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: "[{setWeight: 20}, {pause: {duration: 10s}}, {setWeight: 50}, {pause: {}}]",
        ..Setup::default()
    };
    let mut w = World::empty(lab, "upgraded", setup).await?;
    let release = Release::new(&w.lab, "serin-system", &[]);
    release
        .helm(&["install"], PREVIOUS, &["--create-namespace"])
        .await?;
    w.apply_app("v1", 100, 0).await?;
    w.until("v1 to be healthy", |s| phase(s) == "Healthy")
        .await?;
    w.first_answer().await?;
    w.start_load()?;
    w.deploy("v2").await?;
    w.step(1).await?;
    w.served_by("v2").await?;
    release.helm(&["upgrade"], CHART, &[]).await?;
    let crds: Api<CustomResourceDefinition> = Api::all(w.lab.client());
    for (name, wanted) in serin::api::crds() {
        let found = crds.get(&wanted.metadata.name.unwrap_or_default()).await?;
        let same = found.spec.versions.first().map(|v| &v.schema)
            == wanted.spec.versions.first().map(|v| &v.schema);
        ensure(same, format!("{name} was not upgraded with the chart"))?;
    }
    let status = w.step(3).await?;
    release.test().await?;
    w.annotate(&[("promote", &format!("{}/1", hash(&status)))])
        .await?;
    w.done("Healthy").await?;

    w.deploy("v3").await?;
    w.step(1).await?;
    w.served_by("v3").await?;
    release.uninstall().await?;
    left_alone(&w).await?;
    release.helm(&["install"], CHART, &[]).await?;
    let status = w.step(3).await?;
    w.annotate(&[("promote", &format!("{}/1", hash(&status)))])
        .await?;
    w.done("Healthy").await?;
    w.farewell().await?;
    release.uninstall().await
}

/// What the chart makes of values.
async fn render(lab: &Lab, values: &[&str]) -> std::result::Result<Vec<Value>, serin_lab::Error> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join(CHART);
    let chart = chart.display().to_string();
    let mut args = vec!["template", "serin", &chart, "--namespace", "serin"];
    args.extend(["--api-versions", "monitoring.coreos.com/v1"]);
    args.extend(values.iter().flat_map(|v| ["--set", v]));
    let text = lab.helm(&args).await?;
    let wrong = |e: serde_saphyr::Error| serin_lab::Error::Invalid(e.to_string());
    let parts = text.split("\n---\n").filter(|p| p.contains("kind:"));
    parts
        .map(|p| serde_saphyr::from_str(p).map_err(wrong))
        .collect()
}

fn kinds(objects: &[Value]) -> Vec<&str> {
    objects.iter().filter_map(|o| o["kind"].as_str()).collect()
}

fn one<'a>(objects: &'a [Value], kind: &str) -> Result<&'a Value> {
    let mut found = objects.iter().filter(|o| o["kind"] == kind);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(format!("not one {kind} in {:?}", kinds(objects)).into()),
    }
}

/// What is off by default is off; what is on is whole; what is wrong is refused.
pub async fn chart_rendered(lab: Arc<Lab>) -> Result {
    let plain = render(&lab, &[]).await?;
    for kind in [
        "PodDisruptionBudget",
        "NetworkPolicy",
        "ServiceMonitor",
        "PrometheusRule",
        "ConfigMap",
        "Secret",
        "ValidatingAdmissionPolicy",
        "MutatingAdmissionPolicy",
    ] {
        ensure(
            !kinds(&plain).contains(&kind),
            format!("{kind} is on by default"),
        )?;
    }
    let all = render(
        &lab,
        &[
            "replicas=3", "serviceMonitor.enabled=true", "serviceMonitor.labels.release=prometheus",
            "prometheusRule.enabled=true", "dashboard.enabled=true", "networkPolicy.enabled=true",
            "metricProviders.default=http://prometheus:9090", "alertmanager.url=http://alertmanager:9093",
            "networkPolicy.metricProviders.to[0].namespaceSelector.matchLabels.team=monitoring",
            "topologySpreadConstraints[0].maxSkew=1,topologySpreadConstraints[0].topologyKey=zone,topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
        ],
    )
    .await?;
    one(&all, "PodDisruptionBudget")?;
    let monitor = one(&all, "ServiceMonitor")?;
    ensure(
        monitor["spec"]["endpoints"][0]["port"]
            == one(&all, "Service")?["spec"]["ports"][0]["name"]
            && monitor["metadata"]["labels"]["release"] == "prometheus",
        format!("{monitor}"),
    )?;
    let groups = &one(&all, "PrometheusRule")?["spec"]["groups"];
    ensure(
        groups[0]["rules"][0]["alert"].is_string(),
        format!("{groups}"),
    )?;
    let dashboard = &one(&all, "ConfigMap")?["data"]["serin.json"];
    let dashboard: Value = serde_json::from_str(dashboard.as_str().unwrap_or_default())?;
    ensure(dashboard["title"].is_string(), format!("{dashboard}"))?;
    let ports: Vec<i64> = one(&all, "NetworkPolicy")?["spec"]["egress"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|rule| rule["ports"].as_array().cloned().unwrap_or_default())
        .filter_map(|p| p["port"].as_i64())
        .collect();
    ensure(
        ports == [53, 53, 443, 6443, 9090, 9093],
        format!("egress to {ports:?}"),
    )?;
    let pod = &one(&all, "Deployment")?["spec"]["template"];
    ensure(
        pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]
            == one(&all, "Deployment")?["spec"]["selector"]["matchLabels"],
        format!("{pod}"),
    )?;
    ensure(
        one(&all, "Pod")?["metadata"]["labels"]["app.kubernetes.io/name"] != "serin",
        "the Service would select the pod of `helm test`",
    )?;

    let narrow = render(
        &lab,
        &[
            "namespaces={a,b}",
            "rbac.clusterRoles=false",
            "crds.install=false",
        ],
    )
    .await?;
    let of_the_cluster = kinds(&narrow)
        .into_iter()
        .find(|k| k.starts_with("Cluster") || k.starts_with("Custom"));
    ensure(
        of_the_cluster.is_none(),
        format!("{of_the_cluster:?} is of the cluster"),
    )?;
    for (values, wanted) in [
        ("replicas=2,leaderElection.enabled=false", "leaderElection"),
        ("replica=2", "replica"),
        ("image.digest=latest", "digest"),
        ("metricProviders.default=prometheus:9090", "metricProviders"),
        ("networkPolicy.dns.ports={}", "ports"),
        (
            "serviceMonitor.enabled=true,service.enabled=false",
            "service.enabled",
        ),
    ] {
        match render(&lab, &[values]).await {
            Ok(_) => return Err(format!("{values} was not refused").into()),
            Err(e) => ensure(e.to_string().contains(wanted), format!("{values}: {e}"))?,
        }
    }
    Ok(())
}
