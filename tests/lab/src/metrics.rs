//! Prometheus and Alertmanager.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::Deserialize;

use crate::{
    access,
    control_plane::{ControlPlane, LIMIT},
    error::{Context, Error, Result},
    net,
    parts::Parts,
    pki,
    process::{Part, Supervisor},
};

/// The port of Prometheus.
pub const PROMETHEUS_PORT: u16 = 9090;
/// The port of Alertmanager.
pub const ALERTMANAGER_PORT: u16 = 9093;

/// Pods are found by the usual annotations: `prometheus.io/scrape: "true"`, `prometheus.io/port`
/// and, unless it is `/metrics`, `prometheus.io/path`. Other targets are files in `targets`, and keep
/// their own labels; alerts are files in `rules`.
fn prometheus_config(plane: &ControlPlane) -> String {
    format!(
        r#"global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [rules/*.yaml]
alerting:
  alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{ALERTMANAGER_PORT}']}}]}}]
scrape_configs:
- job_name: targets
  honor_labels: true
  file_sd_configs: [{{files: [targets/*.json]}}]
- job_name: pods
  kubernetes_sd_configs:
  - role: pod
    api_server: https://127.0.0.1:{port}
    authorization: {{credentials: {token}}}
    tls_config: {{ca: {ca:?}}}
  relabel_configs:
  - {{source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], regex: 'true', action: keep}}
  - {{source_labels: [__meta_kubernetes_pod_phase], regex: 'Pending|Succeeded|Failed', action: drop}}
  - source_labels: [__meta_kubernetes_pod_ip, __meta_kubernetes_pod_annotation_prometheus_io_port]
    regex: '(.+);(\d+)'
    replacement: '$1:$2'
    target_label: __address__
  - {{source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], regex: '(.+)', target_label: __metrics_path__}}
  - {{source_labels: [__meta_kubernetes_namespace], target_label: namespace}}
  - {{source_labels: [__meta_kubernetes_pod_name], target_label: pod}}
  - {{source_labels: [__meta_kubernetes_pod_label_pod_template_hash], target_label: pod_template_hash}}
"#,
        port = access::API_PORT,
        token = access::PROMETHEUS.name,
        ca = plane.ca_pem(),
    )
}

/// Starts Prometheus and awaits it. Started again, it goes on with what it had stored.
pub(crate) async fn prometheus(
    parts: &Parts,
    supervisor: &Supervisor,
    plane: &ControlPlane,
) -> Result<Part> {
    let folder = supervisor.run_dir().join("prometheus");
    let file = folder.join("config.yaml");
    pki::write(&file, &prometheus_config(plane))?;
    // It looks only into folders that are there.
    let targets = folder.join("targets");
    std::fs::create_dir_all(&targets).context(|| format!("making {}", targets.display()))?;
    let mut command = parts.prometheus.command();
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("data").display()
        ))
        .arg(format!("--web.listen-address=0.0.0.0:{PROMETHEUS_PORT}"))
        .args(["--web.enable-lifecycle", "--storage.tsdb.retention.time=1d"]);
    let part = supervisor.start("prometheus", command)?;
    await_ready(supervisor, "Prometheus", PROMETHEUS_PORT).await?;
    Ok(part)
}

/// Starts Alertmanager and awaits it.
pub(crate) async fn alertmanager(parts: &Parts, supervisor: &Supervisor) -> Result<Part> {
    let folder = supervisor.run_dir().join("alertmanager");
    let file = folder.join("config.yaml");
    pki::write(
        &file,
        "route: {receiver: lab, group_wait: 0s}\nreceivers: [{name: lab}]\n",
    )?;
    let mut command = parts.alertmanager.command();
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address=0.0.0.0:{ALERTMANAGER_PORT}"))
        .arg("--cluster.listen-address=");
    let part = supervisor.start("alertmanager", command)?;
    await_ready(supervisor, "Alertmanager", ALERTMANAGER_PORT).await?;
    Ok(part)
}

async fn await_ready(supervisor: &Supervisor, name: &str, port: u16) -> Result<()> {
    let url = format!("http://127.0.0.1:{port}/-/ready");
    let ready = async {
        while !matches!(net::get_status(&url, Duration::from_secs(2)).await, Ok(200)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    supervisor.await_or_fail(name, LIMIT, ready).await
}

/// Scrapes an address beside the pods, until the lab ends.
pub(crate) fn scrape(run_dir: &Path, name: &str, address: &str) -> Result<()> {
    let file = run_dir.join(format!("prometheus/targets/{name}.json"));
    pki::write(&file, &format!(r#"[{{"targets": ["{address}"]}}]"#))
}

/// Adds alerts, and awaits that Prometheus has read them.
pub(crate) async fn rules(
    http: &reqwest::Client,
    base: &str,
    run_dir: &Path,
    name: &str,
    text: &str,
) -> Result<()> {
    pki::write(&run_dir.join(format!("prometheus/rules/{name}.yaml")), text)?;
    let wrong = |e: &dyn std::fmt::Display| Error::Invalid(format!("alerts {name}: {e}"));
    let url = format!("{base}/-/reload");
    let answer = http.post(url).send().await.map_err(|e| wrong(&e))?;
    if answer.status().is_success() {
        return Ok(());
    }
    Err(wrong(&answer.text().await.unwrap_or_default()))
}

/// One series of an instant query's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

/// An instant query that gives a vector.
pub(crate) async fn query(http: &reqwest::Client, base: &str, promql: &str) -> Result<Vec<Series>> {
    let wrong = |e: &dyn std::fmt::Display| Error::Invalid(format!("query {promql}: {e}"));
    let answer: Answer = http
        .get(format!("{base}/api/v1/query"))
        .query(&[("query", promql)])
        .send()
        .await
        .map_err(|e| wrong(&e))?
        .json()
        .await
        .map_err(|e| wrong(&e))?;
    let data = answer
        .data
        .ok_or_else(|| wrong(&answer.error.unwrap_or_default()))?;
    data.result
        .into_iter()
        .map(|s| {
            let value = s.value.1.parse().map_err(|e| wrong(&e))?;
            Ok(Series {
                labels: s.metric,
                value,
            })
        })
        .collect()
}

/// An alert that stands in Alertmanager.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Its labels; `alertname` is its name.
    pub labels: BTreeMap<String, String>,
    /// What it says.
    pub annotations: BTreeMap<String, String>,
    /// Since when.
    pub starts_at: String,
    /// Until when, unless it is sent again.
    pub ends_at: String,
}

/// The alerts that stand.
pub(crate) async fn alerts(http: &reqwest::Client, base: &str) -> Result<Vec<Alert>> {
    let wrong = |e: reqwest::Error| Error::Invalid(format!("asking Alertmanager: {e}"));
    let text = http
        .get(format!("{base}/api/v2/alerts"))
        .send()
        .await
        .map_err(wrong)?
        .text()
        .await
        .map_err(wrong)?;
    serde_json::from_str(&text).context(|| format!("Alertmanager's answer {text}"))
}
