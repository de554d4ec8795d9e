//! The data plane: Envoy Gateway, and Envoy as a process of its own.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::ObjectMeta,
    runtime::wait::{await_condition, conditions},
};
use serde_json::Value;

use crate::{
    access,
    apply::{Applier, create},
    control_plane::{ControlPlane, LIMIT},
    error::{Context, Error, Result},
    inside, net,
    parts::Parts,
    pki::{self, Authority},
    process::{self, Part, Supervisor},
    relay::Relay,
    roles,
};

/// The namespace of the lab's Gateway.
pub const GATEWAY_NAMESPACE: &str = "lab-gateway";
/// The name of the lab's Gateway and GatewayClass.
pub const GATEWAY_NAME: &str = "lab";
/// The port of its listener for HTTP.
pub const GATEWAY_PORT: u16 = 10080;
/// The port of its listener `tcp`, which takes one TCPRoute.
pub const GATEWAY_TCP_PORT: u16 = 10081;
/// The port of its listener `tls`, which lets TLS pass through.
const TLS_PORT: u16 = 10082;

const SYSTEM: &str = "envoy-gateway-system";
/// The name of the folder in which Envoy Gateway looks for Envoy.
const ENVOY_VERSION: &str = "1.40.0";

/// The running gateway.
pub(crate) struct Gateway {
    server: Part,
    relay: Relay,
}

impl Gateway {
    /// Installs the CRDs, starts Envoy Gateway, and awaits the first answer of Envoy.
    pub(crate) async fn start(
        parts: &Parts,
        supervisor: &Supervisor,
        plane: &ControlPlane,
        client: &Client,
        applier: &Applier,
    ) -> Result<Self> {
        let folder = supervisor.run_dir().join("gateway");
        let relay = Relay::start().await?;
        let certs = Certs::make(&folder)?;
        let (crds, objects) =
            futures::join!(install_crds(client, &parts.crds), certs.install(client));
        crds?;
        objects?;
        let command = server(parts, plane, &folder)?;
        let server = supervisor.start("envoy-gateway", command)?;
        applier.apply(&manifests(), GATEWAY_NAMESPACE).await?;
        supervisor
            .await_or_fail("the first answer of Envoy", LIMIT, answers(supervisor))
            .await??;
        Ok(Self { server, relay })
    }

    /// Envoy's gateway; Envoy runs on when it is stopped.
    pub(crate) fn server(&self) -> &Part {
        &self.server
    }

    pub(crate) fn relay(&self) -> &Relay {
        &self.relay
    }
}

/// Any answer will do; without routes it is 404. Envoy Gateway lives on when Envoy does not, so its
/// log is looked at too.
async fn answers(supervisor: &Supervisor) -> Result<()> {
    let url = format!("http://127.0.0.1:{GATEWAY_PORT}/");
    while net::get_status(&url, Duration::from_secs(2)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let log = supervisor.log_of("envoy-gateway");
        if process::tail(&log, 15).contains("failed to run envoy") {
            return Err(supervisor.fault("envoy-gateway", "it could not run Envoy"));
        }
    }
    Ok(())
}

fn manifests() -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {GATEWAY_NAME}}}
spec: {{controllerName: gateway.envoyproxy.io/gatewayclass-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {GATEWAY_NAME}, namespace: {GATEWAY_NAMESPACE}}}
spec:
  gatewayClassName: {GATEWAY_NAME}
  listeners:
  - name: http
    protocol: HTTP
    port: {GATEWAY_PORT}
    allowedRoutes: {{namespaces: {{from: All}}}}
  - name: tcp
    protocol: TCP
    port: {GATEWAY_TCP_PORT}
    allowedRoutes: {{namespaces: {{from: All}}}}
  - name: tls
    protocol: TLS
    port: {TLS_PORT}
    tls: {{mode: Passthrough}}
    allowedRoutes: {{namespaces: {{from: All}}}}
"
    )
}

