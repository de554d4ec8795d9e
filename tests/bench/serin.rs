//! Serin as a process of its own, with the chart's rights: what it uses of the machine and asks of the
//! API server.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use serde_json::json;
use serin::{cli::rbac, controller::rollouts::route_kinds};
use serin_lab::{AuditEntry, Lab};
use tokio::process::{Child, Command};

use crate::Result;

/// The namespace of the controller.
pub const SYSTEM: &str = "serin-system";
const USER: &str = "system:serviceaccount:serin-system:serin";
/// Far beyond what anything takes.
pub const LIMIT: Duration = Duration::from_secs(900);

/// What every lab needs once: the kinds, and an account with the chart's rights.
pub async fn install(lab: &Lab) -> Result<PathBuf> {
    let crds = serin::api::crds();
    let mut names = vec![];
    for (_, crd) in crds {
        names.extend(crd.metadata.name.clone());
        lab.apply_yaml(&serde_json::to_string(&crd)?).await?;
    }
    for name in names {
        let name = format!("crd/{name}");
        lab.kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            &name,
        ])
        .await?;
    }
    let rules = [
        rbac::namespaced(&route_kinds()),
        rbac::cluster(),
        rbac::lease(),
    ]
    .concat();
    let subjects = json!([{"kind": "ServiceAccount", "name": "serin", "namespace": SYSTEM}]);
    let group = "rbac.authorization.k8s.io";
    let all = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "serin", "namespace": SYSTEM}}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": "serin"}, "rules": rules}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "serin"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "serin"}, "subjects": subjects}),
    ];
    lab.apply_yaml(&all.map(|v| v.to_string()).join("\n---\n"))
        .await?;
    Ok(lab.kubeconfig_for(SYSTEM, "serin").await?)
}

/// A controller process.
pub struct Serin {
    child: Child,
    id: u32,
}

impl Serin {
    /// Starts one; `n` tells its log and its port from those of others.
    pub fn start(lab: &Lab, kubeconfig: &PathBuf, provider: Option<&str>, n: u16) -> Result<Self> {
        let log = fs::File::create(lab.run_dir().join(format!("serin-{n}.log")))?;
        // Another build may be measured in its place.
        let program =
            std::env::var("SERIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_serin").to_owned());
        let mut command = Command::new(program);
        command
            .args([
                "run",
                "--lease-namespace",
                SYSTEM,
                "--identity",
                &format!("copy-{n}"),
            ])
            .args(["--listen", &format!("127.0.0.1:{}", 20_000 + n)])
            .env("KUBECONFIG", kubeconfig)
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .kill_on_drop(true);
        if let Some(url) = provider {
            command.args(["--metric-provider", &format!("default={url}")]);
        }
        let child = command.spawn()?;
        let id = child.id().unwrap_or_default();
        Ok(Self { child, id })
    }

    /// SIGKILL.
    pub async fn kill(mut self) -> Result {
        Ok(self.child.kill().await?)
    }

    /// SIGTERM, and waits for its end.
    pub async fn stop(mut self) -> Result {
        let id = self.id.to_string();
        Command::new("kill").args(["-TERM", &id]).status().await?;
        self.child.wait().await?;
        Ok(())
    }

    /// Resident memory, in MiB.
    pub fn memory(&self) -> Result<f64> {
        self.of_status("VmRSS:")
    }
    /// The most that was ever resident, in MiB.
    pub fn most_memory(&self) -> Result<f64> {
        self.of_status("VmHWM:")
    }

    fn of_status(&self, field: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id))?;
        let line = status.lines().find(|l| l.starts_with(field));
        let kib: f64 = line
            .and_then(|l| l.split_whitespace().nth(1))
            .ok_or("no such field")?
            .parse()?;
        Ok(kib / 1024.0)
    }

    /// Processor time used so far, in seconds.
    pub fn cpu(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id))?;
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks =
            |at: usize| -> f64 { fields.get(at).and_then(|f| f.parse().ok()).unwrap_or(0.0) };
        // User and system time, in hundredths of a second.
        Ok((ticks(11) + ticks(12)) / 100.0)
    }
}

/// Reads the audit log from where it was read last.
pub struct Audit {
    lab: Arc<Lab>,
    at: u64,
}

impl Audit {
    /// From now on.
    pub fn from_now(lab: &Arc<Lab>) -> Result<Self> {
        let mut audit = Self {
            lab: Arc::clone(lab),
            at: 0,
        };
        audit.take()?;
        Ok(audit)
    }

    /// What Serin asked since the last look, watches left out.
    pub fn take(&mut self) -> Result<Vec<AuditEntry>> {
        let (all, at) = self.lab.audit_from(self.at)?;
        self.at = at;
        Ok(all
            .into_iter()
            .filter(|e| e.user == USER && e.verb != "watch")
            .collect())
    }
}

/// Requests by what they ask for, the most frequent first.
pub fn by_kind<'a>(entries: impl Iterator<Item = &'a AuditEntry>) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::new();
    for e in entries {
        let sub = if e.subresource.is_empty() {
            String::new()
        } else {
            format!("/{}", e.subresource)
        };
        let dry = if e.uri.contains("dryRun=All") {
            " (dry)"
        } else {
            ""
        };
        let code = if e.code >= 300 {
            format!(" ({})", e.code)
        } else {
            String::new()
        };
        *counts
            .entry(format!("{} {}{sub}{dry}{code}", e.verb, e.resource))
            .or_insert(0) += 1;
    }
    let mut all: Vec<_> = counts.into_iter().collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all
}
