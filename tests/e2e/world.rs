//! One test's world in the lab: a namespace of its own, a controller of its own with the least
//! rights, an app behind the gateway, and users who send requests all the time.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};
use serin::{
    api::{Rollout, RolloutStatus},
    cli::rbac,
    controller::rollouts::route_kinds,
};
use serin_lab::{Connections, Lab, Load, Report};
use tokio::{
    process::{Child, Command},
    sync::OnceCell,
};

/// Any error fails a test.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Far beyond what anything takes.
pub const LIMIT: Duration = Duration::from_secs(240);

static CRDS: OnceCell<()> = OnceCell::const_new();
static PORT: AtomicU16 = AtomicU16::new(20_000);

/// A port that no other controller listens on.
pub fn free_port() -> u16 {
    PORT.fetch_add(1, Ordering::SeqCst)
}

/// What a test wants.
#[derive(Clone)]
pub struct Setup {
    pub replicas: u32,
    /// The canary's steps, as YAML in flow style.
    pub steps: &'static str,
    /// Whether the analysis in the background runs.
    pub background: bool,
    /// A cluster of Envoy's own for each backend, by a filter that does nothing.
    pub apart: bool,
    pub propagation_delay: &'static str,
    pub deadline: u32,
    /// Requests per second.
    pub rate: f64,
    /// Whether traffic is routed; otherwise the pods are the weight, or in blue-green a Service's
    /// selector is the switch.
    pub routed: bool,
    pub strategy: Strategy,
    /// Whether pods serve on for a while when they go; those of a rolling update always do.
    pub drains: bool,
    /// The kinds of the routes, all of them named `app`; users come by the first.
    pub routes: &'static [&'static str],
    /// Whether they name the user's Service alone, and Serin puts the role Services in.
    pub lent: bool,
    /// `spec.controllerName`; none where it is empty.
    pub controller: &'static str,
}

/// How new versions take over; what is asked for beside a canary, as YAML in flow style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    Canary,
    BlueGreen(&'static str),
    Rolling(&'static str),
}

impl Setup {
    /// Whether users are served by way of a route: to the role Services, or, in a rolling update, to
    /// the app's own.
    pub fn served(&self) -> bool {
        self.routed || self.strategy != Strategy::Canary
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            replicas: 3,
            steps: "[{name: first, setWeight: 20}, {pause: {duration: 3s}}, {name: half, setWeight: 50}, {name: wait, pause: {}}]",
            background: false,
            apart: false,
            propagation_delay: "1s",
            deadline: 60,
            rate: 40.0,
            routed: true,
            strategy: Strategy::Canary,
            drains: false,
            routes: &["HTTPRoute"],
            lent: false,
            controller: "",
        }
    }
}

/// A controller process.
pub struct Serin {
    child: Child,
    pub log: PathBuf,
    pub port: u16,
}

pub struct World {
    pub lab: Arc<Lab>,
    pub namespace: String,
    pub setup: Setup,
    pub serin: Option<Serin>,
    pub load: Option<Load>,
    /// Where the controller asks for metrics.
    pub provider: String,
    /// For the account `serin` of the namespace.
    pub kubeconfig: PathBuf,
    starts: u32,
}

impl World {
    /// Everything up, v1 healthy, users sending requests.
    pub async fn new(lab: Arc<Lab>, prefix: &str, setup: Setup) -> Result<Self> {
        let mut world = Self::bare(lab, prefix, setup).await?;
        world.start_serin()?;
        world.apply_app("v1", 100, 0).await?;
        world
            .until("v1 to be healthy", |s| phase(s) == "Healthy")
            .await?;
        if world.setup.served() {
            world.first_answer().await?;
            world.start_load()?;
        }
        Ok(world)
    }

