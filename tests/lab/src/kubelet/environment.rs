//! What a container finds around it: environment variables and mounted folders.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVarSource, KeyToPath, Pod, Secret, ServiceAccount, Volume,
};
use kube::{Api, Client};

use crate::{
    access::{self, API_PORT},
    error::{Context, Error, Result},
    inside::HOST_IP,
    pki,
};

/// Where a ServiceAccount's token is found.
const TOKENS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Looks things up for one pod.
pub(super) struct Environment<'a> {
    pub(super) client: &'a Client,
    pub(super) ca_pem: &'a str,
    pub(super) pod: &'a Pod,
    pub(super) ip: &'a str,
    pub(super) folder: &'a Path,
}

impl Environment<'_> {
    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// The variables of a container, later ones able to refer to earlier ones by `$(NAME)`.
    pub(super) async fn variables(
        &self,
        container: &Container,
    ) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::from([
            ("PATH".to_owned(), std::env::var("PATH").unwrap_or_default()),
            ("HOME".to_owned(), "/".to_owned()),
            ("HOSTNAME".to_owned(), self.name().to_owned()),
            ("KUBERNETES_SERVICE_HOST".to_owned(), HOST_IP.to_owned()),
            ("KUBERNETES_SERVICE_PORT".to_owned(), API_PORT.to_string()),
            ("LAB_POD_IP".to_owned(), self.ip.to_owned()),
            (
                "LAB_IMAGE".to_owned(),
                container.image.clone().unwrap_or_default(),
            ),
        ]);
        for source in container.env_from.iter().flatten() {
            let prefix = source.prefix.clone().unwrap_or_default();
            let mut from = BTreeMap::new();
            if let Some(map) = &source.config_map_ref {
                from.extend(self.config_map(&map.name, map.optional).await?);
            }
            if let Some(secret) = &source.secret_ref {
                from.extend(self.secret(&secret.name, secret.optional).await?);
            }
            all.extend(
                from.into_iter()
                    .map(|(k, v)| (format!("{prefix}{k}"), text(v))),
            );
        }
        for variable in container.env.iter().flatten() {
            let value = match (&variable.value, &variable.value_from) {
                (Some(value), _) => Some(expand(value, &all)),
                (None, Some(source)) => self.value_from(source).await?,
                (None, None) => Some(String::new()),
            };
            if let Some(value) = value {
                all.insert(variable.name.clone(), value);
            }
        }
        Ok(all)
    }

    async fn value_from(&self, source: &EnvVarSource) -> Result<Option<String>> {
        if let Some(field) = &source.field_ref {
            return self.field(&field.field_path).map(Some);
        }
        let (kind, name, key, optional, data) = if let Some(r) = &source.config_map_key_ref {
            (
                "configmap",
                &r.name,
                &r.key,
                r.optional,
                self.config_map(&r.name, r.optional).await?,
            )
        } else if let Some(r) = &source.secret_key_ref {
            (
                "secret",
                &r.name,
                &r.key,
                r.optional,
                self.secret(&r.name, r.optional).await?,
            )
        } else {
            return Ok(None);
        };
        match data.into_iter().find(|(k, _)| k == key) {
            Some((_, value)) => Ok(Some(text(value))),
            None if optional == Some(true) => Ok(None),
            None => Err(Error::Invalid(format!(
                "couldn't find key {key} in {kind} {name}"
            ))),
        }
    }

    /// A field of the pod, by the paths that the downward API knows.
    fn field(&self, path: &str) -> Result<String> {
        let meta = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let keyed = |start: &str| path.strip_prefix(start)?.strip_suffix("']");
        if let Some(key) = keyed("metadata.labels['") {
            return Ok(meta
                .labels
                .as_ref()
                .and_then(|l| l.get(key))
                .cloned()
                .unwrap_or_default());
        }
        if let Some(key) = keyed("metadata.annotations['") {
            let found = meta.annotations.as_ref().and_then(|l| l.get(key));
            return Ok(found.cloned().unwrap_or_default());
        }
        Ok(match path {
            "metadata.name" => self.name().to_owned(),
            "metadata.namespace" => self.namespace().to_owned(),
            "metadata.uid" => meta.uid.clone().unwrap_or_default(),
            "spec.nodeName" => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
            "spec.serviceAccountName" => account_of(self.pod).to_owned(),
            "status.podIP" | "status.podIPs" => self.ip.to_owned(),
            "status.hostIP" | "status.hostIPs" => HOST_IP.to_owned(),
            _ => return Err(Error::Invalid(format!("unsupported fieldPath {path}"))),
        })
    }

    async fn config_map(&self, name: &str, optional: Option<bool>) -> Result<Files> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), self.namespace());
        let found = api
            .get_opt(name)
            .await
            .context(|| format!("reading configmap {name}"))?;
        let Some(map) = found else {
            return absent("configmap", name, optional);
        };
        let plain = map
            .data
            .into_iter()
            .flatten()
            .map(|(k, v)| (k, v.into_bytes()));
        let binary = map.binary_data.into_iter().flatten().map(|(k, v)| (k, v.0));
        Ok(plain.chain(binary).collect())
    }

    async fn secret(&self, name: &str, optional: Option<bool>) -> Result<Files> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace());
        let found = api
            .get_opt(name)
            .await
            .context(|| format!("reading secret {name}"))?;
        let Some(secret) = found else {
            return absent("secret", name, optional);
        };
        Ok(secret
            .data
            .into_iter()
            .flatten()
            .map(|(k, v)| (k, v.0))
            .collect())
    }

    /// The folders that the container wants to see: its volumes, and its ServiceAccount's token.
    pub(super) async fn mounts(&self, container: &Container) -> Result<Vec<(PathBuf, PathBuf)>> {
        let mut all = Vec::new();
        if let Some(tokens) = self.account_folder().await? {
            all.push((tokens, PathBuf::from(TOKENS)));
        }
        let volumes = self
            .pod
            .spec
            .iter()
            .flat_map(|s| s.volumes.iter().flatten());
        let volumes: BTreeMap<_, _> = volumes.map(|v| (v.name.as_str(), v)).collect();
        for mount in container.volume_mounts.iter().flatten() {
            let volume = volumes
                .get(mount.name.as_str())
                .ok_or_else(|| Error::Invalid(format!("no volume is named {}", mount.name)))?;
            let from = self.volume(volume).await?;
            let from = from.join(mount.sub_path.as_deref().unwrap_or_default());
            all.push((from, PathBuf::from(&mount.mount_path)));
        }
        Ok(all)
    }

    /// A volume's folder, filled at its first use.
    async fn volume(&self, volume: &Volume) -> Result<PathBuf> {
        let folder = self.folder.join("volumes").join(&volume.name);
        if folder.is_dir() {
            return Ok(folder);
        }
        let files = if let Some(v) = &volume.config_map {
            chosen(
                self.config_map(&v.name, v.optional).await?,
                v.items.as_deref(),
            )
        } else if let Some(v) = &volume.secret {
            let name = v.secret_name.as_deref().unwrap_or_default();
            chosen(self.secret(name, v.optional).await?, v.items.as_deref())
        } else if let Some(v) = &volume.downward_api {
            let mut files = Files::new();
            for item in v.items.iter().flatten() {
                if let Some(field) = &item.field_ref {
                    files.push((
                        item.path.clone(),
                        self.field(&field.field_path)?.into_bytes(),
                    ));
                }
            }
            files
        } else if volume.empty_dir.is_some() {
            Files::new()
        } else {
            let kinds = "emptyDir, configMap, secret and downwardAPI";
            return Err(Error::Invalid(format!(
                "volume {}: only {kinds} here",
                volume.name
            )));
        };
        let what = || format!("making {}", folder.display());
        fs::create_dir_all(&folder).context(what)?;
        for (name, content) in files {
            let file = folder.join(name);
            fs::create_dir_all(file.parent().unwrap_or(&folder)).context(what)?;
            fs::write(file, content).context(what)?;
        }
        Ok(folder)
    }

    /// Token, authority and namespace of the pod's ServiceAccount, unless it wants none.
    async fn account_folder(&self) -> Result<Option<PathBuf>> {
        let folder = self.folder.join("serviceaccount");
        if folder.join("token").is_file() {
            return Ok(Some(folder));
        }
        let account = account_of(self.pod);
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), self.namespace());
        let found = api
            .get_opt(account)
            .await
            .context(|| format!("reading serviceaccount {account}"))?;
        let wanted = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.automount_service_account_token);
        let Some(found) = found else {
            if account == "default" || wanted == Some(false) {
                return Ok(None); // Not made yet, and hardly needed.
            }
            return Err(Error::Invalid(format!(
                "serviceaccount {account:?} not found"
            )));
        };
        if !wanted
            .or(found.automount_service_account_token)
            .unwrap_or(true)
        {
            return Ok(None);
        }
        let pod = (
            self.name(),
            self.pod.metadata.uid.as_deref().unwrap_or_default(),
        );
        // A token is bound only to a pod that names its account.
        let named = self
            .pod
            .spec
            .as_ref()
            .is_some_and(|s| s.service_account_name.is_some());
        let pod = named.then_some(pod);
        let token = access::token_of(self.client, self.namespace(), account, pod).await?;
        pki::write(&folder.join("ca.crt"), self.ca_pem)?;
        pki::write(&folder.join("namespace"), self.namespace())?;
        pki::write(&folder.join("token"), &token)?;
        Ok(Some(folder))
    }
}

