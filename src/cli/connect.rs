//! The way to the cluster for people's commands: flags, client, and what went wrong in words.

use std::{error::Error, future::Future, path::PathBuf, time::Duration};

use clap::Args;
use jiff::Timestamp;
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
    core::Status,
};
use thiserror::Error;

use crate::{
    adapters::cluster::{self, CONNECT},
    api::Rollout,
    controller::context::Clock,
};

use super::nearest::nearest;

/// The longest that one request may take.
const LIMIT: Duration = Duration::from_secs(30);
/// As many names are told of what is there.
const NAMES_TOLD: usize = 5;

/// Which cluster, and where in it.
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Cluster")]
pub struct Access {
    /// Namespace. Default: that of the context
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig. Default: the current one
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig. Default: $KUBECONFIG, else ~/.kube/config, else the pod's service account
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The time of day that ages are counted from. Default: now
    #[arg(long, value_name = "TIME", hide = true)]
    pub now: Option<Timestamp>,
}

impl Access {
    /// What is said here, else what was said before the command.
    pub fn or(self, before: &Self) -> Self {
        Self {
            namespace: self.namespace.or_else(|| before.namespace.clone()),
            context: self.context.or_else(|| before.context.clone()),
            kubeconfig: self.kubeconfig.or_else(|| before.kubeconfig.clone()),
            now: self.now.or(before.now),
        }
    }
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What keeps a command from being done, in a sentence.
#[derive(Debug, Error)]
pub enum OperateError {
    /// A cluster is not named, or not fully.
    #[error("{0}")]
    Cluster(String),
    /// The API server does not answer.
    #[error(
        "the API server {server} does not answer: {why}; --context or --kubeconfig names another one"
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// What happened.
        why: String,
    },
    /// The API server says no.
    #[error("{0}")]
    Refused(String),
    /// There is no such Rollout.
    #[error("{0}")]
    NotFound(String),
    /// Serin's kinds are not there.
    #[error(
        "the cluster {0} has no Rollouts: install Serin's CustomResourceDefinitions (serin crds | kubectl apply --server-side -f -)"
    )]
    NoKinds(String),
    /// What was asked for cannot be.
    #[error("{0}")]
    Usage(String),
    /// Threads cannot be started, or a client cannot be made.
    #[error("{0}")]
    System(String),
}

/// The innermost cause of an error, in one line.
fn root(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    first_line(&cause.to_string())
}

/// Errors of a parser draw what they read over several lines.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// An open door to the API server.
pub struct Door {
    /// The client.
    pub client: Client,
    /// The namespace that is meant.
    pub namespace: String,
    server: String,
    fixed: Option<Timestamp>,
    clock: Clock,
}

