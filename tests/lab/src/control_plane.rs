//! etcd, API server and controller manager.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use kube::Client;
use tokio::sync::Mutex;

use crate::{
    access::{self, API_PORT},
    error::{Context, Result},
    inside::HOST_IP,
    parts::Parts,
    pki::{self, Authority},
    process::{Part, Supervisor},
};

/// What is started may take its time on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// Everything but pods: the process kubelet plays scheduler too.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,statefulset-controller,\
    job-controller,garbage-collector-controller,endpointslice-controller,namespace-controller,\
    horizontal-pod-autoscaler-controller,serviceaccount-controller,\
    root-ca-certificate-publisher-controller,disruption-controller,\
    clusterrole-aggregation-controller";

const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  nonResourceURLs: ['/healthz*', '/readyz*', '/livez*', '/openapi*', '/version', '/api', '/apis*']
- level: Metadata
";

/// The running control plane.
pub(crate) struct ControlPlane {
    ca_pem: String,
    pki: PathBuf,
    run_dir: PathBuf,
    etcd: Mutex<Option<Part>>,
    api_server: Mutex<Option<Part>>,
    _manager: Option<Part>,
}

impl ControlPlane {
    /// Starts etcd and the API server, and awaits the latter; then starts the controllers.
    pub(crate) async fn start(parts: &Parts, supervisor: &Supervisor) -> Result<Self> {
        let run_dir = supervisor.run_dir().to_owned();
        let pki = run_dir.join("pki");
        let ca_pem = make_pki(&pki)?;
        let mut plane = Self {
            ca_pem,
            pki,
            run_dir,
            etcd: Mutex::default(),
            api_server: Mutex::default(),
            _manager: None,
        };
        plane.start_etcd(parts, supervisor).await?;
        plane.start_api_server(parts, supervisor).await?;
        let manager = plane.controller_manager(parts)?;
        plane._manager = Some(supervisor.start("kube-controller-manager", manager)?);
        Ok(plane)
    }

    /// Starts etcd on the data that is there, unless it runs.
    pub(crate) async fn start_etcd(&self, parts: &Parts, supervisor: &Supervisor) -> Result<()> {
        let mut running = self.etcd.lock().await;
        if running.is_none() {
            *running = Some(supervisor.start("etcd", self.etcd(parts))?);
        }
        Ok(())
    }

    /// Starts the API server, unless it runs, and awaits it.
    pub(crate) async fn start_api_server(
        &self,
        parts: &Parts,
        supervisor: &Supervisor,
    ) -> Result<()> {
        let mut running = self.api_server.lock().await;
        if running.is_none() {
            *running = Some(supervisor.start("kube-apiserver", self.api_server(parts)?)?);
        }
        let client = access::client(&self.kubeconfig_of(&access::ADMIN)?).await?;
        supervisor
            .await_or_fail("the API server", LIMIT, ready(&client))
            .await
    }

    /// etcd, if it runs.
    pub(crate) fn etcd_part(&self) -> &Mutex<Option<Part>> {
        &self.etcd
    }