    /// A namespace with an account that has the least rights, and nothing in it.
    pub async fn bare(lab: Arc<Lab>, prefix: &str, setup: Setup) -> Result<Self> {
        CRDS.get_or_try_init(|| install_crds(&lab)).await?;
        let mut world = Self::empty(lab, prefix, setup).await?;
        let (lab, namespace) = (&world.lab, &world.namespace);
        lab.apply_yaml_in(namespace, &rights(namespace)).await?;
        world.kubeconfig = lab.kubeconfig_for(namespace, "serin").await?;
        let account = format!("system:serviceaccount:{namespace}:serin");
        for resource in ["rollouts.serin.dev", "clusteranalysistemplates.serin.dev"] {
            world.may(&account, "list", resource).await?;
        }
        Ok(world)
    }

    /// A namespace for an app whose controller comes from elsewhere.
    pub async fn empty(lab: Arc<Lab>, prefix: &str, setup: Setup) -> Result<Self> {
        let namespace = lab.namespace(prefix).await?;
        let provider = lab.prometheus_url();
        Ok(Self {
            lab,
            namespace,
            setup,
            provider,
            serin: None,
            load: None,
            kubeconfig: PathBuf::new(),
            starts: 0,
        })
    }

    /// Awaits that the API server lets somebody do something in the app's namespace: it learns of
    /// rights a little after they are written.
    pub async fn may(&self, who: &str, verb: &str, resource: &str) -> Result {
        let who = format!("--as={who}");
        let args = [
            "auth",
            "can-i",
            verb,
            resource,
            "-q",
            &who,
            "-n",
            &self.namespace,
        ];
        self.lab
            .until("the rights to hold", LIMIT, || async {
                self.lab.kubectl(&args).await.ok()
            })
            .await?;
        Ok(())
    }

    pub fn start_serin(&mut self) -> Result {
        self.starts += 1;
        let port = free_port();
        let log = self
            .lab
            .run_dir()
            .join(format!("serin-{}-{}.log", self.namespace, self.starts));
        let file = std::fs::File::create(&log)?;
        let child = self
            .serin_command(port)
            .stdout(Stdio::from(file.try_clone()?))
            .stderr(Stdio::from(file))
            .spawn()?;
        self.serin = Some(Serin { child, log, port });
        Ok(())
    }