fn config(folder: &Path) -> String {
    let d = folder.display();
    format!(
        "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyGateway
gateway: {{controllerName: gateway.envoyproxy.io/gatewayclass-controller}}
logging: {{level: {{default: info}}}}
provider:
  type: Custom
  custom:
    resource:
      type: Kubernetes
      kubernetes:
        leaderElection: {{disable: true}}
        client: {{rateLimit: {{qps: 200, burst: 400}}}}
    infrastructure:
      type: Host
      host: {{configHome: {d}/config, dataHome: {d}/data, stateHome: {d}/state, runtimeDir: {d}/run}}
envoyProxy:
  provider: {{type: Host, host: {{envoyVersion: \"{ENVOY_VERSION}\"}}}}
"
    )
}

/// Envoy Gateway: it wants its certificate at `/certs`, and Envoy at a place of its own choosing.
fn server(parts: &Parts, plane: &ControlPlane, folder: &Path) -> Result<std::process::Command> {
    let (file, root) = (folder.join("config.yaml"), folder.join("root"));
    pki::write(&file, &config(folder))?;
    fs::create_dir_all(&root).context(|| format!("making {}", root.display()))?;
    let this = inside::this_program()?;
    let wrapper = folder.join(format!("data/envoy-versions/{ENVOY_VERSION}/bin/envoy"));
    let script = format!(
        "#!/bin/sh\nexec '{}' {} envoy '{}' \"$@\"\n",
        this.display(),
        roles::ROLE,
        parts.envoy.program.display()
    );
    pki::write(&wrapper, &script)?;
    make_executable(&wrapper)?;
    let mut command = std::process::Command::new(&this);
    command
        .args([roles::ROLE, "certs"])
        .arg(folder.join("config/certs/envoy-gateway"))
        .arg(&root)
        .arg(&parts.envoy_gateway.program)
        .args(["server", "--config-path"])
        .arg(&file)
        .env("KUBECONFIG", plane.kubeconfig_file(&access::GATEWAY)?)
        .env("ENVOY_GATEWAY_NAMESPACE", SYSTEM)
        .env("HOME", folder);
    Ok(command)
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .context(|| format!("making {} executable", path.display()))
}

/// The certificates by which Envoy and its gateway know each other. (Envoy Gateway's own command
/// for them takes a second, and must wait for the API server.)
struct Certs(Vec<(&'static str, BTreeMap<String, String>)>);

impl Certs {
    fn make(folder: &Path) -> Result<Self> {
        let authority = Authority::new("envoy-gateway")?;
        let own = format!("envoy-gateway.{SYSTEM}");
        let (svc, full) = (format!("{own}.svc"), format!("{own}.svc.cluster.local"));
        let mut all = Vec::new();
        for (name, names) in [
            (
                "envoy-gateway",
                vec!["envoy-gateway", &own, &svc, &full, "localhost"],
            ),
            ("envoy", vec!["*.envoy-gateway-system", "localhost"]),
            (
                "envoy-rate-limit",
                vec!["*.envoy-gateway-system", "localhost"],
            ),
        ] {
            let pair = authority.issue(name, &names)?;
            let files = BTreeMap::from([
                ("ca.crt".to_owned(), authority.pem()),
                ("tls.crt".to_owned(), pair.cert),
                ("tls.key".to_owned(), pair.key),
            ]);
            for (file, text) in &files {
                pki::write(&folder.join("config/certs").join(name).join(file), text)?;
            }
            all.push((name, files));
        }
        Ok(Self(all))
    }

    /// The same as Secrets, with one more that Envoy Gateway will not start without.
    async fn install(&self, client: &Client) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        for name in [SYSTEM, GATEWAY_NAMESPACE] {
            let metadata = ObjectMeta {
                name: Some(name.into()),
                ..ObjectMeta::default()
            };
            let namespace = Namespace {
                metadata,
                ..Namespace::default()
            };
            create(&namespaces, &namespace, "a namespace of the gateway").await?;
        }
        let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
        for (name, files) in &self.0 {
            let data = files
                .iter()
                .map(|(k, v)| (k.clone(), v.clone().into_bytes()));
            create(&secrets, &secret(name, data), "a secret of the gateway").await?;
        }
        let hmac = [("hmac-secret".to_owned(), vec![7; 32])];
        create(
            &secrets,
            &secret("envoy-oidc-hmac", hmac),
            "a secret of the gateway",
        )
        .await
    }
}

fn secret(name: &str, data: impl IntoIterator<Item = (String, Vec<u8>)>) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        data: Some(data.into_iter().map(|(k, v)| (k, ByteString(v))).collect()),
        ..Secret::default()
    }
}

/// Installs the CRDs of Gateway API and of the gateway, a few at a time, and awaits that they are served.
pub(crate) async fn install_crds(client: &Client, list: &PathBuf) -> Result<()> {
    let what = || format!("reading {}", list.display());
    let text = fs::read(list).context(what)?;
    let crds: Vec<Value> = serde_json::from_slice(&text).context(what)?;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    stream::iter(crds.into_iter().map(|crd| {
        let api = api.clone();
        async move {
            let crd: CustomResourceDefinition =
                serde_json::from_value(crd).context(|| "reading a CRD")?;
            let name = crd.metadata.name.clone().unwrap_or_default();
            create(&api, &crd, &name).await?;
            let established = await_condition(api, &name, conditions::is_crd_established());
            match tokio::time::timeout(LIMIT, established).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(e)) => Err(Error::Invalid(format!("awaiting the CRD {name}: {e}"))),
                Err(_) => Err(Error::Invalid(format!("the CRD {name} is not served"))),
            }
        }
    }))
    .buffer_unordered(4)
    .try_collect()
    .await
}
