//! Ways to the API server: as the lab's admin, as a part, or as a ServiceAccount.

use std::path::Path;

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

use crate::{
    error::{Context, Error, Result},
    inside::HOST_IP,
};

/// The port of the API server.
pub(crate) const API_PORT: u16 = 6443;

/// A user known to the API server by a fixed token; the token is the name.
pub(crate) struct User {
    pub(crate) name: &'static str,
    pub(crate) groups: &'static str,
}

/// The admin, whose kubeconfig the lab gives out.
pub(crate) const ADMIN: User = User {
    name: "lab-admin",
    groups: "system:masters",
};
/// The controller manager.
pub(crate) const CONTROLLERS: User = User {
    name: "system:kube-controller-manager",
    groups: "system:masters",
};
/// The process kubelet, which is the scheduler too.
pub(crate) const KUBELET: User = User {
    name: "system:node:lab",
    groups: "system:masters",
};
/// Envoy Gateway.
pub(crate) const GATEWAY: User = User {
    name: "lab-envoy-gateway",
    groups: "system:masters",
};
/// Prometheus.
pub(crate) const PROMETHEUS: User = User {
    name: "lab-prometheus",
    groups: "system:masters",
};

/// The users, as a file for `--token-auth-file`.
pub(crate) fn token_file() -> String {
    [ADMIN, CONTROLLERS, KUBELET, GATEWAY, PROMETHEUS]
        .iter()
        .map(|u| format!("{0},{0},{0},{1:?}\n", u.name, u.groups))
        .collect()
}

/// A kubeconfig as text (JSON, which is YAML).
pub(crate) fn kubeconfig(ca_pem: &str, user: &str, token: &str) -> Result<String> {
    let server = format!("https://{HOST_IP}:{API_PORT}");
    kubeconfig_at(&server, ca_pem, user, &json!({"token": token}))
}

/// The same by way of another server.
pub(crate) fn kubeconfig_at(
    server: &str,
    ca_pem: &str,
    user: &str,
    identity: &serde_json::Value,
) -> Result<String> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {
            "server": server,
            "certificate-authority-data": base64(ca_pem.as_bytes()),
        }}],
        "users": [{"name": user, "user": identity}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
        "current-context": "lab",
    });
    serde_json::to_string_pretty(&config).context(|| "writing a kubeconfig")
}

/// A client by a kubeconfig.
pub(crate) async fn client(kubeconfig: &str) -> Result<Client> {
    Client::try_from(config(kubeconfig).await?).context(|| "making a client")
}

/// A client that has no identity and passes on that of each request; it never tries again.
pub(crate) async fn passing_on(kubeconfig: &str) -> Result<Client> {
    let mut config = config(kubeconfig).await?;
    config.default_retry = false;
    config.read_timeout = None;
    Client::try_from(config).context(|| "making a client")
}

async fn config(kubeconfig: &str) -> Result<Config> {
    let wrong = |e: &dyn std::fmt::Display| Error::Invalid(format!("kubeconfig: {e}"));
    let parsed: Kubeconfig = serde_json::from_str(kubeconfig).context(|| "kubeconfig")?;
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(parsed, &options)
        .await
        .map_err(|e| wrong(&e))
}

/// A token of a ServiceAccount, valid for a day; bound to a pod when one is given.
pub(crate) async fn token_of(
    client: &Client,
    namespace: &str,
    account: &str,
    pod: Option<(&str, &str)>,
) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let bound = pod.map(
        |(name, uid)| k8s_openapi::api::authentication::v1::BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(name.into()),
            uid: Some(uid.into()),
        },
    );
    let spec = TokenRequestSpec {
        expiration_seconds: Some(86_400),
        bound_object_ref: bound,
        audiences: Vec::new(),
    };
    let request = TokenRequest {
        spec,
        ..TokenRequest::default()
    };
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .context(|| format!("asking for a token of {namespace}/{account}"))?;
    answer
        .status
        .map(|s| s.token)
        .ok_or_else(|| Error::Invalid(format!("no token for {namespace}/{account}")))
}

/// Writes a kubeconfig that only its owner reads.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    crate::pki::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .context(|| format!("protecting {}", path.display()))
}

/// Base64, as kubeconfigs want it.
pub(crate) fn base64(bytes: &[u8]) -> String {
    // Secrets and kubeconfigs share the encoding that ByteString writes.
    let quoted = serde_json::to_string(&k8s_openapi::ByteString(bytes.to_vec()));
    quoted.unwrap_or_default().trim_matches('"').to_owned()
}