    /// The API server, if it runs.
    pub(crate) fn api_server_part(&self) -> &Mutex<Option<Part>> {
        &self.api_server
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A kubeconfig for a user of the lab.
    pub(crate) fn kubeconfig_of(&self, user: &access::User) -> Result<String> {
        access::kubeconfig(&self.ca_pem, user.name, user.name)
    }

    /// The same, written to a file.
    pub(crate) fn kubeconfig_file(&self, user: &access::User) -> Result<PathBuf> {
        let path = self
            .run_dir
            .join("kubeconfigs")
            .join(user.name.replace(':', "-"));
        access::write_private(&path, &self.kubeconfig_of(user)?)?;
        Ok(path)
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.run_dir.join("logs/audit.log")
    }

    fn etcd(&self, parts: &Parts) -> std::process::Command {
        let mut command = parts.etcd.command();
        command
            .arg("--data-dir")
            .arg(self.run_dir.join("etcd"))
            .args(["--log-level", "warn", "--unsafe-no-fsync"])
            .args(["--listen-client-urls", "http://127.0.0.1:2379"])
            .args(["--advertise-client-urls", "http://127.0.0.1:2379"])
            .args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
        command
    }

    fn api_server(&self, parts: &Parts) -> Result<std::process::Command> {
        let policy = self.pki.join("audit-policy.yaml");
        pki::write(&policy, AUDIT_POLICY)?;
        let file = |name: &str| self.pki.join(name);
        let mut command = parts.apiserver.command();
        for (flag, path) in [
            ("--cert-dir", self.pki.clone()),
            ("--tls-cert-file", file("apiserver.crt")),
            ("--tls-private-key-file", file("apiserver.key")),
            ("--client-ca-file", file("ca.crt")),
            ("--token-auth-file", file("tokens")),
            ("--service-account-key-file", file("sa.pub")),
            ("--service-account-signing-key-file", file("sa.key")),
            ("--audit-policy-file", policy),
            ("--audit-log-path", self.audit_log()),
        ] {
            command.arg(flag).arg(path);
        }
        let port = API_PORT.to_string();
        for (flag, value) in [
            ("--etcd-servers", "http://127.0.0.1:2379"),
            ("--secure-port", port.as_str()),
            ("--bind-address", "0.0.0.0"),
            ("--advertise-address", HOST_IP),
            ("--endpoint-reconciler-type", "none"),
            ("--service-account-issuer", "https://kubernetes.default.svc"),
            ("--service-cluster-ip-range", "10.96.0.0/16"),
            ("--authorization-mode", "RBAC"),
            // The kubelet mounts tokens by itself; pods need not wait for accounts to be made.
            ("--disable-admission-plugins", "ServiceAccount"),
            ("--audit-log-maxsize", "2000"),
            ("--max-requests-inflight", "2000"),
            ("--max-mutating-requests-inflight", "1000"),
        ] {
            command.args([flag, value]);
        }
        command.args(["--allow-privileged", "--profiling=false"]);
        Ok(command)
    }

    fn controller_manager(&self, parts: &Parts) -> Result<std::process::Command> {
        let mut command = parts.controller_manager.command();
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig_file(&access::CONTROLLERS)?)
            .arg("--service-account-private-key-file")
            .arg(self.pki.join("sa.key"))
            .arg("--root-ca-file")
            .arg(self.pki.join("ca.crt"))
            .arg(format!("--controllers={CONTROLLERS}"))
            .args([
                "--leader-elect=false",
                "--secure-port=0",
                "--profiling=false",
            ])
            .args(["--kube-api-qps=200", "--kube-api-burst=400"]);
        Ok(command)
    }
}

/// Makes the certificates and keys; gives the authority's certificate.
fn make_pki(folder: &Path) -> Result<String> {
    let authority = Authority::new("lab")?;
    let names = [
        "127.0.0.1",
        HOST_IP,
        "10.96.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
    ];
    let server = authority.issue("kube-apiserver", &names)?;
    let (sa_key, sa_pub) = pki::signing_key()?;
    let ca = authority.pem();
    fs::create_dir_all(folder).context(|| format!("making {}", folder.display()))?;
    for (name, text) in [
        ("ca.crt", &ca),
        ("apiserver.crt", &server.cert),
        ("apiserver.key", &server.key),
        ("sa.key", &sa_key),
        ("sa.pub", &sa_pub),
        ("tokens", &access::token_file()),
    ] {
        pki::write(&folder.join(name), text)?;
    }
    Ok(ca)
}

/// Asks until the API server says that it is ready; it has no other way to tell.
async fn ready(client: &Client) {
    loop {
        let request = http::Request::get("/readyz").body(Vec::new());
        if let Ok(request) = request {
            let answer = tokio::time::timeout(Duration::from_secs(2), client.request_text(request));
            if matches!(answer.await, Ok(Ok(text)) if text == "ok") {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