impl Door {
    /// Opens it. Nothing is asked of the API server yet.
    pub async fn open(access: &Access) -> Result<Self, OperateError> {
        let config = cluster::once(config(access).await?, CONNECT);
        let namespace = access
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let server = server.trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|e| {
            OperateError::System(format!("cannot make a client for {server}: {}", root(&e)))
        })?;
        Ok(Self {
            client,
            namespace,
            server,
            fixed: access.now,
            clock: Clock::wall(),
        })
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        self.fixed.unwrap_or_else(|| self.clock.now())
    }

    /// Rollouts of the namespace.
    pub fn rollouts(&self) -> Api<Rollout> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits for an answer, but not forever.
    pub async fn answer<T>(
        &self,
        what: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, OperateError> {
        match tokio::time::timeout(LIMIT, request).await {
            Ok(answer) => answer.map_err(|e| self.explain(what, &e)),
            Err(_) => Err(self.unreachable(format!("no answer within {} s", LIMIT.as_secs()))),
        }
    }

    fn unreachable(&self, why: String) -> OperateError {
        OperateError::Unreachable {
            server: self.server.clone(),
            why,
        }
    }

    /// What an error of a request means. `what` is what was tried, as in `list rollouts`.
    pub fn explain(&self, what: &str, error: &kube::Error) -> OperateError {
        let kube::Error::Api(status) = error else {
            return self.unreachable(root(error));
        };
        let said = |status: &Status| {
            if status.message.is_empty() {
                format!("code {}", status.code)
            } else {
                status.message.clone()
            }
        };
        let named = status.details.as_ref().is_some_and(|d| !d.name.is_empty());
        match status.code {
            401 => OperateError::Refused(format!(
                "the API server {} does not know you: {}; log in again, or name another --context",
                self.server,
                said(status)
            )),
            403 => OperateError::Refused(format!(
                "you may not {what} in namespace {}: {}",
                self.namespace,
                said(status)
            )),
            404 if !named => OperateError::NoKinds(self.server.clone()),
            _ => OperateError::Refused(format!("cannot {what}: {}", said(status))),
        }
    }

    /// A Rollout by name.
    pub async fn rollout(&self, name: &str) -> Result<Rollout, OperateError> {
        let api = self.rollouts();
        let found = self.answer("get rollouts", api.get_opt(name)).await?;
        match found {
            Some(rollout) => Ok(rollout),
            None => Err(self.missing(name).await),
        }
    }

    /// There is no Rollout of that name: what there is.
    pub async fn missing(&self, name: &str) -> OperateError {
        let all = ListParams::default();
        let here = match self
            .answer("list rollouts", self.rollouts().list(&all))
            .await
        {
            Ok(list) => names(&list.items, |r| r.metadata.name.clone()),
            Err(error @ OperateError::NoKinds(_)) => return error,
            Err(_) => vec![],
        };
        let everywhere: Api<Rollout> = Api::all(self.client.clone());
        let same = all.fields(&format!("metadata.name={name}"));
        // Who may not look there is not told.
        let there = match self.answer("list rollouts", everywhere.list(&same)).await {
            Ok(list) => names(&list.items, |r| r.metadata.namespace.clone()),
            Err(_) => vec![],
        };
        let hint = if let Some(namespace) = there.first() {
            format!("there is one in namespace {namespace}: give -n {namespace}")
        } else if let Some(near) = nearest(name, &here) {
            format!("did you mean {near}?")
        } else if here.is_empty() {
            "there are none".to_owned()
        } else {
            let more = here.len().saturating_sub(NAMES_TOLD);
            let told: Vec<&str> = here.iter().take(NAMES_TOLD).map(String::as_str).collect();
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!("there are {}{more}", told.join(", "))
        };
        OperateError::NotFound(format!(
            "no rollout {name:?} in namespace {}: {hint}",
            self.namespace
        ))
    }
}

fn names(items: &[Rollout], of: impl Fn(&Rollout) -> Option<String>) -> Vec<String> {
    let mut names: Vec<String> = items.iter().filter_map(of).collect();
    names.sort();
    names
}

async fn config(access: &Access) -> Result<Config, OperateError> {
    let options = KubeConfigOptions {
        context: access.context.clone(),
        ..KubeConfigOptions::default()
    };
    let unnamed = |e: &dyn Error| {
        OperateError::Cluster(format!(
            "no cluster: no kubeconfig ({}) and no service account; set KUBECONFIG or give --kubeconfig",
            root(e)
        ))
    };
    let read = match &access.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let kubeconfig = match read {
        Ok(kubeconfig) => kubeconfig,
        Err(e @ KubeconfigError::ReadConfig(..)) if access.kubeconfig.is_some() => {
            return Err(OperateError::Cluster(format!(
                "--kubeconfig {}: {}",
                access.kubeconfig.clone().unwrap_or_default().display(),
                root(&e)
            )));
        }
        Err(e @ (KubeconfigError::ReadConfig(..) | KubeconfigError::FindPath))
            if access.context.is_none() =>
        {
            return Config::incluster().map_err(|_| unnamed(&e));
        }
        Err(e) => {
            return Err(OperateError::Cluster(format!(
                "the kubeconfig: {}",
                root(&e)
            )));
        }
    };
    let contexts: Vec<String> = kubeconfig.contexts.iter().map(|c| c.name.clone()).collect();
    if kubeconfig.current_context.is_none() && access.context.is_none() {
        return match Config::incluster() {
            Ok(config) => Ok(config),
            Err(_) => Err(OperateError::Cluster(format!(
                "the kubeconfig has no current context: give --context, one of {}",
                listed(&contexts)
            ))),
        };
    }
    if let Some(context) = access.context.as_ref().filter(|c| !contexts.contains(c)) {
        return Err(OperateError::Cluster(format!(
            "--context {context:?} is not in the kubeconfig: there are {}",
            listed(&contexts)
        )));
    }
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|e| {
            OperateError::Cluster(format!("the kubeconfig: {}", first_line(&e.to_string())))
        })
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
