//! A lab that is up.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{DynamicObject, ObjectMeta},
};
use nix::sys::signal::Signal;
use tokio::sync::Mutex;

use crate::{
    access,
    apply::{Applier, create},
    audit::{self, AuditEntry},
    control_plane::ControlPlane,
    error::{Context, Error, Result},
    gateway::{GATEWAY_PORT, GATEWAY_TCP_PORT, Gateway, install_crds},
    inside::{self, HOST_IP},
    kubelet::{self, Images, Kubelet},
    metrics::{self, ALERTMANAGER_PORT, Alert, PROMETHEUS_PORT, Series},
    paper::Paper,
    parts::Parts,
    pki,
    process::{self, Part, Supervisor},
    relay::{Hold, Relay},
    roles,
};

/// What a lab consists of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Envoy Gateway with Envoy.
    pub gateway: bool,
    /// Prometheus and Alertmanager.
    pub metrics: bool,
    /// No gateway and no kubelet: pods are ready and routes accepted at once, on paper.
    pub paper: bool,
}

impl Options {
    /// A control plane whose pods and routes are on paper, without gateway and metrics.
    #[must_use]
    pub fn on_paper() -> Self {
        Self {
            gateway: false,
            metrics: false,
            paper: true,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gateway: true,
            metrics: true,
            paper: false,
        }
    }
}

/// A lab that is up. Ports are fixed, so there is one at a time in a program.
///
/// Without [`Lab::down`] its run folder is kept, with every log, and the program says where it is.
pub struct Lab {
    pub(crate) client: Client,
    kubeconfig: PathBuf,
    pub(crate) parts: Parts,
    pub(crate) plane: ControlPlane,
    applier: Applier,
    images: Images,
    pub(crate) http: reqwest::Client,
    pub(crate) gateway: Option<Gateway>,
    prometheus: Mutex<Option<Part>>,
    _alertmanager: Option<Part>,
    kubelet: Option<Kubelet>,
    _paper: Option<Paper>,
    pub(crate) supervisor: Supervisor,
    took: Duration,
    names: AtomicU32,
}

impl Lab {
    /// Starts everything, and awaits that it works.
    ///
    /// # Errors
    /// When a part does not start; the message has the end of its log.
    pub async fn up(options: Options) -> Result<Self> {
        let start = Instant::now();
        inside::install_crypto();
        let parts = Parts::handed()?;
        let run_dir = inside::new_run_dir()?;
        let supervisor = Supervisor::new(&run_dir)?;
        Self::start(&options, parts, supervisor, start).await
    }

    async fn start(
        options: &Options,
        parts: Parts,
        supervisor: Supervisor,
        start: Instant,
    ) -> Result<Self> {
        let run_dir = supervisor.run_dir();
        let images = Images::default();
        images.register("lab/app:*", inside::this_program()?, &[roles::ROLE, "app"]);
        images.refuse("lab/app:missing*");
        let alertmanager = async {
            if !options.metrics {
                return Ok(None);
            }
            metrics::alertmanager(&parts, &supervisor).await.map(Some)
        };
        let (plane, alertmanager) =
            tokio::try_join!(ControlPlane::start(&parts, &supervisor), alertmanager)?;
        let client = access::client(&plane.kubeconfig_of(&access::ADMIN)?).await?;
        let kubelet_client = access::client(&plane.kubeconfig_of(&access::KUBELET)?).await?;
        let applier = Applier::new(client.clone());
        let gateway = async {
            if !options.gateway || options.paper {
                return Ok(None);
            }
            Gateway::start(&parts, &supervisor, &plane, &client, &applier)
                .await
                .map(Some)
        };
        let prometheus = async {
            if !options.metrics {
                return Ok(None);
            }
            metrics::prometheus(&parts, &supervisor, &plane)
                .await
                .map(Some)
        };
        let paper = if options.paper {
            install_crds(&client, &parts.crds).await?;
            Some(Paper::start(&kubelet_client).await?)
        } else {
            None
        };
        let kubelet = async {
            if options.paper {
                return Ok(None);
            }
            Kubelet::start(kubelet_client, images.clone(), run_dir, plane.ca_pem())
                .await
                .map(Some)
        };
        let (gateway, prometheus, kubelet) = tokio::try_join!(gateway, prometheus, kubelet)?;
        write_commands(run_dir, &parts)?;
        Ok(Self {
            kubeconfig: plane.kubeconfig_file(&access::ADMIN)?,
            http: http_client()?,
            client,
            parts,
            plane,
            applier,
            images,
            gateway,
            prometheus: Mutex::new(prometheus),
            _alertmanager: alertmanager,
            kubelet,
            _paper: paper,
            supervisor,
            took: start.elapsed(),
            names: AtomicU32::new(0),
        })
    }

    /// Ends the lab. When the program ends, its run folder is removed.
    pub async fn down(self) {
        self.supervisor.end_all().await;
        inside::discard(self.run_dir());
    }