type Files = Vec<(String, Vec<u8>)>;

fn absent(kind: &str, name: &str, optional: Option<bool>) -> Result<Files> {
    if optional == Some(true) {
        return Ok(Files::new());
    }
    Err(Error::Invalid(format!("{kind} {name:?} not found")))
}

/// All keys as files, or those that are named.
fn chosen(files: Files, items: Option<&[KeyToPath]>) -> Files {
    let Some(items) = items else { return files };
    let of = |item: &KeyToPath| {
        let (_, content) = files.iter().find(|(k, _)| *k == item.key)?;
        Some((item.path.clone(), content.clone()))
    };
    items.iter().filter_map(of).collect()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn account_of(pod: &Pod) -> &str {
    let name = pod
        .spec
        .as_ref()
        .and_then(|s| s.service_account_name.as_deref());
    name.filter(|n| !n.is_empty()).unwrap_or("default")
}

/// Kubernetes' own `$(NAME)`: unknown names stay as they are, `$$` is a dollar.
pub(super) fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match known.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    #[test]
    fn expansion_as_kubernetes_does_it() {
        let known = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let expand = |t| super::expand(t, &known);
        assert_eq!(expand("--a=$(A) $(B) $$(A) $A 5$"), "--a=1 $(B) $(A) $A 5$");
    }
}
