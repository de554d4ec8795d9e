//! Where a controller works: the flags that say so, the same for who runs it and who checks it.

use clap::Args;
use kube::Config;

use super::rbac;

/// Flags that say where a controller works, and by which lease copies elect one.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// Namespaces to look after, with commas between. Default: all
    #[arg(
        long,
        env = "SERIN_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub namespaces: Vec<String>,
    /// Whether several copies elect one that works
    #[arg(long, env = "SERIN_LEADER_ELECT", default_value_t = true, num_args = 0..=1,
        default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Namespace of the lease. Default: that of the pod, or of the kubeconfig's context
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    pub lease_namespace: Option<String>,
    /// Name of the lease
    #[arg(
        long,
        env = "SERIN_LEASE_NAME",
        default_value = rbac::LEASE_NAME,
        value_name = "NAME"
    )]
    pub lease_name: String,
}

impl Place {
    /// The namespaces that are named. None means all.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        let named = self.namespaces.iter().map(String::as_str);
        named.filter(|n| !n.is_empty())
    }

    /// The namespace of the lease, where `config` leads.
    pub(super) fn lease_namespace(&self, config: &Config) -> String {
        let said = self.lease_namespace.as_ref();
        said.unwrap_or(&config.default_namespace).clone()
    }
}