    /// How long it took to come up.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// The API server, as admin.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A kubeconfig file for the admin.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The API server, as a ServiceAccount.
    ///
    /// # Errors
    /// When the API server gives no token for it.
    pub async fn client_for_service_account(&self, namespace: &str, name: &str) -> Result<Client> {
        access::client(&self.kubeconfig_text_for(namespace, name).await?).await
    }

    /// A kubeconfig file for a ServiceAccount, good for a day.
    ///
    /// # Errors
    /// When the API server gives no token for it.
    pub async fn kubeconfig_for(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let text = self.kubeconfig_text_for(namespace, name).await?;
        let path = self
            .run_dir()
            .join("kubeconfigs")
            .join(format!("{namespace}-{name}"));
        access::write_private(&path, &text)?;
        Ok(path)
    }

    async fn kubeconfig_text_for(&self, namespace: &str, name: &str) -> Result<String> {
        let token = access::token_of(&self.client, namespace, name, None).await?;
        access::kubeconfig(self.plane.ca_pem(), &format!("{namespace}-{name}"), &token)
    }

    /// The gateway's listener. From a pod it is at [`HOST_IP`].
    #[must_use]
    pub fn gateway_url(&self) -> String {
        format!("http://{HOST_IP}:{GATEWAY_PORT}")
    }

    /// The gateway's listener for TCP, with whatever the one TCPRoute leads to behind it.
    #[must_use]
    pub fn gateway_tcp_url(&self) -> String {
        format!("http://{HOST_IP}:{GATEWAY_TCP_PORT}")
    }

    /// Prometheus, at an address that pods reach too.
    #[must_use]
    pub fn prometheus_url(&self) -> String {
        format!("http://{HOST_IP}:{PROMETHEUS_PORT}")
    }

    /// Alertmanager, at an address that pods reach too.
    #[must_use]
    pub fn alertmanager_url(&self) -> String {
        format!("http://{HOST_IP}:{ALERTMANAGER_PORT}")
    }

