//! `serin run`: wires everything. The only place where all rooms meet.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use kube::{Client, Config};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    adapters::{
        cluster::{
            self, CONNECT, Cluster, Now,
            lease::{self, Elector, LeaseError},
            world::stores::{Scope, Signals},
        },
        notify::alertmanager::{AlertError, Alertmanager},
        providers::{ProviderError, Providers},
        telemetry::{
            logs::{self, Format, LogError},
            metrics::Metrics,
        },
    },
    api::names::CONTROLLER_NAME,
    controller::{
        context::{Clock, Context, Failures, Pace},
        lead, rollouts, standing,
    },
    server::{self, Shown},
};

use super::place::Place;

/// Flags of `serin run`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where it works.
    #[command(flatten)]
    pub place: Place,
    /// Look after Rollouts whose spec.controllerName is this
    #[arg(long, env = "SERIN_CONTROLLER_NAME", default_value = CONTROLLER_NAME, value_name = "NAME")]
    pub controller_name: String,
    /// Believe the annotations that say who gave a command. Only where an admission policy writes
    /// them: otherwise whoever may annotate a Rollout can name somebody else
    #[arg(long, env = "SERIN_TRUST_COMMAND_ACTOR")]
    pub trust_command_actor: bool,
    /// A server with Prometheus' HTTP API, by the name that templates give as `ref`. Repeatable
    #[arg(
        long,
        env = "SERIN_METRIC_PROVIDER",
        value_delimiter = ' ',
        value_name = "NAME=URL"
    )]
    pub metric_provider: Vec<String>,
    /// Alertmanager, which is told of rollbacks
    #[arg(long, env = "SERIN_ALERTMANAGER", value_name = "URL")]
    pub alertmanager: Option<String>,
    /// Address for metrics and probes
    #[arg(
        long,
        env = "SERIN_LISTEN",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,
    /// Name of this copy. Default: host name and process id
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,
    /// How log lines look
    #[arg(long, env = "SERIN_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Which log lines there are, as in `info,serin=debug`
    #[arg(long, env = "SERIN_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// For machines
    Json,
}

/// Why the controller does not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// Logs.
    #[error(transparent)]
    Logs(#[from] LogError),
    /// Threads, signals or the address to listen on.
    #[error("{0}")]
    System(&'static str, #[source] std::io::Error),
    /// The way to the cluster.
    #[error("no cluster: neither a kubeconfig nor a service account can be used")]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// The client.
    #[error("cannot make a client for the API server")]
    Client(#[source] Box<kube::Error>),
    /// Providers of metrics.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// Alertmanager.
    #[error("alertmanager")]
    Alertmanager(#[from] AlertError),
    /// The lease.
    #[error("leader election")]
    Lease(#[from] LeaseError),
}

/// Runs the controller until SIGTERM or SIGINT.
pub fn run(options: &Options) -> Result<(), RunError> {
    let format = match options.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    logs::init(format, &options.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| RunError::System("cannot start threads", e))?;
    let result = runtime.block_on(work(options));
    // Watches never end by themselves.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// The way to the API server.
pub(super) async fn config() -> Result<Config, RunError> {
    let config = Config::infer().await;
    let config = config.map_err(|e| RunError::Config(Box::new(e)))?;
    Ok(cluster::once(config, CONNECT))
}

async fn work(options: &Options) -> Result<(), RunError> {
    let stop = stop_signal()?;
    let config = config().await?;
    let clock = Clock::wall();
    let now: Now = Arc::new(move || clock.now());
    let id = options.identity.clone().unwrap_or_else(identity);
    let elector = if options.place.leader_elect {
        let client = lease::client(config.clone())?;
        let lease_namespace = options.place.lease_namespace(&config);
        Some(Elector::new(
            client,
            &lease_namespace,
            &options.place.lease_name,
            &id,
            Arc::clone(&now),
        ))
    } else {
        None
    };
    let client = Client::try_from(config).map_err(|e| RunError::Client(Box::new(e)))?;
    let (cx, signals) = context(options, client, clock, now, id)?;
    let leads = elector
        .as_ref()
        .map_or_else(|| watch::channel(true).1, Elector::leads);

    show(options, &cx, leads.clone(), stop.clone()).await?;
    alert(options, &cx, leads.clone(), &signals)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %options.listen, "serin starts");
    lead::work(elector, cx, signals, stop).await?;
    tracing::info!("serin ends");
    Ok(())
}

fn context(
    options: &Options,
    client: Client,
    clock: Clock,
    now: Now,
    id: String,
) -> Result<(Arc<Context>, Signals), RunError> {
    let metrics = Metrics::default();
    let counted = metrics.clone();
    let scope = Scope {
        namespaces: options.place.namespaces().map(str::to_owned).collect(),
        routes: rollouts::route_kinds(),
        references: Arc::new(rollouts::references),
    };
    let count = Arc::new(move |verb, kind, code| counted.request(verb, kind, code));
    let providers = Providers::parse(&options.metric_provider)?;
    let (cluster, signals) = Cluster::start(client, scope, count, now, id);
    let cx = Context {
        cluster,
        providers,
        metrics,
        clock,
        controller_name: options.controller_name.clone(),
        trust_command_actor: options.trust_command_actor,
        failures: Failures::default(),
        pace: Pace::default(),
    };
    Ok((Arc::new(cx), signals))
}

/// Serves metrics and probes.
async fn show(
    options: &Options,
    cx: &Arc<Context>,
    leads: watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|e| RunError::System("cannot listen for metrics and probes", e))?;
    let (standing, world) = (Arc::clone(cx), Arc::clone(cx));
    // Only the leader shows what stands, so that a sum over the copies is right.
    let gauges = move || {
        if *leads.borrow() {
            standing::gauges(&standing)
        } else {
            vec![]
        }
    };
    let registry = cx.metrics.registry(Arc::new(gauges));
    let lacking = move || {
        let lacking = world.cluster.world().lacking();
        (!lacking.is_empty()).then(|| lacking.join(", "))
    };
    let shown = Shown {
        registry: Arc::new(registry),
        lacking: Arc::new(lacking),
    };
    let stopped = async move { drop(stop.wait_for(|s| *s).await) };
    tokio::spawn(server::serve(listener, shown, stopped));
    Ok(())
}

/// Tells Alertmanager, while we lead.
fn alert(
    options: &Options,
    cx: &Arc<Context>,
    leads: watch::Receiver<bool>,
    signals: &Signals,
) -> Result<(), RunError> {
    let Some(url) = &options.alertmanager else {
        return Ok(());
    };
    let manager = Alertmanager::new(url)?;
    let (clock, changes, cx) = (cx.clock, signals.changes.clone(), Arc::clone(cx));
    let standing = move || {
        let knows = *leads.borrow() && cx.cluster.world().rollouts.listings().is_ready();
        knows.then(|| standing::alerts(&cx))
    };
    tokio::spawn(manager.run(standing, move || clock.now(), changes));
    Ok(())
}

/// Becomes true at SIGTERM or SIGINT.
fn stop_signal() -> Result<watch::Receiver<bool>, RunError> {
    let listen = |kind| signal(kind).map_err(|e| RunError::System("cannot listen for signals", e));
    let (mut term, mut int) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let (tx, rx) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("stopping");
        tx.send_replace(true);
        // A receiver that waits must not see the sender go.
        std::future::pending::<()>().await;
    });
    Ok(rx)
}

/// A name that no other copy has.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{}", host.trim(), std::process::id())
}