    /// The controller for this namespace, to be started.
    pub fn serin_command(&self, port: u16) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_serin"));
        command
            .arg("run")
            .args([
                "--namespaces",
                &self.namespace,
                "--lease-namespace",
                &self.namespace,
            ])
            .args(["--metric-provider", &format!("default={}", self.provider)])
            .args(["--alertmanager", &self.lab.alertmanager_url()])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .env("KUBECONFIG", &self.kubeconfig)
            .env("SERIN_LOG", "info,serin=debug")
            .kill_on_drop(true);
        command
    }

    /// SIGKILL: no goodbye, the lease stays taken.
    pub async fn kill_serin(&mut self) -> Result {
        if let Some(mut serin) = self.serin.take() {
            serin.child.kill().await?;
        }
        Ok(())
    }

    /// SIGTERM: the lease is handed over. Gives its exit code.
    pub async fn stop_serin(&mut self) -> Result<Option<i32>> {
        let Some(mut serin) = self.serin.take() else {
            return Ok(None);
        };
        let id = serin.child.id().unwrap_or_default().to_string();
        Command::new("kill").args(["-TERM", &id]).status().await?;
        let status = self
            .lab
            .within("serin to stop", LIMIT, serin.child.wait())
            .await??;
        Ok(status.code())
    }

    pub fn start_load(&mut self) -> Result {
        let (url, connections) = self.door();
        let host = format!("{}.test", self.namespace);
        self.load = Some(Load::over(connections, &url, &host, self.setup.rate)?);
        Ok(())
    }

    /// Where users come in, and what becomes of their connections: a TCPRoute's weight is a share of
    /// those.
    fn door(&self) -> (String, Connections) {
        if self.setup.routes.first() == Some(&"TCPRoute") {
            (self.lab.gateway_tcp_url(), Connections::Fresh)
        } else {
            (self.lab.gateway_url(), Connections::Kept)
        }
    }

    pub fn load(&self) -> &Load {
        self.load.as_ref().expect("users send requests")
    }

    pub fn rollouts(&self) -> Api<Rollout> {
        Api::namespaced(self.lab.client(), &self.namespace)
    }

    pub fn routes(&self) -> Api<DynamicObject> {
        self.routes_of("HTTPRoute")
    }

    pub fn routes_of(&self, kind: &str) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", kind);
        Api::namespaced_with(
            self.lab.client(),
            &self.namespace,
            &ApiResource::from_gvk(&gvk),
        )
    }

    pub async fn deploy(&self, version: &str) -> Result {
        self.patch(json!({"spec": {"template": self.template(version)}}))
            .await
    }

    pub async fn patch(&self, patch: Value) -> Result {
        self.rollouts()
            .patch("app", &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    pub async fn annotate(&self, pairs: &[(&str, &str)]) -> Result {
        let annotations: BTreeMap<String, &str> = pairs
            .iter()
            .map(|(name, value)| (format!("serin.dev/{name}"), *value))
            .collect();
        self.patch(json!({"metadata": {"annotations": annotations}}))
            .await
    }

    pub async fn status(&self) -> Result<RolloutStatus> {
        Ok(self.rollouts().get("app").await?.status.unwrap_or_default())
    }

    /// Awaits a status of the newest generation; the error tells the last one and the controller's log.
    pub async fn until(
        &self,
        what: &str,
        holds: impl Fn(&RolloutStatus) -> bool + Send + Sync,
    ) -> Result<RolloutStatus> {
        let condition = |rollout: Option<&Rollout>| {
            rollout.is_some_and(|r| {
                r.status
                    .as_ref()
                    .is_some_and(|s| s.observed_generation == r.metadata.generation && holds(s))
            })
        };
        let waiting = await_condition(self.rollouts(), "app", condition);
        match self.lab.within(what, LIMIT, waiting).await {
            Ok(found) => Ok(found?.and_then(|r| r.status).unwrap_or_default()),
            Err(e) => {
                let last = self
                    .status()
                    .await
                    .map(|s| serde_json::to_string_pretty(&s).unwrap_or_default());
                let log = self
                    .serin
                    .as_ref()
                    .map(|s| s.log.display().to_string())
                    .unwrap_or_default();
                Err(format!(
                    "{e}\ncontroller: {log}\nlast status: {}",
                    last.unwrap_or_default()
                )
                .into())
            }
        }
    }

    /// Awaits a step of the attempt for what is in flight now.
    pub async fn step(&self, index: i32) -> Result<RolloutStatus> {
        self.until(&format!("step {index}"), |s| {
            stage(s) == "Stepping"
                && s.attempt.as_ref().is_some_and(|a| {
                    Some(&a.hash) == s.current_revision.as_ref() && a.step_index == index
                })
        })
        .await
    }

    /// Awaits the end of whatever is in flight for the newest template.
    pub async fn done(&self, wanted: &str) -> Result<RolloutStatus> {
        let status = self
            .until(&format!("phase {wanted}"), |s| {
                stage(s) == "Done"
                    && (phase(s) == "Healthy" || phase(s) == "Degraded")
                    && s.draining.is_empty()
                    && s.tracks.len() == 1
            })
            .await?;
        if phase(&status) != wanted {
            return Err(format!(
                "phase {}, wanted {wanted}: {}",
                phase(&status),
                status.message.as_deref().unwrap_or_default()
            )
            .into());
        }
        Ok(status)
    }

    pub async fn first_answer(&self) -> Result {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let (host, (url, _)) = (format!("{}.test", self.namespace), self.door());
        self.lab
            .until("the first good answer", LIMIT, || async {
                let answer = http.get(&url).header("host", &host).send().await.ok()?;
                answer.status().is_success().then_some(())
            })
            .await?;
        Ok(())
    }

    /// Awaits that users are answered by `version`.
    pub async fn served_by(&self, version: &str) -> Result {
        let since = self.load().now();
        self.lab
            .until(&format!("an answer by {version}"), LIMIT, || async {
                (self.load().window(since, true).of(version).all() > 0).then_some(())
            })
            .await?;
        Ok(())
    }

    /// Everybody is served by `version`, and nobody by `other` any more.
    pub async fn served_only_by(&self, version: &str, other: &str) -> Result {
        let seen = self.load().now();
        self.served_by(version).await?;
        let answers = self.load().window(seen, true).of(other).all();
        ensure(
            answers == 0,
            format!("{answers} are still served by {other}"),
        )
    }

    /// The users are left to `version`. Where pods are the weight, those of `other` are gone a moment
    /// before whoever routes to them has heard of it.
    pub async fn left_to(&self, version: &str, other: &str) -> Result {
        let alone = || async {
            let since = self.load().now();
            self.served_by(version).await.ok()?;
            (self.load().window(since, true).of(other).all() == 0).then_some(())
        };
        let what = format!("answers by {version} alone");
        Ok(self.lab.until(&what, LIMIT, alone).await?)
    }

    /// The users go; none of them saw a failure of our doing. Gives what they saw.
    pub async fn farewell(&mut self) -> Result<Report> {
        let report = self.load.take().expect("users send requests").stop().await;
        if report.unexplained > 0 {
            let log = self
                .serin
                .as_ref()
                .map(|s| s.log.display().to_string())
                .unwrap_or_default();
            return Err(format!(
                "{} of {} requests failed: {:#?}\ncontroller: {log}",
                report.unexplained, report.sent, report.unexplained_samples
            )
            .into());
        }
        if report.answered < 20 {
            return Err(format!("only {} requests were answered", report.answered).into());
        }
        Ok(report)
    }
}

pub fn phase(status: &RolloutStatus) -> &str {
    status.phase.as_deref().unwrap_or_default()
}

pub fn stage(status: &RolloutStatus) -> &str {
    status.attempt.as_ref().map_or("", |a| a.stage.as_str())
}

pub fn hash(status: &RolloutStatus) -> String {
    status
        .attempt
        .as_ref()
        .map(|a| a.hash.clone())
        .unwrap_or_default()
}

/// The reasons in the history, oldest first.
pub fn reasons(status: &RolloutStatus) -> Vec<&str> {
    status.history.iter().map(|h| h.reason.as_str()).collect()
}

/// Fails unless `wanted` are among the reasons, in this order.
pub fn expect_reasons(status: &RolloutStatus, wanted: &[&str]) -> Result {
    let found = reasons(status);
    let mut rest = found.iter();
    for reason in wanted {
        if !rest.any(|r| r == reason) {
            return Err(format!("{reason} is not in {found:?}, or not in this order").into());
        }
    }
    Ok(())
}

/// Fails unless it holds.
pub fn ensure(holds: bool, otherwise: impl Into<String>) -> Result {
    if holds {
        Ok(())
    } else {
        Err(otherwise.into().into())
    }
}

async fn install_crds(lab: &Arc<Lab>) -> Result {
    let mut names = vec![];
    for (_, crd) in serin::api::crds() {
        names.extend(crd.metadata.name.clone());
        lab.apply_yaml(&serde_json::to_string(&crd)?).await?;
    }
    for name in names {
        lab.kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            &format!("crd/{name}"),
        ])
        .await?;
    }
    Ok(())
}

/// The account `serin` with the rights of the chart: those in one namespace, and those in the cluster.
fn rights(namespace: &str) -> String {
    let rules = [rbac::namespaced(&route_kinds()), rbac::lease()].concat();
    let cluster_name = format!("{namespace}-serin");
    let account = json!([{"kind": "ServiceAccount", "name": "serin", "namespace": namespace}]);
    let all = [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "serin"}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": cluster_name}, "rules": rbac::cluster()}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": cluster_name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_name}, "subjects": account}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "serin"}, "rules": rules}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "serin"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "serin"},
            "subjects": account}),
    ];
    all.map(|v| v.to_string()).join("\n---\n")
}