    /// The image names that pods may use; `lab/app:*` is there already.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// The folder of this lab, with `logs/` of every part and `pods/` of every pod.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        self.supervisor.run_dir()
    }

    /// Resolves, with the reason, when some part has ended that should not have.
    pub async fn failure(&self) -> Error {
        self.supervisor.failure().await
    }

    /// Awaits `future`, but not longer than `limit`, nor beyond the failure of a part.
    ///
    /// # Errors
    /// When it did not come; the message names `what`, and where the logs are.
    pub async fn within<T>(
        &self,
        what: &str,
        limit: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T> {
        self.supervisor.await_or_fail(what, limit, future).await
    }

    /// Asks again every 100 ms until there is an answer: for what has no event to await (Kubernetes
    /// objects have; use [`kube::runtime::wait::await_condition`] with [`Lab::within`]).
    ///
    /// # Errors
    /// When it did not come within `limit`; the message names `what`, and where the logs are.
    pub async fn until<T, Fut>(
        &self,
        what: &str,
        limit: Duration,
        mut ask: impl FnMut() -> Fut,
    ) -> Result<T>
    where
        Fut: Future<Output = Option<T>>,
    {
        let asking = async {
            loop {
                if let Some(answer) = ask().await {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        self.within(what, limit, asking).await
    }

    /// Runs kubectl as admin; gives what it printed.
    ///
    /// # Errors
    /// When it fails; its output is in the message.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut command = self.parts.kubectl.command();
        command.args(args).envs(self.environment());
        process::output(command).await
    }

    /// Runs helm as admin; gives what it printed.
    ///
    /// # Errors
    /// When it fails; its output is in the message.
    pub async fn helm(&self, args: &[&str]) -> Result<String> {
        let mut command = self.parts.helm.command();
        command.args(args).envs(self.environment());
        process::output(command).await
    }

    /// Runs promtool; gives what it printed.
    ///
    /// # Errors
    /// When it fails; its output is in the message.
    pub async fn promtool(&self, args: &[&str]) -> Result<String> {
        let mut command = self.parts.promtool.command();
        command.args(args).envs(self.environment());
        process::output(command).await
    }

    /// Applies every document of a YAML text, server-side and forced, as field manager `lab`.
    ///
    /// # Errors
    /// When one is not understood or refused; those before it stay applied.
    pub async fn apply_yaml(&self, text: &str) -> Result<Vec<DynamicObject>> {
        self.applier.apply(text, "default").await
    }

    /// The same, with `namespace` for documents that name none.
    ///
    /// # Errors
    /// When one is not understood or refused; those before it stay applied.
    pub async fn apply_yaml_in(&self, namespace: &str, text: &str) -> Result<Vec<DynamicObject>> {
        self.applier.apply(text, namespace).await
    }

    /// Makes a namespace that nobody else has, named after `prefix`.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let name = format!("{prefix}-{}", self.names.fetch_add(1, Ordering::SeqCst));
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        };
        let namespace = Namespace {
            metadata,
            ..Namespace::default()
        };
        create(&Api::all(self.client.clone()), &namespace, &name).await?;
        Ok(name)
    }

    /// Kills a container's processes at once, as a crash does; its pod then restarts it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_container(&self, namespace: &str, pod: &str, container: &str) -> Result<()> {
        let key = (namespace.to_owned(), pod.to_owned(), container.to_owned());
        let none = || Error::Invalid("the pods of this lab are on paper".into());
        let kubelet = self.kubelet.as_ref().ok_or_else(none)?;
        kubelet.signal(&key, Signal::SIGKILL)
    }

    /// What a container has written so far, over all its restarts. (`kubectl logs` does not work
    /// here.)
    ///
    /// # Errors
    /// When there was no such pod.
    pub fn container_log(&self, namespace: &str, pod: &str, container: &str) -> Result<String> {
        kubelet::container_log(self.run_dir(), namespace, pod, container)
    }

    /// Every request that the API server has answered so far, the oldest first.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit(&self) -> Result<Vec<AuditEntry>> {
        audit::read(&self.plane.audit_log())
    }

    /// What was answered after the first `offset` bytes of the log, and where the next look begins.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit_from(&self, offset: u64) -> Result<(Vec<AuditEntry>, u64)> {
        audit::read_from(&self.plane.audit_log(), offset)
    }

    /// Envoy hears nothing from its gateway until the guard is dropped.
    ///
    /// # Errors
    /// When the lab has no gateway.
    pub fn hold_data_plane(&self) -> Result<Hold> {
        Ok(self.relay()?.hold())
    }

    /// The same, for `time`.
    ///
    /// # Errors
    /// When the lab has no gateway.
    pub fn hold_data_plane_for(&self, time: Duration) -> Result<()> {
        self.relay()?.hold_for(time);
        Ok(())
    }

    fn relay(&self) -> Result<&Relay> {
        let none = || Error::Invalid("this lab was started without a gateway".into());
        self.gateway.as_ref().map(Gateway::relay).ok_or_else(none)
    }

    /// Ends Prometheus at once; what it stored is kept.
    pub async fn stop_prometheus(&self) {
        if let Some(prometheus) = self.prometheus.lock().await.take() {
            prometheus.kill().await;
        }
    }

    /// Starts Prometheus again, unless it runs.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_prometheus(&self) -> Result<()> {
        let mut running = self.prometheus.lock().await;
        if running.is_none() {
            *running = Some(metrics::prometheus(&self.parts, &self.supervisor, &self.plane).await?);
        }
        Ok(())
    }

    /// An instant query of Prometheus that gives a vector.
    ///
    /// # Errors
    /// When Prometheus does not answer with one.
    pub async fn query(&self, promql: &str) -> Result<Vec<Series>> {
        metrics::query(&self.http, &self.prometheus_url(), promql).await
    }

    /// Lets Prometheus scrape an address beside the pods. Its labels are kept.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn scrape(&self, name: &str, address: &str) -> Result<()> {
        metrics::scrape(self.run_dir(), name, address)
    }

    /// Gives Prometheus alerts, as the text of a file with `groups`.
    ///
    /// # Errors
    /// When Prometheus does not take them.
    pub async fn rules(&self, name: &str, text: &str) -> Result<()> {
        let base = self.prometheus_url();
        metrics::rules(&self.http, &base, self.run_dir(), name, text).await
    }

    /// The alerts that stand in Alertmanager.
    ///
    /// # Errors
    /// When Alertmanager does not answer.
    pub async fn alerts(&self) -> Result<Vec<Alert>> {
        metrics::alerts(&self.http, &self.alertmanager_url()).await
    }

    /// What a program or a shell needs to use this lab: `KUBECONFIG`, a `PATH` with `kubectl` and
    /// `helm`, and the URLs.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let run_dir = self.run_dir().display();
        let path = std::env::var("PATH").unwrap_or_default();
        [
            ("KUBECONFIG", self.kubeconfig.display().to_string()),
            ("PATH", format!("{run_dir}/bin:{path}")),
            ("HELM_CACHE_HOME", format!("{run_dir}/helm/cache")),
            ("HELM_CONFIG_HOME", format!("{run_dir}/helm/config")),
            ("HELM_DATA_HOME", format!("{run_dir}/helm/data")),
            ("LAB_RUN_DIR", run_dir.to_string()),
            ("LAB_GATEWAY_URL", self.gateway_url()),
            ("LAB_PROMETHEUS_URL", self.prometheus_url()),
            ("LAB_ALERTMANAGER_URL", self.alertmanager_url()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

fn http_client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .map_err(|e| Error::Invalid(format!("making an HTTP client: {e}")))
}

/// The commands that a shell in the lab finds on its path.
fn write_commands(run_dir: &Path, parts: &Parts) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for (name, tool) in [("kubectl", &parts.kubectl), ("helm", &parts.helm)] {
        let path = run_dir.join("bin").join(name);
        let args: String = tool.args.iter().map(|a| format!(" {a}")).collect();
        pki::write(
            &path,
            &format!(
                "#!/bin/sh\nexec '{}'{args} \"$@\"\n",
                tool.program.display()
            ),
        )?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .context(|| format!("making {} executable", path.display()))?;
    }
    Ok(())
}
